"""From `plugin enroll` to a FAS server that is answered: its files, `plugin test`, `plugin rotate`, `plugin revoke`."""

from __future__ import annotations

import base64
import shutil
import socket
import sqlite3
import stat
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs12

from evidence_service.cli.plugin_trial import REMEDIES
from plugin_bridge import client
from plugin_bridge.client import Failure, Question, ask, read_settings
from tests.bridge.given import compile_plugin, needs_mono
from tests.cli.given import Place, Ran, fas_evidence, until
from tests.corpus import keys
from tests.web.listening import Identity, identity
from tests.web.plane import ALICE, evidence, prepare
from tests.web.test_serve import Running, serving

NAME = "fas1.corp.example"
ELSEWHERE = "https://evidence1.corp.example:8443"
TRIPLE_DES, SHA1, PBES2 = (
    x509.ObjectIdentifier(dotted) for dotted in ("1.2.840.113549.1.12.1.3", "1.3.14.3.2.26", "1.2.840.113549.1.5.13")
)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no settings say otherwise, `plugin test` waits as long as can be set, for a slow machine."""
    for name in ("DeadlineMilliseconds", "AttemptMilliseconds"):
        _, least, most = client._NUMBERS[name]
        monkeypatch.setitem(client._NUMBERS, name, (most, least, most))


@pytest.fixture
def server(place: Place) -> Identity:
    """The service's certificate."""
    return identity(place.directory / "tls", "server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A service over mutual TLS with an IdP, and the commands that are run on its machine."""

    place: Place
    running: Running
    server: Identity

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://127.0.0.1:{self.running.port}"

    def run(self, *arguments: str | Path) -> Ran:
        """Run a command with the service's settings."""
        return fas_evidence("--config", self.place.directory / "data/settings.toml", *arguments)

    def enrolled(self, *more: str | Path) -> Path:
        """Enroll the FAS server; the settings file that was written for it."""
        ran = self.run("plugin", "enroll", NAME, "--service", self.url, *more)
        assert (ran.code, ran.err) == (0, "")
        settings = self.place.directory / f"{NAME}.EvidencePlugin.xml"
        until(lambda: trial(settings).code == 0)
        return settings


@pytest.fixture
def deployed(place: Place, server: Identity) -> Iterator[Deployed]:
    """A service that is ready to be asked."""
    data = place.directory / "data"
    data.mkdir()
    prepare(data)
    tls = {"tls_certificate": str(server.certificate), "tls_key": str(server.key)}
    with serving(data, listen_host="0.0.0.0", **tls) as running:
        yield Deployed(place=place, running=running, server=server)


def trial(settings: Path, *more: str | Path) -> Ran:
    """`plugin test`."""
    return fas_evidence("plugin", "test", "--settings", settings, *more)


def certificate_of(pem: Path) -> x509.Certificate:
    """A certificate from a file."""
    return x509.load_pem_x509_certificate(pem.read_bytes())


def enroll(*more: str | Path) -> Ran:
    """Enroll a plug-in of a service elsewhere."""
    return fas_evidence("plugin", "enroll", NAME, "--service", ELSEWHERE, *more)


def test_what_enroll_writes_works_as_it_is(deployed: Deployed) -> None:
    """Without evidence the right deny comes back; with genuine evidence an allow, for somebody else a deny."""
    settings = deployed.enrolled()
    ran = trial(settings)
    assert (ran.code, ran.err) == (0, "")
    assert "denies what has no evidence, as it must" in ran.out
    assert "TLS and identity are accepted" in ran.out
    (said,) = trial(settings, "-o", "json").json
    assert said["service"] == f"{deployed.url}/v1/decisions"
    assert (said["works"], said["decision"], said["reason"], said["failure"]) == (
        True,
        "deny",
        "evidence_missing",
        None,
    )
    assert said["milliseconds"] > 0
    captured = deployed.place.write("captured.xml", evidence(at=datetime.now(UTC)))
    ran = trial(settings, "--upn", ALICE, "--evidence", captured)
    assert (ran.code, ran.err) == (0, "")
    assert "allow: ok" in ran.out
    ran = trial(settings, "--upn", "bob@corp.example", "--evidence", captured)
    assert (ran.code, ran.err) == (1, "")
    assert "deny: upn_mismatch: " in ran.out
    (denied,) = trial(settings, "--upn", "bob@corp.example", "--evidence", captured, "-o", "json").json
    assert "upn_mismatch" in deployed.run("explain", denied["decision_id"]).out


@needs_mono
def test_the_compiled_plugin_works_with_what_enroll_writes(deployed: Deployed, tmp_path: Path) -> None:
    """The same settings and PFX, through the library that FAS loads: an allow for genuine evidence."""
    settings = deployed.enrolled()
    times = "".join(f"<{name}Milliseconds>30000</{name}Milliseconds>" for name in ("Deadline", "Attempt"))
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("<ServerPin>", f"{times}<ServerPin>", 1), encoding="utf-8")
    item = {"type": "SAMLResponse", "value": base64.b64encode(evidence(at=datetime.now(UTC))).decode()}
    plugin = compile_plugin(tmp_path / "plugin")
    said = plugin.ask(settings, [{"id": "x", "upn": ALICE, "evidence": [item]}])["x"]
    assert (said["allowed"], said["reason"], said["failure"]) == (True, "ok", None)


