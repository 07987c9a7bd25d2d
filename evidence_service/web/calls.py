"""What every call of the admin API shares: how a request is read, and how it is answered or refused."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import structlog
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from evidence_service.adapters.config_store import Conflict, NotFound
from evidence_service.adapters.database import StoreUnavailable
from evidence_service.renewal.ports import FasAnswerUnknown, FasRefused, FasUnreachable
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.trust_admin.documents import MAX_SMALL, PolicyMissing, SourceFailed, Unusable
from evidence_service.web.admin_auth import ACTOR
from evidence_service.web.problems import Reply, json_reply, problem
from evidence_service.web.text import shown
from evidence_service.web.wire import Malformed, read_json

PREFIX = "/api/v1"

_log = structlog.get_logger()


class Nothing(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """No members."""


class Failure(Exception):  # noqa: N818 - an answer
    """A request that ends with a problem."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        """What is answered."""
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Who asks, and when (UTC)."""

    actor: str
    now: datetime


BodyT = TypeVar("BodyT", bound=msgspec.Struct)
Answer = tuple[int, Any]
Handler = Callable[[Request, Call], Awaitable[Answer]]


def routes_of(table: Iterable[tuple[str, str, Handler]], clock: Callable[[], datetime]) -> list[BaseRoute]:
    """A route for each method, path below `/api/v1`, and handler."""
    return [Route(f"{PREFIX}{path}", _endpoint(handler, clock), methods=[method]) for method, path, handler in table]


def _endpoint(handler: Handler, clock: Callable[[], datetime]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        call = Call(actor=request.scope[ACTOR], now=clock())
        reply = await _answered(handler, request, call)
        route = request.scope["route"].path if "route" in request.scope else request.url.path
        _log.info("admin_call", method=request.method, path=route, status=reply.status, actor=call.actor)
        return response_of(reply)

    return endpoint


async def _answered(handler: Handler, request: Request, call: Call) -> Reply:
    """The answer, or the problem that came of it."""
    try:
        status, answer = await handler(request, call)
    except (Failure, Malformed, Unusable, NotFound, Conflict, SourceFailed, StoreUnavailable) as error:
        return _problem(error)
    except (FasUnreachable, FasAnswerUnknown, FasRefused) as error:
        return _fas_problem(error)
    except ClientDisconnect:
        return problem(400, "malformed", "the body is not complete")
    except Exception as error:  # noqa: BLE001 - outside of here the answer would lack its headers
        _log.error("admin_call_failed", exc_info=error)
        return problem(500, "internal_error")
    # What others wrote may hold lone surrogates, which UTF-8 has not; escaped, they are JSON all the same.
    return json_reply(json.dumps(msgspec.to_builtins(answer), separators=(",", ":")).encode("ascii"), status)


def _problem(error: Exception) -> Reply:
    """What the caller learns of a request that was refused."""
    text = _line(error)
    match error:
        case Failure():
            return problem(error.status, error.code, error.detail)
        case Malformed():
            return problem(400, "malformed", text)
        case PolicyMissing():
            return problem(422, "policy_missing", f"policy: {text}; give `policy`")
        case Unusable():
            return problem(422, error.code, text if text.startswith(f"{error.member}:") else f"{error.member}: {text}")
        case NotFound():
            return problem(404, "not_found", text)
        case Conflict():
            return problem(409, "conflict", text)
        case SourceFailed():
            return problem(502, str(error.finding.reason), text)
        case _:
            return problem(503, "store_unavailable", text)


def _fas_problem(error: FasUnreachable | FasAnswerUnknown | FasRefused) -> Reply:
    code = RenewalReason.ANSWER_UNKNOWN if isinstance(error, FasAnswerUnknown) else RenewalReason.UNREACHABLE
    return problem(502, str(error.finding.reason if isinstance(error, FasRefused) else code), _line(error))


def _line(error: Exception) -> str:
    return shown(str(error), 2000)


def response_of(reply: Reply) -> Response:
    """The reply as the framework wants it."""
    return Response(reply.body, reply.status, {name.decode(): value.decode() for name, value in reply.headers})


def query_of(request: Request, *allowed: str) -> dict[str, str]:
    """The parameters, each known and given once. Raises Malformed."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in allowed:
            known = f"; known are {', '.join(allowed)}" if allowed else ""
            raise Malformed(f"{shown(name, 64)}: there is no such query parameter{known}")
        if name in found:
            raise Malformed(f"{name}: the query parameter is given more than once")
        found[name] = value
    return found


def flag(query: Mapping[str, str], name: str) -> bool:
    """Whether a parameter is `true`; without it, no. Raises Malformed."""
    value = query.get(name, "false")
    if value not in ("true", "false"):
        raise Malformed(f"{name}: expected true or false")
    return value == "true"


async def limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body as it arrives, and not more than `limit` bytes. Raises Failure."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise Failure(status=413, code="too_large", detail=f"the body is larger than {limit} bytes")
        yield chunk


async def whole(request: Request, limit: int) -> bytes:
    """The body. Raises Failure."""
    return b"".join([chunk async for chunk in limited(request, limit)])


async def json_body(request: Request, kind: type[BodyT]) -> BodyT:
    """The body as JSON; without one, the members' defaults. Raises Failure and Malformed."""
    body = await whole(request, MAX_SMALL)
    if body:
        expect(request, "application/json")
    return read_json(body or b"{}", kind)


def expect(request: Request, *allowed: str) -> tuple[str, dict[bytes, bytes]]:
    """The media type, one of `allowed`, and its parameters. Raises Failure."""
    kind, parameters = parse_options_header(request.headers.get("content-type", ""))
    media = kind.decode("ascii", "replace").lower()
    if media not in allowed:
        raise Failure(
            status=415, code="unsupported_media_type", detail=f"Content-Type: expected {' or '.join(allowed)}"
        )
    return media, parameters
