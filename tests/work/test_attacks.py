"""What whoever has a stolen key or the metadata server gets: no key trusted, no disk filled, nobody shut out."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from lxml import etree
from sqlalchemy import func, select

from evidence_service.access.model import Policy
from evidence_service.adapters.config_store import Conflict
from evidence_service.adapters.database import documents, reading, rollovers
from evidence_service.adapters.snapshots import load_snapshot, parse_snapshot_document, snapshot_document
from evidence_service.adapters.trust_store import RolloverState
from evidence_service.trust_admin.acts import TrustAdmin
from evidence_service.trust_admin.documents import Unusable
from evidence_service.trust_admin.keys import plan_key_act
from evidence_service.trust_admin.views import rollover_json
from idp_certs.metadata import parse_metadata
from idp_certs.model import CertificateState, SigningCertificate
from idp_certs.reasons import TrustReason
from idp_certs.rollover import Event
from tests.corpus import keys, names
from tests.work.given import ACTOR, RULES, Site, document

TRUSTED, ANNOUNCED, REVOKED = CertificateState.TRUSTED, CertificateState.ANNOUNCED, CertificateState.REVOKED
CERTIFICATE = f"{{{names.DS}}}X509Certificate"


def add(site: Site, *certificates: str, entity_id: str = names.OTHER_IDP) -> None:
    """Another IdP, whose metadata came by hand."""
    data = document(*certificates, entity_id=entity_id)
    (metadata,) = parse_metadata(data, entity_id=entity_id)
    site.config.add_idp(metadata=metadata, document=data, policy=Policy(), now=site.clock.now, actor=ACTOR)


def revoke(site: Site, certificate: str, entity_id: str = names.IDP) -> None:
    """A person learns that its key was stolen."""
    site.trust.act(entity_id, keys.fingerprint(certificate), Event.REVOKE, now=site.clock.now, actor=ACTOR)


def variants(name: str, number: int, *, first: int = 0) -> list[bytes]:
    """Certificates of the same key that anybody can make: nothing verifies what a certificate is signed with."""
    der = keys.certificate(name)
    return [der[:-4] + (first + each).to_bytes(4) for each in range(number)]


def with_certificates(*more: bytes) -> bytes:
    """An unsigned document of the IdP that lists its certificate and these."""
    entity = etree.fromstring(document("idp"))
    (data,) = entity.iter(f"{{{names.DS}}}X509Data")
    for der in more:
        etree.SubElement(data, CERTIFICATE).text = base64.b64encode(der).decode()
    return etree.tostring(entity)


def test_promise_35_a_key_revoked_at_one_idp_vouches_for_nothing_at_another(here: Site) -> None:
    """Two entity IDs share a key, as those of one farm do; whoever stole it cannot bring his own by continuity."""
    here.subscribe(document("idp", "idp_b"))
    add(here, "idp")
    revoke(here, "idp", names.OTHER_IDP)
    here.serve(document("idp", "idp_b", "idp_next", signed_by="idp"))

    here.refresh()
    assert "idp_next" not in here.states()
    (held,) = here.trust.list_rollovers(state=RolloverState.HELD)
    assert held.finding.reason is TrustReason.METADATA_KEY_WITHHELD


def test_promise_36_a_key_revoked_at_one_idp_is_not_announced_or_approved_at_another(here: Site) -> None:
    """It would be shown as trusted while everything that it signs is denied."""
    here.subscribe(document("idp"))
    here.serve(document("idp", "idp_next"))
    here.refresh()
    (held,) = here.trust.list_rollovers(state=RolloverState.HELD)
    add(here, "idp_next")
    revoke(here, "idp_next", names.OTHER_IDP)

    with pytest.raises(Conflict, match="revoked at another identity provider"):
        here.trust.approve_rollover(held.id, now=here.clock.now, actor=ACTOR)
    here.serve(document("idp", "idp_next", signed_by="idp"))
    here.refresh()
    assert here.states() == {"idp": TRUSTED, "idp_next": REVOKED}


def test_promise_35_a_revoked_key_vouches_for_nothing_as_metadata_certificate_either(here: Site) -> None:
    """AD FS signs its metadata with the key that signs tokens, and an administrator may have set that certificate."""
    here.subscribe(document("idp", "idp_b"), metadata_certificate="idp")
    revoke(here, "idp")
    here.serve(document("idp", "idp_b", "idp_next", signed_by="idp"))

    assert not here.refresh()
    assert here.states() == {"idp": REVOKED, "idp_b": TRUSTED}
    (alarm,) = here.alarms("metadata_refused")
    assert alarm.key == TrustReason.METADATA_SIGNATURE_INVALID
    assert "whose key is revoked" in alarm.text


def test_promise_36_a_key_stays_revoked_everywhere_when_its_idp_is_removed(here: Site) -> None:
    """Removing the IdP that was broken into must not make its key good at another one, nor forget it in a replay."""
    add(here, "idp_b", entity_id=names.IDP)
    add(here, "idp", "idp_b")
    revoke(here, "idp", names.OTHER_IDP)
    here.config.remove_idp(names.OTHER_IDP, now=here.clock.now, actor=ACTOR)

    key = SigningCertificate(der=keys.certificate("idp"), state=TRUSTED, since=here.clock.now, provenance="").key_sha256
    snapshot = load_snapshot(here.engine, secrets_dir=None)
    assert key in snapshot.trust.revoked_keys
    again = parse_snapshot_document(snapshot_document(snapshot), version=snapshot.version)
    assert key in again.trust.revoked_keys


def test_a_source_that_lists_another_key_every_time_does_not_fill_the_disk(here: Site) -> None:
    """Of holds that nobody decided, the documents go and only the newest are remembered."""
    here.subscribe(document("idp"))
    for number in range(24):
        (der,) = variants("idp_next", 1, first=number)
        here.serve(with_certificates(der))
        here.refresh()

    with reading(here.engine) as connection:
        assert connection.scalar(select(func.count()).select_from(documents)) == 2
        assert connection.scalar(select(func.count()).select_from(rollovers)) == 17
    (held,) = here.trust.list_rollovers(state=RolloverState.HELD)
    assert here.trust.get_document(held.document_sha256)


def test_what_waits_again_has_the_document_that_made_it_wait_again(here: Site) -> None:
    """The first document was forgotten when the hold ended."""
    here.subscribe(document("idp"))
    for listed in (("idp", "idp_next"), ("idp",), ("idp", "idp_next")):
        here.serve(document(*listed))
        here.refresh()

    (held,) = here.trust.list_rollovers(state=RolloverState.HELD)
    assert held.sightings == 2
    assert here.trust.get_document(held.document_sha256)
    assert held.provenance["document_sha256"] == held.document_sha256


def test_certificates_of_a_good_key_do_not_come_without_end(here: Site) -> None:
    """A public key is enough to make them; beyond a few they wait like any other."""
    here.subscribe(document("idp"))
    for number in range(3):
        here.serve(with_certificates(*variants("idp", 20, first=100 * number)))
        here.refresh()

    assert len(here.trust.load_trust(names.IDP).certificates) == 8
    (held,) = here.trust.list_rollovers(state=RolloverState.HELD)
    assert len(held.withheld) == 20


def test_certificates_of_a_revoked_key_do_not_come_without_end(here: Site) -> None:
    """They are noted as revoked, which a few of them say as well as many."""
    here.subscribe(document("idp", "idp_next"))
    revoke(here, "idp_next")
    for number in range(3):
        here.serve(with_certificates(*variants("idp_next", 20, first=100 * number)))
        here.refresh()

    assert len(here.trust.load_trust(names.IDP).certificates) == 9


def test_a_valid_until_far_ahead_does_not_shut_out_what_follows(here: Site) -> None:
    """An unsigned document that brings no key is in force; the true ones after it are no rollback for that (G09)."""
    here.subscribe(document("idp"))
    here.serve(document("idp", valid_until=here.clock.now + timedelta(days=9000)))
    assert here.refresh()
    here.serve(document("idp", "idp_next", signed_by="idp", valid_until=here.clock.now + timedelta(days=7)))

    assert here.refresh()
    assert here.states() == {"idp": TRUSTED, "idp_next": ANNOUNCED}


def test_a_name_that_cannot_be_read_does_not_blind_the_administrator(here: Site) -> None:
    """X.509 can hold a subject that is no text; the certificate is still shown, and rejected or approved."""
    here.subscribe(document("idp"))
    here.serve(with_certificates(keys.certificate("idp_next").replace(b"idp", b"\xff\xfe\xff")))
    here.refresh()

    (held,) = here.trust.list_rollovers(state=RolloverState.HELD)
    (shown,) = rollover_json(held, here.clock.now)["certificates"]
    assert shown["subject"] == ""


@pytest.fixture
def admin(here: Site) -> TrustAdmin:
    """What a person works with."""
    return TrustAdmin(here.engine, rules=RULES.refresh, secrets_dir=None, owner="test")


def test_a_certificate_that_waits_is_not_approved_by_digits_that_can_be_imitated(here: Site, admin: TrustAdmin) -> None:
    """Between the look and the approval another certificate with the same first digits may wait in its place."""
    here.subscribe(document("idp"))
    here.serve(document("idp", "idp_next"))
    here.refresh()
    wanted = keys.fingerprint("idp_next")

    with pytest.raises(Unusable, match="at least the first 32 digits"):
        plan_key_act(admin, names.IDP, wanted[:31], Event.APPROVE, now=here.clock.now)
    planned = plan_key_act(admin, names.IDP, wanted[:32], Event.APPROVE, now=here.clock.now)
    assert planned.named.sha256 == wanted
    assert plan_key_act(admin, names.IDP, wanted[:8], Event.REVOKE, now=here.clock.now).named.sha256 == wanted


def test_promise_35_who_revokes_hears_what_the_key_brought_in_and_who_shares_it(here: Site, admin: TrustAdmin) -> None:
    """A thief's own key, vouched for by the stolen one, outlives it; and another IdP with the key is shut out."""
    here.subscribe(document("idp"))
    add(here, "idp")
    here.serve(document("idp", "idp_next", signed_by="idp"))
    here.refresh()

    planned = plan_key_act(admin, names.IDP, keys.fingerprint("idp"), Event.REVOKE, now=here.clock.now)
    warned = " | ".join(planned.warnings)
    assert f"certificate {keys.fingerprint('idp_next')} was accepted because this key signed" in warned
    assert f"{names.OTHER_IDP} has the same key" in warned
    revoke(here, "idp_next")
    planned = plan_key_act(admin, names.IDP, keys.fingerprint("idp"), Event.REVOKE, now=here.clock.now)
    assert "was accepted because" not in " | ".join(planned.warnings)


