"""What the file of renewals may say, and which line tells what is wrong with it."""

from __future__ import annotations

import os
from dataclasses import fields
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel

from evidence_service.demo.idp import new_key, self_signed
from evidence_service.notices.model import Channels, Graph, Mail, Pickup, Smtp, Webhook, WebhookFormat
from evidence_service.renewal.farm import Farm, Local, WinRm, WinRmAuth
from evidence_service.renewal.model import Deadline, Maintenance, RenewalPolicy, Window
from evidence_service.renewal_settings import (
    NO_RENEWAL,
    RenewalSettings,
    load_renewal,
    renewal_of,
    renewal_warnings,
)
from evidence_service.renewal_settings.tables import (
    GraphTable,
    MailTable,
    PickupTable,
    RenewalTable,
    RevocationListTable,
    ServerTable,
    SmtpTable,
    WebhookTable,
)
from evidence_service.settings import SettingsError, load_settings

SERVER = '[[fas_servers]]\nname = "fas1.corp.example"\nconnection = "winrm"\n'
ACCOUNT = 'username = "CORP\\\\svc-fas"\npassword_file = "winrm-password"\n'
MAIL = (
    '[mail]\nfrom = "fas@corp.example"\napprovers = ["ca@corp.example"]\noperators = ["ops@corp.example"]\n'
    '[mail.smtp]\nhost = "mail.corp.example"\n'
)
PAGE = "docs/renewal-settings.md"


class Place:
    """A directory with a file of renewals and one of secrets."""

    def __init__(self, directory: Path) -> None:
        """Have a secret of each kind ready."""
        self.directory = directory
        self.secrets = directory / "secrets"
        self.secrets.mkdir()
        for name, text in (
            ("winrm-password", "pass word\n"),
            ("client-secret", "app-secret"),
            ("teams-url", "https://teams.example/hook/abc\n"),
        ):
            self.secret(name, text)

    def secret(self, name: str, text: str, mode: int = 0o600) -> None:
        """A file in the directory of secrets."""
        path = self.secrets / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)

    def load(self, text: str) -> RenewalSettings:
        """What the file says."""
        path = self.directory / "renewal.toml"
        path.write_text(text, encoding="utf-8")
        return load_renewal(path, self.secrets)

    def refused(self, text: str) -> str:
        """The line that tells what is wrong, after the file's name."""
        with pytest.raises(SettingsError) as caught:
            self.load(text)
        said = str(caught.value)
        assert said.isprintable()
        assert "pass word" not in said
        return said.removeprefix(f"{self.directory / 'renewal.toml'}: ")

    def policy(self, text: str) -> RenewalPolicy:
        """The policy of one server with these members."""
        return self.load(f"{SERVER}[fas_servers.renewal]\n{text}").farm.servers[0].policy


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty place."""
    return Place(tmp_path)


def test_without_a_file_nothing_is_renewed(tmp_path: Path) -> None:
    """A service that renews nothing needs no file."""
    nothing = load_renewal(tmp_path / "renewal.toml", tmp_path)

    assert nothing == RenewalSettings(farm=Farm(), channels=Channels())


def test_a_file_that_is_named_must_exist(tmp_path: Path) -> None:
    """A typing error in the name must not end all renewals without a word."""
    with pytest.raises(SettingsError, match=r"renewal_file: .*renewals\.toml does not exist"):
        renewal_of(load_settings(data_dir=tmp_path, renewal_file=tmp_path / "renewals.toml"))

    assert renewal_of(load_settings(data_dir=tmp_path)) == NO_RENEWAL
    with pytest.raises(SettingsError, match=r"renewal_file: .* cannot be read: .*; correct the name, or make"):
        renewal_of(load_settings(data_dir=tmp_path, renewal_file=tmp_path / ("r" * 300)))


def test_an_empty_file_says_the_same(place: Place) -> None:
    """All tables are optional."""
    assert place.load("") == RenewalSettings(farm=Farm(), channels=Channels())


def test_a_server_has_the_defaults_of_the_policy(place: Place) -> None:
    """Members that are left out keep what the policy itself says, so that there is one place for defaults."""
    (server,) = place.load(SERVER).farm.servers

    assert server.policy == RenewalPolicy()
    assert server.connection == WinRm(host="fas1.corp.example")
    assert (server.address, server.read_events) == (None, True)


def test_a_server_overrides_what_is_set_for_all(place: Place) -> None:
    """What stands at the server wins, member by member, and what is set for all wins over the defaults."""
    first, second = place.load(
        f'[renewal]\nlead = "33%"\nsoak = "1d"\n{SERVER}[fas_servers.renewal]\nlead = "45d"\n'
        f'[[fas_servers]]\nname = "fas2.corp.example"\nconnection = "local"\n'
    ).farm.servers

    assert (first.policy.lead_days, first.policy.lead_share, first.policy.soak) == (45, None, timedelta(days=1))
    assert (second.policy.lead_share, second.policy.soak) == (0.33, timedelta(days=1))
    assert second.connection == Local()


def test_every_member_of_the_policy_can_be_set(place: Place) -> None:
    """Nothing in the policy is out of an administrator's reach."""
    policy = place.policy(
        'lead = "50d"\nlifetime = "365d"\napproval_time = "10d"\napproval_deadline = "20d"\non_deadline = "withdraw"\n'
        'jitter = "1h"\nsoak = "12h"\nmaintenance = "skip"\nwindows = ["sat 22:00 6h"]\n'
        'certificate_authority = "ca1.corp.example\\\\Corp CA"\ncertificate_template = "RA"\n'
        'authorization_template = "RA_Manual"\noffline = true\ntest_upn = "t@corp.example"\ntest_rule = "test"\n'
        'test_definition = "test_def"\nleast_key_length = 4096\nleast_lifetime = "90d"\nretry_denied = "48h"\n'
        'maximum_denials = 3\nanswer_grace = "5m"\npoll = "1m"\ncheck = "2h"\n'
    )
    default = RenewalPolicy()

    assert [each.name for each in fields(policy) if getattr(policy, each.name) == getattr(default, each.name)] == [
        "lead_share"
    ]
    assert (policy.on_deadline, policy.maintenance) == (Deadline.WITHDRAW, Maintenance.SKIP)
    assert policy.certificate_authority == "ca1.corp.example\\Corp CA"


