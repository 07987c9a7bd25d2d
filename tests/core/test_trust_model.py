"""Certificates as values: what is strong, what is readable, what is frozen."""

from __future__ import annotations

import pytest

from idp_certs.model import CertificateState, SigningCertificate
from tests.core.given import LONG_AGO, certificate, snapshot_of
from tests.corpus import keys


@pytest.mark.parametrize(
    ("name", "strong", "description"),
    [
        ("idp", True, "RSA 2048"),
        ("strong", True, "RSA 4096"),
        ("weak", False, "RSA 1024"),
        ("p224", False, "EC secp224r1"),
        ("p256", True, "EC secp256r1"),
        ("p384", True, "EC secp384r1"),
        ("p521", True, "EC secp521r1"),
    ],
)
def test_strength(name: str, strong: bool, description: str) -> None:
    """RSA from 2048 bits and curves from 256 bits are strong."""
    made = certificate(name)

    assert (made.has_strong_key, made.key_description) == (strong, description)
    assert made.sha256 == keys.fingerprint(name)


def test_the_same_key_in_another_certificate() -> None:
    """A renewed certificate has another digest and the same key's digest."""
    assert certificate("idp").sha256 != certificate("idp_renewed").sha256
    assert certificate("idp").key_sha256 == certificate("idp_renewed").key_sha256
    assert certificate("idp").key_sha256 != certificate("idp_next").key_sha256


@pytest.mark.parametrize("der", [b"", b"\x30\x00", keys.certificate("idp")[:-1], keys.certificate("idp") + b"\0"])
def test_what_is_no_certificate(der: bytes) -> None:
    """Other bytes than one certificate are a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        SigningCertificate(der=der, state=CertificateState.TRUSTED, since=LONG_AGO, provenance="test")


def test_a_snapshot_is_frozen() -> None:
    """Neither trust nor policies can be changed once given out."""
    snapshot = snapshot_of()

    with pytest.raises(TypeError):
        snapshot.trust.providers["x"] = None  # type: ignore[index]
    with pytest.raises(TypeError):
        snapshot.policies["x"] = None  # type: ignore[index]