def test_the_files_of_an_enrolment(place: Place, server: Identity) -> None:
    """PFX, certificate, settings: private ones for their owner alone; the key is in the PFX and nowhere else."""
    following = identity(place.directory / "tls", "next")
    before = place.files()
    pins = ("--server-certificate", server.certificate, "--server-certificate", following.certificate)
    ran = enroll("--service", "https://evidence2.corp.example", *pins)
    assert (ran.code, ran.err) == (0, "")
    made = {f"{NAME}.pfx", f"{NAME}.crt.pem", f"{NAME}.EvidencePlugin.xml"}
    assert {name for name in place.files() - before if not name.startswith("data/")} == made
    if sys.platform != "win32":
        modes = {name: stat.S_IMODE((place.directory / name).stat().st_mode) for name in made}
        assert modes == {f"{NAME}.pfx": 0o600, f"{NAME}.EvidencePlugin.xml": 0o600, f"{NAME}.crt.pem": 0o644}
    settings = read_settings(place.directory / f"{NAME}.EvidencePlugin.xml")
    assert settings.services == (f"{ELSEWHERE}/v1/decisions", "https://evidence2.corp.example:443/v1/decisions")
    assert settings.server_pins == tuple(
        x509.load_der_x509_certificate(each.der).fingerprint(hashes.SHA256()).hex() for each in (server, following)
    )
    assert settings.fas_server == NAME
    assert settings.client_certificate_password is not None
    assert settings.client_certificate_password not in ran.out
    pfx = (place.directory / f"{NAME}.pfx").read_bytes()
    key, certificate, _ = pkcs12.load_key_and_certificates(pfx, settings.client_certificate_password.encode())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert certificate is not None
    assert certificate == certificate_of(place.directory / f"{NAME}.crt.pem")
    assert key.public_key() == certificate.public_key()
    (listed,) = fas_evidence("plugin", "list", "-o", "json").json
    assert listed["sha256"] == certificate.fingerprint(hashes.SHA256()).hex()


def test_the_pfx_is_of_the_form_that_windows_server_2016_reads(place: Place, server: Identity) -> None:
    """Triple DES and SHA-1, no PBES2."""
    enroll("--server-certificate", server.certificate)
    pfx = (place.directory / f"{NAME}.pfx").read_bytes()
    assert _der(TRIPLE_DES) in pfx
    assert _der(SHA1) in pfx
    assert _der(PBES2) not in pfx


def _der(identifier: x509.ObjectIdentifier) -> bytes:
    first, second, *rest = map(int, identifier.dotted_string.split("."))
    content = bytes([first * 40 + second])
    for number in rest:
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(number & 0x7F | 0x80)
        content += bytes(reversed(digits))
    return b"\x06" + bytes([len(content)]) + content


