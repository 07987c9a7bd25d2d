"""`check` on one file: decisions, output, and every kind of unusable input."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from evidence_service.access.reasons import AccessReason
from idp_certs.reasons import TrustReason
from tests.cli.given import Place, document, fas_evidence, federation
from tests.corpus import keys, names
from tests.corpus.good import AT, Launch, policy_text
from tests.corpus.metadata_documents import descriptor


def test_genuine_evidence_is_allowed(place: Place) -> None:
    """A genuine response is an allow with exit code 0, and every check of the table passed."""
    ran = place.check()
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("ALLOW ok\n")
    assert "FAILED" not in ran.out
    assert "not reached" not in ran.out
    assert keys.fingerprint("idp") in ran.out


def test_json_has_exactly_the_documented_members_for_an_allow(place: Place) -> None:
    """`-o json` of an allow: decision, reason, no findings, the IdP and the assertion."""
    ran = place.check("-o", "json")
    assert ran.code == 0
    assert ran.json.keys() == {"decision", "reason", "findings", "idp", "assertion"}
    assert ran.json["decision"] == "allow"
    assert ran.json["reason"] == "ok"
    assert ran.json["findings"] == []
    assert ran.json["idp"] == names.IDP
    assert ran.json["assertion"]["assertion_id"] == "_assert1"
    assert ran.json["assertion"]["certificate_sha256"] == keys.fingerprint("idp")
    assert ran.json["assertion"]["issue_instant"] == "2026-01-01T12:00:00Z"
    assert ran.json["assertion"]["upn"] == names.ALICE


def test_json_of_a_deny_names_what_was_expected_and_presented(place: Place) -> None:
    """Another UPN is a deny `upn_mismatch` with one finding of exactly the documented members."""
    ran = place.check("-o", "json", upn=names.ADMIN)
    assert (ran.code, ran.err) == (1, "")
    assert (ran.json["decision"], ran.json["reason"]) == ("deny", "upn_mismatch")
    assert [finding.keys() for finding in ran.json["findings"]] == [{"reason", "expected", "presented", "where"}]
    assert ran.json["findings"][0]["expected"] == names.ADMIN
    assert ran.json["findings"][0]["presented"] == names.ALICE
    assert ran.json["assertion"]["upn"] == names.ALICE


def test_json_without_a_valid_signature_has_no_assertion(place: Place) -> None:
    """Nothing is said of an assertion that nobody signed."""
    unsigned = place.write("unsigned.xml", Launch().wire())
    ran = place.check("-o", "json", file=unsigned)
    assert (ran.code, ran.json["decision"], ran.json["reason"]) == (1, "deny", "signature_missing")
    assert ran.json["assertion"] is None


def test_a_deny_says_what_it_means_and_what_to_do(place: Place) -> None:
    """The table of a deny begins with the reason, its meaning and its advice, and marks the check that failed."""
    ran = place.check(upn=names.ADMIN)
    assert ran.code == 1
    lines = ran.out.splitlines()
    assert lines[0] == "DENY upn_mismatch"
    assert lines[1] == AccessReason.UPN_MISMATCH.meaning
    assert lines[2] == f"What to do: {AccessReason.UPN_MISMATCH.advice}"
    assert lines[5].split() == ["upn_mismatch", names.ADMIN, names.ALICE, lines[5].split()[-1]]
    failed = [line for line in lines if line.startswith("FAILED")]
    assert len(failed) == 1
    assert "upn_mismatch" in failed[0]
    assert names.ADMIN in failed[0]


def test_checks_after_an_early_objection_are_not_reached(place: Place) -> None:
    """What was not asked because nothing could be believed is shown as such."""
    place.write("evidence.xml", b"<a><b></a>")
    ran = place.check()
    assert (ran.code, ran.out.splitlines()[0]) == (1, "DENY xml_malformed")
    assert "not reached  signature_invalid" in ran.out.splitlines()
    assert "passed       xml_dtd" in ran.out.splitlines()


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"], ids=["none", "lf", "crlf"])
def test_base64_may_end_with_one_line_break(place: Place, ending: bytes) -> None:
    """An editor's final line break is not part of base64 evidence."""
    place.write("evidence.b64", base64.b64encode(place.evidence.read_bytes()) + ending)
    assert place.check(file="evidence.b64").out.startswith("ALLOW ok\n")


