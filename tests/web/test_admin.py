"""The admin API over a real database and a real metadata server, and once as a process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import Engine
from starlette.routing import Route

from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import open_database
from evidence_service.adapters.trust_store import TrustStore
from evidence_service.admin import build_admin_app
from evidence_service.settings import load_settings
from evidence_service.web.admin_auth import TokenFileError, load_token
from evidence_service.web.problems import SECURITY_HEADERS
from idp_certs.alarms import Alarm, Severity
from tests.cli.sources import altered, metadata
from tests.corpus import keys, names
from tests.corpus.good import policy_text
from tests.metadata.server import MetadataServer
from tests.web import plane

TOKEN = "t" * 43
ACTOR = "api:local"
IDP, NEXT = keys.fingerprint("idp"), keys.fingerprint("idp_next")
ID = hashlib.sha256(names.IDP.encode()).hexdigest()[:16]
XML = "application/samlmetadata+xml"
POLICY = {
    "audiences": [names.GATEWAY],
    "recipients": ["https://gw.example/cgi/samlauth"],
    "upn_from": ["nameid"],
    "upn_suffixes": ["corp.example"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The application over a database in a directory, asked with the token."""

    app: Any
    engine: Engine
    directory: Path

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One call; `token` None sends none."""
        token = options.pop("token", TOKEN)
        headers = {**({} if token is None else {"Authorization": f"Bearer {token}"}), **options.pop("headers", {})}
        prefix = options.pop("prefix", "" if path.startswith("/api/") else "/api/v1")
        address = f"{prefix}{path}"

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
                return await client.request(method, address, headers=headers, **options)

        return asyncio.run(ask())

    def add(self, **options: Any) -> httpx.Response:
        """Register the IdP from metadata and policy as parts."""
        parts = {
            "metadata": ("../../metadata.xml", metadata("idp"), XML),
            "policy": ("policy.toml", policy_text().encode(), "application/toml"),
        }
        return self.call("POST", "/idps", files=parts, **options)

    def states(self) -> dict[str, str]:
        """Certificates of the IdP and their states."""
        listed = self.call("GET", f"/idps/{ID}/certificates").json()["certificates"]
        return {each["sha256"]: each["state"] for each in listed}

    def acts(self) -> list[tuple[str, str]]:
        """Acts and who did them, newest first."""
        return [(act.act, act.actor) for act in ConfigStore(self.engine).list_acts()]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """The API over a database without any IdP."""
    plane.prepare(tmp_path, with_idp=False)
    settings = load_settings(data_dir=tmp_path, metadata_allow_loopback=True)
    engine = open_database(settings.effective_database_url)
    yield Api(app=build_admin_app(engine=engine, settings=settings, token=TOKEN), engine=engine, directory=tmp_path)
    engine.dispose()


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    """A metadata server that serves the IdP's metadata."""
    with MetadataServer() as running:
        running.serve("/md", metadata("idp", by="idp"))
        yield running


def subscription(server: MetadataServer, **members: Any) -> dict[str, Any]:
    """The body that subscribes to it."""
    return {"metadata_url": server.url("/md", host="127.0.0.1"), "ca_pem": server.ca_pem, **members}


def refused(response: httpx.Response, status: int, code: str, detail: str) -> None:
    """The answer is this problem, with the headers that every answer has."""
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert detail in response.json()["detail"]
    assert response.headers["content-type"] == "application/problem+json"
    assert guarded(response)


def guarded(response: httpx.Response) -> bool:
    """Whether the answer has the security headers, and lets no other site read it."""
    has = all(response.headers.get(name.decode()) == value.decode() for name, value in SECURITY_HEADERS)
    return has and not any(name.startswith("access-control") for name in response.headers)


def routes(api: Api) -> list[tuple[str, str]]:
    """Every method and path that is served."""
    return [
        (method, re.sub(r"\{[^}]+\}", "x", route.path))
        for route in api.app.routes
        if isinstance(route, Route)
        for method in sorted(route.methods or ())
    ]


