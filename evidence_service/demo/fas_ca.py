"""An issuing CA with its manager, for `fas-evidence demo`, for rehearsals and for tests.

Keys, certificates and CRLs are real; who asks and who approves is what the caller says, so nothing of it may ever be
trusted outside a demonstration. Dispositions are those of AD CS (`domain/fas.md` C). All times are UTC.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID

REQUEST_AGENT = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.1")
MANUAL = "Citrix_RegistrationAuthority_ManualAuthorization"
AGENT = "Citrix_RegistrationAuthority"
SMARTCARD = "Citrix_SmartcardLogon"
CA_ADDRESS = r"ca1.corp.example\Corp Issuing CA"
CA_MANAGER = r"CORP\ca-manager"

_ENROLL = "0e10c968-78fb-11d2-90d4-00c04f79dc55"
_SDDL = (
    f"O:DAG:DAD:PAI(OA;;RPWPCR;{_ENROLL};;DA)(OA;;CR;{_ENROLL};;DC)"
    "(A;;CCDCLCSWRPWPDTLOSDRCWDWO;;;DA)(A;;LCRPLORC;;;DC)(A;;LCRPLORC;;;AU)"
)
_TEMPLATE_DENIED = (
    "The permissions on the certificate template do not allow the current user to enroll for this type of certificate."
    " 0x80094012 (CERTSRV_E_TEMPLATE_DENIED)"
)
_UNSUPPORTED = "The requested certificate template is not supported by this CA. 0x80094800"
_NO_SIGNATURE = "The request is missing a required signature of an approved request. 0x80094809"
_DISTINCT_KEYS = 64
_CA_KEY = -1


class Disposition(IntEnum):
    """What became of a request, as the CA numbers it."""

    DENIED = 2
    ISSUED = 3
    PENDING = 5
    REVOKED = 6


class ApprovalRefused(Exception):  # noqa: N818 - an answer of the CA, not an error of the program
    """Who decides may not: no Manage CA, or the one who asked (promise 62). `str()` is one line."""


class CaUnavailable(Exception):  # noqa: N818 - a state of the world
    """The CA does not answer."""


@dataclass(slots=True, kw_only=True)
class CaRequest:
    r"""One row of the CA's database. `requester` is an account, such as a FAS server's `CORP\FAS1$`."""

    number: int
    requester: str
    template: str
    submitted: datetime
    public_key: rsa.RSAPublicKey
    disposition: Disposition = Disposition.PENDING
    decided_at: datetime | None = None
    decided_by: str = ""
    reason: str = ""
    certificate: x509.Certificate | None = None
    exportable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A certificate template. `pends`: CA certificate manager approval is on."""

    name: str
    oid: str
    lifetime: timedelta
    pends: bool = False
    sddl: str = _SDDL

    @property
    def machines_may_enroll(self) -> bool:
        """Whether Domain Computers, and so FAS servers, have Enroll."""
        return f"CR;{_ENROLL};;DC)" in self.sddl


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """How the authorization certificates differ that the CA issues by mistake. `address` is a CA that was not asked."""

    other_key: bool = False
    no_eku: bool = False
    lifetime: timedelta | None = None
    exportable: bool = False
    address: str | None = None


