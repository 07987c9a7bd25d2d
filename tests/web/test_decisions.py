"""One question, one answer, one record: the endpoint as its callers see it."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evidence_service.access.model import FasRule, Mode
from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.journal import load_decision
from evidence_service.web.problems import SECURITY_HEADERS
from tests.web.plane import ALICE, IDP, NOW, Plane, add_idp, as_json, evidence, plane, question, run

JSON = {"content-type": "application/json"}


def test_genuine_evidence_is_allowed_and_recorded(tmp_path: Path) -> None:
    """The answer has exactly the contract's members, and the record is there before it is read."""

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            answer = await it.answer(evidence(), phase="assert")
            (line,) = it.recorded()
            assert answer == {
                "request_id": "r-1",
                "decision_id": line.decision_id,
                "decision": "allow",
                "reason": "ok",
                "rule": None,
                "security_context": None,
                "mode": "enforce",
            }
            assert (line.decision, line.reason, line.entity_id) == ("allow", "ok", IDP)
            assert line.answered == "yes"

    run(scenario())


def test_the_same_evidence_again_is_allowed_and_another_users_is_not(tmp_path: Path) -> None:
    """Remembered signatures change nothing about time, user or trust (promise 11)."""

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            raw = evidence()
            for _ in range(3):
                assert (await it.answer(raw))["reason"] == "ok"
            assert (await it.answer(raw, upn="bob@corp.example"))["reason"] == "upn_mismatch"
            it.clock.now = NOW + timedelta(hours=9)
            assert (await it.answer(raw))["reason"] == "evidence_too_old"
            it.clock.now = NOW + timedelta(hours=10)
            it.store.set_idp_enabled(IDP, False, now=it.clock.now, actor="test")
            assert it.holder.refresh()
            assert (await it.answer(raw))["reason"] == "idp_disabled"

    run(scenario())


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"evidence": []}, "evidence_missing"),
        ({"evidence": [{"type": "Kerberos", "value": "QQ=="}]}, "evidence_missing"),
        ({"evidence": [{"type": "SAMLResponse", "value": ""}]}, "evidence_empty"),
        ({"evidence": [{"type": "SAMLResponse", "value": "?"}]}, "evidence_encoding"),
        ({"evidence": [{"type": "SAMLResponse", "value": "<Response/>"}]}, "evidence_encoding"),
        ({"upn": ""}, "upn_expected_missing"),
        ({"upn": "alice@corp.example "}, "upn_invalid"),
    ],
)
def test_what_the_operator_must_learn_is_a_recorded_deny(tmp_path: Path, members: dict[str, Any], reason: str) -> None:
    """A shim that says it well but has nothing good to say gets a decision, not a 400."""

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            response = await it.client.post("/v1/decisions", json={**question(evidence()), **members})
            assert response.status_code == 200
            assert response.json()["decision"] == "deny"
            assert response.json()["reason"] == reason
            assert [line.reason for line in it.recorded()] == [reason]

    run(scenario())


def test_evidence_above_its_limit_is_a_decision(tmp_path: Path) -> None:
    """256 KiB and one byte fit into the body, so that the deny is recorded (promise 5)."""

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            assert (await it.answer(b"<" + b"a" * 262_144))["reason"] == "evidence_too_large"

    run(scenario())


def test_the_wires_own_base64_is_judged_by_the_wire(tmp_path: Path) -> None:
    """XML without base64 is refused though `decide` would read it, and the record says who refused."""

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            raw = evidence()
            members = {**question(raw), "evidence": [{"type": "SAMLResponse", "value": raw.decode()}]}
            answer = (await it.client.post("/v1/decisions", json=members)).json()
            assert (answer["decision"], answer["reason"]) == ("deny", "evidence_encoding")
            stored = load_decision(it.engine, answer["decision_id"])
            assert not stored.judged
            assert stored.request.evidence == (raw,)
            assert stored.findings[0].where == "evidence[0].value"

    run(scenario())


