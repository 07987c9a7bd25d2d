"""What needs a person: each alarm alone, when it starts, when it grows, and when it is gone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from idp_certs.alarms import IdpStatus, UnknownKey, WithheldRollover, trust_alarms
from idp_certs.model import CertificateState
from idp_certs.reasons import Finding, TrustReason
from tests.core.given import ENTITY_ID, certificate
from tests.corpus import keys

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ANNOUNCED, TRUSTED, RETIRING, RETIRED, REVOKED = CertificateState
OLD, NEXT = keys.fingerprint("idp"), keys.fingerprint("idp_next")
OLD_END = datetime(2035, 1, 1, tzinfo=UTC)
"""When the certificate idp ends; idp_renewed ends a year later, idp_expired ended on 2025-12-31."""

CALM = IdpStatus(
    entity_id=ENTITY_ID,
    certificates=(certificate("idp"),),
    listed=frozenset({OLD}),
    subscribed=True,
    confirmed=NOW,
    obtained=NOW,
    valid_until=None,
)
WITHHELD = WithheldRollover(
    rollover_id="a1b2",
    certificates=(NEXT,),
    finding=Finding(reason=TrustReason.METADATA_KEY_WITHHELD, expected="a person's approval", presented=NEXT[:16]),
    first_seen=NOW,
)
STRANGER = UnknownKey(
    certificate_sha256=NEXT, subject="CN=idp.example", first_seen=NOW - 3 * HOUR, last_seen=NOW, denials=12
)
UNREACHABLE = Finding(reason=TrustReason.METADATA_UNREACHABLE, expected="an answer", presented="timed out")


def raised(status: IdpStatus, now: datetime = NOW) -> set[str]:
    """Severity, kind and key of every alarm; none is named twice."""
    alarms = trust_alarms(status, now)
    names = [f"{each.severity} {each.kind} {each.key}".replace(OLD, "OLD").replace(NEXT, "NEXT") for each in alarms]
    assert len(set(names)) == len(names)
    assert {each.entity_id for each in alarms} <= {ENTITY_ID}
    for each in alarms:
        assert "\n" not in each.text
        assert each.text.endswith((".", "`."))
    return {name.strip() for name in names}


def text_of(kind: str, status: IdpStatus, now: datetime = NOW) -> str:
    """What the one alarm of this kind says."""
    (text,) = (each.text for each in trust_alarms(status, now) if each.kind == kind)
    return text


ALONE: dict[str, tuple[dict[str, Any], set[str]]] = {
    "all is well": ({}, set()),
    "rows were changed from outside": (
        {"damaged": "its row was changed from outside", "certificates": ()},
        {"critical trust_damaged"},
    ),
    "the source cannot be reached": ({"failing": UNREACHABLE}, {"warning metadata_refused metadata_unreachable"}),
    "certificates wait for approval": ({"withheld": (WITHHELD,)}, {"critical rollover_held a1b2"}),
    "two rollovers wait": (
        {"withheld": (WITHHELD, replace(WITHHELD, rollover_id="c3d4"))},
        {"critical rollover_held a1b2", "critical rollover_held c3d4"},
    ),
    "a key nobody announced signs, and nothing is fetched": (
        {"unknown_keys": (STRANGER,), "subscribed": False},
        {"critical unknown_signer NEXT"},
    ),
    "a key without certificate signs": (
        {"unknown_keys": (replace(STRANGER, certificate_sha256=""),), "subscribed": False},
        {"critical unknown_signer"},
    ),
    "the unknown key has not signed for a day": (
        {"unknown_keys": (replace(STRANGER, last_seen=NOW - DAY - SECOND),)},
        set(),
    ),
    "the source goes on answering without the key that signs (37)": (
        {"unknown_keys": (replace(STRANGER, first_seen=NOW - 2 * HOUR - SECOND),)},
        {"critical unknown_signer NEXT", "critical source_frozen unknown_key"},
    ),
    "the source has not been asked for long since the unknown key came": (
        {"unknown_keys": (replace(STRANGER, first_seen=NOW - 2 * HOUR),)},
        {"critical unknown_signer NEXT"},
    ),
    "the source answers with an old copy (37)": (
        {"served_at": NOW - DAY - SECOND},
        {"warning source_frozen date"},
    ),
    "the source answers with a copy of yesterday": ({"served_at": NOW - DAY}, set()),
    "an old copy matters only where something is fetched": (
        {"served_at": NOW - 30 * DAY, "subscribed": False},
        set(),
    ),
    "while it fails, the failure is told instead": (
        {"served_at": NOW - 30 * DAY, "failing": UNREACHABLE},
        {"warning metadata_refused metadata_unreachable"},
    ),
    "no certificate is known": ({"certificates": ()}, {"critical no_trusted_certificate"}),
    "no certificate is good": (
        {"certificates": (certificate("idp", RETIRED), certificate("idp_next", RETIRING))},
        {"critical no_trusted_certificate"},
    ),
    "a revoked key is listed on": (
        {"certificates": (certificate("idp", REVOKED), certificate("idp_next")), "listed": frozenset({OLD, NEXT})},
        {"critical revoked_key_listed OLD"},
    ),
    "a revoked key is gone": (
        {"certificates": (certificate("idp", REVOKED), certificate("idp_next")), "listed": frozenset({NEXT})},
        set(),
    ),
    "a key is announced": (
        {
            "certificates": (certificate("idp"), certificate("idp_next", ANNOUNCED, since=NOW)),
            "listed": frozenset({OLD, NEXT}),
        },
        {"notice promotion_due NEXT"},
    ),
    "the announced key is the only good one": (
        {
            "certificates": (certificate("idp", RETIRED), certificate("idp_next", ANNOUNCED, since=NOW)),
            "listed": frozenset({NEXT}),
        },
        set(),
    ),
    "the announced key is not listed any more": (
        {"certificates": (certificate("idp"), certificate("idp_next", ANNOUNCED)), "listed": frozenset({OLD})},
        set(),
    ),
    "an expired certificate is still trusted": (
        {"certificates": (certificate("idp"), certificate("idp_expired"))},
        {f"warning certificate_expired {keys.fingerprint('idp_expired')}"},
    ),
    "an expired certificate is withdrawn": (
        {"certificates": (certificate("idp"), certificate("idp_expired", RETIRED))},
        set(),
    ),
}
"""Sentence to what is changed in a calm status, and what is raised."""


@pytest.mark.parametrize(("members", "expected"), ALONE.values(), ids=ALONE.keys())
def test_alone(members: dict[str, Any], expected: set[str]) -> None:
    """Each thing raises its own alarm and no other."""
    assert expected == raised(replace(CALM, **members))


DEPLETED = {
    "warning metadata_depleting 50%",
    "warning metadata_depleting 25%",
    "critical metadata_depleting 10%",
    "critical metadata_depleting 72h",
}


@pytest.mark.parametrize(
    ("validity", "left", "expected"),
    [
        (20 * DAY, 10 * DAY + SECOND, 0),
        (20 * DAY, 10 * DAY, 1),
        (20 * DAY, 5 * DAY + SECOND, 1),
        (20 * DAY, 5 * DAY, 2),
        (20 * DAY, 3 * DAY, 3),
        (20 * DAY, 2 * DAY, 4),
        (20 * DAY, SECOND, 4),
        (100 * DAY, 10 * DAY, 3),
        (100 * DAY, 3 * DAY, 4),
    ],
)
@pytest.mark.parametrize("subscribed", [True, False])
def test_a_validity_runs_out(validity: timedelta, left: timedelta, expected: int, subscribed: bool) -> None:
    """Promise 25: at 50 %, 25 % and 10 %, and at least 72 hours before; each level stays raised until a success."""
    status = replace(CALM, obtained=NOW - validity + left, valid_until=NOW + left, subscribed=subscribed)
    alarms = raised(status)

    assert len(alarms) == expected
    assert alarms <= DEPLETED
    assert ("critical metadata_depleting 72h" in alarms) == (left <= 3 * DAY)


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (13 * HOUR, set[str]()),
        (12 * HOUR, {"warning metadata_depleting 50%"}),
        (HOUR, {"warning metadata_depleting 50%", "warning metadata_depleting 25%", "critical metadata_depleting 10%"}),
    ],
)
def test_a_short_validity_is_no_standing_alarm(left: timedelta, expected: set[str]) -> None:
    """Metadata that is never valid for more than a day raises nothing while it is renewed."""
    assert expected == raised(replace(CALM, obtained=NOW + left - DAY, valid_until=NOW + left))


def test_each_level_once_and_all_clear_with_a_success() -> None:
    """Promise 25: hour by hour through a validity whose source fails, each alarm comes once, and a success ends all."""
    status = replace(CALM, valid_until=NOW + 14 * DAY, failing=UNREACHABLE)
    standing, came = set[str](), list[str]()
    for hour in range(14 * 24 + 2):
        now = raised(status, NOW + hour * HOUR) - {"warning metadata_refused metadata_unreachable"}
        came += sorted(now - standing)
        standing = now

    assert came == [
        "warning metadata_depleting 50%",
        "warning metadata_depleting 25%",
        "critical metadata_depleting 72h",
        "critical metadata_depleting 10%",
        "critical metadata_expired",
    ]
    renewed = NOW + 14 * DAY + HOUR
    assert raised(replace(CALM, obtained=renewed, confirmed=renewed, valid_until=renewed + 14 * DAY), renewed) == set()


AGES = [
    (24 * HOUR - SECOND, set[str]()),
    (24 * HOUR, {"warning metadata_aging 24h"}),
    (72 * HOUR - SECOND, {"warning metadata_aging 24h"}),
    (72 * HOUR, {"warning metadata_aging 24h", "critical metadata_aging 72h"}),
    (14 * DAY - SECOND, {"warning metadata_aging 24h", "critical metadata_aging 72h"}),
    (
        14 * DAY,
        {"warning metadata_aging 24h", "critical metadata_aging 72h", "critical metadata_expired"},
    ),
]


@pytest.mark.parametrize(("age", "expected"), AGES)
def test_metadata_without_an_end_ages(age: timedelta, expected: set[str]) -> None:
    """Promise 26: a day, three days, the limit; never earlier, never silently."""
    assert expected == raised(CALM, NOW + age)


def test_uploaded_metadata_without_an_end_does_not_age() -> None:
    """Promise 26 is about sources: nobody confirms what was uploaded."""
    assert raised(replace(CALM, subscribed=False), NOW + 1000 * DAY) == set()


@pytest.mark.parametrize(
    ("denies", "by_end", "by_age"),
    [
        (True, "its evidence is denied", "its evidence is denied"),
        (False, "it is still believed", "believed on, as set"),
    ],
)
def test_an_end_says_what_follows(denies: bool, by_end: str, by_age: str) -> None:
    """Promise 26: the alarm says whether evidence is denied by now."""
    ended = replace(CALM, valid_until=NOW, obtained=NOW - DAY, denies=denies)

    assert raised(ended) == {"critical metadata_expired"}
    assert by_end in text_of("metadata_expired", ended)
    assert by_age in text_of("metadata_expired", replace(CALM, denies=denies), NOW + 14 * DAY)


@pytest.mark.parametrize(
    ("left", "days", "severity"),
    [
        (60 * DAY + SECOND, (), None),
        (60 * DAY, (60,), "warning"),
        (30 * DAY, (60, 30), "warning"),
        (14 * DAY, (60, 30, 14), "warning"),
        (7 * DAY, (60, 30, 14, 7), "critical"),
        (3 * DAY, (60, 30, 14, 7, 3), "critical"),
        (DAY, (60, 30, 14, 7, 3, 1), "critical"),
        (SECOND, (60, 30, 14, 7, 3, 1), "critical"),
    ],
)
def test_a_certificate_runs_out(left: timedelta, days: tuple[int, ...], severity: str | None) -> None:
    """Each level of an expiry is its own alarm, and the last three weeks without a successor are one more."""
    now = OLD_END - left
    alarms = raised(replace(CALM, confirmed=now, obtained=now), now)

    expected = {f"{'critical' if each <= 7 else 'warning'} certificate_expiring OLD:{each}d" for each in days}
    if left <= 20 * DAY:
        expected.add("critical no_successor OLD")
    assert alarms == expected
    assert severity is None or f"{severity} certificate_expiring OLD:{days[-1]}d" in alarms


@pytest.mark.parametrize(
    ("left", "alone"), [(20 * DAY + SECOND, set[str]()), (20 * DAY, {"critical no_successor OLD"})]
)
def test_a_successor_is_missed(left: timedelta, alone: set[str]) -> None:
    """Promise 37: 20 days before the end AD FS has made the next one; one that lasts longer is a successor."""
    now = OLD_END - left
    status = replace(CALM, confirmed=now, obtained=now)
    followed = replace(status, certificates=(certificate("idp"), certificate("idp_renewed")))
    withdrawn = replace(status, certificates=(certificate("idp"), certificate("idp_renewed", RETIRED)))

    def missed(of: IdpStatus) -> set[str]:
        return {each for each in raised(of, now) if "no_successor" in each}

    assert missed(status) == alone
    assert missed(withdrawn) == alone
    assert missed(followed) == set()


def test_texts_say_what_to_do() -> None:
    """The alarm for a hold names the certificates and the two commands."""
    held = text_of("rollover_held", replace(CALM, withheld=(WITHHELD,)))

    assert held == (
        f"New certificates wait for approval ({NEXT}): metadata_key_withheld, expected a person's approval. Compare "
        "them with the IdP's, then `fas-evidence rollover approve a1b2` or `reject`."
    )


def test_a_failure_says_its_reason_and_advice() -> None:
    """What is not taken over says why, and that the old trust stays."""
    text = text_of("metadata_refused", replace(CALM, failing=UNREACHABLE))

    assert text.startswith(
        "Its metadata is not taken over (metadata_unreachable: expected an answer; got timed out), and what was "
        "trusted before stays. "
    )
    assert text.endswith(TrustReason.METADATA_UNREACHABLE.advice)
