"""Judges whether the certificates of one FAS server could be renewed, and whether users could be enrolled after it.

Every check names what it looked at, what it found, and what to do. What could not be read is unknown, never ok.
Not judged: the rights at the CA itself, which FAS's cmdlets do not show.
"""

from __future__ import annotations

from evidence_service.renewal.preflight_ca import authority_checks, template_checks
from evidence_service.renewal.preflight_certificates import certificate_checks, definition_checks
from evidence_service.renewal.preflight_model import (
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
)
from evidence_service.renewal.preflight_policy import (
    approver_checks,
    enrollment_checks,
    lead_checks,
    monitor_checks,
    revocation_checks,
    trial_checks,
)
from evidence_service.renewal.preflight_server import maintenance_checks, release_checks, sign_in_checks

__all__ = [
    "Authority",
    "Check",
    "CheckCode",
    "Enrollment",
    "Listed",
    "Monitor",
    "NotRead",
    "PreflightFacts",
    "Template",
    "Verdict",
    "judge",
    "worst",
]

_READ = (
    release_checks,  # what the release lacks
    authority_checks,  # where requests go
    template_checks,  # what they are made by
    certificate_checks,  # what is in use
    definition_checks,  # by what
    revocation_checks,  # whether its loss would be noticed
)
_CONFIGURED = (
    maintenance_checks,  # whether it may switch
    lead_checks,  # whether there is time
    trial_checks,  # whether it is proven
    monitor_checks,  # whether somebody else watches
    approver_checks,  # whether a person decides
    enrollment_checks,  # whether it works now
)
_SEVERITY = (Verdict.OK, Verdict.UNKNOWN, Verdict.WARNING, Verdict.FAILED)


def judge(facts: PreflightFacts) -> tuple[Check, ...]:
    """Everything, in the order in which to put it right. Without a session only what is configured."""
    judges = _CONFIGURED if facts.session is not None else _READ + _CONFIGURED
    return tuple(check for each in (sign_in_checks, *judges) for check in each(facts))


def worst(checks: tuple[Check, ...]) -> Verdict:
    """The verdict on the whole; nothing checked is unknown."""
    return max((each.verdict for each in checks), key=_SEVERITY.index, default=Verdict.UNKNOWN)
