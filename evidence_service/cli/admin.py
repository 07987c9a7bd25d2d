"""What commands about trust share: the use cases over the open database, and how their errors and values look."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from evidence_service.cli import output
from evidence_service.cli.errors import BadInput, DependencyFailed
from evidence_service.cli.output import Cell
from evidence_service.cli.session import Session
from evidence_service.trust_admin.acts import TrustAdmin
from evidence_service.trust_admin.documents import Diff, Fate, Signature, SignedBy, SourceFailed, Unusable
from evidence_service.trust_admin.texts import metadata_finding
from evidence_service.trust_admin.views import SOON, certificate_problems, days_left
from idp_certs.model import CertificateState, SigningCertificate

_STYLES = {
    CertificateState.TRUSTED: "green",
    CertificateState.RETIRING: "yellow",
    CertificateState.REVOKED: "bold red",
}
_FATES = {
    Fate.ADDED: "green",
    Fate.RETURNED: "green",
    Fate.WAITS: "bold red",
    Fate.MISSING: "yellow",
    Fate.GONE: "yellow",
    Fate.REJECTED: "yellow",
}
_STATES = {Fate.WAITS: "waiting", Fate.REJECTED: "rejected"}
CERTIFICATE_COLUMNS: tuple[str, ...] = (
    "SHA-256",
    "state",
    "since",
    "not before",
    "not after",
    "days left",
    "key",
    "subject",
)


def trust_admin(session: Session, engine: Engine) -> TrustAdmin:
    """The use cases, with the numbers of the settings."""
    from evidence_service.work import work_rules  # noqa: PLC0415 - with it come the logs of a service

    settings = session.settings()
    return TrustAdmin(
        engine,
        rules=work_rules(settings).refresh,
        secrets_dir=settings.effective_secrets_dir,
        owner=f"cli:{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
    )


@contextlib.contextmanager
def told(labels: Mapping[str, object] | None = None) -> Iterator[None]:
    """Turn what the use cases refuse into the command's error; `labels` say what a person gave as which member."""
    try:
        yield
    except Unusable as problem:
        text = str(problem).replace("`entity_id`", "--entity-id")
        label = (labels or {}).get(problem.member)
        raise BadInput(text if label is None else f"{label}: {text}") from problem
    except SourceFailed as problem:
        raise DependencyFailed(str(problem)) from problem


def certificate_cells(certificate: SigningCertificate, now: datetime, state: str | None = None) -> tuple[object, ...]:
    """A row for people: SHA-256, state, since, both dates, days left, key, subject."""
    left = days_left(certificate, now)
    shown = certificate.state.value if state is None else state
    return (
        certificate.sha256,
        Cell(value=shown, style=_STYLES.get(certificate.state, "") if state in (None, certificate.state) else "yellow"),
        certificate.since,
        certificate.x509.not_valid_before_utc,
        certificate.x509.not_valid_after_utc,
        Cell(value=left, style="red" if left < 0 else "yellow" if left < SOON.days else ""),
        certificate.key_description,
        certificate.subject,
    )


def print_diff(diff: Diff, signature: Signature | None, now: datetime) -> None:
    """What a document says against what is held, who signed it, and what an administrator should know."""
    rows = [
        (
            Cell(value=fate.value, style=_FATES.get(fate, "")),
            *certificate_cells(certificate, now, _STATES.get(fate)),
        )
        for fate, certificate in diff.certificates
    ]
    output.table(("", *CERTIFICATE_COLUMNS), rows, nothing="No certificates.", short_digests=False)
    if signature is not None:
        good = signature.by in (SignedBy.TRUSTED, SignedBy.ANCHOR)
        output.line(f"{signature.text[:1].upper()}{signature.text[1:]}.", "green" if good else "yellow")
    print_findings(diff, now)


def print_findings(diff: Diff, now: datetime) -> None:
    """Warnings about the document and its certificates."""
    for finding in diff.problems:
        output.warning(metadata_finding(finding))
    for fate, certificate in diff.certificates:
        if fate in (Fate.GONE, Fate.MISSING, Fate.REJECTED):
            continue
        for problem in certificate_problems(certificate, now):
            output.warning(f"certificate {certificate.sha256}: {problem}")


_CHAIN = ("TLS certificate", "TLS issuer")
_TOLD_ELSEWHERE = frozenset({"certificate", "document_sha256", "signer"})


def provenance_facts(provenance: Mapping[str, Any]) -> list[tuple[str, object]]:
    """How a document or a certificate came, a value a line."""
    return [
        (_CHAIN[number > 0] if name == "tls_chain_sha256" else name.replace("_", " "), str(each))
        for name, value in sorted(provenance.items())
        if name not in _TOLD_ELSEWHERE and value not in (None, "", [])
        for number, each in enumerate(value if isinstance(value, list) else [value])
    ]
