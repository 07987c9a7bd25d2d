"""A preflight of one FAS server: one thing is wrong at a time, and the check says which and what to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from evidence_service.renewal.farm import FasServer, Local, WinRm
from evidence_service.renewal.model import (
    AuthorizationCertificate,
    CertificateDefinition,
    CertificateStatus,
    FasRule,
    Maintenance,
    RenewalPolicy,
)
from evidence_service.renewal.preflight import (
    Authority,
    Check,
    CheckCode,
    Enrollment,
    Listed,
    Monitor,
    NotRead,
    PreflightFacts,
    Template,
    Verdict,
    judge,
    worst,
)
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.sddl import ENROLL

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CA = r"ca.example.test\Example CA"
RA, MANUAL, USER = (
    "Citrix_RegistrationAuthority",
    "Citrix_RegistrationAuthority_ManualAuthorization",
    "Citrix_SmartcardLogon",
)
FAS_SERVERS = "S-1-5-21-1004336348-1177238915-682003330-1655"
ADMINS = f"(OA;;CR;{ENROLL};;DA)(A;;CCDCLCSWRPWPDTLOSDRCWDWO;;;DA)"
SDDL = f"O:DAG:DAD:PAI{ADMINS}(OA;;CR;{ENROLL};;{FAS_SERVERS})(A;;LCRPLORC;;;AU)"
OLD, NEW = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
POLICY = RenewalPolicy(test_upn="fas-test@example.test", test_rule="test", test_definition="test_Definition")
CERTIFICATE = AuthorizationCertificate(
    id=OLD,
    status_word="Ok",
    status=CertificateStatus.OK,
    certificate_authority=CA,
    not_before=NOW - 100 * DAY,
    expires=NOW + 265 * DAY,
    key_length=2048,
    exportable=False,
    serial="6a",
)
DEFINITION = CertificateDefinition(
    name="default_Definition", template=USER, authorization_certificate=OLD, certificate_authorities=(CA,)
)
ONE = FasServer(
    name="fas1",
    policy=POLICY,
    connection=WinRm(host="fas1.example.test", username=r"EXAMPLE\svc-fas"),
    address="fas1.example.test",
)
TWO = FasServer(name="fas2.example.test", policy=POLICY, connection=Local())
GOOD = PreflightFacts(
    server=ONE,
    farm=(ONE, TWO),
    now=NOW,
    account=r"EXAMPLE\svc-fas",
    session=None,
    certificates=(CERTIFICATE,),
    definitions=(DEFINITION, replace(DEFINITION, name="test_Definition")),
    rules=(
        FasRule(name="default", definitions=("default_Definition",)),
        FasRule(name="test", definitions=("test_Definition",)),
    ),
    listed=(
        Listed(address="FAS1.example.test", maintenance=False),
        Listed(address="fas2.example.test", maintenance=False),
    ),
    authorities=(Authority(address=CA, accessible=True, published=(RA, MANUAL, USER)),),
    templates=tuple(Template(name=each, sddl=SDDL) for each in (RA, MANUAL, USER)),
    monitor=Monitor(enabled=True, threshold=30 * DAY),
    approvers=("pki@example.test",),
    enrollments=(Enrollment(rule="default", definition="default_Definition", problem=None),),
    revocation=(),
)


def given(**changed: Any) -> PreflightFacts:
    """The good facts but for these."""
    return replace(GOOD, **changed)


def policy(**changed: Any) -> PreflightFacts:
    """The good facts with another policy."""
    return given(server=replace(ONE, policy=replace(POLICY, **changed)))


def certificate(**changed: Any) -> PreflightFacts:
    """The good facts with another certificate in use."""
    return given(certificates=(replace(CERTIFICATE, **changed),))


def rights(sddl: str | None, name: str = RA) -> PreflightFacts:
    """The good facts with another access list on one template."""
    assert not isinstance(GOOD.templates, NotRead)
    return given(templates=tuple(replace(each, sddl=sddl) if each.name == name else each for each in GOOD.templates))


def wrong(facts: PreflightFacts) -> list[Check]:
    """What is not ok; each says what to do."""
    found = [each for each in judge(facts) if each.verdict is not Verdict.OK]
    assert all(each.remedy not in {"", "Nothing."} and each.text for each in found)
    return found


def only(facts: PreflightFacts) -> Check:
    """The one thing that is not ok."""
    found = wrong(facts)
    assert len(found) == 1, found
    return found[0]


def test_a_server_that_is_set_up_well_has_nothing_to_do() -> None:
    """Every check is there and ok, and asks for nothing."""
    checks = judge(GOOD)

    assert [each for each in checks if each.verdict is not Verdict.OK] == []
    assert {each.remedy for each in checks} == {"Nothing."}
    assert {each.name for each in checks} >= {
        "sign-in",
        "release",
        f"CA {CA}",
        f"template {RA} at {CA}",
        f"rights on {USER}",
        f"certificate {OLD}",
        "definition default_Definition",
        "rule default",
        "revocation",
        "neighbours",
        "maintenance",
        "lead",
        "test",
        "monitor",
        "approver",
        "enrollment by default, default_Definition",
    }
    assert worst(checks) is Verdict.OK


def test_the_worst_check_is_the_verdict() -> None:
    """Failed before warning before unknown before ok; what was not looked at is unknown."""
    assert worst(judge(given(approvers=None))) is Verdict.UNKNOWN
    assert worst(judge(given(approvers=None, monitor=Monitor(enabled=False, threshold=None)))) is Verdict.WARNING
    assert worst(judge(given(definitions=()))) is Verdict.FAILED
    assert worst(()) is Verdict.UNKNOWN


def test_a_refused_read_is_told_from_a_server_that_does_not_answer() -> None:
    """S001 is about the account, no session is about the road; the latter leaves only what is configured to judge."""
    refused = NotRead(error="Access is denied.", refused=True)
    nothing = NotRead(error="there is no session")
    not_admin = wrong(given(certificates=refused, definitions=refused, rules=refused))[0]
    away = given(
        session=NotRead(error="fas1:5986: no connection"),
        **dict.fromkeys(
            ("certificates", "definitions", "rules", "listed", "authorities", "templates", "monitor"), nothing
        ),
    )
    unreachable = wrong(away)[0]

    assert (not_admin.verdict, not_admin.code) == (Verdict.FAILED, CheckCode.NOT_ADMINISTRATOR)
    assert r"FAS answers EXAMPLE\svc-fas with: Access is denied." in not_admin.text
    assert "S001" in not_admin.text
    assert "not elevated" in not_admin.text
    assert "Administrators group" in not_admin.remedy
    assert (unreachable.verdict, unreachable.code) == (Verdict.FAILED, RenewalReason.UNREACHABLE)
    assert "no connection" in unreachable.text
    assert not [each for each in judge(away) if each.name.startswith(("CA", "rights", "certificate"))]


@pytest.mark.parametrize(
    "part", ["certificates", "definitions", "rules", "listed", "authorities", "templates", "monitor"]
)
def test_what_cannot_be_read_is_unknown_and_not_ok(part: str) -> None:
    """One failing read is told with its error, and the rest is judged all the same."""
    found = wrong(given(**{part: NotRead(error="The RPC server is unavailable.")}))

    assert {each.verdict for each in found} == {Verdict.UNKNOWN}
    assert any("RPC server" in each.text for each in found)
    assert any(each.name == "approver" and each.verdict is Verdict.OK for each in judge(GOOD))


def test_what_a_release_lacks_is_named() -> None:
    """FAS before 2112 has no monitor, and older ones do not tell expiry or accessibility."""
    facts = given(
        monitor=NotRead(error="not recognized", lacking=True),
        full_info=False,
        authorities=(Authority(address=CA, accessible=None, published=(RA, MANUAL, USER)),),
    )
    release, monitor = wrong(facts)

    assert release.code is CheckCode.RELEASE
    for part in ("Get-FasRaCertificateMonitor", "-FullCertInfo", "IsAccessible"):
        assert part in release.text
    assert monitor.verdict is Verdict.UNKNOWN
    assert "before 2112" in monitor.text


@pytest.mark.parametrize(
    ("facts", "code", "verdict", "said"),
    [
        (policy(certificate_authority=r"other\CA"), CheckCode.CA_MISSING, Verdict.FAILED, CA),
        (
            given(authorities=(Authority(address=CA.upper(), accessible=True, published=(RA, USER)),)),
            CheckCode.TEMPLATE_NOT_PUBLISHED,
            Verdict.FAILED,
            "denies",
        ),
        (given(definitions=(), rules=()), RenewalReason.NOTHING_IN_USE, Verdict.FAILED, "No certificate definition"),
        (
            certificate(status=None, status_word="Odd"),
            RenewalReason.UNKNOWN_STATUS,
            Verdict.UNKNOWN,
            "'Odd'",
        ),
        (certificate(expires=None), RenewalReason.EXPIRY_UNKNOWN, Verdict.UNKNOWN, "does not tell"),
        (
            certificate(status=CertificateStatus.EXPIRED, status_word="Expired"),
            RenewalReason.EXPIRED,
            Verdict.FAILED,
            "cannot log on",
        ),
        (
            certificate(expires=NOW, not_before=NOW - 365 * DAY),
            RenewalReason.EXPIRED,
            Verdict.FAILED,
            "expired at 2026",
        ),
        (
            certificate(status=CertificateStatus.DENIED, status_word="Denied"),
            CheckCode.DEFINITION_NAMES_UNUSABLE,
            Verdict.FAILED,
            "Denied",
        ),
        (
            certificate(expires=NOW + 60 * DAY, not_before=NOW - 305 * DAY),
            RenewalReason.DUE,
            Verdict.WARNING,
            "in 60 days",
        ),
        (certificate(revoked_at=NOW - DAY), RenewalReason.REVOKED, Verdict.FAILED, "revoked it at 2026-05-31"),
        (certificate(key_length=1024), RenewalReason.ISSUED_WEAK_KEY, Verdict.WARNING, "1024 bits"),
        (certificate(exportable=True), RenewalReason.ISSUED_EXPORTABLE, Verdict.WARNING, "can be exported"),
        (certificate(serial=None), CheckCode.REVOCATION, Verdict.UNKNOWN, "serial number"),
        (given(revocation=None), CheckCode.REVOCATION, Verdict.WARNING, "No CRL"),
        (given(revocation=("the CRL at http://x is old",)), CheckCode.NOT_READ, Verdict.UNKNOWN, "is old"),
        (given(farm=(ONE,), listed=GOOD.listed[:1]), RenewalReason.NO_NEIGHBOUR, Verdict.FAILED, "never switch"),  # type: ignore[index]
        (
            given(listed=(Listed(address="fas1", maintenance=True),)),
            CheckCode.MAINTENANCE_ON,
            Verdict.WARNING,
            "nobody",
        ),
        (given(listed=()), CheckCode.NOT_READ, Verdict.UNKNOWN, "does not tell"),
        (
            given(listed=(*GOOD.listed, Listed(address="fas3", maintenance=None))),  # type: ignore[misc]
            CheckCode.NOT_CONFIGURED,
            Verdict.WARNING,
            "fas3",
        ),
        (policy(lead_days=330), RenewalReason.LEAD_DOES_NOT_FIT, Verdict.FAILED, "at most"),
        (policy(lead_days=5), RenewalReason.LEAD_DOES_NOT_FIT, Verdict.FAILED, "at least"),
        (certificate(not_before=None), CheckCode.LIFETIME_UNKNOWN, Verdict.UNKNOWN, "not known"),
        (policy(test_upn=None), CheckCode.TEST_MISSING, Verdict.WARNING, "not even after it"),
        (policy(test_definition=None), CheckCode.TEST_MISSING, Verdict.WARNING, "only after it"),
        (policy(test_rule="none"), CheckCode.TEST_MISSING, Verdict.FAILED, "no rule none"),
        (policy(test_definition="none"), CheckCode.TEST_MISSING, Verdict.FAILED, "definition none"),
        (given(monitor=Monitor(enabled=False, threshold=30 * DAY)), CheckCode.MONITOR_OFF, Verdict.WARNING, "is off"),
        (given(monitor=Monitor(enabled=True, threshold=60 * DAY)), CheckCode.MONITOR, Verdict.WARNING, "60 days"),
        (given(monitor=Monitor(enabled=None, threshold=None)), CheckCode.NOT_READ, Verdict.UNKNOWN, "cannot be read"),
        (given(approvers=None), CheckCode.APPROVER, Verdict.UNKNOWN, "not configured"),
        (given(approvers=("SVC-FAS@example.test",)), CheckCode.APPROVER_REQUESTS, Verdict.FAILED, "nobody checks"),
        (given(enrollments=NotRead(error="No test user")), CheckCode.NOT_READ, Verdict.UNKNOWN, "No test user"),
    ],
    ids=lambda each: each.value if isinstance(each, RenewalReason | CheckCode) else "",
)
def test_one_fault_is_told_once(
    facts: PreflightFacts, code: RenewalReason | CheckCode, verdict: Verdict, said: str
) -> None:
    """The check of the fault has its code, its verdict and what was found."""
    found = [each for each in wrong(facts) if each.code is code]

    assert found, wrong(facts)
    assert found[0].verdict is verdict
    assert said in found[0].text


def test_a_switch_without_maintenance_needs_no_neighbour() -> None:
    """With one server and maintenance = skip there is nothing to wait for (promise 61)."""
    alone = replace(ONE, policy=replace(POLICY, maintenance=Maintenance.SKIP))

    facts = given(server=alone, farm=(alone,), listed=(Listed(address="fas1", maintenance=False),))
    assert wrong(facts) == []
    said = next(each.text for each in judge(facts) if each.name == "neighbours")
    assert said == "The switch needs no other server, as set: it is made without maintenance."


def test_a_neighbour_that_does_not_answer_is_not_said_to_serve() -> None:
    """That is not known then; where another answers, that one is named alone."""
    fas3 = replace(TWO, name="fas3.example.test")
    alone = given(away=frozenset({TWO.name}))
    two = given(farm=(ONE, TWO, fas3), away=frozenset({TWO.name}))
    none = given(farm=(ONE, TWO, fas3), away=frozenset({TWO.name, fas3.name, ONE.name}))
    found = [each for facts in (alone, two, none) for each in judge(facts) if each.name == "neighbours"]

    assert [(each.verdict.value, each.text.partition(":")[0]) for each in found] == [
        ("unknown", "fas2.example.test does not answer"),
        ("ok", "fas3.example.test can serve meanwhile (whether it does is looked at before the switch)."),
        ("unknown", "fas2.example.test and fas3.example.test do not answer"),
    ]


def test_the_servers_that_can_serve_meanwhile_are_named() -> None:
    """They are configured; that one serves is another thing, which the switch looks at."""
    three = given(farm=(ONE, TWO, replace(TWO, name="fas3.example.test")))
    said = [each.text for facts in (GOOD, three) for each in judge(facts) if each.name == "neighbours"]
    assert said == [
        "fas2.example.test can serve meanwhile (whether it does is looked at before the switch).",
        "fas2.example.test or fas3.example.test can serve meanwhile (whether one does is looked at before the switch).",
    ]


@pytest.mark.parametrize(
    ("error", "said", "remedy"),
    [
        (
            "fas1:5986: no answer (timed out). Check host and port. See the firewall.",
            r"No session as EXAMPLE\svc-fas: fas1:5986: no answer (timed out).",
            "Check host and port. See the firewall.",
        ),
        (
            "fas1:5986: no connection",
            r"No session as EXAMPLE\svc-fas: fas1:5986: no connection",
            "Check that it runs, that WinRM answers, and that the account may use it.",
        ),
    ],
)
def test_one_remedy_is_told_of_a_server_that_does_not_answer(error: str, said: str, remedy: str) -> None:
    """That of the transport, where it knows one, else the one that fits all."""
    sign_in = judge(given(session=NotRead(error=error)))[0]
    assert (sign_in.text, sign_in.remedy) == (said, remedy)


def test_an_inaccessible_ca_is_not_taken_for_one_without_templates() -> None:
    """Over WinRM the session may not reach the CA although FAS does; then publishing is unknown, not failed."""
    authority, *published = wrong(given(authorities=(Authority(address=CA, accessible=False, published=()),)))

    assert (authority.verdict, authority.code) == (Verdict.WARNING, CheckCode.CA_NOT_ACCESSIBLE)
    assert "second hop" in authority.text
    assert "certutil -ping" in authority.remedy
    assert {each.verdict for each in published} == {Verdict.UNKNOWN}


def test_a_definition_that_names_what_is_not_there_stops_logons() -> None:
    """A missing certificate, no CA, and a CA of no domain are each told with the cmdlet that cures it."""
    broken = (
        replace(DEFINITION, authorization_certificate=NEW),
        replace(DEFINITION, name="test_Definition", certificate_authorities=()),
        replace(DEFINITION, name="third", certificate_authorities=(CA, r"gone\CA")),
    )
    found = wrong(given(definitions=broken))

    assert [(each.name, each.code) for each in found] == [
        ("definition default_Definition", RenewalReason.DEFINITION_NAMES_MISSING),
        ("definition test_Definition", CheckCode.DEFINITION_WITHOUT_CA),
        ("definition third", CheckCode.CA_MISSING),
    ]
    assert all("Set-FasCertificateDefinition -Name" in each.remedy for each in found)


@pytest.mark.parametrize("part", ["certificates", "authorities"])
def test_a_definition_of_which_half_is_known_is_not_whole(part: str) -> None:
    """That it names what is there is said only where that was looked at; what names no CA of any is wrong."""
    found = {each.name: each for each in judge(given(**{part: NotRead(error="The RPC server is unavailable.")}))}
    without = {each.name: each for each in judge(given(authorities=()))}

    assert found["definition default_Definition"].verdict is Verdict.UNKNOWN
    assert without["definition default_Definition"].code is CheckCode.CA_MISSING


def test_an_account_that_is_not_named_may_be_the_approver_s() -> None:
    """Promise 62: where the account is the service's own or that of a ticket, nobody has compared it."""
    (approver,) = wrong(given(server=replace(ONE, connection=Local()), account="the account of this service"))

    assert (approver.verdict, approver.code) == (Verdict.UNKNOWN, CheckCode.APPROVER)
    assert "the account of this service" in approver.text


