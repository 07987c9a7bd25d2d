"""Launches that meet a key which their IdP has just begun to use, and everybody who pretends to be one."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from sqlalchemy import Engine, select

from evidence_service.access.model import FasRule, Mode
from evidence_service.access.plausible import UnknownSigner
from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import open_database, reading, unknown_signers
from evidence_service.adapters.journal import load_decision, load_replay
from evidence_service.adapters.snapshots import SnapshotHolder
from evidence_service.adapters.trust_store import SourceConfig, TrustStore
from evidence_service.adapters.unknown_signers import MAX_ROWS, UnknownSigners
from evidence_service.demo.idp import DemoIdp, new_key, self_signed
from evidence_service.serve import _Followed
from evidence_service.web.waves import LOOKS_OF_EACH, LOOKS_PER_SECOND, Waves
from idp_certs.metadata import parse_metadata
from idp_certs.rollover import Event
from tests.web.plane import AUDIENCE, IDP, NOW, RECIPIENT, Plane, evidence, idp, plane, run

LONG = 9.0
"""The longest deadline that can be set, in seconds."""


@functools.cache
def stranger(number: int = 0) -> DemoIdp:
    """The IdP with another key: the one it rolls over to, or anybody who can sign."""
    key: RSAPrivateKey = new_key()
    now = datetime.now(UTC)
    made = self_signed(f"key {number}", key, not_before=now - timedelta(days=800), not_after=now + timedelta(days=800))
    return replace(idp(), key=key, certificate=made)


def signed(by: DemoIdp, *, at: datetime = NOW, **changes: Any) -> bytes:
    """A sign-in of Alice by this key."""
    issue: dict[str, Any] = {
        "upn": "alice@corp.example",
        "issue_instant": at - timedelta(seconds=10),
        "audience": AUDIENCE,
        "recipient": RECIPIENT,
        "assertion_id": "_n1",
    }
    return by.issue(**(issue | changes))


def publish(directory: Path, *, by: DemoIdp | None = None, now: datetime = NOW) -> None:
    """What a refresh does, as another process does it: the new key of the IdP is in the store."""
    engine = open_database(f"sqlite:///{directory}/fas-evidence.db")
    document = (by or stranger()).metadata()
    ConfigStore(engine).add_idp(
        metadata=parse_metadata(document)[0], document=document, policy=None, now=now, actor="test"
    )
    engine.dispose()


def subscribe(engine: Engine, *, now: datetime = NOW) -> None:
    """Fetch the IdP's metadata from somewhere."""
    TrustStore(engine).add_source(
        entity_id=IDP,
        source=SourceConfig(url="https://idp.example/metadata"),
        now=now,
        actor="test",
        jitter=0.5,
        seen=None,
    )


