"""One simulated FAS server: its authorization certificates, definitions, rules, users' certificates and event log.

What it does is what `domain/fas.md` A.2 to A.5 and C say of FAS. Made up, because they say nothing: a removed request
stays pending at the CA; names of certificates, definitions and CAs that do not exist are taken; an expired certificate
is refused before any CA is asked; a failed test is logged as a failed enrollment is; 2402 is as 2112; and the text of
messages and of most events. Time is told by the farm. Nothing here is thread-safe by itself: `fas_farm` holds the lock.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7

from evidence_service.demo.fas_ca import CaRequest, CaUnavailable, Disposition, SimulatedCa

RELEASES = ("7.17", "1903", "1906", "2003", "2109", "2112", "2402")
FAS_SOURCE = "Citrix.Authentication.FederatedAuthenticationService"
PKI_SOURCE = "Citrix.Fas.PkiCore"
OFFLINE = "[Offline CSR]"
SUBJECT = "DC=CitrixTrustFabric"

_WORDS = {
    "7.17": frozenset({"Pending", "Ok", "MaintenanceRequired", "Expired"}),
    "1903": frozenset({"WaitingForApproval", "Ok", "MaintenanceRequired", "Expired", "NotYetValid"}),
    "1906": frozenset({"WaitingForApproval", "Ok", "Expired", "NotYetValid"}),
}
_NEWER_WORDS = frozenset({"WaitingForApproval", "Ok", "Expired", "NotYetValid", "Denied"})
_MAINTENANCE_DUE = timedelta(days=30)
"""Made up: since when a release with that word says MaintenanceRequired."""
_NAMES = uuid.UUID("5f0c6a1e-6d0b-4a7e-9a39-fa5fa5fa5fa5")


class CmdletError(Exception):
    """What a cmdlet writes as an error record. Terminating: the pipeline fails and writes nothing more."""

    def __init__(
        self, message: str, error_id: str = "", category: str = "NotSpecified", *, terminating: bool = True
    ) -> None:
        """`error_id` is the fully qualified one, empty for that of FAS's faults."""
        super().__init__(message)
        self.error_id = error_id or "FederatedAuthenticationServerFault"
        self.category = category
        self.terminating = terminating


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of the Windows Application log."""

    record: int
    provider: str
    event: int
    at: datetime
    level: str
    message: str


@dataclass(slots=True, kw_only=True)
class AuthorizationEntry:
    """One authorization certificate, or what was asked for to become one.

    `delayed`: the CA did not answer the second request when it was due.
    """

    id: str
    address: str
    key: rsa.RSAPrivateKey
    template: str = ""
    request_pem: str | None = None
    request: CaRequest | None = None
    certificate: x509.Certificate | None = None
    trust_area: str | None = None
    denial: str | None = None
    delayed: bool = False


@dataclass(slots=True, kw_only=True)
class Definition:
    """A certificate definition."""

    name: str
    template: str
    authorization_certificate: str
    certificate_authorities: tuple[str, ...]
    policy_oids: str = ""
    in_session: bool = False


@dataclass(slots=True, kw_only=True)
class Rule:
    """A rule, with its access lists in SDDL."""

    name: str
    definitions: tuple[str, ...]
    acls: dict[str, str] = field(
        default_factory=lambda: {
            "StoreFrontAcl": "D:P(A;OICI;CC;;;S-1-5-21-1-2-3-1601)",
            "UserAcl": "D:P(A;OICI;LC;;;DU)",
            "VdaAcl": "D:P(A;OICI;DC;;;DC)",
            "DelegatedAdministrationAcl": "D:P(A;OICI;SW;;;BA)",
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCertificate:
    """A cached certificate of a user, enrolled with an authorization certificate. It is remembered, not made."""

    upn: str
    rule: str
    definition: str
    expires: datetime
    authorization_certificate: str


@dataclass(slots=True, kw_only=True)
class Monitor:
    """The built-in monitor, which only logs (`domain/fas.md` A.5)."""

    enabled: bool = True
    warning: timedelta = timedelta(days=30)
    interval: timedelta = timedelta(days=1)


class SimulatedFas:
    """One FAS server. What tests and stories look at and set are its attributes.

    `test_fails` makes Test-FasCertificateSigningRequest fail: True for all, an id for the definitions that name it.
    `key_length` is that of keys made from now on. `notice_delay` passes before a decision of the CA is noticed.
    `says` holds the status word of an id in the place of the true one.
    """

    def __init__(self, name: str, *, release: str, ca: SimulatedCa, now: Callable[[], datetime]) -> None:
        """A server named by its FQDN, with nothing set up."""
        self.name, self.release, self.ca, self._now = name, release, ca, now
        self.account = f"CORP\\{name.partition('.')[0].upper()}$"
        self.administrators = frozenset({r"CORP\svc-fas-renewal", r"CORP\fas-admin"})
        self.certificates: dict[str, AuthorizationEntry] = {}
        self.definitions: dict[str, Definition] = {}
        self.rules: dict[str, Rule] = {}
        self.users: list[UserCertificate] = []
        self.events: list[Event] = []
        self.files: dict[str, bytes] = {}
        self.maintenance = False
        self.unreachable = False
        self.monitor = Monitor()
        self.notice_delay = timedelta(minutes=2)
        self.key_length = 2048
        self.test_fails: bool | str = False
        self.says: dict[str, str] = {}
        self._made = 0
        self._checked = now()

    @property
    def words(self) -> frozenset[str]:
        """The status words of this release."""
        return _WORDS.get(self.release, _NEWER_WORDS)

    def since(self, release: str) -> bool:
        """Whether this release is that one or newer."""
        return RELEASES.index(self.release) >= RELEASES.index(release)

    def status(self, entry: AuthorizationEntry) -> str:
        """The word for an entry. Where a release has no word for it, the nearest that it has (made up)."""
        if entry.id in self.says:
            return self.says[entry.id]
        waiting = "WaitingForApproval" if "WaitingForApproval" in self.words else "Pending"
        if entry.certificate is None:
            return "Denied" if entry.denial is not None and "Denied" in self.words else waiting
        now, end = self._now(), entry.certificate.not_valid_after_utc
        if now >= end:
            return "Expired"
        if now < entry.certificate.not_valid_before_utc and "NotYetValid" in self.words:
            return "NotYetValid"
        if end - now <= _MAINTENANCE_DUE and "MaintenanceRequired" in self.words:
            return "MaintenanceRequired"
        return "Ok"

    def log(self, provider: str, event: int, message: str, *, level: str = "Information", at: datetime) -> None:
        """Add an entry to the event log."""
        self.events.append(
            Event(record=len(self.events) + 1, provider=provider, event=event, at=at, level=level, message=message)
        )

    def administered(self, event: int, text: str) -> None:
        """Add an entry of FAS about an administrator's act."""
        self.log(FAS_SOURCE, event, f"[S{event:03}] {text}", at=self._now())

    def catch_up(self) -> None:
        """Do what FAS has done by itself until now: notice decisions, ask for the second certificate, monitor."""
        now = self._now()
        for entry in list(self.certificates.values()):
            self._notice(entry, now)
        while self.since("2112") and self.monitor.enabled and self._checked + self.monitor.interval <= now:
            self._checked += self.monitor.interval
            self._monitor(self._checked)

    def add(self, *, start: datetime, end: datetime, certificate_id: str | None = None) -> AuthorizationEntry:
        """An authorization certificate from before the story begins."""
        entry = self._new_entry(self.ca.address, certificate_id)
        request = self.ca.issued_before(requester=self.account, public_key=entry.key.public_key(), start=start, end=end)
        self._install(entry, request, start)
        return entry

    def request(self, address: str, template: str, authorization_template: str, by: str) -> AuthorizationEntry:
        """New-FasAuthorizationCertificate: the first of two requests. Raises CmdletError."""
        entry = self._new_entry(address, None)
        try:
            entry.request = self.ca.submit(
                address=address,
                requester=self.account,
                template=authorization_template,
                public_key=entry.key.public_key(),
                at=self._now(),
            )
        except CaUnavailable as error:
            del self.certificates[entry.id]
            raise CmdletError(str(error), category="ConnectionError") from None
        entry.request_pem = self._request_pem(entry.key, x509.Name.from_rfc4514_string(SUBJECT))
        entry.template = template
        self.administered(
            4,
            f"Administrator [{by}] enrolling with CA [{address}] templates [{template} and {authorization_template}]",
        )
        if entry.request.disposition is Disposition.DENIED:
            self._refused(entry, entry.request.reason, self._now())
        return entry

    def request_offline(self, name: str) -> AuthorizationEntry:
        """New-FasAuthorizationCertificateRequest. Raises CmdletError."""
        try:
            subject = x509.Name.from_rfc4514_string(name)
        except ValueError:
            raise CmdletError(f"{name} is not a distinguished name", category="InvalidArgument") from None
        entry = self._new_entry(OFFLINE, None)
        entry.request_pem = self._request_pem(entry.key, subject)
        return entry

    def accept(self, certificate_id: str, response: bytes) -> AuthorizationEntry:
        """Import-FasAuthorizationCertificateResponse. Raises CmdletError for an answer to something else."""
        entry = self.entry(certificate_id)
        if entry.address != OFFLINE or entry.certificate is not None:
            raise CmdletError(f"There is no offline request {certificate_id}", category="InvalidArgument")
        try:
            chain = pkcs7.load_der_pkcs7_certificates(response)
        except (ValueError, UnsupportedAlgorithm):
            raise CmdletError("The file is not a PKCS #7 file in DER", category="InvalidData") from None
        leaf = next((each for each in chain if _same_key(each.public_key(), entry.key.public_key())), None)
        if leaf is None:
            raise CmdletError("No certificate in the file is for the key of the request", category="InvalidData")
        entry.certificate, entry.request_pem, entry.trust_area = leaf, None, self._name()
        self._log_authorization(entry.trust_area, leaf, self._now())
        return entry

    def remove(self, certificate_id: str, by: str, *, delete_users: bool) -> None:
        """Remove-FasAuthorizationCertificate. A definition that names it keeps the dead reference, as on FAS."""
        entry = self.entry(certificate_id)
        del self.certificates[entry.id]
        if delete_users:
            self.users = [each for each in self.users if each.authorization_certificate != entry.id]
        self.administered(5, f"Administrator [{by}] de-authorizing CA [{entry.address}]")

    def entry(self, certificate_id: str) -> AuthorizationEntry:
        """The entry of this id. Raises CmdletError."""
        entry = self.certificates.get(certificate_id.strip("{}").lower())
        if entry is None:
            message = f"An authorization certificate with Id {certificate_id} was not found"
            raise CmdletError(message, category="ObjectNotFound")
        return entry

    def definition(self, name: str) -> Definition:
        """The definition of this name. Raises CmdletError."""
        found = next((each for key, each in self.definitions.items() if key.casefold() == name.casefold()), None)
        if found is None:
            raise CmdletError(f"A certificate definition named {name} was not found", category="ObjectNotFound")
        return found

    def rule(self, name: str) -> Rule:
        """The rule of this name. Raises CmdletError."""
        found = next((each for key, each in self.rules.items() if key.casefold() == name.casefold()), None)
        if found is None:
            raise CmdletError(f"A rule named {name} was not found", category="ObjectNotFound")
        return found

    def test(self, upn: str, rule: str, definition: str, certificate_authority: str) -> None:
        """Test-FasCertificateSigningRequest, by default of the rule's first definition at its first CA.

        Raises CmdletError, and logs S124 and S123.
        """
        chosen = self._allowed(rule, definition)
        authorities = chosen.certificate_authorities
        if certificate_authority:
            authorities = tuple(each for each in authorities if each.casefold() == certificate_authority.casefold())
        if not authorities:
            message = f"Definition {chosen.name} does not name the certificate authority {certificate_authority}"
            raise CmdletError(message, category="InvalidArgument")
        entry, agent = self._agent(chosen)
        if self.test_fails is True or self.test_fails == entry.id:
            raise CmdletError("The test of the certificate signing request failed: the CSR was rejected")
        self._ask(upn, rule, chosen, agent, authorities[:1])

    def enroll(self, upn: str, rule: str, definition: str) -> UserCertificate:
        """New-FasUserCertificate: the cached one, or one that a CA issues now.

        Raises CmdletError, and logs S124 and S123.
        """
        chosen = self._allowed(rule, definition)
        cached = next(iter(self.cached(upn, rule, chosen.name)), None)
        if cached is not None:
            return cached
        entry, agent = self._agent(chosen)
        self._ask(upn, rule, chosen, agent, chosen.certificate_authorities)
        now = self._now()
        user = UserCertificate(
            upn=upn,
            rule=rule,
            definition=chosen.name,
            expires=now + self.ca.templates[chosen.template].lifetime,
            authorization_certificate=entry.id,
        )
        self.users.append(user)
        # Users' certificates are listed there too (`domain/fas.md` C); these have no serial number.
        self._log_installed(self._name(), f"CN={upn}", "0", start=now, end=user.expires, at=now)
        return user

    def cached(self, upn: str, rule: str, definition: str) -> tuple[UserCertificate, ...]:
        """The users' certificates that these name; "" names all."""
        return tuple(
            each
            for each in self.users
            if all(
                not wanted or wanted.casefold() == is_so.casefold()
                for wanted, is_so in ((upn, each.upn), (rule, each.rule), (definition, each.definition))
            )
        )

    def _allowed(self, rule: str, definition: str) -> Definition:
        """The definition if the rule allows it, or the rule's first for ""."""
        allowed = self.rule(rule).definitions
        chosen = self.definition(definition or (*allowed, "")[0])
        if chosen.name.casefold() not in {each.casefold() for each in allowed}:
            raise CmdletError(f"Rule {rule} does not allow definition {chosen.name}", category="InvalidArgument")
        return chosen

    def _agent(self, definition: Definition) -> tuple[AuthorizationEntry, x509.Certificate]:
        """The authorization certificate that signs requests by the definition."""
        entry = self.entry(definition.authorization_certificate)
        if entry.certificate is None or self.status(entry) in {"Expired", "NotYetValid"}:
            raise CmdletError(f"The authorization certificate {entry.id} is {self.status(entry)}")
        return entry, entry.certificate

    def _ask(
        self, upn: str, rule: str, definition: Definition, agent: x509.Certificate, authorities: tuple[str, ...]
    ) -> None:
        """Ask one CA after the other until one issues."""
        now, correlation = self._now(), self._name()
        for address in authorities:
            try:
                refusal = self.ca.refusal_of_user(address, definition.template, agent, now)
                if refusal is None:
                    return
                exception = (
                    "MicrosoftCertificateAuthority::SubmitCertificateRequest - the CA returned CR_DISP_DENIED (code 2)"
                    f". {refusal}"
                )
            except CaUnavailable as error:
                exception = str(error)
            text = f"[certifcate authority: {address}] [exception: {exception}] [correlation: {correlation}]"
            self._failed(124, f"[upn: {upn} role: {rule}] at {text}", now)
        reason = "The CSR failed at all configured certificate authorities"
        self._failed(123, f"[upn: {upn} role: {rule}] [exception: {reason}] [correlation: {correlation}]", now)
        raise CmdletError(f"Failed to issue a certificate: {reason}")

    def _failed(self, event: int, text: str, at: datetime) -> None:
        message = f"[S{event}] Failed to issue a certificate for {text}"
        self.log(FAS_SOURCE, event, message, level="Error", at=at)

    def _notice(self, entry: AuthorizationEntry, now: datetime) -> None:
        request = entry.request
        if entry.certificate is not None or entry.denial is not None or request is None or request.decided_at is None:
            return
        at = request.decided_at + self.notice_delay + self.ca.slow
        if at > now:
            return
        if request.disposition is not Disposition.ISSUED:
            self._refused(entry, request.reason, at)
        elif request.template == entry.template:
            self._install(entry, request, at)
        else:
            self._request_second(entry, request, at, now)

    def _request_second(self, entry: AuthorizationEntry, first: CaRequest, at: datetime, now: datetime) -> None:
        """Ask for the certificate itself; where its template needs a person too, FAS waits again (made up)."""
        if entry.delayed:
            at = now
        try:
            second = self.ca.submit(
                address=entry.address,
                requester=self.account,
                template=entry.template,
                public_key=entry.key.public_key(),
                at=at,
                approval=first,
            )
        except CaUnavailable:
            entry.delayed = True
            return
        self.log(PKI_SOURCE, 111, f"[S0111] Certificate request {first.number} issued", at=at)
        if second.disposition is Disposition.ISSUED:
            self._install(entry, second, at)
        elif second.disposition is Disposition.DENIED:
            self._refused(entry, second.reason, at)
        else:
            entry.request = second

    def _refused(self, entry: AuthorizationEntry, reason: str, at: datetime) -> None:
        entry.denial = reason
        number = None if entry.request is None else entry.request.number
        self.log(PKI_SOURCE, 110, f"[S0110] Certificate request {number} refused: {reason}", level="Warning", at=at)

    def _install(self, entry: AuthorizationEntry, request: CaRequest, at: datetime) -> None:
        entry.request, entry.certificate, entry.request_pem = request, request.certificate, None
        entry.address = self.ca.wrong.address or self.ca.address
        if request.certificate is None or not _same_key(request.certificate.public_key(), entry.key.public_key()):
            return  # made up: FAS lists it, and no container holds its key
        entry.trust_area = self._name()
        self._log_authorization(entry.trust_area, request.certificate, at)

    def _log_authorization(self, trust_area: str, certificate: x509.Certificate, at: datetime) -> None:
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        subject, serial = certificate.subject.rfc4514_string(), f"{certificate.serial_number:X}"
        self._log_installed(trust_area, subject, serial, start=start, end=end, at=at)

    def _log_installed(
        self, trust_area: str, subject: str, serial: str, *, start: datetime, end: datetime, at: datetime
    ) -> None:
        """PkiCore's event 1. Its fields are field practice (`domain/fas.md` C), its layout is made up."""
        message = (
            "[S0001] Certificate chain installed.\r\n"
            f"Trust Area: {trust_area}\r\n"
            f"Subject: {subject}\r\n"
            f"Issuer: {self.ca.certificate.subject.rfc4514_string()}\r\n"
            f"Serial Number: {serial}\r\n"
            f"Not Before: {start:%Y-%m-%d %H:%M:%SZ}\r\n"
            f"Not After: {end:%Y-%m-%d %H:%M:%SZ}"
        )
        self.log(PKI_SOURCE, 1, message, at=at)

    def _monitor(self, at: datetime) -> None:
        for entry in self.certificates.values():
            if entry.certificate is None:
                continue
            left = entry.certificate.not_valid_after_utc - at
            if left <= timedelta(0):
                text = f"The authorization certificate {entry.id} has expired"
                self.log(FAS_SOURCE, 414, text, level="Warning", at=at)
            elif left <= self.monitor.warning:
                text = f"The authorization certificate {entry.id} expires in {left.days} days"
                self.log(FAS_SOURCE, 413, text, level="Warning", at=at)
        self.log(FAS_SOURCE, 415, "The authorization certificates were checked", at=at)

    def _new_entry(self, address: str, certificate_id: str | None) -> AuthorizationEntry:
        entry = AuthorizationEntry(
            id=(certificate_id or self._name()).lower(), address=address, key=self.ca.next_key(self.key_length)
        )
        self.certificates[entry.id] = entry
        return entry

    @staticmethod
    def _request_pem(key: rsa.RSAPrivateKey, subject: x509.Name) -> str:
        """The text of a request, in the wrong frame that FAS puts around it (`domain/fas.md` A.2)."""
        csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA512())
        return csr.public_bytes(Encoding.PEM).decode().replace("CERTIFICATE REQUEST", "CERTIFICATE")

    def _name(self) -> str:
        """A GUID that the same story gives again."""
        self._made += 1
        return str(uuid.uuid5(_NAMES, f"{self.name}/{self._made}"))


def _same_key(one: object, other: rsa.RSAPublicKey) -> bool:
    return isinstance(one, rsa.RSAPublicKey) and one.public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    ) == other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
