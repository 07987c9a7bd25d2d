"""`idp subscribe`, `unsubscribe`, `refresh`, `diff`: metadata from a real HTTPS server into a real database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import open_database
from tests.cli.given import Place, fas_evidence, federation, process
from tests.cli.sources import Source, altered, held, metadata, source, states
from tests.corpus import keys, names
from tests.metadata.server import Shows

IDP, NEXT = keys.fingerprint("idp"), keys.fingerprint("idp_next")


@pytest.fixture
def served(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    """A source that this machine may be fetched from."""
    monkeypatch.setenv("FAS_EVIDENCE_METADATA_ALLOW_LOOPBACK", "true")
    with source(place) as ready:
        yield ready


@pytest.fixture
def subscribed(place: Place, served: Source) -> Source:
    """An IdP that is fetched."""
    ran = served.subscribe("--policy", place.policy, "--yes")
    assert (ran.code, ran.err) == (0, "")
    return served


def shown() -> Any:  # noqa: ANN401 - as the command printed it
    """The IdP as `idp show` has it."""
    return fas_evidence("idp", "show", names.IDP, "-o", "json").json


def acts(place: Place) -> list[str]:
    """What the journal of acts holds, newest first."""
    engine = open_database(f"sqlite:///{place.database}", create=False)
    try:
        return [f"{act.act} {act.actor.partition(':')[0]}" for act in ConfigStore(engine).list_acts()]
    finally:
        engine.dispose()


def test_a_new_idp_is_registered_by_a_persons_word(place: Place, served: Source) -> None:
    """It shows certificates, signature and the server's TLS certificate; then IdP and source are stored."""
    ran = served.subscribe("--policy", place.policy, "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert f"added  {IDP}" in ran.out
    assert f"signed by its own key (certificate {IDP}), which proves nothing" in ran.out
    assert f"TLS certificate {served.server.leaf_sha256}" in ran.out
    assert ran.out.splitlines()[-1].startswith(f"{names.IDP} is subscribed")
    view = shown()
    assert states() == {IDP: "trusted"}
    assert (view["source"]["url"], view["source"]["problem"]) == (served.url, None)
    assert view["source"]["last_success"] is not None
    assert {"idp_added cli", "source_added cli"} <= set(acts(place))
    assert served.server.requests("/md") == 1


def test_a_dry_run_fetches_and_makes_nothing(place: Place, served: Source) -> None:
    """The diff is shown, and neither database nor directory appears."""
    ran = served.subscribe("--policy", place.policy, "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert f"added  {IDP}" in ran.out
    assert ran.out.splitlines()[-1] == "Nothing was changed (--dry-run)."
    assert not place.database.parent.exists()
    json = served.subscribe("--policy", place.policy, "--dry-run", "-o", "json").json
    assert [each["change"] for each in json["certificates"]] == ["added"]
    assert json["signature"]["by"] == "own_key"
    assert json["fetched"]["tls_chain_sha256"][0] == served.server.leaf_sha256


def test_the_first_trust_needs_a_confirmation(place: Place, served: Source) -> None:
    """Off a terminal --yes is needed; on one, anything but yes changes nothing."""
    ran = served.subscribe("--policy", place.policy)
    assert ran.code == 2
    assert ran.complaint.endswith("add --yes")
    assert not place.database.exists()
    arguments = ("idp", "subscribe", served.url, "--ca", served.ca, "--policy", place.policy)
    ran = fas_evidence(*arguments, stdin=b"n\n", terminal=True)
    assert (ran.code, place.database.exists()) == (1, False)
    assert fas_evidence(*arguments, stdin=b"y\n", terminal=True).code == 0


def test_without_a_policy_a_new_idp_is_refused_and_one_is_printed(place: Place, served: Source) -> None:
    """As with `idp add`."""
    ran = served.subscribe("--yes")
    assert ran.code == 2
    assert "has no usable policy yet" in ran.complaint
    assert "audiences" in ran.out
    assert not place.database.exists()


def test_a_registered_idp_is_judged_by_what_is_trusted(place: Place, served: Source) -> None:
    """A new key that the old one signed for is announced; --acceptance changes the stored policy."""
    place.add_idp()
    served.serve(metadata("idp", "idp_next", by="idp"))
    ran = served.subscribe("--acceptance", "tls", "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert "which is trusted already" in ran.out
    assert states() == {IDP: "trusted", NEXT: "announced"}
    assert shown()["policy"]["acceptance"] == "tls"


def test_a_registered_idp_whose_new_key_nobody_vouches_for(place: Place, served: Source) -> None:
    """The source is stored, the key waits, exit code 1 says so (G21: its own signature proves nothing)."""
    place.add_idp()
    served.serve(metadata("idp", "idp_next", by="idp_next"))
    ran = served.subscribe("--yes")
    assert ran.code == 1
    assert f"waits  {NEXT}" in ran.out
    assert "signed by its own key" in ran.out
    assert len(held()) == 1
    assert states() == {IDP: "trusted", NEXT: "waiting"}


@pytest.mark.parametrize(
    ("show", "code", "complaint"),
    [
        (Shows.OTHER_CA, 3, "metadata_untrusted"),
        (Shows.EXPIRED, 3, "metadata_untrusted"),
        (Shows.WRONG_NAME, 3, "metadata_untrusted"),
        (Shows.SELF_SIGNED, 3, "metadata_untrusted"),
    ],
)
def test_a_server_that_is_not_proven(place: Place, served: Source, show: Shows, code: int, complaint: str) -> None:
    """Nothing is asked of it, and nothing is made."""
    served.server.present(show)
    ran = served.subscribe("--policy", place.policy, "--yes")
    assert (ran.code, ran.out) == (code, "")
    assert complaint in ran.complaint
    assert "subscribe with it (--ca FILE, or ca_pem" in ran.complaint
    assert served.server.requests("/md") == 0
    assert not place.database.exists()


def test_a_pin_is_asked_for_in_addition(place: Place, served: Source) -> None:
    """Another server certificate than the pinned one is refused, the pinned one taken, colons and all."""
    ran = served.subscribe("--policy", place.policy, "--yes", "--pin", "0" * 64)
    assert ran.code == 3
    assert "metadata_untrusted" in ran.complaint
    assert "(--pin, or pin_sha256)" in ran.complaint
    leaf = served.server.leaf_sha256.upper()
    pin = ":".join(leaf[start : start + 2] for start in range(0, 64, 2))
    assert served.subscribe("--policy", place.policy, "--yes", "--pin", pin).code == 0
    assert shown()["source"]["pin_sha256"] == leaf.lower()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"<html><body>Sign in</body></html>", "metadata_not_saml"),
        (metadata("idp")[:200], "xml_malformed"),
        (altered(metadata("idp", by="idp")), "metadata_signature_invalid"),
        (metadata("idp", until="2020-01-01T00:00:00Z"), "metadata_expired"),
        (metadata("weak"), "certificate_weak_key"),
        (metadata(), "metadata_no_cert"),
    ],
    ids=["login_page", "cut", "altered", "expired", "weak", "no_key"],
)
def test_a_document_that_cannot_be_taken_over(place: Place, served: Source, content: bytes, complaint: str) -> None:
    """Exit code 3 with its reason, and nothing is made (promise 24)."""
    served.serve(content)
    ran = served.subscribe("--policy", place.policy, "--yes")
    assert (ran.code, ran.out) == (3, "")
    assert complaint in ran.complaint
    assert not place.database.exists()


