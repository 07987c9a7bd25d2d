from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from evidence_service.adapters.fas import PowerShellFas
from evidence_service.adapters.fas_objects import certificate_of, failed_test, failures_of, installed_of
from evidence_service.adapters.powershell import CmdletResult, ErrorRecord, instant
from evidence_service.renewal.cmdlets import MOST_EVENTS, Cmdlet
from evidence_service.renewal.farm import FasServer, Local, WinRm
from evidence_service.renewal.model import (
    Act,
    CertificateStatus,
    EnrollmentTest,
    EnterMaintenance,
    Import,
    Observation,
    Prove,
    RenewalPolicy,
    Request,
    Result,
    Retire,
    Switch,
    Verify,
    Withdraw,
)
from evidence_service.renewal.ports import FasAnswerUnknown, FasRefused, FasUnreachable
from evidence_service.renewal.reasons import RenewalReason
from idp_certs.reasons import Finding

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OLD = "0b3d4c0e-93a5-4f6b-8f60-0f0e3f3c2a11"
NEW = "5e0c5d5a-7c1e-4a0f-9a55-1d5c9f6f4b22"
CA = r"ca.corp.example\Corp CA"
UPN = "fas-test@corp.example"

Answer = CmdletResult | Exception
Answers = Mapping[str, Answer | list[Answer]]


class Console:
    """A PowerShell that gives prepared answers in turn, and nothing to what has none; keeps what was called."""

    def __init__(self, answers: Answers) -> None:
        """Prepare each cmdlet's answers; the last one lasts."""
        self.answers = {name: list(each) if isinstance(each, list) else [each] for name, each in answers.items()}
        self.calls: list[Cmdlet] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def invoke(self, cmdlet: Cmdlet) -> CmdletResult:
        """The next answer, raised where it is an exception."""
        self.calls.append(cmdlet)
        prepared = self.answers.get(cmdlet.name, [])
        answer = prepared.pop(0) if len(prepared) > 1 else (prepared or [CmdletResult()])[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def names(self) -> list[str]:
        """The names of the cmdlets that were called."""
        return [each.name for each in self.calls]


def objects(*found: Mapping[str, object]) -> CmdletResult:
    """An answer without errors."""
    return CmdletResult(objects=found)


def error(message: str, error_id: str = "", category: str = "NotSpecified") -> CmdletResult:
    """An answer with one error."""
    return CmdletResult(errors=(ErrorRecord(message=message, error_id=error_id, category=category),))


def raised_by(*exceptions: str) -> CmdletResult:
    """An answer with one error that the cmdlet made of an exception, with what caused that."""
    return CmdletResult(errors=(ErrorRecord(message="It failed.", error_id="Citrix", exceptions=exceptions),))


def certificate(**changes: object) -> dict[str, object]:
    """The properties of a usable authorization certificate."""
    return {"Id": OLD, "Address": CA, "TrustArea": NEW, "Status": "Ok", "ExpiryDate": NOW} | changes


DEFINITION: Mapping[str, object] = {
    "Name": "default_Definition",
    "MsTemplate": "Citrix_SmartcardLogon",
    "CertificateAuthorities": [CA],
    "AuthorizationCertificate": OLD,
}
AUTHORIZATION = "AuthorizationCertificate"
FARM: Answers = {
    "Get-FasAuthorizationCertificate": objects(certificate()),
    "Get-FasCertificateDefinition": objects(DEFINITION),
    "Get-FasRule": objects({"Name": "default", "CertificateDefinitions": ["default_Definition"]}),
    "Get-FasServer": objects({"Address": "fas1.corp.example", "MaintenanceMode": False}),
}
REQUEST = Request(
    reason=RenewalReason.DUE,
    replaces=OLD,
    known=frozenset({OLD}),
    certificate_authority=CA,
    certificate_template="Citrix_RegistrationAuthority",
    authorization_template="Citrix_RegistrationAuthority_ManualAuthorization",
    offline=False,
)
SWITCH = Switch(definition="default_Definition", before=OLD, after=NEW)
LEFT = "7f1d2a86-0c55-4be9-8d0e-6a1f0c2b9e33"
RETIRE = Retire(certificate_id=LEFT, replaced_by=OLD)
LISTED: Answers = {"Get-FasAuthorizationCertificate": objects(certificate(), certificate(Id=LEFT))}
PROVE = Prove(certificate_id=NEW, definition="test_Definition", rule="test", upn=UPN)


MOST_BEFORE = 2
"""The session is opened and the snap-in loaded before any cmdlet of the act."""


def fas(
    answers: Answers,
    *,
    address: str | None = None,
    at_point: Callable[[str], None] | None = None,
    policy: RenewalPolicy | None = None,
) -> tuple[PowerShellFas, Console]:
    """A FAS server behind that console."""
    console = Console({**FARM, **answers})
    server = FasServer(name="fas1.corp.example", policy=policy or RenewalPolicy(), connection=Local(), address=address)
    return PowerShellFas(server, lambda: console, at_point), console


def observed(answers: Answers, *, address: str | None = None) -> Observation:
    """What is observed where these answers differ from the usual ones."""
    return fas(answers, address=address)[0].observe(NOW)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("Ok", CertificateStatus.OK),
        ("Pending", CertificateStatus.PENDING),
        ("WaitingForApproval", CertificateStatus.WAITING_FOR_APPROVAL),
        ("Maintenance Required", CertificateStatus.MAINTENANCE_REQUIRED),
        ("maintenancedue", CertificateStatus.MAINTENANCE_DUE),
        ("Denied", CertificateStatus.DENIED),
        ("Revoked", None),
    ],
)
def test_a_status_word_of_any_release_is_known_and_another_is_kept_as_written(
    word: str, status: CertificateStatus | None
) -> None:
    """A word of no known release has no status, and stays readable for the person who must look."""
    found = certificate_of(certificate(Status=word))
    assert (found.status_word, found.status) == (word, status)


