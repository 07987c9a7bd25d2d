from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from evidence_service.access.model import FasRule, Mode, Policy
from evidence_service.adapters.config_store import ConfigStore, Conflict, NotFound, PluginKind
from evidence_service.adapters.database import reading, writing
from idp_certs.model import CertificateState, SigningCertificate
from idp_certs.reasons import Refused, TrustReason
from idp_certs.rollover import Event
from tests.adapters.given import ACTOR, DOCUMENT, LATER, NOW, POLICY, acted, der, imported, metadata
from tests.corpus import keys, names


def fingerprints(certificates: tuple[SigningCertificate, ...]) -> list[str]:
    """Names of the corpus for these certificates."""
    by_digest = {keys.fingerprint(name): name for name in ("idp", "idp_next", "idp_renewed", "idp_b")}
    return [by_digest[each.sha256] for each in certificates]


def states(store: ConfigStore) -> dict[str, CertificateState]:
    """The states of the certificates of the IdP."""
    stored = store.get_idp(names.IDP).certificates
    return dict(zip(fingerprints(stored), (each.state for each in stored), strict=True))


def counter(engine: Engine) -> int:
    """The configuration counter."""
    with reading(engine) as connection:
        return int(connection.scalar(text("SELECT counter FROM config_state")) or 0)


def test_an_idp_is_stored_with_where_its_certificates_come_from(store: ConfigStore) -> None:
    """Promise 41: document digest, person and instant are with every certificate."""
    change = imported(store, "idp", "idp_next")
    stored = store.get_idp(names.IDP)
    assert change.created
    assert fingerprints(change.added) == ["idp", "idp_next"]
    assert stored.certificates == change.added
    assert stored.policy == POLICY
    assert stored.enabled
    assert stored.problem is None
    document = DOCUMENT + b"idpidp_next"
    assert store.get_document(stored.document_sha256) == document
    for certificate in stored.certificates:
        assert certificate.state is CertificateState.TRUSTED
        assert certificate.since == NOW
        assert hashlib.sha256(document).hexdigest() in certificate.provenance
        assert ACTOR in certificate.provenance


def test_the_same_entity_id_again_is_an_update(store: ConfigStore) -> None:
    """H06: one entity ID, one IdP; what left the document retires from now on and is not deleted."""
    imported(store, "idp", "idp_next")
    change = imported(store, "idp_next", "idp_b", policy=None, now=LATER)
    assert not change.created
    assert fingerprints(change.added) == ["idp_b"]
    assert fingerprints(change.kept) == ["idp_next"]
    assert fingerprints(change.gone) == ["idp"]
    stored = store.get_idp(names.IDP)
    assert len(store.list_idps()) == 1
    assert stored.policy == POLICY, "an update without a policy keeps it"
    assert fingerprints(stored.certificates) == ["idp_next", "idp_b", "idp"]
    retiring = stored.certificates[-1]
    assert (retiring.state, retiring.since) == (CertificateState.RETIRING, LATER)
    assert stored.certificates[0].since == NOW


def test_a_certificate_that_already_retires_keeps_its_instant(store: ConfigStore) -> None:
    """A second import does not lengthen the life of a removed certificate."""
    imported(store, "idp", "idp_next")
    imported(store, "idp_next", now=LATER)
    imported(store, "idp_next", now=LATER + timedelta(hours=1))
    retiring = store.get_idp(names.IDP).certificates[-1]
    assert (retiring.state, retiring.since) == (CertificateState.RETIRING, LATER)


def test_a_certificate_that_comes_back_is_reported(store: ConfigStore) -> None:
    """A person's import trusts it again, and the change names it apart from new ones."""
    imported(store, "idp", "idp_next")
    imported(store, "idp_next", now=LATER)
    change = imported(store, "idp", "idp_next", now=LATER)
    assert fingerprints(change.returned) == ["idp"]
    assert change.added == ()
    assert states(store) == dict.fromkeys(("idp", "idp_next"), CertificateState.TRUSTED)


