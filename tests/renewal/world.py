"""A FAS server, a CA and its manager as values: what each act does to them, also when answers and acts get lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from evidence_service.renewal.asks import asks_to_settle
from evidence_service.renewal.model import (
    ACTS,
    STEP_KINDS,
    WAITING,
    Act,
    Ask,
    AskKind,
    Attempt,
    Attempts,
    AuthorizationCertificate,
    CertificateDefinition,
    CertificateStatus,
    EnterMaintenance,
    FasRule,
    IssuanceFailure,
    LeaveMaintenance,
    Neighbour,
    Observation,
    Prove,
    RenewalPolicy,
    Request,
    Result,
    Retire,
    RollBack,
    Step,
    Switch,
    Verify,
    Withdraw,
)
from evidence_service.renewal.plan import plan_renewal
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.reconcile import reconcile
from idp_certs.reasons import Finding

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""A Monday."""
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
CA = "ca1.corp.example\\Corp Issuing CA"
SERVER = "fas1.corp.example"
UPN = "fas-test@corp.example"
OTHER = Neighbour(name="fas2.corp.example", serving=True, seen_lately=True, switching=False)
OLD, NEW, TEST = "0ld", "new", "test_Definition"

PLAIN = RenewalPolicy(jitter=timedelta(0), test_upn=UPN)
PROVING = replace(PLAIN, test_rule="test", test_definition=TEST)


