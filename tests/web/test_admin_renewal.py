"""The calls of the admin API about renewals and messages, with a simulated farm behind real PowerShell remoting."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import open_database, writing
from evidence_service.adapters.outbox import put
from evidence_service.admin import build_admin_app
from evidence_service.notices.model import About, Audience, Message
from evidence_service.renewal.cmdlets import READING
from evidence_service.renewal.model import StepKind
from evidence_service.renewal_settings import load_renewal
from evidence_service.settings import load_settings
from evidence_service.web.admin_auth import ACTOR as ADMIN
from evidence_service.web.calls import Call, routes_of
from idp_certs.alarms import Severity
from tests.web.renewals import FAS1, FAS2, Renewals, now_utc, running

TOKEN = "t" * 43
ACTOR = "api:local"
MAIL = (
    '[mail]\nfrom = "fas@corp.example"\napprovers = ["ca@corp.example"]\noperators = ["ops@corp.example"]\n'
    '[mail.pickup]\ndirectory = "out"\n'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The application over the farm."""

    app: Any
    engine: Engine
    renewals: Renewals

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One call with the token; `token` None sends none."""
        token = options.pop("token", TOKEN)
        headers = {**({} if token is None else {"Authorization": f"Bearer {token}"}), **options.pop("headers", {})}
        address = path if path == "/metrics" else f"/api/v1{path}"

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
                return await client.request(method, address, headers=headers, **options)

        return asyncio.run(ask())

    def tick(self, kind: StepKind | None = None, name: str = FAS1) -> None:
        """What the worker does: one look, or until a step of this kind."""
        if kind is None:
            self.renewals.tick(self.engine, name)
        else:
            self.renewals.tick_until(self.engine, kind, name)

    def acts(self) -> list[tuple[str, str, str]]:
        """Acts, subjects and who did them, newest first."""
        return [(act.act, act.subject, act.actor) for act in ConfigStore(self.engine).list_acts()]

    def waiting(self) -> None:
        """A request of the first server waits for the CA manager."""
        self.tick()
        assert self.call("POST", f"/fas-servers/{FAS1}/renew").status_code == 202
        self.tick(StepKind.AWAIT_APPROVAL)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """The API over a farm whose certificates are far from their end; mail goes into a directory."""
    with running(tmp_path, tmp_path / "winrm") as renewals:
        (tmp_path / "out").mkdir()
        renewals.write(FAS1, FAS2, more=MAIL)
        yield from serving(renewals)


def serving(renewals: Renewals) -> Iterator[Api]:
    """The API with what the file says now."""
    settings = load_settings(data_dir=renewals.data_dir)
    engine = open_database(settings.effective_database_url)
    renewal = load_renewal(settings.effective_renewal_file, settings.effective_secrets_dir)
    app = build_admin_app(engine=engine, settings=settings, token=TOKEN, renewal=renewal)
    yield Api(app=app, engine=engine, renewals=renewals)
    engine.dispose()


def refused(response: httpx.Response, status: int, code: str, detail: str) -> None:
    """The answer is this problem."""
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert detail in response.json()["detail"]


def test_servers_are_listed_and_shown(api: Api) -> None:
    """What the worker last saw, with the certificate in use, its end and the start of its renewal."""
    api.tick()
    listed = api.call("GET", "/fas-servers").json()["fas_servers"]
    shown = api.call("GET", f"/fas-servers/{FAS1}").json()

    assert [(each["name"], each["condition"]) for each in listed] == [
        (FAS1, "in force"),
        (FAS2, "not looked at yet"),
    ]
    assert shown["step"]["kind"] == "rest"
    assert [each["definitions"] for each in shown["certificates"]] == [["default_Definition"]]
    assert shown["expires"] == shown["certificates"][0]["expires"]


def test_an_unknown_server_is_not_found(api: Api) -> None:
    """The problem names those that there are."""
    refused(api.call("GET", "/fas-servers/fas9"), 404, "not_found", f"configured are {FAS1}, {FAS2}")
    refused(api.call("POST", "/fas-servers/fas9/renew"), 404, "not_found", "no FAS server 'fas9'")


def test_without_the_token_nothing_is_told(api: Api) -> None:
    """Every call and the metrics have the same gate (promise 78)."""
    for method, path in (
        ("GET", "/fas-servers"),
        ("POST", f"/fas-servers/{FAS1}/renew"),
        ("POST", "/notifications:test"),
        ("GET", "/metrics"),
    ):
        assert api.call(method, path, token=None).status_code == 401


def test_a_dry_run_answers_every_step_with_its_cmdlets(api: Api) -> None:
    """Nothing is changed at FAS, and nobody's wish is recorded."""
    answer = api.call("POST", f"/fas-servers/{FAS1}/renew?dry_run=true").json()
    kinds = [each["kind"] for each in answer["steps"]]
    (retire,) = [each for each in answer["steps"] if each["kind"] == "retire"]

    assert answer["dry_run"] is True
    assert kinds[0] == "request"
    assert kinds.index("enter_maintenance") < kinds.index("switch") < kinds.index("leave_maintenance")
    assert "-DeleteUserCerts $false" in retire["cmdlets"][0]
    assert {each.name for each in api.renewals.farm.calls} <= READING | {"Add-PSSnapin"}
    assert "renewal_asked" not in {act for act, _, _ in api.acts()}


