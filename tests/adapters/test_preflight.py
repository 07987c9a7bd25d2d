"""A preflight through PowerShell, against FAS servers that behave as the documented ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Self

import pytest

from evidence_service.adapters.powershell import CmdletResult, ErrorRecord, PowerShell
from evidence_service.adapters.preflight import look_over
from evidence_service.demo.fas_ca import AGENT, CA_ADDRESS, MANUAL, SMARTCARD
from evidence_service.demo.fas_farm import ACCOUNT, SimulatedFarm
from evidence_service.demo.fas_server import Definition
from evidence_service.renewal.cmdlets import READING, Cmdlet
from evidence_service.renewal.farm import Farm, FasServer, Local, RevocationList, WinRm, WinRmAuth
from evidence_service.renewal.model import RenewalPolicy
from evidence_service.renewal.ports import FasAnswerUnknown
from evidence_service.renewal.preflight import Check, CheckCode, Verdict, judge
from evidence_service.renewal.reasons import RenewalReason

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FAS1, FAS2 = "fas1.corp.example", "fas2.corp.example"
POLICY = RenewalPolicy(test_upn="fas-test@corp.example", test_rule="test", test_definition="test_Definition")


def server(name: str, policy: RenewalPolicy = POLICY) -> FasServer:
    """A configured server, reached by WinRM."""
    return FasServer(name=name, policy=policy, connection=WinRm(host=name, username=ACCOUNT), address=name)


CONFIGURED = Farm(servers=(server(FAS1), server(FAS2)))


def simulated(release: str = "2402") -> SimulatedFarm:
    """Two servers that are set up, with a test rule on each."""
    farm = SimulatedFarm(NOW, release=release)
    rules: Mapping[str, tuple[str, ...]] = {"default": ("default_Definition",), "test": ("test_Definition",)}
    for name in (FAS1, FAS2):
        farm.install(name, expires=NOW + 200 * DAY, definitions=("default_Definition", "test_Definition"), rules=rules)
    return farm


def checks(
    farm: SimulatedFarm,
    *,
    test: bool = False,
    account: str = ACCOUNT,
    configured: Farm = CONFIGURED,
    opens: Callable[[FasServer], PowerShell] | None = None,
) -> tuple[Check, ...]:
    """What the preflight of the first server says."""
    facts = look_over(
        configured.servers[0],
        configured,
        farm.now,
        test=test,
        approvers=("pki@corp.example",),
        opens=opens or (lambda each: farm.powershell(each.name, account=account)),
    )
    return judge(facts)


def wrong(found: tuple[Check, ...]) -> dict[str, Check]:
    """What is not ok, by name; that no CRL is set and that all computers may enroll is so in this farm."""
    usual = {"revocation", f"rights on {AGENT}", f"rights on {MANUAL}"}
    return {each.name: each for each in found if each.verdict is not Verdict.OK and each.name not in usual}


class Session:
    """A session that answers as scripted, and else with nothing."""

    def __init__(self, answers: Mapping[str, CmdletResult | Exception]) -> None:
        """By cmdlet."""
        self._answers = answers
        self.called: list[Cmdlet] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing is to be closed."""

    def invoke(self, cmdlet: Cmdlet) -> CmdletResult:
        """Answer."""
        self.called.append(cmdlet)
        answer = self._answers.get(cmdlet.name, CmdletResult())
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_farm_that_is_set_up_passes_and_nothing_is_changed() -> None:
    """Only cmdlets that read are called, and the lab's permissions are told as what they are."""
    farm = simulated()
    found = checks(farm)
    wide = [each for each in found if each.code is CheckCode.TEMPLATE_WIDE]

    assert wrong(found) == {}
    assert [each.name for each in wide] == [f"rights on {MANUAL}", f"rights on {AGENT}"]
    assert {each.name for each in farm.calls} <= READING
    assert {"lead", "maintenance", "monitor", f"template {AGENT} at {CA_ADDRESS}"} <= {each.name for each in found}


def test_every_progress_is_told() -> None:
    """A person who waits sees what is looked at."""
    farm, told = simulated(), list[str]()
    look_over(
        CONFIGURED.servers[0], CONFIGURED, NOW, progress=told.append, opens=lambda each: farm.powershell(each.name)
    )

    assert told[0] == f"opening a session on {FAS1}"
    assert told[1:] == [each.name for each in farm.calls]


def test_the_right_server_is_addressed_and_the_domain_is_not() -> None:
    """-Address is the FAS server where a cmdlet is about one; for Get-FasMsCertificateAuthority it would be a CA."""
    farm = simulated()
    checks(farm)
    addressed = {each.name: each.parameters.get("Address") for each in farm.calls}

    assert addressed["Get-FasAuthorizationCertificate"] == FAS1
    assert addressed["Get-FasRaCertificateMonitor"] == FAS1
    assert addressed["Get-FasMsCertificateAuthority"] is None
    assert addressed["Get-FasMsTemplate"] is None
    assert addressed["Get-FasServer"] is None


def test_an_account_that_is_not_administrator_is_told_so() -> None:
    """S001: FAS's refusal is not taken for a server that is away."""
    sign_in = wrong(checks(simulated(), account=r"CORP\somebody"))["sign-in"]

    assert (sign_in.verdict, sign_in.code) == (Verdict.FAILED, CheckCode.NOT_ADMINISTRATOR)
    assert "Access is denied." in sign_in.text


def test_a_server_that_does_not_answer_is_told_so() -> None:
    """Only what is configured is judged besides."""
    farm = simulated()
    farm.server(FAS1).unreachable = True
    found = checks(farm, test=True)

    assert (found[0].verdict, found[0].code) == (Verdict.FAILED, RenewalReason.UNREACHABLE)
    assert "refused the connection" in found[0].text
    assert {each.name for each in found} == {"sign-in", "neighbours", "lead", "test", "approver"}


@pytest.mark.parametrize("cmdlet", ["Get-FasRule", "Get-FasMsTemplate", "Get-FasRaCertificateMonitor"])
def test_one_failing_read_leaves_the_others(cmdlet: str) -> None:
    """What could not be read is unknown with FAS's words; the certificate in use is judged all the same."""
    farm = simulated()
    farm.server(FAS1).fail_next(cmdlet, "The RPC server is unavailable.")
    found = checks(farm)

    assert {each.verdict for each in wrong(found).values()} == {Verdict.UNKNOWN}
    assert any("RPC server" in each.text for each in wrong(found).values())
    assert any(each.code is CheckCode.CERTIFICATE for each in found)


def test_a_session_that_breaks_leaves_the_rest_unknown() -> None:
    """After the connection is lost nothing more is asked, and nothing is taken for ok."""
    session = Session({"Get-FasCertificateDefinition": FasAnswerUnknown("fas1: cut\noff")})
    found = checks(simulated(), test=True, opens=lambda _: session)

    assert [each.name for each in session.called][-1] == "Get-FasCertificateDefinition"
    assert wrong(found)["sign-in"].verdict is Verdict.UNKNOWN
    assert "cut off" in wrong(found)["enrollment"].text


@pytest.mark.parametrize(("release", "lacks"), [("2109", "Get-FasRaCertificateMonitor"), ("7.17", "IsAccessible")])
def test_older_releases_are_read_as_far_as_they_tell(release: str, lacks: str) -> None:
    """What such a release lacks is named, and the certificate in use is judged all the same."""
    found = checks(simulated(release))

    assert lacks in wrong(found)["release"].text
    assert wrong(found)["monitor"].verdict is Verdict.UNKNOWN
    assert any(each.code is CheckCode.CERTIFICATE for each in found)


def test_a_release_without_full_information_is_asked_again_without_it() -> None:
    """Then the expiry is not known, which is told."""
    refused = CmdletResult(errors=(ErrorRecord(message="no such parameter", error_id="NamedParameterNotFound,X"),))

    class Old(Session):
        def invoke(self, cmdlet: Cmdlet) -> CmdletResult:
            answer = super().invoke(cmdlet)
            return refused if "FullCertInfo" in cmdlet.parameters else answer

    old = Old(
        {
            "Get-FasAuthorizationCertificate": CmdletResult(
                objects=({"Id": "{11111111-1111-1111-1111-111111111111}", "Status": "Ok", "Address": CA_ADDRESS},)
            ),
            "Get-FasCertificateDefinition": CmdletResult(
                objects=(
                    {
                        "Name": "default_Definition",
                        "AuthorizationCertificate": "11111111-1111-1111-1111-111111111111",
                        "CertificateAuthorities": [CA_ADDRESS],
                    },
                )
            ),
        }
    )
    found = wrong(checks(simulated(), opens=lambda _: old))

    assert "-FullCertInfo" in found["release"].text
    assert found["certificate 11111111-1111-1111-1111-111111111111"].code is RenewalReason.EXPIRY_UNKNOWN


@pytest.mark.parametrize(
    ("threshold", "days"),
    [
        ("30.00:00:00", "30 days"),
        ("P30D", "30 days"),
        ("P30DT12H", "30.5 days"),
        (45, "45 days"),
        ("12:00:00", "0.5 days"),
    ],
)
def test_the_monitors_threshold_is_read_as_each_transport_writes_it(threshold: object, days: str) -> None:
    """A TimeSpan of .NET, one of XML, or a number of days."""
    monitor = CmdletResult(objects=({"Enabled": True, "WarningThreshold": threshold},))
    found = checks(simulated(), opens=lambda _: Session({"Get-FasRaCertificateMonitor": monitor}))

    assert any(each.name == "monitor" and f" {days} before" in each.text for each in found)


def test_objects_that_cannot_be_read_are_unknown() -> None:
    """A property that is not there is never guessed."""
    nameless = CmdletResult(objects=({"Oid": "1.2.3"},))
    found = wrong(checks(simulated(), opens=lambda _: Session({"Get-FasMsTemplate": nameless})))

    assert "an object without Name" in found["templates"].text


def test_what_is_wrong_at_the_ca_is_told() -> None:
    """A template that is not published, and one by which no FAS server may enroll."""
    farm = simulated()
    farm.ca.published.discard(MANUAL)
    farm.ca.templates[SMARTCARD] = replace(
        farm.ca.templates[SMARTCARD], sddl="D:PAI(A;;0xf01ff;;;DA)(A;;LCRPLORC;;;AU)"
    )
    found = wrong(checks(farm))

    assert found[f"template {MANUAL} at {CA_ADDRESS}"].code is CheckCode.TEMPLATE_NOT_PUBLISHED
    assert found[f"rights on {SMARTCARD}"].code is CheckCode.TEMPLATE_NOBODY_ENROLLS
    assert len(found) == 2


def test_a_trial_enrolls_by_each_rule_and_keeps_nothing() -> None:
    """On request FAS is asked by every rule and definition; the test user has no certificate afterwards."""
    farm = simulated()
    found = checks(farm, test=True)
    tried = [each.parameters for each in farm.calls if each.name == "Test-FasCertificateSigningRequest"]

    assert [(each["Rule"], each["CertificateDefinition"]) for each in tried] == [
        ("default", "default_Definition"),
        ("test", "test_Definition"),
    ]
    assert {(each["UserPrincipalName"], each["Address"]) for each in tried} == {("fas-test@corp.example", FAS1)}
    assert [each.verdict for each in found if each.name.startswith("enrollment")] == [Verdict.OK] * 2
    assert farm.server(FAS1).users == []


def test_a_trial_that_the_ca_denies_is_explained_from_the_servers_log() -> None:
    """The cmdlet only says that all CAs failed; S124 has the CA and its code, and the cure is the templates' rights."""
    farm = simulated()
    farm.ca.templates[SMARTCARD] = replace(
        farm.ca.templates[SMARTCARD], sddl="D:PAI(A;;0xf01ff;;;DA)(A;;LCRPLORC;;;AU)"
    )
    denied = wrong(checks(farm, test=True))["enrollment by default, default_Definition"]

    assert (denied.verdict, denied.code) == (Verdict.FAILED, RenewalReason.PROOF_FAILED)
    assert f"{CA_ADDRESS} returned CR_DISP_DENIED (code 2)" in denied.text
    assert "fas-test" not in denied.text
    assert "on all three templates" in denied.remedy


@pytest.mark.parametrize(
    "answer",
    [
        FasAnswerUnknown("fas1: it took longer than operation_seconds"),
        CmdletResult(errors=(ErrorRecord(message="too slow", error_id="X", exceptions=("System.TimeoutException",)),)),
        CmdletResult(errors=(ErrorRecord(message="not recognized", error_id="CommandNotFoundException"),)),
    ],
)
def test_a_trial_that_was_not_answered_is_unknown(answer: CmdletResult | Exception) -> None:
    """A time-out, or a session without the cmdlet, is nothing that the CA denied."""
    farm = simulated()

    class Losing(Session):
        def invoke(self, cmdlet: Cmdlet) -> CmdletResult:
            if cmdlet.name.startswith("Test-"):
                return super().invoke(cmdlet)
            with farm.powershell(FAS1) as session:
                return session.invoke(cmdlet)

    losing = Losing({"Test-FasCertificateSigningRequest": answer})
    trials = [each for each in checks(farm, test=True, opens=lambda _: losing) if each.name.startswith("enrollment")]

    assert [(each.verdict, each.code) for each in trials] == [(Verdict.UNKNOWN, CheckCode.NOT_READ)] * 2


def test_without_a_test_user_no_trial_is_made() -> None:
    """Nobody real is enrolled for a test."""
    farm = simulated()
    alone = Farm(servers=(server(FAS1, RenewalPolicy()), server(FAS2)))
    found = wrong(checks(farm, test=True, configured=alone))

    assert "test_upn" in found["enrollment"].text
    assert not [each for each in farm.calls if each.name.startswith("Test-")]


def test_definitions_and_rules_are_judged_as_they_are_on_the_server() -> None:
    """A definition of a dead certificate and a rule of a missing definition are found."""
    farm = simulated()
    fas = farm.server(FAS1)
    fas.definitions["old"] = Definition(
        name="old",
        template=SMARTCARD,
        authorization_certificate="99999999-9999-9999-9999-999999999999",
        certificate_authorities=(CA_ADDRESS,),
    )
    fas.rules["default"].definitions = ("default_Definition", "gone")
    fas.maintenance = True
    found = wrong(checks(farm))

    assert {name: each.code for name, each in found.items()} == {
        "definition old": RenewalReason.DEFINITION_NAMES_MISSING,
        "rule default": CheckCode.RULE_NAMES_MISSING,
        "maintenance": CheckCode.MAINTENANCE_ON,
    }


def test_a_list_that_cannot_be_had_is_unknown() -> None:
    """The CRL of the CA in use is fetched, and that of another is not."""
    lists = (
        RevocationList(certificate_authority=CA_ADDRESS.upper(), url="ldap:///CN=CDP", issuer=b""),
        RevocationList(certificate_authority=r"other\CA", url="ldap:///CN=Other", issuer=b""),
    )
    found = checks(simulated(), configured=replace(CONFIGURED, revocation_lists=lists))
    told = [each for each in found if each.name == "revocation" and each.code is CheckCode.NOT_READ]

    assert [each.verdict for each in told] == [Verdict.UNKNOWN]
    assert "ldap:///CN=CDP" in told[0].text


def test_a_list_of_the_next_ca_says_nothing_of_the_one_in_use() -> None:
    """Requests go to another CA from now on; a revocation by the one in use would still not be noticed."""
    other = r"other\CA"
    lists = (RevocationList(certificate_authority=other, url="ldap:///CN=Other", issuer=b""),)
    policy = replace(POLICY, certificate_authority=other)
    configured = Farm(servers=(server(FAS1, policy), server(FAS2)), revocation_lists=lists)
    told = [each for each in checks(simulated(), configured=configured) if each.name == "revocation"]

    assert {each.verdict for each in told} == {Verdict.UNKNOWN}
    assert f"No CRL is configured for {CA_ADDRESS}." in [each.text for each in told]


@pytest.mark.parametrize(
    ("connection", "account"),
    [
        (WinRm(host=FAS1, username=ACCOUNT), ACCOUNT),
        (WinRm(host=FAS1, auth=WinRmAuth.KERBEROS), "the account of the Kerberos ticket"),
        (WinRm(host=FAS1, auth=WinRmAuth.CERTIFICATE, client_certificate="/c.pem"), "client certificate /c.pem"),
        (Local(), "the account of this service"),
    ],
)
def test_who_signs_in_is_named(connection: WinRm | Local, account: str) -> None:
    """A person sees which account needs the rights."""
    farm = simulated()
    one = replace(server(FAS1), connection=connection)
    found = checks(farm, configured=Farm(servers=(one, server(FAS2))))

    assert account in found[0].text


def test_a_server_that_cannot_be_connected_to_is_told_by_the_configured_transport() -> None:
    """Without another session the configured one is opened, and its failure is a check and no exception."""
    nowhere = FasServer(name="fas1", policy=POLICY, connection=Local(program="no-such-powershell"))
    (sign_in, *_) = judge(look_over(nowhere, Farm(servers=(nowhere, server(FAS2))), NOW))

    assert (sign_in.verdict, sign_in.code) == (Verdict.FAILED, RenewalReason.UNREACHABLE)
    assert "no-such-powershell" in sign_in.text