@pytest.mark.parametrize("ending", [b"\n\n", b" ", b" \n", b"\r"], ids=["two", "blank", "blank_lf", "cr"])
def test_nothing_else_is_taken_off_base64(place: Place, ending: bytes) -> None:
    """More than one final line break is a deny `evidence_encoding`, as it would be from a plug-in."""
    place.write("evidence.b64", base64.b64encode(place.evidence.read_bytes()) + ending)
    ran = place.check("-o", "json", file="evidence.b64")
    assert (ran.code, ran.json["reason"]) == (1, "evidence_encoding")


def test_evidence_from_stdin(place: Place) -> None:
    """`-` reads the evidence from stdin."""
    ran = place.check(file="-", stdin=place.evidence.read_bytes())
    assert (ran.code, ran.out.splitlines()[0]) == (0, "ALLOW ok")


def test_every_idp_of_an_aggregate_is_known(place: Place) -> None:
    """With metadata of a federation, the response's own IdP is found and judged by the policy."""
    place.write("metadata.xml", federation())
    assert place.check("-o", "json").json["idp"] == names.IDP
    place.write(
        "evidence.xml", Launch(issuer=names.OTHER_IDP, response_issuer=names.OTHER_IDP).sign(key="idp_b").wire()
    )
    assert place.check("-o", "json").json["idp"] == names.OTHER_IDP


def test_without_a_policy_nobody_is_allowed(place: Place) -> None:
    """Absence is not consent: without --policy the decision is `config_invalid`, and the reason for it is said."""
    ran = fas_evidence("check", place.evidence, "--metadata", place.metadata, "--upn", names.ALICE, "--at", AT)
    assert (ran.code, ran.out.splitlines()[0]) == (1, "DENY config_invalid")
    assert ran.err.startswith("warning: no --policy was given")


def test_evidence_is_judged_now_without_at(place: Place) -> None:
    """Without --at the evidence is judged by the clock, and old evidence is too old."""
    options = ("--metadata", place.metadata, "--upn", names.ALICE, "--policy", place.policy)
    ran = fas_evidence("check", place.evidence, *options, "-o", "json")
    assert (ran.code, ran.json["reason"]) == (1, "evidence_too_old")


def test_decryption_keys_are_relative_to_the_policy(place: Place) -> None:
    """An encrypted assertion is read with a key whose path is relative to the policy file, from any directory."""
    (place.directory / "keys").mkdir()
    place.write("keys/sp.pem", keys.pem("sp"))
    (place.directory / "policies").mkdir()
    policy = place.write("policies/encrypted.toml", policy_text(decryption_keys=["../keys/sp.pem"]))
    place.write("evidence.xml", Launch().sign().encrypt().sign_response().wire())
    ran = place.check("-o", "json", "--policy", policy)
    assert ran.json["reason"] == "ok"
    assert ran.json["assertion"]["encrypted"] is True


def test_a_decryption_key_that_cannot_be_read(place: Place) -> None:
    """The file and the reason are named."""
    place.write("policy.toml", policy_text(decryption_keys=["absent.pem"]))
    ran = place.check()
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(f"policy file {place.policy}: decryption_keys: ")
    assert "absent.pem cannot be read: No such file or directory" in ran.complaint


HOSTILE = "https://gw.example/\u202e\u200b\u0085\u009b2J\ue000"


def test_what_evidence_says_cannot_reach_the_terminal(place: Place) -> None:
    """Control, bidirectional and invisible characters are shown as escapes, and none is on a terminal either."""
    place.write("evidence.xml", Launch(audiences=(HOSTILE,)).sign().wire())
    for terminal in (False, True):
        ran = place.check(terminal=terminal)
        assert (ran.code, ran.out.splitlines()[0].count("DENY audience_mismatch")) == (1, 1)
        assert not set("\u202e\u200b\u0085\u009b\ue000") & set(ran.out)
    assert "https://gw.example/\\u202e\\u200b\\u0085\\u009b2J\\ue000" in place.check().out


