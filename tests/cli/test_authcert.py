"""`authcert`: what people see and ask of renewals, with a simulated farm behind real PowerShell remoting."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, update

from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import fas_servers, open_database, writing
from evidence_service.adapters.renewal_store import RenewalStore
from evidence_service.renewal.cmdlets import READING
from evidence_service.renewal.model import AskKind, StepKind
from tests.cli.given import Place, fas_evidence
from tests.corpus import names
from tests.web.renewals import FAS1, FAS2, Renewals, now_utc, running

CALLED = (
    "New-FasAuthorizationCertificate",
    "Set-FasServer -MaintenanceMode $true",
    "Set-FasCertificateDefinition -Name 'default_Definition'",
    "Test-FasCertificateSigningRequest -UserPrincipalName 'fas-test@corp.example' -Rule 'default'",
    "Set-FasServer -MaintenanceMode $false",
    "Remove-FasAuthorizationCertificate",
)


@pytest.fixture
def renewals(place: Place) -> Iterator[Renewals]:
    """A farm whose certificates are far from their end, and an empty database."""
    with running(place.database.parent, place.directory / "winrm") as running_:
        assert fas_evidence("db", "upgrade").code == 0
        yield running_


@contextlib.contextmanager
def database(place: Place) -> Iterator[Engine]:
    """The open database."""
    engine = open_database(f"sqlite:///{place.database}")
    yield engine
    engine.dispose()


def acts(place: Place) -> list[tuple[str, str]]:
    """Acts in the journal and their subjects, newest first."""
    with database(place) as engine:
        return [(act.act, act.subject) for act in ConfigStore(engine).list_acts()]


def test_without_servers_status_says_where_they_are_named(place: Place) -> None:
    """A service that renews nothing says so, and how to begin."""
    fas_evidence("db", "upgrade")
    ran = fas_evidence("authcert", "status")

    assert (ran.code, ran.err) == (0, "")
    assert "No FAS server is configured." in ran.out
    assert "renewal_file" in ran.out
    assert fas_evidence("authcert", "status", "-o", "json").json == []


def test_status_works_before_any_worker_ran(renewals: Renewals) -> None:
    """The servers are listed as configured, and it is said that nobody has looked."""
    ran = fas_evidence("authcert", "status", "-o", "json")

    assert [(each["name"], each["condition"]) for each in ran.json] == [
        (FAS1, "not looked at yet"),
        (FAS2, "not looked at yet"),
    ]


def test_status_shows_when_it_expires_and_what_is_next(place: Place, renewals: Renewals) -> None:
    """One row tells the certificate in use, its end, the start of its renewal, and why nothing is done now."""
    with database(place) as engine:
        renewals.tick(engine)
    table = fas_evidence("authcert", "status")
    server = fas_evidence("authcert", "status", FAS1, "-o", "json").json
    (used,) = [each for each in server["certificates"] if each["in_use"]]

    assert table.code == 0
    assert [each for each in ("in force", used["id"], "299 d", "nothing before") if each not in table.out] == []
    assert server["step"]["kind"] == "rest"
    assert server["step"]["reason"] == "not_due"
    assert used["definitions"] == ["default_Definition"]
    assert server["renews_at"] == used["renews_at"] is not None


def test_status_of_one_shows_everything(place: Place, renewals: Renewals) -> None:
    """Certificates with their status and the definitions that name them, and when it is looked at next."""
    with database(place) as engine:
        renewals.tick(engine)
    ran = fas_evidence("authcert", "status", FAS1.upper())

    assert ran.code == 0
    wanted = ("default_Definition", "Ok", "next look", "not_due: No certificate in use expires within the lead.")
    assert [each for each in wanted if each not in ran.out] == []


def test_an_unknown_server_is_named_with_those_there_are(renewals: Renewals) -> None:
    """A typing error is answered by the list."""
    ran = fas_evidence("authcert", "status", "fas9")

    assert ran.code == 1
    assert ran.complaint == f"no FAS server 'fas9' is configured; configured are {FAS1}, {FAS2}"


def test_an_unusable_file_is_bad_input(place: Place, renewals: Renewals) -> None:
    """The line names file, table and member."""
    renewals.file.write_text('[renewal]\nlead = "730"\n', encoding="utf-8")
    ran = fas_evidence("authcert", "status")

    assert ran.code == 2
    assert "renewal.toml: [renewal] lead: expected whole days" in ran.complaint


def test_a_dry_run_prints_every_cmdlet_in_order_and_changes_nothing(renewals: Renewals) -> None:
    """What a renewal would call can be read before anybody asks for it."""
    ran = fas_evidence("authcert", "renew", FAS1, "--dry-run")
    places = [ran.out.find(each) for each in CALLED]

    assert ran.code == 0
    assert -1 not in places
    assert places == sorted(places)
    assert "-DeleteUserCerts $false" in ran.out
    assert "kept for 3 days after the switch" in ran.out
    assert "nothing before" not in ran.out
    assert ran.out.endswith("Nothing was changed (--dry-run).\n")
    assert {each.name for each in renewals.farm.calls} <= READING | {"Add-PSSnapin"}


def test_a_dry_run_says_that_a_neighbour_must_serve(renewals: Renewals) -> None:
    """Nothing is known of the other server before a worker has looked (promise 61)."""
    ran = fas_evidence("authcert", "renew", FAS1, "--dry-run", "-o", "json")

    assert ran.json["warnings"] == [
        "no other FAS server is known to serve at present; the switch would wait until one does"
    ]
    assert ran.json["steps"][0]["kind"] == "request"
    assert ran.json["age_seconds"] == 0


def test_a_dry_run_of_a_server_that_is_away_uses_what_it_last_reported(place: Place, renewals: Renewals) -> None:
    """The age of what is shown is told; without anything stored the command fails as a dependency."""
    renewals.farm.server(FAS1).unreachable = True
    never = fas_evidence("authcert", "renew", FAS1, "--dry-run")
    renewals.farm.server(FAS1).unreachable = False
    with database(place) as engine:
        renewals.tick(engine)
    renewals.farm.server(FAS1).unreachable = True
    stored = fas_evidence("authcert", "renew", FAS1, "--dry-run")

    assert never.code == 3
    assert stored.code == 0
    assert "New-FasAuthorizationCertificate" in stored.out
    assert "what it last reported is used, of 20" in stored.err


def test_a_renewal_is_asked_for_and_done_by_the_worker(place: Place, renewals: Renewals) -> None:
    """The command leaves a wish, which is journalled with who and why; the worker makes the request."""
    with database(place) as engine:
        renewals.tick(engine)
    ran = fas_evidence("authcert", "renew", FAS1, "--yes", "--note", "before the audit")
    asked = fas_evidence("authcert", "status", FAS1, "-o", "json").json["asks"]
    again = fas_evidence("authcert", "renew", FAS1, "--yes")
    with database(place) as engine:
        renewals.tick_until(engine, StepKind.AWAIT_APPROVAL)
    status = fas_evidence("authcert", "status", FAS1)

    assert ran.code == 0
    assert f"fas-evidence authcert status {FAS1}" in ran.out
    assert [(each["kind"], each["note"]) for each in asked] == [("renew", "before the audit")]
    assert again.code == 2
    assert "renew was asked for already" in again.complaint
    assert ("renewal_asked", FAS1) in acts(place)
    assert "the CA manager must issue" in status.out
    assert "Issue it at the CA, under Pending Requests" in status.out


def test_a_dry_run_is_refused_as_the_act_would_be(place: Place, renewals: Renewals) -> None:
    """While a request waits, no plan is shown that nobody would follow."""
    asked_and_waiting(place, renewals)
    ran = fas_evidence("authcert", "renew", FAS1, "--dry-run")

    assert (ran.code, ran.out) == (2, "")
    assert f"{FAS1}: A request waits at the CA already" in ran.complaint


def test_what_is_asked_for_already_is_not_asked_again(place: Place, renewals: Renewals) -> None:
    """Neither the act nor its dry run goes on, and nobody is asked for a confirmation in vain."""
    with database(place) as engine:
        renewals.tick(engine)
    fas_evidence("authcert", "renew", FAS1, "--yes")
    for more in (["--dry-run"], ["--yes"], []):
        ran = fas_evidence("authcert", "renew", FAS1, *more)
        assert ran.code == 2
        assert ran.complaint == f"{FAS1}: renew was asked for already and is not settled; see its status"


def test_a_wish_about_a_server_that_never_answered_says_why(place: Place, renewals: Renewals) -> None:
    """The worker did look, so that starting it is no remedy."""
    renewals.farm.server(FAS1).unreachable = True
    with database(place) as engine:
        renewals.tick(engine)
    ran = fas_evidence("authcert", "withdraw", FAS1, "--yes")

    assert ran.code == 2
    assert ran.complaint.startswith(f"{FAS1}: nothing is known of it yet. unreachable: The FAS server did not answer")


def test_what_cannot_be_read_is_not_called_nothing(place: Place, renewals: Renewals) -> None:
    """A row that was changed from outside: certificates are unknown, not absent, and each command says the remedy."""
    with database(place) as engine:
        renewals.tick(engine)
        with writing(engine) as connection:
            connection.execute(update(fas_servers).values(observation="{}"))
    listed = fas_evidence("authcert", "status")
    shown = fas_evidence("authcert", "status", FAS1)
    wish = fas_evidence("authcert", "withdraw", FAS1, "--yes")

    assert "No certificate is known; what is stored of it cannot be read" in shown.out
    assert "has no authorization certificate" not in shown.out
    assert wish.code == 2
    for said in (listed.err, shown.err, wish.err):
        assert f"{FAS1}" in said
        assert "was changed from outside" in said
        assert "restore a backup" in said


def test_a_server_that_was_asked_about_is_due_at_once(place: Place, renewals: Renewals) -> None:
    """Whoever sees a server listed and then lets the worker look once is not told that nobody looked."""
    fas_evidence("authcert", "status")
    with database(place) as engine:
        due = RenewalStore(engine)
        due.configure([FAS1, FAS2], now=now_utc(), draw=lambda: 1.0)

        assert set(due.due(now_utc())) == {FAS1, FAS2}


def test_a_wish_without_a_worker_warns(place: Place, renewals: Renewals) -> None:
    """Where nothing looks at the servers, whoever asks is told which command starts that; a worker silences it."""
    never = fas_evidence("authcert", "renew", FAS1, "--yes")
    listed = fas_evidence("authcert", "status")
    with database(place) as engine:
        renewals.tick_until(engine, StepKind.AWAIT_APPROVAL)
    seen = fas_evidence("authcert", "withdraw", FAS1, "--yes")

    assert (never.code, seen.code) == (0, 0)
    assert "no worker has looked at this server yet; start one (fas-evidence work)" in never.err
    assert f"{FAS2}: No worker has looked at this server yet; start one (fas-evidence work)" in listed.err
    assert "at once where it runs" not in never.out
    assert "worker" not in seen.err


def test_a_first_contact_that_fails_is_told(place: Place, renewals: Renewals, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker looked and got no answer: the error and its remedy stand there whole, wrapped on a terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    renewals.farm.server(FAS1).unreachable = True
    with database(place) as engine:
        renewals.tick(engine)
    ran = fas_evidence("authcert", "status", FAS1, terminal=True)
    listed = fas_evidence("authcert", "status")

    assert "the server did not answer usably, see the last error" in ran.out
    assert "the worker looks at the server" not in ran.out
    assert "...(+" not in ran.out
    assert "The renewal of others goes on." in ran.out
    assert max(map(len, ran.out.splitlines())) <= 100
    assert f"{FAS1}: unreachable: The FAS server did not answer" in listed.err


def test_what_was_planned_before_a_server_went_away_is_no_plan_of_now(place: Place, renewals: Renewals) -> None:
    """Next it is looked at again; the last plan is told with the age of what it rests on (promise 63)."""
    with database(place) as engine:
        renewals.tick(engine)
        renewals.farm.server(FAS1).unreachable = True
        renewals.tick(engine)
    shown = fas_evidence("authcert", "status", FAS1).out
    row = next(each for each in fas_evidence("authcert", "status").out.splitlines() if each.startswith(FAS1))
    (planned,) = [each for each in shown.splitlines() if each.startswith("planned ")]

    assert "\nnext         look again at 20" in shown
    assert "nothing before" in planned
    assert ", by what it reported at 20" in planned
    assert "\nwhy " not in shown
    assert "look again at 20" in row
    assert "not_due" not in row


def test_a_denial_stays_in_the_status(place: Place, renewals: Renewals) -> None:
    """The entry is gone from FAS; the CA's words, the number and what is left to do stay until a person asks again."""
    asked_and_waiting(place, renewals)
    (request,) = renewals.farm.ca.pending
    renewals.farm.ca.deny(request.number, "not in the change plan")
    with database(place) as engine:
        renewals.tick_until(engine, StepKind.WITHDRAW)
        renewals.tick(engine)
    shown, server = fas_evidence("authcert", "status", FAS1).out, fas_evidence("authcert", "status", FAS1, "-o", "json")
    row = next(each for each in fas_evidence("authcert", "status").out.splitlines() if each.startswith(FAS1))
    lines = {each[:13].strip(): each[13:] for each in shown.splitlines()}

    assert lines["denied"].startswith(f"request {request.number} at ")
    assert lines["denied"].endswith(": not in the change plan")
    assert lines["condition"] == "denied"
    assert lines["to do"].startswith("Ask the CA manager why. It is not asked again by itself before 20")
    assert lines["to do"].endswith(f"`fas-evidence authcert renew {FAS1}` asks now.")
    assert " denied " in row
    assert server.json["denial"]["reason"] == "not in the change plan"
    assert server.json["denial"]["ca_request_id"] == str(request.number)

    with database(place) as engine:
        RenewalStore(engine).ask(FAS1, AskKind.RENEW, now=renewals.farm.now, actor="cli:admin")
        renewals.tick_until(engine, StepKind.AWAIT_APPROVAL)
    assert fas_evidence("authcert", "status", FAS1, "-o", "json").json["denial"] is None


