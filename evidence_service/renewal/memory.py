"""What follows from the acts that are remembered of one server: what is ours, what moved, and what failed.

Only acts that are known to be done count as done; one whose answer is unknown counts as nothing here, and
`evidence_service.renewal.plan` waits until it is known. The order of acts is their `seq`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from evidence_service.renewal.model import (
    Attempt,
    Attempts,
    EnterMaintenance,
    LeaveMaintenance,
    Prove,
    Request,
    Result,
    Retire,
    RollBack,
    Switch,
    Verify,
    Withdraw,
)
from evidence_service.renewal.reasons import RenewalReason
from idp_certs.reasons import Finding

SWITCH_TRIES = 2
"""FAS may refuse one switch, which a back-off follows; after the second, everything goes back (promise 47)."""
VERIFY_TRIES = 3
"""So many tests after a switch, or switches of a further definition, may get no answer; then they count as refused,
because users wait for the end of it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setback:
    """A request that came to nothing, or a certificate that is not used (again), since `at` (UTC), and why.

    `seq` is that of the act that led to it.
    """

    certificate_id: str
    reason: RenewalReason
    at: datetime
    seq: int
    finding: Finding | None = None

    @property
    def cause(self) -> RenewalReason:
        """What people are told: what was found to be wrong, where that is known."""
        found = None if self.finding is None else self.finding.reason
        if isinstance(found, RenewalReason):
            return found
        return RenewalReason.TAKEN_BACK if self.reason is RenewalReason.ASKED else self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A request that the CA denied, as found at `at` (UTC). `word` is the CA's reason, empty where FAS tells none."""

    certificate_id: str
    at: datetime
    certificate_authority: str | None = None
    ca_request_id: str | None = None
    word: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """A request that we made at `at` (UTC)."""

    step: Request
    at: datetime
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A definition that we made name another certificate, at `at` (UTC)."""

    step: Switch | RollBack
    at: datetime
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """The facts of one server's past.

    `unanswered` are acts of which it is not known whether FAS did them. `requests` are our requests by certificate id;
    `withdrawn` the ids that we removed as requests. `moves` are the switches and roll-backs that were done, oldest
    first. `proofs` and `verifications` are the last of each certificate that was answered, `verified` the first success
    since the last switch to it; `retested` whether there was a second since the newest switch. `entered` is how we put
    the server into maintenance, where we have not yet left it; `tried` the same where that failed as far as is known.
    `removed` is when each was removed, as FAS said; `stuck` how often a definition did not go back since a switch.
    `given_up` are certificates that nothing is switched to (again); `setbacks` what counts towards the limit of denials
    since `reset` (the seq of the last success, or of what a person wanted; else 0).
    """

    unanswered: tuple[Attempt, ...]
    requests: Mapping[str, Requested]
    withdrawn: frozenset[str]
    moves: tuple[Move, ...]
    proofs: Mapping[str, Attempt]
    verifications: Mapping[str, Attempt]
    verified: Mapping[str, Attempt]
    retested: bool
    entered: Attempt | None
    tried: Attempt | None
    removed: Mapping[str, datetime]
    stuck: Mapping[str, int]
    given_up: Mapping[str, Setback]
    setbacks: tuple[Setback, ...]
    reset: int

    @property
    def switched_to(self) -> str | None:
        """The certificate that the newest switch moved a definition to."""
        return next((each.step.after for each in reversed(self.moves) if isinstance(each.step, Switch)), None)

    def last_move(self, definition: str) -> Switch | RollBack | None:
        """What we last did to a definition."""
        for each in reversed(self.moves):
            if each.step.definition == definition:
                return each.step
        return None

    def moved_from(self, certificate_id: str) -> str | None:
        """What the newest move away from this certificate put in its place."""
        for each in reversed(self.moves):
            if each.step.before == certificate_id:
                return each.step.after
        return None

    def replaced_by(self, certificate_id: str) -> frozenset[str]:
        """What definitions named before we switched them to this certificate."""
        steps = [each.step for each in self.moves]
        return frozenset(each.before for each in steps if isinstance(each, Switch) and each.after == certificate_id)

    @property
    def moved(self) -> frozenset[str]:
        """Every certificate that a switch or roll-back names."""
        return frozenset(name for each in self.moves for name in (each.step.before, each.step.after))


def last_denial(acts: Iterable[Attempt]) -> Denial | None:
    """The denial that nothing followed yet: no new request, and no certificate that was verified."""
    denial = None
    for each in sorted(acts, key=lambda each: each.seq):
        step = each.step
        if each.result is not Result.DONE:
            continue
        if isinstance(step, (Request, Verify)):
            denial = None
        elif (
            isinstance(step, Withdraw)
            and (step.reason is RenewalReason.DENIED or step.denial)
            and (denial is None or denial.certificate_id != step.certificate_id)  # FAS may go on listing it
        ):
            denial = Denial(
                certificate_id=step.certificate_id,
                at=each.at,
                certificate_authority=step.certificate_authority,
                ca_request_id=step.ca_request_id,
                word=step.denial,
            )
    return denial


def recall(attempts: Attempts) -> Recalled:
    """What follows from everything that is remembered."""
    acts = sorted(attempts.acts, key=lambda each: each.seq)
    done = [each for each in acts if each.result is Result.DONE]
    requests = {
        each.certificate_id: Requested(step=each.step, at=each.at, seq=each.seq)
        for each in done
        if isinstance(each.step, Request) and each.certificate_id is not None
    }
    moves = tuple(
        Move(step=each.step, at=each.result_at or each.at, seq=each.seq)
        for each in done
        if isinstance(each.step, (Switch, RollBack))
    )
    answered = list(_answered(acts))
    proofs = {each.step.certificate_id: each for each in answered if isinstance(each.step, Prove)}
    verifications, verified = _verifications(answered)
    given_up = _given_up(answered, proofs, verifications)
    withdrawals = [each for each in done if isinstance(each.step, Withdraw)]
    reset = _reset(done, given_up, verified)
    return Recalled(
        unanswered=tuple(each for each in acts if each.result in (None, Result.UNKNOWN)),
        requests=requests,
        withdrawn=frozenset(each.step.certificate_id for each in withdrawals if isinstance(each.step, Withdraw)),
        moves=moves,
        proofs=proofs,
        verifications=verifications,
        verified=verified,
        retested=_retested(answered),
        entered=_entered(done),
        tried=_entered(each for each in acts if each.result not in (None, Result.UNKNOWN)),
        removed={
            each.step.certificate_id: each.result_at or each.at
            for each in done
            if isinstance(each.step, (Retire, Withdraw))
        },
        stuck=_stuck(acts),
        given_up=given_up,
        setbacks=_setbacks(withdrawals, given_up, reset),
        reset=reset,
    )


def is_ahead(attempts: Attempts, now: datetime) -> bool:
    """Whether anything is remembered from later than `now`: the clock was set back since, or was another machine's."""
    instants = [instant for each in attempts.acts for instant in (each.at, each.result_at or each.at)]
    instants += [each.at for each in attempts.asks]
    return any(each > now for each in (*instants, *attempts.first_usable.values()))


