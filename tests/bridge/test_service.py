"""The compiled plug-in against the real service: who may ask, what it learns, and that launches do not wait in line."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import open_database
from evidence_service.demo.idp import ADFS
from plugin_bridge.client import Question, ask, read_settings
from tests.bridge.given import Plugin, failure_codes, needs_mono, pin, settings_for
from tests.bridge.misbehaving import misbehaving, says, server_context
from tests.bridge.test_fail_closed import PATIENT, question
from tests.web.listening import Identity, client_context, identity
from tests.web.plane import ALICE, AUDIENCE, RECIPIENT, evidence, idp
from tests.web.test_serve import Running, serving

POLICY = f"""\
audiences = ["{AUDIENCE}"]
recipients = ["{RECIPIENT}"]
upn_from = ["{ADFS.upn_from}"]
upn_suffixes = ["corp.example"]
"""
CALLERS = 64


def command(*arguments: str | Path) -> str:
    """The command line, which must succeed."""
    ran = subprocess.run(
        [sys.executable, "-m", "evidence_service", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A service directory that was filled by commands, and the plug-in's certificate that one of them made."""

    directory: Path
    server: Identity
    fas1: Identity

    def serve(self, **settings: Any) -> contextlib.AbstractContextManager[Running]:
        """The real process, over TLS."""
        return serving(
            self.directory,
            listen_host="0.0.0.0",
            tls_certificate=str(self.server.certificate),
            tls_key=str(self.server.key),
            **settings,
        )

    def store(self) -> ConfigStore:
        """The configuration, as another process changes it."""
        return ConfigStore(open_database(f"sqlite:///{self.directory}/fas-evidence.db"))


@pytest.fixture
def enrolled(tmp_path: Path) -> Enrolled:
    """A service that is ready to be asked."""
    return enrol(tmp_path)


def enrol(tmp_path: Path) -> Enrolled:
    """An IdP and a plug-in, registered by the commands that an administrator uses."""
    (tmp_path / "metadata.xml").write_bytes(idp().metadata())
    (tmp_path / "policy.toml").write_text(POLICY, encoding="utf-8")
    where = ("--database", f"sqlite:///{tmp_path}/fas-evidence.db")
    policy = ("--policy", tmp_path / "policy.toml")
    command(*where, "idp", "add", "--metadata", tmp_path / "metadata.xml", *policy, "--yes")
    command(*where, "plugin", "enroll", "fas1", "--out", tmp_path)
    certificate = tmp_path / "fas1.crt.pem"
    fas1 = Identity(
        certificate=certificate,
        key=tmp_path / "fas1.key.pem",
        der=ssl.PEM_cert_to_DER_cert(certificate.read_text(encoding="ascii")),
    )
    return Enrolled(directory=tmp_path, server=identity(tmp_path / "tls", "server"), fas1=fas1)


def launch(upn: str = ALICE, **changes: Any) -> dict[str, Any]:
    """A question with genuine evidence of now, as the test host reads it."""
    raw = evidence(at=datetime.now(UTC), assertion_id=f"_{uuid.uuid4().hex}")
    item = {"type": "SAMLResponse", "value": base64.b64encode(raw).decode()}
    return {"id": "x", "upn": upn, "evidence": [item], **changes}


def raw_of(members: dict[str, Any]) -> bytes:
    """Its evidence."""
    return base64.b64decode(members["evidence"][0]["value"])


def settings_of(enrolled: Enrolled, running: Running, **members: object) -> Path:
    """The settings of the enrolled plug-in for the running service."""
    return settings_for(enrolled.directory, running.port, enrolled.server, enrolled.fas1, **members)