@pytest.mark.parametrize("text", [OLD.upper(), "{" + OLD + "}", "{" + OLD.upper() + "}"])
def test_an_id_is_the_same_however_a_release_writes_it(text: str) -> None:
    """Braces and upper case make no other certificate."""
    assert certificate_of(certificate(Id=text)).id == OLD


@pytest.mark.parametrize(
    ("written", "expires"),
    [
        (datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)),
        ("2026-06-01T02:00:00.0000000+02:00", datetime(2026, 6, 1, tzinfo=UTC)),
        ("2026-06-01 00:00:00Z", datetime(2026, 6, 1, tzinfo=UTC)),
        ("6/21/2026 1:30:00 PM", datetime(2026, 6, 21, 13, 30, tzinfo=UTC)),
        ("06/07/2026 00:00:00", None),
        (datetime(1, 1, 1, tzinfo=UTC), None),
        ("soon", None),
        ("21/6/2569 13:30:00", None),
        (datetime(9999, 12, 31, tzinfo=UTC), None),
        ({"UtcDateTime": datetime(2026, 6, 1, tzinfo=UTC), "Ticks": 1}, datetime(2026, 6, 1, tzinfo=UTC)),
        (["2026-06-01T00:00:00Z"], None),
        (20260601, None),
        (None, None),
    ],
)
def test_an_expiry_is_read_in_each_form_and_a_doubtful_one_is_unknown(
    written: object, expires: datetime | None
) -> None:
    """June 7 or July 6 is neither; DateTime's ends are .NET's words for none, and 2569 is of another calendar."""
    assert certificate_of(certificate(ExpiryDate=written)).expires == expires


def test_a_missing_expiry_is_unknown() -> None:
    """Releases that do not tell it are not guessed for."""
    found = certificate()
    del found["ExpiryDate"]
    assert certificate_of(found).expires is None


@pytest.mark.parametrize("area", [None, "", "00000000-0000-0000-0000-000000000000"])
def test_an_open_request_has_no_trust_area(area: str | None) -> None:
    """The empty GUID is .NET's word for none: it holds no key."""
    assert certificate_of(certificate(TrustArea=area)).trust_area is None


def test_an_offline_request_has_no_certificate_authority() -> None:
    """FAS writes [Offline CSR] in the place of the CA."""
    assert certificate_of(certificate(Address="[Offline CSR]")).certificate_authority is None


