"""Findings and instants as text for a person or a program."""

from __future__ import annotations

from datetime import UTC, datetime

from idp_certs.reasons import Finding, TrustReason

AGAIN = "Save the metadata again from the IdP."
OTHER_PIN = (
    "Ask the server's administrator for its certificate's SHA-256. If it was renewed, subscribe again with the new one "
    "(--pin, or pin_sha256)."
)
OTHER_AUTHORITY = (
    "If its certificate authority is your own, subscribe with it (--ca FILE, or ca_pem; --pin or pin_sha256 asks for "
    "one certificate in addition). Otherwise import the file by hand and compare its fingerprint."
)
OTHER_SIGNER = (
    "Ask whoever publishes the document which certificate signs it, or leave the metadata certificate out where the "
    "IdP publishes it itself."
)
_OF_XML = frozenset(reason for reason in TrustReason if reason.startswith("xml_"))


def metadata_finding(finding: Finding) -> str:
    """A finding about metadata as one line; the advice of the `xml_` reasons is about evidence and is replaced.

    So is that of a server that is not proven, by what an administrator can set.
    """
    advice = None
    if finding.reason in _OF_XML:
        advice = AGAIN
    elif finding.reason is TrustReason.METADATA_UNTRUSTED:
        advice = OTHER_PIN if finding.where == "pin_sha256" else OTHER_AUTHORITY
    elif (
        finding.reason is TrustReason.METADATA_SIGNATURE_INVALID
        and "signature by the metadata certificate" in finding.expected
    ):
        advice = OTHER_SIGNER
    return finding_line(finding, advice=advice)


def finding_line(finding: Finding, *, advice: str | None = None) -> str:
    """A finding as one line: code, meaning, what was expected and presented, what to do (`advice`, if given)."""
    values = [
        f"{name} {value}" for name, value in (("expected", finding.expected), ("found", finding.presented)) if value
    ]
    detail = f" ({', '.join(values)})" if values else ""
    return f"{finding.reason}: {finding.reason.meaning.rstrip('.')}{detail}. {advice or finding.reason.advice}"


def instant(value: datetime) -> str:
    """`2026-01-31T12:00:00Z`; a fraction of a second only where there is one. Raises ValueError for naive values."""
    if value.tzinfo is None:
        raise ValueError("an instant without a time zone")
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def moment(value: datetime) -> str:
    """The instant to the second, for people."""
    return instant(value.replace(microsecond=0))
