"""The files that the file of renewals names: secrets, certificates, a directory."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography import x509

from evidence_service.renewal_settings.faults import MemberProblem

MAX_SECRET = 4096


class Files:
    """Reads what members name. Every method raises MemberProblem."""

    def __init__(self, directory: Path, secrets_dir: Path) -> None:
        """Secrets are inside `secrets_dir`, all others are named from `directory`."""
        self._directory = directory
        self._secrets_dir = secrets_dir

    def secret(self, table: str, member: str, name: Path | None) -> str | None:
        """The text in a file that only its owner may read, without the end of its line."""
        path = self.private(table, member, name)
        if path is None:
            return None
        try:
            text = Path(path).read_bytes()[: MAX_SECRET + 1].decode("utf-8-sig").rstrip("\r\n")
        except OSError as error:
            raise _unreadable(table, member, path, error) from error
        except UnicodeDecodeError as error:
            raise MemberProblem(table, member, f"{path} is not UTF-8 text; write the secret alone into it") from error
        if not text or len(text) > MAX_SECRET or not text.isprintable():
            raise MemberProblem(table, member, f"{path} must hold the secret alone, on one line")
        return text

    def private(self, table: str, member: str, name: Path | None) -> str | None:
        """The path of a file that only its owner may read."""
        if name is None:
            return None
        path = self._secrets_dir / name
        try:
            is_inside = path.resolve().is_relative_to(self._secrets_dir.resolve())
        except RuntimeError:  # a link that leads to itself
            is_inside = False
        if not name.is_absolute() and not is_inside:
            raise MemberProblem(table, member, f"{name} leads out of {self._secrets_dir}; give an absolute path")
        try:
            status = path.stat()
        except OSError as error:
            raise _unreadable(table, member, path, error) from error
        if os.name == "posix" and status.st_uid not in (0, os.geteuid()):
            raise MemberProblem(table, member, f"{path} belongs to another user, who may know it; make it your own")
        if os.name == "posix" and status.st_mode & 0o077:
            raise MemberProblem(table, member, f"others may read {path}; make it private (chmod 600)")
        return str(path)

    def pem(self, table: str, member: str, name: Path | None) -> str | None:
        """The path of a file that holds certificates."""
        if name is None:
            return None
        self.certificates(table, member, name)
        return str(self._directory / name)

    def certificates(self, table: str, member: str, name: Path) -> list[x509.Certificate]:
        """What certificates a file holds, at least one."""
        path = self._directory / name
        try:
            return x509.load_pem_x509_certificates(path.read_bytes())
        except OSError as error:
            raise _unreadable(table, member, path, error) from error
        except ValueError as error:
            raise MemberProblem(
                table, member, f"{path} holds no certificate in PEM form; convert it, or name another file"
            ) from error

    def directory(self, table: str, member: str, name: Path) -> str:
        """The path of a directory that is there."""
        path = self._directory / name
        try:
            is_there = path.is_dir()
        except OSError:  # a name that no directory can have
            is_there = False
        if not is_there:
            raise MemberProblem(table, member, f"{path} is no directory; make it, or name another")
        return str(path)


def _unreadable(table: str, member: str, path: str | Path, error: OSError) -> MemberProblem:
    text = f"{path} cannot be read: {error.strerror}; correct the name, or make the file readable"
    return MemberProblem(table, member, text)
