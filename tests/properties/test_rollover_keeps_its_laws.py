"""Whatever documents come, in whatever order: automation moves certificates only as it may."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from idp_certs.metadata import IdpMetadata
from idp_certs.model import GOOD, Acceptance, CertificateState
from idp_certs.rollover import (
    AUTOMATIC,
    TRANSITIONS,
    Change,
    Event,
    Held,
    ProviderTrust,
    Rejected,
    RolloverPolicy,
    SeenMetadata,
    TrackedCertificate,
    Transport,
    Unchanged,
    Voucher,
    plan_rollover,
    plan_upkeep,
)
from tests.core.given import ENTITY_ID, LONG_AGO, NOW, certificate
from tests.corpus import keys

NAMES = ("idp", "idp_renewed", "idp_next", "tenant", "attacker", "attacker_lookalike", "weak", "p256")
SHA256 = {name: keys.fingerprint(name) for name in NAMES}
CERTIFICATES = {name: certificate(name) for name in NAMES}
STRONG = {CERTIFICATES[name].sha256 for name in NAMES if CERTIFICATES[name].has_strong_key}

some_names = st.lists(st.sampled_from(NAMES), unique=True, max_size=5)
instants = st.integers(-40, 40).map(lambda days: NOW + timedelta(days=days))


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document and the time since the one before."""

    seen: SeenMetadata
    after: timedelta
    used: frozenset[str]


