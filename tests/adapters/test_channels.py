"""Each channel against a real server: what arrives, what is refused, and that hostile text stays text."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from pathlib import Path
from typing import Any, cast

import pytest
from lxml import html

from evidence_service.adapters.channels import find_channels, open_channels, send_test
from evidence_service.adapters.https_client import Answer
from evidence_service.adapters.rendering import as_html, as_mail, as_text
from evidence_service.adapters.sending import NotDelivered
from evidence_service.notices.model import (
    Audience,
    Channels,
    EntraApp,
    Graph,
    Pickup,
    SmtpSecurity,
    Webhook,
    WebhookFormat,
)
from idp_certs.alarms import Severity
from tests.adapters.post import (
    APPROVERS,
    MESSAGE,
    NOW,
    OPERATORS,
    OUTGOING,
    MailServer,
    WebServer,
    mail_by,
    mail_server,
    web_server,
)

ID = f"<{OUTGOING.id}@corp.example>"
HOSTILE = "x\r\nBcc: evil@example.net\r\n\r\n<script>alert(1)</script> \u202egnp.exe [a](http://evil) <!channel> \udc80"


@pytest.fixture
def plain() -> Iterator[MailServer]:
    """A mail server without TLS."""
    with mail_server() as server:
        yield server


@pytest.fixture
def web() -> Iterator[WebServer]:
    """An HTTPS server that plays Entra ID and takes webhooks."""
    with web_server() as server:
        server.play_entra()
        server.serve("/hook", 202)
        yield server


def sent(transport: Any) -> None:  # noqa: ANN401 - any transport
    """Send the message by mail."""
    (channel,) = open_channels(Channels(mail=mail_by(transport)))
    channel.send(OUTGOING)


def refused(transport: Any) -> NotDelivered:  # noqa: ANN401 - as above
    """Why the message was not delivered by mail."""
    with pytest.raises(NotDelivered) as caught:
        sent(transport)
    assert str(caught.value).isprintable()
    return caught.value


def posted(webhook: Webhook, **changes: Any) -> None:
    """Post the message."""
    (channel,) = open_channels(Channels(webhooks=(webhook,)))
    channel.send(replace(OUTGOING, message=replace(MESSAGE, **changes)))


def not_posted(webhook: Webhook) -> NotDelivered:
    """Why the message was not posted; the URL, which is a secret, is not in it."""
    with pytest.raises(NotDelivered) as caught:
        posted(webhook)
    assert "/hook" not in str(caught.value)
    return caught.value


def part(mail: EmailMessage, kind: str) -> str:
    """The text of one alternative of a mail."""
    body = mail.get_body((kind,))
    assert body is not None
    return cast(str, cast(EmailMessage, body).get_content())


def test_a_mail_has_what_the_recipient_and_other_programs_need(plain: MailServer) -> None:
    """Plain text and HTML, the id of the outbox, urgency, and that no machine should answer."""
    sent(plain.smtp())
    (mail,) = plain.mails
    assert mail["Message-ID"] == ID
    assert mail["Date"] == "Thu, 01 Jan 2026 12:00:00 +0000"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Priority"] == "1"
    assert mail["Subject"] == f"[Urgent] {MESSAGE.title}"
    assert (mail["To"], mail["Cc"]) == (APPROVERS[0], ", ".join(OPERATORS))
    assert plain.recipients == [[*APPROVERS, *OPERATORS]]
    for text in (part(mail, "plain"), part(mail, "html")):
        for word in ("pending request 4711 of FAS1$", "Open the console.", "ca1\\Corp CA", "must not be who asked"):
            assert word in text


def test_a_mail_is_the_same_for_the_same_id() -> None:
    """Promise 59: sent again it is byte for byte what it was."""
    mail = mail_by(Pickup(directory="unused"))
    assert as_mail(OUTGOING, mail).as_bytes() == as_mail(OUTGOING, mail).as_bytes()


def test_operators_get_what_is_theirs_and_nobody_else_does(plain: MailServer) -> None:
    """What is not for approvers does not reach them; nor does an ordinary message claim to be urgent."""
    (channel,) = open_channels(Channels(mail=mail_by(plain.smtp())))
    channel.send(replace(OUTGOING, message=replace(MESSAGE, audience=Audience.OPERATORS, severity=Severity.WARNING)))
    assert plain.recipients == [list(OPERATORS)]
    assert plain.mails[0]["X-Priority"] is None


def test_hostile_text_stays_text_in_a_mail(plain: MailServer) -> None:
    """Nothing adds a header, a recipient or markup, and what would not print is shown as an escape."""
    message = replace(MESSAGE, title=HOSTILE, paragraphs=(HOSTILE,), facts=((HOSTILE, HOSTILE),), todo=(HOSTILE,))
    (channel,) = open_channels(Channels(mail=mail_by(plain.smtp())))
    channel.send(replace(OUTGOING, message=message))
    (mail,) = plain.mails
    assert mail["Bcc"] is None
    assert plain.recipients == [[*APPROVERS, *OPERATORS]]
    assert "\\r\\nBcc: evil@example.net" in mail["Subject"]
    plain_text, page = part(mail, "plain"), html.document_fromstring(part(mail, "html"))
    assert page.xpath("//script | //a | //@onclick") == []
    for text in (mail["Subject"], plain_text, page.text_content()):
        assert "\\u202e" in text
        assert "\u202e" not in text
    assert "<script>alert(1)</script>" in page.text_content()


def test_a_title_beyond_ascii_and_a_long_one_arrive_as_they_are(plain: MailServer) -> None:
    """Headers are encoded, and cut where they are too long; no line of the mail is longer than mail may have."""
    (channel,) = open_channels(Channels(mail=mail_by(plain.smtp())))
    for title in ("FAS für Zürich läuft ab: " + "ä" * 90, "x" * 5000):
        channel.send(replace(OUTGOING, message=replace(MESSAGE, title=title)))
    first, second = plain.mails
    assert first["Subject"] == "[Urgent] FAS für Zürich läuft ab: " + "ä" * 90
    assert second["Subject"] == f"[Urgent] {'x' * 199}\u2026"
    assert max(len(line) for content in plain.contents for line in content.split(b"\r\n")) <= 998


def test_html_loads_nothing() -> None:
    """No image, style sheet, script or link: a mail program shows it whole, and nobody learns that it was read."""
    page = html.document_fromstring(as_html(OUTGOING))
    assert page.xpath("//img | //link | //script | //style | //@src | //@href | //@background") == []


def test_plain_text_reads_as_plain_text() -> None:
    """Without HTML nothing is missing, and nothing is escaped."""
    text = as_text(replace(OUTGOING, message=replace(MESSAGE, paragraphs=('A "b" & <c>',))))
    assert text.startswith(f'URGENT: {MESSAGE.title}\n\nA "b" & <c>\n\nWhat to do:\n1. Open the console.\n2. ')


@pytest.mark.parametrize("security", [SmtpSecurity.STARTTLS, SmtpSecurity.TLS])
def test_tls_to_a_mail_server_is_verified(security: SmtpSecurity) -> None:
    """Its certificate must be by the authority that is named, and for the host that is named."""
    with mail_server(security=security) as server:
        sent(server.smtp(security=security, ca_file=server.ca_file))
        assert len(server.mails) == 1
        problem = refused(server.smtp(security=security))
        assert "its certificate does not verify" in str(problem)
        assert (problem.permanent, problem.whole_channel) == (False, True)
    with mail_server(security=security, name="other.example") as server:
        assert "certificate does not verify" in str(refused(server.smtp(security=security, ca_file=server.ca_file)))
        assert server.mails == []


def test_a_server_without_starttls_gets_neither_password_nor_mail(plain: MailServer) -> None:
    """A connection that somebody downgrades is not used."""
    problem = refused(plain.smtp(security=SmtpSecurity.STARTTLS, username="u", password="secret"))
    assert "STARTTLS" in str(problem)
    assert (plain.mails, plain.logins) == ([], [])


def test_a_password_proves_who_sends() -> None:
    """The right one is taken; a wrong one is tried again later, since a person can correct it."""
    with mail_server(security=SmtpSecurity.STARTTLS) as server:
        server.accepted = ("PASSWORD", ("fas", "right"))
        given: dict[str, Any] = {"security": SmtpSecurity.STARTTLS, "ca_file": server.ca_file, "username": "fas"}
        problem = refused(server.smtp(password="wrong", **given))
        assert "does not take the account (535" in str(problem)
        assert (problem.permanent, problem.whole_channel) == (False, True)
        assert "wrong" not in str(problem)
        sent(server.smtp(password="right", **given))
        assert len(server.mails) == 1


@pytest.mark.parametrize(
    ("where", "answer", "permanent"),
    [
        ("DATA", "451 try later", False),
        ("DATA", "554 looks like spam", True),
        ("all", "450 greylisted", False),
        ("all", "550 no such user", True),
    ],
)
def test_a_mail_server_says_whether_to_try_again(
    plain: MailServer, where: str, answer: str, *, permanent: bool
) -> None:
    """Promise 59: 4xx is for now, 5xx is for good, and its words are kept."""
    plain.refuse = {"DATA": answer} if where == "DATA" else dict.fromkeys((*APPROVERS, *OPERATORS), answer)
    problem = refused(plain.smtp())
    assert answer in str(problem)
    assert (problem.permanent, problem.whole_channel) == (permanent, False)


def test_a_mail_that_only_some_got_is_known_and_not_sent_to_them_again(plain: MailServer) -> None:
    """Promise 59: who did not get it is named; the others would otherwise get it for days."""
    plain.refuse = {OPERATORS[1]: "550 no such user"}
    problem = refused(plain.smtp())
    assert (problem.permanent, problem.content) == (True, False)
    assert f"{OPERATORS[1]}: 550 no such user" in str(problem)
    assert plain.recipients == [[*APPROVERS, OPERATORS[0]]]


def test_an_approver_whose_server_greylists_gets_the_mail_later_and_nobody_gets_it_twice(plain: MailServer) -> None:
    """Promise 59: refused for now is not refused, for one recipient as for all; who is refused for good is named."""
    plain.refuse = {APPROVERS[0]: "450 greylisted", OPERATORS[1]: "550 no such user"}
    (channel,) = open_channels(Channels(mail=mail_by(plain.smtp())))
    with pytest.raises(NotDelivered) as first:
        channel.send(OUTGOING)
    del plain.refuse[APPROVERS[0]]
    with pytest.raises(NotDelivered) as second:
        channel.send(OUTGOING)
    assert (first.value.permanent, second.value.permanent) == (False, True)
    assert f"{OPERATORS[1]}: 550 no such user" in str(second.value)
    assert plain.recipients == [[OPERATORS[0]], [APPROVERS[0]]]
    assert {mail["To"] for mail in plain.mails} == {APPROVERS[0]}


@pytest.mark.parametrize("answer", ["421 shutting down", "500 what?"])
def test_a_mail_that_was_taken_is_delivered_however_the_server_says_goodbye(plain: MailServer, answer: str) -> None:
    """It would otherwise be sent again and again, for 14 days."""
    plain.refuse = {"QUIT": answer}
    sent(plain.smtp())
    assert len(plain.mails) == 1


def test_a_server_that_cuts_before_it_answers_may_have_the_mail(plain: MailServer) -> None:
    """Promise 59: nobody knows, so the same mail is sent again."""
    plain.cuts = True
    problem = refused(plain.smtp())
    assert (problem.permanent, problem.whole_channel) == (False, True)
    plain.cuts = False
    sent(plain.smtp())
    first, second = plain.contents
    assert first == second


@pytest.mark.parametrize(
    ("answer", "permanent"),
    [("530 5.7.57 not authenticated", False), ("553 sender refused", False), ("552 too large", True)],
)
def test_a_sender_that_is_refused_loses_no_message(plain: MailServer, answer: str, *, permanent: bool) -> None:
    """The account and `from` are corrected without the message; one that is too large stays so."""
    plain.refuse = {"MAIL": answer}
    problem = refused(plain.smtp())
    assert answer in str(problem)
    assert ("`from`" in str(problem)) is not permanent
    assert (problem.permanent, problem.whole_channel) == (permanent, not permanent)


def test_a_mail_server_that_is_gone_is_tried_again() -> None:
    """No connection says nothing about the message."""
    with mail_server() as server:
        smtp = server.smtp()
    problem = refused(smtp)
    assert (problem.permanent, problem.whole_channel) == (False, True)
    assert f"the mail server localhost:{smtp.port} cannot be used: " in str(problem)


def entra(web: WebServer, secret: str = "s3cret") -> EntraApp:
    """The application of the test tenant."""
    return EntraApp(tenant="tenant", client_id="app", client_secret=secret, authority=web.url)


@pytest.mark.parametrize("security", [SmtpSecurity.STARTTLS, SmtpSecurity.TLS])
def test_xoauth2_proves_who_sends(web: WebServer, monkeypatch: pytest.MonkeyPatch, security: SmtpSecurity) -> None:
    """The token is asked for the right scope, and is given in the form of Exchange Online; a refused one is told."""
    monkeypatch.setenv("SSL_CERT_FILE", web.ca_file)  # the system's authorities, as far as Entra ID is concerned
    with mail_server(security=security) as server:
        smtp = server.smtp(security=security, ca_file=server.ca_file, username="fas@corp.example", xoauth2=entra(web))
        given = "user=fas@corp.example\1auth=Bearer t0ken\1\1"
        assert "does not take the account" in str(refused(smtp))
        server.accepted = ("XOAUTH2", given)
        sent(smtp)
        assert len(server.mails) == 1
        assert set(server.logins) == {("XOAUTH2", given)}
    form = web.to("/tenant/oauth2/v2.0/token")[0].body.decode()
    assert "scope=https%3A%2F%2Foutlook.office365.com%2F.default" in form
    assert "grant_type=client_credentials" in form


def test_graph_sends_the_same_mail(web: WebServer) -> None:
    """The whole MIME message goes to sendMail of the sender's mailbox, with a token for Graph that is kept."""
    web.serve("/v1.0/users/fas@corp.example/sendMail", 202)
    graph = Graph(app=entra(web), endpoint=web.url, ca_file=web.ca_file)
    (channel,) = open_channels(Channels(mail=mail_by(graph)))
    channel.send(OUTGOING)
    channel.send(OUTGOING)
    first, second = web.to("/v1.0/users/fas@corp.example/sendMail")
    assert first.headers["authorization"] == "Bearer t0ken"
    assert first.body == second.body
    mail = message_from_bytes(base64.b64decode(first.body), policy=SMTP_POLICY)
    assert (mail["Message-ID"], mail["To"]) == (ID, APPROVERS[0])
    assert len(web.to("/tenant/oauth2/v2.0/token")) == 1


