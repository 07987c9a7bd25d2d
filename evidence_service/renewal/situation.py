"""What FAS reports and what is remembered, put together: which certificates serve, which one comes, which is given up.

What FAS reports wins: a certificate that a person moved a definition back from is given up, as if it had been rolled
back; one that vanished is not waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from evidence_service.renewal.issued import asked_authority, issued_findings, same_authority
from evidence_service.renewal.memory import Recalled, Setback, recall
from evidence_service.renewal.model import (
    USABLE,
    WAITING,
    Ask,
    AskKind,
    Attempts,
    AuthorizationCertificate,
    CertificateDefinition,
    CertificateStatus,
    EnterMaintenance,
    Observation,
    RenewalPolicy,
    Switch,
)
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.timing import renewal_start
from idp_certs.reasons import Finding

LATE_MAINTENANCE = timedelta(days=1)
"""Maintenance that shows so soon after an attempt to enter it that failed is its effect; later it is people's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One server at `now` (UTC).

    `test_definition` is the name of the definition that proves new certificates and serves nobody. `serving` are the
    ids that the other definitions name, the most urgent first. `successor` is what the newest switch moved to, while it
    serves; `candidate` the certificate that may be switched to next, or is not valid yet. `given_up` are certificates
    that nothing is switched to. `setbacks` count towards the limit of denials.
    """

    observation: Observation
    attempts: Attempts
    policy: RenewalPolicy
    now: datetime
    past: Recalled
    test_definition: str | None
    serving: tuple[str, ...]
    given_up: Mapping[str, Setback]
    setbacks: tuple[Setback, ...]
    successor: AuthorizationCertificate | None = None
    candidate: AuthorizationCertificate | None = None

    def ask(self, kind: AskKind) -> Ask | None:
        """The oldest open wish of this kind."""
        return next((each for each in self.attempts.asks if each.kind is kind), None)

    def entry(self, certificate_id: str | None) -> AuthorizationCertificate | None:
        """The entry with this id."""
        return self.observation.certificate(certificate_id)

    @property
    def entered_for(self) -> str | None:
        """The certificate for which we put the server into maintenance, also where FAS said no and lately did it."""
        entered, tried = self.past.entered, self.past.tried
        if entered is None and tried is not None and self.observation.maintenance is True:
            entered = tried if self.now - tried.at < LATE_MAINTENANCE else None
        return (
            entered.step.certificate_id if entered is not None and isinstance(entered.step, EnterMaintenance) else None
        )

    def is_going(self, certificate_id: str) -> bool:
        """Whether FAS said lately that it removed it: it may list it for a while."""
        removed = self.past.removed.get(certificate_id)
        return removed is not None and self.now < removed + self.policy.check

    @property
    def paused(self) -> bool:
        """Whether a person's pause lasts."""
        return self.attempts.paused_until is not None and self.now < self.attempts.paused_until

    @property
    def waiting(self) -> tuple[AuthorizationCertificate, ...]:
        """The open requests on the server, whoever made them."""
        return tuple(each for each in self.observation.certificates if each.status in WAITING)

    def is_sound(self, certificate_id: str | None) -> bool:
        """Whether FAS can enroll with it now and the CA has not revoked it."""
        each = self.entry(certificate_id)
        return each is not None and each.status in USABLE and each.revoked_at is None and not self._is_over(each)

    def is_lost(self, certificate_id: str) -> bool:
        """Whether it is missing, expired or was never issued: users of its definitions are cut off."""
        each = self.entry(certificate_id)
        return each is None or each.status is CertificateStatus.DENIED or self._is_over(each)

    def is_cut_off(self, certificate_id: str) -> bool:
        """Whether FAS itself says so: by a clock of ours that is ahead, nobody's users are given up."""
        each = self.entry(certificate_id)
        return each is None or each.status in (CertificateStatus.DENIED, CertificateStatus.EXPIRED)

    def is_due(self, certificate_id: str) -> bool:
        """Whether it must be replaced by now."""
        each = self.entry(certificate_id)
        if each is None or self.is_lost(certificate_id):
            return True
        start = renewal_start(each, self.attempts, self.policy, self.now)
        return start is not None and start <= self.now

    def is_surely_due(self, certificate_id: str) -> bool:
        """The same without what the server's log says, in which others may write.

        That is its begin, and the serial number by which the CA's list names it.
        """
        each = self.entry(certificate_id)
        if each is None or not self.is_due(certificate_id):
            return each is None
        sure = replace(each, not_before=None, revoked_at=None)
        start = renewal_start(sure, self.attempts, self.policy, self.now)
        return self.is_lost(certificate_id) or (start is not None and start <= self.now)

    def to_move(self, new: AuthorizationCertificate) -> tuple[CertificateDefinition, ...]:
        """The definitions that `new` is to be named by and is not, those that serve before the test definition.

        Until it is verified these are all whose certificate is surely due, and the one that a person wants renewed;
        later only those that name what it replaced.
        """
        request = self.past.requests.get(new.id)
        old = set(self.past.replaced_by(new.id))
        if request is not None:
            old.add(request.step.replaces)
        if new.id not in self.past.verified:
            old.update(each for each in self.observation.used if each and self.is_surely_due(each))
            if self.ask(AskKind.RENEW) is not None:
                old.update(self.serving[:1])
        old -= {new.id, ""}
        moving = [each for each in self.observation.definitions if each.authorization_certificate in old]
        return tuple(sorted(moving, key=lambda each: each.name == self.test_definition))

    @property
    def replaced(self) -> str | None:
        """The serving certificate that a renewal replaces first."""
        due = (each for each in self.serving if self.is_due(each))
        return next(due, next(iter(self.serving), None))

    def _is_over(self, each: AuthorizationCertificate) -> bool:
        return each.status is CertificateStatus.EXPIRED or (each.expires is not None and each.expires <= self.now)


