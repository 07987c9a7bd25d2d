"""Whether what is configured can work: the lead, the test, the monitor, the approver, and an enrollment as a trial."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from evidence_service.renewal.cmdlets import literal
from evidence_service.renewal.dispositions import CR_DISP_DENIED, explain_disposition, refusal_of
from evidence_service.renewal.farm import WinRm
from evidence_service.renewal.preflight_model import (
    Check,
    CheckCode,
    Enrollment,
    NotRead,
    PreflightFacts,
    failed,
    ok,
    unknown,
    warning,
)
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.timing import lead_findings, lead_of

_DAY = timedelta(days=1)


def lead_checks(facts: PreflightFacts) -> Iterator[Check]:
    """Whether the lead fits the lifetime and the people (promise 53)."""
    name, policy = "lead", facts.server.policy
    findings = lead_findings(policy, facts.lifetime)
    for each in findings:
        yield failed(
            name,
            f"The lead is {each.presented}; it must be {each.expected}.",
            "Correct `lead` in the renewal file, or the validity period in certtmpl.msc, General.",
            each.reason if isinstance(each.reason, RenewalReason) else RenewalReason.LEAD_DOES_NOT_FIT,
        )
    if findings:
        return
    if facts.lifetime is None:
        yield unknown(
            name,
            "How long certificates live is not known, so that it cannot be said whether the lead fits.",
            "Set `lifetime` in the renewal file to the validity period in certtmpl.msc, General.",
            CheckCode.LIFETIME_UNKNOWN,
        )
        return
    lead, lifetime = _days(lead_of(policy, facts.lifetime)), _days(facts.lifetime)
    yield ok(name, f"Renewals start {lead} before expiry, of {lifetime} that certificates live.", CheckCode.LEAD)


def trial_checks(facts: PreflightFacts) -> Iterator[Check]:
    """Whether a new certificate can be proven before anything in use names it."""
    name, policy = "test", facts.server.policy
    set_up = {
        "test_upn": policy.test_upn,
        "test_rule": policy.test_rule,
        "test_definition": policy.test_definition,
    }
    missing = [each for each, value in set_up.items() if value is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        after = "not even after it" if policy.test_upn is None else "only after it"
        yield warning(
            name,
            f"{', '.join(missing)} {verb} not set, so that a new certificate is not proven before the switch, "
            f"and {after}.",
            "Make a test rule with a test definition of its own (`New-FasCertificateDefinition`, `New-FasRule`), and "
            "set test_upn, test_rule and test_definition.",
            CheckCode.TEST_MISSING,
        )
        return
    found = list(_test_faults(facts, policy.test_rule or "", policy.test_definition or ""))
    yield from found or [
        ok(name, "A new certificate is proven by the test rule before the switch.", CheckCode.TEST_SET_UP)
    ]


def _test_faults(facts: PreflightFacts, rule: str, definition: str) -> Iterator[Check]:
    name = "test"
    if isinstance(facts.definitions, NotRead) or isinstance(facts.rules, NotRead):
        yield unknown(
            name,
            "Whether the test rule and definition exist is not known.",
            f"Run `Get-FasRule -Name {literal(rule)}` and `Get-FasCertificateDefinition -Name {literal(definition)}`.",
        )
        return
    rules = {each.name.casefold(): each for each in facts.rules}
    if definition.casefold() not in {each.name.casefold() for each in facts.definitions}:
        yield failed(
            name,
            f"The server has no definition {definition}.",
            f"Run `New-FasCertificateDefinition -Name {literal(definition)} …`, or correct `test_definition`.",
            CheckCode.TEST_MISSING,
        )
    found = rules.get(rule.casefold())
    if found is None:
        yield failed(
            name,
            f"The server has no rule {rule}.",
            f"Run `New-FasRule -Name {literal(rule)} …`, or correct `test_rule`.",
            CheckCode.TEST_MISSING,
        )
    elif definition.casefold() not in {each.casefold() for each in found.definitions}:
        yield failed(
            name,
            f"The rule {rule} does not hold the definition {definition}.",
            f"Run `Set-FasRule -Name {literal(rule)} -CertificateDefinitions {literal(definition)}`.",
            CheckCode.TEST_MISSING,
        )
    shared = [
        each.name
        for each in facts.rules
        if each.name.casefold() != rule.casefold()
        and definition.casefold() in {one.casefold() for one in each.definitions}
    ]
    if shared:
        yield failed(
            name,
            f"The rules {', '.join(shared)} use the test definition too, so that their users would get a certificate "
            "that is not proven yet.",
            "Give those rules another definition: `Set-FasRule -Name … -CertificateDefinitions …`.",
            CheckCode.TEST_SHARED,
        )


def monitor_checks(facts: PreflightFacts) -> Iterator[Check]:
    """FAS's own monitor as a second witness: on, and later than our lead, so that it stays silent while all is well."""
    name, monitor = "monitor", facts.monitor
    if facts.session is not None:
        return
    if isinstance(monitor, NotRead):
        what = "FAS before 2112 has none" if monitor.lacking else monitor.error
        yield unknown(name, f"FAS's own monitor cannot be read: {what}.", "Run `Get-FasRaCertificateMonitor` there.")
        return
    if monitor.enabled is False:
        yield warning(
            name,
            "FAS's own monitor is off, so that nothing but this service warns of an expiry.",
            "Run `Set-FasRaCertificateMonitor -Enabled $true`.",
            CheckCode.MONITOR_OFF,
        )
        return
    lead = lead_of(facts.server.policy, facts.lifetime)
    if monitor.enabled is None or monitor.threshold is None:
        yield unknown(
            name, "What FAS's own monitor is set to cannot be read.", "Run `Get-FasRaCertificateMonitor` there."
        )
    elif monitor.threshold >= lead:
        days = max(int(lead / _DAY) // 2, 1)
        yield warning(
            name,
            f"FAS's own monitor warns {_days(monitor.threshold)} before expiry, which is before a renewal has had its "
            f"lead of {_days(lead)}, so that its warning (413) does not mean that a renewal is late.",
            f"Run `Set-FasRaCertificateMonitor -WarningThresholdInDays {days}`.",
            CheckCode.MONITOR,
        )
    else:
        text = (
            f"FAS's own monitor is on and warns (413) {_days(monitor.threshold)} before expiry, after the lead began."
        )
        yield ok(name, text, CheckCode.MONITOR)


def approver_checks(facts: PreflightFacts) -> Iterator[Check]:
    """The human check stays human: who approves is not the account that requests (promise 62)."""
    name = "approver"
    if not facts.approvers:
        yield unknown(
            name,
            "Who approves requests is not configured.",
            f"Set approvers in the renewal file, and see in certsrv.msc, Properties, Security, that {facts.account} "
            "may not issue and manage certificates.",
            CheckCode.APPROVER,
        )
        return
    same = [each for each in facts.approvers if _account(each) == _account(facts.account)]
    if same:
        yield failed(
            name,
            f"{', '.join(same)} is to approve and is the account that requests, so that nobody checks the request.",
            f"Name another person as approver, and take Issue and Manage Certificates from {facts.account} in "
            "certsrv.msc, Properties, Security.",
            CheckCode.APPROVER_REQUESTS,
        )
        return
    connection = facts.server.connection
    if not isinstance(connection, WinRm) or connection.username is None:
        yield unknown(
            name,
            f"Whether who approves is also {facts.account} is not known: the configuration does not name it.",
            "See in certsrv.msc, Properties, Security, that the account that requests may not issue and manage "
            "certificates.",
            CheckCode.APPROVER,
        )
        return
    yield ok(
        name,
        f"Another than {facts.account} approves. That the account has no right to do so is to be seen in certsrv.msc, "
        "Properties, Security; it cannot be read from here.",
        CheckCode.APPROVER,
    )


def _account(name: str) -> str:
    r"""What DOMAIN\name and name@domain have in common, so that one person is not taken for two."""
    return name.rpartition("\\")[2].partition("@")[0].casefold()


def revocation_checks(facts: PreflightFacts) -> Iterator[Check]:
    """Whether a revocation would be noticed (promise 58)."""
    name = "revocation"
    if facts.revocation is None:
        yield warning(
            name,
            "No CRL is configured for the CA, so that a revoked authorization certificate is not noticed.",
            "Configure the CA's CRL (its http address is in certsrv.msc, Properties, Extensions) in the renewal file.",
            CheckCode.REVOCATION,
        )
        return
    for each in facts.revocation:
        yield unknown(
            name, f"{each}.", "Run `certutil -url` on the certificate, or correct the list in the renewal file."
        )
    blind = [each.id for each in facts.used if each.serial is None and each.der is None]
    if blind:
        yield unknown(
            name,
            f"The serial number of {', '.join(blind)} is not known, so that it cannot be looked up.",
            "Set `read_events` so that the server's log is read, which lists serial numbers (Citrix.Fas.PkiCore, 1).",
            CheckCode.REVOCATION,
        )
    if not facts.revocation and not blind:
        yield ok(name, "The CA's CRL is there, in date and signed by the CA.", CheckCode.REVOCATION)


def enrollment_checks(facts: PreflightFacts) -> Iterator[Check]:
    """What a trial of each rule came to, where it was asked for."""
    if facts.enrollments is None:
        return
    if isinstance(facts.enrollments, NotRead):
        yield unknown(
            "enrollment",
            facts.enrollments.error,
            "Set test_upn, or run `Test-FasCertificateSigningRequest -UserPrincipalName … -Rule …` on the FAS server.",
        )
        return
    for each in facts.enrollments:
        yield _enrollment(each)


def _enrollment(outcome: Enrollment) -> Check:
    name = f"enrollment by {outcome.rule}, {outcome.definition}"
    if isinstance(outcome.problem, NotRead):
        return unknown(
            name,
            f"It could not be tried, or no answer came: {outcome.problem.error}",
            "Run `Test-FasCertificateSigningRequest -UserPrincipalName … -Rule "
            f"{literal(outcome.rule)} -CertificateDefinition {literal(outcome.definition)}` on the FAS server.",
        )
    if outcome.problem is None:
        return ok(name, "The CA enrolled the test user.", CheckCode.ENROLLMENT)
    code = refusal_of(outcome.problem).disposition
    why = explain_disposition(CR_DISP_DENIED if code is None else code)
    meant = "" if code is None else f" {why.name}: {why.meaning}"
    likely = f" Likely: {why.causes[0]}" if why.causes else ""
    remedy = why.cures[0] if why.cures else "See certsrv.msc under Failed Requests."
    return failed(name, f"{outcome.problem}{meant}{likely}", remedy, RenewalReason.PROOF_FAILED)


def _days(span: timedelta) -> str:
    days = span / _DAY
    return "1 day" if days == 1 else f"{days:.4g} days"
