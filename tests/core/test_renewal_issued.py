"""What came back from the CA, fault by fault, and the leads and lives that fit."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time, timedelta
from functools import cache
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7

from evidence_service.renewal.issued import REQUEST_AGENT, check_offline_response, issued_findings
from evidence_service.renewal.model import (
    AskKind,
    Attempts,
    AuthorizationCertificate,
    AwaitApproval,
    Import,
    RenewalPolicy,
    Window,
)
from evidence_service.renewal.plan import asks_to_settle, plan_renewal
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.timing import (
    in_window,
    lead_findings,
    lead_of,
    lifetime_of,
    next_opening,
    renew_at,
    renewal_start,
)
from tests.renewal.world import (
    CA,
    DAY,
    HOUR,
    NEW,
    NOW,
    OLD,
    PLAIN,
    SECOND,
    asking,
    certificate,
    did,
    new,
    requested,
    seen,
)

CLIENT = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2")


@cache
def key(name: str) -> rsa.RSAPrivateKey:
    """The key of this name in this run."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key_sha256(name: str) -> str:
    """The SHA-256 of its SubjectPublicKeyInfo."""
    public = key(name).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(public).hexdigest()


def issued(
    name: str = "ours",
    usage: x509.ObjectIdentifier | None = REQUEST_AGENT,
    end: datetime = NOW + 700 * DAY,
) -> x509.Certificate:
    """A certificate by a CA."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key(name).public_key())
        .serial_number(1)
        .not_valid_before(NOW - 900 * DAY)
        .not_valid_after(end)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(key("ca"), hashes.SHA256())


def answer(*certificates: x509.Certificate) -> bytes:
    """A PKCS #7 of these."""
    return pkcs7.serialize_certificates(list(certificates), Encoding.DER)


def sound() -> AuthorizationCertificate:
    """A new certificate of which everything is known."""
    return new(der=issued().public_bytes(Encoding.DER), request_key_sha256=key_sha256("ours"))


LISTED = {
    "no trust area": ({"trust_area": None}, RenewalReason.ISSUED_WITHOUT_KEY, "none"),
    "another CA": ({"certificate_authority": "x\\Test CA"}, RenewalReason.ISSUED_OTHER_CA, "x\\Test CA"),
    "exportable": ({"exportable": True}, RenewalReason.ISSUED_EXPORTABLE, "True"),
    "a short key": ({"key_length": 1024}, RenewalReason.ISSUED_WEAK_KEY, "1024"),
    "a short life": ({"expires": NOW + 59 * DAY}, RenewalReason.ISSUED_SHORT_LIFE, "2026-04-30T12:00:00Z"),
    "the key of another": (
        {"request_key_sha256": "00" * 32},
        RenewalReason.ISSUED_OTHER_KEY,
        None,
    ),
    "an unreadable certificate": ({"der": b"0"}, RenewalReason.RESPONSE_UNREADABLE, None),
}


def test_what_was_asked_for_has_no_finding() -> None:
    """A certificate as asked for passes, and so does one of which FAS tells only the trust area."""
    silent = replace(
        new(), certificate_authority=None, key_length=None, exportable=None, expires=None, request_key_sha256=None
    )

    assert issued_findings(sound(), certificate(), requested(), PLAIN, NOW) == ()
    assert issued_findings(silent, certificate(), requested(), PLAIN, NOW) == ()
    assert issued_findings(replace(sound(), certificate_authority=CA.upper()), None, requested(), PLAIN, NOW) == ()


@pytest.mark.parametrize("fault", LISTED)
def test_each_fault_alone_is_found(fault: str) -> None:
    """Promise 56: each difference is named, with what was presented."""
    changes, reason, presented = LISTED[fault]

    (finding,) = issued_findings(replace(sound(), **changes), certificate(), requested(), PLAIN, NOW)  # type: ignore[arg-type]

    assert finding.reason is reason
    assert finding.expected
    if presented is not None:
        assert finding.presented == presented


@pytest.mark.parametrize("usage", [None, CLIENT], ids=["none", "client authentication"])
def test_a_certificate_without_the_usage_is_found(usage: x509.ObjectIdentifier | None) -> None:
    """Promise 56: without Certificate Request Agent it enrolls nobody."""
    der = issued(usage=usage).public_bytes(Encoding.DER)

    (finding,) = issued_findings(replace(sound(), der=der), certificate(), requested(), PLAIN, NOW)

    assert finding.reason is RenewalReason.ISSUED_NOT_REQUEST_AGENT
    assert finding.expected == "1.3.6.1.4.1.311.20.2.1"