def test_a_server_that_is_not_configured_has_no_next(place: Place, renewals: Renewals) -> None:
    """It stays in the list for its history; nobody looks at it again."""
    with database(place) as engine:
        renewals.tick(engine)
    renewals.file.write_text("", encoding="utf-8")
    shown = fas_evidence("authcert", "status", FAS1)
    table = fas_evidence("authcert", "status").out

    assert "not configured" in shown.out
    assert [each for each in ("next look", "\nnext ", "\nplanned ", "\nwhy ") if each in shown.out] == []
    assert "look again" not in table
    assert "nothing before" not in table


def test_a_second_renewal_is_refused_while_a_request_waits(place: Place, renewals: Renewals) -> None:
    """Two open requests would leave the CA manager to guess (promise 44)."""
    asked_and_waiting(place, renewals)
    ran = fas_evidence("authcert", "renew", FAS1, "--yes")

    assert ran.code == 2
    assert f"{FAS1}: A request waits at the CA already" in ran.complaint


def asked_and_waiting(place: Place, renewals: Renewals) -> None:
    """A request of the first server waits for the CA manager."""
    with database(place) as engine:
        renewals.tick(engine)
    assert fas_evidence("authcert", "renew", FAS1, "--yes").code == 0
    with database(place) as engine:
        renewals.tick_until(engine, StepKind.AWAIT_APPROVAL)


