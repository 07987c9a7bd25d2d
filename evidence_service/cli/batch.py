"""`check --batch`: many questions, one JSON line each, in order; an unusable line does not stop the rest."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from evidence_service.access.model import Phase
from evidence_service.cli import output
from evidence_service.cli.errors import BadInput, ExitCode
from evidence_service.cli.files import STDIN, read_evidence_file
from evidence_service.cli.offline import (
    NO_POLICY,
    MetadataFile,
    PolicyFile,
    Question,
    decision_json,
    judge,
    load_metadata,
    load_policy,
    parse_at,
)
from evidence_service.trust_admin.texts import metadata_finding
from idp_certs.reasons import Refused

_REQUIRED = ("id", "file", "metadata", "upn")
_OPTIONAL = ("at", "policy", "phase", "rule")
_MAX_LINE = 1024 * 1024

_Loaded = TypeVar("_Loaded")


def refuse_single_options(**options: object) -> None:
    """With --batch every question stands in the file. Raises BadInput where options name one too."""
    given = ["FILE" if name == "file" else f"--{name}" for name, value in options.items() if value is not None]
    if given:
        raise BadInput(f"{', '.join(given)} cannot be combined with --batch; write it into the lines of the batch file")


def judge_batch(file: str) -> int:
    """Answer every line; 0 if each was decided, 2 if any was unusable. Raises BadInput for the file itself."""
    directory = Path() if file == STDIN else Path(file).parent
    batch = _Batch(directory)
    total = unusable = 0
    with _opened(file) as lines:
        for line in _lines(lines):
            if not line.strip():
                continue
            answer = batch.answer(line)
            output.emit_json_line(answer)
            total += 1
            unusable += "error" in answer
    if unusable:
        output.error(f'{unusable} of {total} lines could not be used; see their "error" and correct them')
        return ExitCode.BAD_INPUT
    return ExitCode.DONE


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == STDIN:
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - closed below; only opening it is a matter of input
    except IsADirectoryError:
        raise BadInput(f"batch file {file} is a directory; name a file") from None
    except FileNotFoundError:
        raise BadInput(f"batch file {file} does not exist; check the path") from None
    except OSError as problem:
        raise BadInput(f"batch file {file} cannot be read: {problem.strerror}; check its permissions") from None
    with stream:
        yield stream


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """Each line, the first without a byte order mark; of an overlong one only enough to see that it is."""
    first = True
    while line := stream.readline(_MAX_LINE + 1):
        while len(line) > _MAX_LINE and not line.endswith(b"\n"):
            if len(rest := stream.readline(_MAX_LINE)) < _MAX_LINE or rest.endswith(b"\n"):
                break
        yield line.removeprefix(b"\xef\xbb\xbf") if first else line
        first = False


class _Batch:
    """Metadata and policies read once each; nothing is remembered of the evidence."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._metadata: dict[str, MetadataFile | Exception] = {}
        self._policies: dict[str, PolicyFile | Exception] = {}

    def answer(self, line: bytes) -> dict[str, Any]:
        """What one line answers: a decision, or an error."""
        identity: str | None = None
        try:
            members = _members(line)
            identity = members["id"] if isinstance(members.get("id"), str) else None
            return {"id": identity, **self._judge(_checked(members))}
        except BadInput as problem:
            return {"id": identity, "error": _one_line(problem)}
        except Refused as problem:
            return {"id": identity, "error": _one_line(metadata_finding(problem.finding))}
        except Exception as bug:  # noqa: BLE001 - one line must not cost the rest
            return {"id": identity, "error": _one_line(f"internal_error: {type(bug).__name__}: {bug}")}

    def _judge(self, members: Mapping[str, str]) -> dict[str, Any]:
        question = Question(
            evidence=read_evidence_file(self._directory / members["file"]),
            upn=members["upn"],
            at=parse_at(members["at"], "at") if "at" in members else datetime.now(UTC),
            phase=_phase(members["phase"]) if "phase" in members else None,
            rule=members.get("rule"),
        )
        metadata = _once(self._metadata, members["metadata"], self._directory, load_metadata)
        policy = (
            _once(self._policies, members["policy"], self._directory, load_policy) if "policy" in members else NO_POLICY
        )
        return decision_json(judge(question, metadata.providers, policy).decision)


def _once(
    known: dict[str, _Loaded | Exception], name: str, directory: Path, load: Callable[[Path], _Loaded]
) -> _Loaded:
    if name not in known:
        try:
            known[name] = load(directory / name)
        except (BadInput, Refused) as problem:
            known[name] = problem
    found = known[name]
    if isinstance(found, Exception):
        raise found
    return found


def _members(line: bytes) -> dict[str, Any]:
    if len(line) > _MAX_LINE:
        raise BadInput(f"the line is longer than {_MAX_LINE} bytes")
    try:
        members = json.loads(line.decode("utf-8"), object_pairs_hook=_unique)
    except UnicodeDecodeError as problem:
        raise BadInput(f"the line is not UTF-8 (byte {problem.start})") from None
    except (ValueError, RecursionError) as problem:
        raise BadInput(f"the line is not JSON: {problem}") from None
    if not isinstance(members, dict):
        raise BadInput('the line is not a JSON object; write {"id": ..., "file": ..., "metadata": ..., "upn": ...}')
    return members


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BadInput("a member is given twice")
    return members


def _checked(members: dict[str, Any]) -> dict[str, str]:
    """The members, all of them texts; an optional one that is null is left out. Raises BadInput."""
    for name in members:
        if name not in (*_REQUIRED, *_OPTIONAL):
            raise BadInput(f"unknown member {name!r}; the members are {', '.join((*_REQUIRED, *_OPTIONAL))}")
    for name in _REQUIRED:
        if name not in members:
            raise BadInput(f"member {name!r} is missing")
    given = {name: value for name, value in members.items() if value is not None or name in _REQUIRED}
    for name, value in given.items():
        if not isinstance(value, str):
            raise BadInput(f"member {name!r} must be a text")
    return given


def _phase(text: str) -> Phase:
    try:
        return Phase(text)
    except ValueError:
        raise BadInput(f'phase: {text!r} is neither "prepare" nor "assert"') from None


def _one_line(problem: object) -> str:
    return " ".join(str(problem).split())
