"""Trust: who is claimed, which certificates hold, and what becomes of the ones that no longer should."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from lxml import etree

from evidence_service.access.model import Allow, Encryption, Policy, Snapshot
from evidence_service.access.verify import verify_evidence
from evidence_service.demo.idp import Profile
from idp_certs.alarms import IdpStatus, trust_alarms
from idp_certs.model import CertificateState, IdentityProvider, SigningCertificate, TrustSnapshot
from tests.core.given import (
    ALLOW,
    ENTITY_ID,
    ISSUED,
    KEYCLOAK,
    NOW,
    OKTA,
    SHAPES,
    Change,
    all_of,
    certificate,
    changed,
    deny,
    genuine,
    idp_of,
    judged,
    nothing,
    one,
    outcome,
    policy_for,
    signed,
    snapshot_of,
    with_text,
    without,
)
from tests.core.test_signature import made
from tests.corpus import keys
from tests.corpus.sign import How

ANNOUNCED, TRUSTED, RETIRING, RETIRED, REVOKED = CertificateState
BEFORE, AFTER = ISSUED - timedelta(seconds=1), ISSUED + timedelta(seconds=1)

_STATES: dict[str, tuple[tuple[SigningCertificate, ...], tuple[str, ...]]] = {
    # sentence: (certificates of the IdP, outcome of evidence that the first one's key signed)
    "trusted": ((certificate(),), ALLOW),
    "announced is usable": ((certificate(state=ANNOUNCED),), ALLOW),
    "retiring, removed after the issue": ((certificate(state=RETIRING, since=AFTER),), ALLOW),
    "retiring, removed at the issue": ((certificate(state=RETIRING, since=ISSUED),), deny("certificate_retired")),
    "retiring, removed before the issue": ((certificate(state=RETIRING, since=BEFORE),), deny("certificate_retired")),
    "retired": ((certificate(state=RETIRED, since=AFTER),), deny("certificate_retired")),
    "revoked": ((certificate(state=REVOKED, since=AFTER),), deny("certificate_revoked")),
    "retired, and others trusted": (
        (certificate(state=RETIRED), certificate("idp_next")),
        deny("certificate_retired"),
    ),
    "revoked, and others trusted": (
        (certificate(state=REVOKED), certificate("idp_next")),
        deny("certificate_revoked"),
    ),
    "the same key renewed: the old retired": ((certificate(state=RETIRED), certificate("idp_renewed")), ALLOW),
    "the same key renewed: the old retiring": (
        (certificate(state=RETIRING, since=BEFORE), certificate("idp_renewed")),
        ALLOW,
    ),
    "the same key renewed: the new announced": (
        (certificate(state=RETIRED), certificate("idp_renewed", ANNOUNCED)),
        ALLOW,
    ),
    "the same key renewed: the old revoked": (
        (certificate(state=REVOKED), certificate("idp_renewed")),
        deny("certificate_revoked"),
    ),
    "the same key renewed: the new revoked": (
        (certificate(), certificate("idp_renewed", REVOKED)),
        deny("certificate_revoked"),
    ),
    "the same key twice: retired and retiring in time": (
        (certificate(state=RETIRED), certificate("idp_renewed", RETIRING, AFTER)),
        ALLOW,
    ),
    "only another key": ((certificate("idp_next"),), deny("signature_invalid")),
}


@pytest.mark.parametrize("name", _STATES)
@pytest.mark.parametrize("order", [1, -1], ids=["listed so", "listed the other way"])
@pytest.mark.parametrize("profile", [SHAPES["assertion signed"][0], KEYCLOAK, OKTA], ids=lambda each: each.product)
def test_states_of_a_certificate(name: str, order: int, profile: Profile) -> None:
    """What each state of the signing certificate allows, in whatever order certificates are listed."""
    certificates, expected = _STATES[name]
    snapshot = snapshot_of(policy_for(profile), *certificates[::order])

    assert outcome(judged(genuine(idp_of(profile)), snapshot)) == expected


@pytest.mark.parametrize(
    ("assertion", "response", "expected"),
    [
        (TRUSTED, TRUSTED, ALLOW),
        (REVOKED, TRUSTED, deny("certificate_revoked")),
        (TRUSTED, REVOKED, deny("certificate_revoked")),
        (RETIRED, TRUSTED, deny("certificate_retired")),
        (TRUSTED, RETIRED, deny("certificate_retired")),
        (RETIRING, TRUSTED, deny("certificate_retired")),
        (TRUSTED, RETIRING, deny("certificate_retired")),
    ],
)
def test_the_keys_of_both_signatures_count(
    assertion: CertificateState, response: CertificateState, expected: tuple[str, ...]
) -> None:
    """Where two keys signed, each of them must still be good."""
    root = signed(etree.fromstring(genuine()), idp_of(key="idp_next"))
    known = certificate("idp", assertion, BEFORE), certificate("idp_next", response, BEFORE)

    assert outcome(judged(etree.tostring(root), snapshot_of(None, *known))) == expected


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("weak", How(key="weak", key_info=None)),
        ("p224", How(key="p224", key_info=None, method="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256")),
    ],
)
def test_weak_keys(name: str, how: How) -> None:
    """A signature by a key that is too weak is denied although the certificate is trusted."""
    assert outcome(judged(made(how), snapshot_of(policy_for(), certificate(name)))) == deny("certificate_weak_key")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("idp", ALLOW), ("idp_expired", deny("certificate_expired")), ("idp_future", deny("certificate_expired"))],
)
def test_certificate_dates_only_where_asked_for(name: str, expected: tuple[str, ...]) -> None:
    """Promise 38: a certificate's dates are judged only by policy, against now."""
    strict = policy_for(enforce_certificate_dates=True)

    assert outcome(judged(genuine(), snapshot_of(policy_for(), certificate(name)))) == ALLOW
    assert outcome(judged(genuine(), snapshot_of(strict, certificate(name)))) == expected


