"""The trust store as a refresh sees it."""

from __future__ import annotations

from datetime import datetime

from evidence_service.adapters.config_store import Conflict, NotFound
from evidence_service.adapters.trust_store import Accepted, Claim, TrustStore
from idp_certs import refresh
from idp_certs.reasons import Finding
from idp_certs.rollover import Applied, Held, Unchanged


class RefreshPort:
    """Hands what a refresh publishes to the store. Every method but `document` may raise StoreUnavailable."""

    def __init__(self, store: TrustStore) -> None:
        """Publish to `store`."""
        self._store = store

    def document(self, sha256: str) -> bytes | None:
        """A stored document that is what its name says."""
        try:
            return self._store.get_document(sha256)
        except (NotFound, Conflict):
            return None

    def publish(
        self,
        claim: Claim,
        rollover: Unchanged | Applied | Held,
        accepted: refresh.Accepted,
        *,
        now: datetime,
        next_attempt_at: datetime,
    ) -> bool:
        """Take over what was planned."""
        stored = Accepted(
            metadata=accepted.metadata,
            document=accepted.document,
            document_sha256=accepted.document_sha256,
            etag=accepted.etag,
            last_modified=accepted.last_modified,
            served_at=accepted.served_at,
            provenance=accepted.provenance,
        )
        return self._store.publish(claim, rollover, stored, now=now, next_attempt_at=next_attempt_at)

    def publish_unmodified(
        self, claim: Claim, *, now: datetime, next_attempt_at: datetime, served_at: datetime | None
    ) -> bool:
        """The accepted document still stands, and changes nothing."""
        return self._store.publish_unmodified(claim, now=now, next_attempt_at=next_attempt_at, served_at=served_at)

    def fail(self, claim: Claim, finding: Finding, *, now: datetime, next_attempt_at: datetime) -> bool:
        """The attempt was in vain."""
        return self._store.fail(claim, finding, now=now, next_attempt_at=next_attempt_at)
