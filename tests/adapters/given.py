"""What the tests of the adapters start from: instants, metadata, a policy, a database file."""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from evidence_service.access.model import AccessRequest, Policy, Reuse
from evidence_service.adapters.config_store import ConfigStore, IdpChange
from evidence_service.adapters.database import open_database
from evidence_service.adapters.trust_store import TrustStore
from idp_certs.metadata import IdpMetadata
from idp_certs.rollover import Change, Event
from tests.corpus import keys, names

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ACTOR = "CORP\\admin"
DOCUMENT = b"<md:EntityDescriptor/>"

POLICY = Policy(
    audiences=(names.GATEWAY,),
    recipients=(names.ACS,),
    upn_suffixes=("corp.example",),
)


def der(name: str) -> bytes:
    """A certificate of the corpus."""
    return keys.certificate(name)


def metadata(*certificates: str, entity_id: str = names.IDP, valid_until: datetime | None = None) -> IdpMetadata:
    """Parsed metadata that lists these certificates of the corpus."""
    return IdpMetadata(
        entity_id=entity_id,
        signing_certificates=tuple(der(name) for name in certificates),
        problems=(),
        valid_until=valid_until,
        sso_urls=(f"{entity_id}/sso",),
    )


def imported(
    store: ConfigStore,
    *certificates: str,
    entity_id: str = names.IDP,
    policy: Policy | None = POLICY,
    now: datetime = NOW,
    dry_run: bool = False,
) -> IdpChange:
    """Import metadata."""
    return store.add_idp(
        metadata=metadata(*certificates, entity_id=entity_id),
        document=DOCUMENT + b"".join(name.encode() for name in certificates),
        policy=policy,
        now=now,
        actor=ACTOR,
        dry_run=dry_run,
    )


def acted(
    engine: Engine, event: Event, name: str = "idp", *, entity_id: str = names.IDP, now: datetime = NOW, note: str = ""
) -> tuple[Change, ...]:
    """Let an administrator do this to a certificate of the corpus."""
    return TrustStore(engine).act(entity_id, keys.fingerprint(name), event, now=now, actor=ACTOR, note=note)


def url_of(path: Path) -> str:
    """The database URL of a file."""
    return f"sqlite:///{path}"


def configured(path: Path, *, reuse: Reuse = Reuse.BOUNDED) -> Engine:
    """A database at `path` that knows the IdP of the corpus."""
    engine = open_database(url_of(path))
    policy = Policy(
        audiences=POLICY.audiences, recipients=POLICY.recipients, upn_suffixes=POLICY.upn_suffixes, reuse=reuse
    )
    imported(ConfigStore(engine), "idp", policy=policy)
    return engine


def put_in_place(backup: Path, path: Path) -> None:
    """Restore a backup as an administrator does: the log of the old database goes with it."""
    os.replace(backup, path)  # noqa: PTH105
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def backed_up(path: Path) -> Path:
    """A copy of the database at `path`."""
    backup = path.with_suffix(".backup")
    connection = sqlite3.connect(path)
    connection.execute("VACUUM INTO ?", (str(backup),))
    connection.close()
    return backup


def request(evidence: bytes, *, upn: str = names.ALICE, request_id: str = "r1") -> AccessRequest:
    """A question about this evidence."""
    return AccessRequest(request_id=request_id, upn=upn, evidence=(evidence,))
