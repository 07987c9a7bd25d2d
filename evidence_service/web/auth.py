"""Who asks: one identity per FAS server, by client certificate or, on a loopback listener only, by bearer key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from starlette.types import Scope

from evidence_service.adapters.snapshots import Plugins

ANONYMOUS = "anonymous"
TLS_EXTENSION = "tls"
CLIENT_CERTIFICATE = "client_cert_der"
CONNECTION_EXTENSION = "connection"


class Refusal(Enum):
    """Why a caller is not served; the status is all it learns."""

    UNKNOWN = 401
    REVOKED = 403


class Connection(Protocol):
    """What a request came over, in `scope["extensions"]["connection"]`; not there without our transport."""

    @property
    def crowded(self) -> bool:
        """Whether strangers should not keep it: there are many, and nobody known has asked over this one."""

    @property
    def is_received(self) -> bool:
        """Whether the whole request is here."""

    def recognise(self) -> None:
        """Somebody known asks over it."""


def connection_of(scope: Scope) -> Connection | None:
    """What the request came over."""
    connection: Connection | None = scope.get("extensions", {}).get(CONNECTION_EXTENSION)
    return connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A plug-in that may ask."""

    name: str


class Authenticator:
    """Names the caller of a request, or refuses it."""

    def __init__(
        self,
        plugins: Callable[[], Plugins],
        *,
        loopback: bool,
        allow_anonymous: bool,
        revoked: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """`plugins` answers those that may ask, `revoked` fingerprints that were shut out; both without I/O.

        Keys and anonymous callers count only where the listener is `loopback`.
        """
        self._plugins = plugins
        self._revoked = revoked
        self._loopback = loopback
        self._allow_anonymous = loopback and allow_anonymous

    def identify(self, scope: Scope) -> Caller | Refusal:
        """The caller, by what the TLS layer proved or by the one Authorization header; no other header counts.

        Credentials that are presented must be good: a wrong one is refused even where none is needed. The
        connection of one whose are good is kept longer than those of strangers.
        """
        caller = self._identify(scope)
        if isinstance(caller, Caller) and caller.name != ANONYMOUS:
            connection = connection_of(scope)
            if connection is not None:
                connection.recognise()
        return caller

    def _identify(self, scope: Scope) -> Caller | Refusal:
        der = scope.get("extensions", {}).get(TLS_EXTENSION, {}).get(CLIENT_CERTIFICATE)
        if der is not None:
            fingerprint = hashlib.sha256(der).hexdigest()
            return self._judge(fingerprint, self._plugins().by_certificate.get(fingerprint))
        authorizations = [value for name, value in scope["headers"] if name == b"authorization"]
        if authorizations:
            return self._by_key(authorizations)
        return Caller(name=ANONYMOUS) if self._allow_anonymous else Refusal.UNKNOWN

    def _by_key(self, authorizations: list[bytes]) -> Caller | Refusal:
        scheme, _, key = authorizations[0].partition(b" ")
        if not self._loopback or len(authorizations) != 1 or scheme.lower() != b"bearer" or not key:
            return Refusal.UNKNOWN
        # Looking up a digest tells a guesser nothing by its timing: he cannot choose its digits.
        fingerprint = hashlib.sha256(key).hexdigest()
        return self._judge(fingerprint, self._plugins().by_key.get(fingerprint))

    def _judge(self, fingerprint: str, name: str | None) -> Caller | Refusal:
        if name is not None:
            return Caller(name=name)
        return Refusal.REVOKED if fingerprint in self._revoked() else Refusal.UNKNOWN
