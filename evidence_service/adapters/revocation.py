"""Whether a CA has revoked an authorization certificate, from the CA's CRL (promise 58).

A CRL is signed, so that it may come over plain http; RFC 5280 6.3 says when it may be used. One that cannot be had, is
out of date or is signed by another key tells nothing: the answer is then unknown, neither revoked nor fine.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httpcore
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPublicKeyTypes,
    CertificatePublicKeyTypes,
)

from evidence_service.adapters.timed import TimedBackend
from evidence_service.renewal.farm import RevocationList
from evidence_service.renewal.model import AuthorizationCertificate, Observation
from idp_certs.fetch import FetchFailed, FetchRules, Source, fetch

LONGEST_USE = timedelta(hours=1)
"""How long a CRL is used before it is fetched again, whatever it says of its next update."""
RETRY = timedelta(minutes=5)
"""How long after a failure the CA's server is left alone."""
CLOCK_SKEW = timedelta(minutes=10)
RULES = FetchRules(max_bytes=32 * 1024 * 1024, timeout=timedelta(seconds=15), allow_loopback=True)
"""What a fetch may cost. The address is the administrator's, so that one inside the network or machine is meant."""

_SERIAL = re.compile(r"[0-9a-fA-F]{1,40}")  # RFC 5280 4.1.2.2: positive, and at most 20 octets

Problem = str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Whether a certificate is revoked cannot be said; `problem` is one line that names the list and the remedy."""

    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationProblem:
    r"""What is wrong with the CRL of a CA (`host\CA name`): one line for an alarm."""

    certificate_authority: str
    text: str


class Revocations:
    """The CRLs of the configured CAs. May be used by several threads. `clock` answers UTC."""

    def __init__(
        self, lists: Sequence[RevocationList], clock: Callable[[], datetime], *, rules: FetchRules = RULES
    ) -> None:
        """Nothing is fetched before it is asked for."""
        self._lists = tuple(_Held(each, rules) for each in lists)
        self._clock = clock

    def revoked_at(self, certificate_authority: str, serial: str) -> datetime | Unknown | None:
        r"""When the certificate was revoked (UTC), None where every CRL of the CA says that it is not.

        `serial` is hexadecimal. A CA that renewed its key has several lists: any of them may name the certificate.
        """
        lists = [each for each in self._lists if each.name.casefold() == certificate_authority.casefold()]
        if not lists:
            return Unknown(problem=f"no CRL is configured for {certificate_authority}; set one under revocation_lists")
        if _SERIAL.fullmatch(serial) is None:
            return Unknown(problem=f"the serial number {serial[:80]!r} is not hexadecimal")
        number = int(serial, 16)
        now = self._clock()
        answers = [each.look_up(number, now) for each in lists]
        revoked = [each for each in answers if isinstance(each, datetime)]
        return min(revoked) if revoked else next((each for each in answers if each is not None), None)

    def mark(self, observation: Observation) -> Observation:
        """The observation with `revoked_at` where a CRL names the certificate; what is unknown stays as it is."""
        return replace(observation, certificates=tuple(self._marked(each) for each in observation.certificates))

    def problems(self) -> tuple[RevocationProblem, ...]:
        """What is wrong with the lists as they were asked last, once for each CA. Fetches nothing."""
        told: dict[str, list[str]] = {}
        for each in self._lists:
            if each.problem is not None:
                told.setdefault(each.name, []).append(each.problem)
        return tuple(RevocationProblem(certificate_authority=name, text="; ".join(each)) for name, each in told.items())

    def _marked(self, certificate: AuthorizationCertificate) -> AuthorizationCertificate:
        authority, serial = certificate.certificate_authority, serial_of(certificate)
        if authority is None or serial is None:
            return certificate
        answer = self.revoked_at(authority, serial)
        return replace(certificate, revoked_at=answer) if isinstance(answer, datetime) else certificate


def serial_of(certificate: AuthorizationCertificate) -> str | None:
    """The serial number (hex) as the server's log lists it, or from the certificate itself."""
    if certificate.serial is not None or certificate.der is None:
        return certificate.serial
    try:
        return f"{x509.load_der_x509_certificate(certificate.der).serial_number:x}"
    except ValueError:
        return None


class _Held:
    """One list with what was last fetched of it."""

    def __init__(self, configured: RevocationList, rules: FetchRules) -> None:
        self.name = configured.certificate_authority
        self.problem: Problem | None = None
        self._configured = configured
        self._rules = rules
        self._lock = threading.Lock()
        self._crl: x509.CertificateRevocationList | None = None
        self._fetch_at: datetime | None = None

    def look_up(self, serial: int, now: datetime) -> datetime | Unknown | None:
        """What the last good list says, until its nextUpdate; what it revokes stays so until a newer one is had."""
        with self._lock:
            # What is planned for later than we ever plan was planned by a clock that was wrong.
            if self._fetch_at is None or not self._fetch_at - LONGEST_USE <= now < self._fetch_at:
                self._refresh(now)
            crl, problem = self._crl, self.problem or f"the CRL at {self._configured.url} is out of date"
            entry = None if crl is None else crl.get_revoked_certificate_by_serial_number(serial)
        if entry is not None and not _released(entry):
            return entry.revocation_date_utc
        return Unknown(problem=problem) if crl is None or _out_of_date(crl, now) is not None else None

    def _refresh(self, now: datetime) -> None:
        self._fetch_at = now + RETRY
        crl = self._fetched(now)
        if isinstance(crl, Problem):
            self.problem = f"the CRL at {self._configured.url} tells nothing: {crl}"
            if self._crl is not None and self._crl.next_update_utc is not None and now < self._crl.next_update_utc:
                self.problem += f"; the one from before is used until {_utc(self._crl.next_update_utc)}"
            return
        self._crl, self.problem = crl, None
        self._fetch_at = now + LONGEST_USE
        if crl.next_update_utc is not None:
            self._fetch_at = min(self._fetch_at, max(crl.next_update_utc, now + RETRY))

    def _fetched(self, now: datetime) -> x509.CertificateRevocationList | Problem:
        data = _fetch(self._configured, self._rules)
        if isinstance(data, Problem):
            return data
        try:
            pem = data.lstrip().startswith(b"-----BEGIN")
            crl = x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
            problem = _forged(crl, self._configured.issuer) or _unusable(crl.extensions) or _out_of_date(crl, now)
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
            return f"it is no CRL that can be read ({_line(error)}); check the address"
        if problem is not None:
            return problem
        if self._crl is not None and crl.last_update_utc < self._crl.last_update_utc:
            return "it is older than one that was fetched before; look for a cache or proxy in between"
        return crl


