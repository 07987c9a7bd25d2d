"""A service that does what ours never would: every way to answer, or not to, that must not become a yes."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.web.listening import Identity

Behaviour = Callable[[str], Iterable[bytes | float]]
"""From the request id to what is sent: bytes, and pauses in seconds. Then the connection is closed."""

LIMIT = 16_384


def answer(own: str, /, **changes: Any) -> dict[str, Any]:
    """A good allow with some members changed; a member that is `...` is left out."""
    members = {
        "request_id": own,
        "decision_id": "0198f2c1-9f6e-7c3a-8f57-3f1c7f0f9a11",
        "decision": "allow",
        "reason": "ok",
        "rule": None,
        "security_context": None,
        "mode": "enforce",
        **changes,
    }
    return {name: value for name, value in members.items() if value is not ...}


def http(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """One HTTP answer; without headers it is application/json."""
    lines = [
        *(headers or ("Content-Type: application/json",)),
        f"Content-Length: {len(body) if length is None else length}",
    ]
    return (
        f"HTTP/1.1 {status}\r\n{''.join(line + chr(13) + chr(10) for line in lines)}Connection: close\r\n\r\n".encode()
        + body
    )


def says(**changes: Any) -> Behaviour:
    """Answers with these members changed."""
    return lambda request_id: [http(json.dumps(answer(request_id, **changes)).encode())]


def raw(change: Callable[[bytes], bytes]) -> Behaviour:
    """Answers with the good body spoiled."""
    return lambda request_id: [http(change(json.dumps(answer(request_id)).encode()))]


def with_head(*headers: str, status: str = "200 OK") -> Behaviour:
    """The good body under another head."""
    return lambda request_id: [http(json.dumps(answer(request_id)).encode(), *headers, status=status)]


def _status(status: str) -> Behaviour:
    return with_head("Content-Type: application/json", "Location: /v1/decisions", status=status)


def _gzipped(request_id: str) -> list[bytes | float]:
    body = gzip.compress(json.dumps(answer(request_id)).encode())
    return [http(body, "Content-Type: application/json", "Content-Encoding: gzip")]


def _cut(request_id: str) -> list[bytes | float]:
    body = json.dumps(answer(request_id)).encode()
    return [http(body, length=len(body) + 10)]


def _cut_early(request_id: str) -> list[bytes | float]:
    body = json.dumps(answer(request_id)).encode()
    return [http(body[:40], length=len(body))]


def _chunked(*sizes: int, end: bool) -> Behaviour:
    def behave(request_id: str) -> list[bytes | float]:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = json.dumps(answer(request_id)).encode()
        chunks = [b"%x\r\n%b\r\n" % (len(body), body), *(b"%x\r\n%b\r\n" % (size, b" " * size) for size in sizes)]
        return [head + b"".join(chunks) + (b"0\r\n\r\n" if end else b"")]

    return behave


def _drip(pieces: Callable[[bytes], tuple[bytes, bytes]]) -> Behaviour:
    def behave(request_id: str) -> Iterator[bytes | float]:
        first, rest = pieces(http(json.dumps(answer(request_id)).encode()))
        yield first
        for position in range(len(rest)):
            yield 0.3
            yield rest[position : position + 1]

    return behave


def _head_first(whole: bytes) -> tuple[bytes, bytes]:
    head, separator, body = whole.partition(b"\r\n\r\n")
    return head + separator, body


def _twice(name: bytes, value: bytes) -> Behaviour:
    return raw(lambda body: b'{"%b": %b, ' % (name, value) + body[1:])


GOOD = {
    "a plain allow": says(),
    "an allow with a charset": with_head("Content-Type: application/json; charset=utf-8"),
    "an allow in observe mode": says(mode="observe", reason="upn_mismatch"),
    "an allow with blanks around": raw(lambda body: b" \r\n\t" + body + b"\n "),
    "an allow with escapes": raw(lambda body: body.replace(b'"allow"', b'"\\u0061llo\\u0077"')),
    "an allow in chunks": _chunked(end=True),
}

DENIES = {"a plain deny": says(decision="deny", reason="upn_mismatch")}

FAILURES: dict[str, tuple[str, Behaviour]] = {
    "silence": ("timeout", lambda _: [30.0]),
    "a head that drips": ("timeout", _drip(lambda whole: (b"", whole))),
    "a body that drips": ("timeout", _drip(_head_first)),
    "a connection that ends": ("no_service", lambda _: []),
    "status 401": ("caller_refused", _status("401 Unauthorized")),
    "status 403": ("caller_refused", _status("403 Forbidden")),
    "status 429": ("overloaded", _status("429 Too Many Requests")),
    "status 503": ("overloaded", _status("503 Service Unavailable")),
    "status 201": ("wrong_status", _status("201 Created")),
    "status 204": ("wrong_status", lambda _: [b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"]),
    "status 206": ("wrong_status", _status("206 Partial Content")),
    "status 301": ("wrong_status", _status("301 Moved Permanently")),
    "status 302": ("wrong_status", _status("302 Found")),
    "status 307": ("wrong_status", _status("307 Temporary Redirect")),
    "status 400": ("wrong_status", _status("400 Bad Request")),
    "status 404": ("wrong_status", _status("404 Not Found")),
    "status 407": ("wrong_status", _status("407 Proxy Authentication Required")),
    "status 500": ("wrong_status", _status("500 Internal Server Error")),
    "status 502": ("wrong_status", _status("502 Bad Gateway")),
    "no content type": ("wrong_content_type", with_head("X-Nothing: here")),
    "text": ("wrong_content_type", with_head("Content-Type: text/plain")),
    "a page": ("wrong_content_type", with_head("Content-Type: text/html")),
    "a problem with status 200": ("wrong_content_type", with_head("Content-Type: application/problem+json")),
    "a content type in pieces": ("wrong_content_type", with_head("Content-Type: app lication/ json")),
    "another charset": ("wrong_content_type", with_head("Content-Type: application/json; charset=utf-16")),
    "two content types": (
        "wrong_content_type",
        with_head("Content-Type: application/json", "Content-Type: text/html"),
    ),
    "gzip": ("wrong_content_type", _gzipped),
    "a long answer": ("answer_too_large", raw(lambda body: body + b" " * LIMIT)),
    "a long answer in chunks": ("answer_too_large", _chunked(LIMIT, end=True)),
    "a long reason": ("answer_too_large", says(reason="x" * LIMIT)),
    "an answer cut after its object": ("answer_truncated", _cut),
    "an answer cut within": ("answer_truncated", _cut_early),
    "chunks without an end": ("answer_truncated", _chunked(end=False)),
    "nothing": ("answer_unreadable", raw(lambda _: b"")),
    "no JSON": ("answer_unreadable", raw(lambda _: b"allow")),
    "a string": ("answer_unreadable", raw(lambda _: b'"allow"')),
    "true": ("answer_unreadable", raw(lambda _: b"true")),
    "a list": ("answer_unreadable", raw(lambda body: b"[" + body + b"]")),
    "an empty object": ("answer_unreadable", raw(lambda _: b"{}")),
    "half an object": ("answer_unreadable", raw(lambda body: body[:-1])),
    "a second object": ("answer_unreadable", raw(lambda body: body + body)),
    "a letter behind": ("answer_unreadable", raw(lambda body: body + b"x")),
    "a null byte behind": ("answer_unreadable", raw(lambda body: body + b"\0")),
    "a byte order mark": ("answer_unreadable", raw(lambda body: b"\xef\xbb\xbf" + body)),
    "UTF-16": ("answer_unreadable", raw(lambda body: body.decode().encode("utf-16"))),
    "a byte that is not UTF-8": ("answer_unreadable", raw(lambda body: body.replace(b'"ok"', b'"o\xff"'))),
    "half a surrogate pair": ("answer_unreadable", raw(lambda body: body.replace(b'"ok"', b'"\\ud800"'))),
    "a comment": ("answer_unreadable", raw(lambda body: body + b"//")),
    "single quotes": ("answer_unreadable", raw(lambda body: body.replace(b'"', b"'"))),
    "a comma too many": ("answer_unreadable", raw(lambda body: body[:-1] + b",}")),
    "a raw line break in a string": ("answer_unreadable", raw(lambda body: body.replace(b'"ok"', b'"o\nk"'))),
    "an unknown escape": ("answer_unreadable", raw(lambda body: body.replace(b'"ok"', b'"\\ok"'))),
    "decision twice": ("answer_unreadable", _twice(b"decision", b'"deny"')),
    "request_id twice": ("answer_unreadable", _twice(b"request_id", b'"x"')),
    "a doubled member by escapes": ("answer_unreadable", _twice(b"d\\u0065cision", b'"deny"')),
    "a hint of a type": ("answer_unreadable", _twice(b"__type", b'"WireAnswer:#LogonEvidence"')),
    "an unknown member": ("answer_unreadable", says(note="x")),
    "a member in other letters": ("answer_unreadable", says(decision=..., Decision="allow")),
    **{
        f"no {name}": ("answer_unreadable", says(**{name: ...}))
        for name in ("request_id", "decision_id", "decision", "reason", "rule", "security_context", "mode")
    },
    **{
        f"{name} is null": ("answer_unreadable", says(**{name: None}))
        for name in ("request_id", "decision_id", "decision", "reason", "mode")
    },
    "decision is true": ("answer_unreadable", says(decision=True)),
    "decision is 1": ("answer_unreadable", says(decision=1)),
    "decision is a list": ("answer_unreadable", says(decision=["allow"])),
    "decision is an object": ("answer_unreadable", says(decision={"allow": "allow"})),
    "rule is false": ("answer_unreadable", says(rule=False)),
    "an unknown mode": ("answer_unreadable", says(mode="audit")),
    "no reason at all": ("answer_unreadable", says(reason="")),
    "another request id": ("other_request_id", says(request_id="7c1e0f52-6f0b-4f0e-9a54-1d9a3f1f6a10")),
    "an empty request id": ("other_request_id", says(request_id="")),
    "the request id in capitals": ("other_request_id", lambda own: says(request_id=f"A{own.upper()}"[1:] + " ")(own)),
    **{
        f"decision {text!r}": ("unknown_decision", says(decision=text))
        for text in (
            "",
            "ALLOW",
            "Allow",
            "allow ",
            " allow",
            "allow\n",
            "allow\0",
            "allowed",
            "yes",
            "permit",
            "true",
            "ok",
        )
    },
    "a Cyrillic allow": ("unknown_decision", says(decision="\u0430llow")),
    "an allow without a record": ("answer_contradictory", says(decision_id="")),
    "an allow with a reason against it": ("answer_contradictory", says(reason="upn_mismatch")),
    "a deny that is ok": ("answer_contradictory", says(decision="deny")),
    "an observed deny that is ok": ("answer_contradictory", says(decision="deny", mode="observe")),
}
"""Name to the failure that it must be, and what is done."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(kw_only=True)
class Misbehaving:
    """A listening service; `asked` counts questions by correlation id, `at_once` the most it had open together."""

    port: int
    asked: dict[str, int] = field(default_factory=dict)
    at_once: int = 0