def test_the_calls_are_those_of_the_contract(api: Api) -> None:
    """Nothing is served beside them: no description, no page (promise 89)."""
    assert {f"{method} {path}" for method, path in routes(api) if method != "HEAD"} == {
        "POST /api/v1/idps",
        "POST /api/v1/idps:subscribe",
        "GET /api/v1/idps",
        "GET /api/v1/idps/x",
        "PATCH /api/v1/idps/x",
        "DELETE /api/v1/idps/x",
        "POST /api/v1/idps/x/refresh",
        "GET /api/v1/idps/x/certificates",
        *(f"POST /api/v1/idps/x/certificates/x/{verb}" for verb in ("approve", "retire", "revoke", "reinstate")),
        "GET /api/v1/rollovers",
        "GET /api/v1/rollovers/x",
        "POST /api/v1/rollovers/x/approve",
        "POST /api/v1/rollovers/x/reject",
        "GET /api/v1/alarms",
        "GET /api/v1/fas-servers",
        "GET /api/v1/fas-servers:history",
        "GET /api/v1/fas-servers/x",
        "GET /api/v1/fas-servers/x/history",
        *(
            f"POST /api/v1/fas-servers/x/{verb}"
            for verb in ("renew", "preflight", "withdraw", "rollback", "import", "pause", "resume")
        ),
        "GET /api/v1/notifications",
        "POST /api/v1/notifications:test",
        "GET /metrics",
    }
    for path in ("/docs", "/redoc", "/openapi.json", "/", "/api/v1"):
        response = api.call("GET", path, prefix="")
        assert response.status_code == 404
        assert guarded(response)


def test_every_route_needs_the_token(api: Api) -> None:
    """Promise 78: without the one token, or with another, every path answers 401 and nothing else."""
    bad: tuple[dict[str, Any], ...] = (
        {"token": None},
        {"token": "wrong"},
        {"token": TOKEN[:-1]},
        {"token": None, "headers": {"Authorization": f"Basic {TOKEN}"}},
        {"token": None, "headers": {"X-Api-Key": TOKEN, "Cookie": f"token={TOKEN}"}},
    )
    for method, path in [*routes(api), ("GET", "/api/v1/absent"), ("OPTIONS", "/api/v1/idps")]:
        for options in bad:
            response = api.call(method, path, **options)
            assert response.status_code == 401, (method, path, options)
            assert response.headers["www-authenticate"] == "Bearer"
            assert guarded(response)
            if method != "HEAD":
                refused(response, 401, "unauthorized", "admin_token_file")
    twice = [("authorization", f"Bearer {TOKEN}"), ("authorization", f"Bearer {TOKEN}")]

    async def ask() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api.app), base_url="http://admin") as client:
            return (await client.get("/api/v1/idps", headers=httpx.Headers(twice))).status_code

    assert asyncio.run(ask()) == 401
    assert api.call("GET", "/idps").status_code == 200


def test_other_sites_get_nowhere(api: Api) -> None:
    """Promise 80: no method with an effect by GET, no CORS, JSON only as JSON, headers on every answer."""
    response = api.call("OPTIONS", "/idps", headers={"Origin": "https://evil.example"})
    assert (response.status_code, guarded(response)) == (405, True)
    response = api.call("GET", f"/idps/{ID}/refresh")
    assert (response.status_code, guarded(response)) == (405, True)
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        response = api.call(
            "POST", "/idps:subscribe", content=b'{"metadata_url": "https://x"}', headers={"Content-Type": kind}
        )
        refused(response, 415, "unsupported_media_type", "Content-Type: expected application/json")


def test_register_list_show_and_remove(api: Api) -> None:
    """Metadata and policy as parts register an IdP, which is found by its short ID and by its entity ID."""
    response = api.add()
    assert response.status_code == 201, response.text
    answer = response.json()
    assert (answer["id"], answer["entity_id"], answer["created"], answer["changed"]) == (ID, names.IDP, True, True)
    assert [(each["change"], each["sha256"]) for each in answer["certificates"]] == [("added", IDP)]
    assert answer["certificates"][0]["provenance"].endswith(f"imported by {ACTOR}")
    assert answer["signature"]["by"] == "nobody"
    assert [each["id"] for each in api.call("GET", "/idps").json()["idps"]] == [ID]
    for name in (ID, quote(names.IDP, safe="")):
        shown = api.call("GET", f"/idps/{name}")
        assert (shown.status_code, shown.json()["entity_id"]) == (200, names.IDP)
    assert api.acts() == [("idp_added", ACTOR)]
    again = api.add()
    assert (again.status_code, again.json()["changed"], len(api.acts())) == (200, False, 1)
    assert api.call("DELETE", f"/idps/{ID}?dry_run=true").json()["removed"] is False
    assert api.call("DELETE", f"/idps/{ID}").json()["removed"] is True
    refused(api.call("GET", f"/idps/{ID}"), 404, "not_found", ID)
    assert api.acts()[0] == ("idp_removed", ACTOR)


