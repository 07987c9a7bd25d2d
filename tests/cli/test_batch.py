"""`check --batch`: the corpus through the command, and lines that cannot be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.given import Place, Ran, fas_evidence, federation, process
from tests.corpus import names
from tests.corpus.build import DATA, extract
from tests.corpus.good import AT
from tests.corpus.model import Case


def answers(ran: Ran) -> list[dict[str, Any]]:
    """The JSON lines of a batch."""
    return [json.loads(line) for line in ran.out.splitlines()]


def good(**changes: object) -> dict[str, object]:
    """A line about the genuine evidence; a member given as None is left out."""
    line: dict[str, object] = {
        "id": "good",
        "file": "evidence.xml",
        "metadata": "metadata.xml",
        "upn": names.ALICE,
        "at": AT,
        "policy": "policy.toml",
        **changes,
    }
    return {name: value for name, value in line.items() if value is not None}


def batch(place: Place, *lines: object) -> Ran:
    """Run a batch of these lines; bytes and texts are taken as they are."""
    raw = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    place.write("batch.jsonl", b"".join(line + b"\n" for line in raw))
    return fas_evidence("check", "--batch", "batch.jsonl")


def test_the_corpus_through_the_command(tmp_path: Path) -> None:
    """Every case that files can express gets the decision and reason that the corpus expects, in order.

    A file cannot express base64 that ends with a line break: there it belongs to the file.
    """
    data = json.loads(DATA.read_text(encoding="utf-8"))
    cases = [Case.from_data(each) for each in data["cases"]]
    count, _ = extract(cases, data, tmp_path)
    stripped = {
        each.id for each in cases if each.evidence and each.evidence.endswith(b"\n") and b"<" not in each.evidence
    }
    done = process("check", "--batch", tmp_path / "batch.jsonl")
    assert (done.returncode, done.stderr) == (0, b"")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    wanted = [json.loads(line) for line in (tmp_path / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(found) == count
    assert [each["id"] for each in found] == [each["id"] for each in wanted]
    divergences = json.loads((DATA.parent / "divergences.json").read_text(encoding="utf-8"))
    differing = {
        each["id"]: each["reason"]
        for each, expected in zip(found, wanted, strict=True)
        if (each["decision"] != expected["decision"] or each["reason"] not in expected["reasons"])
        and each["id"] not in stripped
    }
    assert differing == {name: known["actual"] for name, known in divergences.items()}


def test_a_line_answers_as_the_single_check_does(place: Place) -> None:
    """A batch answers `id` and what `check -o json` prints, for an allow and for a deny."""
    ran = batch(place, good(), good(id="other", upn=names.ADMIN))
    assert (ran.code, ran.err) == (0, "")
    allow, deny = answers(ran)
    assert allow == {"id": "good", **place.check("-o", "json").json}
    assert deny == {"id": "other", **place.check("-o", "json", upn=names.ADMIN).json}
    assert deny["reason"] == "upn_mismatch"


def test_paths_are_relative_to_the_batch_file(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The batch can be run from any directory."""
    place.write("batch.jsonl", json.dumps(good()))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    ran = fas_evidence("check", "--batch", "../batch.jsonl")
    assert [each["reason"] for each in answers(ran)] == ["ok"]


