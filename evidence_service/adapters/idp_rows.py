"""The rows of identity providers and their certificates, as every store reads, writes and seals them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, insert, select, update

from evidence_service.access.model import Policy
from evidence_service.access.policy import PolicyError, parse_policy
from evidence_service.adapters.database import (
    StoreUnavailable,
    certificate_history,
    certificates,
    config_state,
    idps,
    journal,
    to_microseconds,
)
from idp_certs.model import CertificateState, SigningCertificate
from idp_certs.reasons import TrustReason
from idp_certs.rollover import Change, TrackedCertificate

REASONS = {reason.value: reason for reason in TrustReason}
"""Reasons by the codes that are stored."""

_ORDER = {CertificateState.RETIRING: 1, CertificateState.RETIRED: 2, CertificateState.REVOKED: 3}


class NotFound(LookupError):  # noqa: N818 - an answer to a question
    """Nothing is stored under this name; `str()` is one line."""


class Conflict(ValueError):  # noqa: N818 - an answer to a request
    """What is asked contradicts what is stored, or itself; `str()` is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredIdp:
    """An identity provider as configured. Times are UTC.

    `refreshed_at` is when its source last confirmed what is held, None where none did since the import. `problem` says
    why the stored rows cannot be trusted (promise 23); then `certificates` is empty and `policy` allows nobody.
    """

    entity_id: str
    certificates: tuple[SigningCertificate, ...]
    policy: Policy
    enabled: bool
    document_sha256: str
    valid_until: datetime | None
    sso_urls: tuple[str, ...]
    imported_at: datetime
    imported_by: str
    refreshed_at: datetime | None = None
    problem: str | None = None


def json_text(value: object) -> str:
    """JSON that is the same for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def printable(text: str) -> str:
    """Text that every database takes and that stays on one line: what would not print is escaped."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def certificate_rows(connection: Connection, entity_id: str) -> Sequence[Row[Any]]:
    """The certificates of an IdP in their order."""
    statement = select(certificates).where(certificates.c.entity_id == entity_id)
    return connection.execute(statement.order_by(certificates.c.position, certificates.c.sha256)).all()


def read_tracked(row: Row[Any]) -> TrackedCertificate:
    """The certificate in a row of `certificates`. Raises ValueError and TypeError for a damaged one."""
    return TrackedCertificate(certificate=_certificate(row), absent_since=row.absent_since, absences=row.absences)


def _certificate(row: Row[Any]) -> SigningCertificate:
    return SigningCertificate(
        der=row.der, state=CertificateState(row.state), since=row.since, provenance=row.provenance
    )


def is_revoked(row: Row[Any]) -> bool:
    """Whether a row of `certificates` holds a revoked one; a damaged row does not."""
    try:
        return _certificate(row).state is CertificateState.REVOKED
    except (TypeError, ValueError):
        return False


def read_revoked_keys(connection: Connection, *, of_removed: bool = False) -> frozenset[str]:
    """SHA-256 of every key that is revoked anywhere, at IdPs that were removed too, or `of_removed` ones only."""
    statement = select(certificates).where(certificates.c.state == CertificateState.REVOKED.value)
    if of_removed:
        removed = select(idps.c.entity_id).where(idps.c.removed_at.is_not(None))
        statement = statement.where(certificates.c.entity_id.in_(removed))
    found = set()
    for row in connection.execute(statement):
        with contextlib.suppress(TypeError, ValueError):  # damaged, and its IdP is denied for that
            found.add(_certificate(row).key_sha256)
    return frozenset(found)


def read_idp(row: Row[Any], known: Sequence[Row[Any]]) -> StoredIdp:
    """The IdP in a row of `idps` and its rows of `certificates`; a damaged one carries its `problem`."""
    problem = _problem(row, known)
    policy = Policy()
    trusted: tuple[SigningCertificate, ...] = ()
    if problem is None:
        try:
            policy, trusted = parse_policy(row.policy), tuple(_certificate(each) for each in known)
        except PolicyError as error:
            problem = f"its stored policy is not usable: {error}"
        except ValueError as error:
            problem = f"a stored certificate is not usable: {error}"
    return StoredIdp(
        entity_id=row.entity_id if problem is None else printable(str(row.entity_id)),
        certificates=trusted,
        policy=policy,
        enabled=bool(row.enabled),
        document_sha256=row.document_sha256,
        valid_until=row.valid_until,
        sso_urls=() if problem else tuple(json.loads(row.sso_urls)),
        imported_at=row.imported_at,
        imported_by=row.imported_by,
        refreshed_at=row.refreshed_at,
        problem=problem,
    )


