"""The whole process: start, callers, changes while it runs, drain, and what it says when it cannot start."""

from __future__ import annotations

import concurrent.futures
import contextlib
import gzip
import hashlib
import http.client
import itertools
import json
import os
import queue
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import open_database
from evidence_service.adapters.trust_store import SourceConfig, TrustStore
from evidence_service.demo.idp import DemoIdp, new_key, self_signed
from evidence_service.settings import PREFIX
from idp_certs.metadata import parse_metadata
from idp_certs.rollover import Event
from tests.web.listening import PATIENCE, Identity, answer_of, client_context, connected, identity, is_closed
from tests.web.plane import ALICE, AUDIENCE, IDP, KEY, RECIPIENT, add_idp, evidence, idp, prepare, question

if sys.platform == "linux":
    import fcntl

_START = """
import sys
from pathlib import Path
from evidence_service.serve import run
from evidence_service.settings import load_settings
sys.exit(run(load_settings(Path(sys.argv[1]))))
"""

_numbers = itertools.count()


@dataclass(kw_only=True)
class Running:
    """A service process and what it says."""

    process: subprocess.Popen[bytes]
    lines: queue.SimpleQueue[bytes | None]
    said: list[bytes] = field(default_factory=list)
    port: int = 0

    def line(self, event: str) -> dict[str, Any]:
        """The next log line of this event."""
        until = time.monotonic() + PATIENCE
        while (left := until - time.monotonic()) > 0:
            raw = self.lines.get(timeout=left)
            if raw is None:
                break
            self.said.append(raw)
            with contextlib.suppress(ValueError):
                line: dict[str, Any] = json.loads(raw)
                if line.get("event") == event:
                    return line
        raise AssertionError(f"no {event} in {self.said}")

    def rest(self) -> list[bytes]:
        """Everything until it ended."""
        while (raw := self.lines.get(timeout=PATIENCE)) is not None:
            self.said.append(raw)
        return self.said


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}


def _config(directory: Path, **settings: Any) -> Path:
    path = directory / "settings.toml"
    members = {"data_dir": str(directory), "listen_port": 0, "drain_seconds": 0.3, **settings}
    members.setdefault("deadline_seconds", 9 - members["drain_seconds"])  # the longest: a slow machine denies nothing
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in members.items()), encoding="utf-8")
    return path


def _start(directory: Path, *prefix: str, script: str = _START, **settings: Any) -> Running:
    command = [*prefix, sys.executable, "-c", script, str(_config(directory, **settings))]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=_environment())
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def read() -> None:
        assert process.stderr is not None
        for raw in process.stderr:
            lines.put(raw)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return Running(process=process, lines=lines)


@contextlib.contextmanager
def serving(directory: Path, *prefix: str, **settings: Any) -> Iterator[Running]:
    """A service that listens."""
    running = _start(directory, *prefix, **settings)
    try:
        running.port = int(running.line("listening")["url"].rpartition(":")[2])
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        assert running.process.stderr is not None
        running.process.stderr.close()