def test_a_request_is_read_although_its_header_says_certificate() -> None:
    """FAS frames its PKCS #10 as a certificate; the key in it is what the issued certificate is compared with."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "CitrixTrustFabric")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    body = base64.encodebytes(made.public_bytes(Encoding.DER)).decode()
    framed = f"-----BEGIN CERTIFICATE-----\r\n{body}-----END CERTIFICATE-----"
    found = certificate_of(certificate(CertificateRequest=framed))
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert found.request_key_sha256 == sha256(spki).hexdigest()
    assert (found.request_pem or "").startswith("-----BEGIN CERTIFICATE REQUEST-----")


@pytest.mark.parametrize("name", ["DenyReason", "StatusReason", "statusmessage", "Reason"])
def test_the_word_of_the_ca_is_kept_under_each_name_it_might_have(name: str) -> None:
    """The property is not published, so each likely one is read."""
    assert certificate_of(certificate(Status="Denied", **{name: "not in plan"})).denial == "not in plan"


@pytest.mark.parametrize(
    ("cmdlet", "answer", "missing"),
    [
        ("Get-FasAuthorizationCertificate", certificate(Id="mine"), "Id"),
        ("Get-FasAuthorizationCertificate", certificate(Status=None), "Status"),
        ("Get-FasCertificateDefinition", {**DEFINITION, "Name": ""}, "Name"),
        ("Get-FasCertificateDefinition", {"Name": "default_Definition"}, "AuthorizationCertificate"),
        ("Get-FasRule", {"Name": "default"}, "CertificateDefinitions"),
        ("Get-FasAuthorizationCertificate", certificate(Status=["Ok"]), "Status"),
        ("Get-FasAuthorizationCertificate", certificate(Id={"Guid": OLD}), "Id"),
        ("Get-FasAuthorizationCertificate", {"": "<Obj"}, "Status"),
        ("Get-FasCertificateDefinition", {**DEFINITION, "AuthorizationCertificate": "the old one"}, AUTHORIZATION),
        ("Get-FasCertificateDefinition", {**DEFINITION, "AuthorizationCertificate": [OLD]}, AUTHORIZATION),
        ("Get-FasCertificateDefinition", {**DEFINITION, "AuthorizationCertificate": 7}, AUTHORIZATION),
        ("Get-FasCertificateDefinition", {**DEFINITION, "CertificateAuthorities": [{"Address": CA}]}, "Certificate.*"),
        ("Get-FasRule", {"Name": "default", "CertificateDefinitions": [None]}, "CertificateDefinitions"),
        ("Get-FasRule", {"Name": "default", "CertificateDefinitions": {"Name": "x"}}, "CertificateDefinitions"),
        ("Get-FasRule", {"Name": ["default"], "CertificateDefinitions": []}, "Name"),
    ],
)
def test_what_cannot_be_read_is_refused_and_never_left_out(
    cmdlet: str, answer: Mapping[str, object], missing: str
) -> None:
    """A certificate or definition that nobody sees would be renewed around."""
    with pytest.raises(FasRefused) as refused:
        observed({cmdlet: objects(answer)})
    finding = refused.value.finding
    assert finding.reason is RenewalReason.NOT_UNDERSTOOD
    assert finding.where == cmdlet
    assert re.fullmatch(f"a readable {missing} on each object", finding.expected)


@pytest.mark.parametrize("cmdlet", ["Get-FasAuthorizationCertificate", "Get-FasCertificateDefinition", "Get-FasRule"])
def test_an_error_in_reading_is_no_empty_answer(cmdlet: str) -> None:
    """Access denied is not "no certificates"; FAS's own words are kept."""
    with pytest.raises(FasRefused, match=f"^{cmdlet}: Access is denied.$") as refused:
        observed({cmdlet: error("Access is\ndenied.")})
    assert refused.value.finding.reason is RenewalReason.REFUSED_BY_FAS


def test_a_release_without_full_information_is_asked_without_it() -> None:
    """The parameter is unknown there; without it only the expiry is."""
    unknown = error("A parameter cannot be found", "NamedParameterNotFound,Citrix.Command")
    seen = observed({"Get-FasAuthorizationCertificate": [unknown, objects(certificate(ExpiryDate=None))]})
    assert [(each.id, each.expires) for each in seen.certificates] == [(OLD, None)]


@pytest.mark.parametrize(
    ("answer", "maintenance"),
    [
        (objects({"Address": "FAS1.corp.example", "MaintenanceMode": True}), True),
        (objects({"Address": "fas1.corp.example", "MaintenanceMode": "False"}), False),
        (objects({"Address": "fas1.corp.example"}), None),
        (objects({"Address": "fas2.corp.example", "MaintenanceMode": True}), None),
        (error("no policy"), None),
    ],
)
def test_maintenance_is_that_of_this_server_or_unknown(answer: CmdletResult, maintenance: bool | None) -> None:
    """Another server's flag says nothing, and the machine's policy may list none."""
    assert observed({"Get-FasServer": answer}).maintenance is maintenance


