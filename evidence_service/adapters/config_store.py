"""What administrators configure: identity providers, FAS rules, plug-in identities, and the journal of their acts.

Every change is one transaction that also appends to the journal and raises the configuration counter, by which
running processes notice it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from cryptography import x509
from sqlalchemy import Connection, Engine, Row, delete, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from evidence_service.access.model import FasRule, Mode, Policy
from evidence_service.access.policy import PolicyError, dump_policy, parse_policy
from evidence_service.adapters.database import (
    alarms,
    certificates,
    clock,
    documents,
    idps,
    journal,
    plugins,
    reading,
    rules,
    source_states,
    sources,
    unknown_signers,
    writing,
)
from evidence_service.adapters.idp_rows import (
    Conflict,
    NotFound,
    StoredIdp,
    certificate_rows,
    change_idp,
    check_intact,
    find_idp,
    is_revoked,
    is_sealed,
    json_text,
    printable,
    read_idps,
    read_revoked_keys,
    read_tracked,
    record_act,
    replace_certificates,
    seal_idp,
    seal_row,
    write_history,
)
from evidence_service.adapters.rollover_rows import settle, supersede
from idp_certs.metadata import IdpMetadata
from idp_certs.model import SigningCertificate
from idp_certs.reasons import Finding, Refused, TrustReason
from idp_certs.rollover import ProviderTrust, plan_import

__all__ = (
    "Act",
    "ConfigStore",
    "Conflict",
    "IdpChange",
    "NotFound",
    "PluginKind",
    "StoredIdp",
    "StoredPlugin",
    "printable",
    "read_idps",
    "read_plugins",
    "read_rules",
)

_MAX_NAME = 256
_SHA256_HEX = 64


class PluginKind(StrEnum):
    """How a plug-in proves who it is."""

    CERTIFICATE = "certificate"
    BEARER = "bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdpChange:
    """What an import did, or would do.

    `added` are new; `kept` were known and stay as they are, revoked ones included; `gone` left the document and are
    retiring now; `returned` had left earlier and are trusted again. `problems` are for the administrator to read.
    """

    entity_id: str
    created: bool
    added: tuple[SigningCertificate, ...]
    kept: tuple[SigningCertificate, ...]
    gone: tuple[SigningCertificate, ...]
    returned: tuple[SigningCertificate, ...] = ()
    problems: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlugin:
    """A credential of a plug-in, which has a second one while it is rotated. Times UTC.

    `fingerprint` is the SHA-256 (hex) of the certificate or of the bearer key. `problem` says why the stored row
    cannot be trusted; such a credential is refused and has no certificate here.
    """

    name: str
    kind: PluginKind
    fingerprint: str
    certificate_der: bytes | None
    enrolled_at: datetime
    enrolled_by: str
    revoked_at: datetime | None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One entry of the journal: who did what to which subject, when (UTC)."""

    seq: int
    at: datetime
    actor: str
    act: str
    subject: str
    detail: Mapping[str, Any]