def test_one_that_ends_no_later_than_the_old_is_found() -> None:
    """Promise 56: a renewal that gains no time is none."""
    old = certificate(expires=NOW + 700 * DAY)

    (finding,) = issued_findings(sound(), old, requested(), PLAIN, NOW)

    assert finding.reason is RenewalReason.ISSUED_SHORT_LIFE
    assert finding.expected.startswith("after ")


def waits() -> AuthorizationCertificate:
    """An offline request."""
    return new("WaitingForApproval", certificate_authority=None, request_key_sha256=key_sha256("ours"))


def test_a_signed_answer_passes() -> None:
    """The answer may hold the chain; what counts is the one certificate for the request's key."""
    assert check_offline_response(answer(issued()), waits(), PLAIN, NOW) == ()
    assert check_offline_response(answer(issued("ca"), issued()), waits(), PLAIN, NOW) == ()


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"", RenewalReason.RESPONSE_UNREADABLE),
        (b"-----BEGIN PKCS7-----", RenewalReason.RESPONSE_UNREADABLE),
        (answer(issued("ca")), RenewalReason.ISSUED_OTHER_KEY),
        (answer(issued(), issued(end=NOW + 701 * DAY)), RenewalReason.ISSUED_OTHER_KEY),
        (answer(issued(usage=CLIENT)), RenewalReason.ISSUED_NOT_REQUEST_AGENT),
        (answer(issued(end=NOW + 10 * DAY)), RenewalReason.ISSUED_SHORT_LIFE),
    ],
    ids=["nothing", "PEM", "the chain only", "two for the key", "another usage", "a short life"],
)
def test_an_answer_that_is_none_is_found(response: bytes, reason: RenewalReason) -> None:
    """Promise 56: an answer is judged before FAS gets it."""
    (finding,) = check_offline_response(response, waits(), PLAIN, NOW)

    assert finding.reason is reason


def test_an_answer_with_a_short_key_is_found() -> None:
    """Promise 56: the key's length is read from the certificate itself."""
    (finding,) = check_offline_response(answer(issued()), waits(), replace(PLAIN, least_key_length=4096), NOW)

    assert finding.reason is RenewalReason.ISSUED_WEAK_KEY
    assert (finding.expected, finding.presented) == ("at least 4096", "2048")


def test_an_answer_to_an_unknown_key_is_refused() -> None:
    """Where FAS does not show the request's key, nothing can prove that the answer belongs to it."""
    (finding,) = check_offline_response(answer(issued()), replace(waits(), request_key_sha256=None), PLAIN, NOW)

    assert finding.reason is RenewalReason.ISSUED_OTHER_KEY


def test_a_brought_answer_is_imported_or_its_wish_settled() -> None:
    """A person's answer goes to FAS if it answers the request; otherwise the person is told what is wrong with it."""
    observation = seen(certificate(), waits())
    good, bad = (
        asking(AskKind.IMPORT, did(requested(offline=True)), payload=each)
        for each in (answer(issued()), answer(issued("ca")))
    )

    assert plan_renewal(observation, good, PLAIN, NOW) == Import(certificate_id=NEW, response=answer(issued()), ask=1)
    assert asks_to_settle(observation, good, PLAIN, NOW) == ()
    assert isinstance(plan_renewal(observation, bad, PLAIN, NOW), AwaitApproval)
    ((_, outcome),) = asks_to_settle(observation, bad, PLAIN, NOW)
    assert outcome.startswith("Not imported: issued_other_key: expected one certificate for the key")


def test_a_window_may_run_past_midnight() -> None:
    """Four hours from Saturday 22:00 are open at Sunday 01:59 and closed at 02:00."""
    policy, sunday = replace(PLAIN, windows=(WEEKLY,)), datetime(2026, 3, 8, tzinfo=NOW.tzinfo)

    assert in_window(policy, sunday + timedelta(hours=1, minutes=59))
    assert not in_window(policy, sunday + timedelta(hours=2))
    assert next_opening(policy, sunday) == sunday + timedelta(days=6, hours=22)