@pytest.mark.parametrize(("address", "maintenance"), [(None, True), ("localhost", True), ("fas1.corp.example", None)])
def test_the_machine_of_the_session_is_the_server_only_without_an_address(
    address: str | None, maintenance: bool | None
) -> None:
    """The list may show it by the name that it is connected to; with an address that is another machine."""
    there = WinRm(host="FAS9.corp.example")
    server = FasServer(name="fas1", policy=RenewalPolicy(), connection=there, address=address)
    listed = objects({"Address": "fas9.corp.example", "MaintenanceMode": True})
    seen = PowerShellFas(server, lambda: Console({**FARM, "Get-FasServer": listed})).observe(NOW)
    assert seen.maintenance is maintenance


def test_every_fas_cmdlet_is_addressed_and_no_other() -> None:
    """From a management machine each cmdlet names the server; the log is read where the session runs."""
    server, console = fas({}, address="fas1.corp.example")
    server.observe(NOW)
    addressed = {each.name: each.parameters.get("Address") for each in console.calls}
    assert {address for name, address in addressed.items() if "-Fas" in name} == {"fas1.corp.example"}
    assert addressed["Get-WinEvent"] is None


S124 = (
    "[S124] Failed to issue a certificate for [upn: alice@corp.example role: default] at [certifcate authority: "
    rf"{CA}] [exception: MicrosoftCertificateAuthority::SubmitCertificateRequest – the CA returned CR_DISP_DENIED "
    "(code 2)]. [correlation: f901946c-1d9b-4351-9575-2f75eb24094c]"
)


def test_a_failure_to_issue_names_the_ca_and_nobody() -> None:
    """S124 with its CA and disposition, S123 without; the user's name stays in the server's log."""
    found = failures_of(
        [
            {"Id": 124, "TimeCreated": NOW, "Message": S124},
            {
                "Id": 123,
                "TimeCreated": NOW - timedelta(seconds=1),
                "Message": "[S123] Failed [upn: alice@corp.example]",
            },
            {"Id": 105, "TimeCreated": NOW, "Message": "[S105] issued"},
        ]
    )
    assert [(each.event, each.certificate_authority, each.disposition) for each in found] == [
        (123, None, None),
        (124, CA, 2),
    ]
    assert "alice" not in repr(found)


@pytest.mark.parametrize(
    ("answer", "failures"),
    [
        (error("none", "NoMatchingEventsFound,Microsoft.PowerShell.Commands.GetWinEventCommand"), ()),
        (error("The term 'Get-WinEvent' is not recognized", "CommandNotFoundException"), None),
    ],
)
def test_no_events_are_known_and_a_log_that_is_closed_to_us_is_not(
    answer: CmdletResult, failures: tuple[object, ...] | None
) -> None:
    """That none was found is an error record in PowerShell; a JEA endpoint without the cmdlet knows nothing."""
    assert observed({"Get-WinEvent": answer}).failures == failures


def test_the_log_gives_serial_and_begin_by_trust_area() -> None:
    """The newest listing of the area counts; an event without one is passed over."""
    text = f"Trust Area: {NEW.upper()}\r\nSerial Number: {{}}\r\nNot Before: {{}}\r\nNot After: 2027-01-01 00:00:00Z"
    found = installed_of(
        [
            {"Id": 1, "Message": text.format("0A1B2C3D4E5", "2026-01-01 00:00:00Z")},
            {"Id": 1, "Message": text.format("FFFFFFFFFFF", "2025-01-01 00:00:00Z")},
            {"Id": 1, "Message": "another text"},
        ]
    )
    assert [(key, each.serial, each.not_before) for key, each in found.items()] == [
        (NEW, "a1b2c3d4e5", datetime(2026, 1, 1, tzinfo=UTC))
    ]