def test_certificate_dates_are_exact() -> None:
    """Promise 38: the first and the last instant of a certificate's dates are inside them."""
    policy = policy_for(enforce_certificate_dates=True, max_age=timedelta(days=3650), enforce_session_expiry=False)
    known = certificate("idp_expired")
    end = known.x509.not_valid_after_utc
    snapshot = snapshot_of(policy, known)
    early = genuine(issue_instant=end - timedelta(minutes=1))

    assert outcome(judged(early, snapshot, end)) == ALLOW
    assert outcome(judged(early, snapshot, end + timedelta(seconds=1))) == deny("certificate_expired")


def test_promise_38_the_end_of_a_certificate_is_told_long_before_and_changes_only_what_is_set() -> None:
    """At its midnight the key in use goes on, or stops, as the policy says, and alarms were there for two months."""
    known = certificate("idp_expired")
    end = known.x509.not_valid_after_utc

    def alarms(now: datetime) -> set[str]:
        status = IdpStatus(
            entity_id=ENTITY_ID,
            certificates=(known,),
            listed=frozenset({known.sha256}),
            subscribed=True,
            confirmed=now,
            obtained=now,
            valid_until=None,
        )
        return {each.kind for each in trust_alarms(status, now)}

    assert alarms(end - timedelta(days=61)) == set()
    assert alarms(end - timedelta(days=59)) == {"certificate_expiring"}
    assert alarms(end - timedelta(days=19)) == {"certificate_expiring", "no_successor"}
    assert "certificate_expired" in alarms(end + timedelta(seconds=1))
    for strict, after in ((False, ALLOW), (True, deny("certificate_expired"))):
        policy = policy_for(enforce_certificate_dates=strict)
        for now, expected in ((end, ALLOW), (end + timedelta(seconds=1), after)):
            signed_in = genuine(issue_instant=now - timedelta(minutes=1))
            assert outcome(judged(signed_in, snapshot_of(policy, known), now)) == expected


def test_metadata_stale() -> None:
    """Trust by stale metadata ends after the given instant, to the second."""
    snapshot = snapshot_of(None, deny_after=NOW)

    assert outcome(judged(genuine(), snapshot, NOW)) == ALLOW
    assert outcome(judged(genuine(), snapshot, NOW + timedelta(seconds=1))) == deny("metadata_stale")


_PROVIDER: dict[str, tuple[Snapshot, tuple[str, ...]]] = {
    "disabled": (snapshot_of(enabled=False), deny("idp_disabled")),
    "disabled with a forgery": (snapshot_of(None, certificate("idp_next"), enabled=False), deny("idp_disabled")),
    "no audiences": (snapshot_of(policy_for(audiences=())), deny("config_invalid")),
    "no recipients": (snapshot_of(policy_for(recipients=())), deny("config_invalid")),
    "no UPN source": (snapshot_of(policy_for(upn_from=())), deny("config_invalid")),
    "the defaults": (snapshot_of(Policy()), deny("config_invalid")),
    "no suffixes": (snapshot_of(policy_for(upn_suffixes=())), deny("upn_suffix_not_allowed")),
    "encryption required": (snapshot_of(policy_for(encryption=Encryption.REQUIRED)), deny("encryption_required")),
    "encryption refused": (snapshot_of(policy_for(encryption=Encryption.REFUSED)), ALLOW),
}


@pytest.mark.parametrize("name", _PROVIDER)
def test_the_provider(name: str) -> None:
    """G20: an IdP that is switched off or not completely configured denies."""
    snapshot, expected = _PROVIDER[name]

    assert outcome(judged(genuine(), snapshot)) == expected


def _bare(provider: IdentityProvider | None, policy: Policy | None) -> Snapshot:
    return Snapshot(
        version="1",
        trust=TrustSnapshot(providers={} if provider is None else {ENTITY_ID: provider}, as_of=ISSUED),
        policies={} if policy is None else {ENTITY_ID: policy},
    )


