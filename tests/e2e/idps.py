"""Identity providers as processes of their own: what they need, how they start, how a user signs in to them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.e2e.browser import GATEWAY, Posted, loopback, sign_in

HERE = Path(__file__).parent
INSTALL = "run tests/e2e/install-idps.sh as root"
SIMPLESAMLPHP_WWW = Path("/usr/share/simplesamlphp/www")
PASSWORDS = {"alice": "wonder", "bob": "builder", "carol": "singer", "dave": "diver"}
START_SECONDS = 60

SIGNED_FORMS = ("assertion-signed", "response-signed", "both-signed")
FORMS: Mapping[str, tuple[str, ...]] = {
    "simplesamlphp": (*SIGNED_FORMS, "encrypted-cbc", "encrypted-response-signed", "sha512"),
    "samlp": (*SIGNED_FORMS, "encrypted-cbc", "encrypted-gcm", "encrypted-response-signed"),
}
"""The forms of response that each can be asked for and that a policy without exceptions allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningIdp:
    """An identity provider that answers on loopback."""

    name: str
    entity_id: str
    metadata_url: str
    sso_url: str
    keys: Path
    """The directory of its key pairs."""

    def metadata(self) -> bytes:
        """Its own published metadata."""
        with loopback() as client:
            return client.get(self.metadata_url).raise_for_status().content

    def sign_in(self, form: str, *, user: str = "alice", audience: str = GATEWAY) -> Posted:
        """A fresh response of this form for the user."""
        return sign_in(f"{self.sso_url}?form={form}", user=user, password=PASSWORDS[user], audience=audience)

    def use(self, *, signing: str, listed: Sequence[str], metadata_signed_by: str | None = None) -> None:
        """Sign with one key pair of `keys` from now on, and list these in metadata that one of them may sign.

        A pair has the name of its files. samlp cannot sign metadata; SimpleSAMLphp always lists the one it signs with.
        """
        use_keys(self.keys, signing=signing, listed=listed, metadata_signed_by=metadata_signed_by)


def use_keys(directory: Path, *, signing: str, listed: Sequence[str], metadata_signed_by: str | None) -> None:
    """Write which key pairs of the directory an identity provider uses, so that a request sees all of it or nothing."""
    fresh = directory / "keys.json.new"
    fresh.write_text(json.dumps({"signing": signing, "listed": list(listed), "metadata": metadata_signed_by}))
    fresh.replace(directory / "keys.json")


def missing(name: str) -> str | None:
    """What keeps this identity provider from running here, or None."""
    programs = {"simplesamlphp": "php", "samlp": "node"}
    files = {
        "simplesamlphp": SIMPLESAMLPHP_WWW / "index.php",
        "samlp": HERE / "samlp" / "node_modules" / "samlp" / "package.json",
    }
    if shutil.which(programs[name]) is None:
        return f"{name} needs {programs[name]}, which is not installed: {INSTALL}"
    if not files[name].exists():
        return f"{name} is not installed: {INSTALL}"
    return None


@contextlib.contextmanager
def running(name: str, directory: Path, service_certificate: Path) -> Iterator[RunningIdp]:
    """Start the identity provider with a fresh signing key, wait until it answers, and stop it at the end.

    `directory` takes everything it writes; `service_certificate` (PEM) is what it encrypts assertions to.
    """
    certificates = directory / "cert"
    certificates.mkdir(parents=True)
    write_key_pair(certificates, "signing", f"{name} token signing")
    use_keys(certificates, signing="signing", listed=["signing"], metadata_signed_by=None)
    shutil.copy(service_certificate, certificates / "service.crt")
    with reserved_port() as port:
        yield from _running(name, directory, certificates, port)


def _running(name: str, directory: Path, certificates: Path, port: int) -> Iterator[RunningIdp]:
    url = f"http://127.0.0.1:{port}"
    if name == "simplesamlphp":
        for part in ("log", "data", "tmp", "sessions"):
            (directory / part).mkdir()
        command = ["php", "-d", "opcache.enable=0", "-S", f"127.0.0.1:{port}", "-t", str(SIMPLESAMLPHP_WWW)]
        environment = {
            "SIMPLESAMLPHP_CONFIG_DIR": str(HERE / "simplesamlphp"),
            "IDP_DIR": str(directory),
            "IDP_URL": url,
        }
        idp = RunningIdp(
            name=name,
            entity_id="https://idp.example/simplesamlphp",
            metadata_url=f"{url}/saml2/idp/metadata.php",
            sso_url=f"{url}/saml2/idp/SSOService.php",
            keys=certificates,
        )
    else:
        command = ["node", str(HERE / "samlp" / "idp.js"), str(port), str(certificates)]
        environment = {}
        idp = RunningIdp(
            name=name,
            entity_id="urn:example:idp:samlp",
            metadata_url=f"{url}/metadata",
            sso_url=f"{url}/sso",
            keys=certificates,
        )
    with process(command, directory / "output.log", environment, answers=idp.metadata_url):
        yield idp


@contextlib.contextmanager
def process(
    command: list[str], log: Path, environment: Mapping[str, str], *, answers: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the block, which begins once `answers` answers 200 (None: at once).

    Raises AssertionError with the end of its output where it stops or stays silent.
    """
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + START_SECONDS
        with loopback() as client:
            while answers is not None and not _answers(client, answers):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{command[0]} does not answer {answers}:\n{log.read_text()[-4000:]}")
                time.sleep(0.05)
        yield server
    finally:
        server.terminate()
        try:
            server.wait(timeout=60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == 200
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A port of 127.0.0.1 that only a server gets which asks for it by number, and allows the address to be re-used."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        yield port


def write_key_pair(directory: Path, stem: str, common_name: str) -> tuple[Path, Path]:
    """Write a new RSA key and its self-signed certificate as `stem`.key and `stem`.crt (PEM); return both paths."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = directory / f"{stem}.key", directory / f"{stem}.crt"
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    key_file.chmod(0o600)
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file