def _page(newest: int, *, area: str | None = None) -> CmdletResult:
    """A full page of listings of users' certificates, with that of one area at its end."""
    text = "Trust Area: {}\r\nSerial Number: {}\r\nNot Before: 2026-01-01 00:00:00Z"
    areas = [f"00000000-0000-4000-8000-{number:012}" for number in range(newest, newest - MOST_EVENTS, -1)]
    return objects(
        *(
            {"Id": 1, "RecordId": newest - place, "Message": text.format(each, "0A1B2C3D4E")}
            for place, each in enumerate([*areas[:-1], area or areas[-1]])
        )
    )


def test_users_certificates_hide_none_of_fas_own() -> None:
    """Promise 58: without its serial number nobody learns of a revocation; what was read once is kept."""
    none = objects()
    server, console = fas({"Get-WinEvent": [none, _page(9000), _page(8500), _page(8000, area=NEW), none]})
    (first,) = server.observe(NOW).certificates
    assert first.serial == "a1b2c3d4e"
    queries = [str(each.parameters["FilterXPath"]) for each in console.calls if each.name == "Get-WinEvent"][1:]
    assert [query.partition("EventRecordID < ")[2] for query in queries] == ["", "8501]]", "8001]]"]

    server, console = fas({"Get-WinEvent": [none, _page(9900)]})
    (again,) = server.observe(NOW, replace(observed({}), certificates=(first,))).certificates
    assert again.serial == first.serial
    assert again.not_before == first.not_before
    assert console.names.count("Get-WinEvent") == 2, "what was looked for once is not looked for each time"


def test_a_log_without_end_is_read_to_a_bound() -> None:
    """Whoever may write there can have it listed for ever."""
    server, console = fas({"Get-WinEvent": _page(9000)})
    (found,) = server.observe(NOW).certificates
    assert found.serial is None
    assert console.names.count("Get-WinEvent") == 11


def test_a_request_answers_with_its_id() -> None:
    """The id that FAS answers with, in its own writing."""
    answer = objects(certificate(Id=NEW.upper(), Status="WaitingForApproval"))
    performed = fas({"New-FasAuthorizationCertificate": answer})[0].perform(REQUEST)
    assert (performed.result, performed.certificate_id) == (Result.DONE, NEW)


@pytest.mark.parametrize(
    ("after", "result", "certificate_id"),
    [
        ([OLD, NEW], Result.DONE, NEW),
        ([OLD], Result.UNKNOWN, None),
        ([OLD, NEW, "7b0a6c1e-6f0e-4f57-8a62-6d0f6c9b7c33"], Result.UNKNOWN, None),
    ],
)
def test_a_request_without_an_answer_is_found_by_the_difference(
    after: list[str], result: Result, certificate_id: str | None
) -> None:
    """FAS 1906 and older answer nothing; only exactly one new id is surely ours (promise 45)."""
    listed = objects(*(certificate(Id=each) for each in after))
    performed = fas({"Get-FasAuthorizationCertificate": listed})[0].perform(REQUEST)
    assert (performed.result, performed.certificate_id) == (result, certificate_id)


def test_a_switch_is_read_back() -> None:
    """FAS accepted it, and the definition still names the old one."""
    performed = fas({})[0].perform(SWITCH)
    finding = performed.finding
    assert performed.result is Result.FAILED
    assert finding is not None
    assert (finding.reason, finding.expected, finding.presented) == (RenewalReason.NOT_READ_BACK, NEW, OLD)


@pytest.mark.parametrize(("flag", "result"), [(True, Result.DONE), (False, Result.FAILED), (None, Result.DONE)])
def test_maintenance_is_read_back_where_the_release_tells_it(flag: bool | None, result: Result) -> None:
    """A release that does not show the flag cannot contradict."""
    shown = objects({"Address": "fas1.corp.example", "MaintenanceMode": flag})
    assert fas({"Get-FasServer": shown})[0].perform(EnterMaintenance(certificate_id=NEW)).result is result


def test_a_removal_without_the_parameter_that_keeps_users_is_not_tried_again_without_it() -> None:
    """FAS 7.17 lacks -DeleteUserCerts: removing there would cut users off, so it fails (promise 47)."""
    refusal = error("A parameter cannot be found that matches 'DeleteUserCerts'.", "NamedParameterNotFound,Citrix")
    server, console = fas({**LISTED, "Remove-FasAuthorizationCertificate": refusal})
    performed = server.perform(RETIRE)
    assert performed.result is Result.FAILED
    assert performed.finding is not None
    assert performed.finding.expected == "a FAS release whose Remove-FasAuthorizationCertificate knows the parameter"
    assert console.names.count("Remove-FasAuthorizationCertificate") == 1