def test_a_dry_run_answers_the_diff(api: Api) -> None:
    """And nothing is written."""
    response = api.add(params={"dry_run": "true"})
    assert (response.status_code, response.json()["dry_run"]) == (200, True)
    assert api.call("GET", "/idps").json() == {"idps": []}
    assert api.acts() == []


def test_plain_xml_updates_a_known_idp(api: Api) -> None:
    """The stored policy stays; a new IdP without policy is refused."""
    refused(
        api.call("POST", "/idps", content=metadata("idp"), headers={"Content-Type": XML}),
        422,
        "policy_missing",
        "give `policy`",
    )
    api.add()
    response = api.call("POST", "/idps", content=metadata("idp", "idp_next", by="idp"), headers={"Content-Type": XML})
    assert (response.status_code, response.json()["signature"]["by"]) == (200, "trusted")
    assert api.states() == {IDP: "trusted", NEXT: "trusted"}


def test_no_idp_takes_the_short_id_of_another(api: Api) -> None:
    """An IdP chooses its entity ID; one that is the short ID of another does not catch what is meant for that one."""
    api.add()
    taken = api.call(
        "POST",
        "/idps",
        files={"metadata": metadata("idp_b", entity_id=ID), "policy": policy_text().encode()},
    )
    assert (taken.status_code, taken.json()["entity_id"]) == (201, ID)
    assert api.call("GET", f"/idps/{ID}").json()["entity_id"] == names.IDP
    assert api.call("GET", f"/idps/{taken.json()['id']}").json()["entity_id"] == ID
    assert api.call("DELETE", f"/idps/{ID}").json()["entity_id"] == names.IDP


def test_bare_certificates(api: Api) -> None:
    """An IdP without metadata is registered from entity ID and PEM."""
    pem = ssl.DER_cert_to_PEM_cert(keys.certificate("idp"))
    body = {"entity_id": names.IDP, "certificates": [pem], "policy": POLICY}
    response = api.call("POST", "/idps", json=body)
    assert (response.status_code, response.json()["signature"]) == (201, None)
    assert api.states() == {IDP: "trusted"}


XML_HEADERS = {"Content-Type": XML}


