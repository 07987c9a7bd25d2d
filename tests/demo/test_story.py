"""The demo as users run it: a real service, real HTTP, and an exit code that tells whether all went as told."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from evidence_service.cli.main import main
from evidence_service.demo import acts, renewal
from evidence_service.demo import story as told
from evidence_service.demo.acts import Act, FarmAct, Scene
from evidence_service.demo.fas_ca import ApprovalRefused
from evidence_service.demo.renewal_farm import FAS1, RenewalFarm
from evidence_service.demo.rollover import key_names, rollovers
from evidence_service.demo.service import Answer, DemoFailed, Plugin, free_port, question
from evidence_service.demo.steps import Cast, Chapter, Step, everyday, launches, new_cast, wrapped
from evidence_service.demo.story import run_demo
from idp_certs.model import CertificateState
from idp_certs.reasons import Refused
from tests.demo.played import COMMAND, demo, end, running, script, story_of

# What several tests look at is played once, by one worker.
pytestmark = pytest.mark.xdist_group("demo")


def lied(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Chapter, ...]:
    """A short story whose second step expects what cannot come."""
    first = launches(cast, now, new_id)[0]
    sent = [step for step in first.steps if isinstance(step, Step)]
    return (replace(first, steps=(sent[0], replace(sent[1], decision="deny", reason="upn_mismatch"))),)


def state_of(cast: Cast, state: CertificateState) -> dict[str, CertificateState]:
    """AD FS's first key alone, in this state."""
    return {next(iter(key_names(cast))): state}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lies:
    """What the demo says of a story that expects what cannot come."""

    code: int
    rows: str


@pytest.fixture(scope="module")
def lies() -> Lies:
    """Wrong answers and acts without their effects, about keys and about FAS servers, at 100 columns."""
    out, before = io.StringIO(), set(threading.enumerate())
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr(acts, "COMES_WITHIN_SECONDS", 0.5)
        patch.setenv("COLUMNS", "100")
        code = run_demo(once=True, tell=_lies)
    assert {each.name for each in threading.enumerate()} == {each.name for each in before}
    assert "NTLM_USER_FILE" not in os.environ
    return Lies(code=code, rows=out.getvalue())


def _lies(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Chapter, ...]:
    return (*lied(cast, now, new_id), *_about_keys(cast, now, new_id), *_about_servers())


def _about_keys(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Chapter, ...]:
    reject = next(step for step in rollovers(cast, now, new_id)[1].steps if step.title == "A person rejects it")
    assert isinstance(reject, Act)
    trusted, revoked = (state_of(cast, each) for each in (CertificateState.TRUSTED, CertificateState.REVOKED))
    return story_of(
        Act(title="Nobody does", why="w", outcome="revoked", states=revoked),
        replace(reject, publishes=None, states=trusted),
        Act(title="Says nothing", why="w", outcome="silent", states=trusted, tells=lambda _: ""),
    )(cast, now, new_id)


def _about_servers() -> tuple[Chapter, ...]:
    def refuse(_scene: Scene) -> None:
        raise ApprovalRefused("no Manage CA right")

    nothing = FarmAct(title="t", why="w", outcome="renewed", server=FAS1, tells=lambda _: ())
    unmailed = replace(nothing, tells=lambda _: ("told",), mails=("renewal_report",))
    return (
        Chapter(
            title="Servers",
            steps=(
                nothing,
                replace(nothing, by_hand=refuse),
                replace(nothing, by_hand=lambda scene: scene.renewals.open()),
                replace(nothing, by_hand=partial(renewal._decide, name=FAS1)),
                unmailed,
            ),
        ),
    )


@pytest.mark.parametrize(
    "wrong",
    [
        r"the story says deny upn_mismatch",
        r"the story says key 1 \(\w{8}\) revoked; it is key 1 \(\w{8}\) trusted",
        r"it was refused: 0 rollovers wait, where one should",
        r"the story says key 1 \(\w{8}\) trusted; it is key 1 \(\w{8}\) trusted",
        r"the story says renewed; no FAS server 'fas1\.corp\.example' is configured",
        r"it was refused: no Manage CA right",
        r"the story says renewed; nothing was looked at(?!,)",
        r"it was refused: no request of CORP\\FAS1\$ is pending",
        r"the story says renewed; nothing was looked at, and not every mail came \(renewal_report\)",
    ],
)
def test_what_is_not_as_told_is_marked(wrong: str, lies: Lies) -> None:
    """Where an answer or a state differs, an act is refused, or a mail is missing, its row says so."""
    assert re.search(f"WRONG: {wrong}", " ".join(lies.rows.split()))