def test_one_idp_of_a_federation(place: Place, served: Source) -> None:
    """The one that is meant must be named, and is the only one registered (promise 39)."""
    served.serve(federation())
    ran = served.subscribe("--policy", place.policy, "--yes")
    assert ran.code == 2
    assert f"choose one with --entity-id: {names.IDP}, {names.OTHER_IDP}" in ran.complaint
    ran = served.subscribe("--policy", place.policy, "--yes", "--entity-id", "https://absent.example")
    assert ran.code == 2
    assert "metadata_entity_mismatch" in ran.complaint
    assert served.subscribe("--policy", place.policy, "--yes", "--entity-id", names.OTHER_IDP).code == 0
    assert [idp["entity_id"] for idp in fas_evidence("idp", "list", "-o", "json").json] == [names.OTHER_IDP]


def test_a_metadata_certificate_must_have_signed(place: Place, served: Source) -> None:
    """The operator's certificate is asked for, by its own signature alone."""
    operator = place.write("operator.der", keys.certificate("idp_b"))
    options = ("--policy", place.policy, "--yes", "--metadata-certificate", operator)
    ran = served.subscribe(*options)
    assert ran.code == 3
    assert "metadata_signature_invalid" in ran.complaint
    served.serve(metadata("idp", by="idp_b"))
    ran = served.subscribe(*options)
    assert (ran.code, ran.err) == (0, "")
    assert f"signed by the metadata certificate {keys.fingerprint('idp_b')}" in ran.out
    assert shown()["source"]["metadata_certificate_sha256"] == keys.fingerprint("idp_b")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--acceptance", "anything"), "invalid value for '--acceptance': 'anything' is not one of"),
        (("--ca", "absent.pem"), "CA file absent.pem does not exist"),
        (("--ca", "key.pem"), "--ca key.pem: metadata_bad_cert: expected certificates only, found a private key"),
        (("--pin", "12ab"), "pin_sha256: expected the SHA-256"),
        (("--metadata-certificate", "key.pem"), "key.pem: metadata_bad_cert"),
        (("--policy", "absent.toml"), "policy file absent.toml does not exist"),
        (("--policy", "empty.toml"), "the policy allows nobody"),
        (("-o", "xml"), "'xml' is not one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_options(place: Place, served: Source, options: tuple[str, ...], complaint: str) -> None:
    """Exit code 2, one line that names the option, nothing made."""
    place.write("key.pem", keys.pem("idp"))
    place.write("empty.toml", "")
    given = ("--policy", str(place.policy), *options) if "--policy" not in options else options
    arguments = given if "--ca" in options else ("--ca", str(served.ca), *given)
    ran = fas_evidence("idp", "subscribe", served.url, *arguments, "--yes")
    assert (ran.code, ran.out) == (2, "")
    assert complaint in ran.complaint
    assert not place.database.exists()


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example/md",
        "ftp://idp.example/md",
        "idp.example/md",
        "https://u:p@idp.example/",
        "https://10.1.1.1#x",
    ],
)
def test_only_plain_https_addresses(place: Place, served: Source, url: str) -> None:
    """Anything else is refused before anything is asked (promise 40), without showing a password."""
    ran = served.subscribe("--policy", place.policy, "--yes", url=url)
    assert ran.code == 2
    assert "metadata_url" in ran.complaint
    assert not place.database.exists()