@pytest.mark.parametrize(
    ("options", "status", "code", "detail"),
    [
        ({"content": b"", "headers": XML_HEADERS}, 422, "xml_malformed", "metadata: "),
        ({"content": b"<html/>", "headers": XML_HEADERS}, 422, "metadata_not_saml", "metadata: "),
        ({"content": keys.pem("idp").encode(), "headers": XML_HEADERS}, 422, "xml_malformed", "metadata: "),
        (
            {"content": b"<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]><x>&y;</x>", "headers": XML_HEADERS},
            422,
            "xml_dtd",
            "metadata: ",
        ),
        ({"content": metadata(), "headers": XML_HEADERS}, 422, "metadata_no_cert", "metadata: "),
        (
            {"content": altered(metadata("idp", by="idp")), "headers": XML_HEADERS},
            422,
            "metadata_signature_invalid",
            "metadata: ",
        ),
        (
            {"content": metadata("idp"), "headers": XML_HEADERS, "params": {"entity_id": "https://absent.example"}},
            422,
            "metadata_entity_mismatch",
            "metadata: ",
        ),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "malformed", "not JSON"),
        ({"json": {"entity_id": "x"}}, 400, "malformed", "certificates"),
        ({"json": {"entity_id": "x", "certificates": []}}, 400, "malformed", "certificates"),
        ({"json": {"entity_id": "x", "certificates": [1]}}, 400, "malformed", "certificates"),
        ({"json": {"entity_id": "x", "certificates": ["a"], "extra": 1}}, 400, "malformed", "unknown field `extra`"),
        ({"json": {"entity_id": "x", "certificates": ["a"]}}, 422, "metadata_bad_cert", "certificates: "),
        (
            {"json": {"entity_id": "x", "certificates": [keys.pem("idp")]}},
            422,
            "metadata_bad_cert",
            "a private key",
        ),
        (
            {
                "json": {
                    "entity_id": "x",
                    "certificates": [ssl.DER_cert_to_PEM_cert(keys.certificate("idp"))],
                    "policy": {"audience": []},
                }
            },
            422,
            "unusable",
            "policy member `audience`: unknown",
        ),
        ({"files": {"other": b"x"}}, 400, "malformed", "other: there is no such part"),
        ({"files": {"policy": b"x"}}, 400, "malformed", "metadata: the part is missing"),
        (
            {"files": {"metadata": metadata("idp"), "policy": b"audiences = 1"}},
            422,
            "unusable",
            "policy member `audiences`",
        ),
        ({"files": {"metadata": metadata("idp"), "policy": b"\xff"}}, 400, "malformed", "policy: not UTF-8"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "malformed", "boundary"),
        (
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
            400,
            "malformed",
            "multipart",
        ),
        ({"content": b"x", "headers": {"Content-Type": "application/zip"}}, 415, "unsupported_media_type", "expected"),
        ({"content": b"x", "params": {"dryrun": "true"}}, 400, "malformed", "dryrun: there is no such query"),
        ({"content": b"x", "params": {"dry_run": "yes"}}, 400, "malformed", "dry_run: expected true or false"),
    ],
)
def test_uploads_that_cannot_be_used(api: Api, options: dict[str, Any], status: int, code: str, detail: str) -> None:
    """The problem names the member and the reason, and nothing is kept (promises 24 and 83)."""
    refused(api.call("POST", "/idps", **options), status, code, detail)
    assert api.call("GET", "/idps").json() == {"idps": []}


@pytest.mark.parametrize(
    ("path", "kind", "size"),
    [
        ("/idps", XML, 80 * 1024 * 1024),
        ("/idps", "application/json", 1024 * 1024),
        ("/idps:subscribe", "application/json", 1024 * 1024),
    ],
)
def test_bodies_are_limited(api: Api, path: str, kind: str, size: int) -> None:
    """What is larger than its limit is not read to its end."""
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while read < 2 * size:
            read += 65536
            yield b" " * 65536

    refused(api.call("POST", path, content=endless(), headers={"Content-Type": kind}), 413, "too_large", str(size))


def test_a_document_of_one_idp_is_limited_below_a_federations(api: Api) -> None:
    """16 MiB for one entity."""
    content = metadata("idp") + b" " * (16 * 1024 * 1024)
    response = api.call("POST", "/idps", content=content, headers=XML_HEADERS)
    refused(response, 422, "metadata_too_large", "metadata: ")


def test_change_policy_and_switch(api: Api) -> None:
    """Members that are given change, the others stay; unusable ones are refused; a dry run changes nothing."""
    api.add()
    before = api.call("GET", f"/idps/{ID}").json()["policy"]
    response = api.call("PATCH", f"/idps/{ID}?dry_run=true", json={"policy": {"max_age": "2h"}})
    assert response.json()["policy"] == {**before, "max_age": "2h"}
    assert api.call("GET", f"/idps/{ID}").json()["policy"] == before
    response = api.call("PATCH", f"/idps/{ID}", json={"policy": {"max_age": "2h"}, "enabled": False})
    assert (response.status_code, response.json()["enabled"]) == (200, False)
    assert response.json()["policy"] == {**before, "max_age": "2h"}
    assert api.acts()[:2] == [("idp_disabled", ACTOR), ("policy_set", ACTOR)]
    for body, status, code, detail in (
        ({"policy": {"audiences": []}}, 422, "unusable", "allows nobody"),
        ({"policy": {"max_age": 8}}, 422, "unusable", "policy member `max_age`"),
        ({"policy": {"decryption_keys": ["absent.pem"]}}, 422, "unusable", "decryption_keys"),
        ({"entity_id": "x"}, 400, "malformed", "unknown field `entity_id`"),
        ({"enabled": "no"}, 400, "malformed", "enabled"),
        ({"source": "x"}, 400, "malformed", "source"),
    ):
        refused(api.call("PATCH", f"/idps/{ID}", json=body), status, code, detail)
    refused(api.call("PATCH", "/idps/absent", json={}), 404, "not_found", "absent")