def test_nothing_configured() -> None:
    """Without IdPs, policies or certificates nobody is let in."""
    provider = IdentityProvider(entity_id=ENTITY_ID, certificates=())
    trusted = IdentityProvider(entity_id=ENTITY_ID, certificates=(certificate(),))

    assert outcome(judged(genuine(), _bare(None, None))) == deny("issuer_unknown")
    assert outcome(judged(genuine(), _bare(None, policy_for()))) == deny("issuer_unknown")
    assert outcome(judged(genuine(), _bare(provider, policy_for()))) == deny("no_trusted_certificate")
    assert outcome(judged(genuine(), _bare(trusted, None))) == deny("config_invalid")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (with_text("s:Assertion/s:Issuer", "https://unknown.example"), deny("issuer_mismatch")),
        (
            all_of(with_text("s:Assertion/s:Issuer", "https://u.example"), with_text("s:Issuer", "https://u.example")),
            deny("issuer_unknown"),
        ),
        (all_of(with_text("s:Assertion/s:Issuer", "https://u.example"), without("s:Issuer")), deny("issuer_unknown")),
        (all_of(without("s:Assertion/s:Issuer"), without("s:Issuer")), deny("issuer_missing")),
        (
            all_of(with_text("s:Assertion/s:Issuer", ""), with_text("s:Issuer", "")),
            deny("issuer_missing"),
        ),
    ],
)
def test_who_is_claimed(change: Change, expected: tuple[str, ...]) -> None:
    """The unverified issuer only picks whose keys are tried; the signed one must be exactly theirs."""
    assert outcome(judged(changed(change))) == expected


@pytest.mark.parametrize("name", SHAPES)
def test_what_an_operator_is_shown(name: str) -> None:
    """The summary of an allow says who, what, by which certificate, and how it was signed."""
    profile, encrypted = SHAPES[name]
    snapshot = snapshot_of(policy_for(profile))
    evidence = genuine(idp_of(profile), encrypted=encrypted)
    decision = judged(evidence, snapshot)
    assert isinstance(decision, Allow)

    assert decision.assertion.issuer == ENTITY_ID
    assert decision.assertion.upn == "alice@corp.example"
    assert decision.assertion.assertion_id == "_a1"
    assert decision.assertion.certificate_sha256 == certificate().sha256
    assert decision.assertion.issue_instant == ISSUED
    assert decision.assertion.encrypted is encrypted
    assert decision.assertion.signed == profile.signs
    assert decision.assertion.content_sha256 == verify_evidence((evidence,), snapshot).content_sha256


def test_the_content_is_the_same_however_it_is_wrapped() -> None:
    """What identifies evidence for re-use is the signed assertion, not the bytes around it."""
    snapshot = snapshot_of()
    plain = verify_evidence((genuine(),), snapshot)
    spaced = verify_evidence((b"<?xml version='1.0'?>\n" + genuine() + b"\n",), snapshot)
    encrypted = verify_evidence((genuine(encrypted=True),), snapshot)

    assert plain.content_sha256 == spaced.content_sha256 == encrypted.content_sha256
    assert plain.content_sha256 != verify_evidence((genuine(assertion_id="_a2"),), snapshot).content_sha256


def _of_the_year_0() -> bytes:
    """The DER of a certificate whose notBefore is 0000-01-01, which X.509 can write and Python cannot read."""
    der = keys.certificate("idp_next")
    at = der.index(b"\x17\x0d", der.index(b"\x30\x1e\x17\x0d"))
    year_0 = b"\x18\x0f00000101000000Z"
    der = der[: at - 1] + bytes([der[at - 1] + 2]) + year_0 + der[at + 15 :]
    for length in (2, 6):  # of the certificate and of its signed part
        der = (
            der[:length] + (int.from_bytes(der[length : length + 2], "big") + 2).to_bytes(2, "big") + der[length + 2 :]
        )
    return der


def test_a_certificate_of_the_year_0() -> None:
    """A certificate with an impossible date takes no other away, and raises nothing."""
    odd = SigningCertificate(der=_of_the_year_0(), state=TRUSTED, since=ISSUED, provenance="test")

    assert outcome(judged(genuine(), snapshot_of(None, odd, certificate()))) == ALLOW


def test_the_first_objection_is_the_one_that_is_given() -> None:
    """A stray signature is said to be one, also where nobody is claimed."""

    def stray(root: etree._Element) -> None:
        one(root, "p:Status").append(etree.Element("{http://www.w3.org/2000/09/xmldsig#}Signature"))

    evidence = changed(nothing, then=all_of(without("s:Assertion/s:Issuer"), without("s:Issuer"), stray))

    assert outcome(judged(evidence)) == deny("signature_placement")