def test_a_rule_that_names_a_missing_definition_is_told() -> None:
    """Its users cannot log on by it."""
    assert not isinstance(GOOD.rules, NotRead)
    check = only(given(rules=(*GOOD.rules, FasRule(name="extern", definitions=("gone",)))))

    assert (check.name, check.code, check.verdict) == ("rule extern", CheckCode.RULE_NAMES_MISSING, Verdict.FAILED)
    assert "gone" in check.text


def test_spare_certificates_and_requests_are_told_with_the_safe_removal() -> None:
    """One spare is the way back of a renewal; more are keys that nobody needs, and removing them keeps users' ones."""
    spare = replace(CERTIFICATE, id=NEW)
    waiting = replace(CERTIFICATE, status=CertificateStatus.WAITING_FOR_APPROVAL, status_word="WaitingForApproval")
    several = only(given(certificates=(CERTIFICATE, spare, replace(spare, id="33"))))
    requests = only(given(certificates=(CERTIFICATE, replace(waiting, id="4"), replace(waiting, id="5"))))

    assert wrong(given(certificates=(CERTIFICATE, spare, replace(waiting, id="4")))) == []
    assert several.code is CheckCode.SPARE_CERTIFICATES
    assert f"Remove-FasAuthorizationCertificate -Id {NEW} -DeleteUserCerts $false" in several.remedy
    assert requests.code is RenewalReason.TWO_OPEN_REQUESTS


