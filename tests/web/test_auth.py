"""Who may ask, by which proof, on which listener."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from evidence_service.adapters.snapshots import Plugins
from evidence_service.web.auth import Authenticator, Caller, Refusal

CERTIFICATE, OTHER = b"certificate", b"other"
KEY, REVOKED_KEY = b"k" * 43, b"r" * 43


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


PLUGINS = Plugins(by_certificate={digest(CERTIFICATE): "fas1"}, by_key={digest(KEY): "fas2"})
REVOKED = frozenset({digest(b"revoked certificate"), digest(REVOKED_KEY)})


def identify(
    *headers: tuple[bytes, bytes], certificate: bytes | None = None, loopback: bool = True, anonymous: bool = False
) -> Caller | Refusal:
    """The verdict on a request."""
    scope: dict[str, Any] = {"headers": list(headers), "extensions": {"tls": {"client_cert_der": certificate}}}
    authenticator = Authenticator(
        lambda: PLUGINS, loopback=loopback, allow_anonymous=anonymous, revoked=lambda: REVOKED
    )
    return authenticator.identify(scope)


def bearer(key: bytes, scheme: bytes = b"Bearer") -> tuple[bytes, bytes]:
    """The header that carries a key."""
    return (b"authorization", scheme + b" " + key)


@pytest.mark.parametrize("loopback", [True, False])
def test_an_enrolled_certificate_names_its_plugin(loopback: bool) -> None:
    """By thumbprint, on any listener."""
    assert identify(certificate=CERTIFICATE, loopback=loopback) == Caller(name="fas1")


def test_promise_85_unknown_and_revoked_certificates_are_refused() -> None:
    """An unknown one is a stranger, a revoked one is forbidden, even where anonymous callers are let in."""
    assert identify(certificate=OTHER, anonymous=True) is Refusal.UNKNOWN
    assert identify(certificate=b"revoked certificate", anonymous=True) is Refusal.REVOKED


def test_a_certificate_is_no_key_and_a_key_no_certificate() -> None:
    """The two kinds of credentials are looked up apart."""
    assert identify(bearer(CERTIFICATE)) is Refusal.UNKNOWN
    assert identify(certificate=KEY) is Refusal.UNKNOWN


def test_a_key_counts_on_loopback_only() -> None:
    """A bearer key that can be overheard is no proof."""
    assert identify(bearer(KEY)) == Caller(name="fas2")
    assert identify(bearer(KEY, b"bEARER")) == Caller(name="fas2")
    assert identify(bearer(KEY), loopback=False) is Refusal.UNKNOWN


@pytest.mark.parametrize(
    "headers",
    [
        [bearer(KEY[:-1])],
        [bearer(b"")],
        [bearer(KEY, b"Basic")],
        [(b"authorization", KEY)],
        [(b"authorization", b"")],
        [bearer(KEY + b" ")],
        [bearer(KEY), bearer(KEY)],
        [bearer(digest(KEY).encode())],
    ],
)
def test_a_wrong_key_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    """Also where none would be needed: who shows a credential means it."""
    assert identify(*headers) is Refusal.UNKNOWN
    assert identify(*headers, anonymous=True) is Refusal.UNKNOWN


def test_a_revoked_key_is_forbidden() -> None:
    """Apart from unknown, so that an operator sees which it is."""
    assert identify(bearer(REVOKED_KEY)) is Refusal.REVOKED


def test_anonymous_callers_only_on_loopback_and_when_set() -> None:
    """Three of the four combinations refuse."""
    assert identify() is Refusal.UNKNOWN
    assert identify(loopback=False) is Refusal.UNKNOWN
    assert identify(anonymous=True, loopback=False) is Refusal.UNKNOWN
    assert identify(anonymous=True) == Caller(name="anonymous")


def test_promise_85_headers_of_proxies_prove_nothing() -> None:
    """What a proxy, or anyone, writes into a header is not a certificate."""
    headers = [
        (b"x-client-cert", CERTIFICATE),
        (b"x-ssl-client-verify", b"SUCCESS"),
        (b"x-forwarded-client-cert", b"Hash=" + digest(CERTIFICATE).encode()),
        (b"x-arr-clientcert", CERTIFICATE),
        (b"x-forwarded-for", b"127.0.0.1"),
    ]
    assert identify(*headers) is Refusal.UNKNOWN
