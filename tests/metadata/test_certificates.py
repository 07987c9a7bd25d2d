"""Certificates from files: what is read, and that nothing but certificates ever is."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)
from hypothesis import example, given
from hypothesis import strategies as st

from idp_certs.certificates import MAX_CERTIFICATES, MAX_CERTIFICATES_BYTES, parse_certificates
from idp_certs.reasons import Finding, Refused
from tests.corpus import keys
from tests.metadata.vendors import base64_of, ders
from tests.properties.given import examples, mutated

KEY = keys.private_key("idp")


def loaded(*names: str) -> list[x509.Certificate]:
    """The corpus' certificates of these names."""
    return [x509.load_der_x509_certificate(der) for der in ders(*names)]


def pem(*names: str) -> bytes:
    """They in PEM."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in loaded(*names))


def private(
    form: PrivateFormat = PrivateFormat.PKCS8, encoding: Encoding = Encoding.PEM, *, locked: bool = False
) -> bytes:
    """A private key."""
    return KEY.private_bytes(encoding, form, BestAvailableEncryption(b"x") if locked else NoEncryption())


def many(number: int) -> list[x509.Certificate]:
    """So many different certificates: of one, only the serial is changed, as nobody checks their signatures."""
    (der,) = ders("idp")
    at = der.index(bytes.fromhex("020203e9")) + 2
    return [
        x509.load_der_x509_certificate(der[:at] + (1000 + each).to_bytes(2, "big") + der[at + 2 :])
        for each in range(number)
    ]


def refused(data: bytes) -> Finding:
    """Why it is refused."""
    with pytest.raises(Refused) as caught:
        parse_certificates(data)
    return caught.value.finding


BAG = b"Bag Attributes\n    localKeyID: 01\nsubject=CN = idp.example\n"
READ: dict[str, tuple[bytes, tuple[str, ...]]] = {
    # sentence: (data, certificates found)
    "PEM": (pem("idp"), ("idp",)),
    "PEM with CR LF": (pem("idp").replace(b"\n", b"\r\n"), ("idp",)),
    "PEM after a byte order mark": (b"\xef\xbb\xbf" + pem("idp"), ("idp",)),
    "several in PEM": (pem("idp_next", "idp"), ("idp_next", "idp")),
    "the same twice": (pem("idp", "idp_next", "idp"), ("idp", "idp_next")),
    "PEM with text before each": (BAG + pem("idp") + BAG + pem("idp_next") + b"\n\n", ("idp", "idp_next")),
    "the old label": (pem("idp").replace(b"CERTIFICATE", b"X509 CERTIFICATE"), ("idp",)),
    "DER": (keys.certificate("idp"), ("idp",)),
    "DER of an elliptic curve": (keys.certificate("p256"), ("p256",)),
    "base64 without markers": (base64_of("idp", width=64).encode(), ("idp",)),
    "PKCS #7 in DER": (pkcs7.serialize_certificates(loaded("idp", "idp_next"), Encoding.DER), ("idp", "idp_next")),
    "PKCS #7 in PEM": (pkcs7.serialize_certificates(loaded("idp", "idp_next"), Encoding.PEM), ("idp", "idp_next")),
    "base64 of PKCS #7": (
        base64.encodebytes(pkcs7.serialize_certificates(loaded("idp"), Encoding.DER)),
        ("idp",),
    ),
    "expired": (pem("idp_expired"), ("idp_expired",)),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read(name: str) -> None:
    """Each form in which administrators have certificates gives the same DER, in order, each once."""
    data, expected = READ[name]

    assert set(parse_certificates(data)) == set(ders(*expected))
    if "PKCS" not in name:  # a SET has no order
        assert parse_certificates(data) == ders(*expected)


WITH_KEY: dict[str, Callable[[], bytes]] = {
    "PKCS #8 before": lambda: private() + pem("idp"),
    "PKCS #8 after": lambda: pem("idp") + private(),
    "PKCS #1": lambda: pem("idp") + private(PrivateFormat.TraditionalOpenSSL),
    "encrypted": lambda: pem("idp") + private(locked=True),
    "the markers cut short": lambda: pem("idp") + private()[:200],
    "DER": lambda: private(encoding=Encoding.DER),
    "DER of PKCS #1": lambda: private(PrivateFormat.TraditionalOpenSSL, Encoding.DER),
    "DER, encrypted": lambda: private(encoding=Encoding.DER, locked=True),
    "base64 without markers": lambda: base64.encodebytes(private(encoding=Encoding.DER)),
    "PKCS #12": lambda: pkcs12.serialize_key_and_certificates(
        b"x", keys.rsa_key("idp"), loaded("idp")[0], None, BestAvailableEncryption(b"x")
    ),
}


@pytest.mark.parametrize("name", WITH_KEY)
def test_promise_83_a_private_key_is_refused(name: str) -> None:
    """Promise 83: with a private key nothing is read at all; the message says so and shows none of it."""
    finding = refused(WITH_KEY[name]())

    assert finding.reason == "metadata_bad_cert"
    assert finding.expected == "certificates only"
    assert finding.presented.startswith("a private key: export the certificate without it")


BROKEN: dict[str, tuple[bytes, str]] = {
    # sentence: data, what is presented
    "nothing": (b"", "none"),
    "blanks": (b" \n", "none"),
    "text": (b"hello", "text that is none of these"),
    "a web page": (b"<html>Sign in</html>", "text that is none of these"),
    "bytes": (b"\x00\x01\xff", "bytes that are none of these"),
    "a zip file": (b"PK\x03\x04\xff\xff", "bytes that are none of these"),
    "UTF-16": (b"\xff\xfe" + pem("idp").decode().encode("utf-16-le"), "bytes that are none of these"),
    "DER with a byte after it": (keys.certificate("idp") + b"\0", "something else, or bytes after it"),
    "DER twice": (keys.certificate("idp") * 2, "something else, or bytes after it"),
    "DER cut short": (keys.certificate("idp")[:-1], "something else, or bytes after it"),
    "PEM with text after it": (pem("idp") + b"x", "more text"),
    "PEM without its end": (pem("idp")[:-20], "one without the other"),
    "an end without PEM": (pem("idp") + b"-----END CERTIFICATE-----\n", "one without the other"),
    "one good, one broken": (pem("idp") + pem("idp").replace(b"MII", b"MIJ", 1), "not a certificate"),
    "PEM of no base64": (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----", "not base64"),
    "empty PEM": (b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----", "empty"),
    "a public key": (
        KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "a PUBLIC KEY",
    ),
    "PKCS #7 with bytes after it": (
        pkcs7.serialize_certificates(loaded("idp"), Encoding.DER) + b"\0",
        "something else, or bytes after it",
    ),
    "PKCS #7 label on a certificate": (pem("idp").replace(b"CERTIFICATE", b"PKCS7"), "something else"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_refused(name: str) -> None:
    """What is not wholly certificates is refused as a whole, with what it looks like."""
    data, presented = BROKEN[name]

    finding = refused(data)

    assert finding.reason == "metadata_bad_cert"
    assert finding.presented.startswith(presented)


def test_the_broken_one_is_named() -> None:
    """Of several in PEM the place of the broken one is said."""
    assert refused(pem("idp", "idp_next") + BROKEN["PEM of no base64"][0]).where == "certificate 3"


def test_a_certificate_with_an_unreadable_year() -> None:
    """A validity that cannot be read as an instant makes a certificate unusable, here as in metadata."""
    der = keys.certificate("idp").replace(b"\x17\x0d250101000000Z", b"\x17\x0d250199000000Z")
    assert der != keys.certificate("idp")

    assert refused(der).reason == "metadata_bad_cert"


@pytest.mark.parametrize("form", ["PEM", "PKCS #7"])
def test_promise_83_how_many(form: str) -> None:
    """Promise 83: 32 certificates are read and 33 are refused."""

    def data(number: int) -> bytes:
        if form == "PEM":
            return b"".join(each.public_bytes(Encoding.PEM) for each in many(number))
        return pkcs7.serialize_certificates(many(number), Encoding.DER)

    assert len(parse_certificates(data(MAX_CERTIFICATES))) == MAX_CERTIFICATES
    assert refused(data(MAX_CERTIFICATES + 1)).reason == "metadata_too_large"


def test_promise_83_how_large() -> None:
    """Promise 83: PKCS #7 with 10,000 certificates, or any file of that size, is refused unread."""
    data = pkcs7.serialize_certificates(many(10_000), Encoding.DER)

    assert refused(data).reason == "metadata_too_large"
    assert refused(b" " * (MAX_CERTIFICATES_BYTES + 1)).reason == "metadata_too_large"


@examples(300)
@given(st.one_of(st.binary(max_size=60), *(mutated(st.just(data)) for data, _ in READ.values())))
@example(b"\x30\x80")
@example(b"\x30\x84\xff\xff\xff\xff")
@example(b"\x30\xff")
def test_only_refused_leaves(data: bytes) -> None:
    """Law: whatever the bytes, certificates or Refused."""
    with suppress(Refused):
        assert parse_certificates(data)
