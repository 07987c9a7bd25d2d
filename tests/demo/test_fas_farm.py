"""The simulated farm: what FAS and its CA do by `domain/fas.md`, and the faults that can be planted in them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from evidence_service.adapters.powershell import CmdletResult
from evidence_service.demo.fas_ca import (
    AGENT,
    CA_MANAGER,
    MANUAL,
    REQUEST_AGENT,
    SMARTCARD,
    ApprovalRefused,
    Disposition,
)
from evidence_service.demo.fas_farm import FarmSession, SimulatedFarm
from evidence_service.demo.fas_server import FAS_SOURCE, PKI_SOURCE, RELEASES
from evidence_service.renewal.cmdlets import Cmdlet, failure_events, installed_events, observing_cmdlets
from evidence_service.renewal.ports import FasAnswerUnknown, FasUnreachable

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
FAS1, FAS2 = "fas1.corp.example", "fas2.corp.example"
GET, NEW, REMOVE, TEST = (
    "Get-FasAuthorizationCertificate",
    "New-FasAuthorizationCertificate",
    "Remove-FasAuthorizationCertificate",
    "Test-FasCertificateSigningRequest",
)
ALICE = {"UserPrincipalName": "alice@corp.example", "Rule": "default"}
NOTICED = timedelta(minutes=2)


@pytest.fixture
def farm() -> SimulatedFarm:
    """Two servers, of which the first has a certificate with forty days to go, and three users' certificates."""
    farm = SimulatedFarm(NOW)
    farm.install(FAS1, expires=NOW + timedelta(days=40), user_certificates=3)
    return farm


@pytest.fixture
def session(farm: SimulatedFarm) -> FarmSession:
    """A session on the first server."""
    return farm.powershell(FAS1)


def invoke(session: FarmSession, name: str, **parameters: str | bool | int | bytes | tuple[str, ...]) -> CmdletResult:
    """One call."""
    return session.invoke(Cmdlet(name=name, parameters=parameters))


def request(farm: SimulatedFarm, name: str = FAS1) -> str:
    """Ask for a new certificate; its id."""
    before = set(farm.server(name).certificates)
    result = farm.call(
        name,
        NEW,
        CertificateAuthority=farm.ca.address,
        CertificateTemplate=AGENT,
        AuthorizationTemplate=MANUAL,
    )
    assert result.errors == ()
    (made,) = set(farm.server(name).certificates) - before
    return made


def renewed(farm: SimulatedFarm) -> str:
    """Ask for a new certificate, and issue it; its id."""
    made = request(farm)
    farm.ca.issue(farm.ca.pending[0].number)
    farm.advance(NOTICED)
    return made


def entry(farm: SimulatedFarm, certificate_id: str, name: str = FAS1) -> Mapping[str, object]:
    """An entry as the cmdlet shows it."""
    objects = farm.call(name, GET, FullCertInfo=True).objects
    return next(each for each in objects if each["Id"] == certificate_id)


def word(farm: SimulatedFarm, certificate_id: str) -> object:
    """Its status word."""
    return entry(farm, certificate_id)["Status"]


def events(farm: SimulatedFarm, source: str = FAS_SOURCE) -> list[int]:
    """The ids of what a source has logged on the first server, oldest first."""
    return [each.event for each in farm.server(FAS1).events if each.provider == source]


def errors(result: CmdletResult) -> list[str]:
    """The ids of error records, without the cmdlet's type."""
    return [each.error_id.partition(",")[0] for each in result.errors]


def test_a_certificate_is_made_in_two_requests(farm: SimulatedFarm) -> None:
    """The first waits for the CA manager, FAS makes the second by itself, and the id stays."""
    made = request(farm)
    (pending,) = farm.ca.pending
    assert (pending.requester, pending.template, word(farm, made)) == (r"CORP\FAS1$", MANUAL, "WaitingForApproval")
    assert (entry(farm, made)["TrustArea"], entry(farm, made)["CertificateRequestId"]) == (None, pending.number)

    farm.ca.issue(pending.number)
    farm.advance(NOTICED - timedelta(seconds=1))
    assert word(farm, made) == "WaitingForApproval"
    farm.advance(timedelta(seconds=1))

    shown, issued = entry(farm, made), farm.ca.requests[pending.number + 1]
    certificate = farm.server(FAS1).certificates[made].certificate
    assert certificate is not None
    assert (issued.template, issued.decided_by, shown["Status"]) == (AGENT, "policy module", "Ok")
    assert (shown["CertificateRequestId"], shown["CertificateRequest"]) == (issued.number, None)
    assert shown["ExpiryDate"] == certificate.not_valid_after_utc == NOW + NOTICED + timedelta(days=329)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [REQUEST_AGENT]
    certificate.verify_directly_issued_by(farm.ca.certificate)
    assert events(farm) == [4]
    assert events(farm, PKI_SOURCE) == [1, 111, 1]


