"""Fetching metadata over real TLS: what is taken, and everything that is refused (promises 21, 24, 40)."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from idp_certs.fetch import FetchFailed, FetchRules, Resolve, Source, check_url, fetch
from idp_certs.reasons import TrustReason
from tests.metadata.server import ENDLESS, HOST, LOOPBACK, MetadataServer, Names, Shows, silent_listener

PATH = "/FederationMetadata/2007-06/FederationMetadata.xml"
DOCUMENT = b"<md:EntityDescriptor/>"
URL, UNTRUSTED, UNREACHABLE, TOO_LARGE = (
    TrustReason.METADATA_URL,
    TrustReason.METADATA_UNTRUSTED,
    TrustReason.METADATA_UNREACHABLE,
    TrustReason.METADATA_TOO_LARGE,
)
_CONNECTS: list[str] = []


def _note_connect(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        _CONNECTS.append(str(arguments[1][0]))


sys.addaudithook(_note_connect)


@pytest.fixture
def connects() -> list[str]:
    """Every address that this process tries to connect to, as the interpreter reports it."""
    _CONNECTS.clear()
    return _CONNECTS


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    """A server that has a document at PATH."""
    with MetadataServer() as started:
        started.serve(PATH, DOCUMENT)
        yield started


def source_of(server: MetadataServer, path: str = PATH, *, host: str = HOST) -> Source:
    """The source at this path, which trusts the server's authority."""
    return Source(url=server.url(path, host=host), ca_pem=server.ca_pem)


def refused(source: Source, rules: FetchRules = LOOPBACK, resolve: Resolve | None = None) -> FetchFailed:
    """How the fetch fails; what it says is one line of bounded length."""
    with pytest.raises(FetchFailed) as caught:
        fetch(source, rules, resolve=resolve or Names({HOST: [["127.0.0.1"]]}))
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 1000
    assert text.endswith(caught.value.finding.reason.advice)
    return caught.value


def test_a_document_is_fetched(server: MetadataServer, connects: list[str]) -> None:
    """Bytes, validators, and how the server was known come back; the answer names the address that was asked."""
    server.serve(PATH, DOCUMENT, etag='"v1"', last_modified="Wed, 21 Oct 2026 07:28:00 GMT")

    fetched = fetch(source_of(server), LOOPBACK, resolve=server.names())

    assert fetched.data == DOCUMENT
    assert (fetched.etag, fetched.last_modified) == ('"v1"', "Wed, 21 Oct 2026 07:28:00 GMT")
    assert fetched.final_url == server.url(PATH)
    assert fetched.tls_chain_sha256 == (server.leaf_sha256, server.ca_sha256)
    assert (fetched.address, connects) == ("127.0.0.1", ["127.0.0.1"])
    assert fetched.date is not None
    assert abs(datetime.now(UTC) - fetched.date) < timedelta(minutes=5)


def test_what_is_asked(server: MetadataServer) -> None:
    """The request names the URL's host, accepts XML unpacked, and sends no cookie or validator that nobody gave."""
    server.serve(PATH, DOCUMENT, headers={"Set-Cookie": "a=b"})
    for _ in range(2):
        fetch(source_of(server), LOOPBACK, resolve=server.names())

    headers = server.asked(PATH)[1]
    assert headers["host"] == f"{HOST}:{server.port}"
    assert headers["accept"] == "application/samlmetadata+xml, application/xml, text/xml"
    assert headers["accept-encoding"] == "identity"
    assert not {"cookie", "if-none-match", "if-modified-since", "authorization"} & headers.keys()
    assert server.server_names == [HOST, HOST]


def test_an_ip_address_whose_certificate_names_it_is_fetched(server: MetadataServer) -> None:
    """A host may be an IP address; nothing is resolved then, and the certificate must name the address."""
    names = server.names()

    fetched = fetch(source_of(server, host="127.0.0.1"), LOOPBACK, resolve=names)

    assert (fetched.data, names.asked) == (DOCUMENT, [])


def test_proxies_of_the_environment_are_not_used(
    server: MetadataServer, connects: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 40: whoever sets a proxy variable does not get to see or answer our requests."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.9:9")

    assert fetch(source_of(server), LOOPBACK, resolve=server.names()).data == DOCUMENT
    assert connects == ["127.0.0.1"]


