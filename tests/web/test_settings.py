"""Settings: where they come from, and what is refused with which line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evidence_service.settings import CONFIG_VARIABLE, PREFIX, Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os  # noqa: PLC0415

    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


def test_defaults_need_nothing(tmp_path: Path) -> None:
    """Out of the box: loopback only, nobody anonymous, everything in the data directory."""
    settings = load_settings(data_dir=tmp_path)
    assert settings.listen_host == "127.0.0.1"
    assert settings.is_loopback
    assert not settings.allow_anonymous_loopback
    assert settings.effective_database_url == f"sqlite:///{tmp_path}/fas-evidence.db"
    assert settings.effective_secrets_dir == tmp_path / "secrets"


def test_arguments_beat_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearer to the person, the stronger."""
    config = tmp_path / "fas-evidence.toml"
    config.write_text("listen_port = 1\nheader_timeout = 1\nbody_timeout = 1\n", encoding="utf-8")
    monkeypatch.setenv(CONFIG_VARIABLE, str(config))
    monkeypatch.setenv(f"{PREFIX}HEADER_TIMEOUT", "2")
    monkeypatch.setenv(f"{PREFIX}BODY_TIMEOUT", "2")
    settings = load_settings(body_timeout=3, drain_seconds=None)
    assert (settings.listen_port, settings.header_timeout, settings.body_timeout) == (1, 2, 3)


def test_settings_are_frozen() -> None:
    """What was read once cannot be changed by accident."""
    with pytest.raises(ValidationError):
        load_settings().listen_port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"listen_port": 70000}, "listen_port: "),
        ({"listen_host": "0.0.0.0"}, "listen_host: 0.0.0.0 is not a loopback address, so tls_certificate and tls_key"),
        ({"listen_host": "fas.example"}, "listen_host: must be an IP address"),
        ({"tls_certificate": "server.pem"}, "tls_certificate and tls_key: give both or none"),
        (
            {
                "listen_host": "::",
                "tls_certificate": "a",
                "tls_key": "b",
                "allow_anonymous_loopback": True,
            },
            "allow_anonymous_loopback: not possible while listening on ::",
        ),
        ({"admin_host": "0.0.0.0"}, "admin_host: 0.0.0.0 is not a loopback address, so admin_tls_certificate"),
        ({"admin_host": "fas.example"}, "admin_host: must be an IP address"),
        ({"admin_tls_key": "server.key"}, "admin_tls_certificate and admin_tls_key: give both or none"),
        ({"admin_port": -1}, "admin_port: "),
        ({"deadline_seconds": 0}, "deadline_seconds: "),
        ({"deadline_seconds": float("nan")}, "deadline_seconds: "),
        ({"refresh_seconds": 1.6}, "refresh_seconds: "),  # changes are followed within two seconds (promise 35)
        ({"deadline_seconds": 8}, "drain_seconds, deadline_seconds: together at most 9"),
        ({"metadata_stale_action": "ignore"}, "metadata_stale_action: "),
        ({"listenport": 1}, "listenport: there is no such setting"),
    ],
)
def test_an_unusable_setting_is_named(given: dict[str, Any], said: str) -> None:
    """One line that begins with the member."""
    with pytest.raises(SettingsError) as caught:
        load_settings(**given)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error must not leave a setting at its default."""
    monkeypatch.setenv(f"{PREFIX}LISTEN_PROT", "1")
    with pytest.raises(SettingsError, match=r"FAS_EVIDENCE_LISTEN_PROT: there is no setting"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listen_prot = 1", r"listen_prot in .*\.toml: there is no such setting"),
        ("listen_port = ", r"configuration file .*\.toml: not TOML"),
        ("[database]\nurl = 1", r"database in .*\.toml: there is no such setting"),
    ],
)
def test_a_faulty_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    """The line names the file as well."""
    config = tmp_path / "settings.toml"
    config.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=said):
        load_settings(config)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A configuration that was asked for must exist."""
    with pytest.raises(SettingsError, match=r"configuration file .*absent\.toml: No such file"):
        load_settings(tmp_path / "absent.toml")


def test_a_value_of_the_environment_is_named_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the variable, as the person knows it."""
    monkeypatch.setenv(f"{PREFIX}MAX_IN_FLIGHT", "many")
    with pytest.raises(SettingsError, match=r"^FAS_EVIDENCE_MAX_IN_FLIGHT: "):
        load_settings()


def test_every_setting_is_described() -> None:
    """The manual's table is made of these."""
    assert [name for name, member in Settings.model_fields.items() if not member.description] == []