def test_the_text_of_a_request_is_framed_as_fas_frames_it(farm: SimulatedFarm) -> None:
    """The frame says certificate, and a request signed with SHA-512 is in it."""
    pem = entry(farm, request(farm))["CertificateRequest"]

    assert isinstance(pem, str)
    assert pem.startswith("-----BEGIN CERTIFICATE-----\n")
    csr = x509.load_pem_x509_csr(pem.replace(" CERTIFICATE-", " CERTIFICATE REQUEST-").encode())
    algorithm = csr.signature_hash_algorithm
    assert algorithm is not None
    assert (csr.subject.rfc4514_string(), algorithm.name, csr.is_signature_valid) == (
        "DC=CitrixTrustFabric",
        "sha512",
        True,
    )


def test_properties_are_those_that_are_known(farm: SimulatedFarm) -> None:
    """Without -FullCertInfo no expiry; with it the eight more; never a property `Certificate`."""
    (short,) = farm.call(FAS1, GET).objects
    (full,) = farm.call(FAS1, GET, FullCertInfo=True).objects

    assert set(short) == {"Id", "Address", "TrustArea", "CertificateRequest", "Status"}
    assert set(full) - set(short) == {
        "ExpiryDate",
        "ThumbPrint",
        "CertificateRequestId",
        "PrivateKeyProvider",
        "PrivateKeyIsCng",
        "KeyLength",
        "Exportable",
    }


@pytest.mark.parametrize(
    ("release", "pending", "denied", "early", "last_days"),
    [
        ("7.17", "Pending", "Pending", "Ok", "MaintenanceRequired"),
        ("1903", "WaitingForApproval", "WaitingForApproval", "NotYetValid", "MaintenanceRequired"),
        ("1906", "WaitingForApproval", "WaitingForApproval", "NotYetValid", "Ok"),
        *((each, "WaitingForApproval", "Denied", "NotYetValid", "Ok") for each in RELEASES[3:]),
    ],
)
def test_each_release_has_its_words(release: str, pending: str, denied: str, early: str, last_days: str) -> None:
    """The status words of a release, and a reason of a denial only where there is a word for it."""
    farm = SimulatedFarm(NOW, release=release)
    old = farm.install(FAS1, expires=NOW + timedelta(days=29))
    assert word(farm, old) == last_days
    farm.advance(timedelta(days=29))
    assert word(farm, old) == "Expired"

    refused = request(farm)
    assert word(farm, refused) == pending
    farm.ca.deny(farm.ca.pending[0].number, "not in the change calendar")
    farm.advance(NOTICED)
    assert word(farm, refused) == denied
    assert entry(farm, refused).get("DenyReason") == ("not in the change calendar" if denied == "Denied" else None)

    farm.ca.clock_ahead = timedelta(minutes=10)
    made = renewed(farm)
    assert word(farm, made) == early
    farm.advance(timedelta(minutes=10))
    assert word(farm, made) == "Ok"


def test_older_releases_have_fewer_parameters_and_cmdlets() -> None:
    """What a release lacks is refused as PowerShell refuses it; up to 1906 a request answers nothing."""
    oldest, middle = SimulatedFarm(NOW, release="7.17"), SimulatedFarm(NOW, release="1906")
    certificate = oldest.install(FAS1, expires=NOW + timedelta(days=40))

    assert errors(oldest.call(FAS1, REMOVE, Id=certificate, DeleteUserCerts=False)) == ["NamedParameterNotFound"]
    assert errors(oldest.call(FAS1, TEST, **ALICE)) == ["CommandNotFoundException"]
    assert errors(middle.call(FAS1, "Get-FasRaCertificateMonitor")) == ["CommandNotFoundException"]
    assert errors(oldest.call(FAS1, GET, FullCertInfo=None)) == ["MissingArgument"]
    assert "ExpiryDate" in oldest.call(FAS1, GET).objects[0]
    answer = middle.call(FAS1, NEW, CertificateAuthority=middle.ca.address, CertificateTemplate=AGENT)
    assert (answer.objects, answer.errors, len(middle.ca.pending)) == ((), (), 1)


