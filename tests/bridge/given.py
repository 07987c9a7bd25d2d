"""Certificates, settings files and the compiled plug-in, as a FAS server would have them."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import json
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.web.listening import Identity

_log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
BRIDGE = ROOT / "plugin_bridge"
PASSWORD = "correct horse"
PATIENCE = 500.0
"""Seconds for the test host: more than any test may take, so that pytest's own limit names what hangs."""

needs_mono = pytest.mark.skipif(
    shutil.which("mono") is None or shutil.which("mcs") is None or shutil.which("nunit-console") is None,
    reason="mono, mcs and nunit-console are missing: run tests/bridge/install-mono.sh",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """The compiled plug-in with its test host."""

    directory: Path

    def host(self, *arguments: str | Path, events: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the test host; events go into the directory."""
        environment = {**os.environ, "MONO_EVENTLOG_TYPE": f"local:{events}" if events else "null"}
        for last in (False, True):
            ran = subprocess.run(
                ["mono", str(self.directory / "TestHost.exe"), *map(str, arguments)],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
                env=environment,
                cwd=self.directory,
            )
            # Once in some hundred runs a busy mono 6.8 aborts in its own thread that waits for sockets, by an assertion
            # in C; what goes wrong in managed code is an unhandled exception instead, and never comes here.
            if last or ran.returncode != -signal.SIGABRT:
                break
            _log.warning("mono itself aborted and is run once more: %s", (ran.stdout + ran.stderr)[-500:])
        return ran

    def ask(
        self, settings: Path, questions: Iterable[Mapping[str, Any]], *, callers: int = 1, events: Path | None = None
    ) -> dict[str, dict[str, Any]]:
        """Put all questions through the library; the answers by id."""
        lines = settings.parent / "questions.jsonl"
        lines.write_text("".join(json.dumps(question) + "\n" for question in questions), encoding="ascii")
        ran = self.host("ask", settings, lines, "--callers", str(callers), events=events)
        assert ran.returncode in (0, 1), ran.stderr
        assert ran.stderr == "", ran.stderr
        answers = [json.loads(line) for line in ran.stdout.splitlines()]
        return {answer["id"]: answer for answer in answers}

    def load(
        self, settings: Path, questions: Iterable[Mapping[str, Any]], *, callers: int, count: int
    ) -> dict[str, Any]:
        """Ask `count` times from as many threads, and measure."""
        lines = settings.parent / "load.jsonl"
        lines.write_text("".join(json.dumps(question) + "\n" for question in questions), encoding="ascii")
        ran = self.host("load", settings, lines, "--callers", str(callers), "--count", str(count))
        assert ran.stderr == "", ran.stderr
        measured: dict[str, Any] = json.loads(ran.stdout)
        return measured


def compile_plugin(directory: Path) -> Plugin:
    """Compile the library and the test host."""
    ran = subprocess.run(["sh", BRIDGE / "build.sh", directory, "tests"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return Plugin(directory=directory)


def rsa_identity(directory: Path, name: str) -> Identity:
    """An RSA identity; mono's certificate store takes no other."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    paths = directory / f"{name}.pem", directory / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Identity(certificate=paths[0], key=paths[1], der=certificate.public_bytes(Encoding.DER))


def issued(
    directory: Path,
    host: str,
    *,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    alternative: bool = True,
    middle: bool = False,
) -> tuple[Path, Identity]:
    """A CA's certificate, and a server's that it issued for this host name or address.

    Without `alternative` the name stands in the subject only. With `middle` the CA is itself of another CA.
    """
    now = datetime.now(UTC)

    def certificate(
        name: str, issuer: str, key: RSAPrivateKey, signer: RSAPrivateKey, extensions: list[x509.ExtensionType]
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(signer, hashes.SHA256())

    ca_key, key = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    root_key = rsa.generate_private_key(public_exponent=65537, key_size=2048) if middle else ca_key
    root = "root CA" if middle else "corp CA"
    ca = certificate("corp CA", root, ca_key, root_key, [x509.BasicConstraints(ca=True, path_length=0)])
    name: x509.GeneralName = x509.DNSName(host)
    with contextlib.suppress(ValueError):
        name = x509.IPAddress(ipaddress.ip_address(host))
    extensions: list[x509.ExtensionType] = [x509.ExtendedKeyUsage([usage])]
    if alternative:
        extensions.append(x509.SubjectAlternativeName([name]))
    server = certificate(host, "corp CA", key, ca_key, extensions)
    directory.mkdir()
    paths = [directory / file for file in ("ca.pem", "server.pem", "server.key")]
    paths[0].write_bytes(ca.public_bytes(Encoding.PEM))
    paths[1].write_bytes(server.public_bytes(Encoding.PEM))
    paths[2].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths[0], Identity(certificate=paths[1], key=paths[2], der=server.public_bytes(Encoding.DER))


def pfx(client: Identity) -> Path:
    """A PFX file of the one kind that mono and Windows Server 2016 read too: 3DES and SHA-1."""
    path = client.certificate.with_suffix(".pfx")
    form = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(2000)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())
        .build(PASSWORD.encode())
    )
    key = load_pem_private_key(client.key.read_bytes(), None)
    certificate = x509.load_der_x509_certificate(client.der)
    path.write_bytes(pkcs12.serialize_key_and_certificates(b"fas", key, certificate, None, form))  # type: ignore[arg-type]
    return path


def pin(server: Identity) -> str:
    """The SHA-256 of a certificate."""
    return x509.load_der_x509_certificate(server.der).fingerprint(hashes.SHA256()).hex()


def write_settings(path: Path, members: Mapping[str, object]) -> Path:
    """A settings file; a member that is None is left out, a list stands there once for each value."""
    lines = [
        f"  <{name}>{escape(str(each))}</{name}>\n"
        for name, value in members.items()
        for each in (value if isinstance(value, list) else [value])
        if each is not None
    ]
    path.write_text(f"<EvidencePlugin>\n{''.join(lines)}</EvidencePlugin>\n", encoding="utf-8")
    return path


def settings_for(directory: Path, port: int | list[int], server: Identity, client: Identity, **members: object) -> Path:
    """The settings of a plug-in that asks services on these ports."""
    ports = port if isinstance(port, list) else [port]
    return write_settings(
        directory / "EvidencePlugin.xml",
        {
            "Service": [f"https://127.0.0.1:{each}" for each in ports],
            "ServerPin": pin(server),
            "ClientCertificateFile": pfx(client),
            "ClientCertificatePassword": PASSWORD,
            "FasServer": "fas1.corp.example",
            **members,
        },
    )


@functools.cache
def failure_codes() -> dict[str, int]:
    """Code to event id, as FailClosed.md lists them."""
    found = {}
    for line in (BRIDGE / "FailClosed.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 3 and cells[1].isdigit() and cells[2].startswith("`"):
            found[cells[2].strip("`")] = int(cells[1])
    return found
