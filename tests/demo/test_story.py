"""The demo as users run it: a real service, real HTTP, and an exit code that tells whether all went as told."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from evidence_service.demo import acts
from evidence_service.demo.acts import Act, Scene
from evidence_service.demo.rollover import key_names, rollovers
from evidence_service.demo.service import Answer, DemoFailed, Plugin, free_port, question
from evidence_service.demo.steps import Cast, Chapter, Step, everyday, launches, new_cast, wrapped
from evidence_service.demo.story import run_demo, story
from idp_certs.model import CertificateState
from idp_certs.reasons import Refused

LOGS = ("service.log", "worker.log")
TOLD = (
    r"key 2 \(\w{8}\): new -> announced\.",
    r"key 2 \(\w{8}\): announced -> trusted\.",
    r"key 1 \(\w{8}\) has signed \d+ sign-ins since ",
    r"key 1 \(\w{8}\): trusted -> retiring\.",
    r"key 3 \(\w{8}\): announced -> trusted\.",
    r"the stranger's key \(\w{8}\) waits, as rollover \w{16}\. `rollover list` shows it\.",
    r"Rollover \w{16}: held -> rejected\.",
    r"key 3 \(\w{8}\): trusted -> revoked\.",
    r"key 4 \(\w{8}\) waits, as rollover \w{16}\.",
    r"key 4 \(\w{8}\): new -> announced\. Rollover \w{16}: held -> approved\.",
    r"To: ca-managers@corp\.example, copy to citrix@corp\.example > Subject: \[Warning\] fas1",
    r"40 users' certificates that it enrolled are kept\.",
    r"13\. Remove-FasAuthorizationCertificate -Id '\w{8}\.\.\.' -DeleteUserCerts \$false",
    r"The CA says: Nobody told me of this > request\.|The CA says: Nobody told me of this request\.",
    r"3 definitions went to \w{8}, which did not enroll fas-test@corp\.example, and 3 back to \w{8}\.",
)
"""What the acts lead to, as the store tells it."""
COMMAND = [sys.executable, "-m", "evidence_service", "demo"]


def environment(**members: str) -> dict[str, str]:
    """Ours, off a terminal, with `members` on top."""
    return {**{name: value for name, value in os.environ.items() if name != "NO_COLOR"}, **members}


def lied(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Chapter, ...]:
    """A short story whose second step expects what cannot come."""
    first = launches(cast, now, new_id)[0]
    sent = [step for step in first.steps if isinstance(step, Step)]
    return (replace(first, steps=(sent[0], replace(sent[1], decision="deny", reason="upn_mismatch"))),)


def state_of(cast: Cast, state: CertificateState) -> dict[str, CertificateState]:
    """AD FS's first key alone, in this state."""
    return {next(iter(key_names(cast))): state}