def ask(
    port: int,
    members: dict[str, Any] | None = None,
    *,
    path: str = "/v1/decisions",
    headers: dict[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> tuple[int, dict[str, Any]]:
    """One request on its own connection."""
    if context is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=context)
    try:
        if members is None:
            connection.request("GET", path, headers=headers or {})
        else:
            sent = {"Content-Type": "application/json", **(headers or {})}
            connection.request("POST", path, json.dumps(members), sent)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def now() -> datetime:
    """The time, as the process sees it."""
    return datetime.now(UTC)


def launch(**members: Any) -> dict[str, Any]:
    """A question that is allowed."""
    return question(evidence(at=now(), assertion_id=f"_{next(_numbers)}"), **members)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory whose database knows the IdP."""
    prepare(tmp_path)
    return tmp_path


@pytest.fixture
def store(data: Path) -> Iterator[ConfigStore]:
    """The configuration, as another process changes it."""
    engine = open_database(f"sqlite:///{data}/fas-evidence.db")
    yield ConfigStore(engine)
    engine.dispose()


def until_answered(port: int, status: int, reason: str | None = None, **how: Any) -> None:
    """Wait until a launch is answered with this status, and reason if any, as the process follows a change."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError, ssl.SSLError, http.client.HTTPException):
            answered, members = ask(port, launch(), **how)
            if answered == status and reason in (None, members.get("reason")):
                return
        time.sleep(0.05)
    raise AssertionError(f"never {status} {reason or ''}")


def test_start_serve_stop(data: Path) -> None:
    """A fresh process says what it serves, warns of anonymous callers, answers, and ends with 0."""
    with serving(data, allow_anonymous_loopback=True) as it:
        assert b'"idps":1' in it.said[-1]
        it.line("anonymous_callers_allowed")
        status, answer = ask(it.port, launch())
        assert (status, answer["decision"], answer["reason"]) == (200, "allow", "ok")
        for probe, word in (("/livez", "live"), ("/readyz", "ready"), ("/startupz", "started")):
            assert ask(it.port, path=probe) == (200, {"status": word})
        it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(PATIENCE) == 0
        assert any(b'"event":"stopped"' in line for line in it.rest())
        assert not any(b"alice" in line for line in it.said)


def test_callers_come_and_go_while_it_runs(data: Path, store: ConfigStore) -> None:
    """A key works soon after its enrolment and stops soon after its revocation (promises 35, 85)."""
    with serving(data) as it:
        it.line("no_callers")
        headers = {"Authorization": f"Bearer {KEY}"}
        assert ask(it.port, launch(), headers=headers) == (
            401,
            {"title": "Unauthorized", "status": 401, "code": "unauthorized"},
        )
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        store.enroll_plugin(name="fas1", bearer_key_sha256=digest, now=now(), actor="test")
        until_answered(it.port, 200, headers=headers)
        assert ask(it.port, path="/readyz", headers=headers) == (200, {"status": "ready"})
        store.revoke_plugin("fas1", now=now(), actor="test")
        until_answered(it.port, 403, headers=headers)
        store.set_idp_enabled(IDP, False, now=now(), actor="test")


@contextlib.contextmanager
def unread(directory: Path, **settings: Any) -> Iterator[tuple[subprocess.Popen[bytes], int, BinaryIO]]:
    """A service that listens, its port, and its log, which nobody reads any further."""
    reading, writing = os.pipe()
    if sys.platform == "linux":
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reading, "rb", buffering=0) as log:
        command = [sys.executable, "-c", _START, str(_config(directory, **settings))]
        with subprocess.Popen(command, stderr=writing, env=_environment()) as process:
            os.close(writing)
            try:
                line = b""
                while b'"event":"listening"' not in line:
                    line = log.readline()
                    assert line, "it ended"
                yield process, int(json.loads(line)["url"].rpartition(":")[2]), log
            finally:
                process.kill()


def _enroll(store: ConfigStore, name: str = "fas1") -> dict[str, str]:
    """A caller with a key; answers its headers."""
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    store.enroll_plugin(name=name, bearer_key_sha256=digest, now=now(), actor="test")
    return {"Authorization": f"Bearer {KEY}"}


def test_promise_35_a_dead_log_does_not_stop_revocation(data: Path, store: ConfigStore) -> None:
    """With nobody at the other end of stderr, changes arrive and slow connections end all the same (promises 35, 3)."""
    headers = _enroll(store)
    with unread(data, header_timeout=1) as (process, port, log), connected(port) as slow:
        log.close()
        until_answered(port, 200, "ok", headers=headers)
        assert is_closed(slow)
        store.set_idp_enabled(IDP, False, now=now(), actor="test")
        until_answered(port, 200, "idp_disabled", headers=headers)
        store.revoke_plugin("fas1", now=now(), actor="test")
        until_answered(port, 403, headers=headers)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_promise_66_a_log_that_nobody_reads_holds_no_launch(data: Path, store: ConfigStore) -> None:
    """A reader that stands still stops neither launches nor the end; later it reads whole lines (promises 2, 66)."""
    headers = _enroll(store)
    with unread(data) as (process, port, log):
        for _ in range(40):
            assert ask(port, launch())[0] == 401
        for _ in range(60 if sys.platform == "linux" else 500):
            assert ask(port, launch(), headers=headers)[1]["reason"] == "ok"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        *lines, _ = log.read().split(b"\n")
        assert {json.loads(line)["event"] for line in lines} >= {"caller_refused", "decision"}