def test_a_change_is_made_whole_or_not_at_all(api: Api) -> None:
    """A part that cannot be done is answered before any other is done, in a dry run too."""
    api.add()
    before, acts = api.call("GET", f"/idps/{ID}").json(), api.acts()
    body = {"enabled": False, "policy": {"max_age": "2h"}, "source": None}
    for query in ("", "?dry_run=true"):
        refused(api.call("PATCH", f"/idps/{ID}{query}", json=body), 404, "not_found", "no metadata source")
    assert api.acts() == acts
    assert api.call("GET", f"/idps/{ID}").json() == before


@pytest.mark.parametrize("member", ["metadata_url", "entity_id", "ca_pem", "pin_sha256", "metadata_certificate_pem"])
def test_texts_that_are_no_characters_are_refused(api: Api, member: str) -> None:
    r"""JSON can write half of a surrogate pair; the answer is a refusal, never a 500."""
    body = json.dumps({"metadata_url": "https://idp.example/", "policy": POLICY, member: "\ud800"})
    response = api.call("POST", "/idps:subscribe", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422, 502), response.text


def test_subscribe_refresh_and_approve(api: Api, server: MetadataServer) -> None:
    """From the address to the approval of a key that nobody vouches for, every act with its actor (promise 79)."""
    body = subscription(server, policy=POLICY)
    response = api.call("POST", "/idps:subscribe?dry_run=true", json=body)
    assert (response.status_code, api.acts()) == (200, [])
    assert response.json()["fetched"]["tls_chain_sha256"][0] == server.leaf_sha256
    response = api.call("POST", "/idps:subscribe", json=body)
    assert (response.status_code, response.json()["created"]) == (201, True)
    assert api.call("GET", f"/idps/{ID}").json()["source"]["url"] == body["metadata_url"]
    server.serve("/md", metadata("idp", "idp_next", by="idp_next"))
    response = api.call("POST", f"/idps/{ID}/refresh?dry_run=true")
    assert (response.json()["outcome"], api.call("GET", "/rollovers").json()) == ("held", {"rollovers": []})
    response = api.call("POST", f"/idps/{ID}/refresh")
    assert (response.status_code, response.json()["outcome"]) == (200, "held")
    assert response.json()["finding"]["reason"] == "metadata_key_withheld"
    (rollover,) = api.call("GET", "/rollovers?state=held").json()["rollovers"]
    assert [each["sha256"] for each in rollover["certificates"]] == [NEXT]
    path = f"/rollovers/{rollover['id']}/approve"
    response = api.call("POST", path, json={"note": "called"})
    assert (response.status_code, response.json()["state"], response.json()["decided_by"]) == (200, "approved", ACTOR)
    assert api.states() == {IDP: "trusted", NEXT: "announced"}
    refused(api.call("POST", path, json={}), 409, "conflict", rollover["id"])
    refused(api.call("POST", f"/rollovers/{rollover['id']}/reject"), 409, "conflict", rollover["id"])
    refused(api.call("POST", "/rollovers/0123456789abcdef/approve"), 404, "not_found", "0123456789abcdef")
    refused(api.call("GET", "/rollovers?state=open"), 400, "malformed", "state: expected one of held")
    assert api.call("GET", "/rollovers").json() == {"rollovers": []}
    for query in ("?state=all", "?state=approved"):
        assert [each["id"] for each in api.call("GET", f"/rollovers{query}").json()["rollovers"]] == [rollover["id"]]
    for name in (rollover["id"], rollover["id"][:8]):
        assert api.call("GET", f"/rollovers/{name}").json()["state"] == "approved"
    refused(api.call("GET", "/rollovers/0123456789abcdef"), 404, "not_found", "0123456789abcdef")
    assert {"rollover_approved", "source_added", "idp_added"} <= {act for act, actor in api.acts() if actor == ACTOR}
    response = api.call("PATCH", f"/idps/{ID}", json={"source": None})
    assert (response.status_code, response.json()["source"]) == (200, None)


