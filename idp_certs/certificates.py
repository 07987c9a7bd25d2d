"""Certificates as people hand them over: PEM, DER or PKCS #7, and the base64 that stands in metadata.

Only what is nothing but certificates is read. A private key is refused with the whole of what it came in, so that it is
never stored (promise 83). Not judged here: dates, key strength, and who gave the certificates.
"""

from __future__ import annotations

import base64
import binascii
import re

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, pkcs7

from idp_certs.reasons import Refused, TrustReason

MAX_CERTIFICATES_BYTES = 256 * 1024
MAX_CERTIFICATES = 32
MAX_CERTIFICATE_BYTES = 64 * 1024
"""DER of one certificate; what is listed is stored, and larger ones are made to fill a disk."""

_PEM_MARKER = re.compile(r"-----(?:BEGIN|END) CERTIFICATE-----")
_SPACE = re.compile("[ \t\r\n]+")
_BLOCK = re.compile(r"-----BEGIN ([^-\r\n]{1,40})-----((?:(?!-----).)*)-----END \1-----", re.DOTALL)
_CERTIFICATE_LABELS = ("CERTIFICATE", "X509 CERTIFICATE")
_PKCS7_LABELS = ("PKCS7", "CMS")
_PKCS12_START = re.compile(rb"\x30(?:[\x00-\x7f]|[\x81-\x84].{1,4}?|\x80)\x02\x01\x03\x30", re.DOTALL)
_BOM = b"\xef\xbb\xbf"


def parse_certificate(text: str) -> bytes:
    """DER of the one certificate in base64 `text`; white space and PEM markers are let be. Raises ValueError."""
    try:
        der = binascii.a2b_base64(_SPACE.sub("", _PEM_MARKER.sub("", text)), strict_mode=True)
    except ValueError:
        raise ValueError("not base64") from None
    if not der:
        raise ValueError("empty")
    return _checked(der)


def _checked(der: bytes) -> bytes:
    """The same bytes, once they are known to be one certificate that can be used. Raises ValueError."""
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise ValueError(f"larger than {MAX_CERTIFICATE_BYTES} bytes")
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.public_key()
        _ = (
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )  # X.509 can write years that we cannot read
    except Exception:  # noqa: BLE001 - a dozen types for hostile DER
        raise ValueError(f"not a certificate: {base64.b64encode(der[:12]).decode()}...") from None
    return der


def parse_certificates(data: bytes) -> tuple[bytes, ...]:
    """DER of the certificates in `data`, in order, each once, at least one and at most 32.

    `data` is PEM (one certificate or several, text before each is let be), DER of one, the base64 of one, or PKCS #7
    in DER or PEM. PKCS #7 often holds the certificates of authorities too: a person must see what is trusted.

    Raises Refused: `metadata_too_large`, or `metadata_bad_cert` for a private key, for what is no certificate or
    holds something after it.
    """
    if len(data) > MAX_CERTIFICATES_BYTES:
        raise Refused(
            TrustReason.METADATA_TOO_LARGE,
            expected=f"at most {MAX_CERTIFICATES_BYTES} bytes of certificates",
            presented=f"{len(data)} bytes",
        )
    data = data.removeprefix(_BOM)
    if data[:1] == b"\x30":
        found = _of_der(data)
    else:
        try:
            text = data.decode("ascii")
        except UnicodeDecodeError:
            raise _bad("PEM, DER or PKCS #7", "bytes that are none of these") from None
        found = _of_text(text)
    distinct = tuple(dict.fromkeys(found))
    if not distinct:
        raise _bad("at least one certificate", "none")
    if len(distinct) > MAX_CERTIFICATES:
        raise Refused(
            TrustReason.METADATA_TOO_LARGE,
            expected=f"at most {MAX_CERTIFICATES} certificates",
            presented=str(len(distinct)),
        )
    return distinct


def _bad(expected: str, presented: str, where: str = "") -> Refused:
    return Refused(TrustReason.METADATA_BAD_CERT, expected=expected, presented=presented, where=where)


def _private() -> Refused:
    return _bad(
        "certificates only",
        "a private key: export the certificate without it, and replace the key pair if others could read this file",
    )


def _of_text(text: str) -> list[bytes]:
    if "PRIVATE KEY-----" in text:
        raise _private()
    if "-----BEGIN " not in text:
        try:
            der = binascii.a2b_base64(_SPACE.sub("", text), strict_mode=True)
        except ValueError:
            raise _bad("PEM, DER or PKCS #7", "text that is none of these") from None
        return _of_der(der) if der else []
    blocks = list(_BLOCK.finditer(text))
    if len(blocks) != text.count("-----BEGIN ") or len(blocks) != text.count("-----END "):
        raise _bad("a BEGIN and an END line around each certificate", "one without the other")
    if text[blocks[-1].end() :].strip():
        raise _bad("nothing after the last certificate", "more text")
    return [der for number, block in enumerate(blocks, 1) for der in _of_block(block, f"certificate {number}")]


def _of_block(block: re.Match[str], where: str) -> list[bytes]:
    if block[1] in _CERTIFICATE_LABELS:
        try:
            return [parse_certificate(block[2])]
        except ValueError as problem:
            raise _bad("base64 of one DER certificate", str(problem), where) from None
    if block[1] in _PKCS7_LABELS:
        try:
            return _of_pkcs7(binascii.a2b_base64(_SPACE.sub("", block[2]), strict_mode=True))
        except ValueError:
            raise _bad("PKCS #7 of certificates", "something else", where) from None
    raise _bad("certificates only", f"a {block[1]}", where)


def _of_der(der: bytes) -> list[bytes]:
    try:
        return [_checked(der)]
    except ValueError:
        if _is_private(der):
            raise _private() from None
    try:
        return _of_pkcs7(der)
    except ValueError:
        raise _bad("DER of one certificate, or PKCS #7", "something else, or bytes after it") from None


def _of_pkcs7(der: bytes) -> list[bytes]:
    """Raises ValueError for whatever is not exactly that."""
    if not _is_one_value(der):  # the library would read on as BER and let be what follows
        raise ValueError("not PKCS #7")
    try:
        certificates = pkcs7.load_der_pkcs7_certificates(der)
    except Exception:  # noqa: BLE001 - as for certificates
        raise ValueError("not PKCS #7") from None
    return [_checked(each.public_bytes(Encoding.DER)) for each in certificates]


def _is_one_value(der: bytes) -> bool:
    """Whether the outermost SEQUENCE has a definite length and ends where the bytes end."""
    if len(der) < 2 or der[0] != 0x30:
        return False
    if der[1] < 0x80:
        return len(der) == 2 + der[1]
    octets = der[1] & 0x7F
    return octets > 0 and len(der) == 2 + octets + int.from_bytes(der[2 : 2 + octets])


def _is_private(der: bytes) -> bool:
    if _PKCS12_START.match(der):
        return True
    try:
        load_der_private_key(der, None)
    except TypeError:  # it is one, encrypted
        return True
    except Exception:  # noqa: BLE001 - as for certificates
        return False
    return True