def certificate(
    certificate_id: str = OLD, status: str = "Ok", expires: datetime | None = NOW + 30 * DAY, **changes: object
) -> AuthorizationCertificate:
    """A sound certificate that is due, unless something is changed."""
    known = CertificateStatus(status) if status in {each.value for each in CertificateStatus} else None
    made = AuthorizationCertificate(
        id=certificate_id,
        status_word=status,
        status=known,
        certificate_authority=CA,
        trust_area=None if known in WAITING else "area",
        expires=None if known in WAITING else expires,
        key_length=2048,
        exportable=False,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def new(status: str = "Ok", **changes: object) -> AuthorizationCertificate:
    """The one that replaces it."""
    return certificate(NEW, status, **{"expires": NOW + 700 * DAY, **changes})  # type: ignore[arg-type]


def definitions(*names: str, **named: str) -> tuple[CertificateDefinition, ...]:
    """Definitions by the id that each names."""
    both = {**dict.fromkeys(names, OLD), **named}
    return tuple(
        CertificateDefinition(name=name, template="Citrix_SmartcardLogon", authorization_certificate=each)
        for name, each in both.items()
    )


def seen(
    *certificates: AuthorizationCertificate,
    named: Mapping[str, str] | None = None,
    rules: Mapping[str, tuple[str, ...]] | None = None,
    at: datetime = NOW,
    **changes: object,
) -> Observation:
    """What the server reports: rule `default` with one definition, `test` with the test definition, if it is named."""
    named = {"default_Definition": OLD} if named is None else named
    if rules is None:
        rules = {"default": tuple(each for each in named if each != TEST)} | (
            {"test": (TEST,)} if TEST in named else {}
        )
    made = Observation(
        server=SERVER,
        at=at,
        certificates=certificates,
        definitions=definitions(**named),
        rules=tuple(FasRule(name=name, definitions=each) for name, each in rules.items()),
        maintenance=False,
        neighbours=(OTHER,),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def requested(replaces: str = OLD, **changes: object) -> Request:
    """The request for a certificate in the place of the old one."""
    made = Request(
        reason=RenewalReason.DUE,
        replaces=replaces,
        known=frozenset({OLD}),
        certificate_authority=CA,
        certificate_template=PLAIN.certificate_template,
        authorization_template=PLAIN.authorization_template,
        offline=False,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def did(*acts: Act | tuple[Act, Result | None], until: datetime = NOW - HOUR, every: timedelta = MINUTE) -> Attempts:
    """These acts are remembered, done unless said otherwise, the last at `until`; a request led to the new id."""
    pairs = [each if isinstance(each, tuple) else (each, Result.DONE) for each in acts]
    first = until - every * (len(pairs) - 1)
    return Attempts(
        jitter=0.0,
        acts=tuple(
            Attempt(
                seq=index + 1,
                step=act,
                at=first + every * index,
                result=result,
                result_at=None if result is None else first + every * index,
                certificate_id=NEW if isinstance(act, Request) and result is Result.DONE else None,
            )
            for index, (act, result) in enumerate(pairs)
        ),
    )


def switch(definition: str = "default_Definition", before: str = OLD, after: str = NEW) -> Switch:
    """One definition from the old to the new certificate."""
    return Switch(definition=definition, before=before, after=after)


def verified(certificate_id: str = NEW) -> Verify:
    """The test after the switch."""
    return Verify(certificate_id=certificate_id, tests=(), upn=UPN)


def asking(kind: AskKind, attempts: Attempts | None = None, at: datetime = NOW, **changes: object) -> Attempts:
    """The same, and a person asks for something."""
    attempts = attempts or Attempts(jitter=0.0)
    ask = replace(Ask(seq=len(attempts.asks) + 1, kind=kind, at=at, actor="alice"), **changes)  # type: ignore[arg-type]
    return replace(attempts, asks=(*attempts.asks, ask))


class Fate(StrEnum):
    """What becomes of an act."""

    FINE = "fine"
    LOST = "lost"
    """It never reached FAS, and nobody knows."""
    ANSWER_LOST = "answer_lost"
    """FAS did it, and nobody knows."""
    REFUSED = "refused"


@dataclass(kw_only=True)
class World:
    """One server that changes. `lifetime` is what the CA issues."""

    policy: RenewalPolicy
    now: datetime = NOW
    lifetime: timedelta = 365 * DAY
    jitter: float = 0.0
    certificates: list[AuthorizationCertificate] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)
    maintenance: bool = False
    neighbour: Neighbour = OTHER
    failures: list[IssuanceFailure] = field(default_factory=list)
    acts: list[Attempt] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    not_before: datetime | None = None
    first_usable: dict[str, datetime] = field(default_factory=dict)
    made: int = 0
    lapsed: list[datetime] = field(default_factory=list)

    def observation(self) -> Observation:
        """What FAS reports now: certificates expire by themselves."""
        self.certificates = [self._aged(each) for each in self.certificates]
        for each in self.certificates:
            if each.status is CertificateStatus.OK:
                self.first_usable.setdefault(each.id, self.now)
        return seen(
            *self.certificates,
            named=self.named,
            at=self.now,
            maintenance=self.maintenance,
            neighbours=(self.neighbour,),
            failures=tuple(self.failures),
        )

    def attempts(self, kept: int = 500) -> Attempts:
        """What is remembered."""
        return Attempts(
            jitter=self.jitter,
            acts=tuple(self.acts[-kept:]),
            asks=tuple(self.asks),
            not_before=self.not_before,
            first_usable=self.first_usable,
        )

    def _aged(self, each: AuthorizationCertificate) -> AuthorizationCertificate:
        over = each.expires is not None and each.expires <= self.now
        expired = CertificateStatus.EXPIRED
        return replace(each, status=expired, status_word=expired.value) if over else each

    @property
    def waiting(self) -> list[AuthorizationCertificate]:
        """Open requests."""
        return [each for each in self.certificates if each.status in WAITING]

    def decide(self, *, issue: bool) -> None:
        """The CA manager decides everything that waits."""
        self.certificates = [
            each if each.status not in WAITING else self._issued(each) if issue else self._denied(each)
            for each in self.certificates
        ]

    def _issued(self, each: AuthorizationCertificate) -> AuthorizationCertificate:
        return certificate(each.id, "Ok", self.now + self.lifetime)

    def _denied(self, each: AuthorizationCertificate) -> AuthorizationCertificate:
        denied = CertificateStatus.DENIED
        return replace(each, status=denied, status_word=denied.value, denial="not now")

    def tick(self, fate: Fate = Fate.FINE) -> Step:
        """One look, and at most one act, as the worker does it."""
        observation = self.observation()
        for each in reconcile(observation, self.attempts(), self.policy):
            self._finish(each.attempt, each.result, each.certificate_id)
        settled = [ask for ask, _ in asks_to_settle(observation, self.attempts(), self.policy, self.now)]
        self.asks = [each for each in self.asks if each not in settled]
        step = plan_renewal(observation, self.attempts(), self.policy, self.now)
        if isinstance(step, ACTS):
            self._perform(step, fate)
        return step

    def _perform(self, act: Act, fate: Fate) -> None:
        attempt = Attempt(seq=len(self.acts) + 1, step=act, at=self.now)
        self.acts.append(attempt)
        made = self.apply(act) if fate in (Fate.FINE, Fate.ANSWER_LOST) else None
        if fate is Fate.FINE:
            self._finish(attempt, Result.DONE, made)
        elif fate is Fate.REFUSED:
            self._finish(attempt, Result.FAILED, None)
            self.not_before = self.now + 5 * MINUTE

    def _finish(self, attempt: Attempt, result: Result, certificate_id: str | None) -> None:
        done = replace(attempt, result=result, result_at=self.now, certificate_id=certificate_id)
        self.acts = [done if each.seq == attempt.seq else each for each in self.acts]
        if isinstance(attempt.step, Request) and result is Result.DONE:
            self.asks = [each for each in self.asks if each.kind is not AskKind.RENEW]

    def apply(self, act: Act) -> str | None:
        """What FAS does."""
        if isinstance(act, Request):
            self.made += 1
            made = f"made{self.made}"
            self.certificates.append(certificate(made, "WaitingForApproval", certificate_authority=CA))
            return made
        if isinstance(act, (Switch, RollBack)):
            self.named[act.definition] = act.after
        elif isinstance(act, Prove) and act.definition is not None:
            self.named[act.definition] = act.certificate_id
        elif isinstance(act, (Retire, Withdraw)):
            self.certificates = [each for each in self.certificates if each.id != act.certificate_id]
        elif isinstance(act, (EnterMaintenance, LeaveMaintenance)):
            self.maintenance = isinstance(act, EnterMaintenance)
        return None

    def is_usable(self) -> bool:
        """Whether every definition names a certificate that is in force."""
        usable = {each.id for each in self.observation().certificates if each.status is CertificateStatus.OK}
        return set(self.named.values()) <= usable


def failed(reason: RenewalReason = RenewalReason.PROOF_FAILED) -> Finding:
    """A finding."""
    return Finding(reason=reason, expected="an enrolled certificate", presented="refused")


def brief(step: Step, now: datetime = NOW) -> str:
    """The step in one line: its kind, what it is about, and its reason; how long it waits, where that is asked for."""
    parts = [STEP_KINDS[type(step)].value]
    for name in ("reason", "definition", "certificate_id", "replaces"):
        value = getattr(step, name, None)
        if value is not None:
            parts.append(str(value))
    if isinstance(step, (Switch, RollBack)):
        parts.append(f"{step.before}>{step.after}")
    if isinstance(step, Prove) and step.findings:
        parts.append(",".join(each.reason for each in step.findings))
    if isinstance(step, Prove) and step.point:
        parts.append("pointing")
    if getattr(step, "overrides", False):
        parts.append("overriding")
    if not isinstance(step, ACTS):
        parts.append(f"+{step.until - now}")
    return " ".join(parts)