@cache
def key(index: int, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The nth key of this process: all farms share them, because making one takes longer than a whole renewal."""
    del index  # told apart by the cache
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


class SimulatedCa:
    """The CA of a farm: it keeps requests, and issues, denies and revokes.

    Set `slow` and FAS notices decisions so much later; `clock_ahead` and certificates begin in the future;
    `unreachable` and nobody is answered; `denies_submissions` (a reason) and policy denies each request at once.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        lock: threading.RLock,
        *,
        address: str = CA_ADDRESS,
        managers: tuple[str, ...] = (CA_MANAGER,),
    ) -> None:
        r"""`address` is `host\CA name`; `managers` are the accounts with Manage CA. `now` tells the time."""
        self.address = address
        self.managers = frozenset(managers)
        self.requests: dict[int, CaRequest] = {}
        self.templates = {
            MANUAL: Template(name=MANUAL, oid="1.3.6.1.4.1.311.21.8.1.1", lifetime=timedelta(days=1), pends=True),
            AGENT: Template(name=AGENT, oid="1.3.6.1.4.1.311.21.8.1.2", lifetime=timedelta(days=329)),
            SMARTCARD: Template(name=SMARTCARD, oid="1.3.6.1.4.1.311.21.8.1.3", lifetime=timedelta(days=7)),
        }
        self.published = set(self.templates)
        self.slow = timedelta(0)
        self.clock_ahead = timedelta(0)
        self.unreachable = False
        self.denies_submissions: str | None = None
        self.refuses_users: str | None = None
        self.wrong = Wrong()
        self._now, self._lock = now, lock
        self._revoked: dict[int, datetime] = {}
        self._keys = 0
        self._crls = 0
        self.certificate = self._own_certificate()

    @property
    def pending(self) -> tuple[CaRequest, ...]:
        """What waits for the CA manager, oldest first."""
        with self._lock:
            return tuple(each for each in self.requests.values() if each.disposition is Disposition.PENDING)

    def issue(self, number: int, by: str = CA_MANAGER) -> None:
        """Issue a pending request. Raises ApprovalRefused for one who may not, ValueError where none is pending."""
        with self._lock:
            request = self._decidable(number, by)
            self._issue(request, self._now(), by)

    def deny(self, number: int, reason: str = "Denied by the CA manager", by: str = CA_MANAGER) -> None:
        """Deny a pending request. Raises as `issue` does."""
        with self._lock:
            self._deny(self._decidable(number, by), self._now(), by, reason)

    def issue_wrong(
        self,
        *,
        other_key: bool = False,
        no_eku: bool = False,
        lifetime: timedelta | None = None,
        exportable: bool = False,
        address: str | None = None,
    ) -> None:
        """Issue authorization certificates that differ from what was asked, until told otherwise."""
        self.wrong = Wrong(
            other_key=other_key, no_eku=no_eku, lifetime=lifetime, exportable=exportable, address=address
        )

    def refuse_users(self, reason: str = "Denied by Policy Module 0x80094012") -> None:
        """Deny every user's certificate (CR_DISP_DENIED) until `accept_users`."""
        self.refuses_users = reason

    def accept_users(self) -> None:
        """Issue users' certificates again."""
        self.refuses_users = None

    def publish(self, template: Template) -> None:
        """Put a template in the place of the one of its name, and offer it."""
        with self._lock:
            self.templates[template.name] = template
            self.published.add(template.name)

    def set_lifetime(self, lifetime: timedelta, template: str = AGENT) -> None:
        """Set how long certificates of a template are valid from now on."""
        self.publish(replace(self.templates[template], lifetime=lifetime))

    def revoke(self, serial: int | str) -> None:
        """Revoke a certificate by its serial number, as a number or in hex. It is on each CRL made from now on."""
        with self._lock:
            wanted = int(serial, 16) if isinstance(serial, str) else serial
            for request in self.requests.values():
                if request.certificate is not None and request.certificate.serial_number == wanted:
                    request.disposition = Disposition.REVOKED
                    self._revoked[wanted] = self._now()
                    return
        raise ValueError(f"This CA issued no certificate with the serial number {serial}")

    def crl(self, lifetime: timedelta = timedelta(days=7)) -> bytes:
        """A CRL (DER) of this instant, signed by the CA."""
        with self._lock:
            now = self._now() + self.clock_ahead
            self._crls += 1
            builder = x509.CertificateRevocationListBuilder(self.certificate.subject, now, now + lifetime)
            builder = builder.add_extension(x509.CRLNumber(self._crls), critical=False)
            for serial, at in self._revoked.items():
                builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, at).build())
            return builder.sign(key(_CA_KEY), hashes.SHA256()).public_bytes(Encoding.DER)

    def submit(
        self,
        *,
        address: str,
        requester: str,
        template: str,
        public_key: rsa.RSAPublicKey,
        at: datetime,
        approval: CaRequest | None = None,
    ) -> CaRequest:
        """A request as FAS sends it; `approval` is the issued first request that signs the second.

        Raises CaUnavailable.
        """
        with self._lock:
            self._check_reachable(address)
            request = self._enter(requester, template, public_key, at)
            denial = self._policy(template, approval)
            if denial is not None:
                self._deny(request, at, "policy module", denial)
            elif not self.templates[template].pends:
                self._issue(request, at, "policy module")
            return request

    def issued_before(
        self, *, requester: str, public_key: rsa.RSAPublicKey, start: datetime, end: datetime
    ) -> CaRequest:
        """An authorization certificate from before the story begins: asked for, approved and valid as told."""
        with self._lock:
            request = self._enter(requester, AGENT, public_key, start)
            self._certify(request, public_key, start, end, agent=True)
            request.disposition, request.decided_at, request.decided_by = Disposition.ISSUED, start, CA_MANAGER
            return request

    def sign_offline(self, request_pem: str, by: str = CA_MANAGER) -> bytes:
        """Sign the text of an offline request as a person would: PKCS #7 (DER) with the chain.

        Raises ApprovalRefused for one without Manage CA.
        """
        with self._lock:
            self._check_manager(by)
            csr = x509.load_pem_x509_csr(request_pem.replace(" CERTIFICATE-", " CERTIFICATE REQUEST-").encode())
            public_key = csr.public_key()
            if not isinstance(public_key, rsa.RSAPublicKey):
                raise TypeError("FAS asks for RSA keys only")
            issued = self._issue(self._enter(by, AGENT, public_key, self._now()), self._now(), by)
            return pkcs7.serialize_certificates([issued, self.certificate], Encoding.DER)

    def refusal_of_user(self, address: str, template: str, agent: x509.Certificate, at: datetime) -> str | None:
        """Why a user's request that `agent` signed is denied; None: it is issued. Raises CaUnavailable."""
        self._check_reachable(address)
        if self.refuses_users is not None:
            return self.refuses_users
        if agent.serial_number in self._revoked:
            return "The certificate is revoked. 0x80092010 (CRYPT_E_REVOKED)"
        if agent.issuer != self.certificate.subject or not _is_request_agent(agent):
            return (
                "The request is missing a required signature policy. 0x80094809 (CERTSRV_E_SIGNATURE_POLICY_REQUIRED)"
            )
        if not agent.not_valid_before_utc <= at + self.clock_ahead < agent.not_valid_after_utc:
            return "A required certificate is not within its validity period. 0x800b0101 (CERT_E_EXPIRED)"
        return self._policy(template, None)

    def next_key(self, bits: int = 2048) -> rsa.RSAPrivateKey:
        """A key that the farm has not used yet, as far as there are that many."""
        self._keys += 1
        return key(self._keys % _DISTINCT_KEYS, bits)

    def _check_reachable(self, address: str) -> None:
        if self.unreachable or address.casefold() != self.address.casefold():
            raise CaUnavailable("The RPC server is unavailable. 0x800706ba (WIN32: 1722 RPC_S_SERVER_UNAVAILABLE)")

    def _policy(self, template: str, approval: CaRequest | None) -> str | None:
        known = self.templates.get(template)
        if self.denies_submissions is not None and template != SMARTCARD:
            return self.denies_submissions
        if known is None or template not in self.published:
            return _UNSUPPORTED
        if not known.machines_may_enroll:
            return _TEMPLATE_DENIED
        if template == AGENT and (approval is None or approval.disposition is not Disposition.ISSUED):
            return _NO_SIGNATURE
        return None

    def _decidable(self, number: int, by: str) -> CaRequest:
        request = self.requests.get(number)
        if request is None or request.disposition is not Disposition.PENDING:
            raise ValueError(f"No request {number} is pending at {self.address}")
        self._check_manager(by)
        if by.casefold() == request.requester.casefold():
            raise ApprovalRefused(f"{by} made request {number} and cannot decide it")
        return request

    def _check_manager(self, by: str) -> None:
        if by.casefold() not in {each.casefold() for each in self.managers}:
            raise ApprovalRefused(f"{by} has no Manage CA right at {self.address}: access denied")

    def _deny(self, request: CaRequest, at: datetime, by: str, reason: str) -> None:
        request.disposition, request.decided_at, request.decided_by = Disposition.DENIED, at, by
        request.reason = reason

    def _issue(self, request: CaRequest, at: datetime, by: str) -> x509.Certificate:
        wrong = self.wrong if request.template == AGENT else Wrong()
        public_key = self.next_key().public_key() if wrong.other_key else request.public_key
        start = (at + self.clock_ahead).replace(microsecond=0)
        lifetime = wrong.lifetime or self.templates[request.template].lifetime
        request.exportable = wrong.exportable
        request.disposition, request.decided_at, request.decided_by = Disposition.ISSUED, at, by
        return self._certify(request, public_key, start, start + lifetime, agent=not wrong.no_eku)

    def _certify(
        self, request: CaRequest, public_key: rsa.RSAPublicKey, start: datetime, end: datetime, *, agent: bool
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "CitrixTrustFabric")]))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(0x61000000 + request.number)
            .not_valid_before(start)
            .not_valid_after(min(end, self.certificate.not_valid_after_utc))
        )
        if agent:
            builder = builder.add_extension(x509.ExtendedKeyUsage([REQUEST_AGENT]), critical=False)
        request.certificate = builder.sign(key(_CA_KEY), hashes.SHA256())
        return request.certificate

    def _enter(self, requester: str, template: str, public_key: rsa.RSAPublicKey, at: datetime) -> CaRequest:
        request = CaRequest(
            number=41 + len(self.requests),
            requester=requester,
            template=template,
            submitted=at,
            public_key=public_key,
        )
        self.requests[request.number] = request
        return request

    def _own_certificate(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.address.partition("\\")[2])])
        start = self._now().replace(microsecond=0) - timedelta(days=3650)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key(_CA_KEY).public_key())
            .serial_number(1)
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=3650 * 4))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key(_CA_KEY), hashes.SHA256())
        )


def _is_request_agent(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return False
    return REQUEST_AGENT in usage.value
