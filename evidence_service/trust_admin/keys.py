"""What a person does to a signing key, planned first: which certificates it concerns and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from evidence_service.adapters.config_store import Conflict, NotFound, StoredIdp
from evidence_service.adapters.trust_store import RolloverState
from evidence_service.trust_admin.acts import TrustAdmin
from evidence_service.trust_admin.documents import Unusable
from evidence_service.trust_admin.texts import moment
from idp_certs.model import GOOD, CertificateState, SigningCertificate
from idp_certs.rollover import TRANSITIONS, Change, Event, Voucher

SHORTEST_PREFIX = 8
SHORTEST_TO_APPROVE = 32
"""Digits of a SHA-256 by which a certificate that waits is approved. Whoever has the metadata server can make another
whose SHA-256 begins with the same few, and let it wait in the place of the one that was compared."""
_HEX = frozenset("0123456789abcdef")
_STILL_ACCEPTED = GOOD | {CertificateState.RETIRING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One thing that a person can do to a key.

    `word` is what it then has been, `state` what it then is; `done` is what comes of it, `{}` in it the instant.
    """

    event: Event
    word: str
    target: CertificateState
    done: str

    @property
    def state(self) -> str:
        """`retired` is the name of another state: the one that follows when nothing it signed can be young enough."""
        return self.target.value if self.event is Event.RETIRE else self.word


