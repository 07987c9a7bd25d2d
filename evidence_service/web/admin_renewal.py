"""The calls of the admin API about FAS servers, their renewal, and what people are told.

`{name}` in a path is the server's configured name. What asks a FAS server or a mail server runs in a thread.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from sqlalchemy import Engine
from starlette.requests import Request
from starlette.routing import BaseRoute

from evidence_service.adapters.outbox import Outbox
from evidence_service.notices.model import Audience
from evidence_service.renewal.model import AskKind, Step
from evidence_service.renewal_admin.acts import MAX_RESPONSE, RenewalAdmin, paused_text, preview_json
from evidence_service.renewal_admin.views import (
    check_json,
    history_json,
    issued_json,
    message_json,
    server_json,
    step_json,
    undelivered_json,
    worker_missing,
)
from evidence_service.trust_admin.texts import instant
from evidence_service.web.calls import (
    Answer,
    Call,
    Failure,
    Handler,
    Nothing,
    expect,
    flag,
    json_body,
    query_of,
    routes_of,
    whole,
)
from evidence_service.web.wire import Malformed, read_json
from idp_certs.instants import parse_instant

MAX_LISTED = 500
MAX_AT_FAS = 2
"""Questions to FAS servers at a time: each may take minutes."""

_Note = Annotated[str, msgspec.Meta(max_length=1000)]


class RenewalWish(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Why, and the server's name where the act asks for it."""

    note: _Note = ""
    confirm: Annotated[str, msgspec.Meta(max_length=256)] | None = None


