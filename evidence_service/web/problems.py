"""Answers that are no decisions: RFC 9457 problem bodies, and the headers that every answer carries."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)

CLOSE = (b"connection", b"close")

_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One complete HTTP answer."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def send(self, send: Send) -> None:
        """Put the answer on the wire."""
        length = (b"content-length", b"%d" % len(self.body))
        await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers, length]})
        await send({"type": "http.response.body", "body": self.body})


def json_reply(body: bytes, status: int = 200) -> Reply:
    """An answer with a JSON body."""
    return Reply(status=status, body=body, headers=(_JSON,))


def problem(status: int, code: str, detail: str | None = None, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    """A problem body with our stable `code`; `detail` is for the caller's eyes and says nothing about evidence."""
    content: dict[str, object] = {"title": HTTPStatus(status).phrase, "status": status, "code": code}
    if detail is not None:
        content["detail"] = detail
    return Reply(status=status, body=msgspec.json.encode(content), headers=(_PROBLEM, *headers))


class SecurityHeaders:
    """Adds the security headers to every answer of the application inside."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
