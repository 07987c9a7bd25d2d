"""Signatures that held, remembered: the same evidence comes back at every launch of a working day.

Only what does not depend on time, user or earlier presentations is remembered, only where it held, and only for one
snapshot: any change of trust, policy or rules forgets everything.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from datetime import datetime

from evidence_service.access.decide import decide
from evidence_service.access.model import AccessRequest, Decision, Deny, Snapshot
from evidence_service.access.verify import VerifiedEvidence, verify_evidence
from idp_certs.reasons import Refused

MAX_REMEMBERED = 2048


class Remembered:
    """Decides as `decide` does, and faster the second time."""

    def __init__(self, size: int = MAX_REMEMBERED) -> None:
        """Remember at most `size` pieces of evidence, those presented latest."""
        self._size = size
        self._snapshot: Snapshot | None = None
        self._verified: OrderedDict[bytes, VerifiedEvidence] = OrderedDict()

    def decide(
        self, request: AccessRequest, snapshot: Snapshot, now: datetime
    ) -> tuple[Decision, VerifiedEvidence | None]:
        """The same as `decide(request, snapshot, now)`, and what was verified on the way, if it was."""
        if snapshot is not self._snapshot:
            self._verified.clear()
            self._snapshot = snapshot
        if len(request.evidence) != 1:
            return decide(request, snapshot, now), None
        digest = hashlib.sha256(request.evidence[0]).digest()
        verified = self._verified.get(digest)
        if verified is not None:
            self._verified.move_to_end(digest)
        else:
            try:
                verified = verify_evidence(request.evidence, snapshot)
            except Refused as refused:
                deny = Deny(findings=(refused.finding,), entity_id=refused.entity_id)
                return deny, None
            self._verified[digest] = verified
            if len(self._verified) > self._size:
                self._verified.popitem(last=False)
        return decide(request, snapshot, now, verified=verified), verified