VERBS = {
    verb.event: verb
    for verb in (
        Verb(
            event=Event.REVOKE,
            word="revoked",
            target=CertificateState.REVOKED,
            done="everything signed by it is denied, whenever it was issued",
        ),
        Verb(
            event=Event.REINSTATE,
            word="reinstated",
            target=CertificateState.TRUSTED,
            done="what it signs is accepted again",
        ),
        Verb(
            event=Event.RETIRE,
            word="retired",
            target=CertificateState.RETIRING,
            done="what it signed before {} is accepted until it is too old, and nothing newer",
        ),
        Verb(event=Event.APPROVE, word="approved", target=CertificateState.TRUSTED, done="what it signs is accepted"),
    )
}
WAITING = "waiting"
"""The state, for people, of a certificate that waits for a person and was never known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAct:
    """What an act would do. `before` is None for a certificate that waits; `is_done`: it is so already.

    `concerned` are the certificates that change; `warnings` are sentences for the person who decides.
    """

    entity_id: str
    verb: Verb
    named: SigningCertificate
    before: CertificateState | None
    is_done: bool
    concerned: tuple[SigningCertificate, ...]
    consequence: str
    warnings: tuple[str, ...]

    @property
    def what(self) -> str:
        """The certificate in words."""
        return f"certificate {self.named.sha256} of {self.entity_id}"

    @property
    def needs_confirmation(self) -> bool:
        """Whether it must not happen by a slip: revoking, and trusting again what was revoked."""
        return self.verb.event is Event.REVOKE or self.before is CertificateState.REVOKED

    @property
    def asks(self) -> bool:
        """Whether a person at a terminal is asked: also before what people would notice, and before trusting again."""
        noticed = self.verb.event is Event.RETIRE and bool(self.warnings)
        return self.needs_confirmation or noticed or self.verb.event is Event.REINSTATE

    @property
    def question(self) -> str:
        """What is confirmed, as one sentence."""
        if self.verb.event is Event.RETIRE:
            return f"Retiring the key of {self.what} denies everything that it signs from now on."
        if self.verb.event is Event.REVOKE:
            return f"Revoking the key of {self.what} denies at once everything that is signed by it, old or new."
        return f"Reinstating the key of {self.what} lets whoever has it sign in as any user of that IdP."


def digits(text: str) -> str:
    """The digits of a SHA-256, or the first of them; colons, as other programs print them, are left out.

    Raises Unusable.
    """
    found = text.lower().replace(":", "").removesuffix("\u2026")
    if not SHORTEST_PREFIX <= len(found) <= 64 or not _HEX.issuperset(found):
        raise Unusable(
            "sha256",
            f"SHA256: {text!r} is not a certificate's SHA-256; give at least its first {SHORTEST_PREFIX} digits, "
            "as `fas-evidence key list` shows them",
        )
    return found


def waiting(admin: TrustAdmin, entity_id: str | None = None) -> dict[tuple[str, str], SigningCertificate]:
    """Certificates that wait for a person and were never known, by entity ID and SHA-256."""
    return {
        (rollover.entity_id, certificate.sha256): certificate
        for rollover in admin.trust.list_rollovers(state=RolloverState.HELD)
        if entity_id in (None, rollover.entity_id)
        for certificate, before in rollover.withheld
        if before is None
    }


def named(admin: TrustAdmin, idp: StoredIdp, sha256: str) -> tuple[SigningCertificate, bool]:
    """The certificate whose SHA-256 begins so, and whether it waits. Raises Unusable, NotFound."""
    prefix = digits(sha256)
    waits = {digest: each for (_, digest), each in waiting(admin, idp.entity_id).items()}
    known = {each.sha256: each for each in idp.certificates}
    found = [each for digest, each in {**waits, **known}.items() if digest.startswith(prefix)]
    if not found:
        raise NotFound(
            f"{idp.entity_id} has no certificate whose SHA-256 begins with {prefix}; `fas-evidence key list` shows all"
        )
    if len(found) > 1:
        raise Unusable(
            "sha256", f"SHA256: {prefix} begins {len(found)} certificates of {idp.entity_id}; give more digits"
        )
    return found[0], found[0].sha256 not in known


def plan_key_act(admin: TrustAdmin, entity_id: str, sha256: str, event: Event, *, now: datetime) -> KeyAct:
    """What the act would do. Raises Unusable, NotFound, Conflict for a damaged IdP or what is not possible."""
    idp = admin.config.get_idp(entity_id)
    if idp.problem is not None:
        raise Conflict(f"{entity_id}: {idp.problem}")
    verb = VERBS[event]
    certificate, waits = named(admin, idp, sha256)
    if waits and event is Event.APPROVE and len(digits(sha256)) < SHORTEST_TO_APPROVE:
        raise Unusable(
            "sha256",
            f"SHA256: approving needs at least the first {SHORTEST_TO_APPROVE} digits, as fewer can be imitated; "
            "give them as the IdP's administrator told them",
        )
    before = None if waits else certificate.state
    is_done = before is verb.target
    if not is_done and event not in TRANSITIONS[before]:
        known = sorted(
            WAITING if state is None else state.value for state, events in TRANSITIONS.items() if event in events
        )
        raise Conflict(
            f"the certificate {certificate.sha256} of {entity_id} is {before or WAITING}, "
            f"and only one that is {' or '.join(known)} can be {verb.word}"
        )
    concerned = (certificate,) if is_done else tuple(_concerned(admin, idp, certificate, verb, before))
    return KeyAct(
        entity_id=entity_id,
        verb=verb,
        named=certificate,
        before=before,
        is_done=is_done,
        concerned=concerned,
        consequence=verb.done.format(moment(certificate.since if is_done else now)),
        warnings=() if is_done else tuple(_warnings(admin, idp, concerned, verb)),
    )


def act_on_key(admin: TrustAdmin, planned: KeyAct, *, now: datetime, actor: str, note: str) -> tuple[Change, ...]:
    """Do it. Raises NotFound and Conflict."""
    return admin.trust.act(planned.entity_id, planned.named.sha256, planned.verb.event, now=now, actor=actor, note=note)


def _concerned(
    admin: TrustAdmin, idp: StoredIdp, certificate: SigningCertificate, verb: Verb, before: CertificateState | None
) -> Iterator[SigningCertificate]:
    """The certificates that change: a revocation, and its end, concern the key and so all of its certificates."""
    yield certificate
    if CertificateState.REVOKED not in (verb.target, before):
        return
    waits = waiting(admin, idp.entity_id).values() if verb.event is Event.REVOKE else ()
    for each in (*idp.certificates, *waits):
        if each.sha256 == certificate.sha256 or each.key_sha256 != certificate.key_sha256:
            continue
        state = None if each in waits else each.state
        if verb.event in TRANSITIONS[state] and (verb.event is Event.REVOKE or state is CertificateState.REVOKED):
            yield replace(each)


def _warnings(admin: TrustAdmin, idp: StoredIdp, concerned: Iterable[SigningCertificate], verb: Verb) -> Iterator[str]:
    if verb.target in GOOD:
        return
    concerned = tuple(concerned)
    going = {each.sha256 for each in concerned}
    good = [each.sha256 for each in idp.certificates if each.state in GOOD]
    if going & set(good) and not set(good) - going:
        yield (
            f"it is the last trusted key of {idp.entity_id}: without another one, "
            "all that this IdP issues is denied; import its new metadata"
        )
    used = {
        sha256: each.last_sign_in
        for sha256, each in admin.trust.usage(idp.entity_id).items()
        if sha256 in good and each.last_sign_in is not None
    }
    latest = max(used, key=lambda sha256: used[sha256], default=None)
    if latest in going and latest is not None:
        meaning = (
            "everybody who signed in with it must sign in again, and cannot until the IdP signs with another key"
            if verb.event is Event.REVOKE
            else "sign-ins fail from now on unless the IdP signs with another key"
        )
        yield f"it is the key that {idp.entity_id} signs with (last sign-in {moment(used[latest])}): {meaning}"
    if verb.event is Event.REVOKE:
        yield from _further(admin, idp, concerned)


def _further(admin: TrustAdmin, idp: StoredIdp, concerned: Sequence[SigningCertificate]) -> Iterator[str]:
    """Where else a revocation matters: at IdPs that share the key, and for what came in by the key's signature."""
    going, lost = {each.sha256 for each in concerned}, {each.key_sha256 for each in concerned}
    for other in admin.config.list_idps():
        shared = any(each.key_sha256 in lost and each.state in GOOD for each in other.certificates)
        if shared and other.entity_id != idp.entity_id:
            yield f"{other.entity_id} has the same key: what it signs there is denied too"
    left = {each.sha256 for each in idp.certificates if each.state in _STILL_ACCEPTED} - going
    for entry in admin.trust.history(idp.entity_id):
        by_signature = entry.provenance.get("voucher") == Voucher.CONTINUITY.value
        if entry.sha256 in left and by_signature and entry.provenance.get("signer") in going:
            yield (
                f"certificate {entry.sha256} was accepted because this key signed the metadata that brought it: revoke "
                "it too, unless the IdP's administrator knows it"
            )
