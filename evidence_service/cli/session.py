"""What the options before the command say: where settings and database are; opened when a command needs them."""

from __future__ import annotations

import contextlib
import getpass
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evidence_service.cli.errors import BadInput, DependencyFailed

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from evidence_service.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The global options of one run."""

    config: Path | None = None
    database: str | None = None

    def with_config(self, config: Path | None) -> Session:
        """The same with `--config` given after the command. Raises BadInput where two differ."""
        if config is None or config == self.config:
            return self
        if self.config is not None:
            raise BadInput("--config is given twice with different files; give it once")
        return replace(self, config=config)

    def settings(self, **overrides: object) -> Settings:
        """The settings, with `--database` and `overrides` on top (None: not given). Raises BadInput."""
        from evidence_service.settings import SettingsError, load_settings  # noqa: PLC0415

        try:
            return load_settings(self.config, database_url=self.database, **overrides)
        except SettingsError as problem:
            raise BadInput(str(problem)) from problem

    @contextlib.contextmanager
    def store(self, *, create: bool = False) -> Iterator[Engine]:
        """The open database, closed afterwards. Raises BadInput, and DependencyFailed where it cannot be used."""
        from evidence_service.adapters.database import StoreUnavailable, open_database  # noqa: PLC0415

        try:
            engine = open_database(self.settings().effective_database_url, create=create)
        except StoreUnavailable as problem:
            raise DependencyFailed(str(problem)) from problem
        try:
            yield engine
        except StoreUnavailable as problem:
            raise DependencyFailed(str(problem)) from problem
        finally:
            engine.dispose()


def actor() -> str:
    """Who does it, for the journal: the account that runs the command."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"cli:{name}"
