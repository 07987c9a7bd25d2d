"""What the page about renewals says is what the source knows: settings, cmdlets, commands, alarms, metrics."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.serialization import Encoding
from typer.core import TyperGroup

from evidence_service.cli.grammar import app
from evidence_service.demo.idp import new_key, self_signed
from evidence_service.notices.alarms import _TITLES
from evidence_service.renewal.cmdlets import CMDLETS
from evidence_service.renewal.dispositions import explain_disposition
from evidence_service.renewal.farm import Local, WinRm
from evidence_service.renewal.model import STEP_KINDS, Alert, Import, Rest, RollBack, Withdraw
from evidence_service.renewal_settings import RenewalSettings, load_renewal, renewal_warnings
from evidence_service.web.metrics import Known, samples
from tests.architecture.sources import ROOT

OPERATIONS = ROOT / "docs" / "operations"
PAGE = (OPERATIONS / "renewal.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
TOML = [text for language, text in BLOCKS if language == "toml"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A data directory with every file that the examples name."""
    now = datetime.now(UTC)
    made = self_signed("example", new_key(), not_before=now, not_after=now + timedelta(days=1))
    (tmp_path / "secrets").mkdir()
    for member, name in re.findall(r'^(\w+) = "([^"]+)"', "\n".join(TOML), re.MULTILINE):
        if member in {"ca_file", "issuer", "client_certificate"}:
            (tmp_path / name).write_bytes(made.public_bytes(Encoding.PEM))
        elif member.endswith("_file") or member == "client_key":
            secret = tmp_path / "secrets" / name
            secret.write_text("https://hooks.example/secret\n", encoding="utf-8")
            secret.chmod(0o600)
    return tmp_path


def load(place: Path, text: str) -> RenewalSettings:
    """The settings that an example makes."""
    (place / "renewal.toml").write_text(text, encoding="utf-8")
    return load_renewal(place / "renewal.toml", place / "secrets")


@pytest.mark.parametrize("text", TOML, ids=range(len(TOML)))
def test_every_example_is_taken(place: Path, text: str) -> None:
    """What is copied from the page names servers and is refused in nothing."""
    assert load(place, text).farm.servers


def test_no_example_waits_for_a_server_that_is_not_there(place: Path) -> None:
    """Each that names one server alone switches without maintenance, and each proves what came; but for fragments."""
    whole = [load(place, text) for text in TOML if "[renewal]" in text]
    told = [
        text for each in whole for _, text in renewal_warnings(each) if "maintenance is" in text or "test_upn" in text
    ]

    assert len(whole) > 3
    assert told == []


def test_examples_are_what_the_page_says_of_them(place: Path) -> None:
    """The least proves new certificates and tells the approver; the management machine carries addresses."""
    least, full, management = (load(place, text) for text in TOML[:3])

    assert least.channels.mail is not None
    assert [each.policy.test_rule for each in least.farm.servers] == ["test_Rule"] * 2
    connections = [each.connection for each in full.farm.servers]
    assert [each.auth for each in connections if isinstance(each, WinRm)] == ["negotiate", "kerberos", "certificate"]
    assert [each.certificate_authority for each in full.farm.revocation_lists] == [
        each.policy.certificate_authority for each in full.farm.servers[:1]
    ]
    assert [(type(each.connection), each.address, each.read_events) for each in management.farm.servers] == [
        (Local, "fas1.corp.example", False),
        (Local, "fas2.corp.example", False),
    ]


def test_the_role_shows_exactly_what_is_ever_called() -> None:
    """The endpoint of the page lacks no cmdlet that may be called, and has none beyond (promise 62)."""
    (role,) = [text for language, text in BLOCKS if language == "powershell" and "VisibleCmdlets" in text]
    shown = re.findall(r"'([A-Z][A-Za-z]+-[A-Z][A-Za-z]+)'", role)

    assert sorted(shown) == sorted(CMDLETS)


def options_of(words: list[str]) -> tuple[set[str] | None, list[str]]:
    """The options of the command that the words begin with, None where there is none, and the other words."""
    command, names = typer.main.get_command(app), list(words)
    while isinstance(command, TyperGroup) and names:
        found = command.commands.get(names.pop(0))
        if found is None:
            return None, names
        command = found
    return {option for parameter in command.params for option in parameter.opts}, names


def test_commands_and_options_exist() -> None:
    """Every command of the page can be given as it stands there."""
    given = [line.partition("#")[0].split() for line in PAGE.splitlines() if line.startswith("fas-evidence ")]
    given += [text.split() for text in re.findall(r"`(fas-evidence [^`]+)`", PAGE)]
    missing = []
    for words in given:
        options, names = options_of(words[1:])
        if options is None or not {each for each in names if each.startswith("-")} <= options:
            missing.append(" ".join(words))

    assert len(given) > 15
    assert missing == []


def test_every_alarm_has_its_row() -> None:
    """Each kind of alarm stands in the table of one of the two pages, and no other does."""
    tables = [
        (OPERATIONS / name).read_text(encoding="utf-8").partition("\n## Alarms\n")[2]
        for name in ("renewal.md", "signing-keys.md")
    ]
    cells = [cell for table in tables for cell in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)]
    told = [kind for cell in cells for kind in re.findall(r"`([a-z_]+)`", cell)]

    assert sorted(told) == sorted(_TITLES)


def test_metrics_and_steps_exist() -> None:
    """A rule that is copied from the page counts something, and the steps of the table are those of a renewal."""
    names = {metric.name for metric in samples(Known(), datetime.now(UTC))}
    steps = re.findall(r"^\| `([a-z_]+)` \| (?:worker|\*\*CA manager\*\*)", PAGE, re.MULTILINE)
    unusual = {STEP_KINDS[each] for each in (Rest, Alert, Import, RollBack, Withdraw)}

    assert set(re.findall(r"\bfas_evidence_[a-z_]+", PAGE)) <= names
    assert steps == [kind for kind in STEP_KINDS.values() if kind not in unusual]


def test_every_disposition_is_explained() -> None:
    """The codes that S124 may tell are in the table by number and name."""
    rows = dict(re.findall(r"^\| (\d) \| `(CR_DISP_[A-Z_]+)` \|", PAGE, re.MULTILINE))

    assert rows == {str(code): explain_disposition(code).name for code in range(7)}
