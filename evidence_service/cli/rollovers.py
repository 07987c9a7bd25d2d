"""`rollover` and `alarm`: what waits for a person."""

from __future__ import annotations

from datetime import UTC, datetime

from evidence_service.adapters.trust_store import RolloverState, StoredRollover
from evidence_service.cli import output
from evidence_service.cli.admin import CERTIFICATE_COLUMNS, certificate_cells, provenance_facts, told, trust_admin
from evidence_service.cli.errors import BadInput, ExitCode
from evidence_service.cli.idps import SEVERITIES, span
from evidence_service.cli.output import Cell, Output
from evidence_service.cli.session import Session, actor, confirm
from evidence_service.trust_admin.acts import TrustAdmin
from evidence_service.trust_admin.texts import moment
from evidence_service.trust_admin.views import alarm_json, certificate_problems, find_rollover, rollover_json
from idp_certs.model import CertificateState

_STYLES = {RolloverState.HELD: "bold red", RolloverState.APPROVED: "green"}


def list_rollovers(session: Session, form: Output, *, everything: bool) -> int:
    """Print the rollovers that wait, or all."""
    now = datetime.now(UTC)
    with session.store() as engine:
        state = None if everything else RolloverState.HELD
        found = trust_admin(session, engine).trust.list_rollovers(state=state)
    if form is Output.JSON:
        output.emit_json([rollover_json(each, now) for each in found])
        return ExitCode.DONE
    rows = [
        (
            each.id,
            _state(each),
            ", ".join(certificate.sha256[:16] for certificate, _ in each.withheld),
            each.finding.reason.value,
            span(now - each.first_seen),
            each.entity_id,
        )
        for each in found
    ]
    columns = ("ID", "state", "certificates", "reason", "waits", "entity ID")
    output.table(columns, rows, nothing="No rollover." if everything else "No rollover waits for approval.")
    for each in found:
        if each.problem is not None:
            output.warning(f"rollover {each.id}: {each.problem}")
    waiting = [each.id for each in found if each.state is RolloverState.HELD]
    if waiting:
        output.line(f"Next: fas-evidence rollover show {waiting[0]}")
    return ExitCode.DONE


def _state(rollover: StoredRollover) -> Cell:
    if rollover.problem is not None:
        return Cell(value="damaged", style="bold red")
    return Cell(value=rollover.state.value, style=_STYLES.get(rollover.state, ""))


def show_rollover(session: Session, rollover_id: str, form: Output) -> int:
    """Print one rollover with its certificates and why it waits."""
    now = datetime.now(UTC)
    with session.store() as engine:
        rollover = _found(trust_admin(session, engine), rollover_id)
    if form is Output.JSON:
        output.emit_json(rollover_json(rollover, now))
        return ExitCode.DONE
    _print(rollover, now)
    if rollover.state is RolloverState.HELD and rollover.problem is None:
        output.line("Compare the fingerprints with the IdP's administrator.")
        output.line(f"Next: fas-evidence rollover approve {rollover.id}, or fas-evidence rollover reject {rollover.id}")
    return ExitCode.DONE


def _print(rollover: StoredRollover, now: datetime) -> None:
    finding = rollover.finding
    facts: list[tuple[str, object]] = [
        ("rollover", rollover.id),
        ("entity ID", rollover.entity_id),
        ("state", _state(rollover)),
        ("reason", finding.reason.value),
        ("meaning", finding.reason.meaning),
        ("expected", finding.expected),
        ("found", finding.presented),
        ("first seen", rollover.first_seen),
        ("last seen", f"{moment(rollover.last_seen)}; seen {_times(rollover.sightings)}"),
        ("document SHA-256", rollover.document_sha256),
        ("signed by", rollover.provenance.get("signer") or "no key that is trusted"),
    ]
    facts += provenance_facts(rollover.provenance)
    if rollover.decided_at is not None:
        facts.append(("decided", f"{moment(rollover.decided_at)} by {rollover.decided_by}"))
        facts.append(("note", rollover.note))
    output.facts(facts)
    if rollover.problem is not None:
        output.warning(rollover.problem)
    rows = [
        certificate_cells(certificate, now, "waiting" if before is None else f"waiting, was {before.value}")
        for certificate, before in rollover.withheld
    ]
    output.table(CERTIFICATE_COLUMNS, rows, nothing="No certificates.", short_digests=False)
    for certificate, _ in rollover.withheld:
        for text in certificate_problems(certificate, now):
            output.warning(f"certificate {certificate.sha256}: {text}")


