"""`notify`: whether messages arrive, said so that a person and a script can act on it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from evidence_service.adapters.database import open_database, writing
from evidence_service.adapters.outbox import Courier, put
from evidence_service.adapters.sending import NotDelivered, Outgoing
from evidence_service.notices.model import Message
from tests.adapters.post import MESSAGE
from tests.cli.given import Place, fas_evidence


def mailed(place: Place, tmp_path: Path, *, webhook: bool = False) -> Path:
    """Set up mail to a pickup directory, and a webhook that cannot be reached."""
    pickup = tmp_path / "pickup"
    pickup.mkdir()
    data = tmp_path / "data"
    secrets = data / "secrets"
    secrets.mkdir(parents=True, exist_ok=True)
    document = f"""
[mail]
from = "fas@corp.example"
approvers = ["ca@corp.example"]
operators = ["ops@corp.example"]

[mail.pickup]
directory = "{pickup.as_posix()}"
"""
    if webhook:
        (secrets / "hook").write_text("https://localhost:1/hook")
        (secrets / "hook").chmod(0o600)
        document += '\n[[webhooks]]\nname = "teams"\nformat = "teams"\nurl_file = "hook"\n'
    (data / "renewal.toml").write_text(document)
    return pickup


def test_a_test_message_goes_out_by_each_channel(place: Place, tmp_path: Path) -> None:
    """Sent, it says by what; and the message is for whom it was asked for."""
    pickup = mailed(place, tmp_path)
    ran = fas_evidence("notify", "test", "--to", "approvers")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "mail: sent; see whether it arrived\n"
    (mail,) = pickup.iterdir()
    assert b"To: ca@corp.example" in mail.read_bytes()


def test_a_channel_that_fails_is_told_with_the_reason_and_the_others_go_out(place: Place, tmp_path: Path) -> None:
    """One line a channel, and 3 as exit code, as what could not be reached is no part of this service."""
    pickup = mailed(place, tmp_path, webhook=True)
    ran = fas_evidence("notify", "test")
    assert ran.code == 3
    mail, webhook = ran.out.splitlines()
    assert mail.startswith("mail: sent")
    assert webhook == (
        "webhook:teams: failed: localhost:1 cannot be asked: Connection refused; check its address, that it runs, DNS "
        "and the firewall"
    )
    assert "/hook" not in webhook
    assert fas_evidence("notify", "test", "--channel", "mail").code == 0
    assert fas_evidence("notify", "test", "--channel", "teams").code == 3
    assert len(list(pickup.iterdir())) == 2


def test_nothing_to_try_is_wrong_input(place: Place, tmp_path: Path) -> None:
    """Without channels it is wrong usage; one that is not there is a negative answer, with those there are."""
    ran = fas_evidence("notify", "test")
    assert ran.code == 2
    assert "no channel is configured" in ran.complaint
    mailed(place, tmp_path)
    ran = fas_evidence("notify", "test", "--channel", "pager")
    assert ran.code == 1
    assert ran.complaint == "--channel: there is no channel pager; there is mail"


def test_a_mail_server_that_refuses_connections(place: Place, tmp_path: Path) -> None:
    """A dependency failed: the line names host and port, and the members to look at."""
    mailed(place, tmp_path)
    file = tmp_path / "data" / "renewal.toml"
    head = file.read_text().partition("[mail.pickup]")[0]
    file.write_text(f'{head}[mail.smtp]\nhost = "localhost"\nport = 1\n')
    ran = fas_evidence("notify", "test")
    assert ran.code == 3
    assert ran.out.startswith("mail: failed: the mail server localhost:1 cannot be used: Connection refused; check ")
    assert "host, port and security in [mail.smtp]" in ran.out


class _Down:
    name = "mail"
    combines = True

    def takes(self, message: Message) -> bool:
        return message.urgent

    def send(self, outgoing: Outgoing) -> None:
        raise NotDelivered("no route", whole_channel=outgoing.message.urgent)


def test_what_did_not_reach_people_is_listed(place: Place) -> None:
    """Each message with how far it is on each channel."""
    fas_evidence("db", "upgrade")
    assert fas_evidence("notify", "list").out == "No message was written yet.\n"
    now = datetime.now(UTC).replace(microsecond=0)
    engine = open_database(f"sqlite:///{place.database}", create=False)
    with writing(engine) as connection:
        put(connection, MESSAGE, now)
    Courier(engine, (_Down(),), lambda: now + timedelta(seconds=1)).deliver_due()
    engine.dispose()
    ran = fas_evidence("notify", "list")
    assert (ran.code, ran.err) == (0, "")
    assert "mail waits (no route)" in ran.out
    assert MESSAGE.title in ran.out
    (listed,) = fas_evidence("notify", "list", "-o", "json").json
    assert (listed["kind"], listed["title"]) == ("approval_needed", MESSAGE.title)
    assert fas_evidence("notify", "list", "--limit", "0").code == 2
    assert len(fas_evidence("notify", "list", "--limit", "1", "-o", "json").json) == 1
    (delivery,) = listed["deliveries"]
    assert (delivery["state"], delivery["attempts"], delivery["problem"]) == ("queued", 1, "no route")
    assert delivery["next_attempt_at"] is not None


def test_a_message_is_shown_whole_by_its_id(place: Place) -> None:
    """All of it, as mail has it; the beginning of the id is enough where it is one message's."""
    fas_evidence("db", "upgrade")
    now = datetime.now(UTC)
    engine = open_database(f"sqlite:///{place.database}", create=False)
    with writing(engine) as connection:
        for number in range(20):
            put(connection, replace(MESSAGE, fact=str(number), paragraphs=("x" * 9000, f"end {number}")), now)
    engine.dispose()
    listed = fas_evidence("notify", "list", "-o", "json").json[0]
    short = listed["id"][:8]
    assert short in fas_evidence("notify", "list").out
    ran = fas_evidence("notify", "show", short)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"URGENT: {MESSAGE.title}\n\n{'x' * 9000}\n\nend 19\n\nWhat to do:\n1. Open the console.")
    assert listed["id"] in ran.out
    ran = fas_evidence("notify", "show", "absent")
    assert (ran.code, ran.complaint) == (
        1,
        "there is no message 'absent'; `fas-evidence notify list` lists them",
    )
    ran = fas_evidence("notify", "show", "")
    assert (ran.code, ran.complaint) == (2, "more than one message begins with ''; give more of its id")