def read_idps(connection: Connection) -> tuple[StoredIdp, ...]:
    """All identity providers by entity ID, within the caller's transaction."""
    rows = connection.execute(select(idps).where(idps.c.removed_at.is_(None)).order_by(idps.c.entity_id)).all()
    known: dict[object, list[Row[Any]]] = {}
    for each in connection.execute(select(certificates).order_by(certificates.c.position, certificates.c.sha256)):
        known.setdefault(each.entity_id, []).append(each)
    return tuple(read_idp(row, known.get(row.entity_id, ())) for row in rows)


def find_idp(connection: Connection, entity_id: str) -> StoredIdp:
    """One identity provider, damaged or not, within the caller's transaction. Raises NotFound."""
    statement = select(idps).where(idps.c.entity_id == entity_id, idps.c.removed_at.is_(None))
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise NotFound(f"no identity provider {entity_id!r} is registered")
    return read_idp(row, certificate_rows(connection, entity_id))


def find_intact_idp(connection: Connection, entity_id: str) -> tuple[StoredIdp, tuple[TrackedCertificate, ...]]:
    """One identity provider with all of its certificates. Raises NotFound, and Conflict for a damaged one."""
    stored = find_idp(connection, entity_id)
    if stored.problem is not None:
        raise Conflict(f"{entity_id}: {stored.problem}")
    return stored, tuple(read_tracked(row) for row in certificate_rows(connection, entity_id))


def check_intact(row: Row[Any], known: Sequence[Row[Any]]) -> None:
    """Whether rows of an IdP, a removed one included, are as they were sealed. Raises Conflict."""
    problem = _problem(row, known)
    if problem is not None:
        raise Conflict(f"{row.entity_id}: {problem}")


def _problem(row: Row[Any], known: Sequence[Row[Any]]) -> str | None:
    try:
        if _idp_digest(row, known) == row.digest:
            return None
    except (TypeError, ValueError, AttributeError, OverflowError):
        pass  # a column of another type than we wrote
    return "its stored configuration was changed from outside; restore a backup, or remove the IdP and add it again"


def _idp_digest(row: Row[Any], known: Iterable[Row[Any]]) -> str:
    # What revision 0002 added counts only where it is set, so that seals from before it hold.
    instants = [row.valid_until, row.imported_at, row.removed_at]
    if row.refreshed_at is not None:
        instants.append(row.refreshed_at)
    content = [
        [row.entity_id, row.document_sha256, bool(row.enabled), row.policy, row.sso_urls, row.imported_by],
        [None if instant is None else to_microseconds(instant) for instant in instants],
        [_certificate_content(each) for each in known],
    ]
    return hashlib.sha256(json_text(content).encode()).hexdigest()


def _certificate_content(row: Row[Any]) -> list[object]:
    content = [row.sha256, row.der.hex(), row.state, to_microseconds(row.since), row.provenance]
    if row.absent_since is not None or row.absences != 0:
        content += [None if row.absent_since is None else to_microseconds(row.absent_since), row.absences]
    return content


def seal_idp(connection: Connection, entity_id: str) -> None:
    """Store the digest by which a later load finds a change that was not made here (promise 23)."""
    row = connection.execute(select(idps).where(idps.c.entity_id == entity_id)).one()
    digest = _idp_digest(row, certificate_rows(connection, entity_id))
    connection.execute(update(idps).where(idps.c.entity_id == entity_id).values(digest=digest))


def change_idp(connection: Connection, entity_id: str, **values: object) -> StoredIdp:
    """Set columns of an intact IdP and seal it again; returns it as it was. Raises NotFound and Conflict."""
    before, _ = find_intact_idp(connection, entity_id)
    connection.execute(update(idps).where(idps.c.entity_id == entity_id).values(**values))
    seal_idp(connection, entity_id)
    return before