def in_vain(attempt: Attempt) -> bool:
    """Whether FAS refused the act, or gave no answer and did not do it; a crash of our own is neither."""
    return attempt.result is Result.FAILED or (attempt.result is Result.NOT_DONE and attempt.finding is not None)


def _answered(acts: Iterable[Attempt]) -> Iterator[Attempt]:
    """What FAS answered; of what users wait for and times out again and again, the last ones as failed."""
    silent: dict[tuple[type, str], int] = {}
    begun: set[str] = set()
    for each in acts:
        step = each.step
        about = step.after if isinstance(step, Switch) else step.certificate_id if isinstance(step, Verify) else ""
        key = (type(step), about)
        if each.result is Result.NOT_DONE and in_vain(each) and (isinstance(step, Verify) or about in begun):
            silent[key] = silent.get(key, 0) + 1
            if silent[key] >= VERIFY_TRIES:
                yield replace(each, result=Result.FAILED)
        elif each.result in (Result.DONE, Result.FAILED):
            silent.pop(key, None)
            if isinstance(step, Switch) and each.result is Result.DONE:
                begun.add(about)
            yield each


def _verifications(answered: list[Attempt]) -> tuple[dict[str, Attempt], dict[str, Attempt]]:
    """The last answered test of each certificate since the last switch to it, and the first that succeeded."""
    last: dict[str, Attempt] = {}
    first: dict[str, Attempt] = {}
    for each in answered:
        if isinstance(each.step, Switch) and each.result is Result.DONE:
            last.pop(each.step.after, None)
            first.pop(each.step.after, None)
        elif isinstance(each.step, Verify):
            last[each.step.certificate_id] = each
            if each.result is Result.DONE:
                first.setdefault(each.step.certificate_id, each)
    return last, first


