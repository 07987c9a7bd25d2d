"""Several messages of one kind as one, and a message cut to what a channel takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from evidence_service.notices.model import About, Audience, Message
from idp_certs.alarms import Severity

MOST_COMBINED = 50
_SEVERITIES = tuple(Severity)
_NAME = "NAME"
_MOST_NAME = 500
"""Characters of a title and a subject, whose names FAS and identity providers give."""
_PLURALS = {
    About.IDP: "identity providers",
    About.FAS_SERVER: "FAS servers",
    About.PLUGIN: "plug-ins",
    About.SERVICE: "parts of this service",
}


def may_be_combined(audience: Audience) -> bool:
    """Whether several of one kind may go out as one. Each request at a CA is decided by itself, and so told."""
    return audience is not Audience.APPROVERS


def combined(messages: Sequence[Message]) -> Message:
    """Messages of one kind and audience as one that lists them in this order; a single one stays as it is."""
    first, *others = messages
    if not others:
        return first
    return replace(
        first,
        severity=max((each.severity for each in messages), key=_SEVERITIES.index),
        urgent=any(each.urgent for each in messages),
        title=_title(messages),
        paragraphs=(_heading(messages), *_lines(messages)),
        todo=_todo(messages),
        facts=tuple((each.subject, _facts(each)) for each in messages if each.facts),
    )


def _title(messages: Sequence[Message]) -> str:
    first = messages[0]
    subjects = {each.subject for each in messages}
    same = {(each.about, each.title.removeprefix(f"{each.subject}: ")) for each in messages}
    if len(same) == 1 and len(subjects) > 1:
        return f"{len(subjects)} {_PLURALS[first.about]}: {first.title.removeprefix(f'{first.subject}: ')}"
    return f"{first.title}, and {len(messages) - 1} more"


def _heading(messages: Sequence[Message]) -> str:
    """How many, and about what: short enough to be there where the rest is cut."""
    return f"{len(messages)} messages in one, the oldest first, about {_names(messages)}."


def _names(messages: Sequence[Message]) -> str:
    return ", ".join(dict.fromkeys(each.subject for each in messages))


def _lines(messages: Sequence[Message]) -> Iterator[str]:
    """What each says; what several say alike stands once, with NAME for each of theirs."""
    alike: dict[str, list[Message]] = {}
    for each in messages:
        alike.setdefault(_unnamed(" ".join(each.paragraphs), each.subject), []).append(each)
    for text, same in alike.items():
        subject = same[0].subject
        if len({each.subject for each in same}) == 1:
            said = " ".join(same[0].paragraphs)
            yield said if subject in said else f"{subject}: {said}"
        else:
            yield text if len(same) == len(messages) else f"{_names(same)}: {text}"


def _unnamed(text: str, subject: str) -> str:
    """The text with NAME where it names the subject, and not where a word only contains that."""
    return re.sub(rf"(?<!\w){re.escape(subject)}(?!\w)", _NAME, text) if subject else text


def _todo(messages: Sequence[Message]) -> tuple[str, ...]:
    """Each advice once, with NAME where it is the same for several."""
    alike: dict[str, set[str]] = {}
    for each in messages:
        for step in each.todo:
            alike.setdefault(_unnamed(step, each.subject), set()).add(step)
    return tuple(step if len(same) > 1 else same.pop() for step, same in alike.items())


def _facts(message: Message) -> str:
    return "; ".join(f"{name}: {value}" for name, value in message.facts if value != message.subject)


def length_of(message: Message) -> int:
    """How many characters its texts have."""
    return sum(map(len, (*message.paragraphs, *message.todo, *(f"{name}{value}" for name, value in message.facts))))


def shortened(message: Message, most: int, whole: str) -> Message:
    """The message with at most so many characters: what happened first, then what to do, the rest, the facts.

    What is cut is said at the end of its paragraphs, with `whole`, the command that shows all of it.
    """
    room, cut = most, int(len(message.title) > _MOST_NAME)

    def fitted(texts: Sequence[tuple[str, str]], share: int) -> tuple[tuple[str, str], ...]:
        nonlocal room, cut
        kept: list[tuple[str, str]] = []
        left = min(room, share)
        for name, each in texts:
            text = each if len(each) <= most // 4 else f"{each[: most // 4]}\u2026"
            if len(name) + len(text) > left:
                break
            kept.append((name, text))
            cut += text != each
            left, room = left - len(name) - len(text), room - len(name) - len(text)
        cut += len(texts) - len(kept)
        return tuple(kept)

    paragraphs, steps = [("", each) for each in message.paragraphs], [("", each) for each in message.todo]
    first, todo = fitted(paragraphs[:1], most), fitted(steps, most // 2)
    others, facts = fitted(paragraphs[1:], most), fitted(message.facts, most)
    said = f"This message is cut: {cut} of its texts are shortened or left out. `{whole}` shows all of it."
    return replace(
        message,
        subject=message.subject[:_MOST_NAME],
        title=message.title[:_MOST_NAME],
        paragraphs=(*(text for _, text in (*first, *others)), said),
        todo=tuple(text for _, text in todo),
        facts=facts,
    )