def test_a_revoked_certificate_stays_revoked(store: ConfigStore, engine: Engine) -> None:
    """Promise 36: neither the same document nor a new certificate for the same key brings it back."""
    imported(store, "idp", "idp_next")
    revoked = acted(engine, Event.REVOKE, now=LATER, note="stolen")
    assert fingerprints(tuple(each.certificate for each in revoked)) == ["idp"]
    change = imported(store, "idp", "idp_renewed", "idp_next", now=LATER)
    assert states(store) == {
        "idp": CertificateState.REVOKED,
        "idp_renewed": CertificateState.REVOKED,
        "idp_next": CertificateState.TRUSTED,
    }
    assert [finding.reason for finding in change.problems] == [TrustReason.CERTIFICATE_REVOKED] * 2
    imported(store, "idp_next", now=LATER)
    assert states(store)["idp"] is CertificateState.REVOKED


def test_removing_and_adding_does_not_forget_a_revocation(store: ConfigStore, engine: Engine) -> None:
    """A revoked certificate is remembered beyond the removal of its IdP."""
    imported(store, "idp", "idp_next")
    acted(engine, Event.REVOKE)
    store.remove_idp(names.IDP, now=LATER, actor=ACTOR)
    assert store.list_idps() == ()
    with pytest.raises(NotFound, match=names.IDP):
        store.get_idp(names.IDP)
    change = imported(store, "idp", "idp_next", policy=None, now=LATER)
    assert change.created
    assert states(store) == {"idp": CertificateState.REVOKED, "idp_next": CertificateState.TRUSTED}
    assert store.get_idp(names.IDP).policy == Policy(), "the policy does not come back"


@pytest.mark.parametrize("known", [False, True])
def test_metadata_without_a_certificate_is_refused(store: ConfigStore, known: bool) -> None:
    """`metadata_no_cert`, and what was stored before stays."""
    if known:
        imported(store, "idp")
    before = store.list_idps()
    with pytest.raises(Refused) as caught:
        imported(store)
    assert caught.value.finding.reason is TrustReason.METADATA_NO_CERT
    assert store.list_idps() == before


def test_metadata_with_only_revoked_certificates_is_refused(store: ConfigStore, engine: Engine) -> None:
    """It would leave the IdP without any key (promise 39)."""
    imported(store, "idp", "idp_next")
    acted(engine, Event.REVOKE)
    with pytest.raises(Refused) as caught:
        imported(store, "idp", "idp_renewed")
    assert caught.value.finding.reason is TrustReason.METADATA_NO_CERT
    assert "revoked" in caught.value.finding.presented
    assert states(store)["idp_next"] is CertificateState.TRUSTED


@pytest.mark.parametrize(("seconds", "refused"), [(0, True), (-1, True), (1, False)])
def test_expired_metadata_is_refused(store: ConfigStore, seconds: int, refused: bool) -> None:
    """`metadata_expired`, exactly from validUntil on."""
    document = metadata("idp", valid_until=NOW + timedelta(seconds=seconds))
    if not refused:
        store.add_idp(metadata=document, document=DOCUMENT, policy=POLICY, now=NOW, actor=ACTOR)
        assert store.get_idp(names.IDP).valid_until == document.valid_until
        return
    with pytest.raises(Refused) as caught:
        store.add_idp(metadata=document, document=DOCUMENT, policy=POLICY, now=NOW, actor=ACTOR)
    assert caught.value.finding.reason is TrustReason.METADATA_EXPIRED
    assert store.list_idps() == ()


def test_a_dry_run_answers_the_change_and_makes_none(store: ConfigStore, engine: Engine) -> None:
    """The difference is the same as that of the real run."""
    imported(store, "idp")
    before = (store.list_idps(), store.list_acts(), counter(engine))
    planned = imported(store, "idp_next", now=LATER, dry_run=True)
    assert (store.list_idps(), store.list_acts(), counter(engine)) == before
    assert imported(store, "idp_next", now=LATER) == planned


def test_an_idp_is_disabled_and_its_policy_changed(store: ConfigStore) -> None:
    """Both are kept by the next import."""
    imported(store, "idp")
    policy = Policy(audiences=("https://other.example",), recipients=POLICY.recipients)
    store.set_idp_enabled(names.IDP, False, now=NOW, actor=ACTOR)
    store.set_policy(names.IDP, policy, now=NOW, actor=ACTOR)
    imported(store, "idp", policy=None)
    stored = store.get_idp(names.IDP)
    assert not stored.enabled
    assert stored.policy == policy


