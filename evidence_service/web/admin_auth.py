"""Who may use the admin API: whoever has its one bearer token. There is no anonymous mode."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from evidence_service.web.auth import connection_of
from evidence_service.web.problems import CLOSE, problem

_log = structlog.get_logger()

TOKEN_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43,256}")
LOCAL = "local"
"""The name of the token in the file."""

_NEEDED = "Authorization: expected Bearer and the token that is in the file of the setting admin_token_file"
ACTOR = "fas_evidence_actor"
"""Where the gate puts who asks, in the scope."""


class TokenFileError(ValueError):
    """The token file cannot be used; `str()` is one line that names the setting."""


def load_token(path: Path) -> tuple[str, bool]:
    """The token in the file and whether it was made now, readable for its owner only. Raises TokenFileError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            return _create(path), True
        with path.open("rb") as file:
            content = file.read(1024)
            status = os.fstat(file.fileno())
            if os.name == "posix" and status.st_uid not in (0, os.geteuid()):
                raise TokenFileError(
                    f"admin_token_file: {path} belongs to another user, who may know it; delete it for a new one"
                )
            if os.name == "posix" and status.st_mode & 0o077:
                raise TokenFileError(
                    f"admin_token_file: others may read {path}; make it private (chmod 600), or delete it for a new one"
                )
    except OSError as error:
        raise TokenFileError(f"admin_token_file: cannot use {path}: {error.strerror}") from error
    token = content.decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(token):
        raise TokenFileError(
            f"admin_token_file: {path} does not hold a token of 43 or more letters and digits; delete it for a new one"
        )
    return token, False


def _create(path: Path) -> str:
    """Make the file, whole under its name from the start. Raises FileExistsError and OSError."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{token}\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a renaming it fails where another process was first
    finally:
        draft.unlink()
    return token


class Gate:
    """Lets in whoever shows the token, and nobody else to anything."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        """Stand before `app`."""
        self._app = app
        self._digest = hashlib.sha256(token.encode("ascii")).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            if not self._knows(scope):
                client = scope.get("client")
                _log.warning("caller_refused", peer=client[0] if client else None)
                await problem(401, "unauthorized", _NEEDED, headers=((b"www-authenticate", b"Bearer"), CLOSE)).send(
                    send
                )
                return
            connection = connection_of(scope)
            if connection is not None:
                connection.recognise()
            scope[ACTOR] = f"api:{LOCAL}"
        await self._app(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(shown) != 1:
            return False
        scheme, _, token = shown[0].partition(b" ")
        # Digests have one length, so that the comparison tells nothing of the token's.
        return scheme.lower() == b"bearer" and hmac.compare_digest(hashlib.sha256(token).digest(), self._digest)
