"""The part of the story in which AD FS changes its token-signing key: as planned, urgently, and after a theft."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from cryptography.hazmat.primitives import hashes

from evidence_service.access.model import Phase
from evidence_service.adapters.trust_store import NotFound, RolloverState, TrustStore
from evidence_service.demo.acts import Act, Scene
from evidence_service.demo.idp import DemoIdp
from evidence_service.demo.steps import ADMIN, ALICE, Cast, Chapter, Issue, Step, make_step, sign_in
from idp_certs.model import CertificateState
from idp_certs.reasons import TrustReason
from idp_certs.rollover import Event
from idp_certs.usage import usage_advice

ACTOR = "demo"
PATIENCE_SECONDS = 10.0
"""How long a user tries again whose sign-in met a key that nobody knew, on a machine too busy for the first try."""

_ANNOUNCED, _TRUSTED = CertificateState.ANNOUNCED, CertificateState.TRUSTED
_RETIRING, _REVOKED = CertificateState.RETIRING, CertificateState.REVOKED


def key_names(cast: Cast) -> dict[str, str]:
    """What the story calls AD FS's keys, and the stranger's, by the SHA-256 of the certificate."""
    numbered = {sha256_of(each): f"key {number}" for number, each in enumerate((cast.adfs, *cast.renewed), 1)}
    return {**numbered, sha256_of(cast.stranger): "the stranger's key"}


def sha256_of(idp: DemoIdp) -> str:
    """The SHA-256 (hex) of its token-signing certificate."""
    return idp.certificate.fingerprint(hashes.SHA256()).hex()


def rollovers(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Chapter, ...]:
    """AD FS's changes of its key, beginning with `cast.adfs` in force; arguments as of `launches`."""
    return (
        Chapter(title="AD FS renews its token-signing key", steps=_planned(cast, now, new_id)),
        Chapter(title="An urgent rollover, and a stranger's metadata", steps=_urgent(cast, new_id)),
        Chapter(title="Emergency: the key in use is stolen", steps=_emergency(cast, now, new_id)),
    )


def _fresh(idp: DemoIdp, upn: str, new_id: Callable[[], str]) -> Issue:
    assertion_id = new_id()
    return lambda at: sign_in(idp, upn, at, assertion_id)


def _planned(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Step | Act, ...]:
    first, second = cast.adfs, cast.renewed[0]
    key_1, key_2 = sha256_of(first), sha256_of(second)
    morning = sign_in(first, ALICE, now - timedelta(hours=6), new_id())
    launch = partial(make_step, first, ALICE, morning, None)
    announced = {key_1: _TRUSTED, key_2: _ANNOUNCED}
    both = {key_1: _TRUSTED, key_2: _TRUSTED}
    return (
        Act(
            title="AD FS announces key 2",
            why="Key 1 signed the metadata that lists key 2, so key 2 is accepted ahead of its use.",
            outcome="announced",
            publishes=first.metadata(also=(second.certificate,)),
            states=announced,
        ),
        make_step(
            first,
            ALICE,
            _fresh(first, ALICE, new_id),
            None,
            title="Alice signs in, by key 1",
            why="AD FS goes on signing with the current key.",
            phase=Phase.PREPARE,
        ),
        Act(
            title="AD FS promotes key 2",
            why="It signs from now on, the metadata too; both keys are listed.",
            outcome="promoted",
            publishes=second.metadata(also=(first.certificate,)),
            signs_now=second,
            states=announced,
        ),
        make_step(
            second,
            ALICE,
            _fresh(second, ALICE, new_id),
            None,
            title="Alice signs in, by key 2",
            why="It was accepted before it was used: nobody waits, nobody is called.",
            phase=Phase.PREPARE,
            within_seconds=PATIENCE_SECONDS,
        ),
        Act(
            title="Its use is noticed",
            why="What has signed an allowed sign-in is in use.",
            outcome="trusted",
            states=both,
        ),
        launch(title="Alice launches, by key 1", why="This morning's evidence is as good as before."),
        Act(
            title="May key 1 go?",
            why="Use is the evidence: what it signs, and since when.",
            outcome="in use",
            states=both,
            tells=partial(_told_of_use, sha256=key_1),
        ),
        Act(
            title="AD FS drops key 1",
            why="One document without it is not enough, as the nodes of a farm may disagree; two are, here.",
            outcome="retiring",
            publishes=second.metadata(),
            states={key_1: _RETIRING, key_2: _TRUSTED},
        ),
        launch(title="Alice launches, by key 1", why="This morning's evidence was issued before the removal."),
        make_step(
            first,
            ALICE,
            _fresh(first, ALICE, new_id),
            TrustReason.CERTIFICATE_RETIRED,
            title="A new response by key 1",
            why="Nothing new is believed of a key that its IdP has dropped.",
            phase=Phase.PREPARE,
            within_seconds=PATIENCE_SECONDS,
        ),
    )


