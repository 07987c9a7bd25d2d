"""The command as a whole: usage, exit codes, databases and settings that cannot be used, internal errors."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.main import get_command

from evidence_service.access.reasons import AccessReason
from evidence_service.cli.grammar import app
from evidence_service.renewal.reasons import RenewalReason
from tests.cli.given import Place, fas_evidence, process
from tests.corpus import keys, names

READING = [("idp", "list"), ("rule", "list"), ("plugin", "list"), ("decision", "list")]


def test_help_of_every_command(place: Place) -> None:
    """Every command has a help text, and asking for it touches nothing."""
    before = place.files()
    nouns = {
        "idp": ["add", "list", "show", "remove", "enable", "disable", "policy"],
        "key": ["list", "revoke", "reinstate", "retire", "approve"],
        "rule": ["set", "list", "remove"],
        "plugin": ["enroll", "list", "revoke"],
        "decision": ["list", "show"],
        "db": ["upgrade"],
        "config": ["validate"],
    }
    commands = [(), ("check",), ("explain",), ("reason",), ("serve",), ("demo",)]
    commands += [(noun,) for noun in nouns] + [(noun, verb) for noun, verbs in nouns.items() for verb in verbs]
    for command in commands:
        ran = fas_evidence(*command, "--help")
        assert (ran.code, ran.err) == (0, ""), command
        assert ran.out.startswith(" ".join(["Usage: fas-evidence", *command])), command
    assert place.files() == before


def test_every_argument_and_option_has_a_help_text() -> None:
    """Nobody has to guess what a name is of, or which port is meant."""

    def bare(command: object, path: str) -> Iterator[str]:
        for each in getattr(command, "commands", {}).values():
            yield from bare(each, f"{path} {each.name}")
        yield from (f"{path} {each.name}" for each in getattr(command, "params", ()) if not getattr(each, "help", None))

    assert list(bare(get_command(app), "fas-evidence")) == []


def test_help_says_the_exit_codes() -> None:
    """The exit codes are part of the contract."""
    assert "3 a dependency failed" in " ".join(fas_evidence("--help").out.split())


def test_version() -> None:
    """`--version` names program and version."""
    ran = fas_evidence("--version")
    assert (ran.code, ran.out.split()[0], ran.err) == (0, "fas-evidence", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("chekc",), "no such command 'chekc' (did you mean 'check'?); see `fas-evidence --help`"),
        (("idp", "lits"), "no such command 'lits'"),
        (("check", "--bogus"), "no such option: --bogus"),
        (("idp", "show"), "missing argument 'ENTITY_ID'; see `fas-evidence idp show --help`"),
        (("idp", "add"), "missing option '--metadata'"),
        (("decision", "list", "--limit", "many"), "'--limit': Input should be a valid integer"),
        (("decision", "list", "--limit", "0"), "--limit"),
        (("serve", "--port", "70000"), "--port"),
        (("serve", "--port", "http"), "'--port': Input should be a valid integer"),
        (("idp", "list", "--database", "x"), "--database stands before the command"),
        (("decision", "list", "--since", "yesterday"), "--since: 'yesterday' is not a UTC instant"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_one_line(place: Place, arguments: tuple[str, ...], complaint: str) -> None:
    """Exit code 2, one line that says what is wrong, nothing on stdout, nothing made."""
    before = place.files()
    ran = fas_evidence(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert complaint in ran.complaint
    assert place.files() == before


def test_without_a_command_the_help_is_shown(place: Place) -> None:
    """The help goes to stderr, with what to do in its last line."""
    del place
    for arguments in ((), ("idp",)):
        ran = fas_evidence(*arguments)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("Usage: ")
        assert ran.err.splitlines()[-1].startswith("error: no command given")


def test_a_bug_is_one_line(place: Place) -> None:
    """Whatever goes wrong inside is one line and exit code 3; `--debug` adds the stack trace."""
    with patch("evidence_service.cli.check.load_metadata", side_effect=RuntimeError("boom\nsecond line")):
        ran = place.check()
        assert ran.code == 3
        assert ran.err == "internal error: RuntimeError: boom second line; run again with --debug for details\n"
        ran = fas_evidence("--debug", "check", place.evidence, "--metadata", place.metadata, "--upn", names.ALICE)
        assert ran.code == 3
        assert ran.err.startswith("Traceback")


def test_the_console_script(place: Place) -> None:
    """A process of its own gives the same answer, with an exit code that a script can use."""
    arguments = ("check", place.evidence, "--metadata", place.metadata, "--policy", place.policy, "-o", "json")
    done = process(*arguments, "--upn", names.ALICE, "--at", "2026-01-01T12:00:30Z")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["reason"] == "ok"
    done = process(*arguments, "--upn", names.ADMIN, "--at", "2026-01-01T12:00:30Z")
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (1, "upn_mismatch")


def test_output_that_a_code_page_lacks(place: Place) -> None:
    """On a console without UTF-8, characters it lacks come out escaped instead of as a crash."""
    policy = place.policy.read_text(encoding="utf-8").replace("gw.example", "gw-\u0144.example")
    place.policy.write_text(policy, encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(Path(__file__).parents[2])}
    arguments = ("check", place.evidence, "--metadata", place.metadata, "--policy", place.policy)
    done = process(*arguments, "--upn", names.ALICE, "--at", "2026-01-01T12:00:30Z", env=environment)
    assert (done.returncode, done.stderr) == (1, b"")
    assert b"gw-\\u0144.example" in done.stdout


def test_what_is_not_needed_is_not_loaded() -> None:
    """Help loads no web framework, database or cryptography; an offline check loads no web framework or database."""
    heavy = ["fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "cryptography", "lxml", "rich"]
    code = (
        "import sys, contextlib, io\n"
        "from evidence_service.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        "    main(sys.argv[1:])\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )

    def loaded(*arguments: str) -> list[str]:
        command = [sys.executable, "-c", code, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(command, capture_output=True, check=True, timeout=120, env=environment)
        return list(json.loads(done.stdout.decode().replace("'", '"')))

    assert loaded("check", "--help") == []
    offline = loaded("check", __file__, "--metadata", __file__, "--upn", "a@b.example")
    assert not set(offline) & {"fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device without space")
def test_output_that_cannot_be_written(place: Place) -> None:
    """A full disk under stdout is one line and exit code 3, for long and short output."""
    line = {"id": "a", "file": "evidence.xml", "metadata": "metadata.xml", "upn": names.ALICE}
    place.write("batch.jsonl", json.dumps(line))
    for arguments in (("reason",), ("--version",), ("check", "--batch", "batch.jsonl")):
        with Path("/dev/full").open("wb") as full:
            command = [sys.executable, "-m", "evidence_service", *arguments]
            done = subprocess.run(
                command, stdout=full, stderr=subprocess.PIPE, check=False, timeout=120, env=_environment()
            )
        assert done.returncode == 3
        assert done.stderr.decode().splitlines() == [
            "error: No space left on device; check the path, its permissions and the space on its disk"
        ]


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
def test_no_database(place: Place, command: tuple[str, str]) -> None:
    """Reading from a database that is not there says so and makes none."""
    ran = fas_evidence(*command)
    assert (ran.code, ran.out) == (3, "")
    assert ran.complaint.startswith(f"there is no database at {place.database}")
    assert not place.database.parent.exists()


@pytest.mark.parametrize("command", [("idp", "list"), ("db", "upgrade"), ("plugin", "enroll", "x", "--bearer")])
def test_databases_that_cannot_be_used(place: Place, command: tuple[str, ...]) -> None:
    """One line: 3 for a file that is no database, another program's, newer or a directory; 2 for what names no file."""
    place.write("not.db", b"not a database at all, but long enough to have a header" * 100)
    with sqlite3.connect(place.directory / "foreign.db") as foreign:
        foreign.execute("CREATE TABLE t (x)")
    foreign.close()
    fas_evidence("--database", "sqlite:///newer.db", "db", "upgrade")
    with sqlite3.connect(place.directory / "newer.db") as newer:
        newer.execute("UPDATE alembic_version SET version_num = '9999'")
    newer.close()
    for name, code, complaint in (
        ("sqlite:///not.db", 3, "is not an SQLite database"),
        ("sqlite:///foreign.db", 3, "belongs to another program"),
        ("sqlite:///newer.db", 3, "newer than this software knows"),
        ("sqlite:////", 3, "directory"),
        ("postgresql://x/y", 2, "is not supported"),
        ("nonsense", 2, "is not a URL"),
        ("sqlite://", 2, "must name a file"),
    ):
        ran = fas_evidence("--database", name, *command)
        assert ran.code == code, name
        assert complaint in ran.complaint, name
        assert "SECRET" not in ran.out


