"""The rows of renewals: observations, steps and findings as JSON, exactly, and what people are shown of them.

What is read must be what was written here. A row that holds anything else is refused by name, so that no act follows
from it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from sqlalchemy import Row

from evidence_service.adapters.database import StoreUnavailable, from_microseconds, to_microseconds
from evidence_service.adapters.idp_rows import json_text, printable
from evidence_service.renewal.memory import Denial
from evidence_service.renewal.model import (
    ACTS,
    STEP_KINDS,
    Act,
    Ask,
    AskKind,
    Attempt,
    Import,
    Observation,
    Prove,
    Result,
    Step,
    StepKind,
    Withdraw,
)
from evidence_service.renewal.reasons import RenewalReason
from idp_certs.reasons import Finding, Reason, TrustReason

_T = TypeVar("_T")

REASONS: Mapping[str, Reason] = {each.value: each for each in (*TrustReason, *RenewalReason)}
"""Reasons by the codes that are stored."""
_STEPS = {kind.value: step for step, kind in STEP_KINDS.items()}


class DamagedRow(StoreUnavailable):
    """A stored row is not what this software wrote; `str()` names it and says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """One FAS server as last known. Times are UTC.

    `active`: it is configured. `problem` is why it does not answer since `problem_since`, `misses` how often running.
    `failures` counts acts that failed running, `not_before` ends the back-off after them. `paused_until` is
    `datetime.max` where only a person ends the pause. `last_failed` is the latest act that failed, however long ago;
    `denial` is the CA's last one, which no request or success followed; `attempts_count` counts the requests since a
    renewal last succeeded. `damage` says which stored rows cannot be read; what they hold is then missing here, and
    nothing is done at the server.
    """

    name: str
    active: bool
    jitter: float
    next_tick_at: datetime
    observation: Observation | None = None
    observed_at: datetime | None = None
    step: Step | None = None
    step_since: datetime | None = None
    problem: Finding | None = None
    problem_since: datetime | None = None
    misses: int = 0
    failures: int = 0
    not_before: datetime | None = None
    paused_until: datetime | None = None
    paused_by: str | None = None
    paused_note: str | None = None
    first_usable: Mapping[str, datetime]
    last_act: Attempt | None = None
    last_failed: Attempt | None = None
    denial: Denial | None = None
    attempts_count: int = 0
    asks: tuple[Ask, ...] = ()
    damage: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One act, or one thing that a person said: what, when (UTC), and who wanted it (`system:renewal` or a person).

    `what` is the kind of the act (`StepKind`), or `asked`, `settled`, `paused` or `resumed`. Of an act `attempt` says
    what came of it, and `why` why it was done. Of the others `note` is what the person said, `ask` the wish (None of a
    pause), `outcome` how it was settled, and `until` the end of a pause (None: until a person ends it).
    """

    server: str
    at: datetime
    what: str
    actor: str
    attempt: Attempt | None = None
    why: str = ""
    note: str = ""
    ask: AskKind | None = None
    outcome: str = ""
    until: datetime | None = None


SAID = {
    "renewal_asked": "asked",
    "renewal_settled": "settled",
    "renewal_paused": "paused",
    "renewal_resumed": "resumed",
}
"""What people said, by its name in the journal."""


WHY = {
    StepKind.REQUEST: "a certificate in use ends",
    StepKind.IMPORT: "the offline request was answered",
    StepKind.PROVE: "the new certificate is tested before anything in use names it",
    StepKind.ENTER_MAINTENANCE: "users go elsewhere while the definitions switch",
    StepKind.SWITCH: "the new certificate is proven",
    StepKind.VERIFY: "the definitions name the new certificate",
    StepKind.LEAVE_MAINTENANCE: "the definitions are switched or back",
    StepKind.RETIRE: "the new certificate has served for the soak, and nothing names the old one",
    StepKind.ROLL_BACK: "the new certificate does not serve",
    StepKind.WITHDRAW: "the request leads nowhere",
}
"""Why an act is done that carries no reason of its own."""


def why(act: Act, ask: Ask | None) -> str:
    """Why an act is done, in words; `ask` is what a person said who wanted it."""
    reason = getattr(act, "reason", None)
    text = WHY[STEP_KINDS[type(act)]] if reason is None else reason.meaning
    if isinstance(act, Prove) and act.definition is None:
        text = "the new certificate is checked as far as FAS describes it, before anything in use names it"
    if isinstance(act, Withdraw) and act.issued:
        text = f"{text} The certificate is issued, and nothing uses it."
    if isinstance(act, Withdraw) and act.denial:
        text = f"{text} The CA says: {act.denial.rstrip('.')}."
    return text if ask is None or not ask.note else f"{text} {ask.note}"


def encode(value: object) -> Any:  # noqa: ANN401 - JSON
    """A value of the renewal's model as JSON. Raises ValueError for an instant without a zone."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("an instant without a time zone cannot be stored")
        return value.astimezone(UTC).isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, frozenset):
        return sorted(encode(each) for each in value)
    if isinstance(value, tuple):
        return [encode(each) for each in value]
    if is_dataclass(value):
        return {each.name: encode(getattr(value, each.name)) for each in fields(value)}
    return value