def test_a_test_definition_that_others_use_is_refused() -> None:
    """Pointing it at a new certificate would switch its users before anything is proven (promise 56)."""
    assert not isinstance(GOOD.rules, NotRead)
    check = only(given(rules=(*GOOD.rules, FasRule(name="extern", definitions=("test_definition",)))))

    assert (check.code, check.verdict) == (CheckCode.TEST_SHARED, Verdict.FAILED)
    assert "extern" in check.text


def test_a_test_rule_must_hold_the_test_definition() -> None:
    """Otherwise FAS refuses the test."""
    rules = (FasRule(name="default", definitions=("default_Definition",)), FasRule(name="test", definitions=()))
    check = only(given(rules=rules))

    assert check.code is CheckCode.TEST_MISSING
    assert "Set-FasRule -Name 'test' -CertificateDefinitions 'test_Definition'" in check.remedy


@pytest.mark.parametrize("name", [RA, MANUAL, USER])
def test_each_template_must_be_there(name: str) -> None:
    """Without one of the three FAS cannot ask for its certificate or for users'."""
    assert not isinstance(GOOD.templates, NotRead)
    check = only(given(templates=tuple(each for each in GOOD.templates if each.name != name)))

    assert (check.name, check.code, check.verdict) == (f"template {name}", CheckCode.TEMPLATE_MISSING, Verdict.FAILED)


