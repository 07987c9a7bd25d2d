"""Several messages of one kind as one, and a message cut to what a channel takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evidence_service.notices.model import About, Audience, Message
from idp_certs.alarms import Severity

MOST_COMBINED = 50
_SEVERITIES = tuple(Severity)
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
        paragraphs=(f"{len(messages)} messages in one, the oldest first.", *map(_line, messages)),
        todo=tuple(dict.fromkeys(step for each in messages for step in each.todo)),
        facts=tuple((each.subject, _facts(each)) for each in messages if each.facts),
    )


def _title(messages: Sequence[Message]) -> str:
    first = messages[0]
    subjects = {each.subject for each in messages}
    same = {(each.about, each.title.removeprefix(f"{each.subject}: ")) for each in messages}
    if len(same) == 1 and len(subjects) > 1:
        return f"{len(subjects)} {_PLURALS[first.about]}: {first.title.removeprefix(f'{first.subject}: ')}"
    return f"{first.title}, and {len(messages) - 1} more"


def _line(message: Message) -> str:
    text = " ".join(message.paragraphs)
    return text if message.subject in text else f"{message.subject}: {text}"


def _facts(message: Message) -> str:
    return "; ".join(f"{name}: {value}" for name, value in message.facts if value != message.subject)


def length_of(message: Message) -> int:
    """How many characters its texts have."""
    return sum(map(len, (*message.paragraphs, *message.todo, *(f"{name}{value}" for name, value in message.facts))))


def shortened(message: Message, most: int, whole: str) -> Message:
    """The message with at most so many characters: what happened first, then what to do, the rest, the facts.

    What is cut is said at the end of its paragraphs, with `whole`, the command that shows all of it.
    """
    room, cut = most, 0

    def fitted(texts: Sequence[str], share: int) -> tuple[str, ...]:
        nonlocal room, cut
        kept: list[str] = []
        left = min(room, share)
        for each in texts:
            text = each if len(each) <= most // 4 else f"{each[: most // 4]}\u2026"
            if len(text) > left:
                break
            kept.append(text)
            cut += text != each
            left, room = left - len(text), room - len(text)
        cut += len(texts) - len(kept)
        return tuple(kept)

    first = fitted(message.paragraphs[:1], most)
    todo = fitted(message.todo, most // 2)
    others = fitted(message.paragraphs[1:], most)
    values = fitted([f"{name}: {value}" for name, value in message.facts], most)
    facts = tuple(
        (name, text.removeprefix(f"{name}: ")) for (name, _), text in zip(message.facts, values, strict=False)
    )
    said = f"This message is cut: {cut} of its texts are shortened or left out. `{whole}` shows all of it."
    return replace(message, paragraphs=(*first, *others, said), todo=todo, facts=facts)
