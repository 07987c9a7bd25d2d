"""What a tick needs of the world, as Protocols, and the ways in which FAS can fail to answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from evidence_service.renewal.model import Act, Ask, Attempt, Attempts, Neighbour, Observation, Result, Step
from idp_certs.reasons import Finding


class FasUnreachable(Exception):  # noqa: N818 - a state of the world, named as the reason code is
    """Nothing was asked of FAS: no connection, no session, or refused sign-in. `str()` is one line with the remedy."""


class FasAnswerUnknown(Exception):  # noqa: N818 - as above
    """A cmdlet was sent and no whole answer came: FAS may have done it (promise 46). `str()` is one line."""


class FasRefused(Exception):  # noqa: N818 - as above
    """FAS answered what only reads with an error, or with what cannot be read. `str()` is one line; nothing changed."""

    def __init__(self, finding: Finding) -> None:
        """Keep the finding, whose `where` is the cmdlet and `presented` FAS's own words."""
        super().__init__(" ".join(f"{finding.where}: {finding.presented}".split()))
        self.finding = finding


class NotLeader(Exception):  # noqa: N818 - as above
    """Another process has the lease, or it ended: nothing was written and nothing may be asked of FAS (promise 55)."""


class SwitchTaken(Exception):  # noqa: N818 - as above
    """Another server is being switched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """What FAS answered to an act. `certificate_id` is the id of a Request; `finding` says why it failed."""

    result: Result
    certificate_id: str | None = None
    finding: Finding | None = None


class Fas(Protocol):
    """One FAS server."""

    def observe(self, now: datetime, before: Observation | None = None) -> Observation:
        """What it reports, without neighbours and revocations. Raises FasUnreachable, FasAnswerUnknown, FasRefused.

        What the server's log listed of a certificate is taken over from `before`, the observation before this one.
        """

    def perform(self, act: Act) -> Performed:
        """Do it. Raises FasUnreachable where nothing was asked, FasAnswerUnknown where no answer came."""


class RenewalMemory(Protocol):
    """What is remembered of renewals. Every write names the lease's epoch and raises NotLeader where that is stale.

    All raise StoreUnavailable where the database cannot be used.
    """

    def attempts(self, server: str) -> Attempts:
        """Everything remembered of one server."""

    def anchor(self, server: str, *, epoch: int, now: datetime) -> None:
        """Let what is remembered from later than `now` count from when that was first so, once it has been for an hour.

        A clock that was set back by days would make each wait as much longer; which act came first is told by `seq`.
        One that is itself behind, as after a start, is set right within the hour: what is remembered then stays as it
        is, because whatever is moved back to a wrong past would be waited for no longer. Wishes that are ahead by less
        than that come from another machine, whose clock differs a little, and count from `now` at once.
        """

    def last_seen(self, server: str) -> Observation | None:
        """What was observed last, where that can be read."""

    def neighbours(self, server: str, now: datetime) -> tuple[Neighbour, ...]:
        """The other configured servers as last seen."""

    def hasten_neighbours(self, server: str, *, unseen_since: datetime, epoch: int, now: datetime) -> bool:
        """Have the other servers that were not seen since then looked at now; whether there were any."""

    def begin(self, server: str, act: Act, *, epoch: int, now: datetime) -> Attempt:
        """Record the intent, durably, before anything is asked (promise 44). Raises NotLeader, SwitchTaken."""

    def finish(self, server: str, attempt: Attempt, performed: Performed, *, epoch: int, now: datetime) -> None:
        """Record what came of it, settle what a person asked for, and set the back-off after a failure."""

    def resolve(
        self, server: str, attempt: Attempt, result: Result, certificate_id: str | None, *, epoch: int, now: datetime
    ) -> None:
        """Record what reading FAS told about an act whose answer is unknown (promise 45)."""

    def settle(self, server: str, ask: Ask, outcome: str, *, epoch: int, now: datetime) -> None:
        """Record that a person's wish needs nothing more, and why."""

    def saw(self, observation: Observation, step: Step, *, epoch: int, now: datetime, next_tick_at: datetime) -> None:
        """Record what was observed and what is to be done next, for people, neighbours and the schedule."""

    def missed(self, server: str, finding: Finding, *, epoch: int, now: datetime) -> datetime:
        """Record that the server did not answer; when it is asked again (stored, so that restarts ask no sooner)."""