def weigh(observation: Observation, attempts: Attempts, policy: RenewalPolicy, now: datetime) -> Situation:
    """Put together what is known of a server."""
    past = recall(attempts)
    test_definition = _test_definition(observation, policy)
    serving = {
        each.authorization_certificate
        for each in observation.definitions
        if each.authorization_certificate and each.name != test_definition
    }
    given_up = {**_disowned(observation, past), **past.given_up}
    bare = Situation(
        observation=observation,
        attempts=attempts,
        policy=policy,
        now=now,
        past=past,
        test_definition=test_definition,
        serving=tuple(sorted(serving, key=lambda each: _urgency(observation, each))),
        given_up=given_up,
        setbacks=(),
    )
    given_up = {key: each for key, each in given_up.items() if not _is_tried_again(bare, each)}
    return _with_certificates(bare, given_up)


def _with_certificates(bare: Situation, given_up: Mapping[str, Setback]) -> Situation:
    """The same with what serves and what comes."""
    successor = bare.entry(bare.past.switched_to)
    if successor is not None and (successor.id not in bare.serving or successor.id in given_up):
        successor = None
    situation = replace(bare, given_up=given_up, setbacks=_setbacks(bare, given_up), successor=successor)
    return replace(situation, candidate=_own_candidate(situation) or _spare(situation))


def _test_definition(observation: Observation, policy: RenewalPolicy) -> str | None:
    """The test definition, unless a rule of real users names it too, or nothing else is defined."""
    name = policy.test_definition
    shared = any(name in each.definitions and each.name != policy.test_rule for each in observation.rules)
    others = any(each.name != name for each in observation.definitions)
    return name if name is not None and not shared and others else None


def _urgency(observation: Observation, certificate_id: str) -> tuple[int, float, str]:
    """What cuts users off first, then what was revoked, then what ends first."""
    each = observation.certificate(certificate_id)
    if each is None or each.status in (CertificateStatus.EXPIRED, CertificateStatus.DENIED):
        return 0, 0.0, certificate_id
    if each.revoked_at is not None:
        return 1, 0.0, certificate_id
    return 2, each.expires.timestamp() if each.expires is not None else float("inf"), certificate_id


