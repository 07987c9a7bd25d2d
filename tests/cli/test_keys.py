"""`key`: revoking and trusting signing keys, in a real database and for a running service."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import open_database, to_microseconds
from tests.cli.given import Place, document, fas_evidence, serving_environment, until
from tests.corpus import keys, names
from tests.corpus.good import policy_text
from tests.corpus.metadata_documents import descriptor

IDP, NEXT = keys.fingerprint("idp"), keys.fingerprint("idp_next")


@pytest.fixture
def two_keys(place: Place) -> Place:
    """An IdP with two keys."""
    place.write("metadata.xml", document(descriptor(names.IDP, ("idp", "idp_next"))))
    assert place.add_idp().code == 0
    return place


def states(*options: str) -> dict[str, str]:
    """Certificates and their states, as listed."""
    return {each["sha256"]: each["state"] for each in fas_evidence("key", "list", *options, "-o", "json").json}


def test_list(two_keys: Place) -> None:
    """All keys, or those of one IdP, with entity ID and state; an unknown IdP is a negative answer."""
    del two_keys
    assert states() == states(names.IDP) == {IDP: "trusted", NEXT: "trusted"}
    table = fas_evidence("key", "list").out
    assert IDP in table
    assert names.IDP in table
    assert fas_evidence("key", "list", "https://absent.example").code == 1


def test_revoke_and_reinstate(two_keys: Place) -> None:
    """A prefix suffices; what happens is said; each does it once; the note is kept in the journal."""
    ran = fas_evidence("key", "revoke", IDP[:8], "--idp", names.IDP, "--yes", "--note", "stolen")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        f"The certificate {IDP} of {names.IDP} is revoked: everything signed by it is denied, whenever it was issued.\n"
    )
    assert states() == {IDP: "revoked", NEXT: "trusted"}
    assert "is revoked already" in fas_evidence("key", "revoke", IDP, "--idp", names.IDP, "--yes").out
    engine = open_database(f"sqlite:///{two_keys.database}", create=False)
    (act,) = ConfigStore(engine).list_acts(limit=1)
    engine.dispose()
    assert (act.act, act.detail["note"]) == ("certificate_revoked", "stolen")
    ran = fas_evidence("key", "reinstate", IDP[:12].upper(), "--idp", names.IDP, "--yes")
    assert (ran.code, states()) == (0, {IDP: "trusted", NEXT: "trusted"})


def test_reinstating_needs_a_confirmation(two_keys: Place) -> None:
    """Trusting a key again that was revoked is no slip of the keyboard."""
    del two_keys
    fas_evidence("key", "revoke", IDP, "--idp", names.IDP, "--yes")
    assert fas_evidence("key", "reinstate", IDP, "--idp", names.IDP).code == 2
    assert states()[IDP] == "revoked"
    assert fas_evidence("key", "reinstate", IDP, "--idp", names.IDP, stdin=IDP[:8].encode(), terminal=True).code == 0
    assert states()[IDP] == "trusted"


def test_revoking_needs_a_confirmation(two_keys: Place) -> None:
    """Off a terminal --yes; on one the first eight digits, after it was said that the denial is immediate."""
    del two_keys
    command = ("key", "revoke", IDP, "--idp", names.IDP)
    ran = fas_evidence(*command)
    assert (ran.code, ran.out) == (2, "")
    assert "denies at once everything that is signed by it" in ran.complaint
    assert fas_evidence(*command, stdin=b"yes\n", terminal=True).code == 1
    assert states()[IDP] == "trusted"
    ran = fas_evidence(*command, stdin=IDP[:8].encode() + b"\n", terminal=True)
    assert (ran.code, states()[IDP]) == (0, "revoked")
    assert "denies at once everything that is signed by it" in ran.err


def test_the_last_trusted_key(place: Place) -> None:
    """Before the only good key goes, it is said that nothing of the IdP will be accepted; a dry run changes nothing."""
    place.add_idp()
    for verb in ("revoke", "retire"):
        ran = fas_evidence("key", verb, IDP, "--idp", names.IDP, "--dry-run")
        assert ran.code == 0
        assert f"warning: it is the last trusted key of {names.IDP}" in ran.err
        assert states() == {IDP: "trusted"}
    ran = fas_evidence("key", "revoke", IDP, "--idp", names.IDP, "--yes")
    assert (ran.code, states()) == (0, {IDP: "revoked"})
    assert "it is the last trusted key" in ran.err


def test_retire_and_approve(two_keys: Place) -> None:
    """A retired key is good for what it signed before; only an announced one can be approved."""
    del two_keys
    ran = fas_evidence("key", "retire", IDP, "--idp", names.IDP)
    assert (ran.code, ran.err, states()[IDP]) == (0, "", "retiring")
    assert "is retiring: what it signed before " in ran.out
    assert "is accepted until it is too old, and nothing newer" in ran.out
    ran = fas_evidence("key", "approve", IDP, "--idp", names.IDP)
    assert ran.code == 2
    assert ran.complaint.endswith("is retiring, and only one that is announced or waiting can be approved")
    ran = fas_evidence("key", "reinstate", IDP, "--idp", names.IDP)
    assert (ran.code, states()[IDP]) == (2, "retiring")
    assert ran.complaint.endswith("add --yes")
    assert fas_evidence("key", "reinstate", IDP, "--idp", names.IDP, "--yes").code == 0
    assert "is trusted already" in fas_evidence("key", "approve", IDP, "--idp", names.IDP).out


def test_retiring_what_is_in_use_or_the_last_needs_a_confirmation(two_keys: Place) -> None:
    """Sign-ins would fail, so it is typed or given --yes; a key that nobody would miss goes without."""
    now = datetime.now(UTC)
    use(two_keys, NEXT, first=now - timedelta(days=9), last=now - timedelta(minutes=5), sign_ins=1)
    assert "has signed 1 sign-in since " in fas_evidence("idp", "show", names.IDP).out
    command = ("key", "retire", NEXT, "--idp", names.IDP)
    ran = fas_evidence(*command)
    assert (ran.code, states()[NEXT]) == (2, "trusted")
    assert ran.err.splitlines()[-1].endswith("add --yes")
    assert fas_evidence(*command, stdin=b"yes\n", terminal=True).code == 1
    assert fas_evidence(*command, stdin=NEXT[:8].encode() + b"\n", terminal=True).code == 0
    assert states() == {IDP: "trusted", NEXT: "retiring"}
    last = ("key", "retire", IDP, "--idp", names.IDP)
    assert (fas_evidence(*last).code, states()[IDP]) == (2, "trusted")
    assert (fas_evidence(*last, "--yes").code, states()[IDP]) == (0, "retiring")
    ran = fas_evidence("config", "validate")
    assert ran.code == 1
    assert "no certificate is trusted, so every new sign-in is denied" in ran.out


@pytest.mark.parametrize(
    ("sha256", "code", "complaint"),
    [
        (IDP[:7], 2, "give at least its first 8 digits"),
        ("not-hexadecimal", 2, "is not a certificate's SHA-256"),
        (IDP + "00", 2, "is not a certificate's SHA-256"),
        ("0" * 64, 1, "has no certificate whose SHA-256 begins with"),
    ],
    ids=["short", "words", "long", "unknown"],
)
def test_a_key_that_cannot_be_meant(two_keys: Place, sha256: str, code: int, complaint: str) -> None:
    """The argument is named, and no key is touched."""
    del two_keys
    ran = fas_evidence("key", "revoke", sha256, "--idp", names.IDP, "--yes")
    assert ran.code == code
    assert complaint in ran.complaint
    assert states() == {IDP: "trusted", NEXT: "trusted"}
    assert fas_evidence("key", "revoke", IDP, "--idp", "https://absent.example", "--yes").code == 1


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The address of a running service."""
    command = [sys.executable, "-m", "evidence_service", "serve", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=serving_environment(), text=True
    ) as running:
        assert running.stdout is not None
        try:
            yield next(
                text[text.index("http://") :].split('"')[0].split()[0]
                for text in running.stdout
                if "listening" in text and "http://" in text
            )
        finally:
            running.terminate()
            running.stdout.read()


