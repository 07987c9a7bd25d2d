"""What the options before the command say: where settings and database are; opened when a command needs them."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evidence_service.cli.errors import BadInput, CommandError, DependencyFailed, NothingFound
from evidence_service.cli.output import escaped

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from evidence_service.adapters.database import StoreUnavailable
    from evidence_service.settings import Settings

# The adapters and settings are imported where they are used: `check` works without any of them.


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
        """The open database, closed afterwards.

        What the store answers with an exception becomes a CommandError: an unusable database, something that is not
        there, a contradiction, a refused document.
        """
        from evidence_service.adapters.config_store import Conflict, NotFound  # noqa: PLC0415
        from evidence_service.adapters.database import StoreUnavailable, open_database  # noqa: PLC0415

        url = self.settings().effective_database_url
        try:
            engine = open_database(url, create=create)
            try:
                yield engine
            finally:
                engine.dispose()
        except StoreUnavailable as problem:
            raise unusable(url, problem) from problem
        except NotFound as problem:
            raise NothingFound(_with_hint(str(problem))) from problem
        except Conflict as problem:
            raise BadInput(str(problem)) from problem

    @contextlib.contextmanager
    def store_or_empty(self) -> Iterator[Engine]:
        """The open database to look at; where none exists yet, an empty one that goes away, so that nothing is made."""
        from sqlalchemy.engine import make_url  # noqa: PLC0415
        from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

        try:
            path = make_url(self.settings().effective_database_url).database
        except ArgumentError:
            path = None
        if path and not Path(path).exists():
            with tempfile.TemporaryDirectory() as directory:
                empty = replace(self, database=f"sqlite:///{Path(directory) / 'empty.db'}")
                with empty.store(create=True) as engine:
                    yield engine
        else:
            with self.store() as engine:
                yield engine


def unusable(url: str, problem: StoreUnavailable) -> CommandError:
    """The error for a database that cannot be used: bad input where `url` could not name one at all."""
    from sqlalchemy.engine import make_url  # noqa: PLC0415
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        parsed = make_url(url)
    except ArgumentError:
        return BadInput(str(problem))
    names_a_file = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    return DependencyFailed(str(problem)) if names_a_file else BadInput(str(problem))


_LISTED = {"no identity provider ": "idp list", "there is no rollover ": "rollover list --all"}


def _with_hint(text: str) -> str:
    """What is not there, and which command lists what is."""
    hints = (f"; `fas-evidence {command}` shows all" for start, command in _LISTED.items() if text.startswith(start))
    return text + next(hints, "")


def actor() -> str:
    """Who does it, for the journal: the account that runs the command."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"cli:{name}"


def is_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str) -> str:
    """The person's answer, without outer blanks; the question goes to stderr, so that stdout stays clean."""
    sys.stderr.write("\n".join(map(escaped, question.split("\n"))))
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def confirm_typed(what: str, name: str, *, confirmed: bool) -> None:
    """Go on only if `name` is typed, or `confirmed` already (--yes). Raises BadInput, NothingFound on a no.

    `what` is one whole sentence that says what happens.
    """
    if confirmed:
        return
    if not is_terminal():
        consequence = f"{what[:1].lower()}{what[1:]}".rstrip(".")
        raise BadInput(f"{consequence}; that needs a confirmation, and nobody can be asked here: add --yes")
    if ask(f"{what}\nType {name} to go on: ") not in (name, escaped(name)):
        raise NothingFound("not confirmed; nothing was changed")


def confirm(question: str, what: str, *, confirmed: bool) -> None:
    """Go on only after a yes, or `confirmed` already (--yes). Raises BadInput, NothingFound on a no.

    `what` is what needs it, for where nobody can be asked.
    """
    if confirmed:
        return
    if not is_terminal():
        raise BadInput(f"{what}; that needs a confirmation, and nobody can be asked here: add --yes")
    if ask(f"{question} [y/N] ").lower() not in ("y", "yes"):
        raise NothingFound("not confirmed; nothing was changed")