class ConfigStore:
    """Reads and changes the configuration. Every method may raise StoreUnavailable; every `now` is aware."""

    def __init__(self, engine: Engine) -> None:
        """Work on an open database."""
        self._engine = engine

    def add_idp(
        self,
        *,
        metadata: IdpMetadata,
        document: bytes,
        policy: Policy | None,
        now: datetime,
        actor: str,
        dry_run: bool = False,
        origin: Mapping[str, Any] | None = None,
    ) -> IdpChange:
        """Register an IdP from metadata, or update the one with this entity ID.

        An update without `policy` keeps the stored one. A revoked certificate, or a new certificate for a revoked
        key, stays revoked; whatever else the document lists is trusted. `origin` says in JSON how the document came,
        where it is no file. Raises Refused (`metadata_no_cert`, `metadata_expired`) and Conflict for a damaged row.
        """
        if metadata.valid_until is not None and metadata.valid_until <= now:
            raise Refused(
                TrustReason.METADATA_EXPIRED,
                expected=f"validUntil after {now.isoformat()}",
                presented=metadata.valid_until.isoformat(),
                where="EntityDescriptor.validUntil",
            )
        digest = hashlib.sha256(document).hexdigest()
        told = {"source": "upload", **(origin or {}), "document_sha256": digest, "imported_by": printable(actor)}
        provenance = f"metadata sha256:{digest} imported by {printable(actor)}"
        with reading(self._engine) if dry_run else writing(self._engine) as connection:
            row = connection.execute(select(idps).where(idps.c.entity_id == metadata.entity_id)).one_or_none()
            known = certificate_rows(connection, metadata.entity_id)
            created = row is None or row.removed_at is not None
            if row is not None:
                check_intact(row, known)
            before = ProviderTrust(
                entity_id=metadata.entity_id,
                certificates=tuple(map(read_tracked, known)),
                revoked_keys=read_revoked_keys(connection),
            )
            plan = plan_import(before, metadata, provenance=provenance, now=now)
            change = IdpChange(
                entity_id=metadata.entity_id,
                created=created,
                added=plan.added,
                kept=plan.kept,
                gone=plan.gone,
                returned=plan.returned,
                problems=plan.problems,
            )
            if dry_run:
                return change
            connection.execute(
                upsert(documents)
                .values(sha256=digest, content=document, stored_at=now)
                .on_conflict_do_nothing(index_elements=["sha256"])
            )
            values: dict[str, Any] = {
                "document_sha256": digest,
                "valid_until": metadata.valid_until,
                "sso_urls": json_text(list(metadata.sso_urls)),
                "imported_at": now,
                "imported_by": printable(actor),
                "removed_at": None,
                "refreshed_at": None,
                "digest": "",
            }
            if row is None:
                values |= {"enabled": True, "policy": _policy_text(policy or Policy())}
                connection.execute(insert(idps).values(entity_id=metadata.entity_id, **values))
            else:
                if created:
                    values["enabled"] = True
                if policy is not None or created:
                    values["policy"] = _policy_text(policy or Policy())
                connection.execute(update(idps).where(idps.c.entity_id == metadata.entity_id).values(**values))
            replace_certificates(connection, metadata.entity_id, plan.certificates)
            seal_idp(connection, metadata.entity_id)
            write_history(connection, metadata.entity_id, plan.changes, now=now, actor=actor, provenance=told)
            settle(connection, metadata.entity_id, plan.certificates)
            # What the source served before is not what is in force, and a person may go back to an older document.
            connection.execute(
                update(source_states)
                .where(source_states.c.entity_id == metadata.entity_id)
                .values(
                    etag=None,
                    last_modified=None,
                    document_sha256=None,
                    created=metadata.created,
                    valid_until=metadata.valid_until,
                    cache_duration_us=None,
                )
            )
            detail = {
                **told,
                "problems": [finding.reason.value for finding in change.problems],
                **{
                    name: [certificate.sha256 for certificate in getattr(change, name)]
                    for name in ("added", "kept", "gone", "returned")
                },
            }
            if policy is not None:
                detail["policy"] = dump_policy(policy)
            act = "idp_added" if created else "idp_updated"
            record_act(connection, now=now, actor=actor, act=act, subject=metadata.entity_id, detail=detail)
            return change

    def list_idps(self) -> tuple[StoredIdp, ...]:
        """All identity providers by entity ID; damaged ones carry their `problem`."""
        with reading(self._engine) as connection:
            return read_idps(connection)

    def get_idp(self, entity_id: str) -> StoredIdp:
        """One identity provider. Raises NotFound."""
        with reading(self._engine) as connection:
            return find_idp(connection, entity_id)

    def get_document(self, sha256: str) -> bytes:
        """A metadata document as it was imported. Raises NotFound."""
        with reading(self._engine) as connection:
            content = connection.scalar(select(documents.c.content).where(documents.c.sha256 == sha256))
        if content is None:
            raise NotFound(f"no metadata document with the SHA-256 {sha256!r} is stored")
        return bytes(content)

    def remove_idp(self, entity_id: str, *, now: datetime, actor: str) -> None:
        """Stop knowing an IdP, and fetch its metadata no more. Its revoked certificates stay remembered.

        Raises NotFound.
        """
        with writing(self._engine) as connection:
            stored = find_idp(connection, entity_id)
            forgotten = [row.sha256 for row in certificate_rows(connection, entity_id) if not is_revoked(row)]
            connection.execute(
                delete(certificates).where(certificates.c.entity_id == entity_id, certificates.c.sha256.in_(forgotten))
            )
            connection.execute(
                update(idps)
                .where(idps.c.entity_id == entity_id)
                .values(removed_at=now, enabled=False, policy=dump_policy(Policy()))
            )
            seal_idp(connection, entity_id)
            for table in (source_states, sources, unknown_signers):
                connection.execute(delete(table).where(table.c.entity_id == entity_id))
            supersede(connection, entity_id)
            standing = (
                alarms.c.about == "idp",
                alarms.c.entity_id == entity_id,
                alarms.c.cleared_at.is_(None),
            )
            connection.execute(update(alarms).where(*standing).values(cleared_at=now))
            detail = {
                "certificates": [certificate.sha256 for certificate in stored.certificates],
                "policy": dump_policy(stored.policy),
                "problem": stored.problem,
            }
            record_act(connection, now=now, actor=actor, act="idp_removed", subject=entity_id, detail=detail)

    def set_idp_enabled(
        self,
        entity_id: str,
        enabled: bool,  # noqa: FBT001 - the value that is set
        *,
        now: datetime,
        actor: str,
    ) -> None:
        """Enable or disable an IdP. Raises NotFound, and Conflict for a damaged row."""
        with writing(self._engine) as connection:
            change_idp(connection, entity_id, enabled=enabled)
            act = "idp_enabled" if enabled else "idp_disabled"
            record_act(connection, now=now, actor=actor, act=act, subject=entity_id, detail={})

    def set_policy(self, entity_id: str, policy: Policy, *, now: datetime, actor: str) -> None:
        """Replace the policy of an IdP. Raises NotFound, and Conflict for a damaged row."""
        with writing(self._engine) as connection:
            before = change_idp(connection, entity_id, policy=_policy_text(policy))
            detail = {"policy": dump_policy(policy), "before": dump_policy(before.policy)}
            record_act(connection, now=now, actor=actor, act="policy_set", subject=entity_id, detail=detail)

    def set_rule(self, rule: FasRule, *, now: datetime, actor: str) -> None:
        """Create or replace a FAS rule. Raises Conflict for an unusable name or age."""
        _check_name("rule", rule.name)
        if rule.max_age is not None and rule.max_age <= timedelta(0):
            raise Conflict("max_age of a rule must be more than 0; leave it out to use the IdP's")
        values = {
            "mode": rule.mode.value,
            "max_age_us": None if rule.max_age is None else rule.max_age // timedelta(microseconds=1),
            "entity_ids": None if rule.entity_ids is None else json_text(sorted(rule.entity_ids)),
        }
        with writing(self._engine) as connection:
            statement = upsert(rules).values(name=rule.name, **values, digest="")
            connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
            seal_row(connection, rules, rules.c.name == rule.name)
            record_act(connection, now=now, actor=actor, act="rule_set", subject=rule.name, detail=values)

    def list_rules(self) -> tuple[FasRule, ...]:
        """All FAS rules by name; one that was changed from outside as it is obeyed: it allows no IdP."""
        with reading(self._engine) as connection:
            return tuple(rule for rule, _ in read_rules(connection))

    def remove_rule(self, name: str, *, now: datetime, actor: str) -> None:
        """Remove a FAS rule. Raises NotFound."""
        with writing(self._engine) as connection:
            if connection.execute(delete(rules).where(rules.c.name == name)).rowcount == 0:
                raise NotFound(f"there is no FAS rule {name!r}")
            record_act(connection, now=now, actor=actor, act="rule_removed", subject=name, detail={})

    def enroll_plugin(
        self,
        *,
        name: str,
        certificate_der: bytes | None = None,
        bearer_key_sha256: str | None = None,
        now: datetime,
        actor: str,
        rotating: bool = False,
        dry_run: bool = False,
    ) -> StoredPlugin:
        """Let a plug-in ask, known by exactly one of certificate and bearer key (as its SHA-256 in hex).

        A name or credential serves once, revoked ones included. With `rotating` the plug-in is enrolled already, and
        this is its second credential: the first stays good until it is revoked. Raises Conflict, and NotFound where
        nothing is there to rotate.
        """
        _check_name("plug-in", name)
        kind, fingerprint = _credential(certificate_der, bearer_key_sha256)
        with reading(self._engine) if dry_run else writing(self._engine) as connection:
            _check_enrollment(read_plugins(connection), name, kind, fingerprint, rotating=rotating)
            stored = StoredPlugin(
                name=name,
                kind=kind,
                fingerprint=fingerprint,
                certificate_der=certificate_der,
                enrolled_at=now,
                enrolled_by=printable(actor),
                revoked_at=None,
            )
            if dry_run:
                return stored
            connection.execute(
                insert(plugins).values(
                    name=name,
                    kind=kind.value,
                    fingerprint=fingerprint,
                    certificate=certificate_der,
                    enrolled_at=now,
                    enrolled_by=stored.enrolled_by,
                    digest="",
                )
            )
            seal_row(connection, plugins, plugins.c.fingerprint == fingerprint)
            detail = {"kind": kind.value, "fingerprint": fingerprint}
            act = "plugin_credential_added" if rotating else "plugin_enrolled"
            record_act(connection, now=now, actor=actor, act=act, subject=name, detail=detail, trust=False)
            return stored

    def list_plugins(self) -> tuple[StoredPlugin, ...]:
        """All credentials by plug-in and age, revoked ones included; damaged ones carry their `problem`."""
        with reading(self._engine) as connection:
            return read_plugins(connection)

    def revoke_plugin(self, name: str, *, fingerprint: str | None = None, now: datetime, actor: str) -> None:
        """Refuse a plug-in from now on, or one of its credentials only. Raises NotFound where none is enrolled."""
        statement = select(plugins).where(plugins.c.name == name, plugins.c.revoked_at.is_(None))
        if fingerprint is not None:
            statement = statement.where(plugins.c.fingerprint == fingerprint.lower())
        with writing(self._engine) as connection:
            rows = connection.execute(statement.order_by(plugins.c.seq)).all()
            if not rows:
                which = "" if fingerprint is None else f" with the SHA-256 {fingerprint!r}"
                raise NotFound(f"no plug-in {name!r}{which} is enrolled")
            for row in rows:
                this = plugins.c.seq == row.seq
                connection.execute(update(plugins).where(this).values(revoked_at=now))
                seal_row(connection, plugins, this)
            detail = {"fingerprints": [printable(str(row.fingerprint)) for row in rows]}
            act = "plugin_revoked" if fingerprint is None else "plugin_credential_revoked"
            record_act(connection, now=now, actor=actor, act=act, subject=name, detail=detail, trust=False)

    def list_acts(self, *, limit: int = 100, before: int | None = None) -> tuple[Act, ...]:
        """Acts, newest first; `before` is the `seq` to go on from."""
        statement = select(journal).order_by(journal.c.seq.desc()).limit(limit)
        if before is not None:
            statement = statement.where(journal.c.seq < before)
        with reading(self._engine) as connection:
            return tuple(
                Act(
                    seq=row.seq,
                    at=row.at,
                    actor=row.actor,
                    act=row.act,
                    subject=row.subject,
                    detail=json.loads(row.detail),
                )
                for row in connection.execute(statement)
            )

    def reset_high_water(self, *, now: datetime, actor: str) -> datetime | None:
        """Forget instants later than `now`, after a clock that ran ahead was set right; returns the old mark."""
        with writing(self._engine) as connection:
            before: datetime | None = connection.scalar(select(clock.c.high_water))
            connection.execute(update(clock).values(high_water=now))
            detail = {"before": None if before is None else before.isoformat(), "after": now.isoformat()}
            record_act(
                connection, now=now, actor=actor, act="high_water_reset", subject="clock", detail=detail, trust=False
            )
            return before