def waits(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let launches wait no longer for new trust; a slow machine has the rest of the deadline for everything else."""
    monkeypatch.setattr("evidence_service.web.decisions.RECORDING", LONG - seconds)


@contextlib.asynccontextmanager
async def following(directory: Path, *, subscribed: bool = True, **settings: Any) -> AsyncIterator[tuple[Plane, Any]]:
    """A plane that follows changes of its configuration as `serve` does, and its reports."""
    made: list[tuple[UnknownSigners, _Followed]] = []

    def refreshes(engine: Engine, holder: SnapshotHolder) -> _Followed:
        signers = UnknownSigners(engine)
        made.append((signers, _Followed(holder, signers)))
        return made[0][1]

    async with plane(directory, refreshes=refreshes, **settings) as it:
        signers, followed = made[0]

        async def follow() -> None:
            while True:
                await asyncio.to_thread(it.holder.refresh)
                followed.looked()
                await followed.pause(0.5)

        if subscribed:
            subscribe(it.engine)
            it.holder.refresh()
        signers.start()
        task = asyncio.create_task(follow())
        try:
            yield it, signers
        finally:
            task.cancel()
            await asyncio.wait([task])
            await asyncio.to_thread(signers.stop)


def reported(engine: Engine) -> dict[str, int]:
    """Unknown keys of the IdP and how often each was reported."""
    with reading(engine) as connection:
        return {row.certificate_sha256: row.denials for row in connection.execute(select(unknown_signers))}


async def until(true: Callable[[], object]) -> None:
    """Wait for it."""
    for _ in range(3000):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came")


async def until_reported(it: Plane, count: int = 1) -> dict[str, int]:
    """The reports, once there are so many."""
    await until(lambda: sum(reported(it.engine).values()) >= count)
    return reported(it.engine)


def decisions(it: Plane) -> Any:  # noqa: ANN401 - the application's state is untyped
    """The endpoint."""
    return it.app.state.decisions


def test_promise_30_the_launch_that_met_the_new_key_succeeds(tmp_path: Path) -> None:
    """Promise 30: the refresh takes 300 ms; allowed inside the deadline, recorded with what it was judged by."""

    async def scenario() -> None:
        async with following(tmp_path) as (it, _):
            old = it.holder.current().version
            asking = asyncio.create_task(it.answer(signed(stranger())))
            await until_reported(it)
            await asyncio.sleep(0.3)
            assert not asking.done()
            it.clock.now = NOW + timedelta(seconds=1)
            await asyncio.to_thread(publish, tmp_path)
            answer = await asking
            assert (answer["decision"], answer["reason"]) == ("allow", "ok")
            (line,) = it.recorded()
            assert (line.decision, line.now) == ("allow", NOW + timedelta(seconds=1))
            replay = load_replay(it.engine, line.decision_id)
            assert replay.snapshot.version == it.holder.current().version != old
            assert decisions(it).waiting == 0

    run(scenario())


def test_promise_30_a_slow_refresh_denies_and_the_next_launch_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 30: the refresh takes longer than may be waited; denied in time, and the next one is allowed."""
    waits(monkeypatch, 2)

    async def scenario() -> None:
        async with following(tmp_path) as (it, _):
            answer = await it.answer(signed(stranger()))
            assert (answer["decision"], answer["reason"]) == ("deny", "signature_invalid")
            assert sum((await until_reported(it)).values()) == 1
            assert it.recorded()[0].reason == "signature_invalid"
            await asyncio.to_thread(publish, tmp_path)
            it.holder.refresh()
            assert (await it.answer(signed(stranger())))["reason"] == "ok"

    run(scenario())


def test_promise_30_the_second_judgement_is_a_whole_one(tmp_path: Path) -> None:
    """The new trust brings a disabled IdP, a clock behind the record, an old age: each of them denies."""

    async def judged_again(directory: Path, change: Callable[[Plane], None]) -> str:
        async with following(directory) as (it, _):
            assert (await it.answer(evidence()))["reason"] == "ok"
            asking = asyncio.create_task(it.answer(signed(stranger())))
            await until_reported(it)
            change(it)
            await asyncio.to_thread(publish, directory, now=NOW + timedelta(seconds=1))
            answer = await asking
            assert answer["decision"] == "deny"
            assert it.recorded()[0].reason == answer["reason"]
            return str(answer["reason"])

    def disabled(it: Plane) -> None:
        it.store.set_idp_enabled(IDP, False, now=NOW, actor="test")

    def behind(it: Plane) -> None:
        it.clock.now = NOW - timedelta(minutes=1)

    def ahead(it: Plane) -> None:
        it.clock.now = NOW + timedelta(hours=9)

    for name in ("disabled", "behind", "ahead"):
        (tmp_path / name).mkdir()

    async def scenario() -> None:
        assert await judged_again(tmp_path / "disabled", disabled) == "idp_disabled"
        assert await judged_again(tmp_path / "behind", behind) == "clock_untrusted"
        assert await judged_again(tmp_path / "ahead", ahead) == "evidence_too_old"

    run(scenario())


def test_promise_30_another_new_key_does_not_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other certificates came, and none of them signed: judged again, and denied when the time is over."""
    waits(monkeypatch, 4)

    async def scenario() -> None:
        async with following(tmp_path) as (it, _):
            asking = asyncio.create_task(it.answer(signed(stranger(1))))
            await until_reported(it)
            await asyncio.to_thread(publish, tmp_path)
            assert (await asking)["reason"] == "signature_invalid"
            assert load_replay(it.engine, it.recorded()[0].decision_id).snapshot.version == it.holder.current().version

    run(scenario())


def test_promise_30_another_change_first_does_not_end_the_wait(tmp_path: Path) -> None:
    """What changes first is not the key that is waited for; the key comes a moment later, still in time."""

    async def scenario() -> None:
        async with following(tmp_path) as (it, _):
            asking = asyncio.create_task(it.answer(signed(stranger(1))))
            await until_reported(it)
            first = it.holder.current().version
            await asyncio.to_thread(publish, tmp_path)
            await until(lambda: it.holder.current().version != first)
            await asyncio.sleep(0.3)
            assert not asking.done()
            await asyncio.to_thread(publish, tmp_path, by=stranger(1))
            assert (await asking)["reason"] == "ok"
            replay = load_replay(it.engine, it.recorded()[0].decision_id)
            assert replay.snapshot.version == it.holder.current().version

    run(scenario())


def test_promise_30_a_change_of_another_idp_is_not_waited_for(tmp_path: Path) -> None:
    """The configuration changes, this IdP's certificates do not: the launch waits on."""

    async def scenario() -> None:
        async with following(tmp_path) as (it, _):
            asking = asyncio.create_task(it.answer(signed(stranger())))
            await until_reported(it)
            it.store.set_rule(FasRule(name="default", mode=Mode.ENFORCE), now=NOW, actor="test")
            await until(lambda: it.holder.current().rules)
            await asyncio.sleep(0.3)
            assert not asking.done()
            await asyncio.to_thread(publish, tmp_path)
            assert (await asking)["reason"] == "ok"

    run(scenario())


def test_promise_16_launches_by_known_keys_never_wait(tmp_path: Path) -> None:
    """While others wait as many as may, a launch by a known key is answered at once (promises 16, 27)."""

    async def scenario() -> None:
        async with following(tmp_path, max_in_flight=64) as (it, _):
            waiting = [
                asyncio.create_task(it.answer(signed(stranger(), assertion_id=f"_w{number}"))) for number in range(12)
            ]
            await until(lambda: sum(task.done() for task in waiting) == 4)
            assert decisions(it).waiting == 8
            assert (await it.answer(evidence()))["reason"] == "ok"
            assert not any(task.done() for task in waiting[:8])
            await asyncio.to_thread(publish, tmp_path)
            answers = [answer["reason"] for answer in await asyncio.gather(*waiting)]
            assert answers == ["ok"] * 8 + ["signature_invalid"] * 4
            assert decisions(it).waiting == 0

    run(scenario())


def test_promise_27_forged_launches_open_one_wave_in_a_cool_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 27: after a wave that brought nothing nobody reports, and so nor waits; a real rollover heals all."""
    waits(monkeypatch, 2)

    async def scenario() -> None:
        async with following(tmp_path) as (it, signers):
            forged = [signed(stranger(number % 4), assertion_id=f"_f{number}") for number in range(40)]
            assert (await it.answer(forged[0]))["reason"] == "signature_invalid"
            first = await until_reported(it)
            assert sum(first.values()) == 1
            for raw in forged:
                assert (await it.answer(raw))["reason"] == "signature_invalid"
            assert decisions(it).waiting == 0
            await asyncio.sleep(0.3)
            assert reported(it.engine) == first
            assert signers.writes == 1
            await asyncio.to_thread(publish, tmp_path)
            it.holder.refresh()
            assert (await it.answer(signed(stranger())))["reason"] == "ok"

    run(scenario())


def test_promise_27_a_wave_ends_whoever_joins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 27: those who come later do not prolong it, and after the cool-down another may begin."""
    waits(monkeypatch, 3)
    ends = []
    joined = Waves.joined

    @contextlib.contextmanager
    def noted(waves: Waves, *arguments: Any) -> Iterator[float]:
        with joined(waves, *arguments) as until:
            ends.append(until)
            yield until

    monkeypatch.setattr(Waves, "joined", noted)

    async def scenario() -> None:
        async with following(tmp_path, metadata_cool_down_seconds=3.2) as (it, _):
            first = asyncio.create_task(it.answer(signed(stranger())))
            await until(lambda: decisions(it).waiting == 1)
            late = asyncio.create_task(it.answer(signed(stranger(1))))
            await asyncio.gather(first, late)
            assert len(ends) == 2
            assert ends[0] == ends[1]
            assert len(await until_reported(it, 2)) == 2
            await asyncio.sleep(0.5)
            await it.answer(signed(stranger(2)))
            assert len(await until_reported(it, 3)) == 3

    run(scenario())


def test_promise_27_ten_thousand_reports_stay_few_rows(tmp_path: Path) -> None:
    """Promise 27: random keys by the ten thousand, as fast as they come: bounded rows, and the loop is not held."""

    async def scenario() -> None:
        async with following(tmp_path) as (it, signers):
            for number in range(10_000):
                signers.report(UnknownSigner(entity_id=IDP, certificate_sha256=f"{number:064x}", subject=""), NOW)
            assert (await it.answer(evidence()))["reason"] == "ok"
            await until_reported(it, 10_000 - signers.dropped)
            assert len(reported(it.engine)) == MAX_ROWS

    run(scenario())


def test_promise_27_looking_is_rationed() -> None:
    """Promise 27: what is not plausible opens no wave, so looking itself is bounded, for all IdPs together."""
    waves = Waves(cool_down=60, max_in_flight=8)
    looks = [waves.may_look(f"https://{number % 3}.example", "fas1", 100 + number / 10_000) for number in range(9_000)]
    assert sum(looks) == LOOKS_PER_SECOND
    assert waves.may_look(IDP, "fas1", 101.1)


def test_promise_27_a_plug_in_gone_bad_uses_up_no_looks_of_others() -> None:
    """Promise 27: whatever one plug-in sends, evidence that another brings is looked at, a few times in a second."""
    waves = Waves(cool_down=60, max_in_flight=8)
    assert sum(waves.may_look(IDP, "bad", 100 + number / 10_000) for number in range(5_000)) == LOOKS_PER_SECOND
    for plugin in ("fas1", "fas2"):
        assert sum(waves.may_look(IDP, plugin, 100.6) for _ in range(100)) == LOOKS_OF_EACH


def test_promise_27_places_and_cool_downs() -> None:
    """Promise 27: one wave of an IdP per cool-down, others not concerned; places are given back."""
    waves = Waves(cool_down=60, max_in_flight=1)
    assert waves.may_look(IDP, "fas1", 10)
    with waves.joined(IDP, "fas1", 10, 12) as ends:
        assert (ends, waves.waiting) == (12, 1)
        with waves.joined(IDP, "fas1", 11, 13) as without_place:
            assert (without_place, waves.waiting) == (11, 1)
    assert waves.may_look(IDP, "fas1", 11.5)
    with waves.joined(IDP, "fas1", 11.5, 13.5) as ends:
        assert ends == 12
    for instant in (12.0, 13.0, 69.9):
        assert not waves.may_look(IDP, "fas1", instant)
    assert waves.may_look("https://other.example", "fas1", 13)
    assert waves.may_look(IDP, "fas1", 70)
    with waves.joined(IDP, "fas1", 70, 72) as ends:
        assert ends == 72


def test_promise_27_a_plug_in_gone_bad_takes_no_place_of_others() -> None:
    """Promise 27: a launch of another plug-in may wait, however many launches one lets wait."""
    waves = Waves(cool_down=60, max_in_flight=64)
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(waves.joined(IDP, "bad", 10, 12)) for _ in range(100)]
        assert (ends.count(12), waves.waiting) == (8, 8)
        others = [stack.enter_context(waves.joined(IDP, "fas1", 10, 12)) for _ in range(2)]
        assert (others, waves.waiting) == ([12, 10], 9)


