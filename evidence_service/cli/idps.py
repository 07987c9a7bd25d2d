"""`idp`: identity providers, their certificates and policies."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from evidence_service.access.model import UPN_CLAIM, Policy
from evidence_service.access.policy import dump_policy, policy_problems
from evidence_service.adapters.config_store import ConfigStore, IdpChange, NotFound, StoredIdp
from evidence_service.adapters.snapshots import KeyUnreadable, load_decryption_key
from evidence_service.cli import output
from evidence_service.cli.errors import BadInput, ExitCode, NothingFound
from evidence_service.cli.files import metadata_finding, read_metadata, read_policy
from evidence_service.cli.output import Cell, Output, instant, moment
from evidence_service.cli.session import Session, actor, ask, confirm_typed, is_terminal
from idp_certs.metadata import IdpMetadata
from idp_certs.model import CertificateState, SigningCertificate
from idp_certs.reasons import Refused, TrustReason

_SOON = timedelta(days=30)
_STYLES = {
    CertificateState.TRUSTED: "green",
    CertificateState.RETIRING: "yellow",
    CertificateState.REVOKED: "bold red",
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
    metadata: Path,
    policy: Path | None,
    entity_id: str | None,
    dry_run: bool,
    confirmed: bool,
) -> int:
    """Register or update an IdP from a metadata file. Everything is checked before anything is written."""
    document, described = _described(metadata)
    chosen = _chosen(described, entity_id, metadata)
    given = None if policy is None else _usable_policy(session, policy)
    now = datetime.now(UTC)

    def change(store: ConfigStore, *, dry_run: bool) -> IdpChange:
        try:
            return store.add_idp(
                metadata=chosen, document=document, policy=given, now=now, actor=actor(), dry_run=dry_run
            )
        except Refused as problem:
            raise BadInput(f"metadata file {metadata}: {metadata_finding(problem.finding)}") from None

    with session.store_or_empty() as engine:
        store = ConfigStore(engine)
        planned = change(store, dry_run=True)
        if given is None:
            _check_stored_policy(store, chosen.entity_id)
        same = _is_known(store, planned, document, given)
    if same:
        output.line(f"{chosen.entity_id} is registered already, with this metadata and policy. Nothing was changed.")
        _print_findings(planned, now)
        if dry_run:
            output.nothing_changed()
        return ExitCode.DONE
    if dry_run:
        _print_change(planned, now, heading="would be")
        output.nothing_changed()
        return ExitCode.DONE
    if not confirmed and is_terminal():
        _print_change(planned, now, heading="would be")
        if ask("Trust these certificates? [y/N] ").lower() not in ("y", "yes"):
            raise NothingFound("not confirmed; nothing was changed")
    with session.store(create=True) as engine:
        _print_change(change(ConfigStore(engine), dry_run=False), now, heading="is")
    return ExitCode.DONE


def _described(path: Path) -> tuple[bytes, tuple[IdpMetadata, ...]]:
    try:
        return read_metadata(path)
    except Refused as problem:
        raise BadInput(f"metadata file {path}: {metadata_finding(problem.finding)}") from None


def _chosen(described: Sequence[IdpMetadata], entity_id: str | None, path: Path) -> IdpMetadata:
    names = [each.entity_id for each in described]
    if entity_id is None:
        if len(described) == 1:
            return described[0]
        raise BadInput(f"metadata file {path} describes {len(names)} IdPs; choose one with --entity-id: {_some(names)}")
    for each in described:
        if each.entity_id == entity_id:
            return each
    reason = TrustReason.METADATA_ENTITY_MISMATCH
    raise BadInput(f"metadata file {path}: {reason}: it does not describe {entity_id!r}, but {_some(names)}")


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _usable_policy(session: Session, path: Path) -> Policy:
    """A policy that can be applied on this machine. Raises BadInput."""
    policy = read_policy(path)
    problems = policy_problems(policy)
    if problems:
        raise BadInput(f"{path}: the policy allows nobody: {'; '.join(problems)}")
    for name in policy.decryption_keys:
        try:
            load_decryption_key(name, directory=session.settings().effective_secrets_dir)
        except KeyUnreadable as problem:
            raise BadInput(f"{path}: policy member `decryption_keys`: {problem}") from None
    return policy


def _check_stored_policy(store: ConfigStore, entity_id: str) -> None:
    """Without --policy a usable one must be stored. Raises BadInput, and prints one to fill in."""
    try:
        problems = policy_problems(store.get_idp(entity_id).policy)
    except NotFound:
        problems = policy_problems(Policy())
    if problems:
        for text in POLICY_TEMPLATE.splitlines():
            output.line(text)
        raise BadInput(
            f"{entity_id} has no usable policy yet ({'; '.join(problems)}); "
            "save the policy printed on stdout, fill it in and add --policy FILE"
        )


def _is_known(store: ConfigStore, planned: IdpChange, document: bytes, policy: Policy | None) -> bool:
    """Whether the import would change nothing but its own date."""
    if planned.created or planned.added or planned.returned or planned.gone:
        return False
    stored = store.get_idp(planned.entity_id)
    known = {each.sha256 for each in stored.certificates}
    return (
        stored.document_sha256 == hashlib.sha256(document).hexdigest()
        and policy in (None, stored.policy)
        and known >= {each.sha256 for each in planned.kept}
    )


def _print_change(change: IdpChange, now: datetime, *, heading: str) -> None:
    output.line(f"{change.entity_id} {heading} {'registered' if change.created else 'updated'}.", "bold")
    groups = (
        ("added", change.added, "green"),
        ("returned", change.returned, "green"),
        ("kept", change.kept, ""),
        ("gone", change.gone, "yellow"),
    )
    rows = [
        (Cell(value=name, style=style), *certificate_cells(certificate, now))
        for name, certificates, style in groups
        for certificate in certificates
    ]
    output.table(("", *_CERTIFICATE_COLUMNS), rows, nothing="No certificates.")
    _print_findings(change, now)


def _print_findings(change: IdpChange, now: datetime) -> None:
    for finding in change.problems:
        output.warning(metadata_finding(finding))
    for certificate in (*change.added, *change.returned, *change.kept):
        for problem in certificate_problems(certificate, now):
            output.warning(f"certificate {certificate.sha256}: {problem}")


_CERTIFICATE_COLUMNS: tuple[str, ...] = (
    "SHA-256",
    "state",
    "since",
    "not before",
    "not after",
    "days left",
    "key",
    "subject",
)


def certificate_cells(certificate: SigningCertificate, now: datetime) -> tuple[object, ...]:
    """A row for people: SHA-256, state, since, both dates, days left, key, subject."""
    left = days_left(certificate, now)
    return (
        certificate.sha256,
        Cell(value=certificate.state.value, style=_STYLES.get(certificate.state, "")),
        certificate.since,
        certificate.x509.not_valid_before_utc,
        certificate.x509.not_valid_after_utc,
        Cell(value=left, style="red" if left < 0 else "yellow" if left < _SOON.days else ""),
        certificate.key_description,
        certificate.x509.subject.rfc4514_string(),
    )


def days_left(certificate: SigningCertificate, now: datetime) -> int:
    """Whole days until the certificate's end; negative after it."""
    return (certificate.x509.not_valid_after_utc - now).days


