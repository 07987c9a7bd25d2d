"""Several messages as one, and a long one cut: nothing is lost without a word."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence_service.notices.combined import combined, length_of, may_be_combined, shortened
from evidence_service.notices.model import About, Audience, Message
from idp_certs.alarms import Severity

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SWITCHED = Message(
    fact="act:FAS1:1:switched",
    kind="switched",
    about=About.FAS_SERVER,
    subject="FAS1",
    severity=Severity.NOTICE,
    audience=Audience.OPERATORS,
    title="FAS1: certificate definition a uses the new certificate",
    paragraphs=("Certificate definition a names it.", "It was read back."),
    facts=(("FAS server", "FAS1"), ("Definition", "a")),
    todo=("Look.",),
)
OTHER = replace(
    SWITCHED,
    fact="act:FAS1:2:switched",
    severity=Severity.WARNING,
    urgent=True,
    title="FAS1: certificate definition b uses the new certificate",
    paragraphs=("FAS1: certificate definition b names it.",),
    facts=(("FAS server", "FAS1"), ("Definition", "b")),
    todo=("Look.", "Look again."),
)


def test_a_single_message_stays_as_it_is() -> None:
    """Nothing says that it is one of several."""
    assert combined([SWITCHED]) == SWITCHED


def test_what_is_combined_is_as_severe_as_the_worst_and_says_all_of_each() -> None:
    """Each text names its subject, advice stands once, and each one's facts are in one row."""
    one = combined([SWITCHED, OTHER])
    assert (one.severity, one.urgent, one.kind) == (Severity.WARNING, True, "switched")
    assert one.title == "FAS1: certificate definition a uses the new certificate, and 1 more"
    assert one.paragraphs == (
        "2 messages in one, the oldest first, about FAS1.",
        "FAS1: Certificate definition a names it. It was read back.",
        "FAS1: certificate definition b names it.",
    )
    assert one.todo == ("Look.", "Look again.")
    assert one.facts == (("FAS1", "Definition: a"), ("FAS1", "Definition: b"))


@pytest.mark.parametrize(
    ("about", "title"),
    [(About.FAS_SERVER, "2 FAS servers: it fails"), (About.IDP, "2 identity providers: it fails")],
)
def test_what_is_the_same_on_several_is_told_as_that(about: About, title: str) -> None:
    """Their number is in the title, which is all that a phone shows."""
    two = [replace(SWITCHED, about=about, subject=name, title=f"{name}: it fails") for name in ("x", "y")]
    assert combined(two).title == title


def test_what_several_say_alike_stands_once() -> None:
    """Forty servers that say the same are one sentence; who says something else is named before it."""
    names = ("FAS1", "FAS2", "FAS3")
    some = [replace(SWITCHED, subject=name, paragraphs=(f"{name} fails.",)) for name in names]
    assert combined(some).paragraphs == (
        "3 messages in one, the oldest first, about FAS1, FAS2, FAS3.",
        "NAME fails.",
    )
    some[2] = replace(some[2], paragraphs=("FAS3 hangs.",))
    assert combined(some).paragraphs[1:] == ("FAS1, FAS2: NAME fails.", "FAS3 hangs.")
    short = [replace(SWITCHED, subject=name, paragraphs=(f"Each {name} has a NAME.",)) for name in ("a", "", "h")]
    assert combined(short[:2]).paragraphs[1:] == ("Each a has a NAME.", "Each  has a NAME.")
    assert combined(short[::2]).paragraphs[1:] == ("Each a has a NAME.", "Each h has a NAME.")


def test_requests_are_never_combined() -> None:
    """Each is a decision of its own."""
    assert not may_be_combined(Audience.APPROVERS)
    assert may_be_combined(Audience.OPERATORS)


def test_a_cut_keeps_what_happened_and_what_to_do_before_all_else() -> None:
    """Then the rest of the text, then facts; how much is missing is said, and how to see it."""
    long = replace(SWITCHED, paragraphs=("first", *("x" * 20,) * 10), facts=(("n", "v" * 20),) * 10, todo=("do it",))
    short = shortened(long, 100, "show all")
    assert short.paragraphs[:2] == ("first", "x" * 20)
    assert short.todo == ("do it",)
    assert short.facts == ()
    left_out = len(long.paragraphs) - len(short.paragraphs[:-1]) + 10
    assert short.paragraphs[-1] == (
        f"This message is cut: {left_out} of its texts are shortened or left out. `show all` shows all of it."
    )


def test_a_name_of_any_length_can_be_cut() -> None:
    """Definitions are named by FAS: one without end would keep its channel busy for ever."""
    short = shortened(replace(SWITCHED, title="t" * 10**6, subject="s" * 10**6, paragraphs=("p",)), 100, "all")
    assert len(short.title) == len(short.subject) == 500
    assert "1 of its texts" in short.paragraphs[-1]


@given(
    st.lists(st.text(max_size=50), max_size=5),
    st.lists(st.tuples(st.text(max_size=9), st.text(max_size=50)), max_size=5),
    st.integers(min_value=0, max_value=400),
)
def test_a_cut_is_never_longer_than_asked_and_keeps_the_order(
    texts: list[str], facts: list[tuple[str, str]], most: int
) -> None:
    """Whatever is in it."""
    short = shortened(replace(SWITCHED, paragraphs=tuple(texts), todo=tuple(texts), facts=tuple(facts)), most, "all")
    said = short.paragraphs[-1]
    assert length_of(replace(short, paragraphs=short.paragraphs[:-1])) <= most
    assert "is cut" in said
    for kept, whole in ((short.paragraphs[1:-1], texts[1:]), (short.todo, texts)):
        assert all(
            text.removesuffix("\u2026") == of[: len(text.removesuffix("\u2026"))]
            for text, of in zip(kept, whole, strict=False)
        )