def test_promise_27_who_has_no_place_to_wait_is_reported(tmp_path: Path) -> None:
    """Promise 27: all places taken, so the launch is denied at once; its key asks for a refresh all the same."""

    async def scenario() -> None:
        async with following(tmp_path, max_in_flight=8) as (it, _):
            first = asyncio.create_task(it.answer(signed(stranger(1))))
            await until(lambda: decisions(it).waiting)
            assert (await it.answer(signed(stranger(2))))["reason"] == "signature_invalid"
            assert not first.done()
            assert len(await until_reported(it, 2)) == 2
            await asyncio.to_thread(publish, tmp_path, by=stranger(1))
            assert (await first)["reason"] == "ok"

    run(scenario())


def _broken(raw: bytes) -> bytes:
    return raw.replace(b"alice@corp.example", b"bob00@corp.example")


def _no_signature_value(raw: bytes) -> bytes:
    root = etree.fromstring(raw)
    value = next(root.iter("{http://www.w3.org/2000/09/xmldsig#}SignatureValue"))
    value.text = "AAAA" + (value.text or "")[4:]
    return etree.tostring(root)


IMPLAUSIBLE: dict[str, Callable[[], bytes]] = {
    "another audience": lambda: signed(stranger(), audience="https://other.example"),
    "another recipient": lambda: signed(stranger(), recipient="https://other.example"),
    "too old": lambda: signed(stranger(), at=NOW - timedelta(hours=9)),
    "from the future": lambda: signed(stranger(), at=NOW + timedelta(hours=1)),
    "another user": lambda: signed(stranger(), upn="bob@corp.example"),
    "another suffix": lambda: signed(stranger(), upn="alice@other.example"),
    "changed after signing": lambda: _broken(signed(stranger())),
    "a signature that nobody made": lambda: _no_signature_value(signed(stranger())),
    "the known key's, made worthless": lambda: _no_signature_value(evidence()),
    "an unknown issuer": lambda: signed(replace(stranger(), entity_id="https://nobody.example")),
    "the issuer in other case": lambda: signed(replace(stranger(), entity_id=IDP.upper())),
    "too large": lambda: b"<" + b"a" * 262_144,
}