def test_for_the_store_of_windows(place: Place, server: Identity) -> None:
    """The settings name the certificate by its thumbprint, and the password of the PFX is shown once."""
    ran = enroll("--store", "--server-certificate", server.certificate)
    assert (ran.code, ran.err) == (0, "")
    text = (place.directory / f"{NAME}.EvidencePlugin.xml").read_text(encoding="utf-8")
    assert "ClientCertificatePassword" not in text
    settings = read_settings(place.directory / f"{NAME}.EvidencePlugin.xml")
    password = ran.out.splitlines()[-1]
    pfx = (place.directory / f"{NAME}.pfx").read_bytes()
    _, certificate, _ = pkcs12.load_key_and_certificates(pfx, password.encode())
    assert certificate is not None
    assert settings.client_certificate_thumbprint == certificate.fingerprint(hashes.SHA256()).hex()
    assert settings.client_certificate_file is None
    ran = trial(place.directory / f"{NAME}.EvidencePlugin.xml")
    assert ran.code == 3
    assert "certificate_unusable: the settings name a certificate in the store of Windows" in ran.out


def test_a_certificate_that_a_ca_issued(place: Place, server: Identity) -> None:
    """A request is made for a new key, nothing is enrolled; what is issued gets settings that name its thumbprint."""
    ran = fas_evidence("plugin", "enroll", NAME, "--csr-out", "fas1.csr.pem")
    assert (ran.code, ran.err) == (0, "")
    assert not place.database.exists()
    key_file = place.directory / f"{NAME}.key.pem"
    if sys.platform != "win32":
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key = load_pem_private_key(key_file.read_bytes(), None)
    request = x509.load_pem_x509_csr((place.directory / "fas1.csr.pem").read_bytes())
    assert request.is_signature_valid
    assert request.public_key() == key.public_key()
    ca = ec.generate_private_key(ec.SECP256R1())
    issued = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "corp CA")]))
        .public_key(request.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(certificate_of(server.certificate).not_valid_before_utc)
        .not_valid_after(certificate_of(server.certificate).not_valid_after_utc)
        .sign(ca, hashes.SHA256())
    )
    path = place.write("issued.pem", issued.public_bytes(Encoding.PEM))
    ran = enroll("--certificate", path, "--server-certificate", server.certificate)
    assert (ran.code, ran.err) == (0, "")
    settings = read_settings(place.directory / f"{NAME}.EvidencePlugin.xml")
    assert settings.client_certificate_thumbprint == issued.fingerprint(hashes.SHA256()).hex()
    (listed,) = fas_evidence("plugin", "list", "-o", "json").json
    assert listed["sha256"] == settings.client_certificate_thumbprint


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--service", "http://evidence1.corp.example"), "--service: http://evidence1.corp.example is not an https"),
        (("--service", f"{ELSEWHERE}/other"), "--service: give host and port only"),
        (("--service", "https://a\x01.example"), "--service: "),
        (("--service", ELSEWHERE, "--service", ELSEWHERE), "stands there twice"),
        (("--service", ELSEWHERE, "--out", "absent"), "--out: absent is not a directory"),
        (("--service", ELSEWHERE, "--server-certificate", "evidence.xml"), "holds no certificate in PEM form"),
        (("--service", ELSEWHERE, "--server-certificate", "absent.pem"), "absent.pem does not exist"),
        (("--service", ELSEWHERE, "--server-certificate", "tls/old.pem"), "expired at 20"),
        (("--store",), "give --service too"),
        (("--server-certificate", "tls/server.pem"), "give --service too"),
        (("--bearer", "--service", ELSEWHERE), "--service needs a certificate"),
        (("--csr-out", "a.pem", "--certificate", "b.pem"), "exclude each other"),
        (("--csr-out", "a.pem", "--days", "3"), "--days belongs to a new certificate"),
    ],
)
def test_options_that_cannot_be_used(place: Place, server: Identity, options: tuple[str, ...], problem: str) -> None:
    """One line names the option; nothing is written, nobody is enrolled."""
    identity(place.directory / "tls", "old", days=-1)
    before = place.files()
    given = () if "--server-certificate" in options or "--service" not in options else ("--server-certificate",)
    ran = fas_evidence("plugin", "enroll", NAME, *options, *given, *([server.certificate] if given else []))
    assert (ran.code, ran.out) == (2, "")
    assert problem in ran.complaint
    assert place.files() == before