@needs_mono
def test_a_launch_is_allowed_and_a_forged_one_denied(plugin: Plugin, enrolled: Enrolled) -> None:
    """From commands alone to an allow for the user in the evidence, and a deny for another (promise 1)."""
    with enrolled.serve() as it:
        settings = settings_of(enrolled, it)
        answers = plugin.ask(settings, [launch(id="alice"), launch("bob@corp.example", id="bob")])
        assert (answers["alice"]["allowed"], answers["alice"]["reason"]) == (True, "ok")
        bob = answers["bob"]
        assert (bob["allowed"], bob["failure"], bob["reason"]) == (False, None, "upn_mismatch")
        mine = launch()
        reference = ask(read_settings(settings), Question(upn=ALICE, evidence=(raw_of(mine),)))
        assert (reference.allowed, reference.reason) == (True, "ok")
        told = command("--database", f"sqlite:///{enrolled.directory}/fas-evidence.db", "explain", bob["decision_id"])
        assert "upn_mismatch" in told


@needs_mono
def test_promise_17_nothing_of_the_evidence_is_told(plugin: Plugin, enrolled: Enrolled, tmp_path: Path) -> None:
    """Answers and events carry reason codes and ids, never user, evidence, expected or presented (promise 17)."""
    events = tmp_path / "events"
    events.mkdir()
    questions = [launch(id="allow"), launch("bob@corp.example", id="deny")]
    with enrolled.serve() as it:
        settings = settings_of(enrolled, it)
        answers = plugin.ask(settings, questions, events=events)
    failed = plugin.ask(settings, [launch(id="failure")], events=events)["failure"]
    assert failed["failure"] == "no_service"
    told = json.dumps([answers, failed]) + "".join(path.read_text(encoding="utf-8") for path in events.rglob("*.log"))
    for secret in (
        "alice",
        "bob",
        "corp.example",
        "idp.example",
        "gw.example",
        questions[0]["evidence"][0]["value"][:40],
    ):
        assert secret not in told, secret
    written = {int(path.stem): path.read_text(encoding="utf-8") for path in events.rglob("*.log")}
    all_events = "\n".join(written.values())
    for id_, text in (
        (1000, "Allowed."),
        (2000, "Denied by the service: upn_mismatch."),
        (3011, "Denied: no_service."),
    ):
        assert f"InstanceID: {id_}" in all_events
        assert text in all_events
    assert failure_codes()["no_service"] == 3011
    assert answers["deny"]["decision_id"] in all_events


@needs_mono
def test_promise_85_only_an_enrolled_plugin_is_answered(plugin: Plugin, enrolled: Enrolled) -> None:
    """Stranger, expired and revoked certificates are refused, whatever a proxy adds, and old TLS too (promise 85)."""
    stranger = identity(enrolled.directory / "other", "fas1")
    expired = identity(enrolled.directory / "expired", "old", days=-1)
    store = enrolled.store()
    store.enroll_plugin(name="old", certificate_der=expired.der, now=datetime.now(UTC), actor="test")
    with enrolled.serve() as it:
        (enrolled.directory / "b").mkdir()
        foreign = settings_for(enrolled.directory / "b", it.port, enrolled.server, stranger)
        said = plugin.ask(foreign, [launch()])["x"]
        assert (said["allowed"], said["failure"]) == (False, "tls_refused")
        assert it.line("handshake_refused")["why"] == "CERTIFICATE_VERIFY_FAILED"

        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            post(it.port, launch(), context=client_context(enrolled.server, expired))
        assert it.line("handshake_refused")["verification"] == "certificate has expired"

        headers = {"X-SSL-Client-Cert": enrolled.fas1.certificate.read_text("ascii").replace("\n", "%0A")}
        headers |= {"X-Forwarded-Client-Cert": f"Hash={pin(enrolled.fas1)}", "X-ARR-ClientCert": pin(enrolled.fas1)}
        status, _ = post(it.port, launch(), context=client_context(enrolled.server), headers=headers)
        assert status == 401

        old = client_context(enrolled.server, enrolled.fas1)
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            post(it.port, launch(), context=old)
        weak = client_context(enrolled.server, enrolled.fas1)
        weak.maximum_version = ssl.TLSVersion.TLSv1_2
        weak.set_ciphers("AES128-SHA:AES256-SHA256")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            post(it.port, launch(), context=weak)

        settings = settings_of(enrolled, it)
        assert plugin.ask(settings, [launch()])["x"]["allowed"]
        store.revoke_plugin("fas1", now=datetime.now(UTC), actor="test")
        time.sleep(2)
        said = plugin.ask(settings, [launch()])["x"]
        assert (said["allowed"], said["failure"]) == (False, "caller_refused")


def post(
    port: int, members: dict[str, Any], *, context: ssl.SSLContext, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """One request that keeps to no rule of ours."""
    body = {"request_id": "r-1", "upn": members["upn"], "evidence": members["evidence"]}
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    try:
        connection.request(
            "POST", "/v1/decisions", json.dumps(body), {"Content-Type": "application/json", **(headers or {})}
        )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@needs_mono
def test_promise_85_the_server_certificate_is_swapped_under_load(plugin: Plugin, enrolled: Enrolled) -> None:
    """With both pins in the settings, a swap under 16 callers and new handshakes fails none (promise 85)."""
    renewed = identity(enrolled.directory / "renewed", "server")
    seen: set[str] = set()
    refused: list[str] = []
    stop = threading.Event()
    with enrolled.serve() as it:
        pins = [pin(enrolled.server), pin(renewed)]
        settings = settings_of(enrolled, it, ServerPin=pins)
        loaded = read_settings(settings)

        def handshakes() -> None:
            while not stop.is_set():
                said = ask(loaded, Question(upn=ALICE, evidence=(raw_of(launch()),)))
                seen.add(_shown(it.port))
                if not said.allowed:
                    refused.append(f"{said.reason} {said.detail}")

        def swap() -> None:
            time.sleep(1.5)
            shutil.copy(renewed.certificate, enrolled.server.certificate)
            shutil.copy(renewed.key, enrolled.server.key)

        threads = [threading.Thread(target=handshakes), threading.Thread(target=swap)]
        for thread in threads:
            thread.start()
        try:
            measured = [plugin.load(settings, [launch() for _ in range(50)], callers=16, count=1500) for _ in range(2)]
            until = time.monotonic() + 30
            while len(seen) < 2 and time.monotonic() < until:
                time.sleep(0.1)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        after = plugin.load(settings, [launch()], callers=4, count=40)
    assert refused == []
    assert seen == set(pins)
    assert [(each["asked"], each["allowed"], each["failures"]) for each in (*measured, after)] == [
        (1500, 1500, []),
        (1500, 1500, []),
        (40, 40, []),
    ]


def _shown(port: int) -> str:
    der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port)))
    return hashlib.sha256(der).hexdigest()


@needs_mono
def test_a_restart_of_the_service_fails_over_to_the_other(plugin: Plugin, enrolled: Enrolled) -> None:
    """One of two addresses is down, and every launch of 16 callers is allowed by the other."""
    with enrolled.serve() as it:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            dead = taken.getsockname()[1]
        settings = settings_for(enrolled.directory, [dead, it.port], enrolled.server, enrolled.fas1)
        measured = plugin.load(settings, [launch()], callers=16, count=400)
    assert (measured["allowed"], measured["failures"]) == (400, [])


@needs_mono
def test_sixty_four_callers_do_not_wait_in_line(
    plugin: Plugin, tmp_path: Path, server: Identity, client: Identity
) -> None:
    """256 questions of 64 callers to a service that takes half a second: many are on the way together."""
    with misbehaving(server_context(server), lambda _: lambda own: [0.5, *says()(own)]) as it:
        settings = settings_for(tmp_path, it.port, server, client, **PATIENT)
        measured = plugin.load(settings, [question()], callers=CALLERS, count=256)
    assert (measured["allowed"], measured["failures"]) == (256, [])
    assert it.at_once > CALLERS / 4


@needs_mono
def test_sixty_four_callers_are_answered_by_the_service(plugin: Plugin, enrolled: Enrolled) -> None:
    """The real service decides 1280 launches of 64 callers, and none fails."""
    with enrolled.serve(deadline_seconds=8.0, drain_seconds=0) as it:
        members = {"AttemptMilliseconds": 20000, "DeadlineMilliseconds": 20000}
        settings = settings_of(enrolled, it, **members)
        measured = plugin.load(settings, [launch() for _ in range(64)], callers=CALLERS, count=1280)
    assert (measured["allowed"], measured["failures"]) == (1280, [])
