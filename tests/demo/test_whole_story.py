"""The demo as users run it: its whole story, played once by the command, and what is printed and left behind."""

from __future__ import annotations

import email
import re
import stat
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest

from evidence_service.demo.renewal_farm import APPROVERS, FAS1, FAS2, OPERATORS, PASSWORD
from evidence_service.demo.steps import Step, new_cast
from evidence_service.demo.story import story
from evidence_service.renewal_settings import load_renewal
from tests.demo.played import COMMAND, Printed, environment, running

# The story is played for all of them at once: by one worker, and in the time that a machine takes that is busy.
pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(600)]

COLUMNS = 80
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
"""What the acts lead to, as the stores and the mails tell it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played(Printed):
    """The whole story, and the directory that it left."""

    place: Path
    code: int
    err: str


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """`fas-evidence demo --once` off a terminal, beside a real installation that it must not touch."""
    place = tmp_path_factory.mktemp("demo") / "with blank"
    done = subprocess.run(
        [*COMMAND, "--once", "--directory", str(place)],
        env=environment(COLUMNS=str(COLUMNS), FAS_EVIDENCE_DATABASE_URL="sqlite:////nonexistent/real.db"),
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    return Played(out=done.stdout, place=place, code=done.returncode, err=done.stderr)


def test_every_step_comes_out_as_told(played: Played) -> None:
    """It ends with 0 by itself, each answer has its reason, and each act its outcome, in order."""
    assert (played.code, played.err) == (0, ""), played.out
    assert "WRONG" not in played.out
    now = datetime.now(UTC)
    steps = [step for chapter in story(new_cast(now), now, lambda: "_1") for step in chapter.steps]
    expected = [step.reason for step in steps if isinstance(step, Step) and step.reason]
    assert expected == re.findall(r"(?m)^(?:allow|deny) +(\S+) ", played.out)
    outcomes = [step.outcome for step in steps if not isinstance(step, Step)]
    assert outcomes == re.findall(r"(?m)^act +(\S.*?) {2,}", played.out)
    assert f"All {len(expected) + 1} answers and {len(outcomes)} acts were what the story says." in played.out
    assert "HTTP 401" in played.out


def test_what_came_of_it_is_told(played: Played) -> None:
    """Keys, mails, cmdlets and counts stand below the acts."""
    said = " ".join(played.out.split())
    assert [told for told in TOLD if not re.search(told, said)] == []


def test_it_fits_a_narrow_terminal(played: Played) -> None:
    """No line of the story is wider than 80 columns, and off a terminal nothing is coloured."""
    told = played.out.partition("In another terminal")[0]
    assert [line for line in told.splitlines() if len(line.rstrip()) > COLUMNS] == []
    assert "\x1b" not in played.out


def test_files_stay_where_they_were_asked_for(played: Played) -> None:
    """All but the servers' keys is kept; the password is its owner's alone, and nothing runs on."""
    assert {path.name for path in played.place.iterdir()} == {
        *("data", "secrets", "metadata", "policies", "captured", "mail", "winrm"),
        *("fas-evidence.toml", "launch.json", "service.log", "worker.log"),
    }
    assert stat.S_IMODE((played.place / "secrets" / PASSWORD).stat().st_mode) == 0o600
    farm = load_renewal(played.place / "data" / "renewal.toml", played.place / "secrets").farm
    assert [each.name for each in farm.servers] == [FAS1, FAS2]
    assert running(played.place) == []


def test_the_mails_stay(played: Played) -> None:
    """Approvers were asked three times; operators were told how each renewal ended."""
    mails = [_mail(each) for each in (played.place / "mail").glob("*.eml")]
    for_approvers = [each for each in mails if each["To"] == APPROVERS]
    assert len(for_approvers) == 3
    assert {each["Cc"] for each in for_approvers} == {OPERATORS}
    assert len(re.findall(r"(?m)^ +> Subject: (.*)$", played.out)) == 4
    subjects = [str(each["Subject"]) for each in mails]
    assert len([each for each in subjects if "is renewed" in each]) == 1
    assert any("is back on the old certificate" in each for each in subjects)


def test_the_commands_that_look_into_it_work_as_printed(played: Played) -> None:
    """After the first line, in a shell that knows nothing: a captured response, why one was denied, keys, servers."""
    checked, explained, keys, rollovers, status, history = map(played.asked, played.commands)
    assert checked.startswith("ALLOW ok\n")
    assert "certificate_revoked" in explained
    assert "revoked" in keys
    assert "approved" in rollovers
    assert re.search(rf"(?m)^{FAS1} +in force ", status)
    assert re.search(rf"(?m)^{FAS2} .* verify_failed ", status)
    assert "rehearsal" in history


def _mail(path: Path) -> EmailMessage:
    return email.message_from_bytes(path.read_bytes(), policy=default)
