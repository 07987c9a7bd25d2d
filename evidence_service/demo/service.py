"""The real service and worker as processes, and the questions that are put to it over HTTP as a plug-in would."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self

HOST = "127.0.0.1"
READY_SECONDS = 60.0
STOP_SECONDS = 15.0
ANSWER_SECONDS = 15.0


class DemoFailed(Exception):  # noqa: N818 - named for what happened
    """The demo cannot go on; `str()` is one line that says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: `allow`, `deny` or `HTTP` with a status; the rest is empty without a decision."""

    decision: str
    reason: str
    decision_id: str
    milliseconds: float


def free_port(wanted: int | None) -> int:
    """`wanted` if it is free on the loopback address, or any free one for None. Raises DemoFailed."""
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted or 0))
        except (OSError, OverflowError) as error:
            cause = error.strerror if isinstance(error, OSError) else str(error)
            raise DemoFailed(f"port {wanted} on {HOST} cannot be used ({cause}); choose another with --port") from error
        return int(probe.getsockname()[1])


class Child:
    """A command of `fas-evidence` as a child process. A context manager: leaving it stops the process."""

    def __init__(self, *, name: str, command: str, config: Path, log: Path, is_ready: Callable[[], bool]) -> None:
        """Prepare; nothing is started. The process reads `config` and writes what it says to `log`.

        `name` is what it is called in errors; `is_ready` tells whether it does its work by now.
        """
        self._name = name
        self._command = command
        self._config = config
        self._log = log
        self._is_ready = is_ready
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Nothing yet, so that whatever interrupts the start finds the end prepared."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Ask it to end, wait, and insist."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        finally:  # also where a second Ctrl-C ends the waiting
            if process.poll() is None:
                process.kill()
                process.wait()

    def start(self) -> None:
        """Start it; only inside the context."""
        with self._log.open("ab") as log:  # what it said before a restart stays
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own arguments
                [sys.executable, "-m", "evidence_service", "--config", str(self._config), self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
            )

    def restart(self) -> None:
        """End it and start it again, so that it reads its settings anew; only inside the context."""
        self.__exit__()
        self.start()

    def check_running(self) -> None:
        """Raises DemoFailed where it has ended."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            raise DemoFailed(f"the {self._name} ended by itself with code {code}: {self._last_line}")

    def wait_until_ready(self) -> None:
        """Raises DemoFailed where it ends before, or takes too long."""
        give_up = time.monotonic() + READY_SECONDS
        while time.monotonic() < give_up:
            code = None if self._process is None else self._process.poll()
            if code is not None:
                raise DemoFailed(f"the {self._name} ended with code {code} before it was ready: {self._last_line}")
            if self._is_ready():
                return
            time.sleep(0.05)
        raise DemoFailed(f"the {self._name} was not ready after {READY_SECONDS:.0f} s: {self._last_line}")

    @property
    def _last_line(self) -> str:
        """The last thing it said."""
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        said = [line.strip() for line in lines if line.strip()]
        return said[-1][:300] if said else "it said nothing"


def answers(port: int) -> bool:
    """Whether the service on this port is ready."""
    try:
        status, _ = _exchange(port, "GET", "/readyz", timeout=2.0)
    except (OSError, HTTPException):
        return False
    return status == HTTPStatus.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A caller of the decision API with its bearer key."""

    port: int
    key: str

    def ask(self, question: Mapping[str, Any]) -> Answer:
        """Put one question. Raises DemoFailed where no answer comes or it is not of the contract's form."""
        body = json.dumps(question).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        started = time.perf_counter()
        try:
            status, answer = _exchange(self.port, "POST", "/v1/decisions", body, headers)
        except (OSError, HTTPException) as error:
            raise DemoFailed(f"the service did not answer: {str(error) or type(error).__name__}") from error
        elapsed = (time.perf_counter() - started) * 1000
        if status != HTTPStatus.OK:
            return Answer(decision=f"HTTP {status}", reason="", decision_id="", milliseconds=elapsed)
        try:
            said = json.loads(answer)
            echoed = said["request_id"] == question["request_id"]
            decided = Answer(
                decision=str(said["decision"]),
                reason=str(said["reason"]),
                decision_id=str(said["decision_id"]),
                milliseconds=elapsed,
            )
        except (ValueError, TypeError, KeyError) as error:
            raise DemoFailed("the service's answer is not of the form that the contract states") from error
        if not echoed:
            raise DemoFailed("the service answered another question than the one asked")
        return decided


def question(*, request_id: str, upn: str, evidence: bytes | None, phase: str) -> dict[str, Any]:
    """The body of `POST /v1/decisions`."""
    items = [] if evidence is None else [{"type": "SAMLResponse", "value": b64encode(evidence).decode("ascii")}]
    return {
        "request_id": request_id,
        "upn": upn,
        "evidence": items,
        "phase": phase,
        "rule": "default",
        "storefront": "sf01.corp.example",
        "fas_server": "fas01.corp.example",
    }


def _exchange(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout: float = ANSWER_SECONDS,
) -> tuple[int, bytes]:
    connection = HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def clean_environment() -> dict[str, str]:
    """Ours without the settings of a real installation: a demo must not find its database."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("FAS_EVIDENCE_")}