def test_an_unknown_release_is_refused() -> None:
    """A typing error does not become a release with other words."""
    with pytest.raises(ValueError, match=r"release '2400' is not simulated; use one of 7\.17"):
        SimulatedFarm(NOW, release="2400")


def test_the_requester_does_not_approve(farm: SimulatedFarm) -> None:
    """Neither without Manage CA nor with it does the account that asked decide (promise 62)."""
    request(farm)
    (pending,) = farm.ca.pending
    with pytest.raises(ApprovalRefused, match="has no Manage CA"):
        farm.ca.issue(pending.number, by=r"CORP\svc-fas-renewal")
    farm.ca.managers |= {pending.requester}
    for decide in (farm.ca.issue, farm.ca.deny):
        with pytest.raises(ApprovalRefused, match=f"made request {pending.number} and cannot decide it"):
            decide(pending.number, by=pending.requester.lower())

    assert pending.disposition is Disposition.PENDING
    farm.ca.issue(pending.number, by=CA_MANAGER)
    assert len(farm.ca.pending) == 0
    with pytest.raises(ValueError, match="No request"):
        farm.ca.issue(pending.number)


def test_the_second_request_needs_the_first_to_be_approved(farm: SimulatedFarm) -> None:
    """Nobody gets an authorization certificate by asking for its template directly."""
    result = farm.call(
        FAS1, NEW, CertificateAuthority=farm.ca.address, CertificateTemplate=AGENT, AuthorizationTemplate=AGENT
    )

    assert result.objects[0]["Status"] == "Denied"
    assert "0x80094809" in str(result.objects[0]["DenyReason"])


def test_policy_denies_at_submission(farm: SimulatedFarm) -> None:
    """A template that is not published, or that FAS servers may not enroll by, is denied at once."""
    farm.ca.published.remove(MANUAL)
    unpublished = entry(farm, request(farm))
    farm.ca.published.add(MANUAL)
    farm.ca.denies_submissions = "Denied by Policy Module"
    denied = entry(farm, request(farm))

    assert "0x80094800" in str(unpublished["DenyReason"])
    assert (denied["Status"], denied["DenyReason"]) == ("Denied", "Denied by Policy Module")


def test_a_ca_that_does_not_answer_leaves_nothing_behind(farm: SimulatedFarm) -> None:
    """The cmdlet fails, and no entry is made."""
    farm.ca.unreachable = True
    result = farm.call(FAS1, NEW, CertificateAuthority=farm.ca.address, CertificateTemplate=AGENT)

    assert "0x800706ba" in result.errors[0].message
    assert (len(farm.server(FAS1).certificates), len(farm.ca.pending)) == (1, 0)


def test_templates_decide_who_enrolls_and_for_how_long(farm: SimulatedFarm) -> None:
    """Without Enroll for the FAS servers' machine accounts each request is denied; the lifetime is the template's."""
    farm.ca.set_lifetime(timedelta(days=730))
    long_lived = renewed(farm)
    farm.ca.publish(replace(farm.ca.templates[SMARTCARD], sddl="O:DAG:DAD:PAI(A;;LCRPLORC;;;AU)"))
    farm.call(FAS1, TEST, **ALICE)
    farm.ca.publish(replace(farm.ca.templates[MANUAL], sddl="O:DAG:DAD:PAI(A;;LCRPLORC;;;AU)"))
    denied = request(farm)

    assert entry(farm, long_lived)["ExpiryDate"] == farm.now + timedelta(days=730)
    assert events(farm)[-3:] == [124, 123, 4]
    assert "CERTSRV_E_TEMPLATE_DENIED" in str(entry(farm, denied)["DenyReason"])


def test_decisions_are_noticed_as_late_as_told(farm: SimulatedFarm) -> None:
    """Where the CA is slow, FAS waits longer."""
    farm.ca.slow = timedelta(minutes=30)
    made = renewed(farm)
    assert word(farm, made) == "WaitingForApproval"
    farm.advance(timedelta(minutes=30))

    assert word(farm, made) == "Ok"


