"""`plugin` and `rule`: credentials of FAS servers, and what is special about FAS rules."""

from __future__ import annotations

import hashlib
import sqlite3
import ssl
import stat
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from evidence_service.adapters.database import open_database
from evidence_service.adapters.snapshots import SnapshotHolder
from tests.cli.given import Place, fas_evidence
from tests.corpus import keys, names


def callers(place: Place) -> tuple[dict[str, str], dict[str, str]]:
    """Who may ask, as the service sees it: by certificate, by key."""
    engine = open_database(f"sqlite:///{place.database}", create=False)
    try:
        plugins = SnapshotHolder(engine, secrets_dir=None).plugins
        return dict(plugins.by_certificate), dict(plugins.by_key)
    finally:
        engine.dispose()


def pem(place: Place, *certificates: str) -> Path:
    """A PEM file of certificates of the corpus."""
    text = "".join(
        x509.load_der_x509_certificate(keys.certificate(name)).public_bytes(Encoding.PEM).decode()
        for name in certificates
    )
    return place.write("client.pem", text)


def test_enroll_makes_a_client_certificate(place: Place) -> None:
    """A new EC key, readable by its owner alone, and its certificate, registered by SHA-256 and usable in TLS."""
    (place.directory / "out").mkdir()
    ran = fas_evidence("plugin", "enroll", "fas1.corp.example", "--out", "out", "--days", "30")
    assert (ran.code, ran.err) == (0, "")
    key_file, certificate_file = (
        place.directory / "out/fas1.corp.example.key.pem",
        place.directory / "out/fas1.corp.example.crt.pem",
    )
    if sys.platform != "win32":
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key = load_pem_private_key(key_file.read_bytes(), password=None)
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key.public_key() == certificate.public_key()
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 30
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate_file, key_file)
    fingerprint = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    assert fingerprint in ran.out
    assert callers(place) == ({fingerprint: "fas1.corp.example"}, {})


def test_enroll_overwrites_nothing(place: Place) -> None:
    """An existing key or certificate file is refused, stays as it is, and nothing is registered."""
    for name in ("fas1.key.pem", "fas1.crt.pem"):
        path = place.write(name, "mine")
        before = place.files()
        ran = fas_evidence("plugin", "enroll", "fas1")
        assert ran.code == 2
        assert ran.complaint.startswith(f"{name} exists already and is not overwritten")
        assert path.read_text(encoding="utf-8") == "mine"
        assert place.files() == before
        path.unlink()


def test_a_failed_enrolment_leaves_no_files(place: Place) -> None:
    """A name that is taken is refused before a key is written."""
    assert fas_evidence("plugin", "enroll", "fas1", "--bearer").code == 0
    before = place.files()
    ran = fas_evidence("plugin", "enroll", "fas1")
    assert ran.code == 2
    assert "already the name of an enrolled plug-in" in ran.complaint
    assert place.files() == before