def test_approving_what_was_rejected_needs_a_confirmation(api: Api, server: MetadataServer) -> None:
    """A key that somebody turned down is not trusted by a slip; a refresh and its dry run name it as rejected."""
    api.call("POST", "/idps:subscribe", json=subscription(server, policy=POLICY))
    server.serve("/md", metadata("idp", "idp_next", by="idp_next"))
    api.call("POST", f"/idps/{ID}/refresh")
    (rollover,) = api.call("GET", "/rollovers").json()["rollovers"]
    path = f"/rollovers/{rollover['id']}"
    assert api.call("POST", f"{path}/reject").json()["state"] == "rejected"
    for query in ("", "?dry_run=true"):
        answer = api.call("POST", f"/idps/{ID}/refresh{query}").json()
        assert (answer["outcome"], answer["rejected"], answer["missing"]) == ("unchanged", [NEXT], [])
    for body in ({}, {"confirm": rollover["id"][:7]}):
        refused(api.call("POST", f"{path}/approve", json=body), 422, "confirmation_needed", "was rejected by api:local")
    assert api.states() == {IDP: "trusted"}
    body = {"confirm": rollover["id"][:8]}
    assert api.call("POST", f"{path}/approve", json=body).json()["state"] == "approved"
    assert api.states() == {IDP: "trusted", NEXT: "announced"}


