"""Three ways to ask whether evidence is good: the function, the command line, the running service."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from evidence_service.access.decide import decide
from evidence_service.access.model import AccessRequest, Allow, Snapshot
from evidence_service.access.policy import parse_policy
from idp_certs.metadata import parse_metadata
from idp_certs.model import CertificateState, IdentityProvider, SigningCertificate, TrustSnapshot
from tests.e2e.browser import loopback
from tests.e2e.idps import START_SECONDS, process

ALICE = "alice@corp.example"
BOB = "bob@corp.example"
KEY_NAME = "gateway.key"
POLICY = f"""\
audiences = ["https://gw.example"]
recipients = ["https://gw.example/cgi/samlauth"]
upn_from = ["attribute:http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn"]
upn_suffixes = ["corp.example"]
max_age = "4h"
decryption_keys = ["{KEY_NAME}"]
"""
COMMAND = [sys.executable, "-m", "evidence_service"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Evidence and all that it is judged by. `at` (UTC) is now where it is None; `key` is a PEM file."""

    evidence: bytes
    metadata: bytes
    key: Path
    upn: str = ALICE
    policy: str = POLICY
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`allow` or `deny`, the reason that is told, and every reason that was found."""

    decision: str
    reason: str
    findings: tuple[str, ...] = ()


ALLOWED = Verdict(decision="allow", reason="ok")


def denied(reason: str) -> Verdict:
    """A deny for this reason and no other."""
    return Verdict(decision="deny", reason=reason, findings=(reason,))


def ask_function(question: Question) -> Verdict:
    """Ask `decide`, with trust built from the metadata."""
    now = question.at or datetime.now(UTC)
    providers = {
        described.entity_id: IdentityProvider(
            entity_id=described.entity_id,
            certificates=tuple(
                SigningCertificate(der=der, state=CertificateState.TRUSTED, since=now, provenance="its metadata")
                for der in described.signing_certificates
            ),
        )
        for described in parse_metadata(question.metadata)
    }
    snapshot = Snapshot(
        version="e2e",
        trust=TrustSnapshot(providers=providers, as_of=now),
        policies=dict.fromkeys(providers, parse_policy(question.policy)),
        decryption_keys={KEY_NAME: _private_key(question.key)},
    )
    request = AccessRequest(request_id="e2e", upn=question.upn, evidence=(question.evidence,))
    decision = decide(request, snapshot, now)
    if isinstance(decision, Allow):
        return Verdict(decision="allow", reason=decision.reason)
    findings = tuple(str(finding.reason) for finding in decision.findings)
    return Verdict(decision="deny", reason=str(decision.reason), findings=findings)


@functools.cache
def _private_key(path: Path) -> RSAPrivateKey:
    key = load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, RSAPrivateKey)
    return key


def ask_command(question: Question, directory: Path) -> Verdict:
    """Ask `fas-evidence check`, with everything in files of `directory`; its exit code must agree with its answer."""
    files = _write(question, directory)
    options = ["--metadata", files["metadata"], "--policy", files["policy"], "--upn", question.upn, "-o", "json"]
    if question.at is not None:
        options += ["--at", _instant(question.at)]
    ran = run_command(["check", files["file"], *options])
    assert ran.stderr == ""
    answer = json.loads(ran.stdout)
    assert ran.returncode == {"allow": 0, "deny": 1}[answer["decision"]]
    return _verdict(answer)


def ask_batch(questions: Mapping[str, Question], directory: Path) -> dict[str, Verdict]:
    """Ask `fas-evidence check --batch` all at once; the answers by the questions' names."""
    lines = []
    for name, question in questions.items():
        line = {"id": name, "upn": question.upn, **_write(question, directory)}
        lines.append(line if question.at is None else line | {"at": _instant(question.at)})
    batch = directory / "batch.jsonl"
    batch.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ran = run_command(["check", "--batch", str(batch)])
    assert (ran.returncode, ran.stderr) == (0, "")
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == list(questions)
    return {answer["id"]: _verdict(answer) for answer in answers}


def _write(question: Question, directory: Path) -> dict[str, str]:
    """Write what a question needs into files, one for each content; the answer names them as a line of a batch does."""
    shutil.copy(question.key, directory / KEY_NAME)
    contents = {"file": question.evidence, "metadata": question.metadata, "policy": question.policy.encode()}
    paths = {name: directory / f"{name}-{hashlib.sha256(content).hexdigest()}" for name, content in contents.items()}
    for name, path in paths.items():
        path.write_bytes(contents[name])
    return {name: str(path) for name, path in paths.items()}


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _verdict(answer: dict[str, Any]) -> Verdict:
    return Verdict(
        decision=answer["decision"],
        reason=answer["reason"],
        findings=tuple(finding["reason"] for finding in answer["findings"]),
    )


def run_command(arguments: Sequence[str], **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `fas-evidence` with only these settings (`FAS_EVIDENCE_` variables)."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(settings),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process with only these settings (named without `FAS_EVIDENCE_`)."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAS_EVIDENCE_")}
    return inherited | {f"FAS_EVIDENCE_{name}": value for name, value in settings.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningService:
    """`fas-evidence serve` on loopback, one enrolled plug-in's key, and the settings it was started with."""

    url: str
    bearer_key: str
    settings: dict[str, str]

    def ask(self, evidence: bytes, *, upn: str = ALICE) -> dict[str, object]:
        """The answer to one `POST /v1/decisions`, which must be 200 and to this question."""
        request_id = str(uuid.uuid4())
        question = {
            "request_id": request_id,
            "upn": upn,
            "evidence": [{"type": "SAMLResponse", "value": base64.b64encode(evidence).decode()}],
        }
        with loopback() as client:
            response = client.post(
                f"{self.url}/v1/decisions", json=question, headers={"Authorization": f"Bearer {self.bearer_key}"}
            )
        assert response.status_code == 200, response.text
        answer: dict[str, object] = response.json()
        assert answer["request_id"] == request_id
        assert answer["mode"] == "enforce"
        return answer

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `fas-evidence` on this service's database."""
        return run_command(arguments, **self.settings)

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log of this event, so far."""
        return _said(Path(self.settings["DATA_DIR"]) / "serve.log", event)


def settings_of(directory: Path, key: Path, **more: str) -> dict[str, str]:
    """Settings (named without `FAS_EVIDENCE_`) of a service in this directory, whose decryption key is `key`."""
    secrets = directory / "secrets"
    secrets.mkdir(parents=True)
    shutil.copy(key, secrets / KEY_NAME)
    return {
        "DATA_DIR": str(directory),
        "SECRETS_DIR": str(secrets),
        "LISTEN_PORT": "0",
        "DRAIN_SECONDS": "0",
        "DEADLINE_SECONDS": "4",
        **more,
    }


def enrolled(settings: Mapping[str, str], *commands: Sequence[str]) -> str:
    """Fill a database with these commands, and enroll a plug-in, whose key is the answer."""
    for arguments in commands:
        _done(arguments, settings)
    return _done(["plugin", "enroll", "fas1.corp.example", "--bearer"], settings).splitlines()[-1]


@contextlib.contextmanager
def serving_database(settings: Mapping[str, str], bearer_key: str) -> Iterator[RunningService]:
    """Serve a database that has been filled, and stop the service with SIGTERM."""
    log = Path(settings["DATA_DIR"]) / "serve.log"
    with process([*COMMAND, "serve"], log, environment(settings)) as server:
        yield RunningService(url=_listens(server, log), bearer_key=bearer_key, settings=dict(settings))
    assert server.returncode == 0, log.read_text()[-4000:]


def _listens(server: subprocess.Popen[bytes], log: Path) -> str:
    """The address at which a service listens, once it says so in its log."""
    until = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < until:
        if lines := _said(log, "listening"):
            return str(lines[0]["url"])
        time.sleep(0.05)
    raise AssertionError(f"it does not listen:\n{log.read_text()[-4000:]}")


def _said(log: Path, event: str) -> list[dict[str, Any]]:
    whole = (line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n"))
    return [json.loads(line) for line in whole if f'"event":"{event}"' in line]


@contextlib.contextmanager
def worker(settings: Mapping[str, str]) -> Iterator[None]:
    """Keep the trust in a database current until the end of the block, and stop the worker with SIGTERM."""
    log = Path(settings["DATA_DIR"]) / "work.log"
    with process([*COMMAND, "work"], log, environment(settings)) as working:
        yield
    assert working.returncode == 0, log.read_text()[-4000:]


@contextlib.contextmanager
def serving(directory: Path, metadata: bytes, key: Path) -> Iterator[RunningService]:
    """Fill a database with the commands an administrator uses, serve it, and stop the service with SIGTERM."""
    settings = settings_of(directory, key)
    metadata_file, policy_file = directory / "metadata.xml", directory / "policy.toml"
    metadata_file.write_bytes(metadata)
    policy_file.write_text(POLICY)
    add = ["idp", "add", "--metadata", str(metadata_file), "--policy", str(policy_file), "--yes"]
    with serving_database(settings, enrolled(settings, add)) as service:
        yield service


def _done(arguments: Sequence[str], settings: Mapping[str, str]) -> str:
    ran = run_command(arguments, **settings)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