def test_what_is_not_as_told_makes_the_exit_code_1(lies: Lies) -> None:
    """All of it is counted; on a wide terminal no row is broken."""
    assert (lies.code, lies.rows.count("WRONG: ")) == (1, 9)
    assert "9 of 2 answers and 8 acts were not what the story says" in lies.rows
    assert re.search(r"(?m)^allow +ok +AD FS +[0-9.]+ +Alice signs in +$", lies.rows)
    assert all(len(line.rstrip()) <= 100 for line in lies.rows.splitlines())


def test_a_worker_that_ends_in_the_middle_is_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the worker ends while something is waited for, that is said in one line, and the exit code is 3."""

    def end(scene: Scene) -> str:
        process = scene.worker._process
        assert process is not None
        process.kill()
        process.wait()
        return "ended"

    def tell(cast: Cast, _now: datetime, _new_id: Callable[[], str]) -> tuple[Chapter, ...]:
        trusted, revoked = (state_of(cast, each) for each in (CertificateState.TRUSTED, CertificateState.REVOKED))
        first = Act(title="It ends", why="w", outcome="ended", states=trusted, tells=end)
        second = Act(title="Nothing comes", why="w", outcome="nothing", states=revoked)
        return (Chapter(title="An end", steps=(first, second)),)

    assert run_demo(once=True, tell=tell) == 3
    err = capsys.readouterr().err
    assert err.startswith("error: the worker ended by itself with code -9: ")
    assert err.count("\n") == 1


def scene() -> Scene:
    """A scene without anything in it but settings."""
    nothing: Any = None
    config = Path("/nonexistent.toml")
    return Scene(
        trust=nothing, federation=nothing, renewals=nothing, worker=nothing, config=config, adfs=nothing, names={}
    )


def test_a_command_that_fails_is_quoted() -> None:
    """Where a command that the story runs fails, its last line is shown."""
    with pytest.raises(DemoFailed, match=r"^fas-evidence nonsense ended with code 2: error: .*nonsense"):
        scene().command("nonsense")


def test_a_story_that_asks_for_servers_too_early_is_told(tmp_path: Path) -> None:
    """Who asks for the FAS servers before they were started gets one line."""
    nothing: Any = None
    farm = RenewalFarm(directory=tmp_path, settings_file=tmp_path, secrets_dir=tmp_path, store=nothing, outbox=nothing)
    with pytest.raises(DemoFailed, match="asks for the FAS servers before it has started them"):
        farm.server(FAS1)


def test_a_directory_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory that holds something is left alone: one line, exit code 2."""
    (tmp_path / "mine").write_text("precious")
    assert run_demo(once=True, directory=tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "is not empty" in err


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A taken port ends the demo with 3 and one line that says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run_demo(once=True, port=port) == 3
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"port {port}" in err
    assert "--port" in err


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_such_port(port: int) -> None:
    """A number that is no port is a clear refusal."""
    with pytest.raises(DemoFailed, match=f"port {port} on"):
        free_port(port)


def test_a_service_that_does_not_start_is_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the service ends before it is ready, its last line is shown, and the exit code is 3."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho first\necho 'the disk is on fire' >&2\nexit 7\n")
    broken.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(broken))
    assert run_demo(once=True) == 3
    err = capsys.readouterr().err
    assert err == "error: the service ended with code 7 before it was ready: the disk is on fire\n"


def test_a_worker_that_does_not_start_is_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the worker ends before it is ready, its last line is shown, the exit code is 3, and nothing goes on."""
    half = tmp_path / "python"
    half.write_text(
        "#!/bin/sh\n"
        'case "$*" in *" work") echo "the disk is on fire" >&2; exit 7;; esac\n'
        f"exec '{sys.executable}' \"$@\"\n"
    )
    half.chmod(0o700)
    place = tmp_path / "kept"
    monkeypatch.setattr(sys, "executable", str(half))
    assert run_demo(once=True, directory=place) == 3
    err = capsys.readouterr().err
    assert err == "error: the worker ended with code 7 before it was ready: the disk is on fire\n"
    assert running(place) == []


def test_the_command_says_how_to_run_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without --once it stays up; port and directory are handed on."""
    asked: list[dict[str, object]] = []

    def run(**how: object) -> int:
        asked.append(how)
        return 0

    monkeypatch.setattr(told, "run_demo", run)
    for arguments in ((), ("--once", "--port", "4711", "--directory", str(tmp_path))):
        assert main(["demo", *arguments]) == 0
    assert asked == [
        {"once": False, "port": None, "directory": None},
        {"once": True, "port": 4711, "directory": tmp_path},
    ]