def test_two_approvals_at_once_have_one_effect(api: Api, server: MetadataServer) -> None:
    """Of many approvals at the same time one is done and the others are told so (promise 79)."""
    api.call("POST", "/idps:subscribe", json=subscription(server, policy=POLICY))
    server.serve("/md", metadata("idp", "idp_next"))
    api.call("POST", f"/idps/{ID}/refresh")
    (rollover,) = api.call("GET", "/rollovers").json()["rollovers"]

    async def ask() -> list[int]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        transport = httpx.ASGITransport(app=api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://admin", headers=headers) as client:
            path = f"/api/v1/rollovers/{rollover['id']}/approve"
            answers = await asyncio.gather(*(client.post(path, json={}) for _ in range(6)))
        return sorted(each.status_code for each in answers)

    assert asyncio.run(ask()) == [200, 409, 409, 409, 409, 409]
    assert [act for act, _ in api.acts()].count("rollover_approved") == 1


@pytest.mark.parametrize(
    ("members", "status", "code", "detail"),
    [
        ({"metadata_url": "http://idp.example/md"}, 422, "metadata_url", "metadata_url"),
        ({"metadata_url": "https://169.254.169.254/md"}, 422, "metadata_url", "metadata_url"),
        ({"ca_pem": ssl.DER_cert_to_PEM_cert(keys.certificate("ca"))}, 502, "metadata_untrusted", "not verify"),
        ({"ca_pem": "x"}, 422, "metadata_bad_cert", "ca_pem: "),
        ({"ca_pem": keys.pem("idp")}, 422, "metadata_bad_cert", "a private key"),
        ({"pin_sha256": "00"}, 422, "unusable", "pin_sha256: "),
        ({"pin_sha256": "0" * 64}, 502, "metadata_untrusted", "the server certificate with SHA-256 000"),
        ({"metadata_certificate_pem": "x"}, 422, "metadata_bad_cert", "metadata_certificate_pem: "),
        (
            {"metadata_certificate_pem": ssl.DER_cert_to_PEM_cert(keys.certificate("idp_b"))},
            502,
            "metadata_signature_invalid",
            "which certificate signs it",
        ),
        ({"pin_sha256": "0" * 64}, 502, "metadata_untrusted", "subscribe again with the new one"),
        ({"acceptance": "always"}, 400, "malformed", "acceptance"),
        ({"entity_id": "https://absent.example"}, 422, "metadata_entity_mismatch", "entity_id: "),
        ({"policy": None}, 422, "policy_missing", "policy: "),
        ({"url": "x"}, 400, "malformed", "unknown field `url`"),
    ],
)
def test_subscriptions_that_cannot_be_made(  # noqa: PLR0917 - one row of the table
    api: Api, server: MetadataServer, members: dict[str, Any], status: int, code: str, detail: str
) -> None:
    """The problem names the member and the reason, and nothing is registered."""
    body = subscription(server, **{"policy": POLICY, **members})
    refused(api.call("POST", "/idps:subscribe", json=body), status, code, detail)
    assert api.call("GET", "/idps").json() == {"idps": []}


def test_refresh_that_fails(api: Api, server: MetadataServer) -> None:
    """A server that fails is 502 with the reason, an IdP without source 404; old trust stays."""
    api.add()
    refused(api.call("POST", f"/idps/{ID}/refresh"), 404, "not_found", "no metadata source")
    api.call("POST", "/idps:subscribe", json=subscription(server))
    server.serve("/md", b"<html/>")
    for query in ("", "?dry_run=true"):
        refused(api.call("POST", f"/idps/{ID}/refresh{query}"), 502, "metadata_not_saml", "not SAML")
    server.stop()
    refused(api.call("POST", f"/idps/{ID}/refresh"), 502, "metadata_unreachable", "no connection")
    assert api.states() == {IDP: "trusted"}


def test_acts_on_certificates(api: Api) -> None:
    """Retire, reinstate and revoke with confirmation, each journalled with its note; doing it twice changes nothing."""
    api.add()
    path = f"/idps/{ID}/certificates/{IDP}"
    response = api.call("POST", f"{path}/retire?dry_run=true", json={})
    assert (response.status_code, api.states()) == (200, {IDP: "trusted"})
    assert "last trusted key" in response.json()["warnings"][0]
    assert api.call("POST", f"{path}/retire", json={"note": "old"}).json()["changes"][0]["after"] == "retiring"
    again = api.call("POST", f"{path}/retire").json()
    since = api.call("GET", f"/idps/{ID}/certificates").json()["certificates"][0]["since"]
    assert (again["changed"], f"before {since[:19]}Z" in again["consequence"]) == (False, True)
    refused(api.call("POST", f"{path}/approve"), 409, "conflict", "only one that is announced or waiting")
    assert api.call("POST", f"{path}/reinstate").json()["changed"] is True
    for body in ({}, {"confirm": IDP[:7]}, {"confirm": "yes"}):
        refused(api.call("POST", f"{path}/revoke", json=body), 422, "confirmation_needed", "confirm: Revoking the key")
    assert api.states() == {IDP: "trusted"}
    response = api.call("POST", f"{path}/revoke", json={"confirm": IDP[:8], "note": "stolen"})
    assert (response.status_code, api.states()) == (200, {IDP: "revoked"})
    (act,) = ConfigStore(api.engine).list_acts(limit=1)
    assert (act.act, act.actor, act.detail["note"]) == ("certificate_revoked", ACTOR, "stolen")
    refused(api.call("POST", f"{path}/reinstate"), 422, "confirmation_needed", "confirm: Reinstating the key")
    assert api.call("POST", f"{path}/reinstate", json={"confirm": IDP[:8]}).status_code == 200
    refused(api.call("POST", f"/idps/{ID}/certificates/short/retire"), 422, "unusable", "sha256: ")
    refused(api.call("POST", f"/idps/{ID}/certificates/{'0' * 64}/retire"), 404, "not_found", "no certificate")
    refused(api.call("POST", f"{path}/retire", json={"why": "x"}), 400, "malformed", "unknown field `why`")
    assert api.call("POST", f"{path}/destroy").status_code == 404


def test_alarms(api: Api) -> None:
    """Those that stand."""
    api.add()
    assert api.call("GET", "/alarms").json() == {"alarms": []}
    alarm = Alarm(kind="k", entity_id=names.IDP, key="", severity=Severity.WARNING, text="Look.")
    TrustStore(api.engine).sync_alarms([alarm], datetime.now(UTC))
    (listed,) = api.call("GET", "/alarms").json()["alarms"]
    assert (listed["kind"], listed["text"]) == ("k", "Look.")


def test_damaged_rows_are_told(api: Api, server: MetadataServer) -> None:
    """What was changed from outside is listed as damaged, and no act on it is possible (promise 23)."""
    api.call("POST", "/idps:subscribe", json=subscription(server, policy=POLICY))
    with api.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE certificates SET state = 'revoked'")
    assert api.call("GET", f"/idps/{ID}").json()["condition"] == "damaged"
    for path in ("/refresh", "/refresh?dry_run=true", f"/certificates/{IDP}/reinstate"):
        refused(api.call("POST", f"/idps/{ID}{path}"), 409, "conflict", "changed from outside")
    refused(
        api.call("POST", "/idps", content=metadata("idp"), headers=XML_HEADERS), 409, "conflict", "changed from outside"
    )


def test_a_database_that_is_gone(api: Api) -> None:
    """503 with what to do, and no stack trace."""
    (api.directory / "fas-evidence.db").unlink()
    response = api.call("GET", "/idps")
    refused(response, 503, "store_unavailable", "fas-evidence.db")
    assert "Traceback" not in response.text


def test_token_file(tmp_path: Path) -> None:
    """Made once with 32 random bytes for its owner alone; one that others may read, or that is none, is refused."""
    path = tmp_path / "new" / "admin-token"
    token, made = load_token(path)
    assert (len(token), made, load_token(path)) == (43, True, (token, False))
    assert [file.name for file in path.parent.iterdir()] == ["admin-token"]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
        with pytest.raises(TokenFileError, match="others may read"):
            load_token(path)
        path.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(path, 65_534, -1)
            with pytest.raises(TokenFileError, match="belongs to another user"):
                load_token(path)
            os.chown(path, 0, -1)
    path.write_text("short\n")
    with pytest.raises(TokenFileError, match="does not hold a token"):
        load_token(path)
    with pytest.raises(TokenFileError, match="cannot use"):
        load_token(tmp_path)


def _environment(directory: Path, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAS_EVIDENCE_")}
    settings = {"FAS_EVIDENCE_DATA_DIR": str(directory), "FAS_EVIDENCE_ADMIN_PORT": "0"}
    return {**clean, "PYTHONPATH": str(Path(__file__).parents[2]), **settings, **more}


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    """`admin` makes its token, says where and never what it is, answers with it alone, and ends on SIGTERM."""
    command = [sys.executable, "-m", "evidence_service", "admin"]
    with subprocess.Popen(command, env=_environment(tmp_path), stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        said: list[dict[str, Any]] = []
        while not said or said[-1]["event"] != "listening":
            said.append(json.loads(running.stderr.readline()))
        path = tmp_path / "admin-token"
        token = path.read_text().strip()
        (made,) = (each for each in said if each["event"] == "admin_token")
        assert {"path": str(path), "made": True}.items() <= made.items()
        with httpx.Client(base_url=said[-1]["url"], timeout=30) as client:
            assert client.get("/api/v1/idps").status_code == 401
            headers = {"Authorization": f"Bearer {token}"}
            parts = {"metadata": metadata("idp"), "policy": policy_text().encode()}
            response = client.post("/api/v1/idps", files=parts, headers=headers)
            assert response.status_code == 201, response.text
            found = client.get(f"/api/v1/idps/{quote(names.IDP, safe='')}", headers=headers)
            assert (found.status_code, found.json()["id"]) == (200, ID)
            assert "server" not in found.headers
            assert guarded(found)
        running.send_signal(signal.SIGTERM)
        rest = running.stderr.read()
        assert running.wait(timeout=30) == 0
    assert token not in json.dumps(said) + rest
    assert '"admin_call"' in rest


@pytest.mark.parametrize(
    ("prepare", "more", "complaint"),
    [
        (lambda path: (path / "admin-token").write_text("x"), {}, "admin_token_file: "),
        (Path.exists, {"FAS_EVIDENCE_ADMIN_HOST": "0.0.0.0"}, "admin_host: 0.0.0.0 is not a loopback address"),
        (
            Path.exists,
            {"FAS_EVIDENCE_ADMIN_TLS_CERTIFICATE": "absent.pem", "FAS_EVIDENCE_ADMIN_TLS_KEY": "absent.key"},
            "admin_tls_certificate: cannot read absent.pem",
        ),
    ],
    ids=["token", "host", "tls"],
)
def test_a_start_that_fails(
    tmp_path: Path, prepare: Callable[[Path], object], more: dict[str, str], complaint: str
) -> None:
    """Exit code 2 and one line that names the setting."""
    prepare(tmp_path)
    command = [sys.executable, "-m", "evidence_service", "admin"]
    ran = subprocess.run(
        command, env=_environment(tmp_path, **more), capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 2
    assert complaint in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr
