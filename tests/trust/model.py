"""What trust should be, told in sets of names: no states, no table, no database.

It is written from what is promised, and knows nothing of how the product does it. A *name* is a certificate of the
corpus; several may have one key.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from idp_certs.model import Acceptance
from tests.corpus import keys

NAMES = ("idp", "idp_renewed", "idp_next", "tenant", "attacker")
KEY = {name: keys.CERTIFICATES[name].key for name in NAMES}
"""Name of a certificate to name of its key; the renewed one has the key of the first."""
REMOVAL_SIGHTINGS, REMOVAL_OVER = 3, timedelta(hours=1)
EVIDENCE_AGE = timedelta(hours=8, minutes=3)
FAST_CLOCK = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Document:
    """Metadata as somebody made it: what it lists, whose key signed it, and whether it was changed after that."""

    lists: tuple[str, ...]
    signer: str | None
    created: datetime | None = None
    changed: bool = False
    of_another_idp: bool = False


@dataclass(kw_only=True)
class Model:
    """What is trusted now. Each certificate that is known is in exactly one of the first four.

    `good`: its new signatures count. `withdrawn`: what it signed before that instant counts. `over`: nothing counts any
    more. `revoked`: nothing counts, ever. `missing`: since when, and in how many documents, a known one is absent.
    `waiting` and `rejected` are for, and by, a person.
    """

    acceptance: Acceptance
    good: set[str] = field(default_factory=set)
    withdrawn: dict[str, datetime] = field(default_factory=dict)
    over: dict[str, datetime] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    missing: dict[str, tuple[datetime, int]] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    rejected: set[str] = field(default_factory=set)
    created: datetime | None = None

    def copy(self) -> Self:
        """The same, for itself."""
        return copy.deepcopy(self)

    @property
    def known(self) -> set[str]:
        """Every certificate that was ever accepted or revoked."""
        return self.good | set(self.withdrawn) | set(self.over) | self.revoked

    def by_key(self, key: str) -> set[str]:
        """The known certificates with this key."""
        return {name for name in self.known if KEY[name] == key}

    def is_revoked(self, name: str) -> bool:
        """Whether its key is."""
        return bool(self.by_key(KEY[name]) & self.revoked)

    def signs_for(self, document: Document) -> bool:
        """Whether a key that is good now signed it."""
        return document.signer in {KEY[name] for name in self.good}

    def receive(self, document: Document, now: datetime) -> str:
        """A document comes over TLS; in a word, why it counts for nothing, or what came of it."""
        signed = self.signs_for(document)
        if document.changed and signed:
            return "changed after it was signed"
        if document.of_another_idp:
            return "of another IdP"
        if not document.lists:
            return "empty"
        if self._is_older(document, now):
            return "older"
        before = self.copy()
        self.waiting = set()
        for name in document.lists:
            self._listed(name, before, signed=signed)
        remains = bool(self.good & set(document.lists))
        for name in before.known - set(document.lists):
            self._missed(name, now, may_go=remains)
        if self.waiting:
            return "waits"
        self.created = document.created
        return "changes" if (self.good, self.revoked) != (before.good, before.revoked) else "says the same"

    def _is_older(self, document: Document, now: datetime) -> bool:
        if self.created is None or document.created is None or self.created > now + FAST_CLOCK:
            return False
        return document.created < self.created

    def _listed(self, name: str, before: Model, *, signed: bool) -> None:
        if name in before.good:
            self.missing.pop(name, None)
        elif name in before.known:
            if name in self.missing and name not in self.rejected:
                self.waiting.add(name)
        elif before.is_revoked(name):
            self.revoked.add(name)
        elif name not in self.rejected:
            same = before.by_key(KEY[name])
            if self.acceptance is Acceptance.APPROVAL or (same and not same & before.good):
                vouched = False
            else:
                vouched = signed or bool(same) or self.acceptance is Acceptance.TLS
            (self.good if vouched else self.waiting).add(name)

    def _missed(self, name: str, now: datetime, *, may_go: bool) -> None:
        if name not in self.good:
            self.missing.setdefault(name, (now, 1))
            return
        first, times = self.missing.get(name, (now, 0))
        first = min(first, now)
        self.missing[name] = first, times + 1
        if may_go and times + 1 >= REMOVAL_SIGHTINGS and now - first >= REMOVAL_OVER:
            self.good.remove(name)
            self.withdrawn[name] = first

    def upload(self, document: Document, now: datetime) -> bool:
        """A person imports a document; whether it is taken."""
        after = self.copy()
        for name in document.lists:
            if self.is_revoked(name):
                after.forget(name)
                after.revoked.add(name)
            elif name not in self.good:
                after.trust(name)
            after.missing.pop(name, None)
        if not after.good & set(document.lists):
            return False
        for name in self.known - set(document.lists):
            first, times = self.missing.get(name, (now, 0))
            after.missing[name] = first, times + 1
            if name in after.good:
                after.good.remove(name)
                after.withdrawn[name] = now
        after.created = document.created
        vars(self).update(vars(after))
        self._settle()
        return True

    def approve(self, names: set[str]) -> bool:
        """A person approves what waits; whether that can be."""
        if any(self.is_revoked(name) for name in names - self.good):
            return False
        for name in names - self.good:
            self.trust(name)
        self._settle()
        return True

    def reject(self, names: set[str]) -> None:
        """A person turns down what waits."""
        self.rejected |= names
        self.waiting -= names

    def retire(self, name: str, now: datetime) -> bool:
        """A person withdraws a certificate; whether that changes anything."""
        if name not in self.good:
            return False
        self.good.remove(name)
        self.withdrawn[name] = now
        self._settle()
        return True

    def revoke(self, name: str) -> bool:
        """A person revokes a key; whether that changes anything."""
        if name in self.revoked or name not in self.known | self.waiting | self.rejected:
            return False
        for each in {name} | self.by_key(KEY[name]):
            self.forget(each)
            self.revoked.add(each)
        self._settle()
        return True

    def reinstate(self, name: str) -> bool:
        """A person puts a key back; whether that changes anything."""
        if name not in self.known or name in self.good:
            return False
        for each in self.by_key(KEY[name]) if name in self.revoked else {name}:
            self.trust(each)
        self._settle()
        return True

    def allow(self, name: str) -> bool:
        """A person approves one certificate that waits or was rejected; whether that changes anything."""
        if name in self.good or name not in self.waiting | self.rejected or self.is_revoked(name):
            return False
        self.trust(name)
        self._settle()
        return True

    def pass_time(self, now: datetime) -> None:
        """What was withdrawn long enough ago is over."""
        for name, since in list(self.withdrawn.items()):
            if now - since > EVIDENCE_AGE:
                self.over[name] = self.withdrawn.pop(name)

    def trust(self, name: str) -> None:
        """By hand."""
        self.forget(name)
        self.good.add(name)
        self.missing.pop(name, None)

    def forget(self, name: str) -> None:
        """Take it out of where it is."""
        self.good.discard(name)
        self.withdrawn.pop(name, None)
        self.over.pop(name, None)
        self.revoked.discard(name)

    def _settle(self) -> None:
        self.waiting -= self.good | self.revoked
        self.rejected -= self.good

    def verdict(self, key: str, issued: datetime) -> str | None:
        """What evidence signed by this key at that instant deserves, as to its key; None: either will do."""
        names = self.by_key(key)
        if names & self.revoked:
            return "certificate_revoked"
        if names & self.good:
            return "ok"
        ends = [self.withdrawn[name] for name in names if name in self.withdrawn]
        if ends:
            # Two certificates for one key that left at different times: what lies between is nobody's promise.
            return "ok" if issued < min(ends) else "certificate_retired" if issued >= max(ends) else None
        return "certificate_retired" if names else "signature_invalid"