def test_a_release_without_the_test_says_what_it_lacks() -> None:
    """Test-FasCertificateSigningRequest came with 1906, and a JEA role may leave it out."""
    missing = error("The term is not recognized", "CommandNotFoundException")
    finding = fas({"Test-FasCertificateSigningRequest": missing})[0].perform(PROVE).finding
    assert finding is not None
    assert finding.reason is RenewalReason.PROOF_FAILED
    assert finding.expected == (
        "a FAS release, and a session configuration, that have Test-FasCertificateSigningRequest"
    )


@pytest.mark.parametrize(
    "act", [Retire(certificate_id=OLD, replaced_by=NEW), Withdraw(reason=RenewalReason.ASKED, certificate_id=OLD)]
)
def test_what_a_definition_names_by_now_is_not_removed(act: Act) -> None:
    """Promise 47: somebody pointed one there since the observation, or the definitions cannot be read."""
    server, console = fas({})
    performed = server.perform(act)
    assert performed.result is Result.FAILED
    assert performed.finding is not None
    assert performed.finding.reason is RenewalReason.NOT_READ_BACK
    assert performed.finding.presented == "default_Definition"
    unread, other = fas({"Get-FasCertificateDefinition": error("Access is denied")})
    assert unread.perform(act).result is Result.FAILED
    assert "Remove-FasAuthorizationCertificate" not in console.names + other.names


def test_a_certificate_that_is_gone_already_is_removed() -> None:
    """An error about what is no longer there is no failure, once reading shows it."""
    gone = {
        "Remove-FasAuthorizationCertificate": error("not found", category="ObjectNotFound"),
        "Get-FasAuthorizationCertificate": objects(certificate(Id=NEW)),
    }
    assert fas(gone)[0].perform(RETIRE).result is Result.DONE


@pytest.mark.parametrize(
    "answer",
    [
        error("the CA returned CR_DISP_DENIED (code 2)"),
        objects({"Success": False}),
        objects({"Succeeded": "false"}),
        objects({"Success": True, "Exception": "the CA returned CR_DISP_DENIED (code 2)"}),
        objects({"Result": "Failed"}),
        objects({"": False}),
        objects({"": "<Obj RefId='0'>"}),
        objects({"Success": None}),
        objects({"Passed": "no"}),
        objects({"Result": "Rejected"}),
        objects({"Outcome": 3}),
        objects({"Result": {"Success": False}}),
    ],
)
def test_anything_that_could_mean_a_failed_test_is_one(answer: CmdletResult) -> None:
    """The properties of a test's result are not published, so every likely word counts (promise 47)."""
    performed = fas({"Test-FasCertificateSigningRequest": answer})[0].perform(PROVE)
    assert performed.result is Result.FAILED
    assert performed.finding is not None
    assert performed.finding.reason is RenewalReason.PROOF_FAILED


@pytest.mark.parametrize(
    "answer",
    [
        CmdletResult(),
        objects({"Success": True, "Error": None}),
        objects({"": True}),
        objects({"Result": "Passed", "Status": None}),
        objects({"Result": {"Success": True}}),
        objects({"Duration": "P1D"}),
    ],
)
def test_a_test_without_a_word_against_it_is_passed(answer: CmdletResult) -> None:
    """An error record is how FAS says no; silence is success."""
    assert fas({"Test-FasCertificateSigningRequest": answer})[0].perform(PROVE).result is Result.DONE


def test_the_first_failed_test_of_a_rule_ends_the_verification() -> None:
    """Its words are kept, and nothing else is asked of FAS."""
    act = Verify(
        certificate_id=NEW,
        upn=UPN,
        tests=(EnrollmentTest(rule="a", definition="x"), EnrollmentTest(rule="b", definition="x")),
    )
    server, console = fas({"Test-FasCertificateSigningRequest": error("no rights")})
    finding = server.perform(act).finding
    assert finding is not None
    assert (finding.reason, finding.presented) == (RenewalReason.VERIFY_FAILED, "no rights")
    assert len(console.calls) == 1


