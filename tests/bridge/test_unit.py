"""The unit tests of the plug-in, run by NUnit; and what the reference client reads as the plug-in does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from plugin_bridge.client import SettingsError, read_settings
from tests.bridge.given import BRIDGE, PATIENCE, Plugin, needs_mono, pfx, pin, rsa_identity, settings_for
from tests.web.listening import Identity, identity


@needs_mono
def test_the_unit_tests_of_the_plugin_pass(plugin: Plugin, tmp_path: Path) -> None:
    """NUnit runs all of them, and none fails or is left out."""
    pfx(identity(tmp_path, "fas1"))
    stored = rsa_identity(tmp_path, "rsa")
    pfx(stored)
    (tmp_path / "rsa.sha256").write_text(pin(stored), encoding="ascii")
    events = tmp_path / "events"
    events.mkdir()
    environment = {
        **os.environ,
        "BRIDGE_FIXTURES": str(tmp_path),
        "MONO_EVENTLOG_TYPE": f"local:{events}",
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    ran = subprocess.run(
        ["nunit-console", "-nologo", "-noxml", "-labels", str(plugin.directory / "UnitTests.dll")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    total = re.search(r"Tests run: (\d+), Errors: 0, Failures: 0, Inconclusive: 0,.*\n.*Not run: 0", ran.stdout)
    assert ran.returncode == 0, ran.stdout
    assert total is not None, ran.stdout
    assert int(total[1]) >= 50


def test_the_contract_is_what_the_service_speaks() -> None:
    """openapi.json and the examples are what the generator writes now."""
    ran = subprocess.run(
        [sys.executable, "-m", "plugin_bridge.contract", "--check"],
        cwd=BRIDGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


SETTINGS: dict[str, tuple[dict[str, object], str]] = {
    "an unknown member": ({"Colour": "red"}, "Colour"),
    "a number that is none": ({"MaxConcurrent": "many"}, "MaxConcurrent"),
    "a number out of range": ({"BreakerSeconds": 0}, "BreakerSeconds"),
    "an empty member": ({"FasServer": " "}, "FasServer"),
    "http": ({"Service": "http://a"}, "Service"),
    "a path": ({"Service": "https://a/b"}, "Service"),
    "an address twice": ({"Service": ["https://a", "https://a:443/v1/decisions"]}, "Service"),
    "no address": ({"Service": None}, "Service"),
    "a short pin": ({"ServerPin": "ab"}, "ServerPin"),
    "no identity": ({"ServerPin": None}, "ServerPin"),
    "two certificates": ({"ClientCertificateThumbprint": "a" * 40}, "ClientCertificateThumbprint"),
    "no certificate": (
        {"ClientCertificateFile": None, "ClientCertificatePassword": None},
        "ClientCertificateThumbprint",
    ),
    "a password without a file": (
        {"ClientCertificateFile": None, "ClientCertificateThumbprint": "a" * 40},
        "ClientCertificatePassword",
    ),
    "a file that is not there": ({"ClientCertificateFile": "none.pfx"}, "ClientCertificateFile"),
    "an attempt beyond the deadline": ({"AttemptMilliseconds": 9000}, "AttemptMilliseconds"),
    "a flag that is none": ({"LogAllows": "yes"}, "LogAllows"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_reference_client_names_the_bad_member(
    name: str, tmp_path: Path, server: Identity, client: Identity
) -> None:
    """One clear line that begins with the member."""
    changes, member = SETTINGS[name]
    path = settings_for(tmp_path, 1, server, client, **changes)
    with pytest.raises(SettingsError, match=f"^{member}: [^\n]+$"):
        read_settings(path)


@needs_mono
def test_the_plugin_names_the_same_members(plugin: Plugin, tmp_path: Path, server: Identity, client: Identity) -> None:
    """The library refuses the same files for the same member, with exit code 2 and one line."""
    for changes, member in SETTINGS.values():
        ran = plugin.host("settings", settings_for(tmp_path, 1, server, client, **changes))
        assert ran.returncode == 2
        assert re.fullmatch(f"TestHost: {member}: [^\n]+\n", ran.stderr), ran.stderr


@needs_mono
def test_both_read_a_good_file(plugin: Plugin, tmp_path: Path, server: Identity, client: Identity) -> None:
    """What one takes, the other takes."""
    path = settings_for(tmp_path, [1, 2], server, client, LogAllows="false", BreakerSeconds=60)
    settings = read_settings(path)
    assert settings.services == ("https://127.0.0.1:1/v1/decisions", "https://127.0.0.1:2/v1/decisions")
    assert (settings.log_allows, settings.breaker_seconds, settings.server_pins) == (False, 60, (pin(server),))
    ran = plugin.host("settings", path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "2 service address(es), first https://127.0.0.1:1/v1/decisions\n"
