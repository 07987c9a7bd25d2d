"""`key`: which of the keys that IdPs sign with are trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from evidence_service.adapters.trust_store import HistoryEntry, StoredRollover
from evidence_service.cli import output
from evidence_service.cli.admin import certificate_cells, provenance_facts, told, trust_admin
from evidence_service.cli.errors import ExitCode
from evidence_service.cli.output import Output
from evidence_service.cli.session import Session, actor, confirm_typed
from evidence_service.trust_admin.keys import SHORTEST_PREFIX, KeyAct, act_on_key, named, plan_key_act
from evidence_service.trust_admin.texts import moment
from evidence_service.trust_admin.views import (
    CertificateView,
    certificate_problems,
    certificate_view_json,
    history_json,
    rollover_json,
    usage_json,
    view_idp,
    view_idps,
)
from idp_certs.rollover import Event


def list_keys(session: Session, entity_id: str | None, form: Output) -> int:
    """Print the signing certificates of one IdP, or of all, those that wait for a person included."""
    now = datetime.now(UTC)
    with session.store() as engine:
        admin = trust_admin(session, engine)
        views = view_idps(admin, now) if entity_id is None else (view_idp(admin, entity_id, now),)
    if form is Output.JSON:
        output.emit_json(
            [
                {"entity_id": view.idp.entity_id, **certificate_view_json(each, now)}
                for view in views
                for each in view.certificates
            ]
        )
        return ExitCode.DONE
    rows = []
    for view in views:
        for each in view.certificates:
            sha256, state, _, _, end, left, key, _ = certificate_cells(each.certificate, now, each.state)
            rows.append((sha256, state, end, left, key, view.idp.entity_id))
    columns = ("SHA-256", "state", "not after", "days left", "key", "entity ID")
    output.table(columns, rows, nothing="No key is known. Register an IdP: fas-evidence idp add --metadata FILE")
    for view in views:
        if view.idp.problem is not None:
            output.warning(f"{view.idp.entity_id}: {view.idp.problem}")
        for each in view.certificates:
            for text in certificate_problems(each.certificate, now):
                output.warning(f"certificate {each.certificate.sha256}: {text}")
    waiting = [each.rollover_id for view in views for each in view.certificates if each.rollover_id is not None]
    if waiting:
        output.line(f"Next: fas-evidence rollover show {waiting[0]}")
    return ExitCode.DONE


def show_key(session: Session, sha256: str, *, entity_id: str, form: Output) -> int:
    """Print where a key came from and everything that happened to it."""
    now = datetime.now(UTC)
    with session.store() as engine, told():
        admin = trust_admin(session, engine)
        view = view_idp(admin, entity_id, now)
        digest = named(admin, view.idp, sha256)[0].sha256
        history = admin.trust.history(entity_id, digest)
        rollovers = [
            each
            for each in admin.trust.list_rollovers()
            if each.entity_id == entity_id and digest in {certificate.sha256 for certificate, _ in each.withheld}
        ]
    certificate = next(each for each in view.certificates if each.certificate.sha256 == digest)
    if form is Output.JSON:
        output.emit_json(
            {
                "entity_id": entity_id,
                **certificate_view_json(certificate, now),
                "usage": usage_json(certificate.usage),
                "history": [history_json(each) for each in history],
                "rollovers": [rollover_json(each, now) for each in rollovers],
            }
        )
        return ExitCode.DONE
    _print_key(certificate, entity_id, history, now)
    _print_rollovers(certificate, rollovers)
    return ExitCode.DONE


def _print_key(view: CertificateView, entity_id: str, history: tuple[HistoryEntry, ...], now: datetime) -> None:
    certificate, usage = view.certificate, view.usage
    output.facts(
        (
            ("SHA-256", certificate.sha256),
            ("key SHA-256", certificate.key_sha256),
            ("entity ID", entity_id),
            ("state", view.state),
            ("since", certificate.since),
            ("announced", view.announced),
            ("trusted", view.trusted),
            ("missing since", view.absent_since),
            ("not before", certificate.x509.not_valid_before_utc),
            ("not after", certificate.x509.not_valid_after_utc),
            ("key", certificate.key_description),
            ("subject", certificate.subject),
            ("issuer", certificate.issuer),
            ("provenance", certificate.provenance),
            ("sign-ins", usage.sign_ins),
            ("launches", usage.launches),
            ("first used", usage.first_sign_in),
            ("last used", usage.last_sign_in),
        )
    )
    if view.advice is not None:
        output.line(f"It {view.advice.text}.")
    for text in certificate_problems(certificate, now):
        output.warning(f"certificate {certificate.sha256}: {text}")
    output.line("")
    output.line("History", "bold")
    if not history:
        output.line("Nothing is recorded.")
    for each in history:
        what = f"{each.event.value}: {each.before or 'new'} -> {each.after.value}, by {each.actor}"
        output.line(f"{moment(each.at)}  {what}")
        output.facts((f"  {name}", value) for name, value in _came(each.provenance))
    if usage.per_day:
        output.line("")
        output.line("Sign-ins per day (UTC)", "bold")
        days = sorted(usage.per_day.items(), reverse=True)[:31]
        output.table(("day", "sign-ins"), [(day.isoformat(), count) for day, count in days], nothing="None.")


def _print_rollovers(view: CertificateView, rollovers: Sequence[StoredRollover]) -> None:
    """How the certificate came, where it waited for a person."""
    if rollovers:
        output.line("")
        output.line("Waited for approval", "bold")
    for each in rollovers:
        decided = "" if each.decided_by is None else f" by {each.decided_by}"
        note = f": {each.note}" if each.note else ""
        output.line(f"{moment(each.first_seen)}  rollover {each.id}, {each.state.value}{decided}{note}")
        output.facts((f"  {name}", value) for name, value in _came(each.provenance))
    if view.rollover_id is not None:
        output.line(f"Next: fas-evidence rollover show {view.rollover_id}")


def _came(provenance: Mapping[str, Any]) -> list[tuple[str, object]]:
    document, signer = provenance.get("document_sha256"), provenance.get("signer")
    known = [("document SHA-256", document), ("signed by", signer)]
    return [*((name, value) for name, value in known if value), *provenance_facts(provenance)]


def change_key(
    session: Session, sha256: str, event: Event, *, entity_id: str, note: str, confirmed: bool, dry_run: bool
) -> int:
    """Revoke, reinstate, retire or approve; doing it twice changes nothing.

    What denies sign-ins, and what trusts a key again, is confirmed by the first digits of the SHA-256.

    Raises BadInput for what cannot be meant, NothingFound.
    """
    now = datetime.now(UTC)
    with session.store() as engine, told():
        admin = trust_admin(session, engine)
        planned = plan_key_act(admin, entity_id, sha256, event, now=now)
        if planned.is_done:
            output.line(f"The {planned.what} is {planned.before} already.")
            if dry_run:
                output.nothing_changed()
            return ExitCode.DONE
        for text in planned.warnings:
            output.warning(text)
        if dry_run:
            _tell(planned, [each.sha256 for each in planned.concerned], "would be")
            output.nothing_changed()
            return ExitCode.DONE
        if planned.asks:
            confirm_typed(planned.question, planned.named.sha256[:SHORTEST_PREFIX], confirmed=confirmed)
        changes = act_on_key(admin, planned, now=now, actor=actor(), note=note)
    _tell(planned, [each.certificate.sha256 for each in changes], "is")
    return ExitCode.DONE


def _tell(planned: KeyAct, digests: list[str], how: str) -> None:
    for each in digests:
        what = f"{how} {planned.verb.state}: {planned.consequence}"
        output.line(f"The certificate {each} of {planned.entity_id} {what}.")
