"""Fetches metadata over HTTPS in a way that cannot be turned against us (promise 40).

A host name is resolved once per hop, every address it resolves to is judged, and the connection goes to a judged
address and nowhere else, so that a second DNS answer changes nothing. TLS names and verifies the host of the URL.
Redirects are followed by hand and never leave host and port. One deadline bounds the whole, whatever drips.
Whether the bytes are metadata, and whose, is for the parser and for the old trust to say.
"""

from __future__ import annotations

import hashlib
import io
import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from idp_certs.reasons import Finding, TrustReason

MAX_REDIRECTS = 3

Resolve = Callable[..., Iterable[tuple[Any, Any, int, str, Any]]]
"""What `socket.getaddrinfo` is: host, port and `type` in, (family, type, protocol, canonical name, address) out."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA_SERVICES = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # most clouds
        "fd00:ec2::254",  # Amazon
        "fd20:ce::254",  # Google
        "168.63.129.16",  # Azure
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")  # what URL readers take for IPv4 (WHATWG URL 3.5)
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,1000}"')  # RFC 9110 8.8.3
_AGE = re.compile(r"[0-9]{1,9}")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OTHER_SCHEMES = frozenset({"http", "ftp", "file"})  # shown by name; another could be half of a password
_CHAIN = "get_unverified_chain"
_MAX_URL = 2048
_MAX_DATE = 64
_MAX_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    """What a fetch may cost and where it may go.

    `max_bytes` counts the body as it arrives; `timeout` bounds the whole fetch, name resolution, redirects and a slow
    drip included; `connect_timeout` bounds each attempt to connect. `allow_loopback` is for trials and tests.
    `allow_private` is on because an AD FS farm usually has an inside address. Link-local, multicast, unspecified and
    reserved addresses, and those of cloud metadata services, are refused whatever is set.
    """

    max_bytes: int = 80 * 1024 * 1024
    timeout: timedelta = timedelta(seconds=15)
    connect_timeout: timedelta = timedelta(seconds=5)
    allow_loopback: bool = False
    allow_private: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the metadata of one IdP lies, how its server is known, and what was accepted from it last.

    `ca_pem` replaces the system's certificate authorities. `pin_sha256` (hex; colons may stand between) is the digest
    of the DER of the server's own certificate and is asked for in addition. `etag` and `last_modified` are those of
    the last *accepted* document, so that a document which was refused is never taken for known (promise 21).
    """

    url: str
    ca_pem: str | None = None
    pin_sha256: str | None = None
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What the server answered, and how we know the server.

    `data` is None where the server says that the accepted document still stands (304); `etag` and `last_modified` are
    then those of the source. `date` (UTC) is the HTTP Date less the Age that a cache states: the earliest time that
    the answer can be from. `tls_chain_sha256` is the chain that the handshake presented, leaf first, at least the
    leaf. `address` is the IP address that was connected to.
    """

    data: bytes | None
    final_url: str
    etag: str | None
    last_modified: str | None
    date: datetime | None
    tls_chain_sha256: tuple[str, ...]
    address: str


class FetchFailed(Exception):  # noqa: N818 - an outcome of asking somebody else's server, not an error of the program
    """The only exception that leaves this module: one line without credentials, and the finding that it shows."""

    def __init__(self, finding: Finding) -> None:
        """Wrap the finding; its reason is METADATA_URL, _UNTRUSTED, _UNREACHABLE or _TOO_LARGE."""
        super().__init__(f"{finding.where}: {finding.presented}; expected {finding.expected}. {finding.reason.advice}")
        self.finding = finding


def check_url(url: str) -> None:
    """Whether `url` may be a metadata address: https, a host, no user information, no fragment.

    An IP address is refused where no rules would allow it. Raises FetchFailed with METADATA_URL.
    """
    target = _parse(url, "url")
    if target.literal is not None:
        _judge(target, [target.literal], FetchRules(allow_loopback=True, allow_private=True))


def fetch(source: Source, rules: FetchRules, *, resolve: Resolve = socket.getaddrinfo) -> Fetched:
    """Ask the source once. Raises FetchFailed, and nothing else.

    Proxies named by the environment are not used and cookies are not kept.
    """
    try:
        run = _Run(
            source=source,
            rules=rules,
            resolve=resolve,
            deadline=_Deadline(rules.timeout),
            context=_context(source.ca_pem),
        )
        return _follow(run)
    except FetchFailed:
        raise
    except Exception as error:  # whatever a hostile server provokes is a failed fetch
        raise _unreachable(f"the fetch ended with {type(error).__name__}", "an HTTP answer", "url") from error


class _Deadline:
    """The end of the whole fetch, by the monotonic clock."""

    def __init__(self, timeout: timedelta) -> None:
        self._end = time.monotonic() + timeout.total_seconds()

    def left(self, at_most: float | None = None) -> float:
        """Seconds; raises httpcore.ReadTimeout when none are left."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left if at_most is None else min(left, at_most)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What all hops of one fetch have in common."""

    source: Source
    rules: FetchRules
    resolve: Resolve
    deadline: _Deadline
    context: ssl.SSLContext


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """A checked https URL, taken apart once so that nothing reads it differently later; `where` it was named."""

    url: str
    host: str
    port: int
    path: str
    literal: _Address | None
    where: str

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"