def test_without_a_person_to_ask_yes_is_needed(renewals: Renewals) -> None:
    """A script must say that it means it."""
    ran = fas_evidence("authcert", "renew", FAS1)

    assert ran.code == 2
    assert "nobody can be asked here: add --yes" in ran.complaint


def test_a_request_is_withdrawn_on_wish(place: Place, renewals: Renewals) -> None:
    """The dry run shows the cmdlet, the act leaves a wish, and the worker removes the request."""
    asked_and_waiting(place, renewals)
    dry = fas_evidence("authcert", "withdraw", FAS1, "--dry-run")
    unsure = fas_evidence("authcert", "withdraw", FAS1)
    ran = fas_evidence("authcert", "withdraw", FAS1, "--yes")
    meanwhile = fas_evidence("authcert", "status", FAS1)
    (request,) = renewals.farm.ca.pending
    with database(place) as engine:
        renewals.tick_until(engine, StepKind.WITHDRAW)

    assert (dry.code, ran.code) == (0, 0)
    assert "Remove-FasAuthorizationCertificate -Id" in dry.out
    person = f"eny request {request.number} at ca1.corp.example\\Corp Issuing CA: FAS cannot take it back there"
    assert [each for each in (dry.out, unsure.complaint, ran.out) if person not in each] == []
    assert "Issue it at the CA" not in meanwhile.out
    assert [len(each.certificates) for each in renewals.farm.servers] == [1, 1]