def test_users_certificates_are_kept_and_listed(farm: SimulatedFarm) -> None:
    """A real request keeps one, a test none; at most 250 are listed unless told."""
    farm.call(FAS1, "New-FasUserCertificate", **ALICE, CertificateDefinition="default_Definition")
    farm.call(FAS1, TEST, **ALICE)
    (alice,) = farm.call(FAS1, "Get-FasUserCertificate", UserPrincipalName="Alice@corp.example").objects

    assert alice["ExpiryDate"] == NOW + timedelta(days=7)
    assert len(farm.call(FAS1, "Get-FasUserCertificate").objects) == 4
    for chosen, count in (({"Rule": "DEFAULT"}, 4), ({"Rule": "other"}, 0), ({"CertificateDefinition": "other"}, 0)):
        assert len(farm.call(FAS1, "Get-FasUserCertificate", **chosen).objects) == count
    assert len(farm.call(FAS1, "Get-FasUserCertificate", MaximumRecordCount=2).objects) == 2
    farm.install(FAS2, expires=NOW + timedelta(days=40), user_certificates=300)
    assert len(farm.call(FAS2, "Get-FasUserCertificate").objects) == 250


def test_a_cached_certificate_is_not_asked_for_again(farm: SimulatedFarm) -> None:
    """A second request answers with the first certificate, without asking the CA."""
    asked = {**ALICE, "CertificateDefinition": "default_Definition"}
    first = farm.call(FAS1, "New-FasUserCertificate", **asked)
    farm.advance(timedelta(hours=1))
    farm.ca.refuse_users()

    assert farm.call(FAS1, "New-FasUserCertificate", **asked) == first
    assert len(farm.server(FAS1).users) == 4


def test_users_certificates_are_listed_among_the_installed(farm: SimulatedFarm, session: FarmSession) -> None:
    """PkiCore's event 1 tells of them too, in trust areas of their own, so that nobody takes one for FAS's own."""
    farm.call(FAS1, "New-FasUserCertificate", **ALICE, CertificateDefinition="default_Definition")
    user, authorization = session.invoke(installed_events()).objects

    assert "Subject: CN=alice@corp.example" in str(user["Message"])
    area = str(farm.call(FAS1, GET).objects[0]["TrustArea"])
    assert [area in str(each["Message"]) for each in (user, authorization)] == [False, True]


def test_one_ca_of_the_definition_is_tested(farm: SimulatedFarm) -> None:
    """The first, or the one that is named, which must be one of them; a request goes on to the next."""
    other = r"ca2.corp.example\Other CA"
    farm.call(
        FAS1,
        "Set-FasCertificateDefinition",
        Name="default_Definition",
        CertificateAuthorities=(other, farm.ca.address),
    )
    first, second, third = (
        farm.call(FAS1, TEST, **ALICE, **chosen).errors
        for chosen in ({}, {"CertificateAuthority": farm.ca.address.upper()}, {"CertificateAuthority": r"x\Y"})
    )

    assert ("at all configured" in first[0].message, second) == (True, ())
    assert third[0].message == r"Definition default_Definition does not name the certificate authority x\Y"
    assert events(farm) == [7, 124, 123]
    farm.call(FAS1, "New-FasUserCertificate", **ALICE, CertificateDefinition="default_Definition")
    assert events(farm) == [7, 124, 123, 124, 12]


def test_a_person_may_have_to_issue_the_second_too(farm: SimulatedFarm) -> None:
    """Where its template needs approval as well, FAS waits again, and takes an empty word for no denial."""
    farm.ca.publish(replace(farm.ca.templates[AGENT], pends=True))
    made = renewed(farm)
    (pending,) = farm.ca.pending
    assert (pending.template, word(farm, made)) == (AGENT, "WaitingForApproval")
    assert entry(farm, made)["CertificateRequestId"] == pending.number

    farm.ca.issue(pending.number)
    farm.advance(NOTICED)
    assert word(farm, made) == "Ok"


def test_the_second_request_waits_for_the_ca(farm: SimulatedFarm) -> None:
    """FAS asks again until the CA answers, and the certificate begins then."""
    made = request(farm)
    farm.ca.issue(farm.ca.pending[0].number)
    farm.ca.unreachable = True
    farm.advance(timedelta(hours=1))
    assert word(farm, made) == "WaitingForApproval"
    farm.ca.unreachable = False

    assert entry(farm, made)["ExpiryDate"] == NOW + timedelta(hours=1, days=329)
    assert events(farm, PKI_SOURCE) == [1, 111, 1]


def test_what_is_issued_by_mistake_differs_as_told(farm: SimulatedFarm) -> None:
    """Another key, no key usage, a short life, an exportable key, another CA: each shows where FAS shows it."""
    farm.ca.issue_wrong(other_key=True)
    other_key = renewed(farm)
    farm.ca.issue_wrong(lifetime=timedelta(days=3), exportable=True, address=r"test\Test CA")
    strange = renewed(farm)
    farm.ca.issue_wrong(no_eku=True)
    no_eku = renewed(farm)
    farm.call(FAS1, "Set-FasCertificateDefinition", Name="default_Definition", AuthorizationCertificate=no_eku)

    assert (word(farm, other_key), entry(farm, other_key)["TrustArea"]) == ("Ok", None)
    shown = entry(farm, strange)
    assert (shown["Exportable"], shown["Address"]) == (True, r"test\Test CA")
    expires = shown["ExpiryDate"]
    assert isinstance(expires, datetime)
    assert timedelta(days=2) < expires - farm.now <= timedelta(days=3)
    assert errors(farm.call(FAS1, TEST, **ALICE)) == ["FederatedAuthenticationServerFault"]


def test_the_key_length_is_that_of_the_server(farm: SimulatedFarm) -> None:
    """FAS's own setting decides how long keys are."""
    farm.server(FAS1).key_length = 1024
    made = renewed(farm)

    key = farm.server(FAS1).certificates[made].key
    assert isinstance(key, rsa.RSAPrivateKey)
    assert (entry(farm, made)["KeyLength"], key.key_size) == (1024, 1024)


@pytest.mark.parametrize(("delete", "left"), [(None, 0), (True, 0), (False, 3)])
def test_removal_deletes_user_certificates_unless_told(farm: SimulatedFarm, delete: bool | None, left: int) -> None:
    """The default deletes them; either way a definition that names the removed one keeps a dead reference."""
    (old,) = farm.server(FAS1).certificates
    chosen = {} if delete is None else {"DeleteUserCerts": delete}
    assert farm.call(FAS1, REMOVE, Id=old, **chosen).errors == ()

    assert len(farm.server(FAS1).users) == left
    (definition,) = farm.call(FAS1, "Get-FasCertificateDefinition").objects
    assert definition["AuthorizationCertificate"] == old
    assert "was not found" in farm.call(FAS1, TEST, **ALICE).errors[0].message
    assert "was not found" in farm.call(FAS1, REMOVE, Id=old).errors[0].message
    assert events(farm) == [5]


def test_users_are_refused_with_both_events(farm: SimulatedFarm, session: FarmSession) -> None:
    """A denial by the CA fails the test and the real request, and is logged with the CA's code."""
    assert errors(session.invoke(failure_events(timedelta(days=1)))) == ["NoMatchingEventsFound"]
    farm.ca.refuse_users()
    assert errors(invoke(session, TEST, **ALICE)) == ["FederatedAuthenticationServerFault"]
    farm.call(FAS1, "New-FasUserCertificate", **ALICE, CertificateDefinition="default_Definition")
    found = session.invoke(failure_events(timedelta(days=1))).objects

    assert [each["Id"] for each in found] == [123, 124, 123, 124]
    assert "CR_DISP_DENIED (code 2)" in str(found[1]["Message"])
    assert farm.ca.address in str(found[1]["Message"])
    farm.advance(timedelta(days=2))
    assert errors(session.invoke(failure_events(timedelta(days=1)))) == ["NoMatchingEventsFound"]
    farm.ca.accept_users()
    assert invoke(session, TEST, **ALICE).errors == ()
    assert len(farm.server(FAS1).users) == 3


def test_an_expired_certificate_enrolls_nobody(farm: SimulatedFarm) -> None:
    """FAS says so before any CA is asked."""
    farm.advance(timedelta(days=40))

    assert "is Expired" in farm.call(FAS1, TEST, **ALICE).errors[0].message
    assert 123 not in events(farm)


def test_a_revoked_certificate_is_on_the_list_and_enrolls_nobody(farm: SimulatedFarm) -> None:
    """The CRL is signed by the CA; FAS itself goes on calling the certificate Ok."""
    made = renewed(farm)
    certificate = farm.server(FAS1).certificates[made].certificate
    assert certificate is not None
    before = x509.load_der_x509_crl(farm.ca.crl())
    farm.ca.revoke(f"{certificate.serial_number:x}")
    crl = x509.load_der_x509_crl(farm.ca.crl())
    farm.call(FAS1, "Set-FasCertificateDefinition", Name="default_Definition", AuthorizationCertificate=made)
    key = farm.ca.certificate.public_key()

    assert isinstance(key, rsa.RSAPublicKey)
    assert crl.is_signature_valid(key)
    assert crl.issuer == certificate.issuer
    assert before.get_revoked_certificate_by_serial_number(certificate.serial_number) is None
    entry_of = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
    assert entry_of is not None
    assert entry_of.revocation_date_utc == farm.now
    assert word(farm, made) == "Ok"
    assert errors(farm.call(FAS1, TEST, **ALICE)) == ["FederatedAuthenticationServerFault"]
    with pytest.raises(ValueError, match="issued no certificate"):
        farm.ca.revoke(7)


def test_maintenance_is_set_read_and_logged(farm: SimulatedFarm, session: FarmSession) -> None:
    """Each server has its own, and is addressed by its full name only."""
    invoke(session, "Set-FasServer", MaintenanceMode=True)
    invoke(session, "Set-FasServer", MaintenanceMode=True, Address=FAS2)
    invoke(session, "Set-FasServer", MaintenanceMode=False, Address="localhost")

    shown = invoke(session, "Get-FasServer").objects
    assert shown == (
        {"Address": FAS1, "MaintenanceMode": False},
        {"Address": FAS2, "MaintenanceMode": True},
    )
    assert events(farm) == [3, 3]
    assert invoke(session, "Get-FasServer", Address="fas2").errors[0].message == "Unknown server: fas2"


def test_definitions_are_made_changed_and_removed(farm: SimulatedFarm) -> None:
    """Each act is logged under its own number; what is not given does not change."""
    made = renewed(farm)
    farm.call(
        FAS1,
        "New-FasCertificateDefinition",
        Name="test",
        MsTemplate="Citrix_SmartcardLogon",
        AuthorizationCertificate=made,
        CertificateAuthorities=(farm.ca.address,),
    )
    farm.call(FAS1, "Set-FasCertificateDefinition", Name="TEST", InSession=True)
    (shown,) = farm.call(FAS1, "Get-FasCertificateDefinition", Name="test").objects
    farm.call(FAS1, "Remove-FasCertificateDefinition", Name="test")

    assert shown == {
        "Name": "test",
        "MsTemplate": "Citrix_SmartcardLogon",
        "CertificateAuthorities": [farm.ca.address],
        "AuthorizationCertificate": made,
        "PolicyOids": None,
        "InSession": True,
    }
    assert list(farm.server(FAS1).definitions) == ["default_Definition"]
    assert events(farm) == [4, 6, 7, 8]


def test_an_answer_from_elsewhere_is_imported_by_its_key(farm: SimulatedFarm, session: FarmSession) -> None:
    """Only the answer to this request, only as PKCS #7, and only once."""
    path = r"C:\Windows\Temp\answer.p7b"
    asked = invoke(session, "New-FasAuthorizationCertificateRequest").objects[0]
    other = invoke(session, "New-FasAuthorizationCertificateRequest").objects[0]
    with pytest.raises(ApprovalRefused, match="has no Manage CA"):
        farm.ca.sign_offline(str(asked["CertificateRequest"]), by=r"CORP\svc-fas-renewal")
    signed = farm.ca.sign_offline(str(asked["CertificateRequest"]))

    def imported(certificate: Mapping[str, object], data: bytes) -> CmdletResult:
        invoke(session, "Set-Content", LiteralPath=path, Value=data, Encoding="Byte")
        return invoke(
            session,
            "Import-FasAuthorizationCertificateResponse",
            Id=str(certificate["Id"]),
            Pkcs7CertificateFile=path,
        )

    assert asked["Address"] == "[Offline CSR]"
    for nonsense in (b"nonsense", bytes.fromhex("300b06092a864886f70d010703")):  # the latter: enveloped, not signed
        assert "is not a PKCS #7 file" in imported(asked, nonsense).errors[0].message
    assert "for the key of the request" in imported(other, signed).errors[0].message
    assert imported(asked, signed).objects[0]["Status"] == "Ok"
    assert "no offline request" in imported(asked, signed).errors[0].message
    invoke(session, "Remove-Item", LiteralPath=path)
    assert errors(invoke(session, "Remove-Item", LiteralPath=path)) == ["PathNotFound"]


def test_the_monitor_only_logs(farm: SimulatedFarm) -> None:
    """Daily from 2112 on: checked, a warning in the last thirty days, another once expired."""
    older = SimulatedFarm(NOW, release="2109")
    older.install(FAS1, expires=NOW + timedelta(days=1))
    older.advance(timedelta(days=9))
    farm.advance(timedelta(days=9))
    assert set(events(farm)) == {415}
    farm.advance(timedelta(days=2))
    assert 413 in events(farm)
    farm.advance(timedelta(days=30))

    assert farm.server(FAS1).events[-2].event == 414
    assert events(older) == []
    assert farm.call(FAS1, "Get-FasRaCertificateMonitor").objects == (
        {"Enabled": True, "WarningThreshold": "30.00:00:00", "CheckInterval": "1.00:00:00"},
    )


def test_installed_certificates_are_listed_newest_first(farm: SimulatedFarm, session: FarmSession) -> None:
    """PkiCore's event tells begin, end and serial number, which no cmdlet does."""
    made = renewed(farm)
    certificate = farm.server(FAS1).certificates[made].certificate
    assert certificate is not None
    listed = session.invoke(installed_events()).objects

    assert len(listed) == 2
    assert f"Serial Number: {certificate.serial_number:X}" in str(listed[0]["Message"])
    assert f"Trust Area: {entry(farm, made)['TrustArea']}" in str(listed[0]["Message"])


def test_installed_certificates_can_be_read_page_by_page(farm: SimulatedFarm, session: FarmSession) -> None:
    """By the number of the event, as the log of a busy server holds more than one call takes."""
    renewed(farm)
    newest, oldest = session.invoke(installed_events()).objects
    record = newest["RecordId"]
    assert isinstance(record, int)
    assert session.invoke(installed_events(record)).objects == (oldest,)


def test_ca_and_templates_are_shown(farm: SimulatedFarm, session: FarmSession) -> None:
    """With what a preflight needs to know: reachable, published, who may enroll."""
    (authority,) = invoke(session, "Get-FasMsCertificateAuthority").objects
    (template,) = invoke(session, "Get-FasMsTemplate", Name=MANUAL).objects

    assert (authority["Address"], authority["IsAccessible"]) == (farm.ca.address, True)
    assert MANUAL in str(authority["PublishedTemplates"])
    assert str(template["Sddl"]).startswith("O:DAG:DAD:")


def test_a_stranger_administers_nothing(farm: SimulatedFarm) -> None:
    """Who is no administrator of the FAS server is refused, and that is logged."""
    result = invoke(farm.powershell(FAS1, account=r"CORP\bob"), "Set-FasServer", MaintenanceMode=True)

    assert (result.errors[0].message, farm.server(FAS1).maintenance, events(farm)) == ("Access is denied.", False, [1])


def test_only_allowed_cmdlets_are_called(farm: SimulatedFarm, session: FarmSession) -> None:
    """The session refuses what this service never calls, before the farm hears of it."""
    with pytest.raises(ValueError, match="Set-FasRule is not called by this service"):
        invoke(session, "Set-FasRule", Name="default")
    assert farm.calls == []


def test_a_lost_answer_is_unknown_and_done(farm: SimulatedFarm, session: FarmSession) -> None:
    """The request is there all the same (promise 45); the next call is answered again."""
    farm.server(FAS1).lose_answer_next(NEW)
    with pytest.raises(FasAnswerUnknown, match="cut before an answer"):
        invoke(session, NEW, CertificateAuthority=farm.ca.address, CertificateTemplate=AGENT)

    assert len(farm.ca.pending) == 1
    assert len(invoke(session, GET).objects) == 2


def test_a_stall_is_unknown_and_done_later(farm: SimulatedFarm) -> None:
    """What outlasts the caller's patience is carried out at its end (promise 46), what does not is answered."""
    session = farm.powershell(FAS1, operation_seconds=60)
    farm.server(FAS1).hang_next(NEW, 300)
    with pytest.raises(FasAnswerUnknown, match="no answer within 60 s"):
        invoke(session, NEW, CertificateAuthority=farm.ca.address, CertificateTemplate=AGENT)
    farm.advance(timedelta(seconds=299))
    assert farm.ca.pending == ()
    farm.advance(timedelta(seconds=1))
    assert len(farm.ca.pending) == 1

    farm.server(FAS1).hang_next(GET, 30)
    assert len(invoke(session, GET).objects) == 2


def test_a_stall_may_end_in_a_failure(farm: SimulatedFarm) -> None:
    """Then nothing was done (promise 46)."""
    session = farm.powershell(FAS1, operation_seconds=60)
    farm.server(FAS1).hang_next(NEW, 300)
    farm.server(FAS1).fail_next(NEW, "The service was stopped")
    with pytest.raises(FasAnswerUnknown):
        invoke(session, NEW, CertificateAuthority=farm.ca.address, CertificateTemplate=AGENT)
    farm.advance(timedelta(seconds=300))

    assert farm.ca.pending == ()
    assert [each.done for each in farm.calls] == [False]


def test_a_planted_failure_changes_nothing_and_is_used_up(farm: SimulatedFarm, session: FarmSession) -> None:
    """The error is that which was planted."""
    farm.server(FAS1).fail_next("Set-FasServer", "Broken", "Planted", "InvalidOperation")
    (error,) = invoke(session, "Set-FasServer", MaintenanceMode=True).errors

    assert (error.message, error.error_id, error.category) == ("Broken", "Planted", "InvalidOperation")
    assert not farm.server(FAS1).maintenance
    assert invoke(session, "Set-FasServer", MaintenanceMode=True).errors == ()


def test_servers_fail_each_for_itself(farm: SimulatedFarm, session: FarmSession) -> None:
    """Unreachable: nothing is asked. Hanging: asked, never answered, never done. The other goes on (promise 60)."""
    farm.server(FAS2).unreachable = True
    with pytest.raises(FasUnreachable), farm.powershell(FAS2):
        pass
    farm.server(FAS1).hangs = True
    with pytest.raises(FasAnswerUnknown):
        invoke(session, "Set-FasServer", MaintenanceMode=True)
    farm.server(FAS2).unreachable = False

    assert invoke(farm.powershell(FAS2), "Get-FasServer", Address=FAS2).errors == ()
    assert not farm.server(FAS1).maintenance


def test_a_status_of_no_release_can_be_planted(farm: SimulatedFarm) -> None:
    """For what a newer FAS may say."""
    (old,) = farm.server(FAS1).certificates
    farm.server(FAS1).says[old] = "Hibernating"

    assert word(farm, old) == "Hibernating"


def test_a_test_fails_for_the_certificate_that_is_named(farm: SimulatedFarm) -> None:
    """Other certificates go on proving well."""
    (old,) = farm.server(FAS1).certificates
    farm.server(FAS1).test_fails = "another"
    assert farm.call(FAS1, TEST, **ALICE).errors == ()
    farm.server(FAS1).test_fails = old
    assert "the CSR was rejected" in farm.call(FAS1, TEST, **ALICE).errors[0].message


def test_history_tells_what_changed_and_who_decided(farm: SimulatedFarm, session: FarmSession) -> None:
    """Calls that only read are left out."""
    for cmdlet in observing_cmdlets():
        session.invoke(cmdlet)
    invoke(session, "Set-FasServer", MaintenanceMode=True)
    request(farm)
    (pending,) = farm.ca.pending
    farm.ca.deny(pending.number)
    lines = farm.history()

    assert len(farm.calls) == 6
    at, templates = "2026-11-02 09:00:00Z", f"-CertificateTemplate {AGENT} -AuthorizationTemplate {MANUAL}"
    asked = rf"request {pending.number} of CORP\FAS1$ ({MANUAL})"
    assert lines[1:] == (
        f"{at} {FAS1} Set-FasServer -MaintenanceMode True",
        f"{at} {FAS1} {NEW} -CertificateAuthority {farm.ca.address} {templates}",
        f"{at} {farm.ca.address} {asked}: denied by {CA_MANAGER}",
    )
    assert pending.disposition is Disposition.DENIED


def test_the_farm_can_follow_a_clock() -> None:
    """Its time is the clock's, plus what was let pass."""
    clock = [NOW]
    farm = SimulatedFarm(NOW, clock=lambda: clock[0])
    clock[0] += timedelta(hours=1)
    farm.advance(timedelta(days=1))

    assert farm.now == NOW + timedelta(days=1, hours=1)


def test_many_may_call_at_once(farm: SimulatedFarm) -> None:
    """No request is lost or made twice, and each has a number of its own."""
    threads = [threading.Thread(target=farm.call, args=(FAS1, NEW), kwargs=each) for each in [_asking(farm)] * 8]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert len({each.number for each in farm.ca.pending}) == 8
    assert len(farm.server(FAS1).certificates) == 9


def _asking(farm: SimulatedFarm) -> dict[str, object]:
    return {"CertificateAuthority": farm.ca.address, "CertificateTemplate": AGENT}