def test_offline_requests_need_no_template_of_an_agent() -> None:
    """A CA that is not AD CS has no templates; users' certificates still have theirs."""
    offline = replace(ONE, policy=replace(POLICY, offline=True))

    assert wrong(given(server=offline, templates=(Template(name=USER, sddl=SDDL),))) == []


@pytest.mark.parametrize("name", [RA, MANUAL, USER])
def test_a_template_by_which_no_fas_server_enrolls_is_the_cause_of_denials(name: str) -> None:
    """What New-FasMsTemplate leaves without -Acl: the lab's denials (S124), on each of the three templates."""
    check = only(rights("D:PAI(A;;0xf01ff;;;DA)(A;;LCRPLORC;;;AU)", name))

    assert (check.code, check.verdict) == (CheckCode.TEMPLATE_NOBODY_ENROLLS, Verdict.FAILED)
    assert "CR_DISP_DENIED" in check.text
    assert f"certtmpl.msc, {name}, Security" in check.remedy


def test_all_computers_as_enrollment_agents_are_wide() -> None:
    """Domain Computers with Enroll works and is what the lab had; a group of the FAS servers is narrower."""
    sddl = SDDL.replace(FAS_SERVERS, "DC")
    check = only(rights(sddl))

    assert (check.code, check.verdict) == (CheckCode.TEMPLATE_WIDE, Verdict.WARNING)
    assert "Domain Computers" in check.text
    assert "only the FAS servers" in check.remedy
    assert wrong(rights(sddl, USER)) == []