# Addresses (promise 40, G12)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://idp.example/md", "its scheme is http;"),
        ("ftp://idp.example/md", "its scheme is ftp;"),
        ("file:///etc/passwd", "its scheme is file;"),
        ("gopher://idp.example/", "its scheme is another one;"),
        ("idp.example/md", "names no scheme;"),
        ("//idp.example/md", "names no scheme;"),
        ("", "is empty"),
        ("https://", "names no host;"),
        ("https:///md", "names no host;"),
        ("https://:443/md", "names no host;"),
        ("https:idp.example", "names no host;"),
        ("https://idp.example/md#part", "holds a fragment;"),
        ("https://idp.example/md#", "holds a fragment;"),
        ("https://alice@idp.example/", "holds user information;"),
        ("https://@idp.example/", "holds user information;"),
        ("https://idp.example\\@evil.example/", "a backslash"),
        ("https://idp.example/a b", "holds a blank"),
        ("https://idp.example/\n", "a control character"),
        ("https://idp.exa\tmple/", "a control character"),
        ("https://idp.exаmple/", "one beyond ASCII"),
        ("https://idp.example:99999/", "host or port cannot be read;"),
        ("https://idp.example:0/", "its port is 0;"),
        ("https://idp.example:80:90/", "host or port cannot be read;"),
        ("https://[::1/", "host or port cannot be read;"),
        ("https://idp..example/", "neither a DNS name nor a plainly written IP address;"),
        ("https://idp%2eexample/", "neither a DNS name nor a plainly written IP address;"),
        ("https://idp.example/" + "a" * 3000, "it has 3020 characters;"),
        ("https://169.254.169.254/latest/meta-data/", "169.254.169.254, the metadata service of a cloud;"),
        ("https://169.254.1.1/", "169.254.1.1, a link-local address;"),
        ("https://100.100.100.200/", "the metadata service of a cloud;"),
        ("https://[fd00:ec2::254]/", "the metadata service of a cloud;"),
        ("https://[fe80::1]/", "a link-local address;"),
        ("https://[fe80::1%25eth0]/", "neither a DNS name nor a plainly written IP address;"),
        ("https://[::ffff:169.254.169.254]/", "the metadata service of a cloud;"),
        ("https://[::ffff:a9fe:a9fe]/", "the metadata service of a cloud;"),
        ("https://[64:ff9b::169.254.169.254]/", "the metadata service of a cloud;"),
        ("https://[2002:a9fe:a9fe::1]/", "the metadata service of a cloud;"),
        ("https://[2001::5601:5601]/", "the metadata service of a cloud;"),
        ("https://[::169.254.169.254]/", "a reserved address;"),
        ("https://[fec0::1]/", "a site-local address;"),
        ("https://[::]/", "an unspecified address;"),
        ("https://[ff02::1]/", "a multicast address;"),
        ("https://0.0.0.0/", "an unspecified address;"),
        ("https://0.1.2.3/", "an unspecified address;"),
        ("https://224.0.0.1/", "a multicast address;"),
        ("https://255.255.255.255/", "a reserved address;"),
        ("https://2852039166/", "neither a DNS name nor a plainly written IP address;"),
        ("https://0xa9fea9fe/", "neither a DNS name nor a plainly written IP address;"),
        ("https://0251.0376.0251.0376/", "neither a DNS name nor a plainly written IP address;"),
        ("https://169.254.43518/", "neither a DNS name nor a plainly written IP address;"),
        ("https://127.1/", "neither a DNS name nor a plainly written IP address;"),
        ("https://127.0.0.1./", "neither a DNS name nor a plainly written IP address;"),
        ("https://idp.0x7f/", "neither a DNS name nor a plainly written IP address;"),
    ],
)
def test_an_address_that_is_never_fetched(url: str, message: str, connects: list[str]) -> None:
    """Promise 40, G12: refused as `metadata_url` before anything is resolved or connected to."""
    names = Names({})
    error = refused(Source(url=url), LOOPBACK, names)

    assert (error.finding.reason, error.finding.where) == (URL, "url")
    assert message in str(error)
    assert (names.asked, connects) == ([], [])
    with pytest.raises(FetchFailed) as checked:
        check_url(url)
    assert checked.value.finding == error.finding


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://127.0.0.1/", "a loopback address"),
        ("https://127.255.0.1/", "a loopback address"),
        ("https://[::1]/", "a loopback address"),
        ("https://[::ffff:127.0.0.1]/", "a loopback address"),
        ("https://[64:ff9b::7f00:1]/", "a loopback address"),
    ],
)
def test_loopback_is_for_trials_only(url: str, kind: str, connects: list[str]) -> None:
    """Promise 40: our own machine is no IdP unless the rules say so."""
    error = refused(Source(url=url), FetchRules())

    assert (error.finding.reason, connects) == (URL, [])
    assert kind in error.finding.presented
    check_url(url)