def replace_certificates(connection: Connection, entity_id: str, outcome: Iterable[TrackedCertificate]) -> None:
    """Store exactly these certificates; the caller seals the IdP.

    The good ones come first: signatures are tried with a limited number of certificates, in this order.
    """
    ordered = sorted(outcome, key=lambda each: _ORDER.get(each.certificate.state, 0))
    connection.execute(delete(certificates).where(certificates.c.entity_id == entity_id))
    if not ordered:
        return
    connection.execute(
        insert(certificates),
        [
            {
                "entity_id": entity_id,
                "sha256": each.certificate.sha256,
                "der": each.certificate.der,
                "state": each.certificate.state.value,
                "since": each.certificate.since,
                "provenance": each.certificate.provenance,
                "position": position,
                "absent_since": each.absent_since,
                "absences": each.absences,
            }
            for position, each in enumerate(ordered)
        ],
    )


def write_history(
    connection: Connection,
    entity_id: str,
    changes: Iterable[Change],
    *,
    now: datetime,
    actor: str,
    provenance: Mapping[str, Any],
) -> None:
    """Remember each change of a certificate and what vouched for it (promise 41)."""
    rows = [
        {
            "entity_id": entity_id,
            "sha256": each.certificate.sha256,
            "at": now,
            "event": each.event.value,
            "before": None if each.before is None else each.before.value,
            "after": each.certificate.state.value,
            "actor": printable(actor),
            "provenance": json_text(
                {
                    **provenance,
                    "certificate": each.certificate.provenance,
                    **({} if each.voucher is None else {"voucher": each.voucher.value}),
                }
            ),
        }
        for each in changes
    ]
    if rows:
        connection.execute(insert(certificate_history), rows)


def content_digest(row: Row[Any]) -> str:
    """The digest of a row that has a seal of its own."""
    content: dict[str, object] = {}
    for name, value in row._mapping.items():  # noqa: SLF001 - the documented way to a row's names
        if isinstance(value, datetime):
            content[name] = to_microseconds(value)
        elif isinstance(value, bytes):
            content[name] = {"hex": value.hex()}
        elif name != "digest":
            content[name] = value
    return hashlib.sha256(json_text(content).encode()).hexdigest()


def seal_row(connection: Connection, table: Table, this: ColumnElement[bool]) -> None:
    """As `seal_idp`, for one row that has a seal of its own."""
    row = connection.execute(select(table).where(this)).one()
    connection.execute(update(table).where(this).values(digest=content_digest(row)))


def is_sealed(row: Row[Any], key: str) -> bool:
    """Whether a row is as it was sealed, and its column `key` is text."""
    return isinstance(row._mapping[key], str) and bool(content_digest(row) == row.digest)  # noqa: SLF001 - as above


def write_act(
    connection: Connection, *, now: datetime, actor: str, act: str, subject: str, detail: Mapping[str, Any]
) -> None:
    """Append to the journal; the caller raises the counter."""
    connection.execute(
        insert(journal).values(
            at=now, actor=printable(actor), act=act, subject=printable(subject), detail=json_text(detail)
        )
    )


def raise_counter(connection: Connection, *, trust_changed_at: datetime | None) -> None:
    """Tell running processes to look; `trust_changed_at`: decisions depend on what changed."""
    values: dict[str, Any] = {"counter": config_state.c.counter + 1}
    if trust_changed_at is not None:
        values["trust_changed_at"] = trust_changed_at
    if connection.execute(update(config_state).values(**values)).rowcount != 1:
        # Nobody would notice the change.
        raise StoreUnavailable("the database lacks its configuration counter; restore a backup")


def record_act(
    connection: Connection,
    *,
    now: datetime,
    actor: str,
    act: str,
    subject: str,
    detail: Mapping[str, Any],
    trust: bool = True,
) -> None:
    """Append to the journal and raise the counter; `trust`: decisions depend on what changed."""
    write_act(connection, now=now, actor=actor, act=act, subject=subject, detail=detail)
    raise_counter(connection, trust_changed_at=now if trust else None)