def asked(url: str, key: str, evidence: bytes) -> tuple[str, str]:
    """Decision and reason that the service answers for Alice."""
    value = b64encode(evidence).decode()
    question: dict[str, Any] = {
        "request_id": "q1",
        "upn": names.ALICE,
        "evidence": [{"type": "SAMLResponse", "value": value}],
    }
    request = urllib.request.Request(
        f"{url}/v1/decisions",
        data=json.dumps(question).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer = json.load(reply)
    return answer["decision"], answer["reason"]


def test_a_running_service_obeys_a_revocation(place: Place) -> None:
    """After the command the service soon denies what it allowed before, and allows it when reinstated."""
    place.write("policy.toml", policy_text(max_age="3650d"))
    assert place.add_idp().code == 0
    key = fas_evidence("plugin", "enroll", "local", "--bearer").out.splitlines()[-1]
    evidence = place.evidence.read_bytes()
    with serving() as url:
        assert asked(url, key, evidence) == ("allow", "ok")
        assert fas_evidence("key", "revoke", IDP[:8], "--idp", names.IDP, "--yes").code == 0
        until(lambda: asked(url, key, evidence) == ("deny", "certificate_revoked"))
        assert fas_evidence("key", "reinstate", IDP[:8], "--idp", names.IDP, "--yes").code == 0
        until(lambda: asked(url, key, evidence) == ("allow", "ok"))


def use(place: Place, sha256: str, *, first: datetime, last: datetime, sign_ins: int) -> None:
    """Record sign-ins by this certificate, as decisions do."""
    engine = open_database(f"sqlite:///{place.database}", create=False)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO usage (entity_id, certificate_sha256, day, sign_ins, launches, late_sign_ins, first_sign_in,"
            " last_sign_in) VALUES (?, ?, ?, ?, ?, 0, ?, ?)",
            (
                names.IDP,
                sha256,
                (last - datetime(1970, 1, 1, tzinfo=UTC)).days,
                sign_ins,
                3 * sign_ins,
                to_microseconds(first),
                to_microseconds(last),
            ),
        )
    engine.dispose()


def test_use_says_which_key_may_go(two_keys: Place) -> None:
    """An old key without sign-ins while the new one signs is safe to retire; first and last use are shown."""
    now = datetime.now(UTC)
    use(two_keys, IDP, first=now - timedelta(days=400), last=now - timedelta(days=9), sign_ins=1200)
    use(two_keys, NEXT, first=now - timedelta(days=9), last=now - timedelta(minutes=5), sign_ins=80)
    out = fas_evidence("idp", "show", names.IDP).out
    assert f"Certificate {IDP[:16]} has signed 1,200 sign-ins since " in out
    assert out.count("safe to retire") == 1
    old, new = fas_evidence("idp", "show", names.IDP, "-o", "json").json["certificates"]
    assert (old["sha256"], old["safe_to_retire"], new["safe_to_retire"]) == (IDP, True, False)
    shown = fas_evidence("key", "show", IDP, "--idp", names.IDP, "-o", "json").json
    assert shown["usage"]["per_day"] == {(now - timedelta(days=9)).date().isoformat(): 1200}
    assert shown["last_used"] is not None
    assert "1200" in fas_evidence("key", "show", IDP, "--idp", names.IDP).out


def test_revoking_the_key_in_use_says_what_it_means(two_keys: Place) -> None:
    """Before the key that signs now goes, it is said whom that hits; the other one goes without."""
    now = datetime.now(UTC)
    use(two_keys, NEXT, first=now - timedelta(days=9), last=now - timedelta(minutes=5), sign_ins=80)
    ran = fas_evidence("key", "revoke", NEXT, "--idp", names.IDP, "--dry-run")
    assert ran.code == 0
    assert f"warning: it is the key that {names.IDP} signs with (last sign-in " in ran.err
    assert "must sign in again" in ran.err
    assert "sign-ins fail" in fas_evidence("key", "retire", NEXT, "--idp", names.IDP, "--dry-run").err
    assert fas_evidence("key", "revoke", IDP, "--idp", names.IDP, "--dry-run").err == ""
    assert states() == {IDP: "trusted", NEXT: "trusted"}