def test_a_locked_database(place: Place) -> None:
    """A lock that another process holds is waited for, then named; nothing is written."""
    place.add_idp()
    holder = sqlite3.connect(place.database, isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        ran = fas_evidence("idp", "disable", names.IDP)
        assert (ran.code, ran.out) == (3, "")
        assert "is locked by another process" in ran.complaint
    finally:
        holder.close()
    assert fas_evidence("idp", "show", names.IDP, "-o", "json").json["enabled"] is True


def test_validate_finds_a_locked_database(place: Place) -> None:
    """Reading is not enough: without the write lock every decision would be a deny."""
    place.add_idp()
    holder = sqlite3.connect(place.database, isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        ran = fas_evidence("config", "validate", "-o", "json")
    finally:
        holder.close()
    assert ran.code == 3
    (failed,) = [each["finding"] for each in ran.json if each["subject"] == "database"]
    assert "is locked by another process" in failed


def test_validate_warns_of_rules_that_only_observe(place: Place) -> None:
    """A rule in observe mode is a warning, which changes nothing about the exit code."""
    place.add_idp()
    fas_evidence("plugin", "enroll", "local", "--bearer")
    fas_evidence("rule", "set", "trial", "--mode", "observe")
    ran = fas_evidence("config", "validate", "-o", "json")
    assert ran.code == 0
    assert [each["finding"] for each in ran.json if each["verdict"] == "warning"] == [
        "rule trial only observes: every deny is answered allow"
    ]


def test_settings_that_cannot_be_used(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A settings file that is not there, not TOML or has an unknown member, and a wrong variable: exit code 2."""
    place.write("not.toml", "=")
    place.write("unknown.toml", "listen_prot = 1\n")
    place.write("port.toml", 'listen_port = "http"\n')
    place.write("two.toml", 'listen_port = "http"\nlisten_prot = 1\n')
    place.write("windows.toml", "listen_port = 1".encode("utf-16"))
    place.write("path.toml", 'data_dir = "C:\\Users\\fas"')
    for name, complaint in (
        ("absent.toml", "No such file"),
        (".", "Is a directory"),
        ("not.toml", "not TOML"),
        ("unknown.toml", "listen_prot in unknown.toml: there is no such setting"),
        ("port.toml", "listen_port in port.toml"),
        ("two.toml", "; listen_prot in two.toml: there is no such setting; correct these settings"),
        ("two.toml", "listen_port in two.toml: Input should be a valid integer"),
        ("windows.toml", "save it as UTF-8"),
        ("path.toml", "write what has a backslash in single quotes"),
    ):
        ran = fas_evidence("--config", name, "idp", "list")
        assert (ran.code, ran.out) == (2, "")
        assert complaint in ran.complaint
    monkeypatch.setenv("FAS_EVIDENCE_LISTEN_PROT", "1")
    ran = fas_evidence("idp", "list")
    assert ran.code == 2
    assert "FAS_EVIDENCE_LISTEN_PROT" in ran.complaint


def test_a_settings_file_that_a_variable_names_and_that_is_gone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after the demo: nobody gave a file on the command line, so the line says where the name came from."""
    del place
    monkeypatch.setenv("FAS_EVIDENCE_CONFIG", "gone.toml")
    ran = fas_evidence("idp", "list")
    assert ran.code == 2
    assert ran.complaint == (
        "FAS_EVIDENCE_CONFIG names the configuration file gone.toml: No such file or directory; correct the name, "
        "or `unset FAS_EVIDENCE_CONFIG`"
    )


def test_validate_tells_all_faults_of_the_file_of_renewals(place: Place) -> None:
    """One finding for each, so that nobody corrects one to find the next."""
    fas_evidence("db", "upgrade")
    place.write("data/renewal.toml", '[renewal]\npoll = "0s"\nsok = "1d"\n')
    ran = fas_evidence("config", "validate", "-o", "json")
    assert ran.code == 1
    found = [each["finding"] for each in ran.json if each["subject"] == "renewal"]
    assert ["poll: must be more than 0" in found[0], "sok: there is no such member" in found[1]] == [True, True]


def test_validate_says_why_nothing_is_renewed(place: Place) -> None:
    """No file, or one that names no server."""
    fas_evidence("db", "upgrade")
    for content, reason in ((None, "does not exist"), ("", "names no FAS server")):
        if content is not None:
            place.write("data/renewal.toml", content)
        found = {each["subject"]: each["finding"] for each in fas_evidence("config", "validate", "-o", "json").json}
        assert found["renewal"].endswith(f"renewal.toml {reason}")


def test_config_before_and_after_the_command(place: Place) -> None:
    """`--config` may stand at both places for `config validate`, but not with two files."""
    place.write("a.toml", "listen_port = 9001\n")
    place.write("b.toml", "listen_port = 9002\n")
    assert "127.0.0.1:9001" in fas_evidence("config", "validate", "--config", "a.toml").out
    assert "127.0.0.1:9001" in fas_evidence("--config", "a.toml", "config", "validate").out
    ran = fas_evidence("--config", "a.toml", "config", "validate", "--config", "b.toml")
    assert (ran.code, ran.complaint) == (2, "--config is given twice with different files; give it once")


def test_validate_a_configuration(place: Place) -> None:
    """Findings one by one: 3 without a database, 1 where something must be corrected, 0 where all is well."""
    ran = fas_evidence("config", "validate")
    assert ran.code == 3
    assert "FAILED  database" in ran.out
    fas_evidence("db", "upgrade")
    ran = fas_evidence("config", "validate", "-o", "json")
    assert ran.code == 1
    failed = {each["subject"] for each in ran.json if each["verdict"] == "FAILED"}
    assert failed == {"IdPs", "plug-ins"}
    place.add_idp()
    fas_evidence("plugin", "enroll", "fas1")
    ran = fas_evidence("config", "validate", "-o", "json")
    assert ran.code == 1
    problems = {each["subject"]: each["finding"] for each in ran.json if each["verdict"] == "FAILED"}
    assert problems == {"plug-ins": "1 enrolled, none with a credential that counts: certificates need TLS"}
    fas_evidence("plugin", "enroll", "local", "--bearer")
    ran = fas_evidence("config", "validate", "-o", "json")
    assert (ran.code, ran.err) == (0, "")
    assert {each["verdict"] for each in ran.json} == {"ok"}


def test_validate_finds_keys_that_are_gone(place: Place) -> None:
    """A decryption key that a stored policy names and TLS files that are not there are findings."""
    (place.directory / "data/secrets").mkdir(parents=True)
    key = place.write("data/secrets/sp.pem", keys.pem("sp"))
    place.write("policy.toml", place.policy.read_text(encoding="utf-8") + 'decryption_keys = ["sp.pem"]\n')
    place.add_idp()
    fas_evidence("plugin", "enroll", "fas1")
    place.write("tls.toml", 'tls_certificate = "fas1.crt.pem"\ntls_key = "fas1.key.pem"\n')
    assert fas_evidence("config", "validate", "--config", "tls.toml").code == 0
    key.unlink()
    (place.directory / "fas1.key.pem").unlink()
    ran = fas_evidence("config", "validate", "--config", "tls.toml", "-o", "json")
    assert ran.code == 1
    failed = {each["subject"]: each["finding"] for each in ran.json if each["verdict"] == "FAILED"}
    assert failed.keys() == {"TLS", f"IdP {names.IDP}"}
    assert "fas1.key.pem" in failed["TLS"]
    assert "sp.pem cannot be read" in failed[f"IdP {names.IDP}"]


def test_upgrade_twice(place: Place) -> None:
    """Bringing a database up to date that is so already is done, and says which schema it has."""
    for _ in range(2):
        ran = fas_evidence("db", "upgrade")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith("The database has schema ")
    assert place.database.exists()


def test_a_port_in_use(place: Place) -> None:
    """`serve` on a port that is taken is one line with address and port, and exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = process("serve", "--port", str(port), cwd=place.directory, env=_environment())
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert f"cannot listen on 127.0.0.1 port {port}" in line


def test_serve_with_a_key_that_cannot_be_read(place: Place) -> None:
    """TLS files that cannot be used end `serve` with one line and exit code 2."""
    place.write("tls.crt", "x")
    done = process(
        "serve", "--tls-certificate", "tls.crt", "--tls-key", "absent.key", cwd=place.directory, env=_environment()
    )
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert "tls_key: cannot read absent.key" in line


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_reason(place: Place) -> None:
    """A code is explained as table and JSON; an unknown one is a negative answer with what looks alike."""
    del place
    ran = fas_evidence("reason", "upn_mismatch")
    assert (ran.code, ran.err) == (0, "")
    assert AccessReason.UPN_MISMATCH.meaning in ran.out
    assert AccessReason.UPN_MISMATCH.advice in ran.out
    assert fas_evidence("reason", "upn_mismatch", "-o", "json").json["advice"] == AccessReason.UPN_MISMATCH.advice
    assert fas_evidence("reason", "ok").code == 0
    assert {"upn_mismatch", "signature_invalid"} <= {
        each["reason"] for each in fas_evidence("reason", "-o", "json").json
    }
    ran = fas_evidence("reason", "upn_mismatched")
    assert ran.code == 1
    assert "did you mean upn_mismatch" in ran.complaint


def test_reasons_of_renewals_are_known_and_are_no_reason_of_a_decision(place: Place) -> None:
    """Whoever finds a code in a message about a FAS server is told what it means; no decision can have it."""
    del place
    told = fas_evidence("reason", "no_neighbour")
    assert (told.code, told.err) == (0, "")
    assert RenewalReason.NO_NEIGHBOUR.advice in told.out
    listed = [each["reason"] for each in fas_evidence("reason", "-o", "json").json]
    assert listed[-len(RenewalReason) :] == sorted(RenewalReason, key=lambda reason: reason.rank)
    searched = fas_evidence("decision", "list", "--reason", "no_neighbour")
    assert searched.code == 2
    assert "there is no reason code 'no_neighbour'" in searched.complaint
