"""Settings, read once at start and frozen.

Members come from the environment (`FAS_EVIDENCE_` + name in capitals) and from one optional TOML file, which
`--config` or `FAS_EVIDENCE_CONFIG` names. The environment wins over the file. A name that is not a member is
refused in both, so that a typing error cannot leave a setting at its default.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import platformdirs
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "FAS_EVIDENCE_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"

_Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class SettingsError(ValueError):
    """Settings that cannot be used; `str()` is one clear line that names the member. `others` are more such lines."""

    def __init__(self, problem: str, *others: str) -> None:
        """The first problem, and what else was found."""
        super().__init__(problem)
        self.others = others


def _default_data_dir() -> Path:
    return platformdirs.user_data_path("fas-evidence", appauthor=False)


class Settings(BaseSettings):
    """Everything that can be set; durations are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, case_sensitive=False)

    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Directory of the embedded database. Default: the user's data directory.",
    )
    database_url: str = Field(
        default="", description="SQLAlchemy URL. Default: `sqlite:///<data_dir>/fas-evidence.db`."
    )
    secrets_dir: Path | None = Field(
        default=None,
        description="Directory of the decryption keys (PEM) in policies, and of the secrets of renewal and mail. "
        "Default: `<data_dir>/secrets`.",
    )
    listen_host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    listen_port: int = Field(default=8443, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    tls_certificate: Path | None = Field(default=None, description="PEM file: server certificate, then its chain.")
    tls_key: Path | None = Field(default=None, description="PEM file: private key of the server certificate.")
    allow_anonymous_loopback: bool = Field(
        default=False, description="Serve callers without credentials; only on a loopback address. For trials."
    )
    deadline_seconds: _Seconds = Field(default=2.0, description="A decision that takes longer is a deny `deadline`.")
    max_body_bytes: int = Field(
        default=1_048_576, ge=16_384, le=16_777_216, description="Largest request body; above it 413."
    )
    max_header_bytes: int = Field(default=16_384, ge=1_024, le=1_048_576, description="Largest request head.")
    header_timeout: _Seconds = Field(default=10.0, description="A request head must be complete within this.")
    body_timeout: _Seconds = Field(default=10.0, description="A request body must be complete within this.")
    keep_alive_seconds: int = Field(
        default=120, ge=1, le=3600, description="An idle connection is closed after this; .NET keeps it for 100 s."
    )
    max_connections: int = Field(default=4096, ge=8, le=65536, description="Open connections.")
    max_in_flight: int = Field(
        default=512, ge=1, le=65536, description="Decisions at a time; above it 503 `overloaded`."
    )
    metadata_stale_action: Literal["keep", "deny"] = Field(
        default="keep", description="What to do when an IdP's metadata is older than its limit."
    )
    metadata_refresh_hours: float = Field(
        default=1.0,
        gt=0,
        le=24,
        allow_inf_nan=False,
        description="How often an IdP's metadata source is asked; more often where its document ages sooner.",
    )
    metadata_timeout_seconds: float = Field(
        default=15.0, gt=0, le=300, allow_inf_nan=False, description="A metadata document must be complete within this."
    )
    metadata_cool_down_seconds: _Seconds = Field(
        default=60.0,
        description="Evidence by an unknown key asks for an early refresh: at most once per source within this time.",
    )
    metadata_hasten_budget: int = Field(
        default=10, ge=1, le=1000, description="How many sources may be refreshed early within the cool-down."
    )
    metadata_removal_sightings: int = Field(
        default=3, ge=1, le=100, description="A certificate is withdrawn after so many documents running without it."
    )
    metadata_removal_minutes: float = Field(
        default=60.0,
        ge=0,
        le=10_080,
        allow_inf_nan=False,
        description="Those documents must span this time, as the nodes of a farm may disagree for a while.",
    )
    metadata_max_valid_days: float | None = Field(
        default=None,
        gt=0,
        le=36_500,
        allow_inf_nan=False,
        description="Refuse metadata whose validUntil is farther ahead. Default: any.",
    )
    metadata_require_valid_until: bool = Field(default=False, description="Refuse metadata without validUntil.")
    metadata_allow_private: bool = Field(
        default=True, description="Metadata may be fetched from private addresses, as of an AD FS farm inside."
    )
    metadata_allow_loopback: bool = Field(
        default=False, description="Metadata may be fetched from this machine itself. For trials."
    )
    work_fetches: int = Field(
        default=8, ge=1, le=64, description="Metadata sources asked at a time, so that a slow one holds up no other."
    )
    drain_seconds: float = Field(
        default=2.0,
        ge=0,
        le=5,
        description="After SIGTERM: how long new requests are still served while `/readyz` says 503.",
    )
    clock_tolerance_seconds: float = Field(
        default=5.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="How far the clock may be behind the latest recorded decision.",
    )
    store_grace_seconds: float = Field(
        default=900.0,
        ge=0,
        le=86400,
        description="How long decisions go on from the last known configuration while the database cannot be read.",
    )
    refresh_seconds: float = Field(
        default=0.5, gt=0, le=1.5, description="How often a changed configuration is looked for."
    )
    admin_host: str = Field(default="127.0.0.1", min_length=1, description="Address that `admin` listens on.")
    admin_port: int = Field(
        default=8444, ge=0, le=65535, description="Port that `admin` listens on; 0 takes a free one."
    )
    admin_tls_certificate: Path | None = Field(
        default=None, description="PEM file: server certificate of `admin`, then its chain."
    )
    admin_tls_key: Path | None = Field(default=None, description="PEM file: private key of that certificate.")
    admin_token_file: Path | None = Field(
        default=None,
        description="File with the bearer token of the admin API, made at its first start. "
        "Default: `<data_dir>/admin-token`.",
    )
    renewal_file: Path | None = Field(
        default=None,
        description="TOML file with the FAS servers whose certificates are renewed, and with how people are told. "
        "Default: `<data_dir>/renewal.toml`, if there is one.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")

    @field_validator("listen_host", "admin_host")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value == "localhost":
            return "127.0.0.1"
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError("must be an IP address of this machine, 0.0.0.0 or ::") from None
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key: give both or none")
        if not self.is_loopback and self.tls_certificate is None:
            raise ValueError(
                f"listen_host: {self.listen_host} is not a loopback address, so tls_certificate and tls_key are needed"
            )
        if (self.admin_tls_certificate is None) != (self.admin_tls_key is None):
            raise ValueError("admin_tls_certificate and admin_tls_key: give both or none")
        if not ipaddress.ip_address(self.admin_host).is_loopback and self.admin_tls_certificate is None:
            raise ValueError(
                f"admin_host: {self.admin_host} is not a loopback address, "
                "so admin_tls_certificate and admin_tls_key are needed"
            )
        if self.allow_anonymous_loopback and not self.is_loopback:
            raise ValueError(f"allow_anonymous_loopback: not possible while listening on {self.listen_host}")
        if self.drain_seconds + self.deadline_seconds > 9:
            raise ValueError("drain_seconds, deadline_seconds: together at most 9, as draining must end within 10 s")
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the listener."""
        return ipaddress.ip_address(self.listen_host).is_loopback

    @property
    def effective_database_url(self) -> str:
        """`database_url`, or the embedded database in `data_dir`."""
        return self.database_url or f"sqlite:///{self.data_dir / 'fas-evidence.db'}"

    @property
    def effective_secrets_dir(self) -> Path:
        """`secrets_dir`, or its place in `data_dir`."""
        return self.secrets_dir or self.data_dir / "secrets"

    @property
    def effective_admin_token_file(self) -> Path:
        """`admin_token_file`, or its place in `data_dir`."""
        return self.admin_token_file or self.data_dir / "admin-token"

    @property
    def effective_renewal_file(self) -> Path:
        """`renewal_file`, or its place in `data_dir`, where it may be missing."""
        return self.renewal_file or self.data_dir / "renewal.toml"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - as inherited
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as inherited
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as inherited
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as inherited
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only; `load_settings` puts file and environment together and knows where a fault came from."""
        return (init_settings,)


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Settings from overrides (None: not given), environment, file and defaults, in this order of precedence.

    Raises SettingsError.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    path = config or (Path(named) if named else None)
    from_file = _read_file(path, by_variable=config is None) if path else {}
    from_environment = _read_environment(os.environ)
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**{**from_file, **from_environment, **given})
    except ValidationError as error:
        problems = list(_problems(error, from_file, from_environment, path))
        what = "the setting" if len(problems) == 1 else "these settings"
        raise SettingsError(f"{'; '.join(problems)}; correct {what}") from error


