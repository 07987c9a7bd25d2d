"""What can be said of the install kit without Windows."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from plugin_bridge.client import read_settings
from tests.bridge.given import BRIDGE, PATIENCE, Plugin, needs_mono

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


@needs_mono
def test_the_readme_leads_to_a_denied_forgery(plugin: Plugin, tmp_path: Path) -> None:
    """The commands for Linux, as they stand there: a genuine launch is allowed, a forged one denied."""
    text = (INSTALL / "Readme.txt").read_text(encoding="ascii")
    commands = re.findall(r"^ {7}(.*)$", text[text.index("Without Windows") :], flags=re.MULTILINE)
    assert commands[:2] == ["tests/bridge/install-mono.sh", "plugin_bridge/build.sh ~/plugin"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    script = "\n".join(commands[2:]).replace("8443", port)
    script = re.sub(r'make run ARGS="(.*)"', r"fas-evidence demo \1", script)
    shutil.copytree(plugin.directory, tmp_path / "plugin")
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(
        ["sh", "-c", f"trap 'kill $!' EXIT\n{script}"],
        cwd=BRIDGE.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    answers = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{"id"')]
    assert [(each["allowed"], each["reason"]) for each in answers] == [(True, "ok"), (False, "digest_mismatch")], (
        ran.stdout + ran.stderr
    )
    assert ran.returncode == 1


def test_the_settings_are_placed_where_no_user_can_change_them() -> None:
    """The directory is made with its rights; what another made is refused before anything is placed; no copy stays."""
    text = (INSTALL / "Install-EvidencePlugin.ps1").read_text(encoding="ascii")
    refused, made, placed = (
        text.index(each) for each in ("belongs to $owner", "CreateDirectory($directory, $acl)", "Copy-Item")
    )
    assert refused < made < placed
    assert "$acl.SetAccessRuleProtection($true, $false)" in text
    assert "ReadAndExecute" in text
    for path in (*SCRIPTS, INSTALL / "Readme.txt"):
        assert "C:\\Build" not in path.read_text(encoding="ascii"), path


def test_the_event_source_is_the_same_everywhere() -> None:
    """What is removed is what was registered and what is written to."""
    source = re.search(r'Source = "([^"]+)"', _sources())
    assert source is not None
    assert f"$source = '{source[1]}'" in (INSTALL / "Uninstall-EvidencePlugin.ps1").read_text(encoding="ascii")
    assert f'source "{source[1]}"' in (INSTALL / "Readme.txt").read_text(encoding="ascii")