def _retested(answered: list[Attempt]) -> bool:
    """Whether a certificate was tested more than once since the newest switch."""
    tests = 0
    for each in answered:
        if isinstance(each.step, Switch):
            tests = 0
        tests += isinstance(each.step, Verify)
    return tests > 1


def _entered(acts: Iterable[Attempt]) -> Attempt | None:
    entered = None
    for each in acts:
        if isinstance(each.step, EnterMaintenance):
            entered = each
        elif isinstance(each.step, LeaveMaintenance) and each.result is Result.DONE:
            entered = None
    return entered


def _stuck(acts: Iterable[Attempt]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in acts:
        if isinstance(each.step, Switch) and each.result is Result.DONE:
            found.clear()
        elif isinstance(each.step, RollBack) and in_vain(each):
            found[each.step.definition] = found.get(each.step.definition, 0) + 1
    return found


def _given_up(
    answered: list[Attempt], proofs: Mapping[str, Attempt], verifications: Mapping[str, Attempt]
) -> dict[str, Setback]:
    """Certificates whose proof, switch or test failed, and those that were rolled back; the first cause stands."""
    found: dict[str, Setback] = {}
    for certificate_id, each in verifications.items():
        if each.result is Result.FAILED:
            found[certificate_id] = _setback(certificate_id, RenewalReason.VERIFY_FAILED, each)
    refusals: dict[str, int] = {}
    for each in answered:
        step = each.step
        if isinstance(step, RollBack):
            found.setdefault(step.before, _setback(step.before, step.reason, each))
        elif isinstance(step, Prove):
            refusals.pop(step.certificate_id, None)
        elif isinstance(step, Switch) and each.result is Result.FAILED:
            refusals[step.after] = refusals.get(step.after, 0) + 1
            if refusals[step.after] >= SWITCH_TRIES:
                found.setdefault(step.after, _setback(step.after, RenewalReason.REFUSED_BY_FAS, each))
    for certificate_id, each in proofs.items():
        if each.result is Result.FAILED or (isinstance(each.step, Prove) and each.step.findings):
            found[certificate_id] = _setback(certificate_id, RenewalReason.PROOF_FAILED, each)
    return found


def _setback(certificate_id: str, reason: RenewalReason, attempt: Attempt) -> Setback:
    finding = attempt.finding
    if finding is None and isinstance(attempt.step, Prove):
        finding = next(iter(attempt.step.findings), None)
    # The intent's time, which does not depend on when a lost answer was found out.
    return Setback(certificate_id=certificate_id, reason=reason, at=attempt.at, seq=attempt.seq, finding=finding)


def _reset(done: list[Attempt], given_up: Mapping[str, Setback], verified: Mapping[str, Attempt]) -> int:
    ends = [each.seq for certificate_id, each in verified.items() if certificate_id not in given_up]
    ends += [each.seq for each in done if isinstance(each.step, Request) and each.step.reason is RenewalReason.ASKED]
    return max(ends, default=0)


def _setbacks(withdrawals: list[Attempt], given_up: Mapping[str, Setback], reset: int) -> tuple[Setback, ...]:
    withdrawn = [
        _setback(each.step.certificate_id, each.step.reason, each)
        for each in withdrawals
        if isinstance(each.step, Withdraw)
    ]
    # One that was given up and then withdrawn is one setback: the earlier.
    first: dict[str, Setback] = {}
    for each in sorted((*withdrawn, *given_up.values()), key=lambda each: each.seq):
        first.setdefault(each.certificate_id, each)
    return tuple(each for each in first.values() if each.seq >= reset)
