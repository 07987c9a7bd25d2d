"""Old trust judges new metadata: each sentence of the table is a story, told document by document.

A new case is one entry of STORIES. Expected at every step are the outcome with its reason or changes, and every state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from idp_certs.metadata import IdpMetadata
from idp_certs.model import GOOD, Acceptance, CertificateState
from idp_certs.rollover import (
    AUTOMATIC,
    TRANSITIONS,
    Applied,
    Change,
    Event,
    Held,
    NotAllowedError,
    ProviderTrust,
    Rejected,
    Rollover,
    RolloverPolicy,
    SeenMetadata,
    TrackedCertificate,
    Transport,
    Unchanged,
    next_state,
    plan_rollover,
    plan_upkeep,
)
from tests.core.given import ENTITY_ID, LONG_AGO, NOW, certificate
from tests.corpus import keys

START = NOW
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
CONTINUITY, TLS, APPROVAL = Acceptance

CERTIFICATES = {
    "old": "idp",
    "old_renewed": "idp_renewed",
    "old_expired": "idp_expired",
    "new": "idp_next",
    "third": "tenant",
    "attacker": "attacker",
    "attacker_again": "attacker_lookalike",
    "weak": "weak",
    "p224": "p224",
}
"""Name in the stories to name in the corpus. The renewed and the expired one have the key of the old one."""
NAMES = {keys.fingerprint(name): story for story, name in CERTIFICATES.items()}


@dataclass(frozen=True, kw_only=True)
class Version:
    """A document arrives: what it lists, who signed it, when after the step before, and what comes of it.

    `created` and `valid_until` count from START.
    """

    lists: str
    ends: str
    then: str
    by: str | None = None
    anchored: bool = False
    transport: Transport = Transport.TLS
    after: timedelta = HOUR
    created: timedelta | None = None
    valid_until: timedelta | None = None
    entity_id: str = ENTITY_ID


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """Time passes, and these certificates have signed."""

    ends: str
    then: str
    used: str = ""
    after: timedelta = HOUR


@dataclass(frozen=True, kw_only=True)
class Person:
    """An administrator acts on a certificate, or (`event` None) rejects it."""

    event: Event | None
    name: str
    then: str
    after: timedelta = HOUR


@dataclass(frozen=True, kw_only=True)
class Story:
    """What is trusted at the start, by which numbers, and what happens."""

    start: str
    steps: tuple[Version | Upkeep | Person, ...]
    acceptance: Acceptance = CONTINUITY
    numbers: Mapping[str, Any] = field(default_factory=dict)


SAME = "unchanged"
REJECTED_BEFORE = "unchanged; metadata_key_withheld"
BOTH = "old=trusted new=announced"
FOREVER = timedelta(days=3650)

STORIES: dict[str, Story] = {
    "AD FS announces its secondary 20 days ahead, promotes it by use, and the old one goes after 3 sightings over an "
    "hour (33, 34, G18)": Story(
        start="old=trusted",
        steps=(
            Version(lists="old", by="old", ends=SAME, then="old=trusted"),
            Version(lists="old new", by="old", ends="applied: announce new (continuity)", then=BOTH),
            Version(lists="new old", by="old", after=15 * DAY, ends=SAME, then=BOTH),
            Upkeep(used="old", ends=SAME, then=BOTH),
            Upkeep(used="old new", ends="applied: use new", then="old=trusted new=trusted"),
            Version(lists="new", by="new", after=5 * DAY, ends=SAME, then="old=trusted new=trusted"),
            Version(lists="new", by="new", after=30 * MINUTE, ends=SAME, then="old=trusted new=trusted"),
            Version(
                lists="new",
                by="new",
                after=30 * MINUTE,
                ends="applied: withdraw old",
                then="old=retiring new=trusted",
            ),
            Version(lists="new", by="new", after=4 * HOUR, ends=SAME, then="old=retiring new=trusted"),
            Upkeep(used="old new", after=3 * HOUR, ends=SAME, then="old=retiring new=trusted"),
            Upkeep(after=4 * MINUTE, ends="applied: outlive old", then="old=retired new=trusted"),
            Version(lists="new", by="new", ends=SAME, then="old=retired new=trusted"),
        ),
    ),
    "an urgent rollover that the old key signs is taken over, and the old one goes": Story(
        start="old=trusted",
        steps=(
            Version(lists="new", by="old", ends="applied: announce new (continuity)", then=BOTH),
            Version(lists="new", by="new", ends=SAME, then=BOTH),
            Version(lists="new", by="new", ends="applied: withdraw old", then="old=retiring new=announced"),
        ),
    ),
    "an urgent rollover that only the new key signs waits, and the old one stays (39)": Story(
        start="old=trusted",
        steps=(
            Version(lists="new", by="new", ends="held metadata_key_withheld: new", then="old=trusted"),
            Version(lists="new", by="new", after=DAY, ends="held metadata_key_withheld: new", then="old=trusted"),
            Version(lists="new", by="new", after=DAY, ends="held metadata_key_withheld: new", then="old=trusted"),
            Person(event=Event.APPROVE, name="new", then=BOTH),
            Version(
                lists="new", by="new", ends="applied: withdraw old", then="old=retiring new=announced", after=MINUTE
            ),
        ),
    ),
    "an unsigned new key over TLS waits under continuity": Story(
        start="old=trusted",
        steps=(Version(lists="old new", ends="held metadata_key_withheld: new", then="old=trusted"),),
    ),
    "an unsigned new key over TLS is enough where the policy says so": Story(
        start="old=trusted",
        acceptance=TLS,
        steps=(Version(lists="old new", ends="applied: announce new (tls)", then=BOTH),),
    ),
    "an uploaded new key is not one that came over TLS": Story(
        start="old=trusted",
        acceptance=TLS,
        steps=(
            Version(
                lists="old new",
                transport=Transport.UPLOAD,
                ends="held metadata_key_withheld: new",
                then="old=trusted",
            ),
        ),
    ),
    "with approval every new key waits, whoever signed it and however it came": Story(
        start="old=trusted",
        acceptance=APPROVAL,
        steps=(
            Version(lists="old new", by="old", ends="held metadata_key_withheld: new", then="old=trusted"),
            Version(lists="old new", anchored=True, ends="held metadata_key_withheld: new", then="old=trusted"),
            Version(lists="old new", ends="held metadata_key_withheld: new", then="old=trusted"),
            Version(lists="old_renewed", by="old", ends="held metadata_key_withheld: old_renewed", then="old=trusted"),
            Person(event=Event.APPROVE, name="new", then=BOTH),
            Version(lists="old new", by="old", ends=SAME, then=BOTH),
        ),
    ),
    "the federation's signature vouches": Story(
        start="old=trusted",
        steps=(Version(lists="old new", anchored=True, ends="applied: announce new (anchor)", then=BOTH),),
    ),
    "an attacker's document with his key in both places proves nothing (G21)": Story(
        start="old=trusted",
        steps=(
            Version(lists="attacker", by="attacker", ends="held metadata_key_withheld: attacker", then="old=trusted"),
            Version(
                lists="old attacker attacker_again",
                by="attacker_again",
                ends="held metadata_key_withheld: attacker, attacker_again",
                then="old=trusted",
            ),
            Version(lists="old", by="attacker", ends=SAME, then="old=trusted"),
        ),
    ),
    "a key that waits does not vouch for another": Story(
        start="old=trusted",
        steps=(
            Version(lists="old attacker", by=None, ends="held metadata_key_withheld: attacker", then="old=trusted"),
            Version(
                lists="old attacker new",
                by="attacker",
                ends="held metadata_key_withheld: attacker, new",
                then="old=trusted",
            ),
        ),
    ),
    "a retiring key does not vouch": Story(
        start="old=trusted third=retiring",
        steps=(
            Version(
                lists="old new", by="third", ends="held metadata_key_withheld: new", then="old=trusted third=retiring"
            ),
        ),
    ),
    "a retired key does not vouch": Story(
        start="old=trusted third=retired",
        steps=(
            Version(
                lists="old new", by="third", ends="held metadata_key_withheld: new", then="old=trusted third=retired"
            ),
        ),
    ),
    "a revoked key does not vouch": Story(
        start="old=trusted third=revoked",
        steps=(
            Version(
                lists="old new", by="third", ends="held metadata_key_withheld: new", then="old=trusted third=revoked"
            ),
        ),
    ),
    "an announced key vouches before its first use": Story(
        start=BOTH,
        steps=(
            Version(
                lists="old new third",
                by="new",
                ends="applied: announce third (continuity)",
                then="old=trusted new=announced third=announced",
            ),
        ),
    ),
    "the nodes of a farm that disagree add once and remove nothing (34)": Story(
        start="old=trusted",
        steps=(
            Version(lists="old new", by="old", ends="applied: announce new (continuity)", then=BOTH),
            *(
                Version(lists=lists, by="old", after=10 * MINUTE, ends=SAME, then=BOTH)
                for lists in ("old", "old", "old new", "old", "old new", "old", "old", "old new") * 3
            ),
        ),
    ),
    "removal needs the third sighting, however long it takes (34)": Story(
        start=BOTH,
        steps=(
            Version(lists="old", after=10 * DAY, ends=SAME, then=BOTH),
            Version(lists="old", after=10 * DAY, ends=SAME, then=BOTH),
            Version(lists="old", after=MINUTE, ends="applied: withdraw new", then="old=trusted new=retiring"),
        ),
    ),
    "removal needs an hour, however often it is seen (34)": Story(
        start=BOTH,
        steps=(
            *(Version(lists="old", after=10 * MINUTE, ends=SAME, then=BOTH) for _ in range(6)),
            Version(lists="old", after=10 * MINUTE, ends="applied: withdraw new", then="old=trusted new=retiring"),
        ),
    ),
    "a clock that goes back in between delays a removal and does not stop it": Story(
        start=BOTH,
        steps=(
            Version(lists="old", after=30 * DAY, ends=SAME, then=BOTH),
            Version(lists="old", after=-30 * DAY, ends=SAME, then=BOTH),
            Version(lists="old", after=30 * MINUTE, ends=SAME, then=BOTH),
            Version(lists="old", after=30 * MINUTE, ends="applied: withdraw new", then="old=trusted new=retiring"),
        ),
    ),
    "the numbers of a removal are the policy's": Story(
        start=BOTH,
        numbers={"removal_sightings": 1, "removal_over": timedelta(0)},
        steps=(Version(lists="old", ends="applied: withdraw new", then="old=trusted new=retiring"),),
    ),
    "a document without keys counts for nothing (22, 39)": Story(
        start="old=trusted",
        acceptance=TLS,
        steps=(Version(lists="", by="old", ends="rejected metadata_no_cert", then="old=trusted"),),
    ),
    "a document with only weak keys counts for nothing (22)": Story(
        start="old=trusted",
        acceptance=TLS,
        steps=(
            *(
                Version(lists="weak p224", by="old", ends="rejected certificate_weak_key", then="old=trusted")
                for _ in range(4)
            ),
        ),
    ),
    "a weak key beside a good one is left out and said": Story(
        start="old=trusted",
        steps=(
            Version(
                lists="old new weak",
                by="old",
                ends="applied: announce new (continuity); certificate_weak_key",
                then=BOTH,
            ),
            Version(lists="old new weak", by="old", ends="unchanged; certificate_weak_key", then=BOTH),
            Version(
                lists="old new third p224",
                ends="held metadata_key_withheld: third; certificate_weak_key",
                then=BOTH,
            ),
        ),
    ),
    "the document of another IdP counts for nothing (39, G03)": Story(
        start="old=trusted",
        acceptance=TLS,
        steps=(
            Version(
                lists="old new",
                by="old",
                entity_id="https://other.example/",
                ends="rejected metadata_entity_mismatch",
                then="old=trusted",
            ),
            Version(
                lists="old new",
                by="old",
                entity_id=ENTITY_ID.upper(),
                ends="rejected metadata_entity_mismatch",
                then="old=trusted",
            ),
        ),
    ),
    "an expired document counts for nothing, to the second (G02)": Story(
        start="old=trusted",
        steps=(
            Version(lists="old new", by="old", valid_until=HOUR, ends="rejected metadata_expired", then="old=trusted"),
            Version(
                lists="old new",
                by="old",
                after=timedelta(0),
                valid_until=HOUR + timedelta(seconds=1),
                ends="applied: announce new (continuity)",
                then=BOTH,
            ),
        ),
    ),
    "a document that is valid for too long counts for nothing where a limit is set (G02)": Story(
        start="old=trusted",
        numbers={"max_validity": 30 * DAY},
        steps=(
            Version(
                lists="old new",
                by="old",
                valid_until=HOUR + 30 * DAY + timedelta(seconds=1),
                ends="rejected metadata_valid_too_long",
                then="old=trusted",
            ),
            Version(
                lists="old new",
                by="old",
                after=timedelta(0),
                valid_until=HOUR + 30 * DAY,
                ends="applied: announce new (continuity)",
                then=BOTH,
            ),
        ),
    ),
    "a document without validUntil counts for nothing where one is required (G02)": Story(
        start="old=trusted",
        numbers={"require_valid_until": True},
        steps=(Version(lists="old new", by="old", ends="rejected metadata_expired", then="old=trusted"),),
    ),
    "any validity is accepted where none is limited, as with Google's (G02)": Story(
        start="old=trusted",
        steps=(
            Version(
                lists="old new", by="old", valid_until=FOREVER, ends="applied: announce new (continuity)", then=BOTH
            ),
        ),
    ),
    "an older document is known by its creation, whatever its validUntil (G09)": Story(
        start="old=trusted",
        steps=(
            Version(lists="old", by="old", created=DAY, valid_until=10 * DAY, ends=SAME, then="old=trusted"),
            Version(
                lists="old new",
                by="old",
                created=DAY - timedelta(seconds=1),
                valid_until=20 * DAY,
                ends="rejected metadata_rollback",
                then="old=trusted",
            ),
            Version(lists="old", by="old", created=DAY, valid_until=10 * DAY, ends=SAME, then="old=trusted"),
            Version(
                lists="old new",
                by="old",
                created=DAY + timedelta(seconds=1),
                valid_until=9 * DAY,
                ends="applied: announce new (continuity)",
                then=BOTH,
            ),
        ),
    ),
    "an older document is known by its validUntil where it has no creation (G09)": Story(
        start="old=trusted",
        steps=(
            Version(lists="old", by="old", valid_until=10 * DAY, ends=SAME, then="old=trusted"),
            Version(
                lists="old new",
                by="old",
                valid_until=10 * DAY - timedelta(seconds=1),
                ends="rejected metadata_rollback",
                then="old=trusted",
            ),
            Version(lists="old", by="old", valid_until=10 * DAY, ends=SAME, then="old=trusted"),
        ),
    ),
    "leaving out the creation does not get round the validUntil (G09)": Story(
        start="old=trusted",
        steps=(
            Version(lists="old", by="old", created=DAY, valid_until=10 * DAY, ends=SAME, then="old=trusted"),
            Version(
                lists="old new", by="old", valid_until=9 * DAY, ends="rejected metadata_rollback", then="old=trusted"
            ),
        ),
    ),
    "a creation far in the future does not shut later documents out (G09)": Story(
        start="old=trusted",
        steps=(
            Version(lists="old", created=FOREVER, ends=SAME, then="old=trusted"),
            Version(
                lists="old new",
                by="old",
                created=2 * HOUR,
                ends="applied: announce new (continuity)",
                then=BOTH,
            ),
        ),
    ),
    "a creation a little in the future, by an IdP whose clock is fast, still counts (G09)": Story(
        start="old=trusted",
        steps=(
            Version(lists="old", by="old", created=5 * HOUR, ends=SAME, then="old=trusted"),
            Version(lists="old new", by="old", created=4 * HOUR, ends="rejected metadata_rollback", then="old=trusted"),
        ),
    ),
    "a revoked certificate that is listed on stays revoked (36)": Story(
        start="old=trusted new=trusted",
        acceptance=TLS,
        steps=(
            Person(event=Event.REVOKE, name="old", then="old=revoked new=trusted"),
            *(Version(lists="old new", by="new", ends=SAME, then="old=revoked new=trusted") for _ in range(4)),
        ),
    ),
    "a revoked certificate that was gone and is listed again waits and stays revoked (36)": Story(
        start="old=revoked new=trusted",
        acceptance=TLS,
        steps=(
            Version(lists="new", by="new", ends=SAME, then="old=revoked new=trusted"),
            *(
                Version(
                    lists="old new",
                    by="new",
                    ends="held metadata_rollback: old (revoked)",
                    then="old=revoked new=trusted",
                )
                for _ in range(4)
            ),
        ),
    ),
    "a revoked key under a new certificate is revoked at once (36)": Story(
        start="old=revoked new=trusted",
        acceptance=TLS,
        steps=(
            Version(
                lists="old_renewed new",
                by="new",
                ends="applied: revoke old_renewed; certificate_revoked",
                then="old=revoked new=trusted old_renewed=revoked",
            ),
            Version(lists="old_renewed new", by="new", ends=SAME, then="old=revoked new=trusted old_renewed=revoked"),
        ),
    ),
    "a retired certificate that is listed again waits, and a person puts it back (36, G09)": Story(
        start="old=trusted new=trusted",
        acceptance=TLS,
        numbers={"removal_sightings": 1, "removal_over": timedelta(0)},
        steps=(
            Version(lists="new", by="new", ends="applied: withdraw old", then="old=retiring new=trusted"),
            Version(
                lists="old new",
                by="new",
                ends="held metadata_rollback: old (retiring)",
                then="old=retiring new=trusted",
            ),
            Upkeep(after=9 * HOUR, ends="applied: outlive old", then="old=retired new=trusted"),
            Version(
                lists="old new", by="new", ends="held metadata_rollback: old (retired)", then="old=retired new=trusted"
            ),
            Person(event=Event.REINSTATE, name="old", then="old=trusted new=trusted"),
            Version(lists="old new", by="new", ends=SAME, then="old=trusted new=trusted"),
        ),
    ),
    "a retired key under a new certificate waits (36)": Story(
        start="old=retired new=trusted",
        acceptance=TLS,
        steps=(
            Version(
                lists="old_renewed new",
                by="new",
                ends="held metadata_rollback: old_renewed",
                then="old=retired new=trusted",
            ),
        ),
    ),
    "a certificate that a person retired while it is listed is not taken for one that returns": Story(
        start="old=trusted new=trusted",
        steps=(
            Person(event=Event.RETIRE, name="old", then="old=retiring new=trusted"),
            *(Version(lists="old new", by="new", ends=SAME, then="old=retiring new=trusted") for _ in range(3)),
        ),
    ),
    "a good key under a renewed certificate needs nobody": Story(
        start="old=trusted",
        steps=(
            Version(
                lists="old_renewed",
                ends="applied: announce old_renewed (same_key)",
                then="old=trusted old_renewed=announced",
            ),
            Version(lists="old_renewed", ends=SAME, then="old=trusted old_renewed=announced"),
            Version(lists="old_renewed", ends="applied: withdraw old", then="old=retiring old_renewed=announced"),
        ),
    ),
    "an expired certificate is taken over like any other (G17)": Story(
        start="new=trusted",
        steps=(
            Version(
                lists="new old_expired",
                by="new",
                ends="applied: announce old_expired (continuity)",
                then="new=trusted old_expired=announced",
            ),
        ),
    ),
    "the last good certificate never goes, whatever else is listed (39)": Story(
        start="old=trusted new=revoked third=retiring",
        steps=(
            Version(
                lists="attacker new",
                ends="held metadata_key_withheld: attacker",
                then="old=trusted new=revoked third=retiring",
                after=DAY,
            ),
            *(
                Version(lists="new", ends=SAME, then="old=trusted new=revoked third=retiring", after=DAY)
                for _ in range(4)
            ),
        ),
    ),
    "a weak certificate that is good by hand does not make the last strong one go (39)": Story(
        start="old=trusted weak=trusted new=retired",
        steps=tuple(
            Version(
                lists="weak new",
                ends=SAME,
                then="old=trusted weak=trusted new=retired",
                after=DAY,
            )
            for _ in range(4)
        ),
    ),
    "what a person rejected stays away, and what comes beside it is seen": Story(
        start="old=trusted",
        acceptance=TLS,
        steps=(
            Person(event=None, name="attacker", then="old=trusted"),
            Version(lists="old attacker", ends=REJECTED_BEFORE, then="old=trusted"),
            Version(lists="old attacker", by="old", ends=REJECTED_BEFORE, then="old=trusted"),
            Version(lists="attacker", by="old", ends=REJECTED_BEFORE, then="old=trusted", after=DAY),
            Version(lists="old attacker new", ends="applied: announce new (tls); metadata_key_withheld", then=BOTH),
        ),
    ),
    "what a person rejected again stays quiet when it returns": Story(
        start="old=retired new=trusted",
        steps=(
            Version(lists="new", ends=SAME, then="old=retired new=trusted"),
            Version(lists="old new", ends="held metadata_rollback: old (retired)", then="old=retired new=trusted"),
            Person(event=None, name="old", then="old=retired new=trusted"),
            Version(lists="old new", ends=SAME, then="old=retired new=trusted"),
        ),
    ),
    "what waits does not keep the rest of the document waiting": Story(
        start="old=trusted third=trusted",
        numbers={"removal_sightings": 1, "removal_over": timedelta(0)},
        steps=(
            Version(
                lists="old old_renewed new",
                ends="held metadata_key_withheld: new; announce old_renewed (same_key), withdraw third",
                then="old=trusted third=retiring old_renewed=announced",
            ),
        ),
    ),
    "use promotes only what is announced": Story(
        start="old=trusted new=announced third=retiring old_renewed=retired attacker=revoked",
        steps=(
            Upkeep(
                used="old new third old_renewed attacker",
                ends="applied: use new, outlive third",
                then="old=trusted new=trusted third=retired old_renewed=retired attacker=revoked",
            ),
            Upkeep(
                used="old new third old_renewed attacker",
                after=1000 * DAY,
                ends=SAME,
                then="old=trusted new=trusted third=retired old_renewed=retired attacker=revoked",
            ),
        ),
    ),
}


def trust_of(states: str, **members: Any) -> ProviderTrust:
    """Trust in certificates in these states, as in `old=trusted new=announced`."""
    return ProviderTrust(
        entity_id=ENTITY_ID,
        certificates=tuple(
            TrackedCertificate(certificate=certificate(CERTIFICATES[name], CertificateState(state), since=LONG_AGO))
            for name, _, state in (each.partition("=") for each in states.split())
        ),
        **members,
    )


def states_of(trust: ProviderTrust) -> frozenset[str]:
    """The states, as in `old=trusted`."""
    return frozenset(f"{NAMES[each.certificate.sha256]}={each.certificate.state}" for each in trust.certificates)


def sha256_of(name: str) -> str:
    """The digest of the certificate with this name in the stories."""
    return keys.fingerprint(CERTIFICATES[name])


def metadata_of(version: Version) -> IdpMetadata:
    """What the document says."""
    return IdpMetadata(
        entity_id=version.entity_id,
        signing_certificates=tuple(keys.certificate(CERTIFICATES[name]) for name in version.lists.split()),
        problems=(),
        valid_until=None if version.valid_until is None else START + version.valid_until,
        sso_urls=(),
        created=None if version.created is None else START + version.created,
    )


def seen_of(version: Version) -> SeenMetadata:
    """The document as it arrived."""
    return SeenMetadata(
        metadata=metadata_of(version),
        document_sha256="d" * 64,
        transport=version.transport,
        source="https://idp.example/metadata",
        signer=None if version.by is None else sha256_of(version.by),
        anchored=version.anchored,
    )


def described(rollover: Rollover) -> str:
    """The outcome with its reason and everything that changed, in one line."""
    if isinstance(rollover, Rejected):
        return f"rejected {rollover.finding.reason}"
    problems = "".join(f"; {problem.reason}" for problem in rollover.problems)
    if isinstance(rollover, Unchanged):
        return f"unchanged{problems}"
    changes = ", ".join(map(_change, rollover.changes))
    if isinstance(rollover, Applied):
        return f"applied: {changes}{problems}"
    withheld = ", ".join(NAMES[each.sha256] + (f" ({before})" if before else "") for each, before in rollover.withheld)
    return f"held {rollover.finding.reason}: {withheld}{'; ' if changes else ''}{changes}{problems}"


def _change(change: Change) -> str:
    text = f"{change.event} {NAMES[change.certificate.sha256]}"
    return f"{text} ({change.voucher})" if change.voucher else text


def published(trust: ProviderTrust, rollover: Rollover, metadata: IdpMetadata) -> ProviderTrust:
    """What is held after the outcome is put into force."""
    if isinstance(rollover, Rejected):
        return trust
    if isinstance(rollover, Held):  # the document itself is not in force
        return replace(trust, certificates=rollover.certificates)
    return replace(
        trust,
        certificates=rollover.certificates,
        created=metadata.created or trust.created,
        valid_until=metadata.valid_until or trust.valid_until,
    )


def acted(trust: ProviderTrust, person: Person, now: datetime) -> ProviderTrust:
    """What is held after a person acted."""
    sha256 = sha256_of(person.name)
    if person.event is None:
        return replace(trust, rejected=trust.rejected | {sha256})
    known = trust.find(sha256)
    state = next_state(None if known is None else known.certificate.state, person.event)
    after = TrackedCertificate(certificate=certificate(CERTIFICATES[person.name], state, since=now))
    others = (each for each in trust.certificates if each.certificate.sha256 != sha256)
    return replace(trust, certificates=(*others, after))


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_story(story: Story) -> None:
    """Each step has its outcome, its reason and its states (promises 22, 33, 34, 36, 39)."""
    trust, now = trust_of(story.start), START
    policy = RolloverPolicy(acceptance=story.acceptance, **story.numbers)
    for number, step in enumerate(story.steps, start=1):
        now += step.after
        ends = described_end = ""
        if isinstance(step, Version):
            rollover = plan_rollover(trust, seen_of(step), policy, now)
            assert rollover == plan_rollover(trust, seen_of(step), policy, now)
            trust = published(trust, rollover, metadata_of(step))
            ends, described_end = step.ends, described(rollover)
        elif isinstance(step, Upkeep):
            upkeep = plan_upkeep(trust, map(sha256_of, step.used.split()), policy, now)
            trust = replace(trust, certificates=upkeep.certificates)
            ends, described_end = step.ends, described(upkeep)
        else:
            trust = acted(trust, step, now)
        assert (number, ends, frozenset(step.then.split())) == (number, described_end, states_of(trust))


def test_a_withdrawal_counts_from_the_first_document_without_it() -> None:
    """Promise 18: a retiring certificate is good for what was issued before its absence was first observed."""
    trust, policy = trust_of(BOTH), RolloverPolicy()
    without = seen_of(Version(lists="old", ends="", then=""))
    for after in (HOUR, 2 * HOUR, 3 * HOUR):
        rollover = plan_rollover(trust, without, policy, START + after)
        trust = published(trust, rollover, without.metadata)

    gone = trust.find(sha256_of("new"))
    assert gone is not None
    assert (gone.certificate.state, gone.certificate.since) == (CertificateState.RETIRING, START + HOUR)


def test_a_retired_certificate_keeps_the_instant_of_its_withdrawal() -> None:
    """Promise 18: what outlives its evidence goes on saying when it was withdrawn."""
    trust = trust_of("old=trusted new=retiring")

    upkeep = plan_upkeep(trust, (), RolloverPolicy(), START)

    assert isinstance(upkeep, Applied)
    (change,) = upkeep.changes
    assert (change.before, change.certificate.state) == (CertificateState.RETIRING, CertificateState.RETIRED)
    assert change.certificate.since == LONG_AGO


@pytest.mark.parametrize(("age", "ends"), [(8 * HOUR, SAME), (8 * HOUR + timedelta(seconds=1), "applied: outlive new")])
def test_how_long_evidence_outlives_a_withdrawal(age: timedelta, ends: str) -> None:
    """Promise 18: exactly as long as evidence may be old."""
    trust = trust_of("old=trusted new=retiring")

    upkeep = plan_upkeep(trust, (), RolloverPolicy(evidence_age=8 * HOUR), LONG_AGO + age)

    assert ends == described(upkeep)


@pytest.mark.parametrize(
    ("version", "by"),
    [
        (Version(lists="old new", by="old", ends="", then=""), f"signed by {keys.fingerprint('idp')}"),
        (Version(lists="old new", by="old", anchored=True, ends="", then=""), "signed by the metadata certificate"),
        (Version(lists="old new", ends="", then=""), "unsigned"),
    ],
)
def test_where_a_certificate_came_from(version: Version, by: str) -> None:
    """Promise 41: every new certificate says its document, its source and who signed it."""
    rollover = plan_rollover(trust_of("old=trusted"), seen_of(version), RolloverPolicy(acceptance=TLS), START)

    assert isinstance(rollover, Applied)
    (change,) = rollover.changes
    document = f"metadata sha256:{'d' * 64} from https://idp.example/metadata"
    assert change.certificate.provenance == f"{document}, {by}"
    assert change.certificate.since == START


@pytest.mark.parametrize(
    ("acceptance", "expected"),
    [
        (CONTINUITY, "a document signed by a certificate that is trusted already"),
        (APPROVAL, "a person's approval"),
    ],
)
def test_a_hold_says_what_it_waits_for(acceptance: Acceptance, expected: str) -> None:
    """Decision 3: the finding names what would have been enough, and the certificates."""
    seen = seen_of(Version(lists="old new", ends="", then=""))

    rollover = plan_rollover(trust_of("old=trusted"), seen, RolloverPolicy(acceptance=acceptance), START)

    assert isinstance(rollover, Held)
    assert (rollover.finding.expected, rollover.finding.presented) == (expected, sha256_of("new")[:16])


def test_what_is_gone_for_good_is_not_counted_on() -> None:
    """A document like the one before leaves nothing to write, whatever was withdrawn long ago."""
    trust, policy = trust_of("old=trusted new=retired third=revoked"), RolloverPolicy()
    seen = seen_of(Version(lists="old", ends="", then=""))
    trust = published(trust, plan_rollover(trust, seen, policy, START), seen.metadata)

    again = plan_rollover(trust, seen, policy, START + HOUR)

    assert isinstance(again, Unchanged)
    assert set(again.certificates) == set(trust.certificates)


WHAT_HAPPENS = {
    "new": "import=trusted announce=announced approve=announced revoke=revoked",
    "announced": "use=trusted approve=trusted withdraw=retiring retire=retiring revoke=revoked",
    "trusted": "withdraw=retiring retire=retiring revoke=revoked",
    "retiring": "outlive=retired import=trusted reinstate=trusted revoke=revoked",
    "retired": "import=trusted reinstate=trusted revoke=revoked",
    "revoked": "reinstate=trusted",
}
"""State before: event = state after. Nothing else happens."""


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("before", [None, *CertificateState])
def test_every_state_and_event(before: CertificateState | None, event: Event) -> None:
    """Each event leads from each state where it should, or nowhere, and then says where it could have."""
    expected = dict(each.split("=") for each in WHAT_HAPPENS[before or "new"].split()).get(event)

    if expected is None:
        with pytest.raises(NotAllowedError, match=f"^a certificate that is {before or 'unknown'} cannot {event}; it"):
            next_state(before, event)
    else:
        assert next_state(before, event) == expected


def test_the_table_cannot_be_changed() -> None:
    """What moves a certificate is fixed."""
    with pytest.raises(TypeError):
        TRANSITIONS[None] = {}  # type: ignore[index]


def test_nothing_automatic_brings_a_certificate_back() -> None:
    """Promise 36: from the table, no path of automatic events leads from a withdrawn or revoked state to a good one."""
    for start in set(CertificateState) - GOOD:
        reached, unseen = {start}, [start]
        while unseen:
            for event, after in TRANSITIONS[unseen.pop()].items():
                if event in AUTOMATIC and after not in reached:
                    reached.add(after)
                    unseen.append(after)
        assert not reached & GOOD
        assert (CertificateState.REVOKED in reached) == (start is CertificateState.REVOKED)