def read_rules(connection: Connection) -> tuple[tuple[FasRule, str | None], ...]:
    """All FAS rules by name, within the caller's transaction, each with why its row cannot be trusted, if so.

    A damaged rule is there, enforced, and allows no IdP: were it left out, what it restricts could become free.
    """
    return tuple(_rule(row) for row in connection.execute(select(rules).order_by(rules.c.name)))


def read_plugins(connection: Connection) -> tuple[StoredPlugin, ...]:
    """All credentials by plug-in and age, oldest first, within the caller's transaction."""
    return tuple(_plugin(row) for row in connection.execute(select(plugins).order_by(plugins.c.name, plugins.c.seq)))


def _policy_text(policy: Policy) -> str:
    text = dump_policy(policy)
    try:
        if parse_policy(text) == policy:
            return text
    except PolicyError as error:
        raise Conflict(f"the policy cannot be stored: {error}") from error
    raise Conflict("the policy cannot be stored: it holds values finer than a policy file can say")


def _credential(certificate_der: bytes | None, bearer_key_sha256: str | None) -> tuple[PluginKind, str]:
    if (certificate_der is None) == (bearer_key_sha256 is None):
        raise Conflict("a plug-in needs either a certificate or a bearer key, and not both")
    if certificate_der is not None:
        try:
            x509.load_der_x509_certificate(certificate_der)
        except ValueError as error:
            raise Conflict("the plug-in's certificate cannot be read; give one X.509 certificate") from error
        return PluginKind.CERTIFICATE, hashlib.sha256(certificate_der).hexdigest()
    fingerprint = str(bearer_key_sha256).lower()
    if len(fingerprint) != _SHA256_HEX or not set(fingerprint) <= set("0123456789abcdef"):
        raise Conflict("bearer_key_sha256 must be the SHA-256 of the key as 64 hexadecimal digits")
    return PluginKind.BEARER, fingerprint