@pytest.mark.parametrize("address", ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:a00:1"])
def test_private_addresses_can_be_refused(address: str, connects: list[str]) -> None:
    """A site whose IdP is outside can rule out that a name points inside."""
    error = refused(Source(url="https://idp.example/"), FetchRules(allow_private=False), Names({HOST: [[address]]}))

    assert (error.finding.reason, connects) == (URL, [])
    remedy = "fetched from only with the setting metadata_allow_private = true"
    shown = ipaddress.ip_address(address)  # Python versions write a mapped address differently
    assert error.finding.presented == f"{HOST} resolves to {shown}, a private address, {remedy}"


@pytest.mark.parametrize(
    "url",
    [
        "https://idp.example/md",
        "HTTPS://IDP.Example:8443/md?x=1&y=@",
        "https://10.0.0.1/md",
        "https://[2001:db8:0:0::1]:444/",
        "https://idp-1.example./",
        "https://adfs/FederationMetadata/2007-06/FederationMetadata.xml",
    ],
)
def test_an_address_that_may_be_fetched(url: str) -> None:
    """Names, inside addresses and ports are all usual for an IdP."""
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://alice:s3cret@idp.example/",
        "https://alice:s3cret",
        "alice:s3cret@idp.example",
        "s3cret://idp.example",
        "https://alice:s3cret@[::1/",
        "https://alice:s3cret\\@idp.example/",
        "https://alice:s3?cret@idp.example/#s3cret",
    ],
)
def test_credentials_in_an_address_are_not_repeated(url: str) -> None:
    """A refused address may hold a password; neither message nor finding does."""
    error = refused(Source(url=url))

    assert error.finding.reason is URL
    assert "s3" not in str(error) + repr(error.finding)


@pytest.mark.parametrize(
    ("addresses", "presented"),
    [
        (["169.254.169.254"], "169.254.169.254, the metadata service of a cloud"),
        (["127.0.0.1", "169.254.169.254"], "169.254.169.254, the metadata service of a cloud"),
        (
            ["::ffff:169.254.169.254"],
            f"{ipaddress.ip_address('::ffff:169.254.169.254')}, the metadata service of a cloud",
        ),
        (["fe80::1%1"], "fe80::1%1, a link-local address"),
        (["0.0.0.0"], "0.0.0.0, an unspecified address"),
    ],
)
def test_a_name_must_not_point_to_a_refused_address(
    server: MetadataServer, addresses: list[str], presented: str, connects: list[str]
) -> None:
    """Promise 40: one refused address among several is enough, and nothing at all is connected to."""
    error = refused(source_of(server), LOOPBACK, Names({HOST: [addresses]}))

    assert (error.finding.reason, error.finding.presented) == (URL, f"{HOST} resolves to {presented}")
    assert (connects, server.connections) == ([], 0)


def test_a_name_that_points_to_this_machine_is_refused(server: MetadataServer, connects: list[str]) -> None:
    """Promise 40: without leave for loopback, a name does not help; the system's own resolver is asked here."""
    with pytest.raises(FetchFailed) as caught:
        fetch(source_of(server, host="localhost"), FetchRules())

    assert caught.value.finding.reason is URL
    assert "localhost resolves to" in caught.value.finding.presented
    assert (connects, server.connections) == ([], 0)


def test_a_second_dns_answer_changes_nothing(server: MetadataServer, connects: list[str]) -> None:
    """Promise 40, DNS rebinding: the address that was judged is the one that is connected to."""
    names = Names({HOST: [["127.0.0.1"], ["169.254.169.254"]]})

    assert fetch(source_of(server), LOOPBACK, resolve=names).data == DOCUMENT
    assert (names.asked, connects) == ([HOST], ["127.0.0.1"])