_STUMBLING = """
import sys
from pathlib import Path
from evidence_service.web.health import Health
beat = Health.beat
def stumble(self):
    if Path(sys.argv[1]).with_name("stumble").exists():
        raise MemoryError
    beat(self)
Health.beat = stumble
"""


def test_promise_35_nobody_is_allowed_while_no_change_is_followed(data: Path, store: ConfigStore) -> None:
    """The task that follows changes ends: said, denied and unready at once, and it starts again (promise 35)."""
    headers = _enroll(store)
    with serving(data, script=_STUMBLING + _START) as it:
        assert ask(it.port, launch(), headers=headers)[1]["reason"] == "ok"
        (data / "stumble").touch()
        assert it.line("refresher_ended")["error"] == "MemoryError"
        assert ask(it.port, launch(), headers=headers)[1]["reason"] == "store_unavailable"
        assert ask(it.port, path="/readyz", headers=headers) == (503, {"status": "unready", "failing": ["store"]})
        (data / "stumble").unlink()
        until_answered(it.port, 200, "ok", headers=headers)
        store.revoke_plugin("fas1", now=now(), actor="test")
        until_answered(it.port, 403, headers=headers)


def test_promise_3_strangers_cannot_hold_all_connections(data: Path, store: ConfigStore) -> None:
    """Idle strangers at the limit, served and refused ones: a known caller gets in and stays (promises 3, 82)."""
    headers = _enroll(store)
    probe = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    with contextlib.ExitStack() as closing, serving(data, max_connections=8, header_timeout=60) as it:
        known = http.client.HTTPConnection("127.0.0.1", it.port, timeout=PATIENCE)
        closing.callback(known.close)
        for round_ in range(3):
            told_to_close = []
            for _ in range(8):
                stranger = closing.enter_context(connected(it.port))
                stranger.sendall(probe)
                answer = answer_of(stranger)
                assert answer.startswith(b"HTTP/1.1 200 ")
                told_to_close.append(b"connection: close" in answer.lower())
                silent = closing.enter_context(connected(it.port))
                silent.sendall(b"POST ")
            assert told_to_close[-1]
            assert round_ or not told_to_close[0]
            known.request(
                "POST", "/v1/decisions", json.dumps(launch()), {"Content-Type": "application/json", **headers}
            )
            response = known.getresponse()
            assert json.loads(response.read())["reason"] == "ok"
            if round_ == 0:
                mine = known.sock
            assert known.sock is mine


def test_promise_3_a_refused_caller_is_parted_with(data: Path) -> None:
    """Its connection ends with the 401; one that is still sending gets its whole 401 first (promise 3)."""
    with serving(data) as it:
        for size, closes in ((3000, True), (900_000, False)):
            with connected(it.port) as stranger:
                head = f"POST /v1/decisions HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
                stranger.sendall(head + b"a" * 3000)
                answer = answer_of(stranger)
                assert answer.startswith(b"HTTP/1.1 401 ")
                assert answer.endswith(b'"code":"unauthorized"}')
                assert (b"\r\nconnection: close\r\n" in answer.lower()) is closes
                stranger.sendall(b"a" * (size - 3000))
                assert is_closed(stranger, PATIENCE if closes else 0.2) is closes


def _tls(directory: Path) -> tuple[Identity, dict[str, Any]]:
    server = identity(directory / "tls", "server")
    return server, {"tls_certificate": str(server.certificate), "tls_key": str(server.key)}


_WATCHED = """
import threading
from evidence_service.web.tls import ServerTls
reload = ServerTls.reload
def watched(self):
    assert threading.current_thread() is threading.main_thread(), "a connection made meanwhile would have no key"
    reload(self)
ServerTls.reload = watched
"""