@pytest.mark.parametrize("policy", [Policy(audiences=("a\nb",)), Policy(max_age=timedelta(milliseconds=1500))])
def test_a_policy_that_would_not_come_back_is_refused(store: ConfigStore, policy: Policy) -> None:
    """What cannot be written as a policy file is not stored half."""
    with pytest.raises(Conflict, match="policy cannot be stored"):
        imported(store, "idp", policy=policy)
    assert store.list_idps() == ()


def test_what_is_unknown_is_not_found(store: ConfigStore) -> None:
    """One line names what was asked for."""
    imported(store, "idp")
    for act in (
        lambda: store.remove_idp("urn:x", now=NOW, actor=ACTOR),
        lambda: store.set_idp_enabled("urn:x", True, now=NOW, actor=ACTOR),
        lambda: store.set_policy("urn:x", POLICY, now=NOW, actor=ACTOR),
        lambda: store.remove_rule("urn:x", now=NOW, actor=ACTOR),
        lambda: store.revoke_plugin("urn:x", now=NOW, actor=ACTOR),
        lambda: store.get_document("urn:x"),
    ):
        with pytest.raises(NotFound, match="urn:x"):
            act()
    assert [act.act for act in store.list_acts()] == ["idp_added"]


def test_rules_are_set_listed_and_removed(store: ConfigStore) -> None:
    """A rule comes back as it was given; setting it again replaces it."""
    first = FasRule(name="default", mode=Mode.OBSERVE, max_age=timedelta(hours=2), entity_ids=frozenset({"b", "a"}))
    store.set_rule(first, now=NOW, actor=ACTOR)
    store.set_rule(FasRule(name="admins"), now=NOW, actor=ACTOR)
    assert store.list_rules() == (FasRule(name="admins"), first)
    store.set_rule(FasRule(name="default"), now=NOW, actor=ACTOR)
    store.remove_rule("admins", now=NOW, actor=ACTOR)
    assert store.list_rules() == (FasRule(name="default"),)


@pytest.mark.parametrize("name", ["", " a", "a\nb", "a\0", "x" * 257])
def test_names_that_nobody_could_type_are_refused(store: ConfigStore, name: str) -> None:
    """A rule and a plug-in need a printable name."""
    with pytest.raises(Conflict, match="name"):
        store.set_rule(FasRule(name=name), now=NOW, actor=ACTOR)
    with pytest.raises(Conflict, match="name"):
        store.enroll_plugin(name=name, certificate_der=der("leaf"), now=NOW, actor=ACTOR)


def test_plugins_are_enrolled_listed_and_revoked(store: ConfigStore) -> None:
    """A certificate is known by its SHA-256, a bearer key by its own."""
    store.enroll_plugin(name="fas1", certificate_der=der("leaf"), now=NOW, actor=ACTOR)
    store.enroll_plugin(name="fas2", bearer_key_sha256="A" * 64, now=NOW, actor=ACTOR)
    store.revoke_plugin("fas1", now=LATER, actor=ACTOR)
    first, second = store.list_plugins()
    assert (first.kind, first.fingerprint, first.revoked_at) == (
        PluginKind.CERTIFICATE,
        keys.fingerprint("leaf"),
        LATER,
    )
    assert first.certificate_der == der("leaf")
    assert (second.kind, second.fingerprint, second.revoked_at) == (PluginKind.BEARER, "a" * 64, None)


def test_plugins_share_neither_name_nor_credential(store: ConfigStore) -> None:
    """The message says which; a revoked one does not free them."""
    store.enroll_plugin(name="fas1", certificate_der=der("leaf"), now=NOW, actor=ACTOR)
    with pytest.raises(Conflict, match="'fas1' is already the name of an enrolled"):
        store.enroll_plugin(name="fas1", bearer_key_sha256="a" * 64, now=NOW, actor=ACTOR)
    with pytest.raises(Conflict, match="certificate already belongs to an enrolled plug-in, 'fas1'"):
        store.enroll_plugin(name="fas2", certificate_der=der("leaf"), now=NOW, actor=ACTOR)
    store.revoke_plugin("fas1", now=LATER, actor=ACTOR)
    with pytest.raises(Conflict, match="a revoked plug-in, 'fas1'"):
        store.enroll_plugin(name="fas2", certificate_der=der("leaf"), now=NOW, actor=ACTOR)
    with pytest.raises(NotFound, match="fas1"):
        store.revoke_plugin("fas1", now=LATER, actor=ACTOR)