def test_a_dns_answer_that_turns_bad_at_a_redirect_is_refused(server: MetadataServer, connects: list[str]) -> None:
    """Promise 40, DNS rebinding: each hop resolves and judges anew."""
    server.redirect(PATH, "/elsewhere")
    names = Names({HOST: [["127.0.0.1"], ["169.254.169.254"]]})

    error = refused(source_of(server), LOOPBACK, names)

    assert (error.finding.reason, error.finding.where) == (URL, "url, redirect 1")
    assert "resolves to 169.254.169.254" in error.finding.presented
    assert connects == ["127.0.0.1"]


def test_another_address_of_the_host_is_tried(server: MetadataServer, connects: list[str]) -> None:
    """A farm node that is down does not hide the one that is up; the answer names the one that was used."""
    names = Names({HOST: [["127.0.0.2", "127.0.0.1"]]})

    fetched = fetch(source_of(server), LOOPBACK, resolve=names)

    assert (fetched.address, connects) == ("127.0.0.1", ["127.0.0.2", "127.0.0.1"])


# Redirects (promise 40, G12)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_on_the_same_host_is_followed(server: MetadataServer, status: int) -> None:
    """Absolute or relative, on host and port of the address; validators go along."""
    server.redirect("/a", "b", status)
    server.redirect("/b", server.url("/c"), status)
    server.redirect("/c", PATH, status)

    fetched = fetch(replace(source_of(server, "/a"), etag='"v1"'), LOOPBACK, resolve=server.names())

    assert (fetched.data, fetched.final_url) == (DOCUMENT, server.url(PATH))
    assert server.asked(PATH)[0]["if-none-match"] == '"v1"'


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://idp.example/md", "its scheme is http;"),
        ("file:///etc/passwd", "its scheme is file;"),
        ("https://localhost/md", "it leads to https://localhost/;"),
        ("https://idp.example/md", "it leads to https://idp.example/;"),
        ("//internal.example/md", "it leads to https://internal.example/;"),
        ("https://10.0.0.1/", "it leads to https://10.0.0.1/;"),
        ("https://169.254.169.254/", "it leads to https://169.254.169.254/;"),
        ("https://2852039166/", "neither a DNS name nor a plainly written IP address;"),
        ("https://alice:s3cret@idp.example/", "it holds user information;"),
        ("/md#part", "it holds a fragment;"),
        ("/m\x1b[31md", "a control character"),
    ],
)
def test_a_redirect_that_leads_away_is_refused(
    server: MetadataServer, location: str, message: str, connects: list[str]
) -> None:
    """Promise 40, G12: a server cannot send us to plain HTTP, to a file or to another host, port or inside address."""
    with MetadataServer() as inside:
        server.redirect(PATH, location.replace("localhost", f"localhost:{inside.port}"))
        names = Names({HOST: [["127.0.0.1"]], "localhost": [["127.0.0.1"]], "internal.example": [["127.0.0.1"]]})

        error = refused(source_of(server), LOOPBACK, names)

        assert (error.finding.reason, error.finding.where) == (URL, "url, redirect 1")
        assert message.replace("localhost", f"localhost:{inside.port}") in str(error)
        assert "s3cret" not in str(error)
        assert (names.asked, connects, inside.connections) == ([HOST], ["127.0.0.1"], 0)


def test_a_redirect_to_another_host_on_the_same_port_is_refused(server: MetadataServer) -> None:
    """Promise 40: even where name and certificate of the other host would be good."""
    server.redirect("/md", server.url(PATH, host="localhost"))
    names = Names({HOST: [["127.0.0.1"]], "localhost": [["127.0.0.1"]]})

    error = refused(source_of(server, "/md"), LOOPBACK, names)

    assert (error.finding.reason, error.finding.where) == (URL, "url, redirect 1")
    assert (names.asked, server.requests(PATH)) == ([HOST], 0)


def test_a_redirect_loop_ends(server: MetadataServer) -> None:
    """Promises 24, 40: the fourth redirect is not followed."""
    server.redirect(PATH, PATH)

    error = refused(source_of(server))

    assert error.finding.reason is URL
    assert "after at most 3 redirects" in str(error)
    assert server.requests(PATH) == 4


def test_a_fourth_redirect_is_not_followed(server: MetadataServer) -> None:
    """Promise 40, G12: even where a document would come in the end."""
    for hop in range(10):
        server.redirect(f"/{hop}", f"/{hop + 1}")
    server.serve("/10", DOCUMENT)

    assert refused(source_of(server, "/0")).finding.reason is URL
    assert [server.requests(f"/{hop}") for hop in range(6)] == [1, 1, 1, 1, 0, 0]


