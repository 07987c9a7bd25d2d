"""AD FS's metadata over HTTPS, asked for as the worker asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evidence_service.demo.federation import PATH, Federation
from idp_certs.fetch import FetchFailed, FetchRules, Source, fetch
from idp_certs.reasons import TrustReason

LOOPBACK = FetchRules(allow_loopback=True)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    """A server of one document."""
    with Federation(b"<first/>", tmp_path) as server:
        yield server


def source(federation: Federation, etag: str | None = None) -> Source:
    """The server, known by its authority."""
    return Source(url=federation.url, ca_pem=federation.ca_pem, etag=etag)


def test_the_document_that_is_published_is_served(federation: Federation) -> None:
    """What is published is served from then on, and a 304 says that it still stands."""
    first = fetch(source(federation), LOOPBACK)
    assert first.data == b"<first/>"
    assert fetch(source(federation, first.etag), LOOPBACK).data is None
    federation.publish(b"<second/>")
    second = fetch(source(federation, first.etag), LOOPBACK)
    assert (second.data, second.etag == first.etag) == (b"<second/>", False)


def test_only_its_own_authority_vouches_for_it(federation: Federation) -> None:
    """Without its authority the server is not believed, and the key of its certificate is in no file."""
    with pytest.raises(FetchFailed) as refused:
        fetch(Source(url=federation.url), LOOPBACK)
    assert refused.value.finding.reason is TrustReason.METADATA_UNTRUSTED


def test_nothing_else_is_served(federation: Federation) -> None:
    """Another path is not found."""
    with pytest.raises(FetchFailed, match="404"):
        fetch(Source(url=federation.url.replace(PATH, "/other"), ca_pem=federation.ca_pem), LOOPBACK)


def test_no_key_stays(federation: Federation, tmp_path: Path) -> None:
    """The file that the server's key was read from is gone."""
    assert list(tmp_path.iterdir()) == []