def approve(session: Session, rollover_id: str, *, note: str, confirmed: bool, dry_run: bool) -> int:
    """Trust what waits, after it was shown."""
    now = datetime.now(UTC)
    with session.store() as engine:
        admin = trust_admin(session, engine)
        rollover = _found(admin, rollover_id)
        _check_open(rollover, RolloverState.HELD, RolloverState.REJECTED)
        _print(rollover, now)
        if dry_run:
            for certificate, before in rollover.withheld:
                state = CertificateState.ANNOUNCED if before is None else CertificateState.TRUSTED
                what = f"would be {state.value}: what it signs would be accepted"
                output.line(f"The certificate {certificate.sha256} of {rollover.entity_id} {what}.")
            output.nothing_changed()
            return ExitCode.DONE
        confirm("Trust these certificates?", f"approving rollover {rollover.id} trusts new keys", confirmed=confirmed)
        changes = admin.trust.approve_rollover(rollover.id, now=datetime.now(UTC), actor=actor(), note=note)
    for change in changes:
        what = f"is {change.certificate.state.value}: what it signs is accepted"
        output.line(f"The certificate {change.certificate.sha256} of {rollover.entity_id} {what}.")
    return ExitCode.DONE


def reject(session: Session, rollover_id: str, *, note: str, dry_run: bool) -> int:
    """Turn down what waits; it can be approved later."""
    with session.store() as engine:
        admin = trust_admin(session, engine)
        rollover = _found(admin, rollover_id)
        _check_open(rollover, RolloverState.HELD)
        if not dry_run:
            admin.trust.reject_rollover(rollover.id, now=datetime.now(UTC), actor=actor(), note=note)
    how = "would be" if dry_run else "is"
    output.line(f"Rollover {rollover.id} of {rollover.entity_id} {how} rejected: its certificates stay untrusted.")
    if dry_run:
        output.nothing_changed()
    return ExitCode.DONE


def _found(admin: TrustAdmin, rollover_id: str) -> StoredRollover:
    """The rollover with this ID, or whose ID begins so."""
    with told():
        return find_rollover(admin, rollover_id)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _check_open(rollover: StoredRollover, *states: RolloverState) -> None:
    """Whether it can be decided; the store asks again. Raises BadInput."""
    if rollover.problem is not None:
        raise BadInput(f"rollover {rollover.id}: {rollover.problem}")
    if rollover.state not in states:
        when = "" if rollover.decided_at is None else f" since {moment(rollover.decided_at)}"
        by = "" if rollover.decided_by is None else f", by {rollover.decided_by}"
        raise BadInput(f"rollover {rollover.id} is {rollover.state.value} already{when}{by}; nothing was changed")


def list_alarms(session: Session, form: Output) -> int:
    """Print what needs a person."""
    now = datetime.now(UTC)
    with session.store() as engine:
        found = trust_admin(session, engine).trust.open_alarms()
    if form is Output.JSON:
        output.emit_json([alarm_json(each) for each in found])
        return ExitCode.DONE
    rows = [
        (
            Cell(value=each.severity.value, style=SEVERITIES[each.severity]),
            each.kind,
            span(now - each.raised_at),
            each.entity_id,
            each.text,
        )
        for each in found
    ]
    output.table(("severity", "kind", "stands", "concerns", "finding"), rows, nothing="No alarm stands.")
    return ExitCode.DONE