def _read_file(path: Path, *, by_variable: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        where = (
            f"{CONFIG_VARIABLE} names the configuration file {path}" if by_variable else f"configuration file {path}"
        )
        remedy = f"; correct the name, or `unset {CONFIG_VARIABLE}`" if by_variable else "; correct the name"
        raise SettingsError(f"{where}: {error.strerror}{remedy}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"configuration file {path}: not TOML: {error}; {toml_advice(error)}") from error


def toml_advice(error: Exception) -> str:
    """What to do about a file that is no TOML, for what editors and names of Windows make of one."""
    if isinstance(error, UnicodeDecodeError):
        return "save it as UTF-8"
    if str(error).startswith(("Unescaped '\\'", "Invalid hex value")):
        return r"write what has a backslash in single quotes, such as 'CORP\svc-fas'"
    return "correct it"


def _read_environment(environment: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, value in environment.items():
        if not name.upper().startswith(PREFIX) or name.upper() == CONFIG_VARIABLE:
            continue
        member = name[len(PREFIX) :].lower()
        if member not in Settings.model_fields:
            raise SettingsError(
                f"environment variable {name}: there is no setting `{member}`; correct the name, or unset it"
            )
        found[member] = value
    return found


def _problems(
    error: ValidationError, from_file: Mapping[str, Any], from_environment: Mapping[str, str], path: Path | None
) -> Iterator[str]:
    """Each fault: the setting where it was set, and what is wrong."""
    for each in error.errors(include_url=False, include_input=False, include_context=False):
        is_unknown = each["type"] == "extra_forbidden"
        message = "there is no such setting" if is_unknown else each["msg"].removeprefix("Value error, ")
        member = str(each["loc"][0]) if each["loc"] else None
        if member is None:
            yield message
        elif member in from_environment:
            yield f"{PREFIX}{member.upper()}: {message}"
        else:
            yield f"{member} in {path}: {message}" if member in from_file else f"{member}: {message}"