def test_a_plugin_is_rotated_through_a_second_credential(store: ConfigStore) -> None:
    """Both are good until the first is revoked; a third has to wait, and revoking the name ends all."""
    store.enroll_plugin(name="fas1", certificate_der=der("leaf"), now=NOW, actor=ACTOR)
    with pytest.raises(NotFound, match="no plug-in 'fas2' is enrolled"):
        store.enroll_plugin(name="fas2", bearer_key_sha256="a" * 64, rotating=True, now=NOW, actor=ACTOR)
    with pytest.raises(Conflict, match="certificate already belongs to an enrolled plug-in, 'fas1'"):
        store.enroll_plugin(name="fas1", certificate_der=der("leaf"), rotating=True, now=NOW, actor=ACTOR)
    store.enroll_plugin(name="fas1", bearer_key_sha256="a" * 64, rotating=True, dry_run=True, now=NOW, actor=ACTOR)
    assert len(store.list_plugins()) == 1
    store.enroll_plugin(name="fas1", bearer_key_sha256="a" * 64, rotating=True, now=NOW, actor=ACTOR)
    with pytest.raises(Conflict, match="'fas1' has 2 credentials already"):
        store.enroll_plugin(name="fas1", bearer_key_sha256="b" * 64, rotating=True, now=NOW, actor=ACTOR)
    assert [(each.name, each.kind, each.revoked_at) for each in store.list_plugins()] == [
        ("fas1", PluginKind.CERTIFICATE, None),
        ("fas1", PluginKind.BEARER, None),
    ]
    with pytest.raises(NotFound, match="no plug-in 'fas1' with the SHA-256 'bb"):
        store.revoke_plugin("fas1", fingerprint="b" * 64, now=LATER, actor=ACTOR)
    store.revoke_plugin("fas1", fingerprint=keys.fingerprint("leaf").upper(), now=LATER, actor=ACTOR)
    assert [each.revoked_at for each in store.list_plugins()] == [LATER, None]
    store.enroll_plugin(name="fas1", bearer_key_sha256="b" * 64, rotating=True, now=LATER, actor=ACTOR)
    store.revoke_plugin("fas1", now=LATER, actor=ACTOR)
    assert [(each.revoked_at, each.problem) for each in store.list_plugins()] == [(LATER, None)] * 3
    with pytest.raises(NotFound, match="no plug-in 'fas1' is enrolled"):
        store.enroll_plugin(name="fas1", bearer_key_sha256="c" * 64, rotating=True, now=LATER, actor=ACTOR)
    assert [(act.act, act.detail.get("fingerprints")) for act in store.list_acts()] == [
        ("plugin_revoked", ["a" * 64, "b" * 64]),
        ("plugin_credential_added", None),
        ("plugin_credential_revoked", [keys.fingerprint("leaf")]),
        ("plugin_credential_added", None),
        ("plugin_enrolled", None),
    ]


@pytest.mark.parametrize(
    "credential",
    [
        {},
        {"certificate_der": b"x", "bearer_key_sha256": "a" * 64},
        {"certificate_der": b"x"},
        {"bearer_key_sha256": "a" * 63},
        {"bearer_key_sha256": "g" * 64},
    ],
)
def test_a_plugin_needs_one_usable_credential(store: ConfigStore, credential: dict[str, bytes | str]) -> None:
    """None, both, or one that cannot be read is refused."""
    with pytest.raises(Conflict):
        store.enroll_plugin(name="fas1", now=NOW, actor=ACTOR, **credential)  # type: ignore[arg-type]
    assert store.list_plugins() == ()


