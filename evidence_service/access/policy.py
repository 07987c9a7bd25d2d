"""The policy of an IdP as a TOML text: strict in, the same out."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import timedelta
from enum import StrEnum
from typing import Any, get_type_hints

from evidence_service.access.model import Policy, UpnMapping
from evidence_service.access.upn import upn_problem

_DURATION = re.compile(r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9})s)?")
_OPTIONAL_DURATION = "max_authentication_age"
MAX_CLOCK_SKEW = timedelta(minutes=10)
_TYPES: Mapping[str, Any] = get_type_hints(Policy)  # slow to find out, and asked at every load of an IdP


class PolicyError(ValueError):
    """A policy text that cannot be used; `member` names what to correct. Its text is one line."""

    def __init__(self, member: str, problem: str) -> None:
        """Put member and problem into one line."""
        shown = "".join(each if each.isprintable() else "?" for each in member[:100])
        super().__init__(f"policy member `{shown}`: {problem}" if member else f"policy: {problem}")
        self.member = member


def parse_policy(text: str) -> Policy:
    """The policy that a TOML text describes. Members left out keep their default. Raises PolicyError.

    Lists may be empty here: `policy_problems` says whether a policy can allow anyone.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for a number of thousands of digits
        raise PolicyError("", f"not TOML: {' '.join(str(error).split())}") from None
    return policy_of(document)


def policy_of(document: Mapping[str, Any]) -> Policy:
    """The policy with these members, as a policy file writes them. Raises PolicyError."""
    for member in document:
        if member not in _TYPES:
            raise PolicyError(member, f"unknown; the members are {', '.join(_TYPES)}")
    return Policy(**{member: _READERS[member](member, value) for member, value in document.items()})


def _string(member: str, value: object) -> str:
    if not isinstance(value, str) or not value or any(not character.isprintable() for character in value):
        raise PolicyError(member, "expected a text without control characters")
    return value


def _strings(member: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise PolicyError(member, f'expected a list of texts, such as {member} = ["..."]')
    if not all(isinstance(each, str) for each in value):
        raise PolicyError(member, f'expected a list of texts, such as {member} = ["..."]')
    return tuple(_string(member, each) for each in value)


def _boolean(member: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise PolicyError(member, "expected true or false")
    return value


def parse_span(text: str) -> timedelta:
    """The length of time that `text` names, as files and options write it: `8h`, `1d12h`, `180s`. Raises ValueError."""
    match = _DURATION.fullmatch(text) if text else None
    if match is None:
        raise ValueError('expected a duration such as "8h", "10m", "180s" or "1d12h"')
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if duration > timedelta(days=3650):
        raise ValueError("longer than ten years")
    return duration


def _duration(member: str, value: object) -> timedelta:
    try:
        return parse_span(value if isinstance(value, str) else "")
    except ValueError as error:
        raise PolicyError(member, str(error)) from None


def _positive(member: str, value: object) -> timedelta:
    duration = _duration(member, value)
    if not duration:
        raise PolicyError(member, "must be more than 0")
    return duration


def _optional_positive(member: str, value: object) -> timedelta | None:
    return None if value == "" else _positive(member, value)


def _skew(member: str, value: object) -> timedelta:
    skew = _duration(member, value)
    if skew > MAX_CLOCK_SKEW:
        raise PolicyError(member, "at most 10m; correct the clocks instead")
    return skew


def _choice(member: str, value: object) -> StrEnum:
    choices: type[StrEnum] = _TYPES[member]
    if not isinstance(value, str) or value not in list(choices):
        raise PolicyError(member, f"expected one of {', '.join(choices)}")
    return choices(value)


def _sources(member: str, value: object) -> tuple[str, ...]:
    sources = _strings(member, value)
    for source in sources:
        if source != "nameid" and not (source.startswith("attribute:") and source != "attribute:"):
            raise PolicyError(member, f'expected "nameid" or "attribute:NAME", not {source!r}')
    return sources


def _suffixes(member: str, value: object) -> tuple[str, ...]:
    suffixes = _strings(member, value)
    for suffix in suffixes:
        if upn_problem("x@" + suffix):
            raise PolicyError(member, f"expected a suffix such as corp.example, not {suffix!r}")
    return suffixes


def _mappings(member: str, value: object) -> tuple[UpnMapping, ...]:
    problem = 'expected a list such as [{from = "@a.example", to = "@b.example"}]'
    if not isinstance(value, list):
        raise PolicyError(member, problem)
    mappings = []
    for each in value:
        if not isinstance(each, dict) or each.keys() != {"from", "to"}:
            raise PolicyError(member, problem)
        source, target = _string(member, each["from"]), _string(member, each["to"])
        names = [f"x{text}" if text.startswith("@") else text for text in (source, target)]
        if source.startswith("@") != target.startswith("@") or any(upn_problem(name) for name in names):
            raise PolicyError(member, f"{source!r} to {target!r}: both must be @suffix, or both a whole UPN")
        mappings.append(UpnMapping(source=source, target=target))
    return tuple(mappings)


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "audiences": _strings,
    "recipients": _strings,
    "upn_from": _sources,
    "upn_suffixes": _suffixes,
    "upn_map": _mappings,
    "max_age": _positive,
    _OPTIONAL_DURATION: _optional_positive,
    "clock_skew": _skew,
    "reuse": _choice,
    "fresh_within": _positive,
    "enforce_not_on_or_after": _boolean,
    "enforce_session_expiry": _boolean,
    "enforce_certificate_dates": _boolean,
    "authn_contexts": _strings,
    "allow_sha1": _boolean,
    "require_signed": _choice,
    "encryption": _choice,
    "decryption_keys": _strings,
    "acceptance": _choice,
}


def policy_problems(policy: Policy) -> tuple[str, ...]:
    """What makes the policy unusable, in words; empty where it can be applied. An absent list is never consent."""
    needed = (
        ("audiences", policy.audiences, "the SP entity ID of the Gateway or StoreFront"),
        ("recipients", policy.recipients, "its assertion consumer URL"),
        ("upn_from", policy.upn_from, "where the UPN stands"),
    )
    return tuple(f"`{member}` is empty; name {what}" for member, value, what in needed if not value)


def dump_policy(policy: Policy) -> str:
    """The policy as a TOML text that `parse_policy` reads to an equal policy; every member is written."""
    return "".join(f"{field.name} = {_toml(getattr(policy, field.name))}\n" for field in fields(policy))


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _toml_string(value)
    if isinstance(value, UpnMapping):
        return f"{{from = {_toml_string(value.source)}, to = {_toml_string(value.target)}}}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return _toml_string(span_text(value) if isinstance(value, timedelta) else "")


def _toml_string(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def span_text(duration: timedelta) -> str:
    """What `parse_span` reads to an equal duration, to the second."""
    seconds = int(duration.total_seconds())
    units = ((seconds // 86400, "d"), (seconds % 86400 // 3600, "h"), (seconds % 3600 // 60, "m"), (seconds % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in units if number) or "0s"