def test_a_renewal_is_asked_for_with_who_and_why(api: Api) -> None:
    """202: the worker does it. A second wish contradicts the first."""
    api.tick()
    asked = api.call("POST", f"/fas-servers/{FAS1}/renew", json={"note": "before the audit"})
    again = api.call("POST", f"/fas-servers/{FAS1}/renew")
    api.tick(StepKind.AWAIT_APPROVAL)
    shown = api.call("GET", f"/fas-servers/{FAS1}").json()
    acts = {each["kind"]: each for each in api.call("GET", f"/fas-servers/{FAS1}/history").json()["acts"]}
    wish, entry = acts["asked"], acts["request"]

    assert (asked.status_code, asked.json()["asked"]) == (202, "renew")
    refused(again, 409, "conflict", "renew was asked for already")
    assert ("renewal_asked", FAS1, ACTOR) in api.acts()
    assert shown["condition"] == "waits for approval"
    assert shown["step"]["todo"].startswith("Issue it at the CA")
    assert (wish["ask"], wish["actor"], wish["result"]) == ("renew", ACTOR, None)
    assert (entry["kind"], entry["result"], entry["actor"]) == ("request", "done", ACTOR)


def test_a_dry_run_uses_what_a_server_that_is_away_last_reported(api: Api) -> None:
    """200 with why it did not answer and how old the report is, as the page of the API says."""
    api.tick()
    api.renewals.farm.server(FAS1).unreachable = True
    answer = api.call("POST", f"/fas-servers/{FAS1}/renew?dry_run=true")

    assert answer.status_code == 200
    assert FAS1 in answer.json()["problem"] or "localhost" in answer.json()["problem"]
    assert answer.json()["age_seconds"] >= 0
    assert answer.json()["steps"][0]["kind"] == "request"


def test_a_dry_run_is_refused_as_the_wish_would_be(api: Api) -> None:
    """While a request waits there is no plan to show."""
    api.waiting()

    refused(
        api.call("POST", f"/fas-servers/{FAS1}/renew?dry_run=true"),
        409,
        "conflict",
        "A request waits at the CA already",
    )


def test_a_wish_without_a_worker_warns(api: Api) -> None:
    """It is taken, and the answer says what is missing."""
    (warning,) = api.call("POST", f"/fas-servers/{FAS1}/renew").json()["warnings"]

    assert "no worker has looked at this server yet; start one (fas-evidence work)" in warning


def test_a_server_that_is_away_fails_the_dry_run(api: Api) -> None:
    """Without anything stored there is nothing to show; the code is the reason."""
    api.renewals.farm.server(FAS1).unreachable = True

    refused(api.call("POST", f"/fas-servers/{FAS1}/renew?dry_run=true"), 502, "unreachable", FAS1.partition(".")[2][:0])


def test_a_request_is_withdrawn(api: Api) -> None:
    """The dry run answers the act, the call leaves a wish."""
    api.waiting()
    dry = api.call("POST", f"/fas-servers/{FAS1}/withdraw?dry_run=true").json()
    asked = api.call("POST", f"/fas-servers/{FAS1}/withdraw")
    api.tick(StepKind.WITHDRAW)

    assert [each["kind"] for each in dry["steps"]] == ["withdraw"]
    assert asked.status_code == 202
    refused(api.call("POST", f"/fas-servers/{FAS1}/withdraw"), 409, "conflict", "withdrawn")


