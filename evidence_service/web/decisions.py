"""`POST /v1/decisions`: from the wire to a decision that is recorded, and back.

Whatever happens on the way, the answer is an allow only if `decide` said so, the record is durable and the deadline
has not passed. A caller that we do not know, or that does not keep to the contract, gets a problem body instead.

A launch that meets a key its IdP has just begun to use may wait for it (decision 4). Waiting cannot make an allow: the
same bytes are judged from their beginning by the snapshot that has come meanwhile, at the time that it is by then,
clock, store and deadline included, and what is recorded is that second judgement with what it was judged by. Where
waiting comes to nothing or fails, the deny stands. It cannot hold up others: `Waves` bounds who may wait, a waiting
launch holds nothing but its place, and no launch by a known key ever comes here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from starlette.types import Receive, Scope, Send

from evidence_service.access.decide import mode_of
from evidence_service.access.model import AccessRequest, Allow, Decision, Deny, Mode, Snapshot, refused
from evidence_service.access.plausible import UnknownSigner, unknown_signer
from evidence_service.access.reasons import AccessReason
from evidence_service.access.verify import VerifiedEvidence
from evidence_service.adapters.database import StoreUnavailable
from evidence_service.adapters.journal import Entry, JournalUnavailable, Recorded, new_decision_id
from evidence_service.web.auth import Authenticator, Caller, connection_of
from evidence_service.web.problems import CLOSE, Reply, json_reply, problem
from evidence_service.web.remembered import Remembered
from evidence_service.web.waves import Waves
from evidence_service.web.wire import Answer, Asked, Malformed, deny_answer, read_question, write_answer
from idp_certs.reasons import Reason, TrustReason

_log = structlog.get_logger()

STAGES = ("authenticate", "receive", "parse", "snapshot", "decide", "reconsider", "record", "answer")
"""Where a request can be when something fails; tests fail each of them."""

LAST_WORDS = 0.08
"""Seconds beyond the deadline in which a failing request may still try to be recorded."""

RECORDING = 0.15
"""Seconds before the deadline that a launch which waits for new trust keeps for its record."""

_UNKNOWN_SIGNER: frozenset[Reason] = frozenset({TrustReason.SIGNATURE_INVALID, TrustReason.NO_TRUSTED_CERTIFICATE})
"""Denials that a rollover explains."""

_OWN = frozenset(
    {
        AccessReason.CLOCK_UNTRUSTED,
        AccessReason.DEADLINE,
        AccessReason.INTERNAL_ERROR,
        AccessReason.JOURNAL_UNAVAILABLE,
        AccessReason.STORE_UNAVAILABLE,
    }
)
"""Denials for our own faults. Observe mode is about evidence, so it never turns these into an allow."""


class Snapshots(Protocol):
    """Where the configuration in force comes from."""

    def current(self) -> Snapshot:
        """The snapshot in force, without I/O. Raises StoreUnavailable where there is none."""

    @property
    def age(self) -> timedelta:
        """Since when it could not be compared with the store."""


class Journal(Protocol):
    """Where decisions become durable."""

    @property
    def healthy(self) -> bool:
        """Whether it takes records now."""

    @property
    def high_water(self) -> datetime | None:
        """The latest instant at which anything was decided (UTC)."""

    async def record(self, entry: Entry) -> Recorded:
        """Make the decision durable and answer the one that holds; cancelled means given up.

        Raises JournalUnavailable.
        """

    def disown(self, decision_id: str) -> None:
        """Mark a recorded decision as one that was not given."""


class Refreshes(Protocol):
    """Where new trust comes from."""

    def subscribed(self, entity_id: str) -> bool:
        """Whether the metadata of this IdP is fetched, so that looking early can help."""

    def report(self, signer: UnknownSigner, now: datetime) -> None:
        """Plausible evidence by this signer was denied at `now` (UTC). Never waits."""

    async def swapped(self) -> None:
        """Until another snapshot is in force. Whoever waits here makes changes be looked for at short intervals."""


class _NoRefreshes:
    """Nothing is fetched."""

    def subscribed(self, entity_id: str) -> bool:  # noqa: ARG002
        return False

    def report(self, signer: UnknownSigner, now: datetime) -> None:
        pass

    async def swapped(self) -> None:
        await asyncio.get_running_loop().create_future()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one request and of all together; durations in seconds."""

    deadline: float = 2.0
    max_body_bytes: int = 1_048_576
    max_in_flight: int = 512
    clock_tolerance: timedelta = timedelta(seconds=5)
    store_grace: timedelta = timedelta(minutes=15)
    cool_down: float = 60.0


