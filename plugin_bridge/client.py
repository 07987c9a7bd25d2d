"""Ask the service as the plug-in does, from any machine: the same rules, the same settings file, the same failures.

For testing a deployment. What FAS itself runs is the library in `EvidencePlugin`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import SplitResult, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12
from lxml import etree

from idp_certs.reasons import Refused
from idp_certs.xml import XmlLimits, parse_xml

DECISIONS = "/v1/decisions"
SAML_RESPONSE = "SAMLResponse"
MAX_ANSWER_BYTES = 16_384
MAX_SETTINGS_BYTES = 65_536


class Failure(StrEnum):
    """Everything but a clear answer of the service; the codes of `FailClosed.md`. Each of them denies."""

    SETTINGS_INVALID = "settings_invalid"
    CERTIFICATE_UNUSABLE = "certificate_unusable"
    QUESTION_INVALID = "question_invalid"
    NO_SERVICE = "no_service"
    TLS_REFUSED = "tls_refused"
    WRONG_CERTIFICATE = "wrong_certificate"
    TIMEOUT = "timeout"
    CALLER_REFUSED = "caller_refused"
    OVERLOADED = "overloaded"
    WRONG_STATUS = "wrong_status"
    WRONG_CONTENT_TYPE = "wrong_content_type"
    ANSWER_TOO_LARGE = "answer_too_large"
    ANSWER_TRUNCATED = "answer_truncated"
    ANSWER_UNREADABLE = "answer_unreadable"
    OTHER_REQUEST_ID = "other_request_id"
    UNKNOWN_DECISION = "unknown_decision"
    ANSWER_CONTRADICTORY = "answer_contradictory"
    INTERNAL_ERROR = "internal_error"


_NEXT_SERVICE = frozenset(
    {Failure.NO_SERVICE, Failure.TLS_REFUSED, Failure.WRONG_CERTIFICATE, Failure.TIMEOUT, Failure.OVERLOADED}
)
"""Where no decision was made, the next address is asked; never to hear a better answer."""


class SettingsError(ValueError):
    """A settings file that cannot be used; `str()` is one clear line that begins with the member."""


class _Failed(Exception):  # noqa: N818 - an outcome
    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where to ask and with which certificates, as in the plug-in's settings file; durations are in milliseconds.

    `client_certificate_file` is PFX, or PEM with the key in it or in `client_key_file`.
    """

    services: tuple[str, ...]
    server_pins: tuple[str, ...] = ()
    server_ca: Path | None = None
    client_certificate_thumbprint: str | None = None
    client_certificate_store: Literal["LocalMachine", "CurrentUser"] = "LocalMachine"
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None
    client_certificate_password: str | None = field(default=None, repr=False)
    deadline_milliseconds: int = 5000
    attempt_milliseconds: int = 2500
    max_concurrent: int = 128
    max_question_bytes: int = 1_048_576
    breaker_failures: int = 5
    breaker_seconds: int = 5
    fas_server: str | None = None
    log_allows: bool = True
    events_per_minute: int = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question. `evidence` holds the raw bytes of each SAMLResponse."""

    upn: str
    evidence: tuple[bytes, ...]
    phase: Literal["prepare", "assert"] | None = None
    sid: str | None = None
    rule: str | None = None
    security_context: str | None = None
    disposition: str | None = None
    storefront: str | None = None
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Yes or no. `failure` is None where the service itself decided; `reason` is its code, or the failure's."""

    allowed: bool
    reason: str
    decision_id: str = ""
    request_id: str = ""
    rule: str | None = None
    security_context: str | None = None
    observed: bool = False
    failure: Failure | None = None
    service: str | None = None
    detail: str = ""
    milliseconds: float = 0.0