@pytest.mark.parametrize(
    ("sddl", "code", "verdict", "said"),
    [
        (f"D:{ADMINS}(OA;;CR;{ENROLL};;{FAS_SERVERS})", CheckCode.TEMPLATE_NOT_READABLE, Verdict.FAILED, "not read"),
        (
            f"D:{ADMINS}(OA;;CR;{ENROLL};;{FAS_SERVERS})(A;;GR;;;{FAS_SERVERS})",
            CheckCode.TEMPLATE_NOT_READABLE,
            Verdict.WARNING,
            "Authenticated Users may not read",
        ),
        (f"{SDDL}(OD;;CR;{ENROLL};;AU)", CheckCode.TEMPLATE_NOBODY_ENROLLS, Verdict.FAILED, "Only administrators"),
        (f"{SDDL}(A;;WP;;;DU)", CheckCode.TEMPLATE_WIDE, Verdict.WARNING, "Domain Users may change"),
        (
            f"D:(A;;GR;;;DA)(OA;;CR;{ENROLL};;{FAS_SERVERS})(A;;GR;;;AU)",
            CheckCode.TEMPLATE_RIGHTS,
            Verdict.WARNING,
            "Domain Admins lack Write, Enroll",
        ),
        ("D:NO_ACCESS_CONTROL", CheckCode.TEMPLATE_WIDE, Verdict.FAILED, "no access list"),
        ("D:(A;;QQ;;;DA)", CheckCode.TEMPLATE_RIGHTS, Verdict.UNKNOWN, "'QQ'"),
        (None, CheckCode.TEMPLATE_RIGHTS, Verdict.UNKNOWN, "not shown"),
    ],
)
def test_rights_that_are_not_as_they_should_be(sddl: str | None, code: CheckCode, verdict: Verdict, said: str) -> None:
    """Each right that is lacking or too much is told by itself."""
    found = [each for each in wrong(rights(sddl)) if each.code is code]

    assert [each.verdict for each in found] == [verdict]
    assert said in found[0].text


