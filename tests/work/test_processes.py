"""The worker and the parent of both planes as processes: kills, full disks, signals, exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pytest

from evidence_service.adapters.database import writing
from evidence_service.adapters.trust_store import RolloverState
from evidence_service.settings import PREFIX
from idp_certs.model import CertificateState
from idp_certs.refresh import POINTS
from tests.corpus import names
from tests.work.given import Clock, Site, document, site

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")

TRUSTED, ANNOUNCED = CertificateState.TRUSTED, CertificateState.ANNOUNCED
PATIENCE = 60.0
OLD = {"idp": TRUSTED}
NOT_RECORDED = ["not_recorded", "StoreUnavailable"]
NEW = {"idp": TRUSTED, "idp_next": ANNOUNCED}


def environment(directory: Path, **settings: str) -> Mapping[str, str]:
    """The settings of a service in `directory`."""
    ours = {f"{PREFIX}{name.upper()}": value for name, value in settings.items()}
    others = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return {**others, f"{PREFIX}DATA_DIR": str(directory), f"{PREFIX}METADATA_ALLOW_LOOPBACK": "true", **ours}


def program(name: str, here: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of tests.work.processes on this site."""
    command = [sys.executable, "-m", "tests.work.processes", name, str(here.engine.url), here.clock.now.isoformat()]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE)


