"""What can be said of the install kit without Windows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plugin_bridge.client import read_settings
from tests.bridge.given import BRIDGE

INSTALL = BRIDGE / "install"
SCRIPTS = sorted(INSTALL.glob("*.ps1"))


def _sources() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in (BRIDGE / "EvidencePlugin").glob("*.cs"))


def test_the_example_is_a_good_settings_file() -> None:
    """It is read as it stands; only its addresses and digests have to be filled in."""
    settings = read_settings(INSTALL / "EvidencePlugin.example.xml")
    assert len(settings.services) == 2
    assert settings.client_certificate_store == "LocalMachine"
    assert (settings.deadline_milliseconds, settings.attempt_milliseconds) == (5000, 2500)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_name_what_the_library_has(path: Path) -> None:
    """Types and members of the library that a script uses are there."""
    text, sources = path.read_text(encoding="utf-8"), _sources()
    for name, member in re.findall(r"\[LogonEvidence\.(\w+)\](?:::(\w+))?", text):
        assert re.search(rf"(class|enum) {name}\b", sources), name
        assert not member or re.search(rf"\b{member}\b", sources), member
    for name in re.findall(r"New-Object LogonEvidence\.(\w+)", text):
        assert f"class {name}" in sources
    for member in re.findall(r"\$(?:answer|question|loaded|row)\.(\w+)", text):
        assert re.search(rf"\b{member}\b", sources), member


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_plain(path: Path) -> None:
    """ASCII, strict, with help; brackets close; nothing is changed without ShouldProcess or fetched from elsewhere."""
    text = path.read_text(encoding="ascii")
    assert text.startswith("<#\n.SYNOPSIS\n")
    assert "Set-StrictMode -Version 2.0\n$ErrorActionPreference = 'Stop'\n" in text
    code = re.sub(r"<#.*?#>|'[^'\n]*'|#[^\n]*", "", text, flags=re.DOTALL)
    assert [code.count(each) for each in "({["] == [code.count(each) for each in ")}]"]
    assert not re.search(r"Invoke-WebRequest|Invoke-Expression|DownloadFile|Start-Process|-ExecutionPolicy", text)
    changes = re.search(r"New-Item|Copy-Item|Remove-Item|New-EventLog|Remove-EventLog|Set-Acl", text)
    assert (changes is not None) == ("SupportsShouldProcess" in text)


def test_the_event_source_is_the_same_everywhere() -> None:
    """What is removed is what was registered and what is written to."""
    source = re.search(r'Source = "([^"]+)"', _sources())
    assert source is not None
    assert f"$source = '{source[1]}'" in (INSTALL / "Uninstall-EvidencePlugin.ps1").read_text(encoding="ascii")
    assert f'source "{source[1]}"' in (INSTALL / "Readme.txt").read_text(encoding="ascii")
