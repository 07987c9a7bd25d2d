"""What is printed where: closed streams, narrow terminals, pipes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from evidence_service.cli import output
from tests.cli.given import Place, fas_evidence, serving_environment
from tests.corpus import keys, names


@pytest.mark.skipif(os.name != "posix", reason="closes a stream with a shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream(place: Place, closed: str) -> None:
    """A command whose streams are closed does its work and complains of nothing."""
    place.add_idp()
    for arguments in (("idp", "list"), ("idp", "list", "-o", "json"), ("idp", "disable", names.IDP)):
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "evidence_service", *arguments]
        done = subprocess.run(command, capture_output=True, check=False, timeout=120, env=serving_environment())
        assert (done.returncode, done.stderr) == (0, b"")
    assert fas_evidence("idp", "show", names.IDP, "-o", "json").json["enabled"] is False


def test_tables_on_a_narrow_terminal(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns what is copied is whole: rows that do not fit become blocks of names and values."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    place.add_idp()
    ran = fas_evidence("idp", "list", terminal=True)
    assert names.IDP in ran.out
    ran = fas_evidence("idp", "show", names.IDP, terminal=True)
    assert keys.fingerprint("idp") in ran.out
    assert "imported by" not in ran.out
    monkeypatch.setenv("COLUMNS", "100")
    ran = fas_evidence("key", "list", terminal=True)
    assert f"{keys.fingerprint('idp')[:12]}\u2026 " in ran.out
    assert keys.fingerprint("idp") not in ran.out


def test_a_pipe_has_one_whole_row_a_line(place: Place) -> None:
    """Off a terminal nothing is shortened or broken."""
    place.add_idp()
    (row,) = [line for line in fas_evidence("key", "list").out.splitlines() if names.IDP in line]
    assert keys.fingerprint("idp") in row


def test_a_question_that_nobody_can_be_asked(place: Place) -> None:
    """Off a terminal the line says what would happen, why it did not, and how to do it."""
    place.add_idp()
    assert fas_evidence("idp", "remove", names.IDP).complaint == (
        f"removing {names.IDP} denies all its evidence from now on; "
        "that needs a confirmation, and nobody can be asked here: add --yes"
    )


def test_a_reader_that_goes_away(place: Place) -> None:
    """Nobody reads the rest of a good answer: 141, as other programs end then, and nothing is said."""
    del place
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as gone:  # noqa: PTH123 - a descriptor
        command = [sys.executable, "-m", "evidence_service", "reason"]
        done = subprocess.run(
            command, stdout=gone, stderr=subprocess.PIPE, check=False, timeout=120, env=serving_environment()
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    "group",
    [
        *((), ("idp",), ("key",), ("rollover",), ("alarm",), ("rule",), ("plugin",)),
        *(("authcert",), ("notify",), ("decision",), ("db",), ("config",)),
    ],
    ids=" ".join,
)
def test_help_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, group: tuple[str, ...]) -> None:
    """At 80 columns no command's line in the help of its group is cut."""
    monkeypatch.setenv("COLUMNS", "80")
    out = fas_evidence(*group, "--help").out
    assert max(map(len, out.splitlines())) <= 80
    assert "..." not in out.replace("[ARGS]...", "")


def test_what_is_missing_behind_an_option(place: Place) -> None:
    """The hint names the command's own help."""
    del place
    assert fas_evidence("check", "--batch").complaint.endswith("see `fas-evidence check --help`")


def test_every_dry_run_says_so_last(place: Place) -> None:
    """The last line of a dry run is always the same, and nothing happened."""
    place.add_idp()
    fas_evidence("rule", "set", "r1")
    fas_evidence("plugin", "enroll", "fas1", "--bearer")
    shown = fas_evidence("idp", "show", names.IDP, "-o", "json").json
    sha256 = keys.fingerprint("idp")
    for arguments in (
        ("idp", "add", "--metadata", place.metadata),
        ("idp", "policy", names.IDP, "--policy", place.policy),
        ("idp", "disable", names.IDP),
        ("idp", "enable", names.IDP),
        ("idp", "remove", names.IDP),
        ("rule", "set", "r2", "--mode", "observe"),
        ("rule", "remove", "r1"),
        ("key", "revoke", sha256, "--idp", names.IDP),
        ("key", "retire", sha256, "--idp", names.IDP),
        ("key", "approve", sha256, "--idp", names.IDP),
    ):
        ran = fas_evidence(*arguments, "--dry-run")
        assert ran.code == 0, arguments
        assert ran.out.splitlines()[-1] == "Nothing was changed (--dry-run).", arguments
        assert "from now on" not in ran.err
    assert fas_evidence("idp", "show", names.IDP, "-o", "json").json == shown
    assert [each["name"] for each in fas_evidence("rule", "list", "-o", "json").json] == ["r1"]


def test_a_sentence_keeps_its_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The remedy stands last: what is a sentence is not cut where other values are, and wraps below its beginning."""
    monkeypatch.setenv("COLUMNS", "80")
    sentence = f"{'found something, ' * 30}remedy"
    output.table(("kind", "finding"), [("k", sentence)], nothing="")
    piped = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output.facts([("to do", sentence), ("name", sentence)])
    facts = capsys.readouterr().out

    assert piped.endswith("remedy\n")
    assert len(piped.splitlines()) == 2
    assert "remedy" in facts
    assert facts.count("...(+") == 1
    assert facts.splitlines()[1].startswith(" " * 7)
