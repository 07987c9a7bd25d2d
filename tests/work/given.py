"""What the tests of refreshing start from: a clock, metadata documents, a source, a database, a worker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lxml import etree
from sqlalchemy import Engine, insert

from evidence_service.access.model import Policy
from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import open_database, unknown_signers
from evidence_service.adapters.snapshots import load_snapshot
from evidence_service.adapters.trust_store import SourceConfig, StoredAlarm, TrustStore
from evidence_service.work import Worker, WorkRules
from idp_certs.fetch import FetchRules
from idp_certs.metadata import parse_metadata
from idp_certs.model import Acceptance, CertificateState
from idp_certs.refresh import RefreshRules
from tests.corpus import keys, names
from tests.corpus.metadata_documents import descriptor
from tests.corpus.sign import How, below, sign
from tests.metadata.server import MetadataServer

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
ACTOR = "cli:admin"
RPI = "urn:oasis:names:tc:SAML:metadata:rpi"
RULES = WorkRules(
    refresh=RefreshRules(fetch=FetchRules(allow_loopback=True, timeout=timedelta(seconds=60))),
    cool_down=timedelta(seconds=60),
)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime = NOW) -> None:
        """Begin at `now`."""
        self.now = now

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def forward(self, **span: float) -> None:
        """Let time pass."""
        self.now += timedelta(**span)


def text(instant: datetime) -> str:
    """As SAML writes it."""
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"


def document(
    *certificates: str,
    entity_id: str = names.IDP,
    signed_by: str | None = None,
    valid_until: datetime | None = None,
    created: datetime | None = None,
    cache_duration: str | None = None,
    change: Callable[[etree._Element], None] | None = None,
) -> bytes:
    """Metadata that lists these certificates of the corpus; `change` spoils it after it was signed."""
    entity = descriptor(entity_id, certificates, element_id="_document")
    if valid_until is not None:
        entity.set("validUntil", text(valid_until))
    if cache_duration is not None:
        entity.set("cacheDuration", cache_duration)
    if created is not None:
        extensions = etree.Element(f"{{{names.MD}}}Extensions")
        information = etree.SubElement(extensions, f"{{{RPI}}}PublicationInfo", nsmap={"mdrpi": RPI})
        information.set("publisher", "https://federation.example")
        information.set("creationInstant", text(created))
        entity.insert(0, extensions)
    if signed_by is not None:
        sign(entity, How(key=keys.CERTIFICATES[signed_by].key, key_info=(signed_by,), index=0))
    if change is not None:
        change(entity)
    return etree.tostring(entity)


def stripped(entity: etree._Element) -> None:
    """Take the signature away."""
    entity.remove(entity[0])


def broken(entity: etree._Element) -> None:
    """Change what was signed."""
    below(entity, "md:Organization")


def moved(entity: etree._Element) -> None:
    """Put the signature over another element beside the one that was signed."""
    entity.remove(entity[0])
    other = descriptor(names.IDP, ("idp",), element_id="_other")
    sign(other, How(index=0))
    entity.insert(0, other[0])


@dataclass(kw_only=True)
class Site:
    """One database, one server of metadata, one worker."""

    engine: Engine
    server: MetadataServer
    clock: Clock
    config: ConfigStore
    trust: TrustStore
    worker: Worker

    def serve(self, data: bytes, *, etag: str | None = None, path: str = "/md") -> None:
        """Serve a document, with today's Date by our clock."""
        self.server.serve(path, data, etag=etag, headers={"Date": f"{self.clock.now:%a, %d %b %Y %H:%M:%S} GMT"})

    def subscribe(
        self,
        data: bytes,
        *,
        entity_id: str = names.IDP,
        path: str = "/md",
        acceptance: Acceptance = Acceptance.CONTINUITY,
        metadata_certificate: str | None = None,
        jitter: float = 0.5,
    ) -> None:
        """Register an IdP from a document that came by hand, and the source that it is fetched from."""
        (metadata,) = parse_metadata(data, entity_id=entity_id)
        policy = Policy(
            audiences=(names.GATEWAY,), recipients=(names.ACS,), upn_suffixes=("corp.example",), acceptance=acceptance
        )
        self.config.add_idp(metadata=metadata, document=data, policy=policy, now=self.clock.now, actor=ACTOR)
        source = SourceConfig(
            url=self.server.url(path, host="127.0.0.1"),
            ca_pem=self.server.ca_pem,
            metadata_certificate=None if metadata_certificate is None else keys.certificate(metadata_certificate),
        )
        self.trust.add_source(
            entity_id=entity_id, source=source, now=self.clock.now, actor=ACTOR, jitter=jitter, seen=None
        )

    def due(self) -> None:
        """Let time pass until a source is due."""
        instant = self.trust.next_instant(self.clock.now)
        assert instant is not None
        self.clock.now = max(self.clock.now, instant)

    def refresh(self) -> bool:
        """Wait until a source is due, and do all that is due; whether no source failed."""
        self.due()
        return self.worker.round()

    def states(self, entity_id: str = names.IDP) -> dict[str, CertificateState]:
        """The states of the certificates of the corpus that are held."""
        by_digest = {keys.fingerprint(name): name for name in keys.CERTIFICATES}
        held = self.trust.load_trust(entity_id).certificates
        return {by_digest[each.certificate.sha256]: each.certificate.state for each in held}

    def alarms(self, kind: str | None = None) -> list[StoredAlarm]:
        """The open alarms."""
        return [each for each in self.trust.open_alarms() if kind in (None, each.kind)]

    def version(self) -> str:
        """The version of the snapshot that decisions are made by."""
        return load_snapshot(self.engine, secrets_dir=None).version

    def meet_unknown(self, certificate: str, *, at: datetime | None = None) -> None:
        """Evidence by this certificate was denied, and would have been allowed if it were known."""
        at = at or self.clock.now
        with self.engine.begin() as connection:
            connection.execute(
                insert(unknown_signers).values(
                    entity_id=names.IDP,
                    certificate_sha256=keys.fingerprint(certificate),
                    subject="CN=idp.example",
                    first_seen=at,
                    last_seen=at,
                    denials=1,
                )
            )


@contextlib.contextmanager
def site(directory: Path, *, rules: WorkRules = RULES, clock: Clock | None = None) -> Iterator[Site]:
    """A site whose database is in `directory`."""
    clock = clock or Clock()
    engine = open_database(f"sqlite:///{directory / 'fas-evidence.db'}")
    with MetadataServer() as server:
        try:
            yield Site(
                engine=engine,
                server=server,
                clock=clock,
                config=ConfigStore(engine),
                trust=TrustStore(engine),
                worker=Worker(engine, rules, clock=clock),
            )
        finally:
            engine.dispose()


def with_refresh(rules: WorkRules, **members: object) -> WorkRules:
    """The rules with other numbers of the refresh."""
    return replace(rules, refresh=replace(rules.refresh, **members))  # type: ignore[arg-type]


def announced(site: Site, *certificates: str) -> Sequence[str]:
    """Which of these are announced."""
    states = site.states()
    return [name for name in certificates if states.get(name) is CertificateState.ANNOUNCED]
