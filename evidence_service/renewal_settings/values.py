"""Single values of the file: how each is written, and what is said of one that cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import time, timedelta
from email.errors import HeaderParseError
from email.headerregistry import Address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field

from evidence_service.access.policy import parse_span
from evidence_service.access.upn import upn_problem
from evidence_service.renewal.model import Window

MAX_TEXT = 1024
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_HOST = re.compile(r"\[?[A-Za-z0-9:][A-Za-z0-9._:-]{0,252}\]?")
_SHARE = re.compile(r"([0-9]{1,2})%")
_START = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


def _span(value: object) -> timedelta:
    if not isinstance(value, str):
        raise ValueError('expected a duration such as "14d", "8h" or "30m"')  # noqa: TRY004 - pydantic reports these
    return parse_span(value)


def _long(value: object) -> timedelta:
    span = _span(value)
    if not span:
        raise ValueError("must be more than 0")
    return span


def _look(value: object) -> timedelta:
    span = _long(value)
    if span > timedelta(days=1):
        raise ValueError("at most 1d: alarms and reminders are as late as that")
    return span


def _lead(value: object) -> int | float:
    """Days, or a share below 1."""
    problem = 'expected whole days such as "60d", or a share of the lifetime such as "33%"'
    share = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if share is not None:
        if not 1 <= int(share[1]) <= 90:
            raise ValueError("a share is from 1% to 90% of the lifetime")
        return int(share[1]) / 100
    try:
        span = _span(value)
    except ValueError:
        raise ValueError(problem) from None
    if span < timedelta(days=1) or span % timedelta(days=1):
        raise ValueError(problem)
    return span.days


def _window(value: object) -> Window:
    problem = 'expected days, start, length and perhaps a time zone, such as "sat,sun 22:00 6h Europe/Berlin"'
    if isinstance(value, Window):
        return value
    words = value.split() if isinstance(value, str) else []
    if len(words) not in (3, 4):
        raise ValueError(problem)
    start = _START.fullmatch(words[1])
    if start is None:
        raise ValueError(problem)
    length = _long(words[2])
    if length > timedelta(hours=24):
        raise ValueError("a window is at most 24h long")
    zone = words[3] if len(words) == 4 else "UTC"
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {zone!r}; name one of the IANA list, such as Europe/Berlin") from None
    return Window(
        weekdays=frozenset(_weekdays(words[0])), start=time(int(start[1]), int(start[2])), length=length, zone=zone
    )


def _weekdays(text: str) -> Iterator[int]:
    """`sat`, `sat,sun`, `mon-fri`, `daily`."""
    if text.lower() == "daily":
        yield from range(7)
        return
    for part in text.lower().split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{text!r}: expected days such as sat, sat,sun, mon-fri or daily")
        start, end = DAYS.index(first), DAYS.index(last or first)
        yield from (day % 7 for day in range(start, end + 1 + 7 * (end < start)))


def _address(value: object) -> str:
    try:
        # What a mail server would read as another address, or as several, is none.
        fits = isinstance(value, str) and value.isascii() and Address(addr_spec=value).addr_spec == value != ""
    except (ValueError, IndexError, HeaderParseError):  # of an empty text the library asks for the first character
        fits = False
    if not fits:
        raise ValueError("expected one mail address of ASCII letters, such as ca-admins@corp.example")
    return str(value)


def _test_upn(value: object) -> str:
    if not isinstance(value, str) or upn_problem(value):
        raise ValueError("expected a UPN such as fas-test@corp.example, of a user that is only for tests")
    return value


def _authority(value: object) -> str:
    if not isinstance(value, str) or not all(value.partition("\\")[::2]) or not value.isprintable():
        raise ValueError(r'expected host and name of a CA as FAS writes them: "ca1.corp.example\\Corp Issuing CA"')
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("expected a name of letters, digits, dots, hyphens and underscores, such as fas1.corp.example")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > MAX_TEXT:
        problem = f"expected a text of 1 to {MAX_TEXT} characters, none of them a control character"
        is_escape = isinstance(value, str) and any(each in value for each in "\b\t\n\f\r")
        # As TOML reads "CORP\\backup" with one backslash.
        hint = r"; write what has a backslash in single quotes, such as 'CORP\svc-fas'"
        raise ValueError(problem + (hint if is_escape else ""))
    return value


def _host(value: object) -> str:
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise ValueError("expected the name or address of a host, such as fas1.corp.example")
    return value


def _file(value: object) -> Path:
    if not isinstance(value, str):
        raise ValueError("expected the name of a file, as text")  # noqa: TRY004 - pydantic reports these
    return Path(_text(value))


def web_address(*schemes: str) -> BeforeValidator:
    """An address that begins with one of these and names a host."""

    def check(value: object) -> str:
        text = value if isinstance(value, str) and value.isprintable() and " " not in value else ""
        if not text.startswith(schemes) or not names_host(text):
            raise ValueError(f"expected an address that begins with {' or '.join(schemes)}")
        return text

    return BeforeValidator(check)


Span = Annotated[timedelta, BeforeValidator(_span)]
Long = Annotated[timedelta, BeforeValidator(_long)]
Look = Annotated[timedelta, BeforeValidator(_look)]
Text = Annotated[str, BeforeValidator(_text)]
File = Annotated[Path, BeforeValidator(_file)]
Host = Annotated[str, BeforeValidator(_host)]
Name = Annotated[str, BeforeValidator(_name)]
MailAddress = Annotated[str, BeforeValidator(_address)]
Authority = Annotated[str, BeforeValidator(_authority)]
Lead = Annotated[float, BeforeValidator(_lead)]
Windows = Annotated[tuple[Annotated[Window, BeforeValidator(_window)], ...], Field(max_length=32)]
TestUpn = Annotated[str, BeforeValidator(_test_upn)]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Https = Annotated[str, web_address("https://")]


def names_host(url: str) -> bool:
    """Whether an address is ASCII with a host, and without user information."""
    try:
        parts = urlsplit(url)
        return url.isascii() and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        return False