def test_a_cache_duration_of_ages_is_no_fault_of_ours(here: Site) -> None:
    """It is longer than the database can hold, and means no more than that nothing sooner is needed."""
    here.subscribe(document("idp"))
    here.serve(document("idp", "idp_next", signed_by="idp", cache_duration="P2000000Y"))

    assert here.refresh()
    assert here.states() == {"idp": TRUSTED, "idp_next": ANNOUNCED}
    instant = here.trust.next_instant(here.clock.now)
    assert instant is not None
    assert instant <= here.clock.now + timedelta(hours=1)


def test_addresses_without_end_do_not_weigh_down_the_row_of_the_idp(here: Site) -> None:
    """Every process that decides reads and seals that row; what is listed besides certificates is for people only."""
    entity = etree.fromstring(document("idp"))
    (role,) = entity.iter(f"{{{names.MD}}}IDPSSODescriptor")
    for location in ("x" * 900_000, *(f"https://idp.example/{number}" for number in range(5000))):
        etree.SubElement(role, f"{{{names.MD}}}SingleSignOnService", Binding="post", Location=location)
    here.subscribe(document("idp"))
    here.serve(etree.tostring(entity))

    assert here.refresh()
    known = here.config.get_idp(names.IDP).sso_urls
    assert len(known) == 32
    assert max(map(len, known)) <= 2048


def test_metadata_that_leaves_out_the_key_in_use_is_noticed_before_the_key_goes(here: Site) -> None:
    """Whoever has the metadata server needs no signature to leave keys out, and shuts everybody out by that."""
    here.subscribe(document("idp"))
    here.serve(document("idp", "idp_next", signed_by="idp"))
    here.refresh()
    assert here.alarms("used_key_left_out") == []
    here.serve(document("idp_next"))
    here.refresh()

    assert here.states() == {"idp": TRUSTED, "idp_next": ANNOUNCED}
    (alarm,) = here.alarms("used_key_left_out")
    assert f"{keys.fingerprint('idp')} is withdrawn when that stays so" in alarm.text
    here.refresh()
    here.refresh()
    assert here.states()["idp"] is CertificateState.RETIRING
    (alarm,) = here.alarms("used_key_left_out")
    assert "was withdrawn" in alarm.text
    here.trust.act(names.IDP, keys.fingerprint("idp_next"), Event.APPROVE, now=here.clock.now, actor=ACTOR)
    here.worker.synchronise_alarms()
    assert here.alarms("used_key_left_out") == []