@st.composite
def trusts(draw: st.DrawFn) -> ProviderTrust:
    """Any trust, also such as no history leads to."""
    tracked = []
    for name in draw(some_names):
        state = draw(st.sampled_from(CertificateState))
        absences = draw(st.integers(0, 4))
        tracked.append(
            TrackedCertificate(
                certificate=certificate(name, state, since=draw(st.sampled_from((LONG_AGO, NOW)))),
                absent_since=draw(instants) if absences else None,
                absences=absences,
            )
        )
    return ProviderTrust(
        entity_id=ENTITY_ID,
        certificates=tuple(tracked),
        created=draw(st.none() | instants),
        valid_until=draw(st.none() | instants),
        rejected=frozenset(SHA256[name] for name in draw(some_names)),
    )


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Any document by anybody."""
    signer = draw(st.none() | st.sampled_from(NAMES))
    return Document(
        seen=SeenMetadata(
            metadata=IdpMetadata(
                entity_id=draw(st.sampled_from((ENTITY_ID, ENTITY_ID, ENTITY_ID, "https://other.example/"))),
                signing_certificates=tuple(map(keys.certificate, draw(some_names))),
                problems=(),
                valid_until=draw(st.none() | instants),
                sso_urls=(),
                created=draw(st.none() | instants),
            ),
            document_sha256="d" * 64,
            transport=draw(st.sampled_from(Transport)),
            source="https://idp.example/metadata",
            signer=None if signer is None else SHA256[signer],
            anchored=draw(st.booleans()),
        ),
        after=timedelta(minutes=draw(st.sampled_from((-2000, -5, 0, 5, 30, 90, 20_000)))),
        used=frozenset(SHA256[name] for name in draw(some_names)),
    )


policies = st.builds(
    RolloverPolicy,
    acceptance=st.sampled_from(Acceptance),
    removal_sightings=st.integers(1, 3),
    removal_over=st.sampled_from((timedelta(0), timedelta(hours=1))),
    require_valid_until=st.booleans(),
)


def states(tracked: Iterable[TrackedCertificate]) -> dict[str, CertificateState]:
    """State by digest."""
    return {each.certificate.sha256: each.certificate.state for each in tracked}


def good(tracked: Iterable[TrackedCertificate]) -> set[str]:
    """Digests of the good ones."""
    return {sha256 for sha256, state in states(tracked).items() if state in GOOD}


def check_changes(before: ProviderTrust, after: tuple[TrackedCertificate, ...], changes: tuple[Change, ...]) -> None:
    """What changed is exactly what the changes say, each one is in the table, and nothing vanishes."""
    was, became = states(before.certificates), states(after)
    assert was.keys() <= became.keys()
    assert len(after) == len(became)
    changed = {sha256: state for sha256, state in became.items() if was.get(sha256) is not state}
    assert changed == {change.certificate.sha256: change.certificate.state for change in changes}
    assert len(changes) == len(changed)
    for change in changes:
        assert change.before == was.get(change.certificate.sha256)
        assert change.certificate.state is TRANSITIONS[change.before][change.event]
        assert change.event in AUTOMATIC or (change.event, change.before) == (Event.REVOKE, None)


@given(trust=trusts(), policy=policies, arriving=st.lists(documents(), min_size=1, max_size=6))
def test_automation_keeps_its_laws(trust: ProviderTrust, policy: RolloverPolicy, arriving: list[Document]) -> None:
    """Promises 36 and 39: nothing comes back by itself, no IdP loses its last good key, nothing comes unvouched for."""
    now = NOW
    for document in arriving:
        now += document.after
        rollover = plan_rollover(trust, document.seen, policy, now)
        if isinstance(rollover, Rejected):
            continue
        before, after = good(trust.certificates), good(rollover.certificates)
        changes = () if isinstance(rollover, Unchanged) else rollover.changes
        known = states(trust.certificates)

        check_changes(trust, rollover.certificates, changes)
        assert not {sha256 for sha256 in after - before if sha256 in known}
        assert bool(before & STRONG) <= bool(after & STRONG)
        assert after - before <= STRONG
        assert not (after - before) & trust.rejected
        if isinstance(rollover, Held):
            assert not {each.sha256 for each, _ in rollover.withheld} & after
        for change in changes:
            if change.event is Event.ANNOUNCE:
                check_voucher(change, trust, document.seen, policy)

        upkeep = plan_upkeep(replace(trust, certificates=rollover.certificates), document.used, policy, now)
        by_use = () if isinstance(upkeep, Unchanged) else upkeep.changes
        check_changes(replace(trust, certificates=rollover.certificates), upkeep.certificates, by_use)
        assert good(upkeep.certificates) == after

        trust = replace(trust, certificates=upkeep.certificates)


def check_voucher(change: Change, trust: ProviderTrust, seen: SeenMetadata, policy: RolloverPolicy) -> None:
    """What is said to vouch for a certificate is so, by what was trusted before."""
    trusted = good(trust.certificates)
    same_key = {
        each.certificate.sha256
        for each in trust.certificates
        if each.certificate.key_sha256 == change.certificate.key_sha256
    }
    assert policy.acceptance is not Acceptance.APPROVAL
    assert not same_key or same_key & trusted
    assert {
        Voucher.CONTINUITY: seen.signer in trusted,
        Voucher.ANCHOR: seen.anchored,
        Voucher.SAME_KEY: bool(same_key & trusted),
        Voucher.TLS: policy.acceptance is Acceptance.TLS and seen.transport is Transport.TLS,
    }[change.voucher or Voucher.PERSON]


@given(trust=trusts(), policy=policies, document=documents(), again=st.randoms(use_true_random=False))
def test_the_order_in_a_document_means_nothing(
    trust: ProviderTrust, policy: RolloverPolicy, document: Document, again: Random
) -> None:
    """The same certificates in another order lead to the same states."""
    shuffled = list(document.seen.metadata.signing_certificates)
    again.shuffle(shuffled)
    other = replace(document.seen, metadata=replace(document.seen.metadata, signing_certificates=tuple(shuffled)))

    one, two = (plan_rollover(trust, seen, policy, NOW) for seen in (document.seen, other))

    assert type(one) is type(two)
    if not isinstance(one, Rejected) and not isinstance(two, Rejected):
        assert set(one.certificates) == set(two.certificates)


@given(trust=trusts(), policy=policies, document=documents())
def test_the_same_document_again_announces_nothing(
    trust: ProviderTrust, policy: RolloverPolicy, document: Document
) -> None:
    """What a document brought, it does not bring twice, nor does it vouch for what it brought."""
    assume(document.seen.signer is None or trust.find(document.seen.signer) is not None)
    first = plan_rollover(trust, document.seen, policy, NOW)
    if isinstance(first, Rejected):
        return

    second = plan_rollover(replace(trust, certificates=first.certificates), document.seen, policy, NOW)

    assert not isinstance(second, Rejected)
    if not isinstance(second, Unchanged):
        assert {change.event for change in second.changes} <= {Event.WITHDRAW}
    if isinstance(first, Held):
        assert isinstance(second, Held)