_NUMBERS = {
    "DeadlineMilliseconds": (5000, 100, 30_000),
    "AttemptMilliseconds": (2500, 100, 30_000),
    "MaxConcurrent": (128, 1, 1024),
    "MaxQuestionBytes": (1_048_576, 16_384, 16_777_216),
    "BreakerFailures": (5, 1, 1000),
    "BreakerSeconds": (5, 1, 300),
    "EventsPerMinute": (120, 1, 6000),
}
_TEXTS = (
    "Service",
    "ServerPin",
    "ServerCa",
    "ClientCertificateThumbprint",
    "ClientCertificateStore",
    "ClientCertificateFile",
    "ClientCertificatePassword",
    "FasServer",
    "LogAllows",
)
_REPEATED = ("Service", "ServerPin")


def read_settings(path: Path) -> Settings:
    """Read the plug-in's settings file; relative paths inside are of its directory. Raises SettingsError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"EvidencePlugin: the file {path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_SETTINGS_BYTES:
        raise SettingsError(f"EvidencePlugin: the file is longer than {MAX_SETTINGS_BYTES} bytes")
    members = _members(content)
    numbers = {name: _number(members, name) for name in _NUMBERS}
    settings = Settings(
        services=tuple(map(_service, members.get("Service", ()))),
        server_pins=tuple(_digest("ServerPin", each, (64,)) for each in members.get("ServerPin", ())),
        server_ca=_file(members, "ServerCa", path.parent),
        client_certificate_thumbprint=_thumbprint(members),
        client_certificate_store=_store(members),
        client_certificate_file=_file(members, "ClientCertificateFile", path.parent),
        client_certificate_password=_one(members, "ClientCertificatePassword"),
        deadline_milliseconds=numbers["DeadlineMilliseconds"],
        attempt_milliseconds=numbers["AttemptMilliseconds"],
        max_concurrent=numbers["MaxConcurrent"],
        max_question_bytes=numbers["MaxQuestionBytes"],
        breaker_failures=numbers["BreakerFailures"],
        breaker_seconds=numbers["BreakerSeconds"],
        fas_server=_one(members, "FasServer"),
        log_allows=_flag(members, "LogAllows"),
        events_per_minute=numbers["EventsPerMinute"],
    )
    _check(settings, members)
    return settings


def _check(settings: Settings, members: dict[str, list[str]]) -> None:
    """What members must be to each other."""
    if not settings.services:
        raise SettingsError("Service: give at least one address, as in https://evidence1.corp.example:8443")
    for service in settings.services:
        if settings.services.count(service) > 1:
            raise SettingsError(f"Service: {service} stands there twice")
    if bool(settings.server_pins) == (settings.server_ca is not None):
        raise SettingsError("ServerPin: give either ServerPin (once or more) or ServerCa")
    if (settings.client_certificate_thumbprint is None) == (settings.client_certificate_file is None):
        raise SettingsError(
            "ClientCertificateThumbprint: give either ClientCertificateThumbprint or ClientCertificateFile"
        )
    if settings.client_certificate_file is None and settings.client_certificate_password is not None:
        raise SettingsError("ClientCertificatePassword: belongs to ClientCertificateFile")
    if settings.client_certificate_file is not None and "ClientCertificateStore" in members:
        raise SettingsError("ClientCertificateStore: belongs to ClientCertificateThumbprint")
    if settings.attempt_milliseconds > settings.deadline_milliseconds:
        raise SettingsError("AttemptMilliseconds: is more than DeadlineMilliseconds")
    if settings.fas_server is not None and len(settings.fas_server) > 256:
        raise SettingsError("FasServer: is longer than 256 characters")


def _members(content: bytes) -> dict[str, list[str]]:
    try:
        root = parse_xml(content, XmlLimits(comments=True))
    except Refused as refused:
        raise SettingsError(f"EvidencePlugin: is not XML ({refused.finding.reason})") from refused
    if root.tag != "EvidencePlugin":
        raise SettingsError("EvidencePlugin: the outermost element is not <EvidencePlugin>")
    if root.attrib:
        raise SettingsError("EvidencePlugin: attributes are not known here")
    members: dict[str, list[str]] = {}
    for text in (root.text, *(child.tail for child in root)):
        if text and text.strip():
            raise SettingsError("EvidencePlugin: holds text outside its members")
    for child in root:
        name = str(child.tag)
        value = _value(name, child)
        values = members.setdefault(name, [])
        values.append(value)
        if len(values) > 1 and name not in _REPEATED:
            raise SettingsError(f"{name}: stands there more than once")
    return members


def _value(name: str, member: etree._Element) -> str:
    if name not in _NUMBERS and name not in _TEXTS:
        raise SettingsError(f"{name}: there is no such setting")
    if member.attrib:
        raise SettingsError(f"{name}: attributes are not known here")
    if len(member):
        raise SettingsError(f"{name}: must hold text only")
    value = (member.text or "").strip()
    if not value:
        raise SettingsError(f"{name}: is empty; leave it out for its default")
    return value


def _one(members: dict[str, list[str]], name: str) -> str | None:
    return members[name][0] if name in members else None


def _service(value: str) -> str:
    example = "give host and port only, as in https://evidence1.corp.example:8443"
    try:
        parts = urlsplit(value)
        port = parts.port or 443
    except ValueError:
        raise SettingsError(f"Service: {value} is not an https address with a host") from None
    if parts.scheme != "https" or not parts.hostname:
        raise SettingsError(f"Service: {value} is not an https address with a host")
    if parts.username is not None or parts.query or parts.fragment or parts.path not in ("", "/", DECISIONS):
        raise SettingsError(f"Service: {example}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"https://{host}:{port}{DECISIONS}"


def _digest(member: str, value: str, lengths: Sequence[int]) -> str:
    # The certificate dialog of Windows shows digests with blanks, and copies an invisible U+200E along.
    digits = value.replace(" ", "").replace(":", "").replace("\u200e", "").lower()
    if len(digits) not in lengths or not re.fullmatch(r"[0-9a-f]+", digits):
        raise SettingsError(f"{member}: is not a digest of {' or '.join(map(str, lengths))} hexadecimal digits")
    return digits


def _thumbprint(members: dict[str, list[str]]) -> str | None:
    value = _one(members, "ClientCertificateThumbprint")
    return None if value is None else _digest("ClientCertificateThumbprint", value, (40, 64))


def _store(members: dict[str, list[str]]) -> Literal["LocalMachine", "CurrentUser"]:
    match _one(members, "ClientCertificateStore"):
        case None | "LocalMachine":
            return "LocalMachine"
        case "CurrentUser":
            return "CurrentUser"
    raise SettingsError("ClientCertificateStore: is neither LocalMachine nor CurrentUser")


def _file(members: dict[str, list[str]], name: str, directory: Path) -> Path | None:
    value = _one(members, name)
    if value is None:
        return None
    path = directory / value
    if not path.is_file():
        raise SettingsError(f"{name}: there is no file {path}")
    return path


def _number(members: dict[str, list[str]], name: str) -> int:
    standard, least, most = _NUMBERS[name]
    value = _one(members, name)
    if value is None:
        return standard
    if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
        raise SettingsError(f"{name}: is not a whole number from {least} to {most}")
    return int(value)


def _flag(members: dict[str, list[str]], name: str) -> bool:
    value = _one(members, name) or "true"
    if value not in ("true", "false"):
        raise SettingsError(f"{name}: is neither true nor false")
    return value == "true"


def ask(settings: Settings, question: Question) -> Answer:
    """Put one question; never raises for what the service or the network does: that is an answer which denies."""
    began = time.monotonic()
    request_id = str(uuid.uuid4())
    try:
        body = _body(settings, question, request_id)
        context = _context(settings)
    except _Failed as failed:
        return _denied(failed, request_id, None, began)
    until = began + settings.deadline_milliseconds / 1000
    answer = _denied(_Failed(Failure.NO_SERVICE, "no address was asked"), request_id, None, began)
    for service in settings.services:
        attempt = _Attempt(settings, service, context, body, request_id)
        left = min(until - time.monotonic(), settings.attempt_milliseconds / 1000)
        try:
            said = attempt.run(left)
        except _Failed as failed:
            answer = _denied(failed, request_id, service, began)
            if failed.failure not in _NEXT_SERVICE or time.monotonic() >= until:
                break
        else:
            allowed = said["decision"] == "allow"
            return Answer(
                allowed=allowed,
                reason=said["reason"],
                decision_id=said["decision_id"],
                request_id=request_id,
                rule=said["rule"] if allowed else None,
                security_context=said["security_context"] if allowed else None,
                observed=said["mode"] == "observe",
                service=service,
                milliseconds=_since(began),
            )
    return answer


def _since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 3)


def _denied(failed: _Failed, request_id: str, service: str | None, began: float) -> Answer:
    return Answer(
        allowed=False,
        reason=failed.failure.value,
        request_id=request_id,
        failure=failed.failure,
        service=service,
        detail=str(failed),
        milliseconds=_since(began),
    )


def _body(settings: Settings, question: Question, request_id: str) -> bytes:
    members: dict[str, Any] = {
        "request_id": request_id,
        "upn": question.upn,
        "evidence": [{"type": SAML_RESPONSE, "value": base64.b64encode(raw).decode()} for raw in question.evidence],
        "phase": question.phase,
        "sid": question.sid,
        "rule": question.rule,
        "security_context": question.security_context,
        "disposition": question.disposition,
        "storefront": question.storefront,
        "fas_server": settings.fas_server or socket.gethostname(),
        "correlation_id": question.correlation_id,
    }
    for name, value in members.items():
        limit = 1024 if name in ("upn", "security_context") else 256
        if isinstance(value, str) and len(value) > limit:
            raise _Failed(Failure.QUESTION_INVALID, f"{name} is longer than {limit} characters")
    try:
        text = json.dumps({name: value for name, value in members.items() if value is not None}, ensure_ascii=False)
        body = text.encode("utf-8")
    except UnicodeEncodeError:
        raise _Failed(Failure.QUESTION_INVALID, "the question holds half a surrogate pair") from None
    if len(body) > settings.max_question_bytes or len(question.evidence) > 16:
        raise _Failed(Failure.QUESTION_INVALID, "the question is longer than the contract takes")
    return body


def _context(settings: Settings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.server_ca is not None:
        try:
            context.load_verify_locations(settings.server_ca)
        except (OSError, ssl.SSLError):
            raise _Failed(Failure.SETTINGS_INVALID, "ServerCa: no PEM certificate can be read from it") from None
        context.hostname_checks_common_name = False
        # The plug-in takes no CA in the middle either.
        context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the pin is compared before anything is sent
    if settings.client_certificate_file is None:
        raise _Failed(
            Failure.CERTIFICATE_UNUSABLE,
            "the settings name a certificate in the store of Windows; name a certificate and a key in files",
        )
    with _client_files(settings) as (certificate, key):
        try:
            context.load_cert_chain(certificate, key, password=settings.client_certificate_password or "")
        except (OSError, ssl.SSLError):
            raise _Failed(Failure.CERTIFICATE_UNUSABLE, f"{certificate} and its key cannot be read") from None
        _check_validity(certificate.read_bytes(), Failure.CERTIFICATE_UNUSABLE, "the client certificate")
    return context


@contextlib.contextmanager
def _client_files(settings: Settings) -> Iterator[tuple[Path, Path | None]]:
    """PEM files for the TLS library, which reads nothing else."""
    path = settings.client_certificate_file
    assert path is not None  # noqa: S101 - the caller looked
    try:
        content = path.read_bytes()
        if b"-----BEGIN" in content:
            yield path, settings.client_key_file
            return
        password = settings.client_certificate_password
        key, certificate, _ = pkcs12.load_key_and_certificates(content, password.encode() if password else None)
    except (OSError, ValueError):
        raise _Failed(Failure.CERTIFICATE_UNUSABLE, f"{path} cannot be read, or its password is wrong") from None
    if key is None or certificate is None:
        raise _Failed(Failure.CERTIFICATE_UNUSABLE, f"{path} holds no certificate with its key")
    pem = certificate.public_bytes(Encoding.PEM)
    pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    descriptor, name = tempfile.mkstemp(suffix=".pem")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        yield Path(name), None
    finally:
        Path(name).unlink()


def _check_validity(certificate: bytes, failure: Failure, what: str) -> None:
    try:
        load = x509.load_pem_x509_certificate if b"-----BEGIN" in certificate else x509.load_der_x509_certificate
        loaded = load(certificate)
    except ValueError:
        raise _Failed(failure, f"{what} cannot be read") from None
    now = datetime.now(UTC)  # noqa: TID251 - an edge: it shows and sees certificates
    if not loaded.not_valid_before_utc <= now <= loaded.not_valid_after_utc:
        raise _Failed(failure, f"{what} is not valid by this machine's clock")


class _Attempt:
    """One question at one address, in a thread: looking up a name cannot be cancelled."""

    def __init__(self, settings: Settings, service: str, context: ssl.SSLContext, body: bytes, request_id: str) -> None:
        self._settings = settings
        self._url: SplitResult = urlsplit(service)
        self._context = context
        self._body = body
        self._request_id = request_id
        self._secured: ssl.SSLSocket | None = None
        self._said: dict[str, Any] | None = None
        self._failed: _Failed | None = None

    def run(self, seconds: float) -> dict[str, Any]:
        """The members of a good answer. Raises _Failed."""
        late = _Failed(Failure.TIMEOUT, f"no answer within {max(seconds, 0) * 1000:.0f} ms")
        if seconds <= 0:
            raise late
        thread = threading.Thread(target=self._work, args=(seconds,), daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            if self._secured is not None:
                with contextlib.suppress(OSError):
                    self._secured.shutdown(socket.SHUT_RDWR)  # lets the thread end
            raise late
        if self._said is None:
            raise self._failed or _Failed(Failure.INTERNAL_ERROR, "there was no answer")
        return self._said

    def _work(self, seconds: float) -> None:
        try:
            self._said = self._ask(seconds)
        except _Failed as failed:
            self._failed = failed
        except TimeoutError:
            self._failed = _Failed(Failure.TIMEOUT, f"no answer within {seconds * 1000:.0f} ms")
        except ssl.SSLCertVerificationError as error:
            self._failed = _Failed(Failure.WRONG_CERTIFICATE, f"the service's certificate: {error.verify_message}")
        except ssl.SSLError as error:
            self._failed = _Failed(Failure.TLS_REFUSED, f"the TLS handshake failed ({error.reason})")
        except http.client.BadStatusLine as error:
            closed = isinstance(error, http.client.RemoteDisconnected)
            failure = Failure.NO_SERVICE if closed else Failure.WRONG_STATUS
            self._failed = _Failed(
                failure, "the connection ended" if closed else "what the service answered is not HTTP"
            )
        except http.client.HTTPException as error:
            self._failed = _Failed(
                Failure.WRONG_STATUS, f"what the service answered is not HTTP ({type(error).__name__})"
            )
        except OSError as error:
            self._failed = _Failed(Failure.NO_SERVICE, f"no connection to the service ({error.strerror or error})")
        except Exception as error:  # noqa: BLE001 - the answer is a deny
            self._failed = _Failed(Failure.INTERNAL_ERROR, type(error).__name__)

    def _ask(self, seconds: float) -> dict[str, Any]:
        host = self._url.hostname or ""
        connection = http.client.HTTPSConnection(host, self._url.port, timeout=seconds, context=self._context)
        with contextlib.closing(connection):
            connection.connect()
            secured = connection.sock
            assert isinstance(secured, ssl.SSLSocket)  # noqa: S101 - what HTTPSConnection is for
            self._secured = secured
            self._check_pin(secured)
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            connection.request("POST", DECISIONS, self._body, headers)
            with contextlib.closing(connection.getresponse()) as response:
                return read_answer(*_received(response), self._request_id)

    def _check_pin(self, connection: ssl.SSLSocket) -> None:
        der = connection.getpeercert(binary_form=True) or b""
        digest = hashlib.sha256(der).hexdigest()
        if self._settings.server_ca is None and digest not in self._settings.server_pins:
            raise _Failed(Failure.WRONG_CERTIFICATE, f"the service's certificate (SHA-256 {digest}) is not pinned")
        _check_validity(der, Failure.WRONG_CERTIFICATE, "the service's certificate")


def _received(response: http.client.HTTPResponse) -> tuple[int, str, bytes]:
    encoding = response.headers.get("Content-Encoding")
    types = response.headers.get_all("Content-Type") or []
    try:
        body = response.read(MAX_ANSWER_BYTES + 1)
        if len(body) <= MAX_ANSWER_BYTES and response.length:
            raise _Failed(Failure.ANSWER_TRUNCATED, "the connection ended within the answer")
    except http.client.IncompleteRead:
        raise _Failed(Failure.ANSWER_TRUNCATED, "the connection ended within the answer") from None
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException) as error:
        if response.status == 200:
            raise _Failed(Failure.ANSWER_TRUNCATED, f"the connection broke off ({type(error).__name__})") from None
        body = b""
    return response.status, "encoded" if encoding else ", ".join(types), body


_JSON = (["application/json"], ["application/json", "charset=utf-8"])
_MEMBERS = ("request_id", "decision_id", "decision", "reason", "rule", "security_context", "mode")


def read_answer(status: int, content_type: str, body: bytes, request_id: str) -> dict[str, Any]:  # noqa: C901, PLR0912
    """The members of an answer to this question, if it is exactly of the form of the contract."""
    if status in (401, 403):
        raise _Failed(Failure.CALLER_REFUSED, f"the service refused this caller with status {status}")
    if status in (429, 503):
        raise _Failed(Failure.OVERLOADED, f"the service turned the question away with status {status}")
    if status != 200:
        raise _Failed(Failure.WRONG_STATUS, f"the service answered with status {status}")
    if [part.strip() for part in content_type.lower().split(";")] not in _JSON:
        raise _Failed(Failure.WRONG_CONTENT_TYPE, "the answer is not application/json")
    if len(body) > MAX_ANSWER_BYTES:
        raise _Failed(Failure.ANSWER_TOO_LARGE, "the answer is too long")
    members = _json_object(body)
    for name in _MEMBERS:
        if name not in members:
            _unreadable(f"the member {name} is missing")
        if not isinstance(members[name], str) and not (name in ("rule", "security_context") and members[name] is None):
            _unreadable(f"the member {name} is not a string")
    if len(members) > len(_MEMBERS):
        _unreadable("it has a member that the contract has not")
    if members["request_id"] != request_id:
        raise _Failed(Failure.OTHER_REQUEST_ID, "the answer is to another question")
    allowed, good = members["decision"] == "allow", members["reason"] == "ok"
    if not allowed and members["decision"] != "deny":
        raise _Failed(Failure.UNKNOWN_DECISION, "the decision is neither allow nor deny")
    if members["mode"] not in ("enforce", "observe"):
        _unreadable("the mode is neither enforce nor observe")
    if not members["reason"]:
        _unreadable("the reason is empty")
    if not allowed and good:
        raise _Failed(Failure.ANSWER_CONTRADICTORY, "a deny whose reason is ok")
    if allowed and not good and members["mode"] != "observe":
        raise _Failed(Failure.ANSWER_CONTRADICTORY, "an allow with a reason against it")
    if allowed and not members["decision_id"]:
        raise _Failed(Failure.ANSWER_CONTRADICTORY, "an allow without a record")
    return members


def _unreadable(why: str) -> NoReturn:
    raise _Failed(Failure.ANSWER_UNREADABLE, why)


def _json_object(body: bytes) -> dict[str, Any]:
    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            _unreadable("a member stands there twice")
        return dict(pairs)

    try:
        loaded = json.loads(body.decode("utf-8"), object_pairs_hook=members)
        json.dumps(loaded, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        _unreadable("it is not JSON")
    if not isinstance(loaded, dict):
        _unreadable("it is not a JSON object")
    return loaded