@dataclass(slots=True, kw_only=True)
class _Launch:
    """How far one request has come. `began` and `until` are times of the event loop."""

    began: float
    until: float
    plugin: str | None = None
    request: AccessRequest | None = None
    snapshot: Snapshot | None = None
    now: datetime | None = None
    decision_id: str = ""
    handed_over: bool = False

    @property
    def request_id(self) -> str:
        return "" if self.request is None else self.request.request_id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judgement:
    """What was decided, and whether by `decide` (then it can be decided again from its record)."""

    decision: Decision
    mode: Mode = Mode.ENFORCE
    judged: bool = False
    verified: VerifiedEvidence | None = None


_NOTHING_ASKED = AccessRequest(request_id="", upn="", evidence=())
_LAST_RESORT = json_reply(write_answer(deny_answer("", "", AccessReason.INTERNAL_ERROR.value)))


class Decisions:
    """The endpoint, as an ASGI application."""

    def __init__(
        self,
        *,
        snapshots: Snapshots,
        journal: Journal,
        authenticator: Authenticator,
        clock: Callable[[], datetime],
        limits: Limits,
        refreshes: Refreshes | None = None,
        at_stage: Callable[[str], None] | None = None,
    ) -> None:
        """`clock` answers UTC. `at_stage` is called on entering each of STAGES; tests make it raise."""
        self._snapshots = snapshots
        self._journal = journal
        self._authenticator = authenticator
        self._clock = clock
        self._limits = limits
        self._refreshes: Refreshes = refreshes or _NoRefreshes()
        self._waves = Waves(cool_down=limits.cool_down, max_in_flight=limits.max_in_flight)
        self._enter = at_stage or _nothing
        self._remembered = Remembered()
        self._in_flight = 0

    @property
    def limits(self) -> Limits:
        """The bounds it keeps."""
        return self._limits

    @property
    def shedding(self) -> bool:
        """Whether another request would be turned away."""
        return self._in_flight >= self._limits.max_in_flight

    @property
    def in_flight(self) -> int:
        """Questions that are being decided."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Those of them that wait for new trust."""
        return self._waves.waiting

    def clock_trusted(self) -> bool:
        """Whether this machine's clock is not behind what it has recorded."""
        return self._is_trusted(self._clock())

    def _is_trusted(self, now: datetime) -> bool:
        high_water = self._journal.high_water
        return high_water is None or now >= high_water - self._limits.clock_tolerance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        began = asyncio.get_running_loop().time()
        launch = _Launch(began=began, until=began + self._limits.deadline)
        try:
            reply = await self._serve(scope, receive, launch)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - MemoryError and cancellation included: the answer is a deny
            reply = await self._broken(launch, error)
        if reply is not None:
            await reply.send(send)

    async def _serve(self, scope: Scope, receive: Receive, launch: _Launch) -> Reply | None:
        if scope["method"] != "POST":
            return problem(405, "method_not_allowed", headers=((b"allow", b"POST"),))
        self._enter("authenticate")
        caller = self._authenticator.identify(scope)
        if not isinstance(caller, Caller):
            client = scope.get("client")
            _log.warning("caller_refused", why=caller.name.lower(), peer=client[0] if client else None)
            code = "unauthorized" if caller.value == 401 else "forbidden"
            # A body that is still coming would reset a closed connection, and the answer would be lost.
            connection = connection_of(scope)
            closing = () if connection is not None and not connection.is_received else (CLOSE,)
            return problem(caller.value, code, headers=closing)
        launch.plugin = caller.name
        if self.shedding:
            return self._overloaded(launch)
        self._enter("receive")
        body = await _receive_body(scope, receive, self._limits.max_body_bytes)
        if not isinstance(body, bytes):
            return body
        if self.shedding:
            return self._overloaded(launch)
        self._in_flight += 1
        try:
            return await self._answer(body, launch)
        finally:
            self._in_flight -= 1

    async def _answer(self, body: bytes, launch: _Launch) -> Reply:
        launch.began = asyncio.get_running_loop().time()
        launch.until = launch.began + self._limits.deadline
        self._enter("parse")
        try:
            asked = read_question(body)
        except Malformed as error:
            _log.warning("question_malformed", plugin=launch.plugin, problem=str(error))
            return problem(400, "malformed", str(error))
        launch.request = asked.request
        self._enter("snapshot")
        try:
            snapshot = launch.snapshot = self._snapshots.current()
        except StoreUnavailable as error:
            _log.error("store_unavailable", problem=str(error))
            return self._reply(launch, _Judgement(decision=refused(AccessReason.STORE_UNAVAILABLE)))
        now = launch.now = self._clock()
        launch.decision_id = new_decision_id(now)
        self._enter("decide")
        judgement = self._judge(asked, snapshot, now)
        self._enter("reconsider")
        judgement = await self._reconsider(asked, launch, judgement)
        until = launch.until
        if asyncio.get_running_loop().time() >= until:
            judgement = _Judgement(decision=refused(AccessReason.DEADLINE))
            until += LAST_WORDS
        self._enter("record")
        judgement = await self._record(launch, judgement, until)
        self._enter("answer")
        return self._reply(launch, judgement)

    def _judge(self, asked: Asked, snapshot: Snapshot, now: datetime) -> _Judgement:
        if self._snapshots.age > self._limits.store_grace:
            return _Judgement(decision=refused(AccessReason.STORE_UNAVAILABLE))
        if not self._is_trusted(now):
            return _Judgement(decision=refused(AccessReason.CLOCK_UNTRUSTED))
        mode = mode_of(asked.request, snapshot)
        if asked.refusal is not None:
            return _Judgement(decision=asked.refusal, mode=mode)
        decision, verified = self._remembered.decide(asked.request, snapshot, now)
        return _Judgement(decision=decision, mode=mode, judged=True, verified=verified)

    async def _reconsider(self, asked: Asked, launch: _Launch, judgement: _Judgement) -> _Judgement:
        """The same judgement, or the one by new trust that came while the launch could wait for it."""
        decision, entity_id = judgement.decision, judgement.decision.entity_id
        if not judgement.judged or entity_id is None or decision.reason not in _UNKNOWN_SIGNER:
            return judgement
        judged_by = launch.snapshot, launch.now
        try:
            return await self._judged_by_new_trust(asked, launch, judgement, entity_id)
        except Exception as error:  # noqa: BLE001 - then the deny stands, with what it was judged by
            launch.snapshot, launch.now = judged_by
            with contextlib.suppress(Exception):
                _log.error("reconsidering_failed", decision_id=launch.decision_id, exc_info=error)
            return judgement

    async def _judged_by_new_trust(
        self, asked: Asked, launch: _Launch, judgement: _Judgement, entity_id: str
    ) -> _Judgement:
        """Report the signer, if its evidence is plausible, and judge again whenever certificates of its IdP change.

        It ends with the first judgement that no longer wants for the signer, or when the time to wait is over: the
        change that brings the new key may follow another, such as the end of an old one.
        """
        before, now = launch.snapshot, launch.now
        until = launch.until - RECORDING
        began = asyncio.get_running_loop().time()
        if before is None or now is None or began >= until or not self._refreshes.subscribed(entity_id):
            return judgement
        if not self._waves.may_look(entity_id, launch.plugin, began):
            return judgement
        signer = unknown_signer(asked.request, before, now)
        if signer is None:
            return judgement
        known = _certificates(before, entity_id)
        with self._waves.joined(entity_id, launch.plugin, began, until) as ends, contextlib.suppress(TimeoutError):
            self._refreshes.report(signer, now)
            async with asyncio.timeout_at(ends):
                while judgement.decision.reason in _UNKNOWN_SIGNER:
                    while _certificates(self._snapshots.current(), entity_id) == known:
                        await self._refreshes.swapped()
                    snapshot, now = self._snapshots.current(), self._clock()
                    known = _certificates(snapshot, entity_id)
                    judgement = self._judge(asked, snapshot, now)
                    launch.snapshot, launch.now = snapshot, now
        return judgement

    async def _record(self, launch: _Launch, judgement: _Judgement, until: float) -> _Judgement:
        """What holds once it is durable, or a deny because that did not come about in time.

        The journal records what is given up here as a deny `deadline`, or marks it as late (promise 2).
        """
        entry = Entry(
            decision_id=launch.decision_id,
            request=launch.request or _NOTHING_ASKED,
            snapshot=launch.snapshot or self._snapshots.current(),
            now=launch.now or self._clock(),
            decision=judgement.decision,
            plugin=launch.plugin,
            mode=judgement.mode,
            took=timedelta(seconds=asyncio.get_running_loop().time() - launch.began),
            judged=judgement.judged,
            verified=judgement.verified,
        )
        try:
            async with asyncio.timeout_at(until):
                launch.handed_over = True
                recorded = await self._journal.record(entry)
        except TimeoutError:
            return _Judgement(decision=refused(AccessReason.DEADLINE))
        except JournalUnavailable as error:
            _log.error("journal_unavailable", decision_id=launch.decision_id, problem=str(error))
            return _Judgement(decision=refused(AccessReason.JOURNAL_UNAVAILABLE))
        return _Judgement(decision=recorded.decision, mode=judgement.mode)

    async def _broken(self, launch: _Launch, error: BaseException) -> Reply:
        """A deny `internal_error`, recorded unless a record was asked for already."""
        try:
            deny = _Judgement(decision=refused(AccessReason.INTERNAL_ERROR))
            launch.decision_id = launch.decision_id or new_decision_id(self._clock())
            with contextlib.suppress(Exception):
                _log.error("internal_error", decision_id=launch.decision_id, plugin=launch.plugin, exc_info=error)
            if launch.handed_over:
                self._journal.disown(launch.decision_id)
            else:
                until = max(launch.until, asyncio.get_running_loop().time() + LAST_WORDS)
                await self._record(launch, deny, until)
            return self._reply(launch, _Judgement(decision=refused(AccessReason.INTERNAL_ERROR)))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 - what fails twice is still a deny
            return _LAST_RESORT

    def _reply(self, launch: _Launch, judgement: _Judgement) -> Reply:
        decision = judgement.decision
        mode = Mode.ENFORCE if isinstance(decision, Deny) and decision.reason in _OWN else judgement.mode
        answer = Answer(
            request_id=launch.request_id,
            decision_id=launch.decision_id,
            decision="allow" if isinstance(decision, Allow) or mode is Mode.OBSERVE else "deny",
            reason=str(decision.reason),
            rule=decision.rule if isinstance(decision, Allow) else None,
            security_context=decision.security_context if isinstance(decision, Allow) else None,
            mode=mode.value,
        )
        body = write_answer(answer)
        with contextlib.suppress(Exception):  # a log that cannot be written must not change a decision
            self._say(launch, answer, decision)
        return json_reply(body)

    def _say(self, launch: _Launch, answer: Answer, decision: Decision) -> None:
        """The one line per decision: nothing in it names the user or comes from unverified evidence."""
        took = asyncio.get_running_loop().time() - launch.began
        _log.info(
            "decision",
            decision_id=answer.decision_id,
            request_id=answer.request_id,
            decision=answer.decision,
            reason=answer.reason,
            mode=answer.mode,
            idp=decision.entity_id,
            plugin=launch.plugin,
            ms=round(took * 1000, 3),
            snapshot=None if launch.snapshot is None else launch.snapshot.version[:16],
        )

    def _overloaded(self, launch: _Launch) -> Reply:
        _log.warning("overloaded", plugin=launch.plugin, in_flight=self._in_flight)
        return problem(503, AccessReason.OVERLOADED.value, headers=((b"retry-after", b"1"),))


def _certificates(snapshot: Snapshot, entity_id: str) -> frozenset[str]:
    provider = snapshot.trust.providers.get(entity_id)
    return frozenset() if provider is None else frozenset(each.sha256 for each in provider.certificates)


def _nothing(_: str) -> None:
    """The hook in production."""


async def _receive_body(scope: Scope, receive: Receive, limit: int) -> bytes | Reply | None:
    """The whole body; or the problem to answer; or None where the caller has gone."""
    for name, value in scope["headers"]:
        if name == b"content-type" and value.split(b";")[0].strip().lower() != b"application/json":
            return problem(415, "unsupported_media_type", "Content-Type must be application/json")
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            return problem(415, "unsupported_media_type", "Content-Encoding is not supported")
        if name == b"content-length" and value.isdigit() and int(value[:20]) > limit:
            return _too_large(limit)
    if not any(name == b"content-type" for name, _ in scope["headers"]):
        return problem(415, "unsupported_media_type", "Content-Type must be application/json")
    chunks = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            return _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> Reply:
    return problem(413, "content_too_large", f"the body may have {limit} bytes at most")