def _forged(crl: x509.CertificateRevocationList, issuer: bytes) -> Problem | None:
    """Whether another than the configured issuer signed it (RFC 5280 6.3.3 b, f, g)."""
    try:
        certificate = x509.load_der_x509_certificate(issuer)
        usage = next((each.value for each in certificate.extensions if isinstance(each.value, x509.KeyUsage)), None)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return "the configured issuer's certificate cannot be read; configure the CA's own certificate"
    if crl.issuer != certificate.subject:
        return (
            f"it is the list of {crl.issuer.rfc4514_string()}, not of {certificate.subject.rfc4514_string()}; "
            "correct the address or the issuer's certificate"
        )
    if usage is not None and not usage.crl_sign:
        return "the configured issuer's certificate may not sign CRLs; configure the one that signs them"
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "the key of the configured issuer's certificate is of no kind that can be checked here"
    if not _signed_by(crl, key):
        return (
            "it is not signed by the configured issuer's key; after a renewal of the CA's key configure both lists, "
            "otherwise somebody forged it"
        )
    return None


def _signed_by(crl: x509.CertificateRevocationList, key: CertificatePublicKeyTypes) -> bool:
    try:
        return crl.is_signature_valid(cast(CertificateIssuerPublicKeyTypes, key))  # TypeError for a key of other use
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        return False


def _unusable(extensions: x509.Extensions) -> Problem | None:
    """Whether it covers less than all certificates of the CA, or holds what we must not pass over (RFC 5280 5.2)."""
    for each in extensions:
        value = each.value
        if isinstance(value, x509.DeltaCRLIndicator):
            return "it is a delta CRL, which holds changes only; set the address of the base CRL"
        if isinstance(value, x509.IssuingDistributionPoint):
            partial = (
                value.only_contains_ca_certs,
                value.only_contains_attribute_certs,
                value.indirect_crl,
                value.only_some_reasons,
            )
            if any(partial):
                return "it covers only some certificates or reasons; set the address of the CA's complete CRL"
        elif each.critical and not isinstance(value, x509.CRLNumber | x509.AuthorityKeyIdentifier):
            return f"it has the critical extension {each.oid.dotted_string}, which is not known here"
    return None


def _out_of_date(crl: x509.CertificateRevocationList, now: datetime) -> Problem | None:
    if crl.next_update_utc is None:
        return "it does not say when the next one comes (nextUpdate)"
    if now >= crl.next_update_utc:
        return f"it was due for an update at {_utc(crl.next_update_utc)}; see why the CA publishes none (certutil -CRL)"
    if crl.last_update_utc - now > CLOCK_SKEW:
        return f"it is from {_utc(crl.last_update_utc)}, which is still to come; check the clocks"
    return None


def _released(entry: x509.RevokedCertificate) -> bool:
    """Whether the entry takes a suspension back (removeFromCRL, RFC 5280 5.3.1)."""
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
    return reason is x509.ReasonFlags.remove_from_crl


def _fetch(configured: RevocationList, rules: FetchRules) -> bytes | Problem:
    try:
        scheme = urlsplit(configured.url).scheme.lower()
        if scheme == "http":
            return _fetch_plain(configured.url, rules)
        if scheme != "https":
            return "its address is neither http nor https; CRLs in LDAP are not read, so set the CA's http address"
        ca_pem = Path(configured.ca_file).read_text(encoding="ascii") if configured.ca_file else None
        return fetch(Source(url=configured.url, ca_pem=ca_pem), rules).data or "the answer is empty"
    except FetchFailed as error:
        return f"{error.finding.presented}; expected {error.finding.expected}"
    except httpcore.TimeoutException:
        return f"no complete answer within {rules.timeout.total_seconds():g} s; check that the server runs"
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        return f"no answer ({_line(error)}); check the address and that the server runs"
    except (OSError, ValueError) as error:
        return f"it cannot be asked for ({_line(error)}); check url and ca_file"


def _fetch_plain(url: str, rules: FetchRules) -> bytes | Problem:
    """One GET over plain http. A redirect is not followed: the address is to be the list's own."""
    backend = TimedBackend(rules.timeout.total_seconds(), rules.connect_timeout.total_seconds())
    headers = {"User-Agent": "fas-logon-evidence", "Accept-Encoding": "identity", "Connection": "close"}
    chunks, size = [], 0
    with (
        httpcore.ConnectionPool(network_backend=backend) as pool,
        pool.stream("GET", url, headers=[*headers.items()]) as answer,
    ):
        if answer.status != 200:
            return f"HTTP status {answer.status}; expected 200 at the list's own address"
        for chunk in answer.iter_stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > rules.max_bytes:
                return f"it has more than {rules.max_bytes} bytes"
    return b"".join(chunks)


def _utc(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(character if character.isprintable() else "?" for character in text)[:200]
