"""What the tests of the command line start from: a command that can be run, and real files to give it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lxml import etree

from evidence_service.cli.main import main
from tests.corpus import names
from tests.corpus.good import AT, Launch, policy_text
from tests.corpus.metadata_documents import aggregate, descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - as the command printed it
        """Stdout as one JSON value."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line on stderr; fails where there is another number of lines or a stack trace."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self.err
        assert lines[0].isprintable()
        return lines[0].removeprefix("error: ")


class _Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def fas_evidence(*arguments: str | Path, stdin: bytes = b"", terminal: bool = False) -> Ran:
    """Run a command in this process, with streams of its own; `terminal` makes them say that they are one."""
    kind = _Terminal if terminal else io.TextIOWrapper
    streams = [io.BytesIO(stdin), io.BytesIO(), io.BytesIO()]
    made = [kind(stream, encoding="utf-8", write_through=True) for stream in streams]
    with patch.multiple(sys, stdin=made[0], stdout=made[1], stderr=made[2]):
        code = main([str(argument) for argument in arguments])
    return Ran(code=code, out=streams[1].getvalue().decode(), err=streams[2].getvalue().decode())


def process(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command as its users do, in a process of its own."""
    command = [sys.executable, "-m", "evidence_service", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=120, **options)


def serving_environment() -> dict[str, str]:
    """What a process of its own needs to find the program from any directory, and to be in time on a slow machine."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "FAS_EVIDENCE_DEADLINE_SECONDS": "7"}


def until(holds: Callable[[], bool]) -> None:
    """Wait for a change that a running service takes over by itself."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A directory with valid evidence, metadata and policy, and the database that commands use there."""

    directory: Path

    @property
    def evidence(self) -> Path:
        """A genuine response for Alice."""
        return self.directory / "evidence.xml"

    @property
    def metadata(self) -> Path:
        """The metadata of its IdP."""
        return self.directory / "metadata.xml"

    @property
    def policy(self) -> Path:
        """A policy that allows it."""
        return self.directory / "policy.toml"

    @property
    def database(self) -> Path:
        """The database file; not there at first."""
        return self.directory / "data" / "fas-evidence.db"

    def write(self, name: str, content: str | bytes) -> Path:
        """A file in the directory."""
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def check(self, *more: str | Path, file: str | Path | None = None, upn: str = names.ALICE, **options: Any) -> Ran:
        """Check the evidence, at an instant at which it is good."""
        return fas_evidence(
            "check",
            self.evidence if file is None else file,
            *("--metadata", self.metadata, "--upn", upn, "--at", AT, "--policy", self.policy),
            *more,
            **options,
        )

    def add_idp(self, *more: str | Path) -> Ran:
        """Register the IdP."""
        return fas_evidence("idp", "add", "--metadata", self.metadata, "--policy", self.policy, *more)

    def files(self) -> set[str]:
        """Every file below the directory."""
        return {str(path.relative_to(self.directory)) for path in self.directory.rglob("*") if path.is_file()}


def written(directory: Path) -> Place:
    """A place with its three files."""
    place = Place(directory=directory)
    place.write("evidence.xml", Launch().sign().wire())
    place.write("metadata.xml", document(descriptor(names.IDP)))
    place.write("policy.toml", policy_text())
    return place


def document(element: etree._Element) -> bytes:
    """An element as a document."""
    return etree.tostring(element)


def federation() -> bytes:
    """Metadata of two IdPs."""
    return document(aggregate(descriptor(names.IDP), descriptor(names.OTHER_IDP, ("idp_b",))))