class PauseWish(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Until when, as a UTC instant; without it, until somebody resumes."""

    until: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    note: _Note = ""


class SignedAnswer(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The PKCS #7 that answers an offline request, as base64."""

    response: Annotated[str, msgspec.Meta(min_length=1, max_length=2 * MAX_RESPONSE)]
    note: _Note = ""


class TestWish(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Which channel, and as whom; without them, all channels and the operators."""

    channel: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    audience: Annotated[str, msgspec.Meta(max_length=256)] = Audience.OPERATORS.value


class RenewalApi:
    """The calls. Who may make them is judged before they get here."""

    def __init__(self, admin: RenewalAdmin, engine: Engine, clock: Callable[[], datetime]) -> None:
        """Answer with `admin`."""
        self._admin = admin
        self._outbox = Outbox(engine)
        self._clock = clock
        self._at_fas = asyncio.Semaphore(MAX_AT_FAS)

    def routes(self) -> list[BaseRoute]:
        """Every call."""
        server = "/fas-servers/{name}"
        table: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "/fas-servers", self._list),
            ("GET", "/fas-servers:history", self._histories),
            ("GET", server, self._show),
            ("GET", f"{server}/history", self._history),
            ("POST", f"{server}/renew", self._renew),
            ("POST", f"{server}/preflight", self._preflight),
            ("POST", f"{server}/withdraw", self._withdraw),
            ("POST", f"{server}/rollback", self._roll_back),
            ("POST", f"{server}/import", self._import),
            ("POST", f"{server}/pause", self._pause),
            ("POST", f"{server}/resume", self._resume),
            ("GET", "/notifications", self._notifications),
            ("POST", "/notifications:test", self._test),
        )
        return routes_of(table, self._clock)

    def _name(self, request: Request) -> str:
        return self._admin.find(unquote(request.path_params["name"])).name

    async def _list(self, request: Request, call: Call) -> Answer:
        query_of(request)
        views = await asyncio.to_thread(self._admin.views, call.now)
        return 200, {"fas_servers": [server_json(each, call.now) for each in views]}

    async def _show(self, request: Request, call: Call) -> Answer:
        query_of(request)
        view = await asyncio.to_thread(self._admin.view, unquote(request.path_params["name"]), call.now)
        return 200, server_json(view, call.now)

    async def _history(self, request: Request, call: Call) -> Answer:
        return await self._told(request, call, unquote(request.path_params["name"]))

    async def _histories(self, request: Request, call: Call) -> Answer:
        """Of all servers."""
        return await self._told(request, call, None)

    async def _told(self, request: Request, call: Call, name: str | None) -> Answer:
        query = query_of(request, "limit", "before")
        limit, before = _limit(query), query.get("before")
        end = None if before is None else _instant("before", before)
        found = await asyncio.to_thread(self._admin.history, name, call.now, limit, end)
        return 200, {"acts": [history_json(each) for each in found]}

    async def _renew(self, request: Request, call: Call) -> Answer:
        """Leave the wish; with `?dry_run=true`, answer every step with its cmdlets and change nothing."""
        dry_run = flag(query_of(request, "dry_run"), "dry_run")
        wanted = await json_body(request, RenewalWish)
        name = self._name(request)
        await asyncio.to_thread(self._admin.check, name, AskKind.RENEW, call.now)
        if not dry_run:
            return await asyncio.to_thread(self._asked, name, AskKind.RENEW, call, wanted.note)
        async with self._at_fas:
            preview = await asyncio.to_thread(self._admin.preview, name, call.now)
        return 200, preview_json(preview, call.now)

    async def _preflight(self, request: Request, call: Call) -> Answer:
        """Every check; with `?test=true`, FAS enrolls the test user too."""
        test = flag(query_of(request, "test"), "test")
        await json_body(request, Nothing)
        name = self._name(request)
        async with self._at_fas:
            looked = await asyncio.to_thread(
                lambda: self._admin.preflight((name,), call.now, test=test, actor=call.actor)
            )
        ((name, checks),) = looked
        return 200, {"name": name, "checks": [check_json(each) for each in checks]}

    async def _withdraw(self, request: Request, call: Call) -> Answer:
        dry_run = flag(query_of(request, "dry_run"), "dry_run")
        wanted = await json_body(request, RenewalWish)
        name = self._name(request)

        def work() -> Answer:
            acts = self._admin.check(name, AskKind.WITHDRAW, call.now)
            if dry_run:
                return _would(name, acts)
            return self._asked(name, AskKind.WITHDRAW, call, wanted.note)

        return await asyncio.to_thread(work)

    async def _roll_back(self, request: Request, call: Call) -> Answer:
        dry_run = flag(query_of(request, "dry_run"), "dry_run")
        wanted = await json_body(request, RenewalWish)
        name = self._name(request)

        def work() -> Answer:
            acts = self._admin.check(name, AskKind.ROLL_BACK, call.now)
            if dry_run:
                return _would(name, acts)
            if wanted.confirm != name:
                raise Failure(
                    status=422,
                    code="confirmation_needed",
                    detail=f"confirm: every certificate definition goes back to a certificate that {name} used before. "
                    "Give the server's name.",
                )
            return self._asked(name, AskKind.ROLL_BACK, call, wanted.note)

        return await asyncio.to_thread(work)

    async def _import(self, request: Request, call: Call) -> Answer:
        dry_run = flag(query_of(request, "dry_run"), "dry_run")
        content, note = await _signed_answer(request)
        name = self._name(request)

        def work() -> Answer:
            found = self._admin.check_import(name, content, call.now)
            certificate = {"certificate": issued_json(found.certificate)}
            if dry_run:
                status, answer = _would(name, [found.act])
            else:
                status, answer = self._asked(name, AskKind.IMPORT, call, note, payload=found.act.response)
            return status, {**answer, **certificate}

        return await asyncio.to_thread(work)

    def _asked(self, name: str, kind: AskKind, call: Call, note: str, payload: bytes | None = None) -> Answer:
        """Leave a wish for the worker; 202, as the worker does it."""
        missing = worker_missing(self._admin.view(name, call.now), call.now)
        ask = self._admin.ask(name, kind, now=call.now, actor=call.actor, note=note, payload=payload)
        paused = paused_text(self._admin.view(name, call.now), call.now)
        answer = {"name": name, "dry_run": False, "asked": ask.kind.value, "at": instant(ask.at)}
        return 202, {**answer, "warnings": [each for each in (missing, paused) if each is not None]}

    async def _pause(self, request: Request, call: Call) -> Answer:
        query_of(request)
        wanted = await json_body(request, PauseWish)
        until = None if wanted.until is None else _instant("until", wanted.until)
        name = self._name(request)

        def work() -> Answer:
            self._admin.pause(name, until, now=call.now, actor=call.actor, note=wanted.note)
            return 200, server_json(self._admin.view(name, call.now), call.now)

        return await asyncio.to_thread(work)

    async def _resume(self, request: Request, call: Call) -> Answer:
        query_of(request)
        wanted = await json_body(request, RenewalWish)
        name = self._name(request)

        def work() -> Answer:
            self._admin.resume(name, now=call.now, actor=call.actor, note=wanted.note)
            return 200, server_json(self._admin.view(name, call.now), call.now)

        return await asyncio.to_thread(work)

    async def _notifications(self, request: Request, call: Call) -> Answer:
        """The last messages with how far they are on each channel, and what did not reach people."""
        limit = _limit(query_of(request, "limit"))

        def work() -> Answer:
            found = self._outbox.messages(limit=limit)
            undelivered = self._outbox.undelivered(call.now)
            return 200, {
                "notifications": [message_json(each) for each in found],
                "undelivered": [undelivered_json(each) for each in undelivered],
            }

        return await asyncio.to_thread(work)

    async def _test(self, request: Request, call: Call) -> Answer:
        """Send a test message by one channel or all, now and past the outbox; each channel says what came of it."""
        query_of(request)
        wanted = await json_body(request, TestWish)
        if wanted.audience not in [each.value for each in Audience]:
            raise Malformed(f"audience: expected {' or '.join(each.value for each in Audience)}")
        audience = Audience(wanted.audience)

        def work() -> list[dict[str, Any]]:
            tried = self._admin.send_test(wanted.channel, audience, now=call.now, actor=call.actor)
            return [{"channel": each.channel, "sent": each.problem is None, "problem": each.problem} for each in tried]

        sent = await asyncio.to_thread(work)
        return 200 if all(each["sent"] for each in sent) else 502, {"channels": sent}


def _would(name: str, acts: Sequence[Step]) -> Answer:
    return 200, {"name": name, "dry_run": True, "steps": [step_json(each) for each in acts]}


def _limit(query: dict[str, str]) -> int:
    text = query.get("limit", "50")
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LISTED)) and 1 <= int(text) <= MAX_LISTED):
        raise Malformed(f"limit: expected a number from 1 to {MAX_LISTED}")
    return int(text)


def _instant(member: str, text: str) -> datetime:
    try:
        return parse_instant(text)
    except ValueError:
        raise Malformed(f"{member}: expected a UTC instant such as 2026-01-31T12:00:00Z") from None


async def _signed_answer(request: Request) -> tuple[bytes, str]:
    """The PKCS #7, as it is or as base64 in JSON, and the note. Raises Failure and Malformed."""
    media, _ = expect(request, "application/pkcs7-mime", "application/x-pkcs7-certificates", "application/json")
    content = await whole(request, 3 * MAX_RESPONSE if media == "application/json" else MAX_RESPONSE)
    if media != "application/json":
        return content, ""
    wanted = read_json(content, SignedAnswer)
    try:
        return base64.b64decode("".join(wanted.response.split()), validate=True), wanted.note
    except (binascii.Error, ValueError):
        raise Malformed("response: expected base64") from None
