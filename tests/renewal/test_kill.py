"""Kill -9 at every registered point, three times running: at most one open request, and the right end (promise 44)."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evidence_service.renewal.model import AskKind, StepKind
from evidence_service.renewal.tick import POINTS, STAGES, reached
from tests.renewal.site import DAY, FAS1, HOUR, MINUTE, POLICY, Site, site

KILLS = 3
ROLL_BACK = {f"{StepKind.ROLL_BACK}:{stage}" for stage in STAGES}
WITHDRAW = {f"{StepKind.WITHDRAW}:{stage}" for stage in STAGES}
OFFLINE = {
    *(f"{StepKind.IMPORT}:{stage}" for stage in STAGES),
    *(
        f"{cmdlet}:{side}"
        for cmdlet in (
            "Import-FasAuthorizationCertificateResponse",
            "New-FasAuthorizationCertificateRequest",
            "Remove-Item",
            "Set-Content",
        )
        for side in ("before", "after")
    ),
}
ORDINARY = POINTS - ROLL_BACK - WITHDRAW - OFFLINE
STRIDE = 20 * MINUTE
"""Longer than a request whose answer is lost may still turn up."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[subprocess.Popen[str]]:
    """The process that workers are forked from; it outlives them all."""
    command = [sys.executable, "-m", "tests.renewal.killed"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.communicate()


class Worker:
    """Workers that are killed, one after the other."""

    def __init__(self, farm: Site, nursery: subprocess.Popen[str]) -> None:
        """On this farm."""
        self._farm = farm
        self._process = nursery

    def work(self, point: str | None) -> str:
        """Work through what is due, and die at this point; `killed` or `ended`."""
        asked = {
            "now": self._farm.farm.now.isoformat(),
            "farm": base64.b64encode(pickle.dumps(self._farm.servers)).decode(),
            "database": str(self._farm.engine.url),
            "point": point,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert answer["ended"] == "killed" or answer["code"] == 0, answer
        return str(answer["ended"])


@contextmanager
def killing(directory: Path, nursery: subprocess.Popen[str], **policy: Any) -> Iterator[tuple[Site, Worker]]:
    """A farm whose first server is due, and workers for it."""
    wanted = replace(POLICY, poll=STRIDE, check=HOUR, soak=STRIDE, **policy)
    with site(directory, policy=wanted) as farm:
        first, second = farm.servers.servers
        rarely = replace(second, policy=replace(wanted, check=DAY))
        farm.servers = replace(farm.servers, servers=(first, rarely))
        farm.engine.dispose()
        farm.farm.advance(11 * DAY)
        yield farm, Worker(farm, nursery)


def drive(farm: Site, worker: Worker, point: str, *, done: Callable[[], bool], decide: Callable[[], None]) -> int:
    """Renew, killed at the point, until that was done three times; how many renewals it took.

    Where a kill is healed without reaching the point again, the next renewal reaches it. `decide` is what people do
    meanwhile, `done` whether a renewal came to its end.
    """
    kills = renewals = 0
    while kills < KILLS:
        if renewals:
            farm.store.ask(FAS1, AskKind.RENEW, now=farm.farm.now, actor="cli:admin")
        renewals += 1
        before = kills
        kills += _renew(farm, worker, point, KILLS - kills, done=done, decide=decide)
        assert kills > before, f"{point} is never reached"
    return renewals


def _renew(
    farm: Site, worker: Worker, point: str, most: int, *, done: Callable[[], bool], decide: Callable[[], None]
) -> int:
    kills = 0
    for _ in range(60):
        ended = worker.work(point if kills < most else None)
        kills += ended == "killed"
        open_requests = [each for each in farm.farm.ca.pending if each.requester.upper().endswith("FAS1$")]
        assert len(open_requests) <= 1, farm.farm.history()
        assert farm.used() <= set(farm.server().certificates), "a definition names a missing certificate"
        if ended == "ended" and done():
            return kills
        decide()
        farm.farm.advance(STRIDE)
    raise AssertionError(f"it did not end: {farm.story()}")


def issue(farm: Site) -> None:
    """The CA manager issues what waits."""
    for each in farm.farm.ca.pending:
        farm.farm.ca.issue(each.number)


def removed(farm: Site) -> int:
    """How many old certificates were removed as they should be."""
    return farm.acts().count("retire done")


@pytest.mark.parametrize("point", sorted(ORDINARY))
def test_a_renewal_that_is_killed_resumes_at_the_right_step(
    tmp_path: Path, nursery: subprocess.Popen[str], point: str
) -> None:
    """The old certificate is gone, every definition names the one new certificate, and one was asked for."""
    with killing(tmp_path, nursery) as (farm, worker):

        def done() -> bool:
            asked = farm.acts().count("request done")
            return removed(farm) == asked > 0 and not farm.store.attempts(FAS1).asks

        renewals = drive(farm, worker, point, done=done, decide=lambda: issue(farm))

        assert set(farm.server().certificates) == farm.used()
        assert not farm.server().maintenance
        assert len(farm.server().users) == 5
        asked = [each for each in farm.farm.calls if each.name == "New-FasAuthorizationCertificate"]
        assert len(asked) == renewals


@pytest.mark.parametrize("point", sorted(ROLL_BACK))
def test_a_way_back_that_is_killed_is_gone_to_its_end(
    tmp_path: Path, nursery: subprocess.Popen[str], point: str
) -> None:
    """Every definition names the old certificate again, nothing was removed, and users come back."""
    with killing(tmp_path, nursery, test_definition=None) as (farm, worker):
        (old,) = farm.used()

        def decide() -> None:
            new = set(farm.server().certificates) - {old}
            if new:
                farm.server().test_fails = next(iter(new))
            issue(farm)

        def done() -> bool:
            return "verify failed" in farm.acts() and farm.used() == {old} and not farm.server().maintenance

        renewals = drive(farm, worker, point, done=done, decide=decide)

        assert renewals == 1
        assert old in farm.server().certificates
        assert len(farm.server().users) == 5


@pytest.mark.parametrize("point", sorted(WITHDRAW))
def test_a_withdrawal_that_is_killed_leaves_nothing_open(
    tmp_path: Path, nursery: subprocess.Popen[str], point: str
) -> None:
    """The denied request is gone, and none is made before a person asks again."""
    with killing(tmp_path, nursery, maximum_denials=1) as (farm, worker):
        (old,) = farm.used()

        def decide() -> None:
            for each in farm.farm.ca.pending:
                farm.farm.ca.deny(each.number, "no")

        def done() -> bool:
            asked = farm.acts().count("request done")
            return asked == farm.acts().count("withdraw done") and not farm.store.attempts(FAS1).asks

        renewals = drive(farm, worker, point, done=done, decide=decide)

        assert set(farm.server().certificates) == {old}
        assert farm.farm.ca.pending == ()
        assert farm.acts().count("request done") == renewals


@pytest.mark.parametrize("point", sorted(OFFLINE))
def test_an_offline_renewal_that_is_killed_ends_well(
    tmp_path: Path, nursery: subprocess.Popen[str], point: str
) -> None:
    """One request is made as a file, and its signed answer is imported and used."""
    with killing(tmp_path, nursery, offline=True) as (farm, worker):
        farm.store.configure([FAS1], now=farm.farm.now, draw=lambda: 0.0)

        def decide() -> None:
            asks = {each.kind for each in farm.store.attempts(FAS1).asks}
            for each in farm.server().certificates.values():
                if each.certificate is None and each.request_pem and AskKind.IMPORT not in asks:
                    answer = farm.farm.ca.sign_offline(each.request_pem)
                    farm.store.ask(FAS1, AskKind.IMPORT, now=farm.farm.now, actor="cli:admin", payload=answer)

        def done() -> bool:
            asked = farm.acts().count("request done")
            return removed(farm) == asked > 0 and not farm.store.attempts(FAS1).asks

        renewals = drive(farm, worker, point, done=done, decide=decide)

        assert farm.acts().count("request done") == renewals
        assert set(farm.server().certificates) == farm.used()
        # Killed between the import and the removal, the file stays: it holds a certificate and no key.
        assert len(farm.server().files) <= KILLS


def test_every_point_is_registered() -> None:
    """A point without a name in the registry is refused, so a new one cannot go without a test."""
    with pytest.raises(KeyError, match="not in POINTS"):
        reached(None, "request:somewhere")