@pytest.mark.parametrize(
    ("text", "weekdays", "zone"),
    [
        ("sat 22:00 6h", {5}, "UTC"),
        ("SAT,sun 22:00 6h Europe/Berlin", {5, 6}, "Europe/Berlin"),
        ("mon-fri 22:00 6h", {0, 1, 2, 3, 4}, "UTC"),
        ("fri-mon 22:00 6h", {4, 5, 6, 0}, "UTC"),
        ("daily 22:00 6h", {0, 1, 2, 3, 4, 5, 6}, "UTC"),
    ],
)
def test_windows_name_days_start_length_and_zone(place: Place, text: str, weekdays: set[int], zone: str) -> None:
    """A window is written as a person says it."""
    window = Window(weekdays=frozenset(weekdays), start=time(22, 0), length=timedelta(hours=6), zone=zone)

    assert place.policy(f'windows = ["{text}"]').windows == (window,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sat 22:00", "expected days, start, length"),
        ("sat 24:00 6h", "expected days, start, length"),
        ("sut 22:00 6h", "'sut': expected days such as sat"),
        ("sat 22:00 25h", "a window is at most 24h long"),
        ("sat 22:00 0h", "must be more than 0"),
        ("sat 22:00 6h Europe/Belrin", "there is no time zone 'Europe/Belrin'"),
        ("sat 22:00 6h ../../etc/passwd", "there is no time zone"),
    ],
)
def test_a_window_that_cannot_be_is_refused(place: Place, text: str, said: str) -> None:
    """A zone with a typing error must not become another hour of the night."""
    complaint = place.refused(f'{SERVER}[fas_servers.renewal]\nwindows = ["{text}"]')

    assert complaint.startswith("[[fas_servers]] fas1.corp.example, renewal.windows, entry 1: ")
    assert said in complaint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('lead = "60h"', 'renewal.lead: expected whole days such as "60d", or a share'),
        ('lead = "99%"', "renewal.lead: a share is from 1% to 90%"),
        ("lead = 60", 'renewal.lead: expected whole days such as "60d"'),
        ('soak = "x"', "renewal.soak: expected a duration"),
        ('poll = "0s"', "renewal.poll: must be more than 0"),
        ('on_deadline = "forget"', 'renewal.on_deadline: expected "keep" or "withdraw"'),
        ('certificate_authority = "ca1"', "renewal.certificate_authority: expected host and name of a CA"),
        ('test_upn = "nobody"', "renewal.test_upn: expected a UPN"),
        ('approval_deadline = "1d"', "renewal.approval_deadline: is shorter than approval_time"),
        ('test_definition = "x"', "renewal.test_definition: needs test_rule and test_upn"),
        ('test_rule = "x"', "renewal.test_rule: needs test_definition"),
        ('check = "2d"', "renewal.check: at most 1d"),
        ('lead = "10d"\napproval_time = "3d"\nlifetime = "30d"', "renewal.least_lifetime: is longer than certificates"),
        ("maximum_denials = 0", "renewal.maximum_denials: must be at least 1"),
        ("maximum_denials = 101", "renewal.maximum_denials: must be at most 100"),
        ('maximum_denials = "2"', "renewal.maximum_denials: expected a whole number"),
        ("offline = 1", "renewal.offline: expected true or false"),
        ("windows = 1", 'renewal.windows: expected a list, such as ["one", "two"]'),
        ('sok = "1d"', "renewal.sok: there is no such member; do you mean soak? docs/renewal-settings.md lists all"),
    ],
)
def test_an_unusable_member_of_a_policy_is_named(place: Place, text: str, said: str) -> None:
    """One line that names file, server and member."""
    complaint = place.refused(f"{SERVER}[fas_servers.renewal]\n{text}")

    assert complaint.startswith("[[fas_servers]] fas1.corp.example, ")
    assert said in complaint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[fas_servers]]\nconnection = "local"', "[[fas_servers]] number 1, name: is missing"),
        (
            '[[fas_servers]]\nname = "a b"\nconnection = "local"',
            "[[fas_servers]] a b, name: expected a name of letters",
        ),
        ('[[fas_servers]]\nname = ""\nconnection = "local"', "[[fas_servers]] number 1, name: expected a name"),
        (SERVER + 'username = "CORP\\backup"', "write what has a backslash in single quotes, such as 'CORP\\svc-fas'"),
        (SERVER + SERVER.replace("fas1", "FAS1"), "[[fas_servers]] name: FAS1.corp.example stands twice"),
        (SERVER.replace("winrm", "ssh"), 'connection: expected "winrm" or "local"'),
        (SERVER.replace("winrm", "local") + "port = 1", 'port: is only for connection = "winrm"'),
        (SERVER + 'program = "pwsh"', 'program: is only for connection = "local"'),
        (SERVER + 'password = "secret"', "password: there is no such member; do you mean password_file?"),
        (SERVER.replace('connection = "winrm"', ""), 'connection: is missing; give "winrm" or "local"'),
        (SERVER + "ca_file = 1", "ca_file: expected the name of a file, as text"),
        (SERVER + "port = 0", "port: must be at least 1"),
        ("renewal = 1", "[renewal]: expected a table"),
        (SERVER + 'username = "svc"', "password_file: is missing; only"),
        (SERVER + 'password_file = "winrm-password"', "username: is missing beside password_file"),
        (SERVER + 'auth = "basic"', "username and password_file: are needed"),
        (SERVER + 'auth = "certificate"', "client_certificate and client_key: give both"),
        (SERVER + 'username = "s"\npassword_file = "none"', "password_file: "),
        (SERVER + 'username = "s"\npassword_file = "../x"', "password_file: ../x leads out of"),
        (SERVER + 'ca_file = "missing.pem"', "ca_file: "),
        (SERVER + 'username = "s"\npassword_file = "a\\u0000b"', "password_file: expected a text of 1 to 1024"),
        (SERVER + 'ca_file = ""', "ca_file: expected a text of 1 to 1024 characters"),
        (SERVER + 'ca_file = "a\\u202eb"', "ca_file: expected a text of 1 to 1024 characters"),
        (SERVER + 'host = "a b"', "host: expected the name or address of a host"),
        (SERVER + 'address = "../x"', "address: expected the name or address of a host"),
        (SERVER.replace("fas1", "f" * 300), f"[[fas_servers]] {'f' * 100}, name: expected a name"),
        (SERVER.replace("[[", "[").replace("]]", "]"), "[fas_servers]: expected a list; write [[fas_servers]] above"),
        (MAIL.replace("fas@corp.example", ""), "[mail] from: expected one mail address"),
        (MAIL.replace("ca@corp.example", ""), "[mail] approvers, entry 1: expected one mail address"),
        (MAIL.replace("mail.corp.example", "a/b"), "[mail] smtp.host: expected the name or address of a host"),
        (
            MAIL.partition("[mail.smtp]")[0] + f'[mail.pickup]\ndirectory = "{"d" * 300}"',
            "is no directory; make it, or name another",
        ),
        ("[renewall]", "[renewall]: there is no such member; do you mean renewal?"),
        (MAIL.replace("[mail.smtp]", "[mail.imap]"), "[mail] imap: there is no such member; docs/renewal-settings.md"),
        (MAIL.replace("from =", "form ="), "[mail] from: is missing; give it"),
        (MAIL.partition("[mail.smtp]")[0], "[mail]: smtp, graph, pickup: give one of the tables"),
        (MAIL.replace('"ca@corp.example"', ""), "[mail] approvers: needs at least 1"),
        (MAIL.replace("ca@corp", "ca@@corp"), "[mail] approvers, entry 1: expected one mail address"),
        (MAIL.replace("fas@corp", "fas@c\u00f6rp"), "[mail] from: expected one mail address"),
        (MAIL.replace("ops@corp", "ops:ca@corp"), "[mail] operators, entry 1: expected one mail address"),
        (MAIL.replace("ops@corp.example", "ops@corp..example"), "[mail] operators, entry 1: expected one mail address"),
        (MAIL + 'security = "none"\nusername = "u"\npassword_file = "winrm-password"', "would send the credential"),
        (MAIL + 'username = "u"', "[mail] smtp: username: goes with password_file"),
        (MAIL + '[mail.pickup]\ndirectory = "d"', "[mail]: smtp, graph, pickup: give only one of the tables"),
        ('[[webhooks]]\nname = "ops"', "[[webhooks]] ops: url_file: give a file"),
        ('[[webhooks]]\nname = "ops"\nurl = "https://x"\nurl_file = "x"', "ops: url, url_file: give only one of them"),
        (
            '[[webhooks]]\nname = "Mail"\nurl = "https://x"',
            "[[webhooks]] Mail, name: is the name of the channel of [mail]",
        ),
        (
            '[[webhooks]]\nname = "ops"\nurl = "https://u:p@x/"',
            "[[webhooks]] ops, url: expected an ASCII address with a host",
        ),
        (
            '[[webhooks]]\nname = "ops"\nurl = "https://x:y/"',
            "[[webhooks]] ops, url: expected an ASCII address with a host",
        ),
        ('[[webhooks]]\nname = "ops"\nurl = "http://x"', "[[webhooks]] ops, url: expected an address that begins"),
        (
            '[[webhooks]]\nname = "ops"\nurl = "https://x/\u00e4"',
            "[[webhooks]] ops, url: expected an ASCII address with a host",
        ),
        (
            '[[revocation_lists]]\ncertificate_authority = "a\\\\b"\nurl = "http://\u00e4/x"\nissuer = "x"',
            "url: expected an address that begins with http:// or https://",
        ),
        (
            '[[revocation_lists]]\ncertificate_authority = "a\\\\b"\nurl = "ldap://x"\nissuer = "x"',
            "url: expected an address that begins with http:// or https://",
        ),
    ],
)
def test_what_cannot_be_used_is_named(place: Place, text: str, said: str) -> None:
    """One line that names the table, the entry and the member, and what to do."""
    assert said in place.refused(text)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            'connection = "winrm"\nhost = "fas1"',
            'connection = "winrm"\nhost = "FAS1"',
            "b, host: leads to FAS1:5986, as",
        ),
        ('connection = "winrm"\nhost = "b"', 'connection = "winrm"', "b, host: leads to b:5986, as that of a does"),
        ('connection = "local"', 'connection = "local"', "b, host: leads to this machine, as that of a does"),
        (
            'connection = "local"\naddress = "fas1"',
            'connection = "winrm"\naddress = "FAS1"',
            "b, address: leads to FAS1, as that of a does",
        ),
        (
            'connection = "winrm"\nhost = "fas1"',
            'connection = "local"\naddress = "FAS1."',
            "b, address: leads to FAS1., as that of a does",
        ),
        (
            'connection = "local"\naddress = "fas1"',
            'connection = "winrm"\nhost = "fas1"',
            "b, host: leads to fas1:5986, as that of a does",
        ),
        (
            'connection = "local"',
            'connection = "local"\naddress = "localhost"',
            "b, address: leads to this machine, as that of a does",
        ),
    ],
)
def test_one_machine_is_one_server(place: Place, first: str, second: str, said: str) -> None:
    """Under two names it would be its own healthy neighbour (promise 61), and be asked twice."""
    text = f'[[fas_servers]]\nname = "a"\n{first}\n[[fas_servers]]\nname = "b"\n{second}\n'
    assert said in place.refused(text)