def test_what_the_check_found_is_not_tested() -> None:
    """A certificate that failed the check is not pointed at, and the proof fails by the first finding (promise 56)."""
    server, console = fas({})
    found = Finding(reason=RenewalReason.ISSUED_EXPORTABLE)
    performed = server.perform(Prove(certificate_id=NEW, findings=(found,), definition="t", rule="t", upn=UPN))
    assert (performed.result, performed.finding, console.calls) == (Result.FAILED, found, [])


def test_the_file_of_an_import_is_removed_when_the_import_fails() -> None:
    """FAS's answer is kept and the file is not."""
    server, console = fas({"Import-FasAuthorizationCertificateResponse": error("No certificate is for the key")})
    performed = server.perform(Import(certificate_id=NEW, response=b"p7b", ask=1))
    assert performed.finding is not None
    assert performed.finding.presented == "No certificate is for the key"
    assert console.names[-1] == "Remove-Item"


def test_what_a_cut_off_import_left_is_removed_before_the_next_act() -> None:
    """Only files of that very form, and only where requests are made as files; whatever comes of it stops nothing."""
    for removal in (CmdletResult(), error("not allowed", "NamedParameterNotFound")):
        server, console = fas({"Remove-Item": removal}, policy=RenewalPolicy(offline=True))
        assert server.perform(RETIRE).result is Result.DONE
        assert console.names == [
            "Remove-Item",
            "Get-FasCertificateDefinition",
            "Remove-FasAuthorizationCertificate",
        ]
        assert console.calls[0].parameters == {
            "Path": r"C:\Windows\Temp\fas-evidence-????????-????-????-????-????????????.p7b"
        }
    server, console = fas({})
    server.perform(RETIRE)
    assert "Remove-Item" not in console.names


def test_a_session_that_is_lost_in_removing_leftovers_has_asked_fas_nothing() -> None:
    """So the act is not unknown, and is done next time."""
    server, console = fas({"Remove-Item": FasAnswerUnknown("cut")}, policy=RenewalPolicy(offline=True))
    with pytest.raises(FasUnreachable, match="cut"):
        server.perform(RETIRE)
    assert console.names == ["Remove-Item"]


def test_every_error_record_is_kept() -> None:
    """FAS may write several; a person needs them all."""
    both = CmdletResult(errors=(ErrorRecord(message="first"), ErrorRecord(message="second")))
    finding = fas({"Set-FasCertificateDefinition": both})[0].perform(SWITCH).finding
    assert finding is not None
    assert (finding.presented, finding.where) == ("first; second", "Set-FasCertificateDefinition")


@pytest.mark.parametrize(
    ("answers", "raised"),
    [
        ({"Set-FasCertificateDefinition": FasUnreachable("refused")}, FasUnreachable),
        ({"Set-FasCertificateDefinition": FasAnswerUnknown("cut")}, FasAnswerUnknown),
        ({"Get-FasCertificateDefinition": FasUnreachable("refused")}, FasAnswerUnknown),
        ({"Set-FasCertificateDefinition": error("slow", "System.TimeoutException,Citrix")}, FasAnswerUnknown),
        ({"Set-FasCertificateDefinition": error("slow", category="OperationTimeout")}, FasAnswerUnknown),
        ({"Set-FasCertificateDefinition": raised_by("Citrix.X", "System.TimeoutException")}, FasAnswerUnknown),
        ({"Set-FasCertificateDefinition": raised_by("System.ServiceModel.CommunicationException")}, FasAnswerUnknown),
        ({"Get-FasCertificateDefinition": error("Access is denied.")}, FasAnswerUnknown),
        ({"Get-FasCertificateDefinition": objects({"Name": "default_Definition"})}, FasAnswerUnknown),
    ],
)
def test_a_connection_that_is_lost_after_a_change_leaves_the_answer_unknown(
    answers: Answers, raised: type[Exception]
) -> None:
    """Unreachable says that nothing was asked, which is untrue once a change was sent (promise 46)."""
    with pytest.raises(raised):
        fas(answers)[0].perform(SWITCH)


def test_what_fas_answers_with_a_fault_is_an_answer() -> None:
    """A FaultException is a kind of CommunicationException, but FAS has said no by it."""
    fault = raised_by("System.ServiceModel.FaultException`1[[Citrix.Fault, Citrix]]")
    performed = fas({"Set-FasCertificateDefinition": fault})[0].perform(SWITCH)
    assert (performed.result, performed.finding and performed.finding.presented) == (Result.FAILED, "It failed.")


