"""`idp subscribe`, `unsubscribe`, `refresh`, `diff`: metadata that is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from evidence_service.adapters.trust_store import RolloverState, SourceConfig
from evidence_service.cli import output
from evidence_service.cli.admin import print_diff, told, trust_admin
from evidence_service.cli.errors import DependencyFailed, ExitCode
from evidence_service.cli.files import MAX_METADATA, MAX_SMALL, read_file, read_policy
from evidence_service.cli.idps import policy_missing
from evidence_service.cli.output import Output
from evidence_service.cli.session import Session, actor, confirm
from evidence_service.trust_admin.acts import (
    Looked,
    Subscription,
    SubscriptionPlan,
    TrustAdmin,
    headline,
    uploaded_metadata,
)
from evidence_service.trust_admin.documents import (
    PolicyMissing,
    SignedBy,
    SourceFailed,
    read_authorities,
    read_one_certificate,
    read_pin,
)
from evidence_service.trust_admin.texts import moment
from evidence_service.trust_admin.views import diff_json, fetched_json, outcome_json, refreshed_json
from idp_certs.model import Acceptance
from idp_certs.refresh import Outcome, RefreshOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of `idp subscribe`."""

    url: str
    entity_id: str | None
    policy: Path | None
    acceptance: str | None
    ca: Path | None
    pin: str | None
    metadata_certificate: Path | None


def subscribe(session: Session, asked: Asked, *, dry_run: bool, confirmed: bool, form: Output) -> int:
    """Fetch metadata now, show what it says, and fetch it by itself from then on."""
    labels: dict[str, object] = {
        "policy": asked.policy,
        "ca_pem": None if asked.ca is None else f"--ca {asked.ca}",
        "pin_sha256": "--pin",
        "metadata_certificate": None if asked.metadata_certificate is None else asked.metadata_certificate,
        "metadata_url": asked.url,
        "entity_id": asked.url,
    }
    with told(labels):
        wanted = _subscription(asked)
    now = datetime.now(UTC)
    with session.store_or_empty() as engine:
        plan = _plan(trust_admin(session, engine), wanted, labels, now)
    if form is Output.TABLE:
        _print_plan(plan, now)
    if not dry_run:
        question = "Trust these certificates, and fetch from there from now on?"
        if plan.imported is None:
            question = "Fetch from there from now on?"
        confirm(question, f"subscribing {plan.entity_id} to {wanted.source.url}", confirmed=confirmed)
    outcome = None
    if not dry_run:
        with session.store(create=True) as engine, told(labels):
            outcome = trust_admin(session, engine).subscribe_planned(plan, now=now, actor=actor())
    if form is Output.JSON:
        output.emit_json(
            {
                "entity_id": plan.entity_id,
                "registered": plan.imported is None or not dry_run,
                "dry_run": dry_run,
                **diff_json(plan.diff, plan.signature, now),
                "fetched": fetched_json(plan.fetched),
                "outcome": None if outcome is None else outcome_json(outcome),
            }
        )
    elif dry_run:
        output.nothing_changed()
    else:
        output.line(f"{plan.entity_id} is subscribed; its metadata is fetched by `fas-evidence work` from now on.")
    held = outcome is not None and outcome.outcome is Outcome.HELD
    if held and form is Output.TABLE:
        output.line(f"Next: fas-evidence rollover list, then fas-evidence rollover approve ID ({plan.entity_id} waits)")
    return ExitCode.NEGATIVE if held else ExitCode.DONE


def _subscription(asked: Asked) -> Subscription:
    certificate = asked.metadata_certificate
    return Subscription(
        source=SourceConfig(
            url=asked.url,
            ca_pem=None if asked.ca is None else read_authorities(read_file(asked.ca, "CA file", limit=MAX_SMALL)),
            pin_sha256=None if asked.pin is None else read_pin(asked.pin),
            metadata_certificate=None
            if certificate is None
            else read_one_certificate(
                "metadata_certificate", read_file(certificate, "metadata certificate", limit=MAX_SMALL)
            ),
        ),
        entity_id=asked.entity_id,
        policy=None if asked.policy is None else read_policy(asked.policy),
        acceptance=None if asked.acceptance is None else Acceptance(asked.acceptance),
    )


def _plan(admin: TrustAdmin, wanted: Subscription, labels: dict[str, object], now: datetime) -> SubscriptionPlan:
    with told(labels):
        try:
            return admin.plan_subscription(wanted, now=now, actor=actor())
        except PolicyMissing as problem:
            raise policy_missing(problem) from None