def test_what_a_person_types_cannot_reach_the_terminal(place: Place) -> None:
    """ANSI sequences in arguments are escaped in complaints, which stay on one line."""
    ran = fas_evidence("check", "\x1b[2J\nerror: all is well", "--metadata", place.metadata, "--upn", names.ALICE)
    assert ran.code == 2
    assert "\\u001b[2J" in ran.complaint


def test_json_is_ascii(place: Place) -> None:
    """JSON output holds no character that a terminal could take for a command."""
    place.write("evidence.xml", Launch(audiences=(HOSTILE,)).sign().wire())
    ran = place.check("-o", "json")
    assert ran.out.isascii()
    assert ran.json["reason"] == "audience_mismatch"
    assert ran.json["findings"][0]["presented"] == HOSTILE


def test_colour_only_on_a_terminal(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour on a terminal, none off it whatever FORCE_COLOR says, and none with NO_COLOR."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;32mALLOW ok" in place.check(terminal=True).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in place.check().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;32m" not in place.check(terminal=True).out


def test_missing_arguments_are_named(place: Place) -> None:
    """All that is missing is named at once."""
    ran = fas_evidence("check", place.evidence)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint == "--metadata, --upn missing; see `fas-evidence check --help`"


def test_files_that_cannot_be_read(place: Place) -> None:
    """A missing file, a directory and a path that is none are named, for each of the three files."""
    for option, what in (("--metadata", "metadata file"), ("--policy", "policy file")):
        assert place.check(option, "absent").complaint == f"{what} absent does not exist; check the path"
        assert place.check(option, ".").complaint == f"{what} . is a directory; name a file"
    assert place.check(file="absent").complaint == "evidence file absent does not exist; check the path"
    assert place.check(file=".").complaint == "evidence file . is a directory; name a file"
    assert place.check(file="a\0b").complaint == "evidence file 'a\\x00b' is not a path"
    assert {place.check(file=name).code for name in ("absent", ".", "a\0b")} == {2}


def test_an_empty_file_is_a_deny(place: Place) -> None:
    """Empty evidence is judged, not refused as input: the plug-in could send it."""
    place.write("evidence.xml", b"")
    ran = place.check("-o", "json")
    assert (ran.code, ran.json["reason"]) == (1, "evidence_empty")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without end")
def test_endless_evidence_is_a_deny(place: Place) -> None:
    """A file without end is read up to a limit and is `evidence_too_large`."""
    ran = place.check("-o", "json", file="/dev/zero")
    assert (ran.code, ran.json["reason"]) == (1, "evidence_too_large")


def test_re_use_is_not_judged(place: Place) -> None:
    """Offline nothing is remembered: the checks of re-use are neither passed nor failed."""
    place.write("policy.toml", policy_text(reuse="once"))
    out = place.check().out
    for code in ("replay_conflict", "evidence_already_used"):
        (line,) = [line for line in out.splitlines() if code in line]
        assert line.startswith("not judged"), line


def test_metadata_in_place_of_a_response_and_the_reverse(place: Place) -> None:
    """Files that were mixed up are recognised as what they are not."""
    ran = place.check("-o", "json", file=place.metadata)
    assert (ran.code, ran.json["reason"]) == (1, "not_a_response")
    ran = place.check("--metadata", place.evidence)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(f"metadata file {place.evidence}: metadata_not_saml: ")
    assert TrustReason.METADATA_NOT_SAML.advice in ran.complaint


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "xml_malformed"),
        (b"PK\x03\x04", "xml_encoding"),
        (b"<a>", "xml_malformed"),
        (b"<!DOCTYPE a><a/>", "xml_dtd"),
        (document(descriptor(names.IDP)).replace(b"IDPSSODescriptor", b"SPSSODescriptor"), "metadata_no_idp"),
    ],
    ids=["empty", "zip", "cut", "dtd", "service_provider"],
)
def test_unusable_metadata_is_named_by_its_code(place: Place, content: bytes, code: str) -> None:
    """Metadata that cannot be used is bad input, and the line carries the reason code."""
    place.write("metadata.xml", content)
    ran = place.check()
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(f"metadata file {place.metadata}: {code}: ")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('audience = ["x"]', "policy member `audience`: unknown"),
        ('audiences = "x"', "policy member `audiences`: expected a list"),
        ("allow_sha1 = 1", "policy member `allow_sha1`: expected true or false"),
        ('max_age = "8 hours"', "policy member `max_age`: expected a duration"),
        ('reuse = "never"', "policy member `reuse`: expected one of"),
        ("= 3", "policy: not TOML"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
    ids=["unknown", "type", "boolean", "duration", "choice", "toml", "utf16"],
)
def test_an_unusable_policy_names_the_member(place: Place, text: str | bytes, complaint: str) -> None:
    """A policy that cannot be used is bad input, and the line names file and member."""
    place.write("policy.toml", text)
    ran = place.check()
    assert (ran.code, ran.out) == (2, "")
    assert str(place.policy) in ran.complaint
    assert complaint in ran.complaint