def test_promise_85_mutual_tls(data: Path, store: ConfigStore) -> None:
    """No certificate 401, unknown no connection, revoked 403, enrolled served; a swap fails no launch (promise 85)."""
    server, tls = _tls(data)
    known, late, gone, stranger = (identity(data / "tls", name) for name in ("fas1", "fas2", "fas3", "eve"))
    for name, each in (("fas1", known), ("fas3", gone)):
        store.enroll_plugin(name=name, certificate_der=each.der, now=now(), actor="test")
    store.revoke_plugin("fas3", now=now(), actor="test")
    with serving(data, script=_WATCHED + _START, listen_host="0.0.0.0", **tls) as it:

        def status_of(client: Identity | None, **headers: str) -> int:
            return ask(it.port, launch(), context=client_context(server, client), headers=headers)[0]

        assert status_of(None) == 401
        assert status_of(None, Authorization=f"Bearer {KEY}") == 401
        assert status_of(known) == 200
        assert status_of(gone) == 403
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            status_of(stranger)
        assert it.line("handshake_refused")["why"] == "CERTIFICATE_VERIFY_FAILED"
        assert ask(it.port, path="/readyz", context=client_context(server)) == (200, {"status": "ready"})
        store.enroll_plugin(name="fas2", certificate_der=late.der, now=now(), actor="test")
        until_answered(it.port, 200, context=client_context(server, late))
        store.revoke_plugin("fas1", now=now(), actor="test")
        until_answered(it.port, 403, context=client_context(server, known))

        renewed = identity(data / "renewed", "server")
        server.key.write_bytes(renewed.key.read_bytes())
        server.certificate.write_bytes(renewed.certificate.read_bytes())
        it.line("server_certificate_reloaded")
        assert ask(it.port, launch(), context=client_context(renewed, late))[0] == 200


def test_promise_3_a_handshake_that_stalls_is_closed(data: Path) -> None:
    """A TCP connection that never speaks TLS ends by the same limit (promise 3)."""
    _, tls = _tls(data)
    with serving(data, header_timeout=0.5, **tls) as it, connected(it.port) as silent, connected(it.port) as half:
        half.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert is_closed(silent)
        assert is_closed(half)