def test_a_file_that_an_editor_of_windows_saved_is_read(place: Place) -> None:
    """It begins with a byte order mark, and its lines end in CR LF."""
    assert place.load("\ufeff" + SERVER.replace("\n", "\r\n")).farm.servers[0].name == "fas1.corp.example"


def test_a_password_is_never_in_the_file_itself(place: Place) -> None:
    """It comes from a file of its own, and is not shown with the settings."""
    settings = place.load(SERVER + ACCOUNT)
    connection = settings.farm.servers[0].connection

    assert isinstance(connection, WinRm)
    assert (connection.username, connection.password) == ("CORP\\svc-fas", "pass word")
    assert "pass word" not in repr(settings)


@pytest.mark.platform
@pytest.mark.skipif(os.name != "posix", reason="who may read a file is told by its mode")
def test_a_secret_that_others_may_read_is_refused(place: Place) -> None:
    """A password that another user of the machine knows is none."""
    place.secret("winrm-password", "pass word", mode=0o640)

    assert "password_file: others may read" in place.refused(SERVER + ACCOUNT)
    assert "chmod 600" in place.refused(SERVER + ACCOUNT)


@pytest.mark.platform
@pytest.mark.skipif(os.name != "posix", reason="links need no rights there")
def test_a_secret_that_is_a_link_to_itself_is_refused(place: Place) -> None:
    """In one line, as any other that cannot be read."""
    (place.secrets / "winrm-password").unlink()
    (place.secrets / "winrm-password").symlink_to("winrm-password")

    refused = place.refused(SERVER + ACCOUNT)
    # Python finds the loop when it resolves the name, and from 3.13 on when it opens the file.
    assert "password_file: winrm-password leads out of" in refused or "Too many levels of symbolic links" in refused


