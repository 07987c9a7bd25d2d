"""The chapters of the demo in which FAS servers are renewed: by the real worker, over real PowerShell remoting."""

from __future__ import annotations

import contextlib
import email
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default
from functools import partial
from pathlib import Path

import pytest

from evidence_service.demo import acts, renewal
from evidence_service.demo.acts import FarmAct, Scene
from evidence_service.demo.fas_ca import ApprovalRefused
from evidence_service.demo.renewal import renewals
from evidence_service.demo.renewal_farm import APPROVERS, FAS1, FAS2, OPERATORS, PASSWORD, ShownMail
from evidence_service.demo.service import DemoFailed
from evidence_service.demo.steps import Cast, Chapter, Step, new_cast
from evidence_service.demo.story import run_demo
from evidence_service.renewal_settings import load_renewal
from tests.demo.test_story import asked_in_shell, environment, running

Story = Callable[[Cast, datetime, Callable[[], str]], tuple[Chapter, ...]]
SCRIPT = """
from evidence_service.demo.renewal import renewals
from evidence_service.demo.story import run_demo
run_demo(once=True, tell=renewals)
"""


def acts_of(*chosen: FarmAct) -> Story:
    """A story of these acts alone."""
    return lambda _cast, _now, _new_id: (Chapter(title="Acts", steps=chosen),)


def nothing_comes(by_hand: Callable[[Scene], object] | None = None) -> FarmAct:
    """An act whose outcome never comes."""
    return FarmAct(title="t", why="w", outcome="renewed", server=FAS1, by_hand=by_hand, tells=lambda _: ())


def mails_in(directory: Path) -> list[EmailMessage]:
    """What was mailed."""
    return [email.message_from_bytes(each.read_bytes(), policy=default) for each in directory.glob("*.eml")]


def test_both_renewals_come_out_as_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One is renewed, one denied and one rolled back; mails, settings and state stay, and nothing runs on."""
    place, before = tmp_path / "kept", set(threading.enumerate())
    assert run_demo(once=True, directory=place, tell=renewals) == 0
    out = capsys.readouterr().out

    mails = mails_in(place / "mail")
    for_approvers = [each for each in mails if each["To"] == APPROVERS]
    assert len(for_approvers) == 3
    assert {each["Cc"] for each in for_approvers} == {OPERATORS}
    shown = re.findall(r"(?m)^ +> Subject: (.*)$", out)
    assert len(shown) == 4
    assert any("is renewed" in str(each["Subject"]) for each in mails)
    assert sum("is back on the old certificate" in str(each["Subject"]) for each in mails) == 3

    farm = load_renewal(place / "data" / "renewal.toml", place / "secrets").farm
    assert [each.name for each in farm.servers] == [FAS1, FAS2]
    assert stat.S_IMODE((place / "secrets" / PASSWORD).stat().st_mode) == 0o600
    status, history = (
        asked_in_shell(line) for line in out.splitlines() if line.startswith("fas-evidence") and " authcert " in line
    )
    assert re.search(rf"(?m)^{FAS1} +in force ", status)
    assert re.search(rf"(?m)^{FAS2} +the last act failed ", status)
    assert "rehearsal" in history

    assert {each.name for each in threading.enumerate()} == {each.name for each in before}
    assert "NTLM_USER_FILE" not in os.environ
    assert running(place) == []


def test_what_does_not_come_is_marked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a renewal goes another way, or a mail is missing, the row says where it stands; the exit code is 1."""
    monkeypatch.setattr(acts, "COMES_WITHIN_SECONDS", 0.5)
    unmailed = replace(nothing_comes(), tells=lambda _: ("told",), mails=("renewal_report",))
    without_servers = nothing_comes()
    started = nothing_comes(by_hand=lambda scene: scene.renewals.open())
    assert run_demo(once=True, tell=acts_of(without_servers, started, unmailed)) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "WRONG: the story says renewed; no FAS server 'fas1.corp.example' is configured" in out
    assert "WRONG: the story says renewed; nothing was looked at" in out
    assert "and not every mail came (renewal_report)" in out
    assert "3 of 0 answers and 3 acts were not what the story says" in out


def test_what_is_refused_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing waits for the CA manager, or who decides may not, the row says so."""

    def refuse(_scene: Scene) -> None:
        raise ApprovalRefused("no Manage CA right")

    def issue(scene: Scene) -> None:
        scene.renewals.open()
        renewal._decide(scene, name=FAS1)

    story = acts_of(nothing_comes(by_hand=refuse), nothing_comes(by_hand=issue))
    assert run_demo(once=True, tell=story) == 1
    out = capsys.readouterr().out
    assert "WRONG: it was refused: no Manage CA right" in out
    assert r"WRONG: it was refused: no request of CORP\FAS1$ is pending" in out


def test_a_story_without_servers_ends(capsys: pytest.CaptureFixture[str]) -> None:
    """Who asks for the FAS servers before they were started gets one line, and exit code 3."""
    assert run_demo(once=True, tell=acts_of(nothing_comes(by_hand=lambda scene: scene.renewals.farm))) == 3
    err = capsys.readouterr().err
    assert err == "error: the story asks for the FAS servers before it has started them\n"
    assert issubclass(DemoFailed, Exception)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_in_a_renewal_it_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C or SIGTERM while a request waits ends service, worker and FAS servers, and removes the files."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1"),
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("act       requested"):
                break
        (made,) = tmp_path.iterdir()
        assert {"serve", "work"} <= {line.split()[-1] for line in running(made)}
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):  # all of them, where an assertion failed
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert err.endswith("KeyboardInterrupt\n")
    assert running(made) == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_out_of_a_mail_is_marked() -> None:
    """The first paragraphs and what to do are shown; only a whole mail goes without the mark."""
    make = partial(ShownMail, kind="k", sender="s", to="t", copies="", subject="s")
    mail = make(paragraphs=("one", "two", "What to do:\n1. It", "facts"))
    assert mail.excerpt(1) == ("one", "What to do:\n1. It", "[...]")
    assert mail.excerpt(4) == mail.paragraphs


def test_titles_fit_a_narrow_terminal() -> None:
    """At 80 columns each title stays on the line of its answer, and every outcome fits its column."""
    now = datetime.now(UTC)
    for chapter in renewals(new_cast(now), now, lambda: "_1"):
        assert [each.title for each in chapter.steps if len(each.title) > 28] == []
        assert [each for each in chapter.steps if not isinstance(each, Step) and len(each.outcome) > 22] == []