def is_open(connection: socket.socket) -> bool:
    """Whether the peer of this non-blocking connection has not ended it so far."""
    try:
        return connection.recv(65536) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_promise_3_slow_connections_do_not_stop_launches(data: Path) -> None:
    """500 connections that go on dripping are closed, and launches are answered meanwhile (promise 3)."""
    with serving(data, allow_anonymous_loopback=True, header_timeout=6, body_timeout=6) as it:
        head = b"POST /v1/decisions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        starts = (head + b"X: ", head + b"Content-Length: 5000\r\n\r\n{")
        slow = [connected(it.port) for _ in range(500)]
        for number, connection in enumerate(slow):
            connection.sendall(starts[number % 2])
            connection.setblocking(False)
        beside, until = [], time.monotonic() + PATIENCE
        while open_ := [connection for connection in slow if is_open(connection)]:
            assert time.monotonic() < until, f"{len(open_)} of 500 are still open"
            for connection in open_:
                with contextlib.suppress(OSError):
                    connection.send(b" ")
            until_answered(it.port, 200, "ok")
            beside.append(sum(map(is_open, slow)))
            time.sleep(0.2)
        assert beside[0] == 500
        for connection in slow:
            connection.close()


def test_promise_91_draining_loses_nothing(data: Path) -> None:
    """SIGTERM under load: unready at once, every launch that was taken is answered, and it ends (promise 91)."""
    with serving(data, allow_anonymous_loopback=True, drain_seconds=5) as it:
        stop = threading.Event()
        members = launch()

        def load() -> list[str]:
            outcomes = []
            connection = http.client.HTTPConnection("127.0.0.1", it.port, timeout=PATIENCE)
            while not stop.is_set():
                try:
                    if connection.sock is None:
                        connection.connect()
                except ConnectionRefusedError:
                    break  # the listener is closed: a load balancer has gone elsewhere long since
                connection.request("POST", "/v1/decisions", json.dumps(members), {"Content-Type": "application/json"})
                response = connection.getresponse()
                outcomes.append(json.loads(response.read())["reason"])
                if not draining.is_set():
                    continue
                connection.close()
                break  # as a caller whose load balancer saw the 503
            connection.close()
            return outcomes

        draining = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            running = [pool.submit(load) for _ in range(8)]
            it.line("decision")
            it.process.send_signal(signal.SIGTERM)
            it.line("draining")
            assert ask(it.port, path="/readyz") == (503, {"status": "unready"})
            assert ask(it.port, path="/livez")[0] == 200
            assert ask(it.port, members)[1]["reason"] == "ok"
            draining.set()
            outcomes = [reason for future in running for reason in future.result(PATIENCE)]
        assert it.process.wait(PATIENCE) == 0
        assert outcomes
        assert set(outcomes) == {"ok"}


HOSTILE = {
    "dtd": (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "xml_dtd"),
    "entity bomb": (
        b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">'
        + b"".join(b'<!ENTITY b%d "%s">' % (n, b"&b%d;" % (n - 1) * 10 if n else b"&b;" * 10) for n in range(9))
        + b"]><a>&b8;</a>",
        "xml_dtd",
    ),
    "depth": (b"<a>" * 10_000 + b"</a>" * 10_000, "xml_limits"),
    "attributes": (b"<a " + b" ".join(b'a%d=""' % n for n in range(20_000)) + b"/>", "xml_limits"),
    "elements": (b"<a>" + b"<b/>" * 60_000 + b"</a>", "xml_limits"),
    "too large": (b"<a>" + b"a" * 262_144, "evidence_too_large"),
    "gzip": (gzip.compress(b"<a/>" * 10_000), "evidence_encoding"),
    "utf-16": ("<a/>".encode("utf-16"), "xml_encoding"),
    "utf-7": (b"<?xml version='1.0' encoding='UTF-7'?><a/>", "xml_encoding"),
    "truncated": (b"<samlp:Response xmlns:samlp='urn:oasis:names:tc:SAML:2.0:protocol'><a", "xml_malformed"),
}


def _resident(process_id: int) -> int:
    """Bytes of memory that a process holds."""
    fields = Path(f"/proc/{process_id}/status").read_text(encoding="ascii").split()
    return int(fields[fields.index("VmRSS:") + 1]) * 1024


@pytest.mark.platform
def test_promise_5_hostile_xml_costs_little(data: Path) -> None:
    """Bombs of each kind are refused by name, before the deadline, and memory stays as it was (promise 5)."""
    with serving(data, allow_anonymous_loopback=True) as it:
        ask(it.port, launch())
        before = _resident(it.process.pid)
        reasons = {}
        for name, (raw, _) in HOSTILE.items():
            for number in range(3):
                status, answer = ask(it.port, question(raw, request_id=f"{name}-{number}"))
                assert (status, answer["decision"]) == (200, "deny")
            reasons[name] = answer["reason"]
        assert reasons == {name: reason for name, (_, reason) in HOSTILE.items()}
        assert _resident(it.process.pid) - before < 20_000_000
        assert ask(it.port, launch())[1]["reason"] == "ok"


@pytest.mark.platform
def test_promise_16_no_network_is_needed(data: Path) -> None:
    """In a network namespace that has nothing but itself, launches are allowed (promise 16)."""
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up 2>/dev/null || true; exec "$@"', "sh"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("network namespaces need root")
    script = (
        "import json, http.client, sys, socket\n"
        "c = http.client.HTTPConnection('127.0.0.1', 18443, timeout=60)\n"
        "c.request('POST', '/v1/decisions', open(sys.argv[1]).read(), {'Content-Type': 'application/json'})\n"
        "print(c.getresponse().read().decode())\n"
    )
    body = data / "body.json"
    body.write_text(json.dumps(launch()), encoding="utf-8")
    with serving(data, *alone, allow_anonymous_loopback=True, listen_port=18443) as it:
        inside = ["nsenter", "--net", "--target", str(it.process.pid), sys.executable, "-c", script, str(body)]
        asked = subprocess.run(inside, capture_output=True, text=True, check=True, timeout=PATIENCE)
        assert json.loads(asked.stdout)["reason"] == "ok"


def refused(directory: Path, **settings: Any) -> tuple[int, str]:
    """Exit code and last line of a process that cannot start."""
    it = _start(directory, **settings)
    code = it.process.wait(PATIENCE)
    said = it.rest()
    assert it.process.stderr is not None
    it.process.stderr.close()
    assert not any(b"Traceback" in line for line in said)
    return code, said[-1].decode().strip()


def test_a_port_in_use_is_named(data: Path) -> None:
    """Exit code 2 and one line with address and port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = refused(data, listen_port=port)
    assert code == 2
    assert line == (
        f"error: listen_host, listen_port: cannot listen on 127.0.0.1 port {port}: Address already in use;"
        " choose another address or port, or stop what listens there"
    )


def test_an_unreadable_key_is_named(data: Path) -> None:
    """Exit code 2 and one line with the file."""
    server, tls = _tls(data)
    server.key.unlink()
    code, line = refused(data, **tls)
    assert code == 2
    assert line == f"error: tls_key: cannot read {server.key}: No such file or directory"


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    """Exit code 3 and one line."""
    (tmp_path / "fas-evidence.db").write_bytes(b"not a database" * 1000)
    code, line = refused(tmp_path)
    assert code == 3
    assert line.startswith("error: ")


def test_a_fresh_directory_is_enough(tmp_path: Path) -> None:
    """The first start makes its database, says that nobody may ask, and is ready (promise 98)."""
    directory = tmp_path / "new" / "place"
    with serving(tmp_path, data_dir=str(directory), allow_anonymous_loopback=True) as it:
        it.line("no_idps")
        assert ask(it.port, launch())[1]["reason"] == "issuer_unknown"


def test_readiness_tells_known_callers_why(data: Path, store: ConfigStore) -> None:
    """A known plug-in sees the failing conditions, anyone else one word (promise 90)."""
    store.enroll_plugin(
        name="fas1", bearer_key_sha256=hashlib.sha256(KEY.encode()).hexdigest(), now=now(), actor="test"
    )
    with serving(data, drain_seconds=5) as it:
        it.process.send_signal(signal.SIGTERM)
        it.line("draining")
        assert ask(it.port, path="/readyz") == (503, {"status": "unready"})
        assert ask(it.port, path="/readyz", headers={"Authorization": f"Bearer {KEY}"}) == (
            503,
            {"status": "unready", "failing": ["draining"]},
        )


def test_every_answer_hides_the_server(data: Path) -> None:
    """Neither Server nor Date on good, bad and broken requests (promise 89)."""
    with serving(data) as it:
        for raw in (
            b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /v1/decisions HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            b"\x00\x01\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        ):
            with connected(it.port) as connection:
                connection.sendall(raw)
                head = answer_of(connection).partition(b"\r\n\r\n")[0].lower()
                assert b"\r\nserver:" not in head
                assert b"\r\ndate:" not in head
                assert b"\r\nx-content-type-options: nosniff" in head


def test_the_idp_that_is_added_later_is_known(tmp_path: Path) -> None:
    """Importing metadata while it runs is enough; nobody restarts anything."""
    prepare(tmp_path, with_idp=False)
    with serving(tmp_path, allow_anonymous_loopback=True) as it:
        assert ask(it.port, launch())[1]["reason"] == "issuer_unknown"
        engine = open_database(f"sqlite:///{tmp_path}/fas-evidence.db")
        add_idp(engine, now=now())
        engine.dispose()
        it.line("configuration_changed")
        assert ask(it.port, launch())[1]["reason"] == "ok"


def _posted(connection: http.client.HTTPConnection, members: dict[str, Any]) -> str:
    """The reason that a question is answered with, on this connection."""
    connection.request("POST", "/v1/decisions", json.dumps(members), {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    assert (answer["decision"] == "allow") is (answer["reason"] == "ok")
    return str(answer["reason"])


def _constantly(port: int, raw: bytes, stop: threading.Event) -> list[tuple[float, float, str]]:
    """Ask about the same evidence all the time; when asked, when answered and the reason, of each."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    asked = []
    with contextlib.closing(connection):
        while not stop.is_set():
            began = time.monotonic()
            reason = _posted(connection, question(raw))
            asked.append((began, time.monotonic(), reason))
    return asked


BUSY = {"deadline", "journal_unavailable"}
"""Denials by two processes that write into one file on a busy machine."""


def test_promise_35_a_revoked_active_key_allows_nobody(data: Path, store: ConfigStore) -> None:
    """Promise 35: under load on two processes, evidence remembered or new; no allow once the change was looked for.

    A process looks every half a second, whatever it is asked; 1.5 s is the most that can be set.
    """
    raw = evidence(at=now(), assertion_id="_remembered")
    (certificate,) = store.get_idp(IDP).certificates
    directories = [data / name for name in ("one", "two")]
    for directory in directories:
        directory.mkdir()
    shared = {
        "allow_anonymous_loopback": True,
        "data_dir": str(data),
        "database_url": f"sqlite:///{data}/fas-evidence.db",
    }
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(4))
        stack.callback(stop.set)
        processes = [stack.enter_context(serving(each, **shared)) for each in directories]
        ports = [each.port for each in processes]
        running = [pool.submit(_constantly, port, raw, stop) for port in (*ports, *ports)]
        for each in processes:
            assert each.line("decision")["reason"] == "ok"
        engine = open_database(f"sqlite:///{data}/fas-evidence.db")
        TrustStore(engine).act(IDP, certificate.sha256, Event.REVOKE, now=now(), actor="test")
        engine.dispose()
        for each in processes:
            each.line("configuration_changed")
        followed = time.monotonic()
        for port in ports:
            assert ask(port, launch())[1]["reason"] == "certificate_revoked"
            assert ask(port, question(raw))[1]["reason"] == "certificate_revoked"
        time.sleep(0.5)
        stop.set()
        for future in running:
            answers = future.result(PATIENCE)
            assert {reason for _, _, reason in answers} - BUSY == {"ok", "certificate_revoked"}
            afterwards = {reason for asked, _, reason in answers if asked >= followed}
            assert afterwards - BUSY == {"certificate_revoked"}