def decode(hint: Any, value: object) -> Any:  # noqa: ANN401 - as the hint says
    """What `encode` made of a value of this type. Raises ValueError for anything else."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        (inner,) = (each for each in get_args(hint) if each is not type(None))
        return None if value is None else decode(inner, value)
    if origin in (tuple, frozenset):
        inner = get_args(hint)[0]
        return origin(decode(inner, each) for each in _exactly(list, value))
    if is_dataclass(hint):
        return _decode_fields(cast(type, hint), _exactly(dict, value))
    if hint is bytes:
        return base64.b64decode(_exactly(str, value), validate=True)
    if hint is datetime:
        instant = datetime.fromisoformat(_exactly(str, value))
        if instant.tzinfo is None:
            raise ValueError("an instant without a time zone")
        return instant.astimezone(UTC)
    if hint is Reason:
        if value not in REASONS:
            raise ValueError(f"{value!r} is no reason")
        return REASONS[cast(str, value)]
    if issubclass(hint, Enum):
        return hint(value)
    return _exactly(hint, value)


def _exactly(kind: type[_T], value: object) -> _T:
    if type(value) is not kind:  # a bool is no int here
        raise ValueError(f"a {type(value).__name__} instead of a {kind.__name__}")
    return value


def _decode_fields(kind: type[_T], content: Mapping[str, object]) -> _T:
    hints = _hints(cast(Hashable, kind))
    if unknown := sorted(content.keys() - hints.keys()):
        raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}")
    return kind(**{name: decode(hints[name], value) for name, value in content.items()})


@cache
def _hints(kind: Hashable) -> Mapping[str, Any]:
    return get_type_hints(kind)


def encode_step(step: Step) -> str:
    """A step as JSON text."""
    return json_text({"kind": STEP_KINDS[type(step)].value, **encode(step)})


def decode_step(text: str, where: str) -> Step:
    """What `encode_step` wrote. Raises DamagedRow, which names `where` it was."""

    def read(content: dict[str, object]) -> Step:
        kind = content.pop("kind", None)
        if not isinstance(kind, str) or kind not in _STEPS:
            raise ValueError(f"{kind!r} is no step")
        return cast(Step, _decode_fields(_STEPS[kind], content))

    return _read(text, where, read)


def step_detail(step: Step) -> dict[str, object]:
    """A step for the journal: what a person brought is named by its digest."""
    detail: dict[str, object] = encode(step)
    if isinstance(step, Import):
        detail["response"] = digest_of(step.response)
    return detail


def digest_of(content: bytes | None) -> str | None:
    """What the journal says of a file."""
    return None if content is None else f"sha256:{hashlib.sha256(content).hexdigest()}"


def encode_observation(observation: Observation) -> str:
    """What a server reported as JSON text, without the certificates themselves."""
    slim = tuple(replace(each, der=None) for each in observation.certificates)
    return json_text(encode(replace(observation, certificates=slim)))


def decode_observation(text: str, where: str) -> Observation:
    """What `encode_observation` wrote. Raises DamagedRow, which names `where` it was."""
    return _read(text, where, lambda content: _decode_fields(Observation, content))


def encode_finding(finding: Finding) -> str:
    """A finding as JSON text."""
    return json_text(encode(finding))


def decode_finding(text: str, where: str) -> Finding:
    """What `encode_finding` wrote. Raises DamagedRow, which names `where` it was."""
    return _read(text, where, lambda content: _decode_fields(Finding, content))


def encode_instants(instants: Mapping[str, datetime]) -> str:
    """Instants by id as JSON text."""
    return json_text({name: to_microseconds(instant) for name, instant in instants.items()})


def decode_instants(text: str, where: str) -> dict[str, datetime]:
    """What `encode_instants` wrote. Raises DamagedRow, which names `where` it was."""
    return _read(
        text,
        where,
        lambda content: {name: from_microseconds(_exactly(int, value)) for name, value in content.items()},
    )


def _read(text: object, where: str, read: Callable[[dict[str, object]], _T]) -> _T:
    try:
        return read(_exactly(dict, json.loads(_exactly(str, text))))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise _damaged(where, error) from error


def _damaged(where: str, error: Exception) -> DamagedRow:
    return DamagedRow(f"{where} was changed from outside ({printable(str(error))}); restore a backup of the database")


def read_attempt(row: Row[Any]) -> Attempt:
    """The act in a row of `renewal_acts`. Raises DamagedRow."""
    where = f"renewal_acts row {row.seq}"
    step = decode_step(row.act, where)
    if not isinstance(step, ACTS) or STEP_KINDS[type(step)].value != row.kind:
        raise _damaged(where, ValueError(f"{row.kind!r} is not what it holds"))
    try:
        result = None if row.result is None else Result(row.result)
    except ValueError as error:
        raise _damaged(where, error) from error
    return Attempt(
        seq=row.seq,
        step=step,
        at=row.at,
        result=result,
        result_at=row.result_at,
        certificate_id=row.certificate_id,
        finding=None if row.finding is None else decode_finding(row.finding, where),
    )


def read_attempts(rows: Sequence[Row[Any]]) -> tuple[Attempt, ...]:
    """The acts in rows of `renewal_acts`. Raises DamagedRow."""
    return tuple(read_attempt(row) for row in rows)


def read_ask(row: Row[Any]) -> Ask:
    """The wish in a row of `renewal_asks`. Raises DamagedRow."""
    try:
        return Ask(seq=row.seq, kind=AskKind(row.kind), at=row.at, actor=row.actor, note=row.note, payload=row.payload)
    except ValueError as error:
        raise _damaged(f"renewal_asks row {row.seq}", error) from error


def read_said(row: Row[Any]) -> HistoryEntry:
    """What a person said, from its row of `journal`. Raises DamagedRow."""

    def read(detail: dict[str, object]) -> HistoryEntry:
        kind = detail.get("kind")
        return HistoryEntry(
            server=row.subject,
            at=row.at,
            what=SAID[row.act],
            actor=row.actor,
            note=printable(_exactly(str, detail.get("note", ""))),
            ask=None if kind is None else AskKind(_exactly(str, kind)),
            outcome=printable(_exactly(str, detail.get("outcome", ""))),
            until=decode(datetime | None, detail.get("until")),
        )

    return _read(row.detail, f"journal row {row.seq}", read)


def read_problem(row: Row[Any]) -> Finding | None:
    """Why a server does not answer, from its row of `fas_servers`. Raises DamagedRow."""
    if row.problem is None:
        return None
    return decode_finding(row.problem_text, f"fas_servers row {row.name!r}, problem_text")
