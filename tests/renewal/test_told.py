"""What people are told while renewals go on: by mail and webhook, also when those are down or the process dies."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from evidence_service.adapters.outbox import DeliveryState, Outbox
from evidence_service.demo.fas_ca import CA_ADDRESS
from evidence_service.notices.model import Channels, Webhook
from evidence_service.renewal.farm import RevocationList
from evidence_service.renewal.model import ACTS, Request, StepKind
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.tick import Ticked
from tests.adapters.post import mail_by, mail_server, web_server
from tests.metadata.server import MetadataServer
from tests.renewal.site import DAY, DEFINITIONS, FAS1, HOUR, MINUTE, NOW, POLICY, Site, near


def issue(farm: Site) -> None:
    """The CA manager decides."""
    (request,) = farm.farm.ca.pending
    farm.farm.ca.issue(request.number)
    farm.farm.advance(5 * MINUTE)


def test_a_day_without_mail_delays_no_renewal_and_loses_no_message(tmp_path: Path) -> None:
    """The mail server is down for more than a day while a renewal is made; then everything arrives once (promise 59).

    Meanwhile an alarm and a count tell of it without mail. The Message-ID is that of the message as stored, or of the
    first of those of one kind that waited together.
    """
    with mail_server() as post:
        transport = post.smtp(timeout_seconds=2.0)
        channels = Channels(mail=mail_by(transport))
    with near(tmp_path, channels=channels, policy=replace(POLICY, poll=3 * HOUR, soak=DAY)) as farm:
        (old,) = farm.used()
        farm.until_step(StepKind.AWAIT_APPROVAL)
        went_down = farm.farm.now
        issue(farm)
        farm.run(until=lambda: old not in farm.server().certificates, stride=2 * HOUR)
        assert farm.farm.now - went_down >= DAY
        farm.farm.advance(2 * HOUR)
        farm.round()
        waiting = Outbox(farm.engine).undelivered(farm.farm.now)
        assert sum(each.waiting for each in waiting) >= 7
        assert "messages_undelivered" in farm.alarms()

        with mail_server(port=transport.port) as post:
            farm.farm.advance(2 * HOUR)
            farm.round()
            arrived = [str(mail["Message-ID"])[1:33] for mail in post.mails]

        assert len(set(arrived)) == len(arrived)
        assert set(arrived) <= {each.id for each in farm.stored()}
        (switched,) = (mail for mail in post.mails if "uses the new certificate" in mail["Subject"])
        assert all(name in str(switched.get_body(("plain",))) for name in DEFINITIONS)
        states = {each.state for message in farm.stored() for each in message.deliveries}
        assert states == {DeliveryState.DELIVERED}
        farm.farm.advance(HOUR)
        farm.round()
        assert "messages_undelivered" not in farm.alarms()


def test_the_last_week_is_told_by_the_other_channel_too(tmp_path: Path) -> None:
    """A webhook that takes only what is urgent hears of the request from seven days before the expiry (promise 50)."""
    with web_server() as web, mail_server() as post:
        web.serve("/hook", 200)
        hook = Webhook(name="pager", url=f"{web.url}/hook", urgent_only=True, ca_file=web.ca_file)
        channels = Channels(mail=mail_by(post.smtp()), webhooks=(hook,))
        policy = replace(POLICY, poll=DAY, approval_deadline=90 * DAY)
        with near(tmp_path, channels=channels, policy=policy) as farm:
            expires = NOW + 70 * DAY
            farm.until_step(StepKind.AWAIT_APPROVAL)
            farm.run(until=lambda: farm.farm.now >= expires - 10 * DAY, most=61 * DAY)
            before = len(web.to("/hook"))
            farm.run(until=lambda: farm.farm.now >= expires - HOUR, most=10 * DAY, stride=DAY / 2)
            stored = farm.stored("approval_needed")

        posted = [each.json for each in web.to("/hook")]
        urgent = [each for each in stored if each.message.urgent]
        assert before == 0
        assert len(urgent) == 3  # at 7, 3 and 1 days
        assert len([each for each in posted if "waits for approval" in str(each)]) == 3
        assert len([each for each in post.mails if "waits for approval" in str(each["Subject"])]) == len(stored) > 6


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("away", [MINUTE, 2 * DAY], ids=["a minute", "two days"])
def test_a_crash_between_an_act_and_its_message_loses_none(tmp_path: Path, away: timedelta) -> None:
    """The process dies after every act, before anything is told, and stays away: each fact is told, once.

    That is also so when the restarted one dies in the same place again.
    """
    with near(tmp_path, policy=replace(POLICY, soak=DAY)) as farm:
        (old,) = farm.used()

        def die(ticked: Ticked) -> None:
            if isinstance(ticked.step, ACTS):
                raise Died

        farm.watch = die
        while old in farm.server().certificates:
            assert farm.farm.now < NOW + 70 * DAY, farm.story()
            try:
                farm.round()
            except Died:
                farm.restart(owner=f"worker:{farm.farm.now.isoformat()}")
                farm.farm.advance(away)
            if farm.farm.ca.pending:
                issue(farm)
            farm.farm.advance(6 * HOUR)
        farm.round()
        farm.restart()
        farm.farm.advance(DAY)
        farm.round()

        acts = [each.message.kind for each in farm.stored() if each.message.fact.startswith("act:")]
        assert acts == ["request_made", "certificate_issued", *["switched"] * 3, "renewal_report"]


def test_a_revoked_certificate_is_renewed_at_once(tmp_path: Path) -> None:
    """The CA's list names the certificate in use: a request and an alarm within one check interval (promise 58).

    A list that cannot be had is told of, and starts no renewal.
    """
    with MetadataServer(tls=False) as server, near(tmp_path, expires=NOW + 300 * DAY) as farm:
        path = "/CertEnroll/Corp%20Issuing%20CA.crl"
        listed = RevocationList(
            certificate_authority=CA_ADDRESS,
            url=server.url(path, host="127.0.0.1"),
            issuer=farm.farm.ca.certificate.public_bytes(Encoding.DER),
        )
        farm.servers = replace(farm.servers, revocation_lists=(listed,))
        farm.restart()
        (old,) = farm.used()
        in_use = farm.server().certificates[old].certificate
        assert in_use is not None
        farm.run(until=lambda: farm.farm.now > NOW + 2 * DAY)
        assert "crl_unknown" in farm.alarms()
        server.serve(path, farm.farm.ca.crl())
        farm.run(until=lambda: farm.farm.now > NOW + 4 * DAY)
        assert farm.alarms() == {}
        assert farm.acts() == []

        farm.farm.ca.revoke(in_use.serial_number)
        server.serve(path, farm.farm.ca.crl())
        revoked_at = farm.farm.now
        farm.run(until=lambda: "request done" in farm.acts(), most=POLICY.check + MINUTE)
        took = farm.farm.now - revoked_at
        raised = farm.alarms()
        request = farm.store.attempts(FAS1).acts[0].step
        farm.round()
        issue(farm)
        farm.run(
            until=lambda: old not in {farm.server().definitions[each].authorization_certificate for each in DEFINITIONS}
        )
        farm.farm.advance(DAY)
        server.serve(path, farm.farm.ca.crl())
        farm.round()

        assert took <= POLICY.check
        assert isinstance(request, Request)
        assert request.reason is RenewalReason.REVOKED
        assert "was revoked at" in raised["authcert_revoked"]
        assert [each.urgent for each in farm.messages("authcert_revoked")] == [True]
        assert "authcert_revoked" not in farm.alarms()


def test_a_tls_certificate_that_nobody_can_read_is_told_of(tmp_path: Path) -> None:
    """Otherwise it ends without a warning; one that is not there belongs to another machine."""
    file = tmp_path / "serve.pem"
    file.write_text("no certificate")
    with near(tmp_path, expires=NOW + 300 * DAY) as farm:
        paths = {"tls_certificate": file, "admin_tls_certificate": tmp_path / "absent.pem"}
        farm.settings = farm.settings.model_copy(update=paths)
        farm.restart()
        farm.round()
        assert [each.kind for each in farm.open_alarms()] == ["own_certificate_unreadable"]
        text = farm.alarms()["own_certificate_unreadable"]
        (told,) = farm.messages("own_certificate_unreadable")
    assert text.startswith(
        f"When the TLS certificate of `serve` expires is not known, as {file} cannot be read: it is no "
    )
    assert "correct `tls_certificate`" in told.todo[0]