@pytest.mark.parametrize("text", ["", "two\nlines", "x" * 5000])
def test_a_file_that_does_not_hold_a_secret_alone_is_refused(place: Place, text: str) -> None:
    """An empty password must not become a sign-in without one."""
    place.secret("winrm-password", text)

    assert "must hold the secret alone" in place.refused(SERVER + ACCOUNT)


@pytest.mark.parametrize(
    ("approver", "who"),
    [
        ("FAS@corp.example", "the sender of this service's mail"),
        ("svc-fas@corp.example", "the account that requests on fas1.corp.example"),
    ],
)
def test_the_approver_is_not_the_requester(place: Place, approver: str, who: str) -> None:
    """Who approves is a person other than what asks (promise 62)."""
    complaint = place.refused(SERVER + ACCOUNT + MAIL.replace("ca@corp.example", approver))

    assert complaint.startswith(f"[mail] approvers: {approver} is {who}; ")
    assert "a person other than the requester" in complaint


def test_an_approver_is_no_account_without_a_domain(place: Place) -> None:
    """An account that is named alone is one of this domain (promise 62)."""
    text = SERVER + ACCOUNT.replace("CORP\\\\", "") + MAIL.replace("ca@", "Svc-Fas@")

    assert "Svc-Fas@corp.example is the account that requests on fas1" in place.refused(text)


