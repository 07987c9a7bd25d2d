"""Which of a person's wishes need nothing more, and what became of them.

A wish that cannot be followed must not wait for ever: it is settled with the sentence that says why. One that is still
to be followed stays open, and `evidence_service.renewal.plan` follows it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from evidence_service.renewal.applying import brought, to_withdraw
from evidence_service.renewal.changeover import left_over, soak_ends, way_back
from evidence_service.renewal.model import (
    Ask,
    AskKind,
    Attempts,
    Import,
    Observation,
    Prove,
    RenewalPolicy,
    Result,
    RollBack,
    Withdraw,
)
from evidence_service.renewal.situation import Situation, weigh

_DONE, _ANSWERED = frozenset({Result.DONE}), frozenset({Result.DONE, Result.FAILED})


def asks_to_settle(
    observation: Observation, attempts: Attempts, policy: RenewalPolicy, now: datetime
) -> tuple[tuple[Ask, str], ...]:
    """Every open wish that is fulfilled, answered or impossible, with one sentence for who asked.

    Nothing is settled while an act's answer is unknown.
    """
    situation = weigh(observation, attempts, policy, now)
    if situation.past.unanswered:
        return ()
    judges = {
        AskKind.RENEW: _renew,
        AskKind.WITHDRAW: _withdraw,
        AskKind.ROLL_BACK: _roll_back,
        AskKind.IMPORT: _import,
    }
    outcomes = ((each, judges[each.kind](situation, each)) for each in attempts.asks)
    return tuple((each, outcome) for each, outcome in outcomes if outcome is not None)


def _acted(situation: Situation, ask: Ask, kind: type, results: frozenset[Result]) -> bool:
    """Whether such an act since the wish came to one of these results."""
    return any(
        isinstance(each.step, kind) and each.at >= ask.at and each.result in results for each in situation.attempts.acts
    )


def _renew(situation: Situation, ask: Ask) -> str | None:
    if not situation.serving:
        return "Nothing is renewed: no certificate definition names an authorization certificate."
    made = [each for each in situation.past.requests.values() if each.at >= ask.at]
    if made:
        return "A certificate was requested."
    if _acted(situation, ask, Prove, _ANSWERED):
        return "The certificate that had come was tested again."
    if situation.waiting:
        return f"A request waits at the CA already: {', '.join(each.id for each in situation.waiting)}."
    plain = weigh(
        situation.observation, replace(situation.attempts, asks=()), situation.policy, situation.now
    )  # what would be done without the wish
    if plain.candidate is not None and plain.to_move(plain.candidate):
        return f"A renewal is under way already: {plain.candidate.id} has come."
    new = plain.successor
    if new is not None and (plain.past.verified.get(new.id) is None or plain.to_move(new)):
        return f"A renewal is under way already: definitions are being switched to {new.id}."
    ends = soak_ends(plain)
    if new is not None and ends is not None and situation.now < ends and left_over(plain) is not None:
        return f"A renewal is under way already: {new.id} serves, and the old one is kept until {ends:%Y-%m-%d %H:%MZ}."
    return None


def _withdraw(situation: Situation, ask: Ask) -> str | None:
    done = [each.step for each in situation.attempts.acts if each.at >= ask.at and each.result is Result.DONE]
    gone = next((each for each in reversed(done) if isinstance(each, Withdraw)), None)
    if gone is not None:
        return "The unused certificate was removed." if gone.issued else "The request was withdrawn."
    if to_withdraw(situation) is not None:
        return None
    if len(situation.waiting) > 1:
        return "Nothing was withdrawn: several requests wait, and it is not known which is meant; see the FAS console."
    if situation.waiting:
        return "Nothing was withdrawn: a certificate definition names the request."
    return "Nothing was withdrawn: no request waits, and no certificate that came is unused."


def _roll_back(situation: Situation, ask: Ask) -> str | None:
    newest = situation.past.switched_to
    if newest is None:
        return "Nothing was rolled back: no definition was switched by this service."
    definitions = situation.observation.naming(newest)
    if not definitions:
        done = _acted(situation, ask, RollBack, _DONE)
        return "All definitions were rolled back." if done else f"Nothing to roll back: no definition names {newest}."
    ways = [way_back(situation, each.name, newest) for each in definitions]
    if any(situation.is_sound(each) for each in ways):
        return None
    shown = ", ".join(sorted({each for each in ways if each is not None})) or "what they named before is not known"
    return f"Not rolled back: the way back is missing, expired or revoked ({shown})."


def _import(situation: Situation, ask: Ask) -> str | None:
    for each in situation.attempts.acts:
        if isinstance(each.step, Import) and each.step.ask == ask.seq and each.result in _ANSWERED:
            if each.result is Result.DONE:
                return "The answer was given to FAS."
            why = each.finding.presented if each.finding is not None else "see the journal"
            return f"FAS refused the answer: {why}"
    answer = brought(situation)
    if answer is None:
        return "Not imported: no offline request waits, or several do."
    if answer.ask.seq != ask.seq or not answer.findings:
        return None
    found = "; ".join(f"{each.reason}: expected {each.expected}, got {each.presented}" for each in answer.findings)
    return f"Not imported: {found}."