def test_nothing_to_withdraw_is_said(place: Place, renewals: Renewals) -> None:
    """A wish that would lead nowhere is refused at once, in the worker's own words."""
    with database(place) as engine:
        renewals.tick(engine)
    ran = fas_evidence("authcert", "withdraw", FAS1, "--yes")

    assert ran.code == 1
    assert ran.complaint == (
        f"{FAS1}: Nothing was withdrawn: no request waits, and no certificate that came is unused."
    )


def test_the_way_back_needs_the_server_s_name(place: Place, renewals: Renewals) -> None:
    """Going back concerns every user of the server, so its name is typed."""
    asked_and_waiting(place, renewals)
    (request,) = renewals.farm.ca.pending
    renewals.farm.ca.issue(request.number)
    with database(place) as engine:
        renewals.tick(engine, FAS2)
        renewals.tick_until(engine, StepKind.SOAK)
    dry = fas_evidence("authcert", "rollback", FAS1, "--dry-run")
    wrong = fas_evidence("authcert", "rollback", FAS1, stdin=b"yes\n", terminal=True)
    typed = fas_evidence("authcert", "rollback", FAS1, stdin=f"{FAS1}\n".encode(), terminal=True)
    with database(place) as engine:
        renewals.tick_until(engine, StepKind.ROLL_BACK)
    history = fas_evidence("authcert", "history", FAS1, "-o", "json").json
    acts = [each for each in history if each["result"] is not None]

    assert (dry.code, wrong.code, typed.code) == (0, 1, 0)
    assert "Set-FasCertificateDefinition -Name 'default_Definition'" in dry.out
    assert "not confirmed" in wrong.err
    assert [(each["kind"], each["result"]) for each in acts[-1:]] == [("roll_back", "done")]
    assert acts[-1]["actor"].startswith("cli:")


