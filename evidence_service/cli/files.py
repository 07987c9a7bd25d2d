"""Files that a person names: read under a limit, with one clear line for each way in which that fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from evidence_service.access.model import Policy
from evidence_service.access.policy import PolicyError, parse_policy
from evidence_service.cli.errors import BadInput
from evidence_service.trust_admin.texts import AGAIN
from idp_certs.metadata import IdpMetadata, parse_metadata
from idp_certs.reasons import TrustReason

STDIN = "-"
MAX_EVIDENCE = 1024 * 1024  # far above what is judged, so that a file which is too large gets its reason code
MAX_METADATA = 256 * 1024 * 1024  # as above; the metadata of a whole federation is about 100 MB
MAX_SMALL = 1024 * 1024


def read_file(path: Path | str, what: str, *, limit: int) -> bytes:
    """At most `limit` + 1 bytes of a file, or of stdin for `-`. Raises BadInput with `what` and the path."""
    if str(path) == STDIN:
        return sys.stdin.buffer.read(limit + 1)
    try:
        with Path(path).open("rb") as file:
            return file.read(limit + 1)
    except IsADirectoryError:
        raise BadInput(f"{what} {path} is a directory; name a file") from None
    except FileNotFoundError:
        raise BadInput(f"{what} {path} does not exist; check the path") from None
    except OSError as problem:
        raise BadInput(f"{what} {path} cannot be read: {problem.strerror}; check its permissions") from None
    except ValueError:
        raise BadInput(f"{what} {str(path)!r} is not a path") from None


def read_text(path: Path | str, what: str) -> str:
    """A small UTF-8 text file, with or without byte order mark. Raises BadInput."""
    data = read_file(path, what, limit=MAX_SMALL)
    if len(data) > MAX_SMALL:
        raise BadInput(f"{what} {path} is larger than {MAX_SMALL} bytes; name the right file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise BadInput(f"{what} {path} is not UTF-8 text (byte {problem.start}); save it as UTF-8") from None


def read_policy(path: Path) -> Policy:
    """A policy file. Raises BadInput."""
    text = read_text(path, "policy file")
    try:
        return parse_policy(text)
    except PolicyError as problem:
        raise BadInput(f"{path}: {problem}") from None


def read_metadata(path: Path) -> tuple[bytes, tuple[IdpMetadata, ...]]:
    """A metadata document and the IdPs it describes, at least one. Raises BadInput, and Refused by its content."""
    document = read_file(path, "metadata file", limit=MAX_METADATA)
    if not document.strip():
        raise BadInput(f"metadata file {path}: {TrustReason.XML_MALFORMED}: the document is empty. {AGAIN}")
    return document, parse_metadata(document)


def read_evidence_file(path: Path | str) -> bytes:
    """Captured evidence. Of a text file of base64 the final line break is left out, and nothing else.

    Raises BadInput.
    """
    data = read_file(path, "evidence file", limit=MAX_EVIDENCE)
    if b"<" in data:
        return data
    return data.removesuffix(b"\n").removesuffix(b"\r") if data.endswith(b"\n") else data


def write_new(path: Path, data: bytes, *, mode: int, made: list[Path]) -> None:
    """Create a file that must not exist yet, durably, with exactly this mode from the start. Raises OSError.

    `made` gets the path as soon as the file exists, so that a caller can remove what an error left half-written.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    made.append(path)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
