"""What is configured: the FAS servers whose authorization certificates are kept in force, and how each is reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from evidence_service.renewal.model import RenewalPolicy

MOST_CALLS = 5
"""Of one act, with the last that changes something: the session, the snap-in, leftovers, a file or a look before."""
WINDOWS_POWERSHELL = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"


class WinRmAuth(StrEnum):
    """How the account is proven to WinRM."""

    NEGOTIATE = "negotiate"
    KERBEROS = "kerberos"
    CERTIFICATE = "certificate"
    BASIC = "basic"


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRm:
    """PowerShell remoting over HTTPS to `host`, with verified TLS.

    `ca_file` (PEM) replaces the system's authorities. With `certificate`, `client_certificate` and `client_key` (PEM
    files) prove who asks; otherwise `username` and `password`, which Kerberos may take from its ticket cache.
    `configuration_name` is the session configuration (a JEA endpoint's name). `load_snapin`: Add-PSSnapin is called
    first, which a JEA endpoint does by itself. `operation_seconds`: one cmdlet may take that long.
    """

    host: str
    port: int = 5986
    auth: WinRmAuth = WinRmAuth.NEGOTIATE
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    client_certificate: str | None = None
    client_key: str | None = None
    ca_file: str | None = None
    configuration_name: str = "Microsoft.PowerShell"
    load_snapin: bool = True
    connect_seconds: float = 15.0
    operation_seconds: float = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """Windows PowerShell on this machine: a FAS server itself, or a management machine with FAS's snap-in.

    `program` is a whole path, since Windows would look for a bare name in the current directory first.
    """

    program: str = WINDOWS_POWERSHELL
    operation_seconds: float = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FasServer:
    """One FAS server. `address` is given to each cmdlet as -Address; None: the session runs on the server itself.

    `read_events`: S123, S124 and the list of installed certificates are read from the log of the machine that the
    session runs on, which must be the FAS server.
    """

    name: str
    policy: RenewalPolicy
    connection: WinRm | Local
    address: str | None = None
    read_events: bool = True

    @property
    def longest_call(self) -> timedelta:
        """How long after an intent the last call for it may go on, with the time to connect."""
        connect = self.connection.connect_seconds if isinstance(self.connection, WinRm) else 0.0
        return timedelta(seconds=connect + MOST_CALLS * self.connection.operation_seconds)

    @property
    def listed_as(self) -> frozenset[str]:
        """What Get-FasServer may call it, in lower case; no management machine, which may be a FAS server too."""
        is_here = self.address in (None, "localhost")
        here = self.connection.host if is_here and isinstance(self.connection, WinRm) else None
        return frozenset(each.casefold() for each in (self.name, self.address, here) if each)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    r"""Where a CA's CRL is fetched from, and the certificate (DER) of the key that must have signed it.

    `certificate_authority` is `host\CA name` as FAS writes it.
    """

    certificate_authority: str
    url: str
    issuer: bytes
    ca_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Farm:
    """All FAS servers, in the order in which they are renewed."""

    servers: tuple[FasServer, ...] = ()
    revocation_lists: tuple[RevocationList, ...] = ()

    def server(self, name: str) -> FasServer | None:
        """The server of this name."""
        return next((each for each in self.servers if each.name == name), None)
