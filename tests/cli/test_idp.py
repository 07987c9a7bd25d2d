"""`idp`: registering, showing and removing identity providers in a real database."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
import tomllib
from base64 import b64encode
from pathlib import Path

import pytest

from evidence_service.access.policy import parse_policy, policy_problems
from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import open_database
from tests.cli.given import Place, document, fas_evidence, federation, until
from tests.cli.sources import altered, metadata
from tests.corpus import keys, names
from tests.corpus.good import policy_text
from tests.corpus.metadata_documents import descriptor


def entity_ids(place: Place) -> list[str]:
    """What is registered."""
    if not place.database.exists():
        return []
    engine = open_database(f"sqlite:///{place.database}", create=False)
    try:
        return [idp.entity_id for idp in ConfigStore(engine).list_idps()]
    finally:
        engine.dispose()


def test_add_and_show(place: Place) -> None:
    """A registered IdP is listed and shown with policy, certificate, state, dates, key and provenance."""
    ran = place.add_idp()
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0] == f"{names.IDP} is registered."
    assert names.IDP in fas_evidence("idp", "list").out
    shown = fas_evidence("idp", "show", names.IDP, "-o", "json").json
    assert shown["entity_id"] == names.IDP
    assert shown["enabled"] is True
    assert shown["policy"]["audiences"] == [names.GATEWAY]
    assert shown["policy_problems"] == []
    (certificate,) = shown["certificates"]
    assert certificate["sha256"] == keys.fingerprint("idp")
    assert (certificate["state"], certificate["key"]) == ("trusted", "RSA 2048")
    assert certificate["not_after"] == "2035-01-01T00:00:00Z"
    assert certificate["days_left"] > 0
    assert "imported by cli:" in certificate["provenance"]
    table = fas_evidence("idp", "show", names.IDP)
    assert table.code == 0
    for text in (keys.fingerprint("idp"), "trusted", "RSA 2048", "2035-01-01T00:00:00Z", 'max_age = "8h"'):
        assert text in table.out


def test_lists_as_json(place: Place) -> None:
    """Every list has a JSON form, also an empty one."""
    assert fas_evidence("db", "upgrade").code == 0
    for noun in ("idp", "rule", "plugin", "decision"):
        ran = fas_evidence(noun, "list", "-o", "json")
        assert (ran.code, ran.json, ran.err) == (0, [], "")
        assert fas_evidence(noun, "list").code == 0
    place.add_idp()
    assert [idp["entity_id"] for idp in fas_evidence("idp", "list", "-o", "json").json] == [names.IDP]


def test_a_dry_run_on_a_new_machine_makes_nothing(place: Place) -> None:
    """The diff is shown, and neither database nor directory appears."""
    before = place.files()
    ran = place.add_idp("--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert "would be registered" in ran.out
    assert f"added  {keys.fingerprint('idp')}" in ran.out
    assert ran.out.splitlines()[-1] == "Nothing was changed (--dry-run)."
    assert place.files() == before
    assert not place.database.parent.exists()


def test_a_dry_run_shows_what_would_come_stay_and_go(place: Place) -> None:
    """Added, kept and gone certificates are named, and the stored ones stay as they are."""
    place.write("metadata.xml", document(descriptor(names.IDP, ("idp", "idp_next"))))
    place.add_idp()
    place.write("metadata.xml", document(descriptor(names.IDP, ("idp", "idp_b"))))
    ran = place.add_idp("--dry-run")
    verdicts = {line.split()[1]: line.split()[0] for line in ran.out.splitlines() if len(line.split()) > 6}
    assert verdicts[keys.fingerprint("idp_b")] == "added"
    assert verdicts[keys.fingerprint("idp")] == "kept"
    assert verdicts[keys.fingerprint("idp_next")] == "gone"
    stored = fas_evidence("idp", "show", names.IDP, "-o", "json").json["certificates"]
    assert {each["sha256"]: each["state"] for each in stored} == {
        keys.fingerprint("idp"): "trusted",
        keys.fingerprint("idp_next"): "trusted",
    }
    place.add_idp()
    stored = fas_evidence("idp", "show", names.IDP, "-o", "json").json["certificates"]
    assert {each["sha256"]: each["state"] for each in stored} == {
        keys.fingerprint("idp"): "trusted",
        keys.fingerprint("idp_b"): "trusted",
        keys.fingerprint("idp_next"): "retiring",
    }


def test_without_a_policy_a_new_idp_is_refused_and_one_is_printed(place: Place) -> None:
    """The line says what is missing, stdout holds a policy to fill in that is itself usable, nothing is made."""
    ran = fas_evidence("idp", "add", "--metadata", place.metadata)
    assert ran.code == 2
    assert "has no usable policy yet" in ran.complaint
    assert "`audiences` is empty" in ran.complaint
    assert "`recipients` is empty" in ran.complaint
    assert policy_problems(parse_policy(ran.out)) == ()
    assert not place.database.exists()


def test_an_update_keeps_the_stored_policy(place: Place) -> None:
    """Once stored, the policy need not be given again."""
    place.write("policy.toml", policy_text(max_age="5h"))
    place.add_idp()
    assert fas_evidence("idp", "add", "--metadata", place.metadata).code == 0
    assert fas_evidence("idp", "show", names.IDP, "-o", "json").json["policy"]["max_age"] == "5h"


@pytest.mark.parametrize("member", ["audiences", "recipients", "upn_from"])
def test_a_policy_that_allows_nobody_is_refused(place: Place, member: str) -> None:
    """The empty member is named, and nothing is made."""
    place.write("policy.toml", policy_text(**{member: []}))
    ran = place.add_idp()
    assert ran.code == 2
    assert f"the policy allows nobody: `{member}` is empty" in ran.complaint
    assert not place.database.exists()


def test_a_decryption_key_that_is_not_there_is_refused(place: Place) -> None:
    """A policy is refused whose key the service could not load at its next start."""
    place.write("policy.toml", policy_text(decryption_keys=["sp.pem"]))
    ran = place.add_idp()
    assert ran.code == 2
    assert "policy member `decryption_keys`" in ran.complaint
    (place.directory / "data" / "secrets").mkdir(parents=True)
    place.write("data/secrets/sp.pem", keys.pem("sp"))
    assert place.add_idp().code == 0


def test_one_of_several_must_be_chosen(place: Place) -> None:
    """Metadata of two IdPs needs --entity-id, which must name one of them."""
    place.write("metadata.xml", federation())
    ran = place.add_idp()
    assert ran.code == 2
    assert ran.complaint.endswith(f"describes 2 IdPs; choose one with --entity-id: {names.IDP}, {names.OTHER_IDP}")
    ran = place.add_idp("--entity-id", "https://absent.example")
    assert ran.code == 2
    assert "metadata_entity_mismatch" in ran.complaint
    assert place.add_idp("--entity-id", names.OTHER_IDP).code == 0
    assert entity_ids(place) == [names.OTHER_IDP]


def test_weak_keys_and_expired_certificates_are_warned_of(place: Place) -> None:
    """What will cause denials or alarms is said at import and when shown."""
    place.write("metadata.xml", document(descriptor(names.IDP, ("idp", "weak", "idp_expired"))))
    for ran in (place.add_idp(), fas_evidence("idp", "show", names.IDP)):
        assert ran.code == 0
        assert f"warning: certificate {keys.fingerprint('weak')}: RSA 1024 is too weak a key" in ran.err
        assert f"warning: certificate {keys.fingerprint('idp_expired')}: expired " in ran.err


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (document(descriptor(names.IDP, ())), "metadata_no_cert"),
        (b"<samlp:Response xmlns:samlp='urn:oasis:names:tc:SAML:2.0:protocol'/>", "metadata_not_saml"),
        (
            document(descriptor(names.IDP)).replace(b"entityID", b'validUntil="2020-01-01T00:00:00Z" entityID'),
            "metadata_expired",
        ),
    ],
    ids=["no_certificate", "response", "expired"],
)
def test_unusable_metadata_makes_nothing(place: Place, content: bytes, code: str) -> None:
    """Refused by its code, with nothing written."""
    place.write("metadata.xml", content)
    ran = place.add_idp()
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(f"metadata file {place.metadata}: {code}: ")
    assert not place.database.exists()


def test_remove_needs_a_confirmation(place: Place) -> None:
    """Off a terminal --yes is needed; on one, the entity ID must be typed."""
    place.add_idp()
    ran = fas_evidence("idp", "remove", names.IDP)
    assert ran.code == 2
    assert ran.complaint.endswith("add --yes")
    ran = fas_evidence("idp", "remove", names.IDP, stdin=b"yes\n", terminal=True)
    assert ran.code == 1
    assert "not confirmed; nothing was changed" in ran.err
    ran = fas_evidence("idp", "remove", names.IDP, "--dry-run")
    assert (ran.code, "would be removed" in ran.out) == (0, True)
    assert entity_ids(place) == [names.IDP]
    ran = fas_evidence("idp", "remove", names.IDP, stdin=f"{names.IDP}\n".encode(), terminal=True)
    assert ran.code == 0
    assert entity_ids(place) == []


def test_questions_show_hostile_names_escaped(place: Place) -> None:
    """An entity ID may hold what steers a terminal; asked about, it is escaped, and is confirmed as it is shown."""
    hostile, as_shown = "https://idp.example/\u009b2J\u202egro", "https://idp.example/\\u009b2J\\u202egro"
    place.write("metadata.xml", metadata("idp", entity_id=hostile))
    place.add_idp()
    ran = fas_evidence("idp", "remove", hostile, stdin=b"\n", terminal=True)
    assert ran.code == 1
    assert as_shown in ran.err
    assert all(line.isprintable() for line in ran.err.splitlines())
    ran = fas_evidence("idp", "remove", hostile, stdin=f"{as_shown}\n".encode(), terminal=True)
    assert ran.code == 0
    assert all(line.isprintable() for line in (ran.out + ran.err).splitlines())


def test_remove_with_yes(place: Place) -> None:
    """--yes asks nothing."""
    place.add_idp()
    assert fas_evidence("idp", "remove", names.IDP, "--yes").code == 0
    assert entity_ids(place) == []


def test_add_asks_on_a_terminal(place: Place) -> None:
    """A person sees the certificates and must agree; anything but yes changes nothing."""
    arguments = ("idp", "add", "--metadata", place.metadata, "--policy", place.policy)
    ran = fas_evidence(*arguments, stdin=b"\n", terminal=True)
    assert ran.code == 1
    assert "would be registered" in ran.out
    assert not place.database.exists()
    assert fas_evidence(*arguments, stdin=b"y\n", terminal=True).code == 0
    assert entity_ids(place) == [names.IDP]


@pytest.mark.parametrize("verb", ["show", "remove", "enable", "disable"])
def test_an_idp_that_is_not_registered(place: Place, verb: str) -> None:
    """A negative answer, with the entity ID."""
    place.add_idp()
    ran = fas_evidence("idp", verb, "https://absent.example")
    assert ran.code == 1
    assert "no identity provider 'https://absent.example' is registered" in ran.complaint


def test_disable_and_enable(place: Place) -> None:
    """Each does what it says, once; a dry run does nothing."""
    place.add_idp()

    def enabled() -> bool:
        return bool(fas_evidence("idp", "show", names.IDP, "-o", "json").json["enabled"])

    assert "would be disabled" in fas_evidence("idp", "disable", names.IDP, "--dry-run").out
    assert enabled()
    assert fas_evidence("idp", "disable", names.IDP).out == f"{names.IDP} is disabled.\n"
    assert not enabled()
    assert fas_evidence("idp", "disable", names.IDP).out == f"{names.IDP} is disabled already.\n"
    assert fas_evidence("idp", "enable", names.IDP).code == 0
    assert enabled()


def test_policy_is_replaced_whole(place: Place) -> None:
    """What differs is shown, a dry run changes nothing, and an unusable policy is refused."""
    place.add_idp()
    new = place.write("new.toml", policy_text(max_age="2h"))

    def max_age() -> str:
        return str(fas_evidence("idp", "show", names.IDP, "-o", "json").json["policy"]["max_age"])

    ran = fas_evidence("idp", "policy", names.IDP, "--policy", new, "--dry-run")
    assert ran.out.splitlines()[:2] == ['- max_age = "8h"', '+ max_age = "2h"']
    assert max_age() == "8h"
    assert fas_evidence("idp", "policy", names.IDP, "--policy", new).code == 0
    assert max_age() == "2h"
    place.write("new.toml", policy_text(audiences=[]))
    ran = fas_evidence("idp", "policy", names.IDP, "--policy", new)
    assert ran.code == 2
    assert "`audiences` is empty" in ran.complaint
    assert max_age() == "2h"


def test_the_same_again_changes_nothing(place: Place) -> None:
    """Metadata and policy that are stored already are said to be so, and neither journal nor date moves."""
    place.add_idp()
    before = fas_evidence("idp", "show", names.IDP, "-o", "json").json
    for arguments in (
        ("idp", "add", "--metadata", place.metadata, "--policy", place.policy),
        ("idp", "add", "--metadata", place.metadata),
        ("idp", "policy", names.IDP, "--policy", place.policy),
    ):
        ran = fas_evidence(*arguments)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.endswith("Nothing was changed.\n")
    assert fas_evidence("idp", "show", names.IDP, "-o", "json").json == before
    engine = open_database(f"sqlite:///{place.database}", create=False)
    try:
        assert [act.act for act in ConfigStore(engine).list_acts()] == ["idp_added"]
    finally:
        engine.dispose()
    place.write("policy.toml", policy_text(max_age="1h"))
    assert place.add_idp().out.startswith(f"{names.IDP} is updated.")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "the document is empty. Save the metadata again from the IdP."),
        (b" \n", "the document is empty. Save the metadata again from the IdP."),
        (b"<md:EntityDescriptor", "Save the metadata again from the IdP."),
        ("<a/>".encode("utf-16"), "Save the metadata again from the IdP."),
    ],
    ids=["empty", "blank", "cut", "utf16"],
)
def test_damaged_metadata_is_not_called_evidence(place: Place, content: bytes, complaint: str) -> None:
    """The advice is about metadata, also in `check`."""
    place.write("metadata.xml", content)
    for ran in (place.add_idp(), place.check()):
        assert ran.code == 2
        assert ran.complaint.endswith(complaint)
        assert "evidence" not in ran.complaint.replace("evidence.xml", "")
        assert "response" not in ran.complaint


def test_the_printed_policy_can_be_used_again(place: Place) -> None:
    """What `idp show -o json` gives as policy has the members of a policy file."""
    place.add_idp()
    shown = fas_evidence("idp", "show", names.IDP, "-o", "json").json["policy"]
    assert set(tomllib.loads(place.policy.read_text(encoding="utf-8"))) <= set(shown)


def _has_open(process_id: int, file: Path) -> bool:
    """Whether the process has opened the file; where the system does not tell, in time enough for it."""
    if not Path("/proc/self/fd").exists():
        time.sleep(3)
        return True
    with contextlib.suppress(OSError):  # one was closed meanwhile
        return any(each.readlink() == file.resolve() for each in Path(f"/proc/{process_id}/fd").iterdir())
    return False


def test_an_interrupted_import_leaves_nothing(place: Place) -> None:
    """Killed while it waits for the database's write lock, an import leaves no trace; the next one succeeds."""
    assert fas_evidence("db", "upgrade").code == 0
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "evidence_service", "idp", "add"]
    holder = sqlite3.connect(place.database, isolation_level=None)
    try:
        for sent in (signal.SIGINT, signal.SIGKILL):
            holder.execute("BEGIN IMMEDIATE")
            with subprocess.Popen(
                [*command, "--metadata", str(place.metadata), "--policy", str(place.policy)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            ) as running:
                until(lambda: _has_open(running.pid, place.database))
                time.sleep(0.3)
                assert running.poll() is None
                running.send_signal(sent)
                holder.execute("ROLLBACK")
                _, complaint = running.communicate(timeout=60)
            if sent == signal.SIGKILL:
                assert (running.returncode, complaint) == (-signal.SIGKILL, b"")
                continue
            # Interrupted within `exec`, as in an import of dataclasses, Python ends by the signal, whatever code it is
            # given; a shell shows 130 for both.
            assert running.returncode in (130, -signal.SIGINT)
            assert complaint == b"error: interrupted\n"
    finally:
        holder.close()
    assert entity_ids(place) == []
    assert place.add_idp().code == 0
    assert entity_ids(place) == [names.IDP]


@pytest.mark.parametrize("form", ["pem", "der", "base64"])
def test_bare_certificates(place: Place, form: str) -> None:
    """An IdP without metadata is registered from its certificate and entity ID; only the certificate is kept."""
    der = keys.certificate("idp")
    pem = ssl.DER_cert_to_PEM_cert(der)
    content = {"pem": f"exported by somebody\n{pem}".encode(), "der": der, "base64": b64encode(der)}[form]
    file = place.write("idp.cer", content)
    options = ("--certificate", file, "--entity-id", names.IDP, "--policy", place.policy)
    ran = fas_evidence("idp", "add", *options, "--dry-run")
    assert (ran.code, ran.err, place.database.exists()) == (0, "", False)
    assert f"added  {keys.fingerprint('idp')}" in ran.out
    assert "The document" not in ran.out
    assert fas_evidence("idp", "add", *options).code == 0
    engine = open_database(f"sqlite:///{place.database}", create=False)
    store = ConfigStore(engine)
    assert store.get_document(store.get_idp(names.IDP).document_sha256) == pem.encode()
    engine.dispose()
    assert "Nothing was changed" in fas_evidence("idp", "add", *options).out


@pytest.mark.parametrize(
    ("content", "options", "complaint"),
    [
        (keys.pem("idp").encode(), ("--entity-id", names.IDP), "a private key"),
        (b"not a certificate", ("--entity-id", names.IDP), "metadata_bad_cert"),
        (b"", ("--entity-id", names.IDP), "metadata_bad_cert"),
        (keys.certificate("idp"), (), "add --entity-id ID"),
        (keys.certificate("idp"), ("--entity-id", "two words"), "expected the IdP's entity ID"),
        (keys.certificate("idp"), ("--entity-id", names.IDP, "--metadata", "metadata.xml"), "and not both"),
    ],
    ids=["private_key", "text", "empty", "no_entity_id", "bad_entity_id", "both"],
)
def test_bare_certificates_that_cannot_be_used(
    place: Place, content: bytes, options: tuple[str, ...], complaint: str
) -> None:
    """One line, and nothing of it is kept (promise 83)."""
    file = place.write("idp.cer", content)
    ran = fas_evidence("idp", "add", "--certificate", file, *options, "--policy", place.policy)
    assert (ran.code, ran.out) == (2, "")
    assert complaint in ran.complaint
    assert not place.database.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (None, "The document is not signed."),
        ("idp", f"signed by certificate {keys.fingerprint('idp')}, which is trusted already."),
        ("idp_next", f"signed by its own key (certificate {keys.fingerprint('idp_next')}), which proves nothing."),
        ("attacker", "signed by a key that is not known here"),
    ],
)
def test_who_signed_the_document_is_said(place: Place, name: str | None, said: str) -> None:
    """A signature by what the document itself brings proves nothing (G21)."""
    place.add_idp()
    file = place.write("next.xml", metadata("idp", "idp_next", by=name))
    ran = fas_evidence("idp", "add", "--metadata", file, "--dry-run")
    assert ran.code == 0
    assert said in ran.out


def test_an_altered_document_is_refused(place: Place) -> None:
    """What was changed after it was signed is no unsigned document."""
    file = place.write("altered.xml", altered(metadata("idp", by="idp")))
    ran = fas_evidence("idp", "add", "--metadata", file, "--policy", place.policy)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(f"metadata file {file}: metadata_signature_invalid: ")
    assert not place.database.exists()


def test_validate_without_any_idp_names_the_subscription_first(place: Place) -> None:
    """What an IdP is registered by, in the order in which it is recommended."""
    assert fas_evidence("db", "upgrade").code == 0
    ran = fas_evidence("config", "validate")
    assert ran.code == 1
    assert "`fas-evidence idp subscribe URL`, or `fas-evidence idp add --metadata FILE`" in ran.out
    assert place.database.exists()