def test_it_keeps_running_until_ctrl_c(tmp_path: Path) -> None:
    """The printed curl line works, Ctrl-C ends all of it, though started as by a script's `&`, and nothing is left."""
    text = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from evidence_service.demo import steps, story; story.run_demo(once=False, tell=steps.launches)"
    )
    with demo(script(text), tmp_path, until="Running;") as (process, printed):
        (made,) = tmp_path.iterdir()
        assert sorted(line.split()[-1] for line in running(made)) == ["serve", "work"]
        curl = next(line for line in printed.out.splitlines() if line.startswith("curl"))
        answer = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=False, timeout=60)
        assert '"decision":"allow"' in answer.stdout.replace(" ", "")
        assert "demo ca" not in printed.out  # this story has no FAS servers
        out, err = end(process, signal.SIGINT)
    assert (process.returncode, err) == (0, "")
    assert "Stopping." in out
    assert "unset FAS_EVIDENCE_CONFIG" in out
    assert not made.exists()
    assert running(made) == []


def test_ended_in_the_middle_it_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM in the story ends service and worker, and removes the files."""
    with demo([*COMMAND, "--once"], tmp_path, until="act") as (process, _):
        (made,) = tmp_path.iterdir()
        assert len(running(made)) == 2
        _, err = end(process, signal.SIGTERM)
    assert (process.returncode, err) == (130, "error: interrupted\n")
    assert running(made) == []
    assert list(tmp_path.iterdir()) == []


class _Impatient(io.StringIO):
    """Standard output whose reader presses Ctrl-C after ten everyday launches."""

    pressed = False

    def write(self, text: str) -> int:
        """Keep the text."""
        written = super().write(text)
        if not self.pressed and len(self.launches()) >= 10:
            self.pressed = True
            raise KeyboardInterrupt
        return written

    def launches(self) -> list[str]:
        """The lines of everyday launches."""
        return re.findall(r"(?m)^\d\d:\d\d:\d\dZ .*$", self.getvalue())


def test_everyday_launches_come_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it keeps running, one line a launch is printed, and each comes out as told."""
    out = _Impatient()
    monkeypatch.setattr(sys, "stdout", out)
    assert run_demo(once=False, tell=launches, pause_seconds=0.05) == 0
    assert len(out.launches()) >= 10
    assert not [line for line in out.launches() if "WRONG" in line]


def test_everyday_steps_have_new_evidence() -> None:
    """What is sent again and again is issued anew each time, so that it never grows too old."""
    cast, now = new_cast(datetime.now(UTC)), datetime.now(UTC)
    ids = iter(f"_{number}" for number in range(1000))
    first, second = (everyday(cast, now, lambda: next(ids)) for _ in range(2))
    assert {step.decision for step in first} == {"allow", "deny"}
    assert all(before.evidence != after.evidence for before, after in zip(first, second, strict=True))


def test_wrapping_needs_plain_assertions() -> None:
    """The wrapping attack is only built from two whole responses."""
    with pytest.raises(Refused):
        wrapped(b"", b"")


class _Liar(BaseHTTPRequestHandler):
    """Answers with what the test put into `says`."""

    says = b""
    status = 200

    def do_POST(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.says)))
        self.end_headers()
        self.wfile.write(self.says)

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        (b"not JSON", "not of the form"),
        (b"[]", "not of the form"),
        (b'{"request_id": "r1", "decision": "allow"}', "not of the form"),
        (b'{"request_id": "r2", "decision": "allow", "reason": "ok", "decision_id": "d"}', "another question"),
    ],
)
def test_only_an_answer_of_the_contract_counts(says: bytes, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is not the contract's, or to another question, is never taken for an allow."""
    monkeypatch.setattr(_Liar, "says", says)
    with HTTPServer(("127.0.0.1", 0), _Liar) as server:
        Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(DemoFailed, match=problem):
            Plugin(port=server.server_port, key="k").ask(
                question(request_id="r1", upn="a@b", evidence=None, phase="assert")
            )


def test_nobody_listens() -> None:
    """Where no service answers, that is said."""
    with pytest.raises(DemoFailed, match="did not answer"):
        Plugin(port=free_port(None), key="k").ask(question(request_id="r1", upn="a@b", evidence=b"", phase="assert"))


def test_a_refused_caller_gets_no_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    """A status other than 200 is reported as that status and never as a decision."""
    monkeypatch.setattr(_Liar, "says", b'{"request_id": "r1", "decision": "allow", "reason": "ok", "decision_id": "d"}')
    monkeypatch.setattr(_Liar, "status", 401)
    with HTTPServer(("127.0.0.1", 0), _Liar) as server:
        Thread(target=server.handle_request, daemon=True).start()
        answer = Plugin(port=server.server_port, key="k").ask(
            question(request_id="r1", upn="a@b", evidence=None, phase="assert")
        )
    assert (answer.decision, answer.reason, answer.decision_id) == ("HTTP 401", "", "")
    assert isinstance(answer, Answer)