def _check_enrollment(
    known: Iterable[StoredPlugin], name: str, kind: PluginKind, fingerprint: str, *, rotating: bool
) -> None:
    """Whether this credential may be added. Raises Conflict and NotFound."""
    good = 0
    for each in known:
        state = "a revoked" if each.revoked_at is not None else "an enrolled"
        if each.fingerprint == fingerprint:
            raise Conflict(f"this {kind.value} already belongs to {state} plug-in, {each.name!r}")
        if each.name == name and not rotating:
            raise Conflict(f"{name!r} is already the name of {state} plug-in; choose another name")
        good += each.name == name and each.revoked_at is None and each.problem is None
    if rotating and not good:
        raise NotFound(f"no plug-in {name!r} is enrolled; enroll it first")
    if good > 1:
        raise Conflict(f"{name!r} has {good} credentials already; finish its rotation, or revoke one of them, first")


def _check_name(kind: str, name: str) -> None:
    if not name or len(name) > _MAX_NAME or not name.isprintable() or name != name.strip():
        raise Conflict(f"the name of a {kind} must be 1 to {_MAX_NAME} printable characters without outer blanks")


def _rule(row: Row[Any]) -> tuple[FasRule, str | None]:
    if is_sealed(row, "name"):
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # written by newer software
            return FasRule(
                name=row.name,
                mode=Mode(row.mode),
                max_age=None if row.max_age_us is None else timedelta(microseconds=row.max_age_us),
                entity_ids=None if row.entity_ids is None else frozenset(json.loads(row.entity_ids)),
            ), None
    problem = "its stored row was changed from outside; set the rule again, or remove it"
    return FasRule(name=printable(str(row.name)), mode=Mode.ENFORCE, entity_ids=frozenset()), problem


def _plugin(row: Row[Any]) -> StoredPlugin:
    sealed = is_sealed(row, "name") and row.kind in tuple(PluginKind)
    return StoredPlugin(
        name=printable(str(row.name)),
        kind=PluginKind.BEARER if row.kind == PluginKind.BEARER else PluginKind.CERTIFICATE,
        fingerprint=printable(str(row.fingerprint)),
        certificate_der=row.certificate if sealed else None,
        enrolled_at=row.enrolled_at,
        enrolled_by=printable(str(row.enrolled_by)),
        revoked_at=row.revoked_at,
        problem=None if sealed else "its stored row was changed from outside; revoke it and enroll another",
    )