def _print_plan(plan: SubscriptionPlan, now: datetime) -> None:
    if plan.imported is not None:
        output.line(
            f"{plan.entity_id} is not registered yet. Compare these fingerprints with its administrator:", "bold"
        )
    else:
        output.line(f"{plan.entity_id} is registered; what it says is judged by what is trusted:", "bold")
    print_diff(plan.diff, plan.signature, now)
    fetched = plan.fetched
    output.line(
        f"Fetched from {fetched.final_url} at {fetched.address}, TLS certificate {fetched.tls_chain_sha256[0]}."
    )
    if plan.looked is not None and plan.looked.outcome.outcome is Outcome.HELD:
        output.line(headline(plan.looked), "yellow")
    if plan.acceptance is Acceptance.CONTINUITY and plan.signature.by in (SignedBy.NOBODY, SignedBy.NOT_JUDGED):
        output.line(
            "No key vouches for an unsigned document, so each new key will wait for your approval; "
            "--acceptance tls takes verified TLS for enough.",
            "yellow",
        )


def unsubscribe(session: Session, entity_id: str, *, dry_run: bool) -> int:
    """Fetch no more."""
    with session.store() as engine:
        admin = trust_admin(session, engine)
        url = admin.trust.get_source(entity_id).config.url
        if not dry_run:
            admin.unsubscribe(entity_id, now=datetime.now(UTC), actor=actor())
    word = "would no longer be" if dry_run else "is no longer"
    output.line(f"The metadata of {entity_id} {word} fetched from {url}; what is trusted stays.")
    if dry_run:
        output.nothing_changed()
    return ExitCode.DONE


def refresh(session: Session, entity_id: str, *, dry_run: bool, form: Output) -> int:
    """Fetch now and take over what old trust accepts: 0 taken over or unchanged, 1 held, 3 refused or not fetched."""
    now = datetime.now(UTC)
    with session.store() as engine, told():
        admin = trust_admin(session, engine)
        if dry_run:
            looked = admin.look(entity_id, now=now)
            _print_looked(looked, entity_id, form, now)
            if form is Output.TABLE:
                output.nothing_changed()
            return _code(looked.outcome)
        refreshed = admin.refresh(entity_id, now=now)
        outcome = refreshed.outcome
        held = [each.id for each in admin.trust.list_rollovers(state=RolloverState.HELD) if each.entity_id == entity_id]
    if form is Output.JSON:
        output.emit_json({**refreshed_json(refreshed), "rollovers": held})
        return _code(outcome)
    output.line(f"{entity_id}: {headline(refreshed)}")
    for change in outcome.changes:
        output.line(f"{change.certificate.sha256}: {change.before or 'new'} -> {change.certificate.state}")
    if outcome.next_attempt_at is not None:
        output.line(f"The next refresh is at {moment(outcome.next_attempt_at)}.")
    if outcome.outcome is Outcome.HELD and held:
        output.line(f"Next: fas-evidence rollover show {held[0]}", "bold")
    return _code(outcome)


def _code(outcome: RefreshOutcome) -> int:
    return ExitCode.NEGATIVE if outcome.outcome is Outcome.HELD else ExitCode.DONE


def _print_looked(looked: Looked, entity_id: str, form: Output, now: datetime) -> None:
    if looked.diff is None:
        if looked.outcome.finding is None:
            raise DependencyFailed(f"{entity_id}: the source could not be judged; try again") from looked.outcome.error
        raise SourceFailed(looked.outcome.finding)
    if form is Output.JSON:
        output.emit_json({**refreshed_json(looked), **diff_json(looked.diff, looked.signature, now)})
        return
    output.line(f"{entity_id}: {headline(looked, would=True)}", "bold")
    print_diff(looked.diff, looked.signature, now)


def diff(session: Session, entity_id: str, file: Path | None, form: Output) -> int:
    """What the source, or a file, says against what is held: 0 the same, 1 not the same. Changes nothing."""
    now = datetime.now(UTC)
    label = f"metadata file {file}"
    with session.store() as engine, told({"metadata": label, "entity_id": label}):
        admin = trust_admin(session, engine)
        admin.config.get_idp(entity_id)
        if file is None:
            looked = admin.look(entity_id, now=now)
            _print_looked(looked, entity_id, form, now)
            return ExitCode.NEGATIVE if looked.diff is not None and looked.diff.differs else ExitCode.DONE
        upload = uploaded_metadata(read_file(file, "metadata file", limit=MAX_METADATA), entity_id)
        plan = admin.compare(upload, now=now, actor=actor())
    if form is Output.JSON:
        output.emit_json({"entity_id": entity_id, **diff_json(plan.diff, plan.signature, now)})
    else:
        same = "" if plan.diff.differs else ", which is nothing"
        output.line(f"{entity_id}: what `fas-evidence idp add --metadata {file}` would change{same}", "bold")
        print_diff(plan.diff, plan.signature, now)
    return ExitCode.NEGATIVE if plan.diff.differs else ExitCode.DONE