def _new_key(store: ConfigStore, directory: Path) -> tuple[DemoIdp, Callable[[], None]]:
    """The IdP after an unannounced rollover, which has a source; and what a refresh would do."""
    engine = store._engine
    TrustStore(engine).add_source(
        entity_id=IDP,
        source=SourceConfig(url="https://idp.example/metadata"),
        now=now(),
        actor="test",
        jitter=0.5,
        seen=None,
    )
    key = new_key()
    made = self_signed("new", key, not_before=now() - timedelta(days=1), not_after=now() + timedelta(days=1))
    rolled = replace(idp(), key=key, certificate=made)
    document = rolled.metadata()

    def publish() -> None:
        mine = open_database(f"sqlite:///{directory}/fas-evidence.db")
        ConfigStore(mine).add_idp(
            metadata=parse_metadata(document)[0], document=document, policy=None, now=now(), actor="test"
        )
        mine.dispose()

    return rolled, publish


def _signed(by: DemoIdp, assertion_id: str) -> dict[str, Any]:
    raw = by.issue(
        upn=ALICE,
        issue_instant=now() - timedelta(seconds=10),
        audience=AUDIENCE,
        recipient=RECIPIENT,
        assertion_id=assertion_id,
    )
    return question(raw)


def test_promise_30_a_launch_waits_for_the_key_in_the_real_process(data: Path, store: ConfigStore) -> None:
    """Promise 30: reported through the store, and allowed once another process has published the key.

    All processes take a new snapshot over, also those where nobody waits.
    """
    rolled, publish = _new_key(store, data)
    other = data / "other"
    other.mkdir()
    shared = {
        "allow_anonymous_loopback": True,
        "data_dir": str(data),
        "database_url": f"sqlite:///{data}/fas-evidence.db",
    }
    with (
        serving(data, **shared) as it,
        serving(other, **shared) as second,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        asking = pool.submit(ask, it.port, _signed(rolled, "_r1"))
        trust = TrustStore(store._engine)
        until = time.monotonic() + PATIENCE
        while not trust.unknown_signers(IDP) and time.monotonic() < until:
            time.sleep(0.02)
        (seen,) = trust.unknown_signers(IDP)
        assert seen.certificate_sha256 == hashlib.sha256(rolled.certificate.public_bytes(Encoding.DER)).hexdigest()
        time.sleep(0.3)
        assert not asking.done()
        publish()
        assert asking.result(PATIENCE)[1]["reason"] == "ok"
        second.line("configuration_changed")
        assert ask(second.port, _signed(rolled, "_r2"))[1]["reason"] == "ok"


_HURRIED = """
from evidence_service.web import decisions
decisions.RECORDING = 6.7  # of 8.7 s: waits for new trust no longer than 2 s
"""


def test_promise_30_a_refresh_after_the_deadline_helps_the_next_launch(data: Path, store: ConfigStore) -> None:
    """Promise 30: what comes after the deadline is too late for the launch that met the key; the next is allowed."""
    rolled, publish = _new_key(store, data)
    with serving(data, script=_HURRIED + _START, allow_anonymous_loopback=True) as it:
        assert ask(it.port, _signed(rolled, "_r1"))[1]["reason"] == "signature_invalid"
        publish()
        it.line("configuration_changed")
        assert ask(it.port, _signed(rolled, "_r1"))[1]["reason"] == "ok"
        it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(PATIENCE) == 0