def _request(connection: ssl.SSLSocket) -> dict[str, Any]:
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    assert length is not None
    while len(body) < int(length[1]):
        body += connection.recv(65536)
    loaded: dict[str, Any] = json.loads(body)
    return loaded


@contextlib.contextmanager
def misbehaving(
    context: ssl.SSLContext | None, behave: Callable[[str], Behaviour], *, first: bytes = b""
) -> Iterator[Misbehaving]:
    """Serve on a free port; `behave` names the behaviour by the question's correlation id.

    Without a context it speaks no TLS, and sends `first` instead of a handshake.
    """
    over = threading.Event()
    answering: set[str] = set()
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    it = Misbehaving(port=listener.getsockname()[1])

    def serve(plain: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), plain:
            plain.settimeout(30)
            if context is None:
                plain.sendall(first)
                over.wait(0.2)
                return
            with context.wrap_socket(plain, server_side=True) as connection:
                question = _request(connection)
                name = question.get("correlation_id", "")
                it.asked[name] = it.asked.get(name, 0) + 1
                answering.add(question["request_id"])
                it.at_once = max(it.at_once, len(answering))
                for step in behave(name)(question["request_id"]):
                    if isinstance(step, bytes):
                        connection.sendall(step)
                    elif over.wait(step):
                        return
                answering.discard(question["request_id"])
                connection.unwrap()

    def accept() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(plain,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield it
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def server_context(server: Identity, *, trusting: Identity | None = None) -> ssl.SSLContext:
    """A listener's TLS 1.2 and 1.3; with `trusting`, only that client gets in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(server.certificate, server.key)
    if trusting is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=trusting.der)
    return context