def certificate_problems(certificate: SigningCertificate, now: datetime) -> Iterable[str]:
    """What an administrator should know about a certificate."""
    if not certificate.has_strong_key:
        yield f"{certificate.key_description} is too weak a key; what it signs is denied (certificate_weak_key)"
    if now < certificate.x509.not_valid_before_utc:
        yield f"not valid before {instant(certificate.x509.not_valid_before_utc)}; check the clocks"
    left = certificate.x509.not_valid_after_utc - now
    if left < timedelta(0):
        yield f"expired {-left.days - 1} days ago; denied only where the policy has `enforce_certificate_dates = true`"
    elif left < _SOON:
        yield f"expires in {left.days} days; import the IdP's new metadata when it has announced the next one"


def certificate_json(certificate: SigningCertificate, now: datetime) -> dict[str, Any]:
    """The same for programs, with provenance and problems."""
    return {
        "sha256": certificate.sha256,
        "state": certificate.state.value,
        "since": instant(certificate.since),
        "not_before": instant(certificate.x509.not_valid_before_utc),
        "not_after": instant(certificate.x509.not_valid_after_utc),
        "days_left": days_left(certificate, now),
        "key": certificate.key_description,
        "subject": certificate.x509.subject.rfc4514_string(),
        "provenance": certificate.provenance,
        "problems": list(certificate_problems(certificate, now)),
    }


