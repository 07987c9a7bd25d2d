"""`idp`: identity providers, their certificates and policies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from evidence_service.access.model import UPN_CLAIM, Policy
from evidence_service.access.policy import dump_policy, policy_problems
from evidence_service.adapters.config_store import ConfigStore, IdpChange
from evidence_service.cli import output
from evidence_service.cli.admin import (
    CERTIFICATE_COLUMNS,
    certificate_cells,
    print_diff,
    print_findings,
    told,
    trust_admin,
)
from evidence_service.cli.errors import BadInput, ExitCode, NothingFound
from evidence_service.cli.files import MAX_METADATA, MAX_SMALL, read_file, read_policy
from evidence_service.cli.output import Cell, Output
from evidence_service.cli.session import Session, actor, ask, confirm_typed, is_terminal
from evidence_service.trust_admin.acts import ImportPlan, TrustAdmin, Upload, uploaded_certificates, uploaded_metadata
from evidence_service.trust_admin.documents import PolicyMissing
from evidence_service.trust_admin.texts import moment
from evidence_service.trust_admin.views import (
    CertificateView,
    IdpView,
    certificate_problems,
    condition,
    days_left,
    idp_json,
    source_problem,
    view_idp,
    view_idps,
)
from idp_certs.alarms import Severity
from idp_certs.model import GOOD

SEVERITIES = {
    None: "green",
    Severity.NOTICE: "",
    Severity.WARNING: "yellow",
    Severity.CRITICAL: "bold red",
}

POLICY_TEMPLATE = f"""\
# Policy of one identity provider. Replace the examples, keep the file, and give it with --policy.

# The SP entity ID of your Gateway or StoreFront: the audience that the IdP writes into its assertions.
audiences = ["https://gateway.example"]

# Its assertion consumer URL: where the IdP sends the SAML Response.
recipients = ["https://gateway.example/cgi/samlauth"]

# Where the UPN stands: "nameid" or "attribute:NAME". The first that is present decides.
upn_from = ["attribute:{UPN_CLAIM}"]

# The UPN suffixes that this IdP may speak for. An empty list means none.
upn_suffixes = ["corp.example"]