def test_evidence_in_the_post_binding_form_is_read(tmp_path: Path) -> None:
    """StoreFront versions hand over the XML or its base64; the wire's base64 is around either."""

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            assert (await it.answer(base64.b64encode(evidence())))["reason"] == "ok"

    run(scenario())


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{}", JSON, 400, "malformed"),
        (b"{", JSON, 400, "malformed"),
        (as_json({**question(None), "upn_hint": "x"}), JSON, 400, "malformed"),
        (as_json(question(None)), {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (as_json(question(None)), {"content-type": "application/jsonp"}, 415, "unsupported_media_type"),
        (as_json(question(None)), {}, 415, "unsupported_media_type"),
        (as_json(question(None)), {**JSON, "content-encoding": "gzip"}, 415, "unsupported_media_type"),
        (b"x" * 20_000, JSON, 413, "content_too_large"),
        (b"{}", {**JSON, "content-length": "99999999999999999999999999"}, 413, "content_too_large"),
    ],
)
def test_what_breaks_the_contract_is_a_problem(
    tmp_path: Path, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    """RFC 9457, no decision and no record: 4xx means that the shim spoke badly."""

    async def scenario() -> None:
        async with plane(tmp_path, max_body_bytes=16_384) as it:
            response = await it.client.post("/v1/decisions", content=body, headers=headers)
            assert response.status_code == status
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["code"] == code
            assert "decision" not in response.json()
            assert it.recorded() == ()

    run(scenario())


def test_the_media_type_may_have_parameters(tmp_path: Path) -> None:
    """.NET sends a charset."""

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            headers = {"content-type": "Application/JSON; charset=utf-8"}
            response = await it.client.post("/v1/decisions", content=as_json(question(evidence())), headers=headers)
            assert response.json()["reason"] == "ok"

    run(scenario())


def test_a_body_in_pieces_is_limited_while_it_comes(tmp_path: Path) -> None:
    """Without Content-Length the limit holds all the same."""

    async def scenario() -> None:
        async with plane(tmp_path, max_body_bytes=16_384) as it:
            sent = 0

            async def endless() -> AsyncIterator[bytes]:
                nonlocal sent
                while True:
                    sent += 1024
                    yield b" " * 1024

            response = await it.client.post("/v1/decisions", content=endless(), headers=JSON)
            assert response.status_code == 413
            assert sent <= 16_384 + 2048

    run(scenario())


def test_the_caller_is_judged_before_its_body_is_read(tmp_path: Path) -> None:
    """A stranger cannot make us read or parse anything."""

    async def scenario() -> None:
        async with plane(tmp_path, allow_anonymous_loopback=False) as it:

            async def unwanted() -> AsyncIterator[bytes]:
                pytest.fail("the body was read")
                yield b""

            response = await it.client.post("/v1/decisions", content=unwanted(), headers=JSON)
            assert response.status_code == 401

    run(scenario())


def test_promise_89_nothing_else_is_there(tmp_path: Path) -> None:
    """No documentation, no schema, no index; every answer has the security headers and names no product."""

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            for method, path, status in (
                ("GET", "/", 404),
                ("GET", "/docs", 404),
                ("GET", "/redoc", 404),
                ("GET", "/openapi.json", 404),
                ("GET", "/metrics", 404),
                ("GET", "/v1/decisions", 405),
                ("PUT", "/v1/decisions", 405),
                ("POST", "/v1/decisions/", 404),
                ("POST", "/livez", 405),
                ("GET", "/livez", 200),
                ("POST", "/v1/decisions", 415),
            ):
                response = await it.client.request(method, path)
                assert response.status_code == status, path
                for name, value in SECURITY_HEADERS:
                    assert response.headers[name.decode()] == value.decode()
                assert "server" not in response.headers
                if status != 200:
                    assert response.headers["content-type"] == "application/problem+json"

    run(scenario())


def test_observe_mode_allows_and_says_why_it_would_not(tmp_path: Path) -> None:
    """The deny is recorded as made; the wire says allow, the deny's code and `observe`."""

    def rules(store: ConfigStore) -> None:
        store.set_rule(FasRule(name="trial", mode=Mode.OBSERVE), now=NOW, actor="test")
        store.set_rule(FasRule(name="default"), now=NOW, actor="test")

    async def scenario() -> None:
        async with plane(tmp_path, rules=rules) as it:
            answer = await it.answer(evidence(), upn="bob@corp.example", rule="trial")
            assert (answer["decision"], answer["reason"], answer["mode"]) == ("allow", "upn_mismatch", "observe")
            (line,) = it.recorded()
            assert (line.decision, line.reason, line.mode) == ("deny", "upn_mismatch", Mode.OBSERVE)
            for rule in ("default", "unknown", None):
                answer = await it.answer(evidence(), upn="bob@corp.example", rule=rule)
                assert (answer["decision"], answer["mode"]) == ("deny", "enforce")

    run(scenario())


def test_observe_mode_never_covers_our_own_faults(tmp_path: Path) -> None:
    """Without a record there is no allow, observed or not (promise 65)."""

    def rules(store: ConfigStore) -> None:
        store.set_rule(FasRule(name="trial", mode=Mode.OBSERVE), now=NOW, actor="test")

    async def scenario() -> None:
        async with plane(tmp_path, rules=rules) as it:
            await it.journal.stop()
            answer = await it.answer(evidence(), rule="trial")
            assert (answer["decision"], answer["reason"]) == ("deny", "journal_unavailable")
            assert answer["mode"] == "enforce"

    run(scenario())


def test_a_clock_behind_the_records_denies(tmp_path: Path) -> None:
    """Within the tolerance it goes on, beyond it nothing is allowed and the replica is unready (promise 10)."""

    async def scenario() -> None:
        async with plane(tmp_path, clock_tolerance_seconds=5) as it:
            raw = evidence()
            assert (await it.answer(raw))["reason"] == "ok"
            it.clock.now = NOW - timedelta(seconds=5)
            assert (await it.answer(raw))["reason"] == "ok"
            assert (await it.client.get("/readyz")).status_code == 200
            it.clock.now = NOW - timedelta(seconds=5, microseconds=1)
            assert (await it.answer(raw))["reason"] == "clock_untrusted"
            assert (await it.client.get("/readyz")).status_code == 503
            assert [line.reason for line in it.recorded()] == ["clock_untrusted", "ok", "ok"]

    run(scenario())


def test_promise_2_a_locked_database_is_a_deny_in_time(tmp_path: Path) -> None:
    """The answer comes by the deadline, and what is recorded later says that it came too late (promise 2)."""

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            assert (await it.answer(evidence()))["reason"] == "ok"
            decisions = it.app.state.decisions
            patient = decisions.limits
            decisions._limits = replace(patient, deadline=0.4)
            blocker = sqlite3.connect(tmp_path / "fas-evidence.db", isolation_level=None)
            blocker.execute("BEGIN IMMEDIATE")
            answer = await it.answer(evidence(), request_id="r-2")
            blocker.execute("ROLLBACK")  # so the answer came while nothing could be recorded
            blocker.close()
            decisions._limits = patient
            assert (answer["decision"], answer["reason"]) == ("deny", "deadline")
            assert answer["request_id"] == "r-2"
            for _ in range(1000):
                late = [line for line in it.recorded() if line.decision_id == answer["decision_id"]]
                if late and (late[0].answered == "late" or late[0].reason == "deadline"):
                    break
                await asyncio.sleep(0.05)
            assert [line.answered for line in late] in (["late"], ["yes"])
            assert late[0].answered == "late" or late[0].reason == "deadline"
            assert (await it.answer(evidence()))["reason"] == "ok"

    run(scenario())


def test_overload_is_shed_at_once(tmp_path: Path) -> None:
    """Above the bound: 503 with Retry-After, no record, unready; below it everything is normal (promise 4)."""

    async def scenario() -> None:
        async with plane(tmp_path, max_in_flight=2) as it:
            blocker = sqlite3.connect(tmp_path / "fas-evidence.db", isolation_level=None)
            blocker.execute("BEGIN IMMEDIATE")
            raw = evidence()
            held = [asyncio.create_task(it.ask(raw, request_id=f"held-{number}")) for number in range(2)]
            while it.app.state.decisions.in_flight < 2:  # noqa: ASYNC110 - a number, not an event
                await asyncio.sleep(0.005)
            responses = await asyncio.gather(*(it.ask(raw, request_id=f"shed-{number}") for number in range(20)))
            for response in responses:
                assert response.status_code == 503
                assert response.headers["retry-after"] == "1"
                assert response.json()["code"] == "overloaded"
            assert (await it.client.get("/readyz")).status_code == 503
            blocker.execute("ROLLBACK")
            blocker.close()
            assert {task.json()["reason"] for task in await asyncio.gather(*held)} == {"ok"}
            assert (await it.client.get("/readyz")).status_code == 200
            assert (await it.answer(raw))["reason"] == "ok"
            assert len(it.recorded()) == 3

    run(scenario())


def test_promise_17_the_wire_never_tells_what_was_expected(tmp_path: Path) -> None:
    """Denials of every kind have the same members, and no value from policy or evidence is among them."""

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            add_idp(it.engine, audiences=("urn:canary-audience",), recipients=("https://canary.example/acs",))
            assert it.holder.refresh()
            raw = evidence()
            shapes = set()
            for presented in (raw, raw.replace(b"alice", b"mallo"), b"<a/>", b"", None, b"<!DOCTYPE a><a/>"):
                for upn in (ALICE, "canary@corp.example", ""):
                    response = await it.ask(presented, upn=upn)
                    assert response.status_code == 200
                    assert response.json()["decision"] == "deny"
                    assert "canary" not in response.text
                    assert "alice" not in response.text
                    shapes.add((tuple(response.json()), tuple(sorted(response.headers))))
            assert len(shapes) == 1

    run(scenario())


def test_promise_17_strangers_learn_nothing(tmp_path: Path) -> None:
    """Without a known identity every question gets the same answer, byte for byte."""

    async def scenario() -> None:
        async with plane(tmp_path, allow_anonymous_loopback=False) as it:
            bodies = (as_json(question(evidence())), as_json(question(None)), b"{", b"", b"x" * 2_000_000)
            answers = set()
            for body in bodies:
                for headers in (JSON, {}, {**JSON, "authorization": "Bearer wrong"}, {"content-type": "text/plain"}):
                    response = await it.client.post("/v1/decisions", content=body, headers=headers)
                    answers.add((response.status_code, response.content, tuple(sorted(response.headers.items()))))
            ((status, content, _),) = answers
            assert status == 401
            assert json.loads(content) == {"title": "Unauthorized", "status": 401, "code": "unauthorized"}
            assert it.recorded() == ()

    run(scenario())


def test_h11_hostile_text_stays_on_its_line(tmp_path: Path) -> None:
    """Names and ids can neither break a log line nor fill it (H11), and nobody is named in the log (promise 72)."""

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            hostile = 'x\r\n{"event":"decision","decision":"allow"}\x1b[31m\u2028\u202e%s'
            await it.answer(evidence(), request_id=hostile, upn="eve@corp.example\r\n", sid=hostile, rule=hostile)
            (line,) = it.said("decision")
            assert set(line) == {
                "decision", "decision_id", "event", "idp", "log_level", "mode", "ms", "plugin", "reason",
                "request_id", "snapshot",
            }  # fmt: skip
            assert line["request_id"] == hostile  # escaped by the sink, see test_logs
            assert "eve@" not in repr(it.lines)
            assert "alice@" not in repr(it.lines)

    run(scenario())


async def _all(it: Plane, count: int) -> list[dict[str, Any]]:
    raw = evidence()
    return list(await asyncio.gather(*(it.answer(raw, request_id=f"r-{number}") for number in range(count))))


def test_concurrent_questions_keep_apart(tmp_path: Path) -> None:
    """Each answer carries its own request id and its own record."""

    async def scenario() -> None:
        async with plane(tmp_path) as it:
            answers = await _all(it, 200)
            assert [answer["request_id"] for answer in answers] == [f"r-{number}" for number in range(200)]
            assert len({answer["decision_id"] for answer in answers}) == 200
            assert {answer["decision"] for answer in answers} == {"allow"}

    run(scenario())