def test_the_points_stand_around_what_changes_only() -> None:
    """Where a test kills the process is before or after each change, never around reading."""
    points: list[str] = []
    fas({}, at_point=points.append)[0].perform(SWITCH)
    assert points == ["Set-FasCertificateDefinition:before", "Set-FasCertificateDefinition:after"]


def test_a_value_that_says_nothing_fails_no_test() -> None:
    """Empty words of failure are how a passed test may look."""
    assert failed_test({"Success": True, "Errors": [], "Failed": False, "Exception": None, "Duration": "1"}) is None


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-01-01T12:00:00.1234567Z", datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)),
        ("2026-01-01T12:00:00+01:00", datetime(2026, 1, 1, 11, tzinfo=UTC)),
        ("2026-01-01T12:00:00", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("9999-12-31T23:59:59-01:00", None),
        ("2026-01-01", None),
        ("Ok", None),
    ],
)
def test_only_a_whole_xml_instant_is_one(text: str, read: datetime | None) -> None:
    """PSRP's date-times arrive as text; other text stays text."""
    assert instant(text) == read


@pytest.mark.parametrize(
    "message",
    [
        "[certificate authority:" + " " * 30_000,
        "serial" + " " * 30_000,
        "not before" + " " * 30_000,
        "CR_DISP_DENIED (code " + "9" * 5_000 + ")",
    ],
)
def test_no_event_that_somebody_wrote_into_the_log_stops_the_reading(message: str) -> None:
    """Whoever may log on to the server may write such an event; it ends in no endless search and no error."""
    event = {"Id": 124, "TimeCreated": datetime(2026, 3, 2, tzinfo=UTC), "Message": message}
    (failure,) = failures_of([event])
    assert failure.certificate_authority is None
    area = f"trust area {AREA} {message}"
    assert set(installed_of([{**event, "Id": 1, "Message": area}])) == {AREA}


def test_the_words_of_fas_are_one_line_that_a_person_can_read() -> None:
    """They go into the journal, mails and the terminal, and come from outside."""
    flood = error("no\r\n" + "x" * 10_000_000)
    performed = fas({**LISTED, "Remove-FasAuthorizationCertificate": flood})[0].perform(RETIRE)
    assert performed.finding is not None
    assert performed.finding.presented.startswith("no xxx")
    assert len(performed.finding.presented) == 500


def test_what_is_no_request_is_shown_to_nobody() -> None:
    """It would be printed for a person to sign."""
    found = certificate_of(certificate(CertificateRequest="\x1b]0;gotcha\x07 bm90aGluZw=="))
    assert (found.request_pem, found.request_key_sha256) == (None, None)


def test_the_words_of_a_certificate_are_printable_lines() -> None:
    """A status and a denial are shown in consoles and mails."""
    found = certificate_of(certificate(Status="O\x1b[2Jk", DenyReason="no\r\nSubject: x\u202e"))
    assert (found.status, found.status_word, found.denial) == (None, "O\\x1b[2Jk", "no Subject: x\\u202e")


def test_a_number_that_no_machine_counts_to_is_unknown() -> None:
    """It comes from outside and must end no observation."""
    found = {"Id": AREA, "Status": "Ok", "KeyLength": "9" * 5_000}
    assert certificate_of(found).key_length is None


AREA = "0f0e0d0c-0b0a-0908-0706-050403020100"


@pytest.mark.parametrize(
    "act",
    [REQUEST, SWITCH, RETIRE, Import(certificate_id=NEW, response=b"p7b", ask=1), EnterMaintenance(certificate_id=NEW)],
)
def test_the_longest_call_has_time_for_all_that_comes_before_it(act: Act) -> None:
    """However slow each was, a call of a process that died is over before another way is taken."""
    policy = RenewalPolicy(offline=True)
    there, console = fas(LISTED, policy=policy)
    changing = ("New-", "Set-Fas", "Remove-Fas", "Import-")
    there.perform(act)
    last = max(number for number, name in enumerate(console.names, 1) if name.startswith(changing))

    remoting = WinRm(host="fas1.corp.example", connect_seconds=15.0, operation_seconds=100.0)
    server = FasServer(name="fas1.corp.example", policy=policy, connection=remoting)
    assert server.longest_call >= timedelta(seconds=15.0 + (MOST_BEFORE + last) * 100.0)