def test_two_ports_of_a_host_are_two_servers(place: Place) -> None:
    """A gateway may forward each to another machine."""
    text = SERVER + 'host = "gw"\n' + SERVER.replace("fas1", "fas2") + 'host = "gw"\nport = 5987\n'

    assert [each.name for each in place.load(text).farm.servers] == ["fas1.corp.example", "fas2.corp.example"]


def test_mail_goes_out_by_what_is_configured(place: Place) -> None:
    """Each transport has its own members, with secrets from files."""
    (place.directory / "out").mkdir()
    app = 'tenant = "t"\nclient_id = "c"\nclient_secret_file = "client-secret"\n'
    smtp = place.load(MAIL + 'username = "fas@corp.example"\n[mail.smtp.xoauth2]\n' + app).channels.mail
    head = MAIL.partition("[mail.smtp]")[0]
    graph = place.load(f"{head}[mail.graph]\n{app}").channels.mail
    pickup = place.load(f'{head}[mail.pickup]\ndirectory = "out"\n').channels.mail

    assert isinstance(smtp, Mail)
    assert isinstance(smtp.transport, Smtp)
    assert smtp.transport.xoauth2 is not None
    assert smtp.transport.xoauth2.client_secret == "app-secret"
    assert graph is not None
    assert isinstance(graph.transport, Graph)
    assert graph.transport.app.client_secret == "app-secret"
    assert pickup is not None
    assert pickup.transport == Pickup(directory=str(place.directory / "out"))
    assert (smtp.approvers, smtp.operators) == (("ca@corp.example",), ("ops@corp.example",))


