"""The rows of metadata sources: where metadata is fetched from, and what is remembered between attempts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from cryptography import x509
from sqlalchemy import Connection, Row, delete, insert, select

from evidence_service.adapters.database import source_states, sources
from evidence_service.adapters.idp_rows import REASONS, Conflict, is_sealed, json_text, printable, seal_row
from idp_certs.reasons import Finding, TrustReason

_MAX_URL = 2048
_SHA256_HEX = 64
MAX_COUNT = 2**53
_DAMAGED = "its stored row was changed from outside; set the source again, or remove it"
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """Where an IdP's metadata is fetched from, as an administrator set it.

    `ca_pem` replaces the system's certificate authorities, `pin_sha256` (hex) is the digest of the server's own
    certificate, `metadata_certificate` (DER) is the one that signs the metadata, such as a federation operator's.
    """

    url: str
    ca_pem: str | None = None
    pin_sha256: str | None = None
    metadata_certificate: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """What is remembered of a source between attempts. Times are UTC.

    `etag` to `cache_duration` belong to the newest accepted document, `served_at` is the Date of its answer;
    `hastened_at` is the latest attempt that was made early. `finding` is the latest failure, None after a success, and
    `problem_since` when that kind of failure began. `jitter` (0 to 1) was drawn once.
    """

    next_attempt_at: datetime
    jitter: float
    failures: int = 0
    attempted_at: datetime | None = None
    succeeded_at: datetime | None = None
    changed_at: datetime | None = None
    hastened_at: datetime | None = None
    etag: str | None = None
    last_modified: str | None = None
    document_sha256: str | None = None
    created: datetime | None = None
    valid_until: datetime | None = None
    cache_duration: timedelta | None = None
    served_at: datetime | None = None
    finding: Finding | None = None
    problem_since: datetime | None = None
    claimed_by: str | None = None
    claimed_until: datetime | None = None
    epoch: int = 0

    @property
    def problem(self) -> str | None:
        """The reason code of the latest failure."""
        return None if self.finding is None else self.finding.reason.value

    @property
    def problem_text(self) -> str | None:
        """The latest failure in words."""
        if self.finding is None:
            return None
        parts = (("expected", self.finding.expected), ("got", self.finding.presented), ("at", self.finding.where))
        return "; ".join(f"{name} {value}" for name, value in parts if value)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSource:
    """A metadata source. `problem` says why its row cannot be trusted; then it is not fetched (promise 23)."""

    entity_id: str
    config: SourceConfig
    added_at: datetime
    added_by: str
    state: SourceState
    problem: str | None = None


def checked_source(config: SourceConfig) -> SourceConfig:
    """The source with its pin in lower-case digits. Raises Conflict for what could never be fetched or verified."""
    if not config.url.startswith("https://") or not config.url.isprintable() or len(config.url) > _MAX_URL:
        raise Conflict(f"url: the metadata address must be an https address of at most {_MAX_URL} characters")
    pin = None if config.pin_sha256 is None else config.pin_sha256.replace(":", "").lower()
    if pin is not None and (len(pin) != _SHA256_HEX or not set(pin) <= set("0123456789abcdef")):
        raise Conflict("pin_sha256 must be the SHA-256 of the server's certificate as 64 hexadecimal digits")
    if config.ca_pem is not None:
        try:
            x509.load_pem_x509_certificates(config.ca_pem.encode())
        except ValueError as error:
            raise Conflict("ca_pem cannot be read; give certificate authorities as PEM") from error
    if config.metadata_certificate is not None:
        try:
            x509.load_der_x509_certificate(config.metadata_certificate)
        except ValueError as error:
            raise Conflict("metadata_certificate cannot be read; give one X.509 certificate") from error
    return replace(config, pin_sha256=pin)


def read_sources(connection: Connection) -> tuple[StoredSource, ...]:
    """All sources by entity ID; damaged ones carry their `problem`."""
    states = {row.entity_id: row for row in connection.execute(select(source_states))}
    rows = connection.execute(select(sources).order_by(sources.c.entity_id))
    return tuple(_source(row, states.get(row.entity_id)) for row in rows)


def find_source(connection: Connection, entity_id: str) -> StoredSource | None:
    """The source of one IdP, damaged or not; None without one."""
    row = connection.execute(select(sources).where(sources.c.entity_id == entity_id)).one_or_none()
    if row is None:
        return None
    state = connection.execute(select(source_states).where(source_states.c.entity_id == entity_id)).one_or_none()
    return _source(row, state)


def write_source(
    connection: Connection, stored: StoredSource, *, document_values: Mapping[str, object] | None = None
) -> None:
    """Store a source anew, with its schedule and what `document_values` says of the accepted document, and seal it."""
    delete_source(connection, stored.entity_id)
    config, state = stored.config, stored.state
    connection.execute(
        insert(sources).values(
            entity_id=stored.entity_id,
            url=config.url,
            ca_pem=config.ca_pem,
            pin_sha256=config.pin_sha256,
            metadata_certificate=config.metadata_certificate,
            added_at=stored.added_at,
            added_by=stored.added_by,
            digest="",
        )
    )
    seal_row(connection, sources, sources.c.entity_id == stored.entity_id)
    connection.execute(
        insert(source_states).values(
            entity_id=stored.entity_id,
            next_attempt_at=state.next_attempt_at,
            jitter=state.jitter,
            epoch=state.epoch,
            **(document_values or {}),
        )
    )


def delete_source(connection: Connection, entity_id: str) -> bool:
    """Forget a source; returns whether there was one."""
    connection.execute(delete(source_states).where(source_states.c.entity_id == entity_id))
    return connection.execute(delete(sources).where(sources.c.entity_id == entity_id)).rowcount > 0


def finding_values(finding: Finding | None) -> dict[str, object]:
    """The columns of `source_states` that hold the latest failure."""
    if finding is None:
        return {"problem": None, "problem_text": None}
    text = json_text([finding.expected, finding.presented, finding.where])
    return {"problem": finding.reason.value, "problem_text": text}


def _finding(row: Row[Any]) -> Finding | None:
    if row.problem is None:
        return None
    with contextlib.suppress(TypeError, ValueError, KeyError):
        expected, presented, where = json.loads(row.problem_text)
        return Finding(reason=REASONS[row.problem], expected=str(expected), presented=str(presented), where=str(where))
    # A code of newer software, or no text that we wrote: it failed, whatever the reason.
    return Finding(reason=TrustReason.METADATA_UNREACHABLE, presented=printable(str(row.problem)))


def _source(row: Row[Any], state: Row[Any] | None) -> StoredSource:
    sealed = is_sealed(row, "entity_id")
    problem = None if sealed else _DAMAGED
    if state is None:
        problem = problem or "what is remembered of it is missing; set the source again"
    config = SourceConfig(url=printable(str(row.url)))
    if sealed:
        config = SourceConfig(
            url=row.url,
            ca_pem=row.ca_pem,
            pin_sha256=row.pin_sha256,
            metadata_certificate=row.metadata_certificate,
        )
    return StoredSource(
        entity_id=printable(str(row.entity_id)),
        config=config,
        added_at=row.added_at,
        added_by=printable(str(row.added_by)),
        state=SourceState(next_attempt_at=row.added_at, jitter=0.0) if state is None else _state(state),
        problem=problem,
    )


def _state(row: Row[Any]) -> SourceState:
    """What is remembered has no seal: it changes at every attempt. What is malformed reads as not set."""
    duration = _count(row.cache_duration_us)
    return SourceState(
        next_attempt_at=row.next_attempt_at,
        jitter=min(max(_of(float, row.jitter) or 0.0, 0.0), 1.0),
        failures=_count(row.failures) or 0,
        attempted_at=row.attempted_at,
        succeeded_at=row.succeeded_at,
        changed_at=row.changed_at,
        hastened_at=row.hastened_at,
        etag=_of(str, row.etag),
        last_modified=_of(str, row.last_modified),
        document_sha256=_of(str, row.document_sha256),
        created=row.created,
        valid_until=row.valid_until,
        cache_duration=None if duration is None else timedelta(microseconds=duration),
        served_at=row.served_at,
        finding=_finding(row),
        problem_since=row.problem_since,
        claimed_by=_of(str, row.claimed_by),
        claimed_until=row.claimed_until,
        epoch=_count(row.epoch) or 0,
    )


def _of(kind: type[_Value], value: object) -> _Value | None:
    return value if isinstance(value, kind) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= MAX_COUNT else None