def test_a_redirect_to_nowhere_is_no_answer(server: MetadataServer) -> None:
    """A redirect that names no place is an answer that is not 200."""
    server.serve(PATH, status=302)

    error = refused(source_of(server))

    assert (error.finding.reason, error.finding.presented) == (UNREACHABLE, "HTTP status 302")


# TLS (promise 40, G01)


@pytest.mark.parametrize(
    ("shows", "message"),
    [
        (Shows.WRONG_NAME, "certificate is not valid for 'idp.example'"),
        (Shows.EXPIRED, "certificate has expired"),
        (Shows.NOT_YET, "certificate is not yet valid"),
        (Shows.SELF_SIGNED, "self-signed certificate"),
        (Shows.OTHER_CA, "self-signed certificate in certificate chain"),
        (Shows.OLD_TLS, "no TLS connection comes about"),
    ],
)
def test_a_server_that_tls_does_not_verify_is_refused(server: MetadataServer, shows: Shows, message: str) -> None:
    """Promise 40, G01: the request is not even sent; when the certificate is right again the fetch works again."""
    server.present(shows)

    error = refused(source_of(server))

    assert error.finding.reason is UNTRUSTED
    assert message in error.finding.presented
    assert server.requests(PATH) == 0
    server.present(Shows.RENEWED)
    assert fetch(source_of(server), LOOPBACK, resolve=server.names()).data == DOCUMENT


def test_an_ip_address_that_the_certificate_does_not_name_is_refused(server: MetadataServer) -> None:
    """Promise 40: the name is verified for IP addresses too."""
    error = refused(source_of(server, host="127.0.0.2"), resolve=server.names())
    assert error.finding.reason is UNREACHABLE  # nothing listens there

    server.present(Shows.WRONG_NAME)
    error = refused(source_of(server, host="127.0.0.1"))
    assert error.finding.reason is UNTRUSTED
    assert "IP address mismatch" in error.finding.presented


def test_the_systems_authorities_hold_where_none_is_given(server: MetadataServer) -> None:
    """Promise 40: a private authority is not trusted by itself."""
    error = refused(Source(url=server.url(PATH)))

    assert error.finding.reason is UNTRUSTED
    assert server.requests(PATH) == 0