@pytest.mark.parametrize(
    ("status", "permanent", "whole", "says"),
    [
        (400, True, False, "ErrorX"),
        (401, False, True, "the token is not taken"),
        (403, False, True, "grant Mail.Send"),
        (429, False, True, "429"),
        (503, False, False, "503"),
    ],
)
def test_graph_says_whether_to_try_again(
    web: WebServer, status: int, says: str, *, permanent: bool, whole: bool
) -> None:
    """Promise 59: what a person can correct is tried again, what is wrong with the message is not."""
    web.serve("/v1.0/users/fas@corp.example/sendMail", status, {"error": {"code": "ErrorX"}}, Retry_After="90")
    problem = refused(Graph(app=entra(web), endpoint=web.url, ca_file=web.ca_file))
    assert says in str(problem)
    assert (problem.permanent, problem.whole_channel) == (permanent, whole)
    assert problem.retry_after == (timedelta(seconds=90) if status in {429, 503} else None)


def test_entra_says_why_there_is_no_token(web: WebServer) -> None:
    """A wrong secret is told in Entra's words, without the secret; nothing is sent."""
    error = {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret. Trace ID: 1"}
    web.serve("/tenant/oauth2/v2.0/token", 401, error)
    problem = refused(Graph(app=entra(web), endpoint=web.url, ca_file=web.ca_file))
    assert "AADSTS7000215: Invalid client secret." in str(problem)
    assert "s3cret" not in str(problem)
    assert problem.whole_channel
    assert [each.path for each in web.asked if "sendMail" in each.path] == []


def test_entra_is_asked_over_verified_tls_alone(web: WebServer) -> None:
    """A secret is not given to a server that cannot prove who it is, nor to a tenant that is not there."""
    problem = refused(Graph(app=entra(web), endpoint=web.url))
    assert "certificate does not verify" in str(problem)
    assert web.asked == []
    absent = replace(entra(web), tenant="absent")
    assert "check `tenant`" in str(refused(Graph(app=absent, endpoint=web.url, ca_file=web.ca_file)))


def test_a_pickup_directory_gets_whole_files(tmp_path: Path) -> None:
    """One .eml by the id, and nothing half; sent again it is the same file."""
    sent(Pickup(directory=str(tmp_path)))
    sent(Pickup(directory=str(tmp_path)))
    (file,) = tmp_path.iterdir()
    assert file.name == f"{OUTGOING.id}.eml"
    assert message_from_bytes(file.read_bytes())["Message-ID"] == ID
    assert "cannot be written" in str(refused(Pickup(directory=str(tmp_path / "absent"))))


def test_json_has_the_whole_message(web: WebServer) -> None:
    """For programs: id and kind are stable, texts are as they are."""
    posted(Webhook(name="siem", url=f"{web.url}/hook", ca_file=web.ca_file), title=HOSTILE)
    (asked,) = web.to("/hook")
    assert asked.headers["idempotency-key"] == OUTGOING.id
    found = asked.json
    assert (found["id"], found["kind"], found["urgent"]) == (OUTGOING.id, "approval_needed", True)
    assert found["title"] == HOSTILE
    assert {"name": "Pending request", "value": "4711"} in found["facts"]


def test_teams_gets_a_card_in_which_nothing_is_markdown(web: WebServer) -> None:
    """An Adaptive Card as a workflow takes it; every text is a run, in which a link is only text."""
    hook = Webhook(name="teams", url=f"{web.url}/hook", format=WebhookFormat.TEAMS, ca_file=web.ca_file)
    posted(hook, paragraphs=(HOSTILE,))
    (attachment,) = web.to("/hook")[0].json["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert card["type"] == "AdaptiveCard"
    assert {block["type"] for block in card["body"]} == {"RichTextBlock"}
    runs = [run for block in card["body"] for run in block["inlines"]]
    assert {run["type"] for run in runs} == {"TextRun"}
    assert any("[a](http://evil)" in run["text"] and "\\u202e" in run["text"] for run in runs)


def test_slack_gets_plain_text(web: WebServer) -> None:
    """Blocks of plain text; in the notification, which is markup, nothing calls the whole channel."""
    hook = Webhook(name="slack", url=f"{web.url}/hook", format=WebhookFormat.SLACK, ca_file=web.ca_file)
    facts = tuple((f"name {number}", "v" * 100) for number in range(23))
    posted(hook, title=HOSTILE, paragraphs=("p" * 3000, ""), facts=facts)
    found = web.to("/hook")[0].json
    assert "<!channel>" not in found["text"]
    assert "&lt;!channel&gt;" in found["text"]
    texts = [block["text"] for block in found["blocks"] if "text" in block]
    fields = [block["fields"] for block in found["blocks"] if "fields" in block]
    assert {each["type"] for each in (*texts, *(each for some in fields for each in some))} == {"plain_text"}
    assert len(texts[0]["text"]) <= 150
    assert [len(each["text"]) for each in texts[1:]] == [3000, 41]
    assert [len(each) for each in fields] == [10, 10, 3]


LONG: dict[str, dict[str, Any]] = {
    "one long paragraph": {"paragraphs": ("p" * 300_000,)},
    "many paragraphs": {"paragraphs": tuple(f"paragraph {number} " + "p" * 900 for number in range(400))},
    "many facts": {"facts": tuple((f"name {number}", "v" * 3000) for number in range(100))},
    "what does not print": {"paragraphs": ("\U000e0001" * 30_000,)},
    "much to do": {"todo": tuple(f"step {number} " + "s" * 900 for number in range(400))},
}


@pytest.mark.parametrize("what", LONG)
@pytest.mark.parametrize(("form", "most"), [("teams", 14_000), ("slack", 12_000), ("json", 256_000), ("mail", 100_000)])
def test_a_message_is_no_longer_than_its_receiver_takes(web: WebServer, what: str, form: str, most: int) -> None:
    """What is cut is said, with the command that shows all; the first words, and what to do first, are there."""
    message = replace(MESSAGE, **LONG[what])
    if form == "mail":
        mail = as_mail(replace(OUTGOING, message=message), mail_by(Pickup(directory="unused")))
        content, text = part(mail, "html"), part(mail, "plain")
        assert "notify show" in content
    else:
        hook = Webhook(name="w", url=f"{web.url}/hook", format=WebhookFormat(form), ca_file=web.ca_file)
        posted(hook, **LONG[what])
        content = text = web.to("/hook")[0].body.decode()
    assert len(content.encode()) <= most
    assert f"`fas-evidence notify show {OUTGOING.id}` shows all of it." in text
    assert ("step 0" if "todo" in LONG[what] else "Open the console.") in text
    if form == "slack":
        blocks = web.to("/hook")[0].json["blocks"]
        assert len(blocks) <= 50
        assert max(len(block["text"]["text"]) for block in blocks if "text" in block) <= 3000
        assert max(len(each["text"]) for block in blocks for each in block.get("fields", [{"text": ""}])) <= 2000


def test_a_message_that_fits_is_not_cut(web: WebServer) -> None:
    """Nobody reads of a cut where there is none."""
    posted(Webhook(name="w", url=f"{web.url}/hook", format=WebhookFormat.TEAMS, ca_file=web.ca_file))
    assert "is cut" not in web.to("/hook")[0].body.decode()


@pytest.mark.parametrize(
    ("status", "permanent", "patience"),
    [
        (301, False, False),
        (400, True, False),
        (403, False, False),
        (404, False, False),
        (410, False, False),
        (413, True, False),
        (408, False, True),
        (429, False, True),
        (500, False, True),
    ],
)
def test_a_webhook_says_whether_to_try_again(web: WebServer, status: int, *, permanent: bool, patience: bool) -> None:
    """Promise 59: 429 and 5xx are for now, and their Retry-After is kept; redirects are not followed.

    An address that was taken away loses no message: somebody makes another one.
    """
    web.serve("/hook", status, Retry_After="120", Location=f"{web.url}/other")
    problem = not_posted(Webhook(name="w", url=f"{web.url}/hook", ca_file=web.ca_file))
    assert (problem.permanent, problem.whole_channel) == (permanent, not permanent)
    assert problem.retry_after == (timedelta(minutes=2) if patience else None)
    assert ("look at that server where it stays so" in str(problem)) is patience
    assert web.to("/other") == []


@pytest.mark.parametrize(
    ("asked", "minutes"),
    [
        ("315360000", 60),
        ("9" * 5000, 60),
        ("Thu, 01 Jan 2026 12:05:00 GMT", 5),
        ("Thu, 01 Jan 2036 12:00:00 GMT", 60),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ],
)
def test_a_server_gets_the_patience_that_it_asks_for_and_an_hour_at_most(asked: str, minutes: int) -> None:
    """In seconds, or until a date by the server's own clock; ten years, or thousands of digits, are an hour."""
    headers = {"retry-after": asked, "date": "Thu, 01 Jan 2026 12:00:00 GMT"}
    assert Answer(status=429, headers=headers, body=b"").retry_after() == timedelta(minutes=minutes)


def test_webhooks_are_https_alone() -> None:
    """Plain HTTP is for this machine, where it is allowed; certificates are verified; no user information."""
    with web_server(tls=False) as http:
        http.serve("/hook", 200)
        plain = Webhook(name="w", url=f"{http.url}/hook")
        assert "is not https" in str(not_posted(plain))
        elsewhere = replace(plain, url="http://192.0.2.1/hook", allow_http=True)
        assert "is not https" in str(not_posted(elsewhere))
        assert http.asked == []
        posted(replace(plain, allow_http=True))
        assert len(http.asked) == 1
    with web_server(name="other.example") as other:
        problem = not_posted(Webhook(name="w", url=f"{other.url}/hook", ca_file=other.ca_file))
        assert "certificate does not verify" in str(problem)
    assert not_posted(Webhook(name="w", url="https://user:pw@localhost/hook")).permanent


def test_some_webhooks_take_only_what_is_urgent() -> None:
    """The rest goes by the other channels."""
    (channel,) = open_channels(Channels(webhooks=(Webhook(name="w", url="https://x", urgent_only=True),)))
    assert channel.takes(MESSAGE)
    assert not channel.takes(replace(MESSAGE, urgent=False))


def test_each_channel_can_be_tried(web: WebServer, plain: MailServer) -> None:
    """A test goes out at once by each channel, or by the one that is named, and says what came of it."""
    good = Webhook(name="good", url=f"{web.url}/hook", ca_file=web.ca_file)
    bad = Webhook(name="bad", url=f"{web.url}/absent", ca_file=web.ca_file)
    channels = Channels(mail=mail_by(plain.smtp()), webhooks=(good, bad))
    mail, first, second = send_test(open_channels(channels), NOW, audience=Audience.APPROVERS)
    assert (mail.channel, mail.problem) == ("mail", None)
    assert (first.channel, first.problem) == ("webhook:good", None)
    assert second.problem is not None
    assert "404" in second.problem
    assert plain.mails[0]["To"] == APPROVERS[0]
    assert [each.name for each in find_channels(channels, "good")] == ["webhook:good"]
    assert [each.name for each in find_channels(channels, "webhook:bad")] == ["webhook:bad"]
    assert find_channels(channels, "absent") == ()