def test_files_of_an_enrolment_that_fails_go_again(place: Place) -> None:
    """Where the database cannot be written, neither key nor certificate stays behind."""
    fas_evidence("db", "upgrade")
    before = place.files()
    holder = sqlite3.connect(place.database, isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        ran = fas_evidence("plugin", "enroll", "fas1")
    finally:
        holder.close()
    assert (ran.code, ran.out) == (3, "")
    assert "is locked by another process" in ran.complaint
    assert {name for name in place.files() if name.endswith(".pem")} == set()
    assert before <= place.files() | {"data/fas-evidence.db-wal", "data/fas-evidence.db-shm"}


@pytest.mark.parametrize("name", ["../fas1", "a/b", "", ".hidden", "a" * 65, "fas 1", "fas1\n"])
def test_a_name_that_is_no_file_name(place: Place, name: str) -> None:
    """Names that could lead to other files are refused."""
    before = place.files()
    ran = fas_evidence("plugin", "enroll", name)
    assert ran.code == 2
    assert ran.complaint.startswith("NAME ")
    assert place.files() == before


def test_enroll_into_a_directory_that_is_not_there(place: Place) -> None:
    """The directory is named, nothing is registered."""
    ran = fas_evidence("plugin", "enroll", "fas1", "--out", "absent")
    assert (ran.code, ran.complaint) == (2, "--out: absent is not a directory; create it first")
    assert not place.database.exists()


def test_enroll_an_existing_certificate(place: Place) -> None:
    """It is registered by the SHA-256 of its DER; a private key in the same file is not stored."""
    path = pem(place, "leaf")
    path.write_text(path.read_text(encoding="utf-8") + keys.pem("leaf"), encoding="utf-8")
    ran = fas_evidence("plugin", "enroll", "fas1", "--certificate", path)
    assert (ran.code, ran.err) == (0, "")
    assert callers(place) == ({keys.fingerprint("leaf"): "fas1"}, {})
    assert b"PRIVATE KEY" not in place.database.read_bytes()


@pytest.mark.parametrize(
    ("certificates", "problem"),
    [
        ((), "holds no certificate in PEM form"),
        (("leaf", "ca"), "holds 2 certificates"),
        (("weak",), "RSA 1024 is too weak"),
        (("idp_expired",), "expired at 20"),
    ],
    ids=["none", "chain", "weak", "expired"],
)
def test_a_certificate_that_cannot_be_used(place: Place, certificates: tuple[str, ...], problem: str) -> None:
    """Named with its file; nothing is made."""
    ran = fas_evidence("plugin", "enroll", "fas1", "--certificate", pem(place, *certificates))
    assert ran.code == 2
    assert ran.complaint.startswith(f"certificate file {place.directory / 'client.pem'}")
    assert problem in ran.complaint
    assert not place.database.exists()


def test_a_bearer_key_is_shown_once_and_only_its_digest_is_stored(place: Place) -> None:
    """The key is the last line of stdout, and the database knows its SHA-256."""
    ran = fas_evidence("plugin", "enroll", "local", "--bearer")
    assert (ran.code, ran.err) == (0, "")
    key = ran.out.splitlines()[-1]
    assert len(key) >= 43
    assert callers(place) == ({}, {hashlib.sha256(key.encode()).hexdigest(): "local"})
    assert key.encode() not in place.database.read_bytes()
    assert key not in fas_evidence("plugin", "list").out


@pytest.mark.parametrize(
    "options",
    [("--bearer", "--certificate", "x"), ("--bearer", "--days", "3"), ("--certificate", "x", "--out", ".")],
    ids=["two_ways", "days", "out"],
)
def test_options_that_contradict_each_other(place: Place, options: tuple[str, ...]) -> None:
    """They are refused, with nothing made."""
    ran = fas_evidence("plugin", "enroll", "fas1", *options)
    assert (ran.code, ran.out) == (2, "")
    assert "--certificate" in ran.complaint
    assert not place.database.exists()


@pytest.mark.parametrize("options", [(), ("--bearer",)], ids=["certificate", "bearer"])
def test_a_dry_run_enrolls_nobody(place: Place, options: tuple[str, ...]) -> None:
    """Nothing is written, no key is shown."""
    before = place.files()
    ran = fas_evidence("plugin", "enroll", "fas1", "--dry-run", *options)
    assert (ran.code, ran.err) == (0, "")
    assert "would be enrolled" in ran.out
    assert place.files() == before


def test_revoke(place: Place) -> None:
    """Needs a confirmation; afterwards the plug-in may not ask, and is listed as revoked."""
    fas_evidence("plugin", "enroll", "fas1", "--bearer")
    assert fas_evidence("plugin", "revoke", "fas1").code == 2
    assert "would be revoked" in fas_evidence("plugin", "revoke", "fas1", "--dry-run").out
    assert callers(place)[1] != {}
    assert fas_evidence("plugin", "revoke", "fas1", stdin=b"fas1\n", terminal=True).code == 0
    assert callers(place) == ({}, {})
    (stored,) = fas_evidence("plugin", "list", "-o", "json").json
    assert stored["revoked_at"] is not None
    ran = fas_evidence("plugin", "revoke", "fas1", "--yes")
    assert ran.code == 1
    assert ran.complaint.startswith("no plug-in 'fas1' is enrolled")


def test_rules(place: Place) -> None:
    """Set, list, replace and remove; what changes for other rules is said."""
    place.add_idp()
    ran = fas_evidence("rule", "set", "default", "--max-age", "4h", "--idp", names.IDP)
    assert ran.code == 0
    assert ran.err.startswith("warning: this is the first rule")
    assert fas_evidence("rule", "list", "-o", "json").json == [
        {"name": "default", "mode": "enforce", "max_age_seconds": 14400.0, "idps": [names.IDP]}
    ]
    ran = fas_evidence("rule", "set", "default", "--mode", "observe")
    assert "only observes" in ran.err
    assert fas_evidence("rule", "list", "-o", "json").json == [
        {"name": "default", "mode": "observe", "max_age_seconds": None, "idps": None}
    ]
    assert "observe" in fas_evidence("rule", "list").out
    assert fas_evidence("rule", "remove", "default", "--dry-run").code == 0
    ran = fas_evidence("rule", "remove", "default")
    assert ran.code == 0
    assert ran.err.startswith("warning: it was the last rule")
    assert fas_evidence("rule", "list", "-o", "json").json == []
    assert fas_evidence("rule", "remove", "default").code == 1


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (("--max-age", "long"), 2, "--max-age: expected a duration"),
        (("--max-age", "0s"), 2, "--max-age: must be more than 0"),
        (("--mode", "warn"), 2, "'warn'"),
        (("--idp", "https://absent.example"), 2, "no identity provider 'https://absent.example' is registered"),
    ],
    ids=["duration", "zero", "mode", "idp"],
)
def test_a_rule_that_cannot_be_used(place: Place, options: tuple[str, ...], code: int, complaint: str) -> None:
    """The option is named, and no rule is set."""
    place.add_idp()
    ran = fas_evidence("rule", "set", "default", *options)
    assert ran.code == code
    assert complaint in ran.complaint
    assert fas_evidence("rule", "list", "-o", "json").json == []


def test_a_dry_run_sets_no_rule(place: Place) -> None:
    """It is only said."""
    place.add_idp()
    assert "would be set" in fas_evidence("rule", "set", "default", "--dry-run").out
    assert fas_evidence("rule", "list", "-o", "json").json == []