def test_the_way_back_needs_the_server_s_name(api: Api) -> None:
    """Going back concerns every user of the server."""
    api.waiting()
    (request,) = api.renewals.farm.ca.pending
    api.renewals.farm.ca.issue(request.number)
    api.tick(name=FAS2)
    api.tick(StepKind.SOAK)
    refused(api.call("POST", f"/fas-servers/{FAS1}/rollback"), 422, "confirmation_needed", "confirm: ")
    asked = api.call("POST", f"/fas-servers/{FAS1}/rollback", json={"confirm": FAS1})
    api.tick(StepKind.ROLL_BACK)

    assert asked.status_code == 202
    acts = api.call("GET", f"/fas-servers/{FAS1}/history").json()["acts"]
    assert acts[-1]["kind"] == "roll_back"
    assert "rollback" in {each["ask"] for each in acts}


@pytest.mark.parametrize("as_json", [False, True])
def test_a_signed_answer_is_brought(tmp_path: Path, *, as_json: bool) -> None:
    """As the PKCS #7 itself or as base64 in JSON; what answers no request is refused by its reason."""
    with running(tmp_path, tmp_path / "winrm") as renewals:
        renewals.write(FAS1, FAS2, renewal="offline = true\n")
        for api in serving(renewals):
            api.waiting()
            (request,) = [
                each
                for each in renewals.farm.server(FAS1).certificates.values()
                if each.request_pem
                and each.id
                not in {
                    used["id"]
                    for used in api.call("GET", f"/fas-servers/{FAS1}").json()["certificates"]
                    if used["in_use"]
                }
            ]
            content = renewals.farm.ca.sign_offline(request.request_pem or "")
            path = f"/fas-servers/{FAS1}/import"
            wrong = api.call("POST", path, content=b"no", headers={"Content-Type": "application/pkcs7-mime"})
            form = api.call("POST", path, content=b"no", headers={"Content-Type": "text/plain"})
            dry = api.call(
                "POST", f"{path}?dry_run=true", content=content, headers={"Content-Type": "application/pkcs7-mime"}
            )
            if as_json:
                right = api.call("POST", path, json={"response": base64.b64encode(content).decode(), "note": "by post"})
            else:
                right = api.call("POST", path, content=content, headers={"Content-Type": "application/pkcs7-mime"})
            api.tick(StepKind.IMPORT)

            refused(wrong, 422, "response_unreadable", "PKCS #7")
            refused(form, 415, "unsupported_media_type", "application/pkcs7-mime")
            assert (right.status_code, right.json()["asked"]) == (202, "import")
            assert dry.json()["steps"][0]["kind"] == "import"
            assert dry.json()["certificate"] == right.json()["certificate"]
            assert "Corp Issuing CA" in dry.json()["certificate"]["issuer"]
            assert set(dry.json()["certificate"]) >= {"subject", "serial", "not_before", "expires", "thumbprint"}


def test_a_pause_is_journalled_and_ends(api: Api) -> None:
    """Who paused and why is shown; a wish meanwhile is taken with a warning."""
    api.tick()
    until = "2099-01-01T00:00:00Z"
    paused = api.call("POST", f"/fas-servers/{FAS1}/pause", json={"until": until, "note": "FAS upgrade"}).json()
    asked = api.call("POST", f"/fas-servers/{FAS1}/renew").json()
    resumed = api.call("POST", f"/fas-servers/{FAS1}/resume").json()

    assert (paused["paused_until"], paused["paused_by"], paused["paused_note"]) == (until, ACTOR, "FAS upgrade")
    assert "is begun before it is resumed" in asked["warnings"][0]
    assert resumed["paused_until"] is None
    refused(api.call("POST", f"/fas-servers/{FAS1}/resume"), 409, "conflict", "is not paused")
    refused(api.call("POST", f"/fas-servers/{FAS1}/pause", json={"until": "soon"}), 400, "malformed", "until: expected")
    assert [act for act, _, _ in api.acts()][:3] == ["renewal_resumed", "renewal_asked", "renewal_paused"]


def test_preflight_answers_every_check(api: Api) -> None:
    """Each with verdict, code and remedy; a test enrollment is an act."""
    answer = api.call("POST", f"/fas-servers/{FAS1}/preflight?test=true").json()

    assert {"verdict", "check", "code", "finding", "remedy"} == set(answer["checks"][0])
    assert {"sign_in", "certificate"} <= {each["code"] for each in answer["checks"]}
    assert ("renewal_preflight", FAS1, ACTOR) in api.acts()