def test_a_failed_trial_is_explained_by_what_the_ca_answered() -> None:
    """CR_DISP_DENIED leads to the templates' rights; another answer to its own cure."""
    s124 = r"at [certifcate authority: ca\CA] the CA returned CR_DISP_DENIED (code 2)"
    pending = s124.replace("DENIED (code 2)", "UNDER_SUBMISSION (code 5)")
    denied, waits, other = (
        only(given(enrollments=(Enrollment(rule="default", definition="d", problem=each),)))
        for each in (s124, pending, "Success is False")
    )

    assert {each.code for each in (denied, waits, other)} == {RenewalReason.PROOF_FAILED}
    assert s124 in denied.text
    assert "CR_DISP_DENIED: The CA denied the request." in denied.text
    assert "on all three templates" in denied.remedy
    assert "waits for the CA manager" in waits.text
    assert "on all three templates" in other.remedy
    assert "CR_DISP" not in other.text


def test_a_trial_without_an_answer_is_no_failed_one() -> None:
    """What did not come to the CA, or not back, says nothing of templates."""
    lost = Enrollment(rule="de'fault", definition="d", problem=NotRead(error="it took longer"))
    found = only(given(enrollments=(lost,)))

    assert (found.verdict, found.code) == (Verdict.UNKNOWN, CheckCode.NOT_READ)
    assert "it took longer" in found.text
    assert "templates" not in found.text + found.remedy
    assert "-Rule 'de''fault' -CertificateDefinition 'd'" in found.remedy