def test_there_is_no_way_back_without_a_switch(place: Place, renewals: Renewals) -> None:
    """Only what this service switched can it take back."""
    with database(place) as engine:
        renewals.tick(engine)
    ran = fas_evidence("authcert", "rollback", FAS1, "--yes")

    assert ran.code == 1
    assert "no definition was switched by this service" in ran.complaint


def test_an_offline_answer_is_checked_before_it_is_taken(place: Place, renewals: Renewals) -> None:
    """A file for another key is refused by its reason, the right one is left for the worker."""
    renewals.write(FAS1, FAS2, renewal="offline = true\n")
    asked_and_waiting(place, renewals)
    entries = renewals.farm.server(FAS1).certificates.values()
    (request,) = [each for each in entries if each.id not in (used["id"] for used in certificates_in_use())]
    status = fas_evidence("authcert", "status", FAS1)
    place.write("other.p7b", b"no PKCS 7")
    place.write("other.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    place.write("answer.p7b", renewals.farm.ca.sign_offline(request.request_pem or ""))
    other = fas_evidence("authcert", "import", FAS1, place.directory / "other.p7b")
    pem = fas_evidence("authcert", "import", FAS1, place.directory / "other.pem")
    dry = fas_evidence("authcert", "import", FAS1, place.directory / "answer.p7b", "--dry-run")
    unsure = fas_evidence("authcert", "import", FAS1, place.directory / "answer.p7b")
    no = fas_evidence("authcert", "import", FAS1, place.directory / "answer.p7b", stdin=b"no\n", terminal=True)
    before = fas_evidence("authcert", "status", FAS1, "-o", "json").json["asks"]
    right = fas_evidence("authcert", "import", FAS1, place.directory / "answer.p7b", stdin=b"y\n", terminal=True)
    again = fas_evidence("authcert", "import", FAS1, place.directory / "answer.p7b", "--dry-run")
    with database(place) as engine:
        renewals.tick_until(engine, StepKind.IMPORT)

    assert "to do        Have the request signed" in status.out
    assert "must issue" not in status.out
    assert other.code == 2
    assert "response_unreadable" in other.complaint
    assert "response_unreadable" in pem.complaint
    assert "expected a PKCS #7" in pem.complaint
    assert "Import-FasAuthorizationCertificateResponse" in dry.out
    assert (unsure.code, no.code, before) == (2, 1, [])
    assert "nobody can be asked here: add --yes" in unsure.complaint
    assert "nothing was changed" in no.err
    assert right.code == 0
    for ran in (dry, right):
        said = ("subject", "issuer", "CN=Corp Issuing CA", "serial", "thumbprint", "valid", "to 20", request.id)
        assert [each for each in said if each not in ran.out] == []
    assert (again.code, again.complaint) == (
        2,
        f"{FAS1}: import was asked for already and is not settled; see its status",
    )


def certificates_in_use() -> list[dict[str, str]]:
    """The certificates of the first server that definitions name."""
    listed = fas_evidence("authcert", "status", FAS1, "-o", "json").json["certificates"]
    return [each for each in listed if each["in_use"]]


def test_a_pause_lasts_until_it_is_resumed(place: Place, renewals: Renewals) -> None:
    """A paused server is shown so, with who and why, and its expiry goes on."""
    with database(place) as engine:
        renewals.tick(engine)
    dry = fas_evidence("authcert", "pause", FAS1, "--dry-run")
    paused = fas_evidence("authcert", "pause", FAS1, "--note", "FAS upgrade")
    shown = fas_evidence("authcert", "status", FAS1)
    asked = fas_evidence("authcert", "renew", FAS1, "--yes")
    resumed = fas_evidence("authcert", "resume", FAS1)
    again = fas_evidence("authcert", "resume", FAS1)

    assert (dry.code, paused.code, resumed.code, again.code) == (0, 0, 0, 1)
    assert "expires at" in paused.err
    assert "until a person resumes it, by cli:" in shown.out
    assert "FAS upgrade" in shown.out
    assert "nothing is begun before it is resumed" in asked.err
    assert "is not paused" in again.complaint
    assert [each for each in acts(place) if each[0] in ("renewal_paused", "renewal_resumed")] == [
        ("renewal_resumed", FAS1),
        ("renewal_paused", FAS1),
    ]


@pytest.mark.parametrize("until", ["2d", "soon", "2020-01-01T00:00:00Z", "2020-01-01", "9999-01-01"])
def test_a_pause_ends_at_an_instant_or_after_a_while(renewals: Renewals, until: str) -> None:
    """Both ways of saying it are understood, anything else is refused, and so is an end in the past."""
    dry = fas_evidence("authcert", "pause", FAS1, "--until", until, "--dry-run")
    ran = fas_evidence("authcert", "pause", FAS1, "--until", until)
    end = f"{now_utc() + timedelta(days=2):%Y-%m-%dT}"

    assert (dry.code, dry.err) == (ran.code, ran.err)
    if until == "2d":
        assert ran.code == 0
        assert f"paused until {end}" in ran.out
    elif until == "9999-01-01":
        assert "paused until 9999-01-01T00:00:00Z" in ran.out
    else:
        assert ran.code == 2
        assert "--until: expected" in ran.complaint or "at 2020-01-01T00:00:00Z, which is over" in ran.complaint


def test_history_names_who_wanted_each_act_and_why(place: Place, renewals: Renewals) -> None:
    """What was done is told with its result, and so is what people said, with their notes."""
    asked_and_waiting(place, renewals)
    fas_evidence("authcert", "pause", FAS1, "--until", "2d", "--note", "FAS upgrade")
    fas_evidence("authcert", "resume", FAS1, "--note", "upgraded")
    table = fas_evidence("authcert", "history", FAS1)
    entries = {each["kind"]: each for each in fas_evidence("authcert", "history", FAS1, "-o", "json").json}
    wish, request, pause, resume = (entries[each] for each in ("asked", "request", "paused", "resumed"))

    assert table.code == 0
    assert (wish["ask"], wish["result"]) == ("renew", None)
    assert request["result"] == "done"
    assert request["actor"].startswith("cli:")
    assert (pause["note"], resume["note"]) == ("FAS upgrade", "upgraded")
    assert pause["until"].startswith(f"{now_utc() + timedelta(days=2):%Y-%m-%dT}")
    said = ("A person asked for it.", "ask for a renewal", "pause the renewal until 20", "upgraded")
    assert [each for each in said if each not in table.out] == []


def test_history_of_all_servers_is_one_story(place: Place, renewals: Renewals) -> None:
    """Without a name, every server's acts in order, page by page; one that was taken out of the file has its own."""
    fas_evidence("authcert", "pause", FAS1, "--until", "2d")
    fas_evidence("authcert", "pause", FAS2, "--until", "2d")
    fas_evidence("authcert", "resume", FAS1)
    everything = fas_evidence("authcert", "history", "-o", "json").json
    page = fas_evidence("authcert", "history", "--limit", "2")
    older = page.out.splitlines()[-1].removeprefix("Older: ").split()
    rest = fas_evidence("authcert", "history", *older)
    wrong = fas_evidence("authcert", "history", "--before", "yesterday")
    renewals.write(FAS1)
    gone = fas_evidence("authcert", "history", FAS2.upper(), "-o", "json")
    shown = fas_evidence("authcert", "status", FAS2, "-o", "json")

    assert [(each["server"], each["kind"]) for each in everything] == [
        (FAS1, "paused"),
        (FAS2, "paused"),
        (FAS1, "resumed"),
    ]
    assert [line.split()[0] for line in page.out.splitlines()] == ["FAS", FAS2, FAS1, "Older:"]
    assert [line.split()[0] for line in rest.out.splitlines()] == ["FAS", FAS1]
    assert (wrong.code, wrong.complaint) == (
        2,
        "--before: expected a UTC instant such as 2026-01-31T12:00:00Z, not 'yesterday'",
    )
    assert [each["kind"] for each in gone.json] == ["paused"]
    assert shown.json["condition"] == "not configured"


def test_preflight_checks_a_server_and_fails_where_one_is_away(renewals: Renewals) -> None:
    """0 or 1 by what is found, 3 where a server does not answer."""
    fine = fas_evidence("authcert", "preflight", FAS1, "-o", "json")
    renewals.farm.server(FAS2).unreachable = True
    away = fas_evidence("authcert", "preflight", "-o", "json")
    shown = fas_evidence("authcert", "preflight", FAS1)

    assert fine.code == shown.code == (1 if "failed" in {each["verdict"] for each in fine.json[0]["checks"]} else 0)
    assert {"sign_in", "certificate"} <= {each["code"] for each in fine.json[0]["checks"]}
    assert "Authenticated Users" in shown.out or "Enroll" in shown.out
    assert away.code == 3
    assert [each["name"] for each in away.json] == [FAS1, FAS2]
    neighbours = [next(each for each in one.json[0]["checks"] if each["check"] == "neighbours") for one in (fine, away)]
    assert [each["verdict"] for each in neighbours] == ["ok", "unknown"]
    assert neighbours[1]["finding"].startswith(f"{FAS2} does not answer")
    assert {("failed", "unreachable")} <= {(each["verdict"], each["code"]) for each in away.json[1]["checks"]}


def test_preflight_ends_with_how_many(renewals: Renewals, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal what is to be done comes first, each verdict beside its check, and the numbers last."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    lines = fas_evidence("authcert", "preflight", FAS1, terminal=True).out.splitlines()
    verdicts = [line.split()[0] for line in lines if line.startswith(("ok", "warning", "unknown", "failed"))]

    assert "ok" not in map(str.strip, lines)
    assert verdicts == sorted(verdicts, key=["failed", "unknown", "warning", "ok"].index)
    assert f"0 failed, {verdicts.count('warning')} warnings, " in lines[-1]


def test_preflight_without_servers_is_wrong_usage(place: Place) -> None:
    """There is nothing to look at before servers are named."""
    fas_evidence("db", "upgrade")
    ran = fas_evidence("authcert", "preflight")

    assert ran.code == 2
    assert "no FAS server is configured" in ran.complaint


def test_a_test_enrollment_is_journalled(place: Place, renewals: Renewals) -> None:
    """With --test FAS enrolls a user, which is an act."""
    fas_evidence("authcert", "preflight", FAS1, "--test")

    assert ("renewal_preflight", FAS1) in acts(place)


def test_config_validate_tells_of_renewals(place: Place, renewals: Renewals) -> None:
    """Servers, what should be looked at, and a file that cannot be used."""
    place.add_idp()
    fine = fas_evidence("config", "validate", "-o", "json").json
    renewals.write(FAS1)
    lone = fas_evidence("config", "validate", "-o", "json").json
    renewals.write(FAS1, renewal='lead = "250d"\n')
    with database(place) as engine:
        renewals.tick(engine)
    lead = fas_evidence("config", "validate", "-o", "json").json
    renewals.file.write_text("[fas]", encoding="utf-8")
    broken = fas_evidence("config", "validate", "-o", "json")

    assert ("ok", "renewal") in [(each["verdict"], each["subject"]) for each in fine]
    assert any("no other FAS server is configured" in each["finding"] for each in lone if each["verdict"] == "warning")
    assert any("lead_does_not_fit" in each["finding"] for each in lead if each["verdict"] == "warning")
    assert any("1 FAS server is configured: " in each["finding"] for each in lone)
    assert broken.code == 1
    assert any("[fas]: there is no such member" in each["finding"] for each in broken.json)


def test_config_validate_takes_a_service_that_only_renews(place: Place, renewals: Renewals) -> None:
    """Without any IdP and plug-in, and with FAS servers, nothing is wrong; with an IdP alone the plug-in is missing."""
    only = fas_evidence("config", "validate", "-o", "json")
    place.add_idp()
    mixed = fas_evidence("config", "validate", "-o", "json")
    renewals.file.unlink()
    fas_evidence("idp", "remove", names.IDP, "--yes")
    neither = fas_evidence("config", "validate", "-o", "json")

    assert only.code == 0
    assert {"IdPs", "plug-ins"} <= {each["subject"] for each in only.json if each["verdict"] == "warning"}
    assert (mixed.code, neither.code) == (1, 1)
    assert [each["subject"] for each in mixed.json if each["verdict"] == "FAILED"] == ["plug-ins"]


def test_config_validate_judges_the_renewal_file_without_a_database(place: Place, renewals: Renewals) -> None:
    """The file can be corrected before the database is: both are said, and the database decides the exit code."""
    place.database.unlink()
    fine = fas_evidence("config", "validate", "-o", "json")
    renewals.file.write_text("[fas]", encoding="utf-8")
    broken = fas_evidence("config", "validate", "-o", "json")

    assert (fine.code, broken.code) == (3, 3)
    assert any("2 FAS servers are configured" in each["finding"] for each in fine.json)
    assert any("[fas]: there is no such member" in each["finding"] for each in broken.json)