@pytest.mark.parametrize(
    "at",
    [
        "",
        "now",
        "2026-01-01",
        "2026-01-01T12:00:30",
        "2026-01-01T12:00:30+01:00",
        "2026-02-30T12:00:30Z",
        "２026-01-01T12:00:30Z",
    ],
)
def test_an_instant_is_strict(place: Place, at: str) -> None:
    """An instant that could be read in two ways is bad input."""
    ran = place.check("--at", at)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith("--at: ")
    assert ran.complaint.endswith("write it like 2026-01-31T12:00:00Z")


def test_wrong_choices_are_refused(place: Place) -> None:
    """A phase or an output format that does not exist is wrong usage."""
    for option in ("--phase", "-o"):
        ran = place.check(option, "x")
        assert (ran.code, ran.out) == (2, "")
        assert "'x'" in ran.complaint
        assert ran.complaint.endswith("see `fas-evidence check --help`")


def test_only_one_file_can_be_stdin(place: Place) -> None:
    """Two files from stdin are wrong usage."""
    ran = place.check("--metadata", "-", file="-")
    assert (ran.code, ran.complaint) == (2, "only one of FILE, --metadata and --policy can be stdin")


def test_nothing_is_written(place: Place) -> None:
    """Checking leaves no file behind."""
    before = place.files()
    place.check()
    place.check(upn=names.ADMIN)
    assert place.files() == before


def test_long_values_are_cut_in_tables_only(place: Place) -> None:
    """A value of thousands of characters is cut in the table, with its length, and whole in JSON."""
    long = "https://gw.example/" + "a" * 5000
    place.write("evidence.xml", Launch(audiences=(long,)).sign().wire())
    assert long not in place.check().out
    assert long in json.dumps(place.check("-o", "json").json)


def test_what_is_wrong_with_the_metadata_is_said(place: Place) -> None:
    """Metadata that had expired, or from which a certificate was left out, is judged with and warned of."""
    text = document(descriptor(names.IDP, ("idp", "idp_b")))
    expired = text.replace(b"entityID", b'validUntil="2025-06-01T00:00:00Z" entityID')
    place.write("metadata.xml", expired)
    ran = place.check()
    assert (ran.code, ran.out.splitlines()[0]) == (0, "ALLOW ok")
    assert ran.err == f"warning: {names.IDP}: this metadata was valid until 2025-06-01T00:00:00Z\n"
    tag = b"<ds:X509Certificate>"
    before, first, second = text.split(tag)
    place.write("metadata.xml", tag.join((before, first, b"MIIB" + second)))
    ran = place.check()
    assert (ran.code, ran.out.splitlines()[0]) == (0, "ALLOW ok")
    assert ran.err.startswith(f"warning: {names.IDP}: metadata_bad_cert: ")