@pytest.mark.parametrize("name", IMPLAUSIBLE)
def test_promise_28_what_is_not_plausible_is_denied_at_once(tmp_path: Path, name: str) -> None:
    """Promise 28: no report, and so no waiting, and no wave: the next plausible one may still wait."""

    async def scenario() -> None:
        async with following(tmp_path) as (it, signers):
            answer = await it.answer(IMPLAUSIBLE[name]())
            assert answer["decision"] == "deny"
            asking = asyncio.create_task(it.answer(signed(stranger())))
            assert sum((await until_reported(it)).values()) == 1
            assert not asking.done()
            asking.cancel()
            await asyncio.wait([asking])
            assert signers.writes == 1

    run(scenario())


def test_promise_28_a_revoked_key_is_not_waited_for(tmp_path: Path) -> None:
    """Promise 28: revoked at this IdP it is known, and denied as such."""

    async def scenario() -> None:
        async with following(tmp_path) as (it, _):
            await asyncio.to_thread(publish, tmp_path)
            act(it, Event.REVOKE)
            it.holder.refresh()
            assert (await it.answer(signed(stranger())))["reason"] == "certificate_revoked"
            await asyncio.sleep(0.3)
            assert reported(it.engine) == {}

    run(scenario())


def act(it: Plane, event: Event) -> None:
    """Act on the certificate of `stranger()`."""
    der = stranger().certificate.public_bytes(Encoding.DER)
    (found,) = (each for each in it.store.get_idp(IDP).certificates if each.der == der)
    TrustStore(it.engine).act(IDP, found.sha256, event, now=NOW, actor="test")


def test_without_a_source_nobody_waits(tmp_path: Path) -> None:
    """Metadata that was uploaded cannot be looked at early: the deny is given at once."""

    async def scenario() -> None:
        async with following(tmp_path, subscribed=False) as (it, _):
            assert (await it.answer(signed(stranger())))["reason"] == "signature_invalid"
            await asyncio.sleep(0.3)
            assert reported(it.engine) == {}
            subscribe(it.engine)
            it.holder.refresh()
            asking = asyncio.create_task(it.answer(signed(stranger())))
            await until_reported(it)
            await asyncio.to_thread(publish, tmp_path)
            assert (await asking)["reason"] == "ok"

    run(scenario())


@pytest.mark.parametrize("error", [MemoryError(), OSError("x"), TimeoutError(), KeyError("alice@corp.example")])
def test_promise_1_where_waiting_fails_the_deny_stands(tmp_path: Path, error: Exception) -> None:
    """Promise 1: whatever is raised while reporting or waiting, the answer is the first deny, recorded once."""

    class Failing:
        def subscribed(self, entity_id: str) -> bool:  # noqa: ARG002
            return True

        def report(self, signer: UnknownSigner, now: datetime) -> None:
            """Take it."""

        async def swapped(self) -> None:
            raise error

    async def scenario() -> None:
        async with plane(tmp_path, refreshes=lambda _engine, _holder: Failing()) as it:
            answer = await it.answer(signed(stranger()))
            assert (answer["decision"], answer["reason"]) == ("deny", "signature_invalid")
            (line,) = it.recorded()
            assert line.decision_id == answer["decision_id"]
            assert load_decision(it.engine, line.decision_id).judged
            assert decisions(it).waiting == 0
            assert (await it.answer(evidence()))["reason"] == "ok"
            assert "alice@" not in repr([line for line in it.lines if "exc_info" not in line])

    run(scenario())


def test_promise_1_a_cancelled_wait_is_a_deny(tmp_path: Path) -> None:
    """Promise 1: whoever is cancelled while it waits is denied, recorded, and gives its place back."""

    async def scenario() -> None:
        async with following(tmp_path) as (it, _):
            asking = asyncio.create_task(it.answer(signed(stranger())))
            await until_reported(it)
            asking.cancel()
            answer = await asking
            assert (answer["decision"], answer["reason"]) == ("deny", "internal_error")
            assert it.recorded()[0].decision == "deny"
            assert decisions(it).waiting == 0

    run(scenario())