def asked_in_shell(command: str) -> str:
    """What a command prints that the demo printed."""
    shell = command.replace("fas-evidence", f"'{sys.executable}' -m evidence_service", 1)
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def running(mark: Path) -> list[str]:
    """The processes whose arguments name `mark`."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True, timeout=30)
    return [line for line in listed.stdout.splitlines() if str(mark) in line]


@pytest.mark.parametrize("columns", [80, 100])
def test_every_step_comes_out_as_told(columns: int) -> None:
    """`fas-evidence demo --once` ends with 0: off a terminal no colour, no reason cut, and each act with its effect."""
    done = subprocess.run(
        [*COMMAND, "--once"],
        env=environment(COLUMNS=str(columns), FAS_EVIDENCE_DATABASE_URL="sqlite:////nonexistent/real.db"),
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "WRONG" not in done.stdout
    assert "\x1b" not in done.stdout
    steps = [step for chapter in chapters() for step in chapter.steps]
    expected = [step.reason for step in steps if isinstance(step, Step) and step.reason]
    assert expected == re.findall(r"(?m)^(?:allow|deny) +(\S+) ", done.stdout)
    outcomes = [step.outcome for step in steps if not isinstance(step, Step)]
    assert outcomes == re.findall(r"(?m)^act +(\S.*?) {2,}", done.stdout)
    assert f"All {len(expected) + 1} answers and {len(outcomes)} acts were what the story says." in done.stdout
    assert "HTTP 401" in done.stdout
    said = " ".join(done.stdout.split())
    assert [told for told in TOLD if not re.search(told, said)] == []
    assert all(len(line.rstrip()) <= columns for line in done.stdout.splitlines())


def test_a_wrong_answer_is_marked_and_makes_the_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    """Where an answer differs from the story, its row says so and the demo ends with 1."""
    assert run_demo(once=True, tell=lied) == 1
    out = capsys.readouterr().out
    assert "WRONG: the story says deny upn_mismatch" in out
    assert "1 of 2 answers were not what the story says" in out


def test_an_act_without_its_effect_is_marked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where an act leaves keys in another state, or is refused, its row says so and the demo ends with 1."""
    monkeypatch.setattr(acts, "COMES_WITHIN_SECONDS", 0.5)

    def tell(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Chapter, ...]:
        reject = next(step for step in rollovers(cast, now, new_id)[1].steps if step.title == "A person rejects it")
        assert isinstance(reject, Act)
        revoked = Act(title="Nobody does", why="w", outcome="revoked", states=state_of(cast, CertificateState.REVOKED))
        refused = replace(reject, publishes=None, states=state_of(cast, CertificateState.TRUSTED))
        silent = Act(
            title="Says nothing",
            why="w",
            outcome="silent",
            states=state_of(cast, CertificateState.TRUSTED),
            tells=lambda _: "",
        )
        return (Chapter(title="Lies", steps=(revoked, refused, silent)),)

    assert run_demo(once=True, tell=tell) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(r"WRONG: the story says key 1 \(\w{8}\) revoked; it is key 1 \(\w{8}\) trusted", out)
    assert "WRONG: it was refused: 0 rollovers wait, where one should" in out
    assert out.count("WRONG: ") == 3
    assert "3 of 0 answers and 3 acts were not what the story says" in out


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


def test_a_command_that_fails_is_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a command that the story runs fails, its last line is shown, and the exit code is 3."""

    def tell(cast: Cast, _now: datetime, _new_id: Callable[[], str]) -> tuple[Chapter, ...]:
        trusted = state_of(cast, CertificateState.TRUSTED)
        act = Act(title="t", why="w", outcome="o", states=trusted, tells=lambda scene: scene.command("nonsense"))
        return (Chapter(title="A command", steps=(act,)),)

    assert run_demo(once=True, tell=tell) == 3
    err = capsys.readouterr().err
    assert err.startswith("error: fas-evidence nonsense ended with code 2: ")
    assert err.count("\n") == 1


def test_files_stay_where_they_were_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --directory all but the server's key is kept, and the commands that look into it work as printed."""
    place = tmp_path / "with blank"
    assert run_demo(once=True, directory=place, tell=launches) == 0
    out = capsys.readouterr().out
    kept = {path.name for path in place.iterdir()}
    assert kept == {"data", "secrets", "metadata", "policies", "fas-evidence.toml", "launch.json", *LOGS}
    commands = [line for line in out.splitlines() if line.startswith("fas-evidence --config")]
    explained, keys, waiting = (asked_in_shell(command) for command in commands)
    assert "upn_mismatch" in explained
    assert "trusted" in keys
    assert "No rollover" in waiting


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_keeps_running_until_it_is_told_to_end(number: signal.Signals, tmp_path: Path) -> None:
    """Without --once a launch is sent now and then, the printed curl line works, and Ctrl-C cleans up."""
    process = subprocess.Popen(
        COMMAND,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(tmp_path)),
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            told.append(line)
            if line.startswith("Running;"):
                break
        (made,) = tmp_path.iterdir()
        assert sorted(line.split()[-1] for line in running(made)) == ["serve", "work"]
        curl = next(line for line in told if line.startswith("curl"))
        answer = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=False, timeout=30)
        assert '"decision":"allow"' in answer.stdout.replace(" ", "")
        if number == signal.SIGINT:  # a terminal sends it to the service as well
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (0, "")
    assert "Stopping." in out
    assert not made.exists()
    assert running(made) == []
    assert [line.split()[-2:] for line in told if "rollover" in line and line.startswith("fas")] == [["list", "--all"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_in_the_middle_it_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C or SIGTERM in the story ends service and worker, and removes the files."""
    process = subprocess.Popen(
        [*COMMAND, "--once"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1"),
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("act"):
                break
        (made,) = tmp_path.iterdir()
        assert len(running(made)) == 2
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
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


def chapters() -> tuple[Chapter, ...]:
    """The story, told once more for its expectations."""
    now = datetime.now(UTC)
    return story(new_cast(now), now, lambda: "_1")