def test_a_given_authority_replaces_the_systems(
    server: MetadataServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ca_pem` is all that is trusted then; without it the system's store is, here extended by the environment."""
    file = tmp_path / "ca.pem"
    file.write_text(server.ca_pem, encoding="ascii")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert fetch(Source(url=server.url(PATH)), LOOPBACK, resolve=server.names()).data == DOCUMENT

    with MetadataServer() as other:
        error = refused(Source(url=server.url(PATH), ca_pem=other.ca_pem))
    assert error.finding.reason is UNTRUSTED


def test_a_given_certificate_below_a_root_is_an_anchor(server: MetadataServer) -> None:
    """The administrator may name just the server's certificate, or the authority that issued it."""
    source = Source(url=server.url(PATH), ca_pem=server.leaf_pem)

    assert fetch(source, LOOPBACK, resolve=server.names()).data == DOCUMENT
    server.present(Shows.RENEWED)
    assert refused(source).finding.reason is UNTRUSTED


@pytest.mark.parametrize("pem", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_an_authority_that_cannot_be_read_is_refused(server: MetadataServer, pem: str) -> None:
    """An empty or broken `ca_pem` never means the system's authorities."""
    error = refused(replace(source_of(server), ca_pem=pem))

    assert (error.finding.reason, error.finding.where) == (UNTRUSTED, "ca_pem")
    assert server.connections == 0


def test_a_pinned_certificate_is_asked_for_in_addition(server: MetadataServer) -> None:
    """The pin accepts usual spellings, and does not replace verification."""
    pin = ":".join(server.leaf_sha256[at : at + 2].upper() for at in range(0, 64, 2))

    assert fetch(replace(source_of(server), pin_sha256=pin), LOOPBACK, resolve=server.names()).data == DOCUMENT
    error = refused(Source(url=server.url(PATH), pin_sha256=pin))
    assert "does not verify" in error.finding.presented


@pytest.mark.parametrize("pin", ["00" * 32, "", "not hexadecimal"])
def test_another_certificate_than_the_pinned_is_refused(server: MetadataServer, pin: str) -> None:
    """Promise 40: refused before the request, with both fingerprints."""
    error = refused(replace(source_of(server), pin_sha256=pin))

    assert (error.finding.reason, error.finding.where) == (UNTRUSTED, "pin_sha256")
    assert server.leaf_sha256 in error.finding.presented
    assert pin in error.finding.expected
    assert server.requests(PATH) == 0


def test_plain_http_on_the_port_is_refused() -> None:
    """G01: a server that speaks no TLS is never asked."""
    with MetadataServer(tls=False) as plain:
        plain.serve(PATH, DOCUMENT)
        error = refused(Source(url=plain.url(PATH).replace("http:", "https:"), ca_pem=plain.ca_pem))

        assert error.finding.reason is UNTRUSTED
        assert "no TLS connection comes about" in error.finding.presented
        assert refused(Source(url=plain.url(PATH))).finding.reason is URL
        assert plain.requests(PATH) == 0


# Bodies (promise 24, G19)


@pytest.mark.parametrize("announced", [False, True], ids=["at once", "announced"])
def test_a_body_of_a_hundred_megabytes_stops_at_the_limit(server: MetadataServer, announced: bool) -> None:
    """Promise 24: what is over the limit is neither read nor kept; an announced length is refused unread."""
    limit = 8 * 1024 * 1024
    headers = {"Content-Length": str(100 * 1024 * 1024)} if announced else {}
    server.serve(PATH, headers=headers, length=100 * 1024 * 1024)
    tracemalloc.start()
    try:
        error = refused(source_of(server), replace(LOOPBACK, max_bytes=limit))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (error.finding.reason, error.finding.expected) == (TOO_LARGE, f"at most {limit} bytes")
    assert error.finding.where == ("Content-Length" if announced else "body")
    assert peak < 3 * limit
    assert server.sent < 4 * limit


def test_a_body_at_the_limit_is_taken(server: MetadataServer) -> None:
    """The limit is exact."""
    rules = replace(LOOPBACK, max_bytes=len(DOCUMENT))

    assert fetch(source_of(server), rules, resolve=server.names()).data == DOCUMENT
    assert refused(source_of(server), replace(rules, max_bytes=len(DOCUMENT) - 1)).finding.reason is TOO_LARGE


def test_an_endless_body_ends_by_size_or_time(server: MetadataServer) -> None:
    """Promise 24: chunks without end, with no length, are cut off."""
    server.serve(PATH, length=ENDLESS)

    assert refused(source_of(server), replace(LOOPBACK, max_bytes=1 << 20)).finding.reason is TOO_LARGE


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip"])
def test_a_packed_body_is_refused(server: MetadataServer, encoding: str) -> None:
    """Promise 24, G19: a gzip bomb is not unpacked, and nothing packed was asked for."""
    server.serve(PATH, gzip.compress(bytes(10_000_000)), headers={"Content-Encoding": encoding})

    error = refused(source_of(server))

    assert (error.finding.reason, error.finding.where) == (UNREACHABLE, "Content-Encoding")
    assert error.finding.presented == f"the body is encoded as {encoding}"


def test_a_body_is_taken_as_it_is(server: MetadataServer) -> None:
    """Type and content are for the parser to judge: a login page is fetched like everything else."""
    page = b"<!DOCTYPE html><html>Sign in</html>"
    server.serve(PATH, page, headers={"Content-Type": "text/html", "Content-Encoding": "identity"})

    assert fetch(source_of(server), LOOPBACK, resolve=server.names()).data == page


def test_an_empty_body_is_no_document(server: MetadataServer) -> None:
    """Promise 24, G19: 200 with nothing is a failed fetch."""
    server.serve(PATH, b"")

    error = refused(source_of(server))

    assert (error.finding.reason, error.finding.presented) == (UNREACHABLE, "HTTP status 200 with an empty body")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nshort!",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x00\xff" * 500,
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 50_000,
        b"",
    ],
    ids=["truncated", "chunks end", "transfer coding", "two lengths", "ssh", "noise", "headers", "nothing"],
)
def test_what_is_not_http_is_no_answer(server: MetadataServer, raw: bytes) -> None:
    """Promise 24: a broken or cut answer never counts as a document, nor ends in another exception."""
    server.serve(PATH, raw=raw)

    error = refused(source_of(server))

    assert error.finding.reason is UNREACHABLE
    assert "the connection broke or does not speak HTTP" in error.finding.presented


@pytest.mark.parametrize("status", [201, 204, 206, 401, 403, 404, 410, 429, 500, 503])
def test_another_status_than_200_is_no_answer(server: MetadataServer, status: int) -> None:
    """G19: an error page is not a document, whatever it holds; the status is named."""
    server.serve(PATH, b"" if status == 204 else DOCUMENT, status=status)

    error = refused(source_of(server))

    assert (error.finding.reason, error.finding.presented) == (UNREACHABLE, f"HTTP status {status}")


# Time (promise 24)


def given_up(source: Source, presented: str, resolve: Resolve | None = None) -> None:
    """The fetch ends with its time, one second, and presents this.

    Where a slow machine does not get that far in it, the fetch has more.
    """
    for seconds in (1, 5, 25):
        error = refused(source, replace(LOOPBACK, timeout=timedelta(seconds=seconds)), resolve)
        expected = presented.format(seconds=seconds)
        if error.finding.presented == expected:
            break
    assert (error.finding.reason, error.finding.presented) == (UNREACHABLE, expected)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 90_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
    ],
    ids=["body", "header", "interim answers"],
)
def test_a_slow_drip_ends_at_the_deadline(server: MetadataServer, raw: bytes) -> None:
    """Promise 24: a byte now and then, for more than an hour, restarts no clock."""
    server.serve(PATH, raw=raw, drip=0.05)

    given_up(source_of(server), "no complete answer within {seconds} s")


def test_redirects_share_one_deadline(server: MetadataServer) -> None:
    """Two slow hops, each of which would be in time, do not get the time twice."""
    server.serve("/a", status=302, headers={"Location": "/b"}, delay=0.7)
    server.serve("/b", status=302, headers={"Location": PATH}, delay=2.8)

    error = refused(source_of(server, "/a"), replace(LOOPBACK, timeout=timedelta(seconds=3)))

    assert (error.finding.reason, error.finding.where) == (UNREACHABLE, "url, redirect 1")
    assert server.requests(PATH) == 0


def test_a_silent_server_ends_at_the_deadline(server: MetadataServer) -> None:
    """A server that never answers the TLS hello, or the request, is given up."""
    with silent_listener() as port:
        given_up(Source(url=f"https://{HOST}:{port}/"), "no connection (it does not answer in time)")

    server.serve(PATH, DOCUMENT, delay=60)
    given_up(source_of(server), "no complete answer within {seconds} s")


def test_name_resolution_ends_at_the_deadline(server: MetadataServer) -> None:
    """A resolver that hangs holds the fetch no longer than everything else does."""
    release = threading.Event()

    def hang(host: str, port: int, **_: Any) -> list[tuple[Any, Any, int, str, Any]]:
        release.wait(60)
        return []

    given_up(source_of(server), "name resolution takes too long", hang)
    release.set()


def test_a_name_that_does_not_resolve(server: MetadataServer, connects: list[str]) -> None:
    """No address, in each of the ways in which a resolver says so."""

    def broken(host: str, port: int, **_: Any) -> list[tuple[Any, Any, int, str, Any]]:
        raise UnicodeError("label too long")

    unix = [(getattr(socket, "AF_UNIX", -1), socket.SOCK_STREAM, 0, "", ("/run/socket", 0))]
    for resolve, presented in (
        (Names({}), "the name does not resolve (Name or service not known)"),
        (Names({HOST: [[]]}), "the name has no address"),
        (lambda *_, **__: unix, "the name has no address"),
        (broken, "the name does not resolve (UnicodeError)"),
    ):
        error = refused(source_of(server), LOOPBACK, resolve)
        assert (error.finding.reason, error.finding.presented) == (UNREACHABLE, presented)
    assert connects == []


def test_a_server_that_is_down_is_unreachable(server: MetadataServer) -> None:
    """A closed port is named as such."""
    source = source_of(server)
    server.stop()

    error = refused(source)

    assert (error.finding.reason, error.finding.presented) == (UNREACHABLE, "no connection (Connection refused)")
    assert HOST in error.finding.expected


def test_no_other_exception_leaves(server: MetadataServer) -> None:
    """Whatever goes wrong inside is a failed fetch that says so, and keeps its cause."""
    error = refused(source_of(server), replace(LOOPBACK, timeout=timedelta.max))

    assert (error.finding.reason, error.finding.presented) == (UNREACHABLE, "the fetch ended with OverflowError")
    assert isinstance(error.__cause__, OverflowError)


# Validators and dates (promises 21, 37; G19)


def test_an_accepted_document_that_still_stands_is_not_sent_again(server: MetadataServer) -> None:
    """Promise 21, G19: 304 gives no data and the validators of the accepted document."""
    server.serve(PATH, DOCUMENT, etag='W/"v1"')
    accepted = replace(source_of(server), etag='W/"v1"', last_modified="Wed, 21 Oct 2026 07:28:00 GMT")

    fetched = fetch(accepted, LOOPBACK, resolve=server.names())

    assert (fetched.data, fetched.etag, fetched.last_modified) == (None, accepted.etag, accepted.last_modified)
    assert fetched.tls_chain_sha256[0] == server.leaf_sha256
    assert server.asked(PATH)[0]["if-modified-since"] == accepted.last_modified
    server.serve(PATH, DOCUMENT, etag='"v2"')
    fetched = fetch(accepted, LOOPBACK, resolve=server.names())
    assert (fetched.data, fetched.etag, fetched.last_modified) == (DOCUMENT, '"v2"', None)


def test_last_modified_alone_is_a_validator(server: MetadataServer) -> None:
    """IIS does not always send an ETag."""
    server.serve(PATH, DOCUMENT, last_modified="Wed, 21 Oct 2026 07:28:00 GMT")
    first = fetch(source_of(server), LOOPBACK, resolve=server.names())

    again = fetch(replace(source_of(server), last_modified=first.last_modified), LOOPBACK, resolve=server.names())

    assert (first.data, again.data) == (DOCUMENT, None)


@pytest.mark.parametrize(
    ("etag", "last_modified"), [(None, None), ("unquoted", "yesterday"), ('"a"\r\nX: y', "1\r\nX: y")]
)
def test_nothing_stands_that_was_not_asked_about(
    server: MetadataServer, etag: str | None, last_modified: str | None
) -> None:
    """Promise 21, G19: 304 without a usable validator of ours proves nothing, and a broken validator is not sent."""
    server.serve(PATH, status=304)

    error = refused(replace(source_of(server), etag=etag, last_modified=last_modified))

    assert (error.finding.reason, error.finding.presented) == (UNREACHABLE, "HTTP status 304")
    assert not {"if-none-match", "if-modified-since", "x"} & server.asked(PATH)[0].keys()


def test_validators_that_cannot_be_sent_back_are_dropped(server: MetadataServer) -> None:
    """What a server names as ETag goes into a header of ours later, so that it must look like one."""
    server.serve(PATH, DOCUMENT, headers={"ETag": "no quotes", "Last-Modified": "some day"})

    fetched = fetch(source_of(server), LOOPBACK, resolve=server.names())

    assert (fetched.etag, fetched.last_modified) == (None, None)


@pytest.mark.parametrize(
    ("headers", "date"),
    [
        ({"Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, datetime(2026, 10, 21, 7, 28, tzinfo=UTC)),
        ({"Date": "Wed, 21 Oct 2026 07:28:00 GMT", "Age": "3600"}, datetime(2026, 10, 21, 6, 28, tzinfo=UTC)),
        ({"Date": "Wed, 21 Oct 2026 07:28:00 GMT", "Age": "-1"}, datetime(2026, 10, 21, 7, 28, tzinfo=UTC)),
        ({"Date": "Wed, 21 Oct 2026 09:28:00 +0200"}, datetime(2026, 10, 21, 7, 28, tzinfo=UTC)),
        ({"Date": "Fri, 31 Dec 9999 23:00:00 -0200"}, None),
        ({"Date": "today"}, None),
        ({"Date": ""}, None),
    ],
)
def test_the_date_of_the_answer(server: MetadataServer, headers: dict[str, str], date: datetime | None) -> None:
    """Promise 37: Date less Age, in UTC, so that a source that a cache froze can be noticed."""
    server.serve(PATH, DOCUMENT, headers=headers)

    assert fetch(source_of(server), LOOPBACK, resolve=server.names()).date == date