def test_optional_members(place: Place) -> None:
    """Without `at` it is judged now, without `policy` nobody is allowed, and null is as good as absent."""
    ran = batch(
        place,
        good(at=None),
        good(policy=None),
        {**good(), "phase": None, "rule": None},
        good(phase="assert", rule="any"),
    )
    assert [each["reason"] for each in answers(ran)] == ["evidence_too_old", "config_invalid", "ok", "ok"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{", "the line is not JSON"),
        ("[]", "the line is not a JSON object"),
        ("[" * 100_000, "the line is not JSON"),
        (b'{"id": "\xff"}', "the line is not UTF-8"),
        ("x" * 1_100_000, "the line is longer than"),
        ('{"id": "a", "id": "b"}', "a member is given twice"),
        (good(extra=1), "unknown member 'extra'"),
        (good(upn=3), "member 'upn' must be a text"),
        (good(upn=None), "member 'upn' is missing"),
        (good(file=None), "member 'file' is missing"),
        (good(file="absent.xml"), "evidence file"),
        (good(file="a\0b"), "evidence file"),
        (good(metadata="absent.xml"), "metadata file"),
        (good(metadata="evidence.xml"), "metadata_not_saml: "),
        (good(metadata="ambiguous.xml"), "metadata_ambiguous: "),
        (good(policy="absent.toml"), "policy file"),
        (good(policy="metadata.xml"), "metadata.xml: policy: not TOML"),
        (good(at="yesterday"), "at: 'yesterday' is not a UTC instant"),
        (good(phase="launch"), "phase: 'launch' is neither"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_unusable_line_does_not_stop_the_rest(place: Place, line: object, error: str) -> None:
    """It answers an error in its place, the lines around it are decided, and the exit code is 2."""
    place.write("ambiguous.xml", federation().replace(names.OTHER_IDP.encode(), names.IDP.encode()))
    ran = batch(place, good(), line, good(id="last"))
    assert ran.code == 2
    assert ran.complaint.startswith("1 of 3 lines could not be used")
    first, unusable, last = answers(ran)
    assert (first["id"], first["reason"]) == ("good", "ok")
    assert (last["id"], last["reason"]) == ("last", "ok")
    assert unusable.keys() == {"id", "error"}
    assert error in unusable["error"]
    assert unusable["error"].startswith(error) or "file" in error or "metadata.xml" in error
    assert "\n" not in unusable["error"]
    assert unusable["id"] == (line.get("id") if isinstance(line, dict) else None)


def test_the_same_unusable_file_is_an_error_each_time(place: Place) -> None:
    """What was read once is remembered, also that it could not be used."""
    ran = batch(place, good(metadata="evidence.xml"), good(metadata="evidence.xml", id="b"), good(id="c"))
    first, second, third = answers(ran)
    assert first["error"] == second["error"]
    assert third["reason"] == "ok"
    assert ran.complaint.startswith("2 of 3 lines")


def test_reuse_is_not_judged_across_lines(place: Place) -> None:
    """The same evidence for the same user is allowed on every line, whatever the policy says of re-use."""
    place.write("policy.toml", place.policy.read_text(encoding="utf-8") + 'reuse = "once"\n')
    assert [each["reason"] for each in answers(batch(place, good(), good(), good()))] == ["ok"] * 3


def test_a_file_from_windows(place: Place) -> None:
    """A byte order mark, CRLF and empty lines are no reason to complain."""
    place.write(
        "batch.jsonl", b"\xef\xbb\xbf" + json.dumps(good()).encode() + b"\r\n\r\n" + json.dumps(good()).encode()
    )
    ran = fas_evidence("check", "--batch", "batch.jsonl")
    assert (ran.code, [each["reason"] for each in answers(ran)]) == (0, ["ok", "ok"])


def test_an_empty_batch_is_done(place: Place) -> None:
    """Nothing asked, nothing answered."""
    assert batch(place) == Ran(code=0, out="", err="")


def test_batch_files_that_cannot_be_read(place: Place) -> None:
    """A missing batch file and a directory are named."""
    del place
    ran = fas_evidence("check", "--batch", "absent.jsonl")
    assert (ran.code, ran.complaint) == (2, "batch file absent.jsonl does not exist; check the path")
    ran = fas_evidence("check", "--batch", ".")
    assert (ran.code, ran.complaint) == (2, "batch file . is a directory; name a file")


def test_options_of_a_single_check_do_not_mix_with_a_batch(place: Place) -> None:
    """They would be ignored, so they are refused."""
    ran = fas_evidence("check", "--batch", "batch.jsonl", "--metadata", place.metadata)
    assert ran.code == 2
    assert ran.complaint.startswith("--metadata cannot be combined with --batch")


def test_each_answer_is_handed_on_at_once(place: Place) -> None:
    """A caller that writes one line and waits gets its answer before it writes the next."""
    command = [sys.executable, "-m", "evidence_service", "check", "--batch", "-"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=place.directory, env=environment
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for number in range(3):
            running.stdin.write(json.dumps(good(id=str(number))).encode() + b"\n")
            running.stdin.flush()
            assert json.loads(running.stdout.readline())["id"] == str(number)
        running.stdin.close()
        assert running.wait(timeout=60) == 0


def test_a_reader_that_goes_away_ends_it_quietly(place: Place) -> None:
    """`| head` leaves no stack trace."""
    place.write("batch.jsonl", (json.dumps(good()) + "\n") * 400)
    command = f"{sys.executable} -m evidence_service check --batch batch.jsonl | head -n 1"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        ["bash", "-c", command], cwd=place.directory, env=environment, capture_output=True, check=False, timeout=120
    )
    assert json.loads(done.stdout)["reason"] == "ok"
    assert done.stderr == b""