def test_every_act_is_in_the_journal_and_raises_the_counter(store: ConfigStore, engine: Engine) -> None:
    """Who, what and when, in the same transaction as the change."""
    acts: list[tuple[str, Callable[[], object]]] = [
        ("idp_added", lambda: imported(store, "idp")),
        ("idp_updated", lambda: imported(store, "idp_next")),
        ("idp_disabled", lambda: store.set_idp_enabled(names.IDP, False, now=NOW, actor=ACTOR)),
        ("policy_set", lambda: store.set_policy(names.IDP, POLICY, now=NOW, actor=ACTOR)),
        (
            "certificate_revoked",
            lambda: acted(engine, Event.REVOKE),
        ),
        ("rule_set", lambda: store.set_rule(FasRule(name="a"), now=NOW, actor=ACTOR)),
        ("rule_removed", lambda: store.remove_rule("a", now=NOW, actor=ACTOR)),
        ("plugin_enrolled", lambda: store.enroll_plugin(name="p", bearer_key_sha256="a" * 64, now=NOW, actor=ACTOR)),
        ("plugin_revoked", lambda: store.revoke_plugin("p", now=NOW, actor=ACTOR)),
        ("high_water_reset", lambda: store.reset_high_water(now=NOW, actor=ACTOR)),
        ("idp_removed", lambda: store.remove_idp(names.IDP, now=NOW, actor="line\nbreak\udcff")),
    ]
    for number, (name, act) in enumerate(acts, start=1):
        act()
        assert counter(engine) == number, name
    recorded = store.list_acts()
    assert [each.act for each in reversed(recorded)] == [name for name, _ in acts]
    assert recorded[0].actor == "line\\nbreak\\udcff"
    assert recorded[1].actor == ACTOR
    assert recorded[-1].detail["added"] == [keys.fingerprint("idp")]
    assert store.list_acts(limit=2, before=recorded[0].seq) == recorded[1:3]


def test_a_failing_act_changes_nothing(store: ConfigStore, engine: Engine) -> None:
    """Promise 77: with the journal refusing the row, the change is undone too."""
    imported(store, "idp")
    before = store.list_idps()
    with writing(engine) as connection:
        connection.execute(text("CREATE TRIGGER t BEFORE INSERT ON journal BEGIN SELECT RAISE(ABORT, 'no'); END"))
    with pytest.raises(Exception, match="no"):
        imported(store, "idp_next")
    assert store.list_idps() == before
    assert counter(engine) == 1


def test_an_idp_changed_from_outside_is_found_and_can_be_replaced(store: ConfigStore, engine: Engine) -> None:
    """Promise 23: it reads as damaged, acts on it are refused, removing and adding heals."""
    imported(store, "idp")
    imported(store, "idp_b", entity_id=names.OTHER_IDP)
    with writing(engine) as connection:
        connection.execute(
            text("UPDATE certificates SET der = :der WHERE entity_id = :id"),
            {"der": der("attacker"), "id": names.IDP},
        )
    damaged, intact = sorted(store.list_idps(), key=lambda idp: idp.problem is None)
    assert damaged.problem is not None
    assert "changed from outside" in damaged.problem
    assert (damaged.entity_id, damaged.certificates, damaged.policy) == (names.IDP, (), Policy())
    assert intact.problem is None
    with pytest.raises(Conflict, match="changed from outside"):
        store.set_idp_enabled(names.IDP, True, now=NOW, actor=ACTOR)
    with pytest.raises(Conflict, match="changed from outside"):
        imported(store, "idp")
    store.remove_idp(names.IDP, now=NOW, actor=ACTOR)
    assert imported(store, "idp").created
    assert store.get_idp(names.IDP).problem is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE idps SET policy = replace(policy, 'gw.example', 'evil.example')",
        "UPDATE idps SET enabled = 0",
        "UPDATE idps SET valid_until = 5",
        "UPDATE idps SET imported_at = 'soon'",
        "UPDATE idps SET policy = x'00ff'",
        "UPDATE certificates SET state = 'announced'",
        "UPDATE certificates SET since = since + 1",
        "UPDATE certificates SET since = 'long ago'",
        "UPDATE certificates SET der = 'text'",
        "UPDATE certificates SET provenance = 'x'",
        "DELETE FROM certificates",
    ],
)
def test_any_column_that_matters_is_covered(store: ConfigStore, engine: Engine, statement: str) -> None:
    """No single change to what is believed of an IdP goes unnoticed, and none takes the program down."""
    imported(store, "idp")
    with writing(engine) as connection:
        connection.execute(text(statement))
    stored = store.get_idp(names.IDP)
    assert stored.problem is not None
    assert stored.certificates == ()
