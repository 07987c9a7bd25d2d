"""One HTTPS request with verified TLS: no redirects, no proxies of the environment, no cookies, a bounded answer."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpcore

from evidence_service.adapters.sending import NotDelivered
from evidence_service.adapters.timed import TimedBackend

_MAX_ANSWER = 256 * 1024
_MAX_RETRY_AFTER = timedelta(hours=1)
_MAX_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def retry_after(self) -> timedelta | None:
        """How much patience it asks for (RFC 9110 10.2.3), at most an hour; a date counts from the answer's own."""
        text = self.headers.get("retry-after", "")
        if text.isdecimal():
            wait = _MAX_RETRY_AFTER if len(text) > _MAX_DIGITS else timedelta(seconds=int(text))
        else:
            try:
                wait = parsedate_to_datetime(text) - parsedate_to_datetime(self.headers.get("date", ""))
            except (ValueError, TypeError, OverflowError):
                return None
        return min(max(wait, timedelta(0)), _MAX_RETRY_AFTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsClient:
    """How a server is reached. `ca_file` (PEM) replaces the system's authorities. `timeout_seconds` bound the whole."""

    ca_file: str | None = None
    timeout_seconds: float = 30.0
    allow_http: bool = False
    """Plain HTTP is allowed, to this machine alone: for trials."""

    def request(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Ask once. Raises NotDelivered, in which only host and port of the URL are named."""
        place = self._checked_place(url)
        named: list[tuple[bytes | str, bytes | str]] = list(headers.items())
        context, line = tls_context(self.ca_file), TimedBackend(self.timeout_seconds, self.timeout_seconds)
        try:
            with (
                httpcore.ConnectionPool(ssl_context=context, network_backend=line) as pool,
                pool.stream(method, url, headers=named, content=body) as answer,
            ):
                content = bytearray()
                for chunk in answer.iter_stream():
                    content += chunk
                    if len(content) > _MAX_ANSWER:
                        break
                names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
                return Answer(status=answer.status, headers=names, body=bytes(content[:_MAX_ANSWER]))
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            problem = f"{place} cannot be asked: {why(error)}; check its address, that it runs, DNS and the firewall"
            raise NotDelivered(problem, whole_channel=True) from error

    def _checked_place(self, url: str) -> str:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise NotDelivered("the URL cannot be read; correct it", permanent=True) from error
        if not host or "@" in parts.netloc:
            raise NotDelivered("the URL names no host, or holds user information; correct it", permanent=True)
        if parts.scheme != "https" and not (parts.scheme == "http" and self.allow_http and _is_loopback(host)):
            raise NotDelivered(f"the URL of {host} is not https; write https://", permanent=True)
        return f"{host}:{port or (443 if parts.scheme == 'https' else 80)}"


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """A client context that verifies chain, dates and name. Raises NotDelivered where `ca_file` cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ValueError) as error:
        problem = f"ca_file {ca_file} cannot be read as certificates (PEM); correct it"
        raise NotDelivered(problem, whole_channel=True) from error
    # What the administrator names is the anchor, an issuing authority below a root included.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def why(error: BaseException) -> str:
    """Why a connection did not come about, in a few words with the remedy where there is one."""
    causes = [error, error.__cause__, error.__context__]
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate does not verify ({cause.verify_message.rstrip('.')}); see `ca_file`"
        if isinstance(cause, ssl.SSLError):
            return f"no TLS connection comes about ({cause.reason or 'handshake failed'})"
    if any(isinstance(cause, (TimeoutError, httpcore.TimeoutException)) for cause in causes):
        return "it does not answer in time"
    system = next((cause for cause in causes if isinstance(cause, OSError) and cause.strerror), None)
    return system.strerror or "" if system is not None else f"{type(error).__name__} {error}".strip()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