@dataclass(kw_only=True)
class Running:
    """A process and the lines it says."""

    process: subprocess.Popen[bytes]
    lines: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)
    said: list[dict[str, Any]] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)

    def line(self, event: str, **members: object) -> dict[str, Any]:
        """The next line of this event with these members."""
        until = time.monotonic() + PATIENCE
        while (raw := self.lines.get(timeout=max(until - time.monotonic(), 0.1))) is not None:
            if not raw.startswith(b"{"):
                self.plain.append(raw.decode())
                continue
            with contextlib.suppress(ValueError):
                line: dict[str, Any] = json.loads(raw)
                self.said.append(line)
                if line.get("event") == event and members.items() <= line.items():
                    return line
        raise AssertionError(f"no {event} in {self.said}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def service(directory: Path, *arguments: str, **settings: str) -> Iterator[Running]:
    """`fas-evidence ARGUMENTS` until the test ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "evidence_service", *arguments],
        env=environment(directory, **settings),
        stderr=subprocess.PIPE,
    )
    running = Running(process=process)
    assert process.stderr is not None

    def read(stream: IO[bytes]) -> None:
        for line in stream:
            running.lines.put(line)
        running.lines.put(None)

    reader = threading.Thread(target=read, args=(process.stderr,))
    reader.start()
    try:
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        reader.join(PATIENCE)
        process.stderr.close()


def until(true: Callable[[], bool]) -> None:
    """Wait for it."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def now() -> Clock:
    """The real time, as processes have it, standing still."""
    return Clock(datetime.now(UTC))


@pytest.mark.parametrize("point", POINTS)
def test_promise_43_killed_at_any_point_leaves_the_old_set_or_the_new(here: Site, point: str) -> None:
    """After kill -9 the stored set is whole, its seal holds, and the next refresh is as if nothing had been."""
    here.subscribe(document("idp"))
    here.serve(document("idp", "idp_next", signed_by="idp"), etag='"1"')

    assert program("killed", here, point).returncode == -signal.SIGKILL

    assert here.states() == (NEW if point == "published" else OLD)
    assert [each.problem for each in here.config.list_idps()] == [None]
    assert (here.trust.get_source(names.IDP).state.etag is None) == (point != "published")
    here.clock.forward(minutes=2)
    assert here.worker.round()
    assert here.states() == NEW
    assert here.trust.list_rollovers(state=RolloverState.HELD) == ()


def test_promise_43_a_file_that_may_not_grow_leaves_the_old_set(here: Site) -> None:
    """A publication that cannot be written is not there at all, and is tried again when the claim has expired."""
    here.subscribe(document("idp"))
    here.serve(document("idp", "idp_next", signed_by="idp"), etag='"1"')
    log = Path(f"{here.engine.url.database}-wal")

    result = program("full", here, str(log.stat().st_size + 8192))

    assert (result.returncode, result.stdout.split()[-2:]) == (0, NOT_RECORDED), result.stderr
    assert here.states() == OLD
    assert [each.problem for each in here.config.list_idps()] == [None]
    here.clock.forward(minutes=2)
    assert here.worker.round()
    assert here.states() == NEW


@pytest.mark.platform
def test_promise_43_a_full_disk_leaves_the_old_set(tmp_path: Path) -> None:
    """ENOSPC in the middle of a publication; room again, and it goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        with site(disk) as here:
            here.subscribe(document("idp"))
            here.serve(document("idp", "idp_next", signed_by="idp") + b"<!--" + b"x" * 300_000 + b"-->")
            filler = disk / "filler"
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            with filler.open("r+b") as file:
                file.truncate(filler.stat().st_size - 131_072)

            result = program("full", here, "0")

            # There was room for the failure, not for the document.
            said = result.stdout.split()[-2:]
            assert (result.returncode, said) == (0, ["failed", "StoreUnavailable"]), result.stderr
            assert here.trust.get_source(names.IDP).state.problem == "metadata_fault"
            assert here.states() == OLD
            filler.unlink()
            here.clock.forward(minutes=2)
            assert here.worker.round()
            assert here.states() == NEW
            assert [each.problem for each in here.config.list_idps()] == [None]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_work_refreshes_until_sigterm(tmp_path: Path, now: Clock) -> None:
    """The real process fetches what is due, says so in one line, and ends with 0."""
    with site(tmp_path, clock=now) as here:
        here.subscribe(document("idp"))
        here.serve(document("idp", "idp_next", signed_by="idp"))
        with service(tmp_path, "work") as worker:
            line = worker.line("refreshed")
            assert (line["idp"], line["outcome"], line["reason"]) == (names.IDP, "applied", None)
            assert line["next_attempt"] > now.now.isoformat()
            assert here.states() == NEW

            assert worker.end() == 0
        assert next(each["event"] for each in worker.said) == "working"


def test_sigterm_ends_it_with_a_fetch_in_flight(tmp_path: Path, now: Clock) -> None:
    """A source that does not answer is left, long before its time-out, and its claim expires by itself."""
    with site(tmp_path, clock=now) as here:
        here.subscribe(document("idp"))
        here.server.serve("/md", document("idp"), delay=5 * PATIENCE)
        with service(tmp_path, "work", metadata_timeout_seconds=str(5 * PATIENCE)) as worker:
            until(lambda: here.server.requests("/md") == 1)
            assert worker.end() == 0
            assert worker.line("stopped")["abandoned"] == [names.IDP]
        state = here.trust.get_source(names.IDP).state
        assert (state.succeeded_at, state.failures) == (None, 0)
        assert state.claimed_until is not None


def test_sigterm_ends_it_while_the_database_is_locked(tmp_path: Path, now: Clock) -> None:
    """Another process that holds the lock delays neither the end nor, when it lets go, the work."""
    with site(tmp_path, clock=now) as here, contextlib.ExitStack() as stack:
        here.subscribe(document("idp"))
        here.serve(document("idp"))
        with writing(here.engine):
            worker = stack.enter_context(service(tmp_path, "work"))
            line = worker.line("work_failed", what="claim")
            assert "is locked by another process" in line["problem"]
        worker.line("refreshed")
        with writing(here.engine):
            assert worker.end() == 0


def test_work_once_does_what_is_due_and_ends(tmp_path: Path, now: Clock) -> None:
    """Made for cron: 0 where all went well, 3 where a source failed."""
    with site(tmp_path, clock=now) as here:
        here.subscribe(document("idp"))
        here.serve(document("idp", "idp_next", signed_by="idp"))
        with service(tmp_path, "work", "--once") as worker:
            assert worker.process.wait(PATIENCE) == 0
        assert here.states() == NEW

        here.subscribe(document("idp_b", entity_id=names.OTHER_IDP), entity_id=names.OTHER_IDP, path="/gone")
        with service(tmp_path, "work", "--once") as worker:
            assert worker.process.wait(PATIENCE) == 3
            assert worker.line("refreshed")["reason"] == "metadata_unreachable"
        assert here.server.requests("/md") == 1


def test_promise_29_a_process_takes_over_a_swapped_key_when_evidence_shows_it(tmp_path: Path, now: Clock) -> None:
    """An unannounced rollover, seen in denied evidence, is in force within seconds."""
    with site(tmp_path, clock=now) as here, service(tmp_path, "work", metadata_cool_down_seconds="1") as worker:
        here.subscribe(document("idp"))
        here.serve(document("idp"))
        worker.line("refreshed", outcome="unchanged")
        here.serve(document("idp", "idp_next", signed_by="idp"))
        time.sleep(1.1)
        here.meet_unknown("idp_next", at=datetime.now(UTC))

        line = worker.line("refreshed", outcome="applied")
        assert line["hastened"] is True
        assert here.states() == NEW


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"metadata_refresh_hours": "0"}, 2, "METADATA_REFRESH_HOURS"),
        ({"work_fetches": "none"}, 2, "WORK_FETCHES"),
        ({"database_url": "postgresql://x/y"}, 3, "database_url: postgresql is not supported"),
    ],
    ids=["no interval", "no number", "no such database"],
)
def test_what_is_wrong_at_start_is_one_line(tmp_path: Path, settings: dict[str, str], code: int, said: str) -> None:
    """The member and the remedy, no stack trace, and the exit code of bad input or of a failed dependency."""
    result = subprocess.run(
        [sys.executable, "-m", "evidence_service", "work"],
        env=environment(tmp_path, **settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert result.returncode == code
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert said in errors[0]
    assert "Traceback" not in result.stderr


def test_run_keeps_everything_up_until_sigterm(tmp_path: Path) -> None:
    """One command: a child that is killed is started again, and SIGTERM ends all."""
    with service(tmp_path, "run", "--port", "0", "--admin-port", "0") as parent:
        first = {(line := parent.line("started"))["process"]: line["pid"] for _ in range(3)}
        assert set(first) == {"serve", "work", "admin"}
        parent.line("listening")
        parent.line("listening")
        os.kill(first["work"], signal.SIGKILL)
        assert parent.line("ended") | {"process": "work", "code": 137, "restarted": True} == parent.said[-1]
        again = parent.line("started", process="work")["pid"]
        parent.line("working")

        assert parent.end() == 0
        for pid in (first["serve"], first["admin"], again):
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_run_ends_with_the_code_of_what_answers_launches(tmp_path: Path) -> None:
    """Settings that it refuses do not mend themselves, so it is not started again and again."""
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    with service(blocked, "run", "--port", "0", "--admin-port", "0") as parent:
        ended = parent.line("ended", process="serve")
        assert (ended["code"], ended["restarted"]) == (2, False)
        assert parent.process.wait(PATIENCE) == 2


def test_promise_86_launches_go_on_where_the_renewal_file_is_wrong(tmp_path: Path) -> None:
    """A typing error there, found at the next start of the machine, keeps nobody from logging on."""
    (tmp_path / "renewal.toml").write_text("[renewal]\nleed = 1\n", encoding="utf-8")
    with service(tmp_path, "run", "--port", "0", "--admin-port", "0") as parent:
        ended = {(line := parent.line("ended"))["process"]: (line["code"], line["restarted"]) for _ in range(2)}
        assert ended == {"work": (2, True), "admin": (2, True)}
        assert any("leed" in line for line in parent.plain), parent.plain
        if not any(each["event"] == "listening" for each in parent.said):
            parent.line("listening")
        assert parent.process.poll() is None


_ABSENT = """
import pathlib, sys
from evidence_service import run
run.LOOK_SECONDS = 0.01
run.REST_SECONDS = 0.1
children = {name: ["/does/not/exist"] for name in ("admin", "work", "serve")}
if sys.argv[1] != "serve":
    children["serve"] = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
sys.exit(run.run(children, log_level="info"))
"""


@pytest.mark.parametrize("missing", ["serve", "others"])
def test_promise_86_launches_go_on_where_another_child_cannot_be_started(missing: str) -> None:
    """A machine out of processes keeps those that answer launches; without them the rest is of no use."""
    command = [sys.executable, "-c", _ABSENT, missing]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stderr is not None
        said: list[dict[str, Any]] = []
        for line in parent.stderr:
            said.append(json.loads(line))
            if missing != "serve" and sum(each["event"] == "not_started" for each in said) == 4:
                assert parent.poll() is None
                parent.send_signal(signal.SIGTERM)
        code = parent.wait(PATIENCE)
    refused = {each["process"] for each in said if each["event"] == "not_started"}

    assert refused >= {"admin", "work"}
    assert ("serve" in refused) == (missing == "serve")
    assert (code == 3) == (missing == "serve")


_FLAKY = """
import pathlib, sys
mark = pathlib.Path(sys.argv[1])
code = int(sys.argv[2]) if mark.exists() else 3
mark.touch()
sys.exit(code)
"""
_IMPATIENT = """
import sys
from evidence_service import run
run.RESTART_AFTER_SECONDS = run.LOOK_SECONDS = 0.01
run.REST_SECONDS = 0.3
python = [sys.executable, "-S", "-c"]
children = {"serve": [*python, "import time; time.sleep(600)"], "admin": [*python, *sys.argv[1:]]}
sys.exit(run.run(children, log_level="info"))
"""


@pytest.mark.parametrize("code", [2, 3])
def test_promise_86_launches_go_on_where_another_child_does_not_stay_up(tmp_path: Path, code: int) -> None:
    """Whatever brings down the admin plane again and again leaves the decision plane running; it is tried again."""
    command = [sys.executable, "-c", _IMPATIENT, _FLAKY, str(tmp_path / "started"), str(code)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stderr is not None
        said: list[dict[str, Any]] = []
        for line in parent.stderr:
            said.append(json.loads(line))
            if sum(each["event"] == "ended" for each in said) == 9:
                break
        assert parent.poll() is None
        parent.send_signal(signal.SIGTERM)
        said += [json.loads(line) for line in parent.stderr]
        parent.wait(PATIENCE)
    ended = [each for each in said if each["event"] == "ended"]
    assert {(each["process"], each["restarted"]) for each in ended} == {("admin", True)}
    assert [each["process"] for each in said if each["event"] == "started"].count("serve") == 1