@pytest.mark.parametrize("group", ["DU", "DG"])
def test_a_group_of_users_lets_no_fas_server_enroll(group: str) -> None:
    """It is the server's computer account that asks the CA, also for users."""
    found = only(rights(f"D:{ADMINS}(OA;;CR;{ENROLL};;{group})(A;;LCRPLORC;;;AU)", USER))

    assert (found.code, found.verdict) == (CheckCode.TEMPLATE_NOBODY_ENROLLS, Verdict.FAILED)
    assert "Only administrators and Domain" in found.text
    assert "computer accounts Read and Enroll" in found.remedy


CONDITION = '(@User.Title == "PM")'


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (f"{ADMINS}(ZA;;CR;{ENROLL};;{FAS_SERVERS};{CONDITION})(A;;LCRPLORC;;;AU)", "Only administrators may enroll"),
        (f"{ADMINS}(OA;;CR;{ENROLL};;{FAS_SERVERS})(XA;;GR;;;AU;{CONDITION})", "may enroll but not read"),
        (f"{ADMINS}(OA;;CR;{ENROLL};;{FAS_SERVERS})(A;;LCRPLORC;;;AU)(XD;;CR;;;AU;{CONDITION})", "Only admin"),
    ],
)
def test_a_right_that_a_condition_may_give_is_unknown_and_not_missing(entries: str, said: str) -> None:
    """A condition is not evaluated; who reads the check is told of it, and whose it is."""
    found = [each for each in wrong(rights(f"D:{entries}")) if each.name == f"rights on {RA}"]

    assert {each.verdict for each in found} == {Verdict.UNKNOWN}
    told, *lacking = [each.text for each in found]
    assert "hold under conditions, which are not evaluated here" in told
    assert any(each.startswith("Unless a condition grants it: ") and said in each for each in lacking)