def test_the_service_has_no_certificate_yet(place: Place) -> None:
    """Without a configured certificate one must be given."""
    ran = enroll()
    assert ran.code == 2
    assert ran.complaint.startswith("--server-certificate: give the service's certificate")
    assert not place.database.exists()


@pytest.mark.parametrize("ending", [".pfx", ".crt.pem", ".EvidencePlugin.xml"])
def test_nothing_is_overwritten(place: Place, server: Identity, ending: str) -> None:
    """Whichever of the files is there, it stays as it is, and no other is left."""
    mine = place.write(f"{NAME}{ending}", "mine")
    before = place.files()
    ran = enroll("--server-certificate", server.certificate)
    assert ran.code == 2
    assert ran.complaint.startswith(f"{mine.name} exists already and is not overwritten")
    assert mine.read_text(encoding="utf-8") == "mine"
    assert place.files() == before


def test_files_go_again_where_the_enrolment_fails(place: Place, server: Identity) -> None:
    """With the database locked after the files were written, none of them stays behind."""
    fas_evidence("db", "upgrade")
    before = place.files()
    holder = sqlite3.connect(place.database, isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        ran = enroll("--server-certificate", server.certificate)
    finally:
        holder.close()
    assert (ran.code, ran.out) == (3, "")
    assert "is locked by another process" in ran.complaint
    assert {name for name in place.files() - before if not name.startswith("data/")} == set()


def test_a_dry_run_writes_nothing(place: Place, server: Identity) -> None:
    """It names the files, for enrolling and rotating."""
    before = place.files()
    ran = enroll("--server-certificate", server.certificate, "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert f"{NAME}.pfx" in ran.out
    assert place.files() == before
    enroll("--server-certificate", server.certificate)
    before = place.files()
    ran = fas_evidence("plugin", "rotate", NAME, "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert "would be given a second credential" in ran.out
    assert place.files() == before


def test_promise_85_a_rotation_fails_no_launch(deployed: Deployed) -> None:
    """Under four callers without pause: second credential, new files in place, old credential ended (promise 85)."""
    first = deployed.enrolled()
    live = deployed.place.directory / "FAS"
    live.mkdir()
    for file in (first, first.with_name(f"{NAME}.pfx")):
        shutil.copy(file, live)
    used = live / "EvidencePlugin.xml"
    (live / first.name).rename(used)
    question = Question(upn=ALICE, evidence=(evidence(at=datetime.now(UTC)),))
    refused: list[str] = []
    asked: set[Path | None] = set()
    using: dict[int, Path | None] = {}
    stop = threading.Event()

    def launches() -> None:
        while not stop.is_set():
            settings = read_settings(used)
            said = ask(settings, question)
            asked.add(settings.client_certificate_file)
            using[threading.get_ident()] = settings.client_certificate_file
            if not said.allowed:
                refused.append(f"{said.reason} {said.detail}")

    threads = [threading.Thread(target=launches) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        ran = deployed.run("plugin", "rotate", NAME, "--service", deployed.url)
        assert (ran.code, ran.err) == (0, "")
        assert len(deployed.run("plugin", "list", "-o", "json").json) == 2
        (second,) = (path for path in deployed.place.directory.glob(f"{NAME}.2*.EvidencePlugin.xml"))
        (pfx,) = deployed.place.directory.glob(f"{NAME}.2*.pfx")
        until(lambda: trial(second).code == 0)
        shutil.copy(pfx, live)
        shutil.copy(second, live / "half")
        (live / "half").replace(used)
        until(lambda: list(using.values()) == [live / pfx.name] * 4)
        ran = deployed.run("plugin", "rotate", NAME, "--finish", "--yes")
        assert (ran.code, ran.err) == (0, "")
        until(lambda: trial(first).code == 3)
        ended = trial(first)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert refused == []
    assert asked == {live / pfx.name, live / f"{NAME}.pfx"}
    assert ended.code == 3
    assert "caller_refused" in ended.out


def test_the_steps_of_a_rotation(place: Place) -> None:
    """Nothing to rotate, nothing to finish, a third credential, and one that is ended by its SHA-256."""
    ran = fas_evidence("plugin", "rotate", NAME)
    assert ran.code == 1
    assert ran.complaint.startswith(f"no plug-in '{NAME}' is enrolled")
    fas_evidence("plugin", "enroll", NAME)
    ran = fas_evidence("plugin", "rotate", NAME, "--finish", "--yes")
    assert (ran.code, ran.complaint.startswith(f"no rotation of '{NAME}' is under way")) == (1, True)
    ran = fas_evidence("plugin", "rotate", NAME, "--certificate", _leaf(place))
    assert (ran.code, ran.err) == (0, "")
    ran = fas_evidence("plugin", "rotate", NAME, "--bearer")
    assert ran.code == 2
    assert f"'{NAME}' has 2 credentials already" in ran.complaint
    assert fas_evidence("plugin", "rotate", NAME, "--finish").code == 2
    assert fas_evidence("plugin", "rotate", NAME, "--finish", "--bearer").code == 2
    assert "would be revoked" in fas_evidence("plugin", "rotate", NAME, "--finish", "--dry-run").out
    listed = fas_evidence("plugin", "list", "-o", "json").json
    assert [(each["name"], each["revoked_at"]) for each in listed] == [(NAME, None)] * 2
    assert listed[1]["sha256"] == keys.fingerprint("leaf")
    ran = fas_evidence("plugin", "revoke", NAME, "--sha256", "ab", "--yes")
    assert (ran.code, ran.complaint.startswith(f"'{NAME}' has no credential 'ab'")) == (1, True)
    ran = fas_evidence("plugin", "revoke", NAME, "--sha256", listed[0]["sha256"].upper(), "--yes")
    assert (ran.code, ran.err) == (0, "")
    listed = fas_evidence("plugin", "list", "-o", "json").json
    assert [each["revoked_at"] is None for each in listed] == [False, True]
    ran = fas_evidence("plugin", "rotate", NAME)
    assert (ran.code, ran.err) == (0, "")
    ran = fas_evidence("plugin", "rotate", NAME, "--finish", "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert keys.fingerprint("leaf") in ran.out
    assert fas_evidence("plugin", "revoke", NAME, "--yes").code == 0
    assert {each["revoked_at"] is None for each in fas_evidence("plugin", "list", "-o", "json").json} == {False}


def _leaf(place: Place) -> Path:
    certificate = x509.load_der_x509_certificate(keys.certificate("leaf"))
    return place.write("leaf.pem", certificate.public_bytes(Encoding.PEM))


def test_promise_85_a_revocation_is_effective_while_the_service_runs(deployed: Deployed) -> None:
    """All credentials of the name are refused, and the line says what to do (promise 85)."""
    settings = deployed.enrolled()
    assert deployed.run("plugin", "revoke", NAME, "--yes").code == 0
    until(lambda: trial(settings).code == 3)
    ran = trial(settings)
    assert ran.code == 3
    (line,) = [each for each in ran.out.splitlines() if each.startswith(f"FAILED  {deployed.url}/v1/decisions ")]
    assert "caller_refused: " in line
    assert "fas-evidence plugin list" in line
    assert ran.err == ""


def test_what_stands_between(deployed: Deployed) -> None:
    """Another certificate than the pinned one, a stranger, and no service: kind, remedy, exit code 3."""
    settings = deployed.enrolled()
    text = settings.read_text(encoding="utf-8")
    pinned = read_settings(settings).server_pins[0]
    wrong = deployed.place.write("wrong.xml", text.replace(pinned, "0" * 64))
    ran = trial(wrong)
    assert ran.code == 3
    assert "wrong_certificate: " in ran.out
    assert "ServerPin" in ran.out

    stranger = deployed.place.directory / "stranger"
    stranger.mkdir()
    other = ("--service", deployed.url, "--server-certificate", deployed.server.certificate, "--out", stranger)
    elsewhere = f"sqlite:///{stranger}/other.db"
    assert fas_evidence("--database", elsewhere, "plugin", "enroll", NAME, *other).code == 0
    ran = trial(stranger / settings.name)
    assert ran.code == 3
    assert "is enrolled and valid" in ran.out or "no_service: " in ran.out

    silent = socket.socket()  # has the port, so that nobody else gets it, and does not listen
    silent.bind(("127.0.0.1", 0))
    dead = f"https://127.0.0.1:{silent.getsockname()[1]}"
    two = deployed.place.write(
        "two.xml", text.replace("  <ServerPin>", f"  <Service>{dead}</Service>\n  <ServerPin>", 1)
    )
    ran = trial(two)
    assert ran.code == 3
    (line,) = [each for each in ran.out.splitlines() if each.startswith(f"FAILED  {dead}/v1/decisions ")]
    assert "no_service: " in line
    assert "Check that the service runs" in line
    assert [each["works"] for each in trial(two, "-o", "json").json] == [True, False]
    captured = deployed.place.write("captured.xml", evidence(at=datetime.now(UTC)))
    assert trial(two, "--upn", ALICE, "--evidence", captured).code == 0
    silent.close()


def test_a_service_that_can_record_nothing(deployed: Deployed) -> None:
    """It is reached and denies, but with another reason than a service that works: exit code 1, and the reason."""
    settings = deployed.enrolled()
    holder = sqlite3.connect(deployed.place.database, isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        ran = trial(settings)
    finally:
        holder.close()
    assert ran.code == 1
    assert "but nothing can be allowed there: journal_unavailable: " in ran.out


def test_a_question_that_cannot_be_put(deployed: Deployed) -> None:
    """A UPN beyond the contract is bad input, before anything is sent."""
    settings = deployed.enrolled()
    ran = trial(settings, "--upn", "a" * 2000, "--evidence", deployed.place.evidence)
    assert ran.code == 2
    assert "question_invalid: upn is longer than 1024 characters" in ran.out


def test_observe_mode_is_said(deployed: Deployed) -> None:
    """Where everything is allowed, the test says so, and that asking works."""
    settings = deployed.enrolled()
    assert deployed.run("rule", "set", "default", "--mode", "observe").code == 0
    captured = deployed.place.write("captured.xml", evidence(at=datetime.now(UTC)))
    until(lambda: "in observe mode" in trial(settings).out)
    ran = trial(settings)
    assert (ran.code, ran.err) == (0, "")
    assert "in observe mode: allows everything, and records what it would deny" in ran.out
    ran = trial(settings, "--upn", "bob@corp.example", "--evidence", captured)
    assert (ran.code, ran.err) == (0, "")
    assert "allow in observe mode; otherwise deny: upn_mismatch" in ran.out


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot be read"),
        ("<Other/>", "the outermost element is not <EvidencePlugin>"),
        ("<EvidencePlugin><Service>http://a</Service></EvidencePlugin>", "Service: http://a is not an https address"),
        ("<EvidencePlugin><Sevice>https://a</Sevice></EvidencePlugin>", "Sevice: there is no such setting"),
    ],
    ids=["absent", "other", "address", "unknown"],
)
def test_settings_that_cannot_be_used(place: Place, text: str | None, problem: str) -> None:
    """One line names file and member; exit code 2."""
    path = place.directory / "settings.xml"
    if text is not None:
        place.write(path.name, text)
    ran = trial(path)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(f"settings {path}: ")
    assert problem in ran.complaint


def test_upn_and_evidence_belong_together(place: Place) -> None:
    """One without the other is wrong usage."""
    ran = trial(place.evidence, "--upn", ALICE)
    assert ran.code == 2
    assert ran.complaint.startswith("--upn and --evidence belong together")


def test_every_failure_has_a_remedy() -> None:
    """None is left without a word on what to do."""
    assert set(REMEDIES) == set(Failure)