def test_the_address_of_a_webhook_is_a_secret(place: Place) -> None:
    """Whoever has it can post, so it comes from a file too and is not shown."""
    text = '[[webhooks]]\nname = "ops"\nurl_file = "teams-url"\nformat = "teams"\nurgent_only = true\n'
    settings = place.load(text)

    assert settings.channels.webhooks == (
        Webhook(name="ops", url="https://teams.example/hook/abc", format=WebhookFormat.TEAMS, urgent_only=True),
    )
    assert "hook/abc" not in repr(settings)


def test_a_ca_has_a_list_for_each_of_its_keys(place: Place) -> None:
    """After the renewal of its key both are configured; the same one twice is a mistake."""
    now = datetime.now(UTC)
    made = self_signed("ca", new_key(), not_before=now, not_after=now + timedelta(days=1))
    (place.directory / "ca.pem").write_bytes(made.public_bytes(Encoding.PEM))
    lists = [
        f'[[revocation_lists]]\ncertificate_authority = "ca1\\\\CA"\nurl = "http://ca1/{each}.crl"\nissuer = "ca.pem"\n'
        for each in ("a", "b")
    ]

    assert len(place.load("".join(lists)).farm.revocation_lists) == 2
    assert "stands twice" in place.refused(lists[0] + lists[0])