def _idp_json(idp: StoredIdp, now: datetime) -> dict[str, Any]:
    return {
        "entity_id": idp.entity_id,
        "enabled": idp.enabled,
        "problem": idp.problem,
        "policy": tomllib.loads(dump_policy(idp.policy)),
        "policy_problems": list(policy_problems(idp.policy)),
        "certificates": [certificate_json(each, now) for each in idp.certificates],
        "sso_urls": list(idp.sso_urls),
        "valid_until": None if idp.valid_until is None else instant(idp.valid_until),
        "imported_at": instant(idp.imported_at),
        "imported_by": idp.imported_by,
        "document_sha256": idp.document_sha256,
    }


def list_idps(session: Session, form: Output) -> int:
    """Print all IdPs."""
    now = datetime.now(UTC)
    with session.store() as engine:
        stored = ConfigStore(engine).list_idps()
    if form is Output.JSON:
        output.emit_json([_idp_json(idp, now) for idp in stored])
        return ExitCode.DONE
    rows = []
    for idp in stored:
        trusted = [each for each in idp.certificates if each.state is CertificateState.TRUSTED]
        left = min((days_left(each, now) for each in trusted), default=None)
        rows.append((idp.entity_id, _condition(idp), len(trusted), left, idp.valid_until, idp.imported_at))
    columns = ("entity ID", "condition", "trusted certificates", "days left", "metadata valid until", "imported")
    output.table(
        columns, rows, nothing="No IdP is registered. Add one: fas-evidence idp add --metadata FILE --policy FILE"
    )
    return ExitCode.DONE


def _condition(idp: StoredIdp) -> Cell:
    if idp.problem is not None:
        return Cell(value="damaged", style="bold red")
    if policy_problems(idp.policy):
        return Cell(value="no usable policy", style="bold red")
    return Cell(value="enabled", style="green") if idp.enabled else Cell(value="disabled", style="yellow")


def show_idp(session: Session, entity_id: str, form: Output) -> int:
    """Print one IdP with everything that is stored about it."""
    now = datetime.now(UTC)
    with session.store() as engine:
        idp = ConfigStore(engine).get_idp(entity_id)
    if form is Output.JSON:
        output.emit_json(_idp_json(idp, now))
        return ExitCode.DONE
    output.facts(
        (
            ("entity ID", idp.entity_id),
            ("condition", _condition(idp)),
            ("sign-in URLs", ", ".join(idp.sso_urls)),
            ("metadata valid until", idp.valid_until),
            ("imported", f"{moment(idp.imported_at)} by {idp.imported_by}"),
            ("document SHA-256", idp.document_sha256),
        )
    )
    for problem in (() if idp.problem is None else (idp.problem,), policy_problems(idp.policy)):
        for text in problem:
            output.warning(text)
    output.line("")
    output.line("Policy", "bold")
    for text in dump_policy(idp.policy).splitlines():
        output.line(text)
    output.line("")
    output.line("Certificates", "bold")
    columns, rows = _CERTIFICATE_COLUMNS, [certificate_cells(each, now) for each in idp.certificates]
    if not output.on_terminal():
        columns = (*columns, "provenance")
        rows = [(*row, each.provenance) for row, each in zip(rows, idp.certificates, strict=True)]
    output.table(columns, rows, nothing="None.", short_digests=False)
    for each in idp.certificates:
        for text in certificate_problems(each, now):
            output.warning(f"certificate {each.sha256}: {text}")
    return ExitCode.DONE


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
    policy = _usable_policy(session, path)
    with session.store() as engine:
        store = ConfigStore(engine)
        before = store.get_idp(entity_id).policy
        if not dry_run and before != policy:
            store.set_policy(entity_id, policy, now=datetime.now(UTC), actor=actor())
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