def _urgent(cast: Cast, new_id: Callable[[], str]) -> tuple[Step | Act, ...]:
    second, third = cast.renewed[:2]
    key_1, key_2, key_3 = (sha256_of(each) for each in (cast.adfs, second, third))
    before = {key_1: _RETIRING, key_2: _TRUSTED}
    after = {key_1: _RETIRING, key_2: _RETIRING, key_3: _TRUSTED}
    return (
        Act(
            title="AD FS rolls over urgently",
            why="Update-AdfsCertificate -Urgent: key 3 replaces key 2 unannounced. Key 2 signed the metadata.",
            outcome="published",
            publishes=third.metadata(signed_by=second),
            unnoticed=True,
            signs_now=third,
            states=before,
        ),
        make_step(
            third,
            ALICE,
            _fresh(third, ALICE, new_id),
            None,
            title="Alice signs in, by key 3",
            why="Nobody knew key 3. Her sign-in has the metadata fetched and waits for it.",
            phase=Phase.PREPARE,
            within_seconds=PATIENCE_SECONDS,
        ),
        Act(
            title="The rollover settles",
            why="Key 3 is in use, and key 2 is no longer listed.",
            outcome="trusted",
            states=after,
            tells=_told_of_fetch,
        ),
        Act(
            title="A stranger's metadata",
            why="It stands at AD FS's address, but nothing that was trusted before vouches for his key.",
            outcome="held",
            publishes=cast.stranger.metadata(),
            states=after,
            waiting=frozenset({sha256_of(cast.stranger)}),
            tells=_told_of_list,
        ),
        make_step(
            cast.stranger,
            ADMIN,
            _fresh(cast.stranger, ADMIN, new_id),
            TrustReason.SIGNATURE_INVALID,
            title="The stranger, as admin",
            why="What waits is not trusted. The answer took long because new metadata might have come.",
        ),
        make_step(
            third,
            ALICE,
            _fresh(third, ALICE, new_id),
            None,
            title="Alice signs in, by key 3",
            why="For everybody else nothing has changed.",
            phase=Phase.PREPARE,
        ),
        Act(
            title="A person rejects it",
            why="His key is not asked about again. AD FS's own metadata is back.",
            outcome="rejected",
            by_hand=partial(_decide, approve=False),
            publishes=third.metadata(),
            states=after,
        ),
    )


def _emergency(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Step | Act, ...]:
    third, fourth = cast.renewed[1:]
    key_1, key_2, key_3, key_4 = (sha256_of(each) for each in (cast.adfs, *cast.renewed))
    revoked = {key_1: _RETIRING, key_2: _RETIRING, key_3: _REVOKED}
    evidence = sign_in(third, ALICE, now, new_id())
    launch = partial(make_step, third, ALICE, evidence)

    def revoke(trust: TrustStore, at: datetime) -> None:
        trust.act(third.entity_id, key_3, Event.REVOKE, now=at, actor=ACTOR, note="stolen")

    return (
        launch(None, title="Alice launches, by key 3", why="The key in use."),
        Act(
            title="A person revokes key 3",
            why="All that it ever signed is worth nothing: a thief can write any date.",
            outcome="revoked",
            by_hand=revoke,
            states=revoked,
        ),
        launch(
            TrustReason.CERTIFICATE_REVOKED,
            title="Alice launches, by key 3",
            why="The same evidence as a moment ago; a running service obeys within 2 s.",
            within_seconds=PATIENCE_SECONDS,
        ),
        Act(
            title="AD FS makes a new key",
            why="Only key 4 itself vouches for key 4, since the key before it is revoked.",
            outcome="held",
            publishes=fourth.metadata(),
            signs_now=fourth,
            states=revoked,
            waiting=frozenset({key_4}),
        ),
        Act(
            title="A person approves it",
            why="After comparing the fingerprint with AD FS's administrator.",
            outcome="approved",
            by_hand=partial(_decide, approve=True),
            states={**revoked, key_4: _ANNOUNCED},
        ),
        make_step(
            fourth,
            ALICE,
            _fresh(fourth, ALICE, new_id),
            None,
            title="Alice signs in, by key 4",
            why="Everything goes on.",
            phase=Phase.PREPARE,
            within_seconds=PATIENCE_SECONDS,
        ),
    )


def _decide(trust: TrustStore, at: datetime, *, approve: bool) -> None:
    """Approve or reject the one rollover that waits. Raises Conflict and NotFound."""
    held = trust.list_rollovers(state=RolloverState.HELD)
    if len(held) != 1:
        raise NotFound(f"{len(held)} rollovers wait, where one should")
    decide = trust.approve_rollover if approve else trust.reject_rollover
    decide(held[0].id, now=at, actor=ACTOR, note="demo")


def _told_of_use(scene: Scene, *, sha256: str) -> str:
    entity_id = scene.adfs.entity_id
    certificates = tuple(each.certificate for each in scene.trust.load_trust(entity_id).certificates)
    usage = scene.trust.usage(entity_id)
    if sha256 not in usage or usage[sha256].sign_ins == 0:
        return ""
    advice = usage_advice(certificates, usage, datetime.now(UTC))
    return next((f"{scene.name(each.sha256)} {each.text}." for each in advice if each.sha256 == sha256), "")


def _told_of_fetch(scene: Scene) -> str:
    hastened = scene.trust.get_source(scene.adfs.entity_id).state.hastened_at
    early = hastened is not None and scene.published_at is not None and hastened >= scene.published_at
    return "The metadata was fetched early, for the sign-in." if early else "The metadata was due just then anyway."


def _told_of_list(scene: Scene) -> str:
    shown = scene.command("rollover", "list", "--output", "json")
    waiting = scene.waiting.values()
    return "`rollover list` shows it." if waiting and all(each in shown for each in waiting) else ""