def test_a_revocation_list_has_one_issuer(place: Place) -> None:
    """The key that must have signed a CRL is that of one certificate."""
    now = datetime.now(UTC)
    made = self_signed("ca", new_key(), not_before=now, not_after=now + timedelta(days=1))
    pem = made.public_bytes(Encoding.PEM)
    (place.directory / "ca.pem").write_bytes(pem)
    (place.directory / "two.pem").write_bytes(pem + pem)
    text = (
        '[[revocation_lists]]\ncertificate_authority = "ca1\\\\Corp CA"\nurl = "http://ca1/c.crl"\nissuer = "ca.pem"\n'
    )
    (found,) = place.load(text).farm.revocation_lists

    assert found.issuer == made.public_bytes(Encoding.DER)
    assert "holds 2 certificates" in place.refused(text.replace("ca.pem", "two.pem"))


def test_client_certificates_prove_who_asks(place: Place) -> None:
    """With a certificate there is no password, and the key is private to this service."""
    now = datetime.now(UTC)
    made = self_signed("client", new_key(), not_before=now, not_after=now + timedelta(days=1))
    (place.directory / "client.pem").write_bytes(made.public_bytes(Encoding.PEM))
    place.secret("client.key", "key")
    text = f'{SERVER}auth = "certificate"\nclient_certificate = "client.pem"\nclient_key = "client.key"\n'
    (server,) = place.load(text).farm.servers

    assert isinstance(server.connection, WinRm)
    assert server.connection.auth is WinRmAuth.CERTIFICATE
    assert server.connection.client_key == str(place.secrets / "client.key")
    assert "leave them out" in place.refused(text + ACCOUNT)


def test_a_management_machine_does_not_read_its_own_log(place: Place) -> None:
    """S123 and S124 are in the log of the FAS server, which is another machine where cmdlets carry its address."""
    (server,) = place.load(SERVER.replace("winrm", "local") + 'address = "fas1.corp.example"\n').farm.servers

    assert (server.address, server.read_events) == ("fas1.corp.example", False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('lead = "730d"\nlifetime = "730d"', "expected at most 486.7 days, two thirds of the 730 days"),
        (
            'lead = "20d"\napproval_time = "14d"\nsoak = "7d"',
            "expected at least 23 days (approval_time, jitter, windows",
        ),
        ('lead = "10d"\njitter = "9d"', "expected at least 27 days"),
        ('lead = "33%"\nlifetime = "30d"', "expected at least "),
    ],
)
def test_a_lead_that_cannot_work_is_refused(place: Place, text: str, said: str) -> None:
    """A lead as long as certificates live would renew on every run, one too short would let them lapse (promise 53)."""
    complaint = place.refused(f"{SERVER}[fas_servers.renewal]\n{text}")

    assert complaint.startswith("[[fas_servers]] fas1.corp.example, renewal.lead: expected ")
    assert said in complaint
    assert complaint.endswith("; correct the lead, or what it must hold")