class _Line(httpcore.NetworkBackend):
    """Connects to the judged addresses and nowhere else, whatever host it is asked for."""

    def __init__(self, run: _Run, target: _Target, addresses: Sequence[str]) -> None:
        self._target = target
        self._addresses = addresses
        self._connect_timeout = run.rules.connect_timeout.total_seconds()
        self._deadline = run.deadline
        self._pin = _hex(run.source.pin_sha256)
        self._sockets = httpcore.SyncBackend()
        self.address = ""
        self.chain: tuple[str, ...] = ()

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - it was resolved and judged before
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """The first of the addresses that takes the connection. Raises FetchFailed."""
        problem: Exception | None = None
        for address in self._addresses:
            try:
                stream = self._sockets.connect_tcp(
                    address, port, self._deadline.left(self._connect_timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
            else:
                self.address = address
                return _TimedStream(stream, self, self._deadline)
        raise _not_connected(problem, self._target) from problem

    def handshake(
        self, stream: httpcore.NetworkStream, context: ssl.SSLContext, server_hostname: str | None
    ) -> httpcore.NetworkStream:
        """The verified connection; who the server is gets judged before it is asked anything. Raises FetchFailed."""
        secured = stream
        try:
            secured = stream.start_tls(context, server_hostname, self._deadline.left())
            self._judge_server(secured)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            raise _not_connected(error, self._target) from error
        except BaseException:
            secured.close()
            raise
        return _TimedStream(secured, self, self._deadline)

    def _judge_server(self, secured: httpcore.NetworkStream) -> None:
        self.chain = _presented_chain(secured)
        if self._pin is not None and self.chain[0] != self._pin:
            raise _failed(
                TrustReason.METADATA_UNTRUSTED,
                where="pin_sha256",
                expected=f"the server certificate with SHA-256 {self._pin}",
                presented=f"the server shows the certificate with SHA-256 {self.chain[0]}",
            )


class _TimedStream(httpcore.NetworkStream):
    """A connection on which each step gets only the time that is left of the whole."""

    def __init__(self, stream: httpcore.NetworkStream, line: _Line, deadline: _Deadline) -> None:
        self._stream = stream
        self._line = line
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has arrived."""
        return self._stream.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all."""
        self._stream.write(buffer, self._deadline.left(timeout))

    def close(self) -> None:
        """Give the socket back."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
    ) -> httpcore.NetworkStream:
        """The verified connection."""
        return self._line.handshake(self._stream, ssl_context, server_hostname)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - the interface says so
        """What the socket says of itself."""
        return self._stream.get_extra_info(info)


def _follow(run: _Run) -> Fetched:
    target = first = _parse(run.source.url, "url")
    for hop in range(1, MAX_REDIRECTS + 2):
        answer = _ask(run, target)
        if isinstance(answer, Fetched):
            return answer
        target = _parse(urljoin(target.url, answer), f"url, redirect {hop}")
        if (target.host, target.port) != (first.host, first.port):
            raise _failed(
                TrustReason.METADATA_URL,
                where=target.where,
                expected=f"a redirect that stays on https://{first.authority}/",
                presented=f"it leads to https://{target.authority}/",
            )
    raise _failed(
        TrustReason.METADATA_URL,
        where="url",
        expected=f"a document after at most {MAX_REDIRECTS} redirects",
        presented="the server redirects further",
    )


def _ask(run: _Run, target: _Target) -> Fetched | str:
    """The answer of one hop, or where it redirects to."""
    rules, where = run.rules, target.where
    url = httpcore.URL(scheme="https", host=target.host, port=target.port, target=target.path)
    try:
        line = _Line(run, target, _addresses(run, target))
        with (
            httpcore.ConnectionPool(ssl_context=run.context, network_backend=line) as pool,
            pool.stream("GET", url, headers=_request_headers(run.source, target)) as answer,
        ):
            return _read(run, target, line, answer)
    except httpcore.TimeoutException as error:
        presented = f"no complete answer within {rules.timeout.total_seconds():g} s"
        raise _unreachable(presented, f"the document from {target.authority} in that time", where) from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        presented = f"the connection broke or does not speak HTTP ({error})"
        raise _unreachable(presented, f"an HTTP answer from {target.authority}", where) from error


def _read(run: _Run, target: _Target, line: _Line, answer: httpcore.Response) -> Fetched | str:
    headers = _headers(answer)
    if answer.status in _REDIRECTS and headers.get("location"):
        return headers["location"]
    stands = answer.status == 304 and _validators(run.source) != {}
    if answer.status != 200 and not stands:
        raise _unreachable(f"HTTP status {answer.status}", "HTTP status 200", target.where)
    return Fetched(
        data=None if stands else _body(answer, headers, run.rules),
        final_url=target.url,
        etag=run.source.etag if stands else _etag(headers.get("etag")),
        last_modified=run.source.last_modified if stands else _last_modified(headers.get("last-modified")),
        date=_date(headers),
        tls_chain_sha256=line.chain,
        address=line.address,
    )


def _body(answer: httpcore.Response, headers: Mapping[str, str], rules: FetchRules) -> bytes:
    encoding = headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        # Asked for as it is; what comes packed all the same would have to be unpacked before it can be measured.
        raise _unreachable(f"the body is encoded as {encoding}", "the body as it is (identity)", "Content-Encoding")
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > rules.max_bytes:
        raise _too_large(f"{length} bytes are announced", "Content-Length", rules)
    body = io.BytesIO()
    for chunk in answer.iter_stream():
        body.write(chunk)
        if body.tell() > rules.max_bytes:
            raise _too_large("the body goes on after the limit", "body", rules)
    if not body.tell():
        raise _unreachable("HTTP status 200 with an empty body", "a metadata document", "body")
    return body.getvalue()


def _request_headers(source: Source, target: _Target) -> list[tuple[bytes | str, bytes | str]]:
    return [
        ("Host", target.authority),
        ("User-Agent", "fas-logon-evidence"),
        ("Accept", "application/samlmetadata+xml, application/xml, text/xml"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
        *_validators(source).items(),
    ]


def _validators(source: Source) -> dict[str, str]:
    validators = {
        "If-None-Match": _etag(source.etag),
        "If-Modified-Since": _last_modified(source.last_modified),
    }
    return {name: value for name, value in validators.items() if value is not None}


def _headers(answer: httpcore.Response) -> dict[str, str]:
    """Names in lower case; a header that comes twice is joined (RFC 9110 5.3), so that no part is overlooked."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in answer.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _etag(text: str | None) -> str | None:
    return text if text is not None and _ETAG.fullmatch(text) else None


def _last_modified(text: str | None) -> str | None:
    return text if text is not None and _http_date(text) is not None else None


def _date(headers: Mapping[str, str]) -> datetime | None:
    date = _http_date(headers.get("date", ""))
    age = headers.get("age", "")
    return date - timedelta(seconds=int(age)) if date is not None and _AGE.fullmatch(age) else date


def _http_date(text: str) -> datetime | None:
    if len(text) > _MAX_DATE or not text.isascii() or not text.isprintable():
        return None
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _parse(url: str, where: str) -> _Target:
    """Take the URL apart, and refuse what two readers could read differently."""
    if len(url) > _MAX_URL:
        raise _bad_url(f"it has {len(url)} characters", where)
    if not re.fullmatch(r"[\x21-\x7e]+", url) or "\\" in url:
        raise _bad_url("it is empty or holds a blank, a backslash, a control character or one beyond ASCII", where)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _bad_url("its host or port cannot be read", where) from error
    host = parts.hostname or ""
    literal = _literal(host, bracketed="[" in parts.netloc)
    named = literal is not None or (_HOST.fullmatch(host) and not _ENDS_IN_NUMBER.fullmatch(host))
    faults = (
        (not parts.scheme, "it names no scheme"),
        (parts.scheme != "https", f"its scheme is {parts.scheme if parts.scheme in _OTHER_SCHEMES else 'another one'}"),
        ("@" in parts.netloc, "it holds user information"),
        ("#" in url, "it holds a fragment"),
        (not host, "it names no host"),
        (port == 0, "its port is 0"),
        (not named, f"its host {host} is neither a DNS name nor a plainly written IP address"),
    )
    for found, fault in faults:
        if found:
            raise _bad_url(fault, where)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(url=url, host=host, port=port or 443, path=path, literal=literal, where=where)


def _literal(host: str, *, bracketed: bool) -> _Address | None:
    try:
        if not bracketed:
            return ipaddress.IPv4Address(host)
        return None if "%" in host else ipaddress.IPv6Address(host)
    except ValueError:
        return None


def _addresses(run: _Run, target: _Target) -> list[str]:
    """Every address of the host, each of them judged."""
    found = [target.literal] if target.literal is not None else _resolved(run, target)
    _judge(target, found, run.rules)
    return [str(address) for address in found]


def _resolved(run: _Run, target: _Target) -> list[_Address]:
    """Name resolution knows no time limit, so that it runs in a thread which is left behind when it takes too long."""
    answers: queue.SimpleQueue[list[_Address] | Exception] = queue.SimpleQueue()
    expected = f"an address for {target.host}"

    def ask() -> None:
        try:
            found = run.resolve(target.host, target.port, type=socket.SOCK_STREAM)
            texts = [entry[4][0] for entry in found if entry[0] in {socket.AF_INET, socket.AF_INET6}]
            answers.put([ipaddress.ip_address(text) for text in dict.fromkeys(texts)])
        except Exception as error:  # noqa: BLE001 - told where it is waited for
            answers.put(error)

    threading.Thread(target=ask, daemon=True, name="resolve").start()
    try:
        answer = answers.get(timeout=run.deadline.left())
    except queue.Empty as error:
        raise _unreachable("name resolution takes too long", expected, target.where) from error
    if isinstance(answer, Exception):
        why = answer.strerror if isinstance(answer, OSError) and answer.strerror else type(answer).__name__
        raise _unreachable(f"the name does not resolve ({why})", expected, target.where) from answer
    if not answer:
        raise _unreachable("the name has no address", expected, target.where)
    return answer


def _judge(target: _Target, addresses: Sequence[_Address], rules: FetchRules) -> None:
    """Refuse the host where any of its addresses is refused: which of them is used would be left to chance."""
    for address in addresses:
        kind = _refused_kind(address, rules)
        if kind is not None:
            named = "it names" if target.literal is not None else f"{target.host} resolves to"
            raise _failed(
                TrustReason.METADATA_URL,
                where=target.where,
                expected="a host whose addresses can all be those of an IdP",
                presented=f"{named} {address}, {kind}",
            )


def _refused_kind(address: _Address, rules: FetchRules) -> str | None:
    """What makes the address one that is not fetched from; None if nothing does."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return _refused_kind(inner, rules)
    kinds = (
        (address in _METADATA_SERVICES, "the metadata service of a cloud"),
        (address.is_link_local, "a link-local address"),
        (address.is_multicast, "a multicast address"),
        (address.is_unspecified or address in _THIS_NETWORK, "an unspecified address"),
        (
            address.is_loopback and not rules.allow_loopback,
            "a loopback address, fetched from only with the setting metadata_allow_loopback = true",
        ),
        (address.is_reserved and not address.is_loopback, "a reserved address"),
        (isinstance(address, ipaddress.IPv6Address) and address.is_site_local, "a site-local address"),
        (
            not address.is_global and not address.is_loopback and not rules.allow_private,
            "a private address, fetched from only with the setting metadata_allow_private = true",
        ),
    )
    return next((kind for applies, kind in kinds if applies), None)


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to this IPv6 address end at."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def _context(ca_pem: str | None) -> ssl.SSLContext:
    """A client context that verifies chain, dates and name (all three are the default of PROTOCOL_TLS_CLIENT)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_pem is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as error:
        raise _failed(
            TrustReason.METADATA_UNTRUSTED,
            where="ca_pem",
            expected="one or more certificates as PEM",
            presented="no certificate can be read from it",
        ) from error
    # What the administrator names is the anchor, an issuing authority below a root included.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _presented_chain(stream: httpcore.NetworkStream) -> tuple[str, ...]:
    """SHA-256 of each certificate that the server showed, leaf first.

    Python has a public method for the chain from 3.13 on only; the object below it has had one since 3.10.
    """
    leaf: bytes = stream.get_extra_info("socket").getpeercert(binary_form=True)
    below = stream.get_extra_info("ssl_object")
    pems = [each.public_bytes() for each in below.get_unverified_chain()] if hasattr(below, _CHAIN) else []
    chain = [ssl.PEM_cert_to_DER_cert(pem) for pem in pems] or [leaf]
    return tuple(hashlib.sha256(der).hexdigest() for der in chain)


def _hex(fingerprint: str | None) -> str | None:
    return None if fingerprint is None else fingerprint.replace(":", "").strip().lower()


def _not_connected(problem: Exception | None, target: _Target) -> FetchFailed:
    cause = problem.__cause__ if problem is not None else None
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _failed(
            TrustReason.METADATA_UNTRUSTED,
            where=target.where,
            expected=f"a certificate for {target.host}, in date, from an authority that is trusted for this source",
            presented=f"the server's certificate does not verify ({cause.verify_message.rstrip('.')})",
        )
    if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        presented = "no connection (the server ends the TLS handshake)"
        return _unreachable(presented, f"a TLS connection to {target.authority}", target.where)
    if isinstance(cause, ssl.SSLError):
        return _failed(
            TrustReason.METADATA_UNTRUSTED,
            where=target.where,
            expected=f"TLS 1.2 or newer from {target.authority}",
            presented=f"no TLS connection comes about ({cause.reason or 'handshake failed'})",
        )
    why = cause.strerror if isinstance(cause, OSError) and cause.strerror else "it does not answer in time"
    return _unreachable(f"no connection ({why})", f"a connection to {target.authority}", target.where)


def _bad_url(presented: str, where: str) -> FetchFailed:
    expected = "an address such as https://idp.example/FederationMetadata/2007-06/FederationMetadata.xml"
    return _failed(TrustReason.METADATA_URL, where=where, expected=expected, presented=presented)


def _too_large(presented: str, where: str, rules: FetchRules) -> FetchFailed:
    expected = f"at most {rules.max_bytes} bytes"
    return _failed(TrustReason.METADATA_TOO_LARGE, where=where, expected=expected, presented=presented)


def _unreachable(presented: str, expected: str, where: str) -> FetchFailed:
    return _failed(TrustReason.METADATA_UNREACHABLE, where=where, expected=expected, presented=presented)


def _failed(reason: TrustReason, *, where: str, expected: str, presented: str) -> FetchFailed:
    return FetchFailed(Finding(reason=reason, expected=_shown(expected), presented=_shown(presented), where=where))


def _shown(text: str) -> str:
    """What others say is shown on one line, and not at any length."""
    return "".join(character if character.isprintable() else "?" for character in text)[:_MAX_SHOWN]
