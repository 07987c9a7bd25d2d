"""The rows of rollovers: certificates that wait, or waited, for a person."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select
from sqlalchemy.dialects.sqlite import insert as upsert

from evidence_service.adapters.database import rollovers
from evidence_service.adapters.idp_rows import REASONS, is_sealed, json_text, printable, seal_row
from idp_certs.model import GOOD, CertificateState, SigningCertificate
from idp_certs.reasons import Finding, TrustReason
from idp_certs.rollover import TrackedCertificate

Withheld = Sequence[tuple[SigningCertificate, CertificateState | None]]
"""Certificates that wait, each with its state before (None: never known)."""

_DAMAGED = "its stored row was changed from outside; reject it, and the next refresh holds anew what still waits"


class RolloverState(StrEnum):
    """What became of certificates that waited for a person."""

    HELD = "held"
    APPROVED = "approved"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRollover:
    """Certificates that wait, or waited, for a person, each with its state before (None: never known). Times are UTC.

    `finding` says why they wait. `problem` says why the row cannot be trusted; then nothing is withheld in it and it
    cannot be approved.
    """

    id: str
    entity_id: str
    state: RolloverState
    document_sha256: str
    withheld: tuple[tuple[SigningCertificate, CertificateState | None], ...]
    finding: Finding
    provenance: Mapping[str, Any]
    first_seen: datetime
    last_seen: datetime
    sightings: int
    decided_at: datetime | None = None
    decided_by: str | None = None
    note: str | None = None
    problem: str | None = None


def rollover_id(entity_id: str, withheld: Withheld) -> str:
    """The name of the hold of these certificates: the same ones have the same, whenever they are seen."""
    content = [entity_id, sorted(certificate.sha256 for certificate, _ in withheld)]
    return hashlib.sha256(json_text(content).encode()).hexdigest()[:16]


def read_rollovers(connection: Connection, *conditions: ColumnElement[bool]) -> tuple[StoredRollover, ...]:
    """Rollovers, oldest first; damaged ones carry their `problem`."""
    statement = select(rollovers).where(*conditions).order_by(rollovers.c.first_seen, rollovers.c.id)
    return tuple(_read(row) for row in connection.execute(statement))


def write_rollover(connection: Connection, stored: StoredRollover) -> None:
    """Store it, in place of what has its name, and seal it."""
    values = {
        "entity_id": stored.entity_id,
        "state": stored.state.value,
        "document_sha256": stored.document_sha256,
        "certificates": json_text(
            [
                {
                    "sha256": certificate.sha256,
                    "der": base64.b64encode(certificate.der).decode(),
                    "before": None if before is None else before.value,
                }
                for certificate, before in stored.withheld
            ]
        ),
        "reason": stored.finding.reason.value,
        "expected": stored.finding.expected,
        "presented": stored.finding.presented,
        "provenance": json_text(dict(stored.provenance)),
        "first_seen": stored.first_seen,
        "last_seen": stored.last_seen,
        "sightings": stored.sightings,
        "decided_at": stored.decided_at,
        "decided_by": stored.decided_by,
        "note": stored.note,
    }
    statement = upsert(rollovers).values(id=stored.id, **values, digest="")
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
    seal_row(connection, rollovers, rollovers.c.id == stored.id)


def supersede(connection: Connection, entity_id: str, *, except_id: str = "") -> tuple[str, ...]:
    """Let no hold of this IdP wait any more, but for one; returns the SHA-256 of the documents that made them."""
    ended = []
    for each in read_rollovers(connection, rollovers.c.entity_id == entity_id, rollovers.c.state == "held"):
        if each.id != except_id and each.problem is None:
            write_rollover(connection, replace(each, state=RolloverState.SUPERSEDED))
            ended.append(each.document_sha256)
    return tuple(ended)


def settle(connection: Connection, entity_id: str, known: Iterable[TrackedCertificate]) -> None:
    """Take what is decided by now out of what waits, or was rejected, for this IdP.

    What is left of a rollover is one of its own, from when the first was seen.
    """
    states = {each.certificate.sha256: each.certificate.state for each in known}
    final = {RolloverState.HELD: {*GOOD, CertificateState.REVOKED}, RolloverState.REJECTED: GOOD}
    for each in read_rollovers(
        connection, rollovers.c.entity_id == entity_id, rollovers.c.state.in_(("held", "rejected"))
    ):
        left = tuple(pair for pair in each.withheld if states.get(pair[0].sha256) not in final[each.state])
        if each.problem is not None or len(left) == len(each.withheld):
            continue
        write_rollover(connection, replace(each, state=RolloverState.SUPERSEDED))
        if left:
            write_rollover(connection, replace(each, id=rollover_id(entity_id, left), withheld=left))


def _read(row: Row[Any]) -> StoredRollover:
    if is_sealed(row, "id"):
        with contextlib.suppress(TypeError, ValueError, KeyError):  # written by newer software
            return _intact(row)
    return StoredRollover(
        id=printable(str(row.id)),
        entity_id=printable(str(row.entity_id)),
        state=RolloverState(row.state) if row.state in tuple(RolloverState) else RolloverState.HELD,
        document_sha256=printable(str(row.document_sha256)),
        withheld=(),
        finding=Finding(reason=TrustReason.METADATA_KEY_WITHHELD),
        provenance={},
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        sightings=0,
        decided_at=row.decided_at,
        decided_by=None if row.decided_by is None else printable(str(row.decided_by)),
        note=None if row.note is None else printable(str(row.note)),
        problem=_DAMAGED,
    )


def _intact(row: Row[Any]) -> StoredRollover:
    provenance = json.loads(row.provenance)
    text = f"metadata sha256:{row.document_sha256} from {provenance.get('source', 'an unknown source')}"
    withheld = []
    for each in json.loads(row.certificates):
        before = None if each["before"] is None else CertificateState(each["before"])
        certificate = SigningCertificate(
            der=base64.b64decode(each["der"]),
            state=before or CertificateState.ANNOUNCED,
            since=row.first_seen,
            provenance=text,
        )
        withheld.append((certificate, before))
    return StoredRollover(
        id=row.id,
        entity_id=row.entity_id,
        state=RolloverState(row.state),
        document_sha256=row.document_sha256,
        withheld=tuple(withheld),
        finding=Finding(
            reason=REASONS[row.reason],
            expected=row.expected,
            presented=row.presented,
            where="IDPSSODescriptor.KeyDescriptor",
        ),
        provenance=provenance,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        sightings=row.sightings,
        decided_at=row.decided_at,
        decided_by=row.decided_by,
        note=row.note,
    )