def test_this_machine_is_fetched_from_only_when_told(
    place: Place, served: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loopback address is refused by default."""
    monkeypatch.delenv("FAS_EVIDENCE_METADATA_ALLOW_LOOPBACK")
    ran = served.subscribe("--policy", place.policy, "--yes")
    assert ran.code == 2
    assert "a loopback address, fetched from only with the setting metadata_allow_loopback = true" in ran.complaint
    assert served.server.requests("/md") == 0


def test_refresh(subscribed: Source, place: Place) -> None:
    """Unchanged, taken over, refused: exit codes 0, 0 and 3, and the old trust stays after a refusal."""
    ran = fas_evidence("idp", "refresh", names.IDP)
    assert (ran.code, ran.err) == (0, "")
    assert "the source says what is held already" in ran.out
    subscribed.serve(metadata("idp", "idp_next", by="idp"))
    ran = fas_evidence("idp", "refresh", names.IDP, "--dry-run")
    assert ran.code == 0
    assert f"added  {NEXT}" in ran.out
    assert states() == {IDP: "trusted"}
    ran = fas_evidence("idp", "refresh", names.IDP)
    assert ran.code == 0
    assert f"{NEXT}: new -> announced" in ran.out
    assert states() == {IDP: "trusted", NEXT: "announced"}
    subscribed.serve(b"<html/>")
    ran = fas_evidence("idp", "refresh", names.IDP)
    assert (ran.code, ran.out) == (3, "")
    assert "metadata_not_saml" in ran.complaint
    assert states() == {IDP: "trusted", NEXT: "announced"}
    view = shown()
    assert (view["condition"], view["source"]["problem_code"]) == ("metadata not refreshed", "metadata_not_saml")
    table = fas_evidence("idp", "show", names.IDP).out
    assert "metadata_not_saml" in table
    assert subscribed.url in table
    assert "rollover_applied system" in acts(place)


def test_refresh_of_what_waits(subscribed: Source) -> None:
    """Exit code 1 and where to go on; the dry run says the same and records nothing."""
    subscribed.serve(metadata("idp_next", by="idp_next"))
    ran = fas_evidence("idp", "refresh", names.IDP, "--dry-run")
    assert ran.code == 1
    assert f"waits    {NEXT}" in ran.out
    assert held() == []
    ran = fas_evidence("idp", "refresh", names.IDP)
    assert ran.code == 1
    (waiting,) = held()
    assert f"Next: fas-evidence rollover show {waiting}" in ran.out
    assert "metadata_key_withheld" in ran.out
    json = fas_evidence("idp", "refresh", names.IDP, "-o", "json").json
    assert (json["outcome"], json["rollovers"]) == ("held", [waiting])
    assert states()[IDP] == "trusted"


def test_refresh_without_a_source(place: Place) -> None:
    """A negative answer that says what to do; an unknown IdP is one too."""
    place.add_idp()
    for command in ("refresh", "diff"):
        ran = fas_evidence("idp", command, names.IDP)
        assert ran.code == 1
        assert "has no metadata source" in ran.complaint
        ran = fas_evidence("idp", command, "https://absent.example")
        assert ran.code == 1
        assert "no identity provider 'https://absent.example' is registered" in ran.complaint


def test_a_source_that_is_gone(subscribed: Source) -> None:
    """Exit code 3, and the failure is remembered with the source."""
    subscribed.server.stop()
    ran = fas_evidence("idp", "refresh", names.IDP)
    assert ran.code == 3
    assert "metadata_unreachable" in ran.complaint
    assert shown()["source"]["failures"] == 1


def test_diff_with_the_source(subscribed: Source) -> None:
    """0 where nothing differs, 1 where something does, 3 where it cannot be had; nothing changes."""
    assert fas_evidence("idp", "diff", names.IDP).code == 0
    subscribed.serve(metadata("idp", "idp_next", by="idp"))
    ran = fas_evidence("idp", "diff", names.IDP)
    assert ran.code == 1
    assert f"added  {NEXT}" in ran.out
    assert fas_evidence("idp", "diff", names.IDP, "-o", "json").json["signature"]["by"] == "trusted"
    subscribed.serve(b"nothing")
    ran = fas_evidence("idp", "diff", names.IDP)
    assert (ran.code, ran.out) == (3, "")
    assert "xml_malformed" in ran.complaint
    assert states() == {IDP: "trusted"}
    assert shown()["source"]["failures"] == 0


def test_diff_with_a_file(place: Place) -> None:
    """A file is compared without asking anybody; wrong files are refused by their reason."""
    place.add_idp()
    assert fas_evidence("idp", "diff", names.IDP, place.metadata).code == 0
    other = place.write("other.xml", metadata("idp_next", by="idp"))
    ran = fas_evidence("idp", "diff", names.IDP, other)
    assert ran.code == 1
    assert f"added  {NEXT}" in ran.out
    assert f"gone   {IDP}" in ran.out
    assert f"signed by certificate {IDP}, which is trusted already" in ran.out
    foreign = place.write("foreign.xml", metadata("idp_b", entity_id=names.OTHER_IDP))
    for file, code, complaint in (
        (foreign, 2, "metadata_entity_mismatch"),
        (place.directory / "absent.xml", 2, "does not exist"),
        (place.write("key.pem", keys.pem("idp")), 2, "xml_malformed"),
        (place.write("page.html", b"<html/>"), 2, "metadata_not_saml"),
    ):
        ran = fas_evidence("idp", "diff", names.IDP, file)
        assert ran.code == code
        assert complaint in ran.complaint
        assert str(file) in ran.complaint
    assert states() == {IDP: "trusted"}


def test_a_rejected_certificate_stays_away(subscribed: Source, place: Place) -> None:
    """Also where the trusted key signed for it; refresh and diff say the same, twice, and by a 304 too."""
    policy = place.policy.read_text() + 'acceptance = "approval"\n'
    assert fas_evidence("idp", "policy", names.IDP, "--policy", place.write("approval.toml", policy)).code == 0
    subscribed.serve(metadata("idp", "idp_next", by="idp"), etag='"1"')
    assert fas_evidence("idp", "refresh", names.IDP).code == 1
    assert fas_evidence("rollover", "reject", held()[0]).code == 0
    for command, said in (("refresh", "what is held already"), ("diff", "what is held")) * 2:
        ran = fas_evidence("idp", command, names.IDP)
        assert ran.code == 0
        assert f"the source says {said}; what was rejected stays away: {NEXT[:16]}\n" in ran.out
    assert f"rejected  {NEXT}  rejected" in ran.out
    assert subscribed.server.asked("/md")[-1]["if-none-match"] == '"1"'
    assert states() == {IDP: "trusted"}


def test_what_left_before_is_no_part_of_a_diff(place: Place, served: Source) -> None:
    """A key that is revoked or retiring and not listed is neither kept nor gone again."""
    place.add_idp()
    fas_evidence("idp", "add", "--metadata", place.write("next.xml", metadata("idp_next")))
    assert states() == {IDP: "retiring", NEXT: "trusted"}
    served.serve(metadata("idp_next"))
    assert served.subscribe("--yes").code == 0
    for event in ((), ("key", "revoke", IDP, "--idp", names.IDP, "--yes")):
        if event:
            assert fas_evidence(*event).code == 0
        for arguments in ((), (place.directory / "next.xml",)):
            ran = fas_evidence("idp", "diff", names.IDP, *arguments, "-o", "json")
            assert ran.code == 0
            assert [(each["change"], each["sha256"]) for each in ran.json["certificates"]] == [("kept", NEXT)]


def test_unsubscribe(subscribed: Source, place: Place) -> None:
    """The source goes, the trust stays; a second time there is nothing."""
    ran = fas_evidence("idp", "unsubscribe", names.IDP, "--dry-run")
    assert (ran.code, "would no longer be fetched" in ran.out) == (0, True)
    assert fas_evidence("idp", "unsubscribe", names.IDP).code == 0
    assert shown()["source"] is None
    assert states() == {IDP: "trusted"}
    assert fas_evidence("idp", "unsubscribe", names.IDP).code == 1
    assert "source_removed cli" in acts(place)
    assert subscribed.server.requests("/md") == 1


def test_list_says_what_matters(subscribed: Source) -> None:
    """The condition names what waits for a person, before what is merely late."""
    assert "enabled" in fas_evidence("idp", "list").out
    subscribed.serve(metadata("idp_next", by="idp_next"))
    fas_evidence("idp", "refresh", names.IDP)
    assert "rollover waits for approval" in fas_evidence("idp", "list").out
    table = fas_evidence("idp", "show", names.IDP).out
    assert f"rollover {held()[0]}: {NEXT}" in table
    assert f"Next: fas-evidence rollover show {held()[0]}" in table


def test_a_damaged_idp_is_not_refreshed(subscribed: Source, place: Place) -> None:
    """Rows that were changed from outside are said to be so, and nothing is written (promise 23)."""
    del subscribed
    engine = open_database(f"sqlite:///{place.database}", create=False)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE certificates SET state = 'revoked'")
    engine.dispose()
    for command in (("refresh",), ("refresh", "--dry-run"), ("diff",)):
        ran = fas_evidence("idp", command[0], names.IDP, *command[1:])
        assert ran.code == 2
        assert "changed from outside" in ran.complaint
    assert shown()["condition"] == "damaged"


def test_a_source_changed_from_outside_is_not_fetched(subscribed: Source, place: Place) -> None:
    """Another address than the administrator's is never asked."""
    before = subscribed.server.requests("/md")
    engine = open_database(f"sqlite:///{place.database}", create=False)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE sources SET url = url || '?x'")
    engine.dispose()
    ran = fas_evidence("idp", "refresh", names.IDP)
    assert ran.code == 2
    assert "changed from outside" in ran.complaint
    assert subscribed.server.requests("/md") == before


def test_in_a_process_of_its_own(subscribed: Source) -> None:
    """The command as its users run it: same words, same exit codes."""
    subscribed.serve(metadata("idp", "idp_next", by="idp"))
    ran = process("idp", "refresh", names.IDP)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert NEXT.encode() in ran.stdout
    subscribed.server.stop()
    ran = process("idp", "refresh", names.IDP)
    assert (ran.returncode, ran.stdout) == (3, b"")
    assert ran.stderr.startswith(b"error: metadata_unreachable")
    assert ran.stderr.count(b"\n") == 1


def test_removing_an_idp_ends_its_source(subscribed: Source) -> None:
    """Nobody fetches for an IdP that is not registered."""
    assert fas_evidence("idp", "remove", names.IDP, "--yes").code == 0
    ran = fas_evidence("idp", "refresh", names.IDP)
    assert ran.code == 1
    assert "is registered" in ran.complaint
    assert subscribed.server.requests("/md") == 1


def test_a_source_that_says_not_modified(place: Place, served: Source) -> None:
    """The accepted document's ETag is sent, and a 304 is a sighting of that document, for `diff` as for `refresh`."""
    served.serve(metadata("idp", by="idp"), etag='"1"')
    assert served.subscribe("--policy", place.policy, "--yes").code == 0
    for command in (("refresh",), ("refresh", "--dry-run"), ("diff",)):
        ran = fas_evidence("idp", command[0], names.IDP, *command[1:])
        assert (ran.code, ran.err) == (0, "")
        assert served.server.asked("/md")[-1]["if-none-match"] == '"1"'
    assert states() == {IDP: "trusted"}


def test_a_certificate_that_leaves_is_shown_as_missing(subscribed: Source) -> None:
    """One document without it withdraws nothing (promise 34); the diff and `idp show` say so."""
    subscribed.serve(metadata("idp_next", by="idp"))
    ran = fas_evidence("idp", "diff", names.IDP)
    assert ran.code == 1
    assert f"missing  {IDP}" in ran.out
    ran = fas_evidence("idp", "refresh", names.IDP)
    assert ran.code == 0
    assert f"the source lacks certificates that are held: {IDP[:16]}; withdrawn after 3 documents without it" in ran.out
    assert states() == {IDP: "trusted", NEXT: "announced"}
    assert f"Certificate {IDP[:16]} is missing in its metadata since " in fas_evidence("idp", "show", names.IDP).out