def test_a_condition_is_told_of_although_nothing_is_missing() -> None:
    """It may allow more than is seen; what is allowed without a condition stays a warning."""
    wide = f"D:{ADMINS}(OA;;CR;{ENROLL};;DC)(A;;LCRPLORC;;;AU)(XA;;GA;;;BU;{CONDITION})"
    found = [each for each in wrong(rights(wide)) if each.name == f"rights on {RA}"]

    assert [(each.verdict, each.code) for each in found] == [
        (Verdict.UNKNOWN, CheckCode.TEMPLATE_RIGHTS),
        (Verdict.WARNING, CheckCode.TEMPLATE_WIDE),
    ]
    assert "Entries for Users hold" in found[0].text


@pytest.mark.parametrize("quote", ["'", "\u2018", "\u2019", "\u201a", "\u201b"])
def test_no_name_ends_the_text_of_a_command_to_copy(quote: str) -> None:
    """FAS's names stand in remedies; PowerShell takes each of these for the quote that ends a text."""
    name = f"x{quote}; Remove-FasUserCertificate; {quote}"
    facts = given(rules=(FasRule(name=name, definitions=("gone",)), GOOD.rules[1]))  # type: ignore[index] # they are read
    (found,) = [each for each in wrong(facts) if each.code is CheckCode.RULE_NAMES_MISSING]

    assert f"-Name 'x{quote}{quote}; Remove-FasUserCertificate; {quote}{quote}'" in found.remedy


def test_the_management_machine_is_not_taken_for_the_server() -> None:
    """Where it is a FAS server too, its maintenance is its own."""
    here = replace(ONE, connection=WinRm(host="fas2.example.test"))
    listed = (
        Listed(address="fas2.example.test", maintenance=True),
        Listed(address="fas1.example.test", maintenance=False),
    )
    found = [each for each in judge(given(server=here, farm=(here, TWO), listed=listed)) if each.name == "maintenance"]

    assert [each.verdict for each in found] == [Verdict.OK]


def test_no_trial_is_told_where_none_was_asked_for() -> None:
    """Without the request nothing is enrolled and nothing is said of it."""
    assert not [each for each in judge(given(enrollments=None)) if each.name.startswith("enrollment")]


@pytest.mark.parametrize("monitor", [GOOD.monitor, NotRead(error="gone")])
def test_whatever_could_be_read_is_judged_without_the_rest(monitor: Monitor | NotRead) -> None:
    """Any mixture of what is known, empty and unknown has a verdict, and what is unknown is never all ok."""
    parts = ("certificates", "definitions", "rules", "listed", "authorities", "templates")
    for values in product((NotRead(error="gone"), (), None), repeat=len(parts)):
        changed = {part: value for part, value in zip(parts, values, strict=True) if value is not None}
        verdict = worst(judge(given(monitor=monitor, **changed)))

        assert (verdict is Verdict.OK) == (not changed and not isinstance(monitor, NotRead))