# How long after sign-in launches may go on; at least as long as your StoreFront sessions.
max_age = "8h"
"""


def add_idp(
    session: Session,
    *,
    metadata: Path | None,
    certificate: Path | None,
    policy: Path | None,
    entity_id: str | None,
    dry_run: bool,
    confirmed: bool,
) -> int:
    """Register or update an IdP from a file. Everything is checked before anything is written."""
    what, path = ("metadata file", metadata) if metadata is not None else ("certificate file", certificate)
    if path is None:
        raise BadInput("missing option '--metadata' or '--certificate'; see `fas-evidence idp add --help`")
    if metadata is not None and certificate is not None:
        raise BadInput("--metadata, --certificate: give the IdP's metadata, or its bare certificates, and not both")
    file = f"{what} {path}"
    labels: dict[str, object] = {"metadata": file, "certificates": file, "policy": policy}
    if metadata is not None:
        labels["entity_id"] = file
    with told(labels):
        upload = _upload(what, path, entity_id, bare=metadata is None)
    given = None if policy is None else read_policy(policy)
    now = datetime.now(UTC)
    with session.store_or_empty() as engine:
        plan = _planned(trust_admin(session, engine), upload, given, labels, now)
    if plan.is_known:
        entity_id = plan.change.entity_id
        output.line(f"{entity_id} is registered already, with this metadata and policy. Nothing was changed.")
        print_findings(plan.diff, now)
        if dry_run:
            output.nothing_changed()
        return ExitCode.DONE
    if dry_run:
        _print_plan(plan, now, heading="would be")
        output.nothing_changed()
        return ExitCode.DONE
    if not confirmed and is_terminal():
        _print_plan(plan, now, heading="would be")
        if ask("Trust these certificates? [y/N] ").lower() not in ("y", "yes"):
            raise NothingFound("not confirmed; nothing was changed")
    with session.store(create=True) as engine, told(labels):
        admin = trust_admin(session, engine)
        change = admin.import_planned(plan, now=now, actor=actor())
    output.line(f"{change.entity_id} is {_done(change)}.", "bold")
    print_diff(plan.diff, plan.signature, now)
    return ExitCode.DONE


def _upload(what: str, path: Path, entity_id: str | None, *, bare: bool) -> Upload:
    if not bare:
        return uploaded_metadata(read_file(path, what, limit=MAX_METADATA), entity_id)
    if entity_id is None:
        raise BadInput("--entity-id: certificates do not say whose they are; add --entity-id ID, as the IdP writes it")
    return uploaded_certificates(read_file(path, what, limit=MAX_SMALL), entity_id)


def _planned(
    admin: TrustAdmin, upload: Upload, policy: Policy | None, labels: dict[str, object], now: datetime
) -> ImportPlan:
    with told(labels):
        try:
            return admin.plan_import(upload, policy=policy, now=now, actor=actor())
        except PolicyMissing as problem:
            raise policy_missing(problem) from None


def policy_missing(problem: PolicyMissing) -> BadInput:
    """The error for an IdP without usable policy, after one to fill in was printed."""
    for text in POLICY_TEMPLATE.splitlines():
        output.line(text)
    return BadInput(f"{problem}; save the policy printed on stdout, fill it in and add --policy FILE")


def _done(change: IdpChange) -> str:
    return "registered" if change.created else "updated"


def _print_plan(plan: ImportPlan, now: datetime, *, heading: str) -> None:
    output.line(f"{plan.change.entity_id} {heading} {_done(plan.change)}.", "bold")
    print_diff(plan.diff, plan.signature, now)


def usable_policy(admin: TrustAdmin, path: Path) -> Policy:
    """A policy that can be applied on this machine. Raises BadInput."""
    policy = read_policy(path)
    with told({"policy": path}):
        return admin.usable_policy(policy)


def list_idps(session: Session, form: Output) -> int:
    """Print all IdPs."""
    now = datetime.now(UTC)
    with session.store() as engine:
        views = view_idps(trust_admin(session, engine), now)
    if form is Output.JSON:
        output.emit_json([idp_json(view, now) for view in views])
        return ExitCode.DONE
    rows = []
    for view in views:
        idp = view.idp
        good = [each for each in idp.certificates if each.state in GOOD]
        left = min((days_left(each, now) for each in good), default=None)
        success = None if view.source is None else view.source.state.succeeded_at
        source = "-" if view.source is None else _ago(success, now) if success else "never"
        rows.append((idp.entity_id, _condition(view), len(good), left, idp.valid_until, idp.imported_at, source))
    columns = (
        "entity ID",
        "condition",
        "trusted certificates",
        "days left",
        "metadata valid until",
        "imported",
        "refreshed",
    )
    output.table(
        columns,
        rows,
        nothing="No IdP is registered. Add one: fas-evidence idp subscribe URL, or idp add --metadata FILE",
    )
    return ExitCode.DONE


def _condition(view: IdpView) -> Cell:
    text, severity = condition(view)
    return Cell(value=text, style=SEVERITIES[severity])


def _ago(instant: datetime, now: datetime) -> str:
    return f"{span(now - instant)} ago"


def span(length: timedelta) -> str:
    """A length of time in its largest unit, for people."""
    seconds = max(int(length.total_seconds()), 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def show_idp(session: Session, entity_id: str, form: Output) -> int:
    """Print one IdP with everything that is stored about it."""
    now = datetime.now(UTC)
    with session.store() as engine:
        view = view_idp(trust_admin(session, engine), entity_id, now)
    if form is Output.JSON:
        output.emit_json(idp_json(view, now))
        return ExitCode.DONE
    idp = view.idp
    output.facts(
        (
            ("entity ID", idp.entity_id),
            ("condition", _condition(view)),
            ("sign-in URLs", ", ".join(idp.sso_urls)),
            ("metadata valid until", idp.valid_until),
            ("imported", f"{moment(idp.imported_at)} by {idp.imported_by}"),
            ("document SHA-256", idp.document_sha256),
        )
    )
    for problem in (() if idp.problem is None else (idp.problem,), policy_problems(idp.policy)):
        for text in problem:
            output.warning(text)
    _show_source(view, now)
    _show_what_waits(view)
    output.line("")
    output.line("Policy", "bold")
    for text in dump_policy(idp.policy).splitlines():
        output.line(text)
    output.line("")
    output.line("Certificates", "bold")
    _show_certificates(view.certificates, now)
    return ExitCode.DONE


def _show_source(view: IdpView, now: datetime) -> None:
    output.line("")
    output.line("Metadata source", "bold")
    if view.source is None:
        output.line("None: its metadata is uploaded by hand. Fetch it by itself: fas-evidence idp subscribe URL")
        return
    config, state = view.source.config, view.source.state
    problem = source_problem(view.source)
    facts: list[tuple[str, object]] = [
        ("URL", config.url),
        ("last attempt", state.attempted_at),
        ("last success", state.succeeded_at),
        ("age", None if state.succeeded_at is None else span(now - state.succeeded_at)),
        ("next attempt", state.next_attempt_at),
        ("problem", Cell(value=problem, style="" if problem is None else "bold red")),
    ]
    if problem is not None:
        facts.append(("since", state.problem_since))
        facts.append(("failures", state.failures))
    if config.pin_sha256 is not None:
        facts.append(("pinned certificate", config.pin_sha256))
    if config.ca_pem is not None:
        facts.append(("certificate authorities", "given with --ca"))
    output.facts(facts)


def _show_what_waits(view: IdpView) -> None:
    if view.alarms:
        output.line("")
        output.line("Alarms", "bold")
        for alarm in view.alarms:
            output.line(f"{alarm.severity.value}: {alarm.text}", SEVERITIES[alarm.severity])
    if view.rollovers:
        output.line("")
        output.line("Waiting for approval", "bold")
        for each in view.rollovers:
            names = ", ".join(certificate.sha256 for certificate, _ in each.withheld)
            output.line(f"rollover {each.id}: {names}", "bold red")
        output.line(f"Next: fas-evidence rollover show {view.rollovers[0].id}")


def _show_certificates(certificates: tuple[CertificateView, ...], now: datetime) -> None:
    columns: tuple[str, ...] = (*CERTIFICATE_COLUMNS, "announced", "trusted", "first used", "last used")
    rows = [
        (
            *certificate_cells(each.certificate, now, each.state),
            each.announced,
            each.trusted,
            each.usage.first_sign_in,
            each.usage.last_sign_in,
        )
        for each in certificates
    ]
    if not output.on_terminal():
        columns = (*columns, "provenance")
        rows = [(*row, each.certificate.provenance) for row, each in zip(rows, certificates, strict=True)]
    output.table(columns, rows, nothing="None.", short_digests=False)
    for each in certificates:
        if each.advice is not None:
            output.line(f"Certificate {each.certificate.sha256[:16]} {each.advice.text}.")
        if each.absent_since is not None:
            what = f"is missing in its metadata since {moment(each.absent_since)}"
            output.line(f"Certificate {each.certificate.sha256[:16]} {what}.")
    for each in certificates:
        for text in certificate_problems(each.certificate, now):
            output.warning(f"certificate {each.certificate.sha256}: {text}")


def remove_idp(session: Session, entity_id: str, *, confirmed: bool, dry_run: bool) -> int:
    """Remove an IdP, after its entity ID was typed or with --yes."""
    with session.store() as engine:
        store = ConfigStore(engine)
        idp = store.get_idp(entity_id)
        if dry_run:
            output.line(f"{entity_id} would be removed, with {len(idp.certificates)} certificates and its policy.")
            output.nothing_changed()
            return ExitCode.DONE
        confirm_typed(f"Removing {entity_id} denies all its evidence from now on.", entity_id, confirmed=confirmed)
        store.remove_idp(entity_id, now=datetime.now(UTC), actor=actor())
    output.line(f"{entity_id} is removed; its evidence is denied from now on.")
    return ExitCode.DONE


def set_enabled(session: Session, entity_id: str, *, enabled: bool, dry_run: bool) -> int:
    """Enable or disable an IdP; doing it twice changes nothing."""
    word = "enabled" if enabled else "disabled"
    with session.store() as engine:
        store = ConfigStore(engine)
        if store.get_idp(entity_id).enabled is enabled:
            output.line(f"{entity_id} is {word} already.")
        elif dry_run:
            output.line(f"{entity_id} would be {word}.")
        else:
            store.set_idp_enabled(entity_id, enabled, now=datetime.now(UTC), actor=actor())
            output.line(f"{entity_id} is {word}.")
    if dry_run:
        output.nothing_changed()
    return ExitCode.DONE


def set_policy(session: Session, entity_id: str, path: Path, *, dry_run: bool) -> int:
    """Replace a policy and print what differs."""
    read_policy(path)  # a file that cannot be read is said before the database is opened
    with session.store() as engine:
        admin = trust_admin(session, engine)
        policy = usable_policy(admin, path)
        before = admin.config.get_idp(entity_id).policy
        if not dry_run and before != policy:
            admin.config.set_policy(entity_id, policy, now=datetime.now(UTC), actor=actor())
    pairs = zip(dump_policy(before).splitlines(), dump_policy(policy).splitlines(), strict=True)
    for old, new in pairs:
        if old != new:
            output.line(f"- {old}", "red")
            output.line(f"+ {new}", "green")
    if before == policy:
        output.line(f"{entity_id} has this policy already. Nothing was changed.")
    elif not dry_run:
        output.line(f"The policy of {entity_id} is set.")
    if dry_run:
        output.nothing_changed()
    return ExitCode.DONE