def test_what_can_start_and_should_be_looked_at_is_told(place: Place) -> None:
    """A lone server that must be in maintenance to switch would never switch (promise 61)."""
    told = list(renewal_warnings(place.load(SERVER)))

    assert [subject for subject, _ in told] == ["FAS server fas1.corp.example", "FAS server fas1.corp.example", "mail"]
    assert "no other FAS server is configured" in told[0][1]
    assert "without a test enrollment" in told[1][1]
    quiet = f'[renewal]\ntest_upn = "t@corp.example"\n{SERVER}{SERVER.replace("fas1", "fas2")}{MAIL}'
    assert list(renewal_warnings(place.load(quiet))) == []


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (f'{SERVER}username = "CORP\\svc-fas"'.encode(), "write what has a backslash in single quotes"),
        (f'{SERVER}ca_file = "C:\\Users\\ca.pem"'.encode(), "write what has a backslash in single quotes"),
        (SERVER.encode("utf-16"), "save it as UTF-8"),
        ('[mail]\nfrom = "m\u00fcller@corp.example"'.encode("cp1252"), "save it as UTF-8"),
        (
            b'[renewal]\n[fas_servers]\nname = "a"\n\n[fas_servers]\nname = "b"',
            "line 2: write [[fas_servers]], in two brackets, above each entry",
        ),
        (b"[fas_servers]\n[[fas_servers]]\n", "line 1: write [[fas_servers]], in two brackets, above each entry"),
        (b"[[webhooks]]\n[webhooks]\n", "line 2: write [[webhooks]], in two brackets, above each entry"),
        (b"[renewal", "correct it"),
    ],
)
def test_what_makes_no_toml_is_told_with_the_remedy(place: Place, content: bytes, remedy: str) -> None:
    """The parser says only what it stumbled over."""
    path = place.directory / "renewal.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_renewal(path, place.secrets)
    assert f"{path} is not TOML: " in str(caught.value)
    assert str(caught.value).endswith(f"; {remedy}") or f"; {remedy}, such as" in str(caught.value)


def test_all_faults_that_the_file_shows_by_itself_are_told(place: Place) -> None:
    """Nobody corrects one, tries again, and finds the next."""
    path = place.directory / "renewal.toml"
    path.write_text(f'[renewal]\npoll = "0s"\n{SERVER}port = 0\nprot = 1\n', encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_renewal(path, place.secrets)
    assert [each.removeprefix(f"{path}: ") for each in (str(caught.value), *caught.value.others)] == [
        "[renewal] poll: must be more than 0",
        "[[fas_servers]] fas1.corp.example, port: must be at least 1",
        f"[[fas_servers]] fas1.corp.example, prot: there is no such member; do you mean port? {PAGE} lists all",
    ]


def test_the_port_of_winrm_without_tls_is_warned_of(place: Place) -> None:
    """Something else may listen for HTTPS there, so that it is no fault for certain."""
    told = renewal_warnings(place.load(f"{SERVER}port = 5985\n"))

    assert [text for _, text in told if text.startswith("port 5985 is where WinRM listens without TLS")] != []


def test_a_file_that_is_no_toml_is_named(place: Place) -> None:
    """The line says which file, and where in it."""
    with pytest.raises(SettingsError, match=r"renewal_file: .*renewal.toml is not TOML: .*at end of document"):
        place.load("[renewal")


TABLES: dict[str, type[BaseModel]] = {
    "[renewal]": RenewalTable,
    "[[fas_servers]]": ServerTable,
    "[[revocation_lists]]": RevocationListTable,
    "[mail]": MailTable,
    "[mail.smtp]": SmtpTable,
    "[mail.graph]": GraphTable,
    "[mail.pickup]": PickupTable,
    "[[webhooks]]": WebhookTable,
}


@pytest.mark.parametrize("table", TABLES)
def test_the_page_describes_every_member(table: str) -> None:
    """Whoever looks for a member finds it where its table is described."""
    page = (Path(__file__).parents[2] / "docs" / "renewal-settings.md").read_text(encoding="utf-8")
    section = page.partition(f"## `{table}`")[2] or page.partition(f"| `{table}` |")[2]
    described = section.partition("\n## ")[0] if f"## `{table}`" in page else section.partition("\n\n")[0]
    tables = {"renewal", "smtp", "graph", "pickup"}
    members = {field.alias or name for name, field in TABLES[table].model_fields.items()} - tables

    assert [name for name in sorted(members) if f"`{name}`" not in described] == []