def test_a_test_message_is_sent_by_each_channel(api: Api) -> None:
    """What came of it is answered and journalled; a channel that there is not is not found."""
    sent = api.call("POST", "/notifications:test", json={"audience": "approvers"})
    (mail,) = (api.renewals.data_dir / "out").glob("*.eml")

    assert (sent.status_code, sent.json()) == (
        200,
        {"channels": [{"channel": "mail", "sent": True, "problem": None}]},
    )
    assert b"ca@corp.example" in mail.read_bytes()
    assert ("notification_test", "fas-evidence", ACTOR) in api.acts()
    refused(api.call("POST", "/notifications:test", json={"channel": "x"}), 404, "not_found", "configured are mail")
    said = "audience: expected approvers or operators"
    refused(api.call("POST", "/notifications:test", json={"audience": "all"}), 400, "malformed", said)


def test_a_channel_that_fails_is_told(api: Api) -> None:
    """502, with the reason beside the channel."""
    (api.renewals.data_dir / "out").rmdir()
    answer = api.call("POST", "/notifications:test")

    assert answer.status_code == 502
    assert answer.json()["channels"][0]["sent"] is False
    assert answer.json()["channels"][0]["problem"]


def test_messages_are_listed(api: Api) -> None:
    """What people are told can be read without mail (promise 59)."""
    message = Message(
        fact="f",
        kind="certificate_expiring",
        about=About.FAS_SERVER,
        subject=FAS1,
        severity=Severity.CRITICAL,
        audience=Audience.OPERATORS,
        title="It expires",
        paragraphs=(),
    )
    with writing(api.engine) as connection:
        put(connection, message, now_utc())
    answer = api.call("GET", "/notifications?limit=10").json()

    assert [(each["title"], each["subject"], each["severity"]) for each in answer["notifications"]] == [
        ("It expires", FAS1, "critical")
    ]
    assert answer["undelivered"] == []
    for limit in ("0", "501", "00000000019999", "000000001" + "9" * 5000):
        said = "limit: expected a number from 1 to 500"
        refused(api.call("GET", f"/notifications?limit={limit}"), 400, "malformed", said)


def test_history_of_all_servers_can_be_read_on(api: Api) -> None:
    """Each act names its server; `before` goes on where a page began."""
    for name in (FAS1, FAS2):
        api.call("POST", f"/fas-servers/{name}/pause")
    acts = api.call("GET", "/fas-servers:history").json()["acts"]
    (last,) = api.call("GET", "/fas-servers:history?limit=1").json()["acts"]
    (first,) = api.call("GET", f"/fas-servers:history?limit=1&before={last['at']}").json()["acts"]

    assert [each["server"] for each in acts] == [FAS1, FAS2]
    assert acts == [first, last]
    refused(api.call("GET", "/fas-servers:history?before=now"), 400, "malformed", "before: expected a UTC instant")
    refused(api.call("GET", "/fas-servers/fas9/history"), 404, "not_found", f"configured are {FAS1}, {FAS2}")


def test_a_hostile_note_is_told_escaped(api: Api) -> None:
    """It comes back from the journal as from the wish, and no later call fails by it (promise 68)."""
    body = b'{"note": "a\\u0000\\u202e\\ud800b"}'
    asked = api.call("POST", f"/fas-servers/{FAS1}/renew", content=body, headers={"Content-Type": "application/json"})
    (wish,) = api.call("GET", f"/fas-servers/{FAS1}").json()["asks"]
    (entry,) = api.call("GET", "/fas-servers:history").json()["acts"]

    assert asked.status_code == 202
    assert wish["note"] == entry["note"] == r"a\x00\u202e\ud800b"


def test_an_answer_may_hold_what_utf_8_has_not() -> None:
    """Text of others with a lone surrogate is escaped, and makes no call fail."""

    async def answer(_: Request, __: Call) -> tuple[int, object]:
        return 200, {"text": "a\ud800"}

    routed = Starlette(routes=routes_of([("GET", "/x", answer)], now_utc))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await routed({**scope, ADMIN: ACTOR}, receive, send)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://admin") as client:
            return await client.get("/api/v1/x")

    answered = asyncio.run(ask())

    assert (answered.status_code, answered.content) == (200, b'{"text":"a\\ud800"}')


def test_unknown_members_are_refused(api: Api) -> None:
    """A typing error must not leave a wish that means something else."""
    refused(api.call("POST", f"/fas-servers/{FAS1}/renew", json={"dry_run": True}), 400, "malformed", "dry_run")
    refused(api.call("POST", f"/fas-servers/{FAS1}/renew?dryrun=true"), 400, "malformed", "dryrun")