def _disowned(observation: Observation, past: Recalled) -> dict[str, Setback]:
    """Certificates that we switched to and that a person moved a definition back from, or removed."""
    found: dict[str, Setback] = {}
    for definition in observation.definitions:
        last = past.last_move(definition.name)
        if not isinstance(last, Switch):
            continue
        named = definition.authorization_certificate
        if named == last.before and observation.certificate(named) is not None:
            reason = RenewalReason.NOT_READ_BACK
        elif named == last.after and observation.certificate(named) is None:
            reason = RenewalReason.DEFINITION_NAMES_MISSING
        else:
            continue
        newest = max((each for each in past.moves if each.step == last), key=lambda each: each.seq)
        found[last.after] = Setback(certificate_id=last.after, reason=reason, at=newest.at, seq=newest.seq)
    return found


def _is_tried_again(situation: Situation, setback: Setback) -> bool:
    """A person's wish after a failed proof: the certificate is proven again, unless it is itself at fault."""
    ask, entry = situation.ask(AskKind.RENEW), situation.entry(setback.certificate_id)
    if setback.reason is not RenewalReason.PROOF_FAILED or ask is None or ask.at <= setback.at or entry is None:
        return False
    return not candidate_findings(situation, entry)


def candidate_findings(situation: Situation, new: AuthorizationCertificate) -> tuple[Finding, ...]:
    """What `issued_findings` says of `new` in the place of what it would replace."""
    requested = situation.past.requests.get(new.id)
    request = requested.step if requested is not None else None
    old = situation.entry(request.replaces) if request is not None else None
    old = old or situation.entry(situation.replaced)
    return issued_findings(new, old, request, situation.policy, situation.now)


def _setbacks(situation: Situation, given_up: Mapping[str, Setback]) -> tuple[Setback, ...]:
    past, ask = situation.past, situation.ask(AskKind.RENEW)
    found = {each.certificate_id: each for each in past.setbacks}
    for certificate_id, requested in past.requests.items():
        known = certificate_id in past.moved | past.withdrawn | set(given_up)
        if not known and situation.entry(certificate_id) is None:
            gone = Setback(
                certificate_id=certificate_id, reason=RenewalReason.WITHDRAWN, at=requested.at, seq=requested.seq
            )
            found.setdefault(certificate_id, gone)
    for each in given_up.values():
        if each.reason is RenewalReason.NOT_READ_BACK:
            found.setdefault(each.certificate_id, each)
    counted = [each for each in found.values() if each.seq >= past.reset and (ask is None or each.at >= ask.at)]
    return tuple(sorted(counted, key=lambda each: each.seq))


def _may_serve(situation: Situation, each: AuthorizationCertificate) -> bool:
    """Not revoked, not given up, and not replaced before."""
    replaced = {move.step.before for move in situation.past.moves}
    return (
        each.revoked_at is None
        and each.id not in situation.given_up
        and each.id not in replaced
        and (situation.is_sound(each.id) or each.status is CertificateStatus.NOT_YET_VALID)
    )


def _own_candidate(situation: Situation) -> AuthorizationCertificate | None:
    """The newest certificate that we requested and have not used, though a person may have begun to."""
    for certificate_id in reversed(tuple(situation.past.requests)):
        each = situation.entry(certificate_id)
        is_new = certificate_id not in situation.serving or certificate_id not in situation.past.moved
        if each is not None and is_new and _may_serve(situation, each):
            return each
    return None


def _spare(situation: Situation) -> AuthorizationCertificate | None:
    """The one unused certificate that is as good as one that we would request: a person, or a lost memory, made it.

    A request is decided by people; this one was before, so that only what is sure leads to it.
    """
    if not any(map(situation.is_surely_due, situation.serving)):
        return None
    asked = asked_authority(situation.entry(situation.replaced), None, situation.policy)
    known = situation.past.moved | set(situation.past.requests)
    spare = [
        each
        for each in situation.observation.certificates
        if _may_serve(situation, each)
        and each.id not in known
        and each.id not in situation.serving
        and (situation.policy.offline or same_authority(asked, each.certificate_authority))
        and not candidate_findings(situation, each)
    ]
    return spare[0] if len(spare) == 1 else None