WEEKLY = Window(weekdays=frozenset({5}), start=time(22), length=timedelta(hours=4))
LEADS: dict[str, tuple[RenewalPolicy, timedelta | None, list[str]]] = {
    "60 days of two years": (RenewalPolicy(), 730 * DAY, []),
    "60 days of 329": (RenewalPolicy(), 329 * DAY, []),
    "60 days of 90: exactly two thirds": (RenewalPolicy(), 90 * DAY, []),
    "730 days of 329": (
        RenewalPolicy(lead_days=730),
        329 * DAY,
        ["at most 219.3 days, two thirds of the 329 days that certificates live"],
    ),
    "10 days for an approver who takes 14": (
        RenewalPolicy(lead_days=10),
        None,
        ["at least 19 days (approval_time, jitter, windows, switch, soak)"],
    ),
    "20 days are enough without windows": (RenewalPolicy(lead_days=20), 730 * DAY, []),
    "20 days are too few with a weekly window": (
        RenewalPolicy(lead_days=20, windows=(WEEKLY,)),
        730 * DAY,
        ["at least 25.83 days (approval_time, jitter, windows, switch, soak)"],
    ),
    "a tenth of a year": (RenewalPolicy(lead_share=0.1), 365 * DAY, []),
    "a tenth of a lifetime that is not known": (RenewalPolicy(lead_share=0.1), None, []),
    "nine tenths": (
        RenewalPolicy(lead_share=0.9),
        300 * DAY,
        ["at most 200 days, two thirds of the 300 days that certificates live"],
    ),
}


@pytest.mark.parametrize("sentence", LEADS)
def test_a_lead_fits_or_is_refused_with_its_numbers(sentence: str) -> None:
    """Promise 53: a lead that cannot work is told when it is set, with what would."""
    policy, lifetime, expected = LEADS[sentence]

    findings = lead_findings(policy, lifetime)

    assert [each.expected for each in findings] == expected
    assert {each.reason for each in findings} <= {RenewalReason.LEAD_DOES_NOT_FIT}
    assert all(each.presented.endswith("days") for each in findings)


def test_a_lead_that_does_not_fit_is_not_used() -> None:
    """Promise 53: a third of the lifetime instead, or as much as the approver needs, and never over two thirds."""
    assert lead_of(RenewalPolicy(lead_days=730), 330 * DAY) == 110 * DAY
    assert lead_of(RenewalPolicy(lead_days=2), 33 * DAY) == 19 * DAY
    assert lead_of(RenewalPolicy(), 9 * DAY) == 6 * DAY
    assert lead_of(RenewalPolicy(lead_days=2), None) == 19 * DAY


def test_the_jitter_leaves_the_approver_the_time_that_is_his() -> None:
    """Promises 52 and 53: where the lead has no room for it, there is no jitter."""
    drawn, policy = Attempts(jitter=0.5), RenewalPolicy(jitter=100 * DAY)
    old = certificate(expires=NOW + 60 * DAY, not_before=NOW - 670 * DAY)
    tight = replace(policy, approval_time=56 * DAY)

    loose_start = renewal_start(old, drawn, replace(policy, jitter=2 * DAY), NOW)

    assert loose_start == NOW + DAY
    assert lead_findings(tight, 730 * DAY)
    start = renewal_start(old, drawn, tight, NOW)
    assert start is not None
    assert NOW + 60 * DAY - start >= 60 * DAY


def test_the_lifetime_is_known_from_the_best_source() -> None:
    """When our own was first seen, then what the log lists, then what is set; another's first sight is no begin."""
    policy, ours = replace(PLAIN, lifetime=500 * DAY), did(requested(), until=NOW - HOUR)
    seen_first = replace(ours, first_usable={NEW: NOW, OLD: NOW})

    assert lifetime_of(certificate(not_before=NOW - 335 * DAY), ours, policy) == 365 * DAY
    assert lifetime_of(certificate(not_before=NOW + SECOND), seen_first, policy) == 500 * DAY, "it was usable before"
    assert lifetime_of(new(not_before=NOW + 699 * DAY), seen_first, policy) == 700 * DAY
    assert lifetime_of(new(), seen_first, policy) == 700 * DAY
    assert lifetime_of(new(), ours, policy) == 700 * DAY + HOUR
    assert lifetime_of(certificate(), seen_first, policy) == 500 * DAY
    assert lifetime_of(certificate(), seen_first, PLAIN) is None


def test_people_are_told_the_earliest_start() -> None:
    """Promise 63: renew-at is that of the used certificate whose renewal starts first; unused ones do not count."""
    used = certificate(expires=NOW + 100 * DAY)
    observation = seen(used, certificate("unused", expires=NOW + 70 * DAY), replace(used, id="b", expires=None))

    assert renew_at(observation, Attempts(jitter=0.0), PLAIN, NOW) == NOW + 40 * DAY
    assert renew_at(seen(certificate(expires=None)), Attempts(jitter=0.0), PLAIN, NOW) is None
