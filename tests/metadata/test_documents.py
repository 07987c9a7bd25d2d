"""Promise 24, as far as the document itself goes: what may not replace good metadata, each for its own reason."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idp_certs.metadata import parse_metadata
from idp_certs.metadata_signature import judge_document_signature
from idp_certs.reasons import Refused
from tests.core.given import genuine
from tests.corpus import names as n
from tests.metadata.test_vendors import trusted
from tests.metadata.vendors import adfs, base64_of, documents, federation, google, key, okta, shibboleth
from tests.properties.given import examples, mutated

PAGE = (
    b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><form method=post>"
    b"<input name=user><br>Sign in &nbsp; here</form></body></html>"
)
SP = (
    f'<EntityDescriptor xmlns="{n.MD}" entityID="{n.GATEWAY}"><SPSSODescriptor '
    f'protocolSupportEnumeration="{n.SAMLP}">{key("idp")}<AssertionConsumerService index="0" Binding="b" '
    'Location="https://gw.example/acs"/></SPSSODescriptor></EntityDescriptor>'
).encode()


def _without_keys() -> bytes:
    return re.sub(rb"<md:KeyDescriptor.*?</md:KeyDescriptor>", b"", okta().data, flags=re.DOTALL)


REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    # sentence: (reason, how to make it)
    "a web page": ("xml_dtd", lambda: PAGE),
    "a web page without DOCTYPE": ("xml_malformed", lambda: PAGE.removeprefix(b"<!DOCTYPE html>")),
    "a well-formed web page": ("metadata_not_saml", lambda: b"<html><body><p>Sign in</p></body></html>"),
    "a JSON error": ("xml_malformed", lambda: b'{"error": "not found"}'),
    "nothing": ("xml_malformed", lambda: b""),
    "blanks": ("xml_malformed", lambda: b" \r\n"),
    "a byte order mark": ("xml_malformed", lambda: b"\xef\xbb\xbf"),
    "cut short": ("xml_malformed", lambda: adfs().data[:-200]),
    "cut short in a federation": ("xml_malformed", lambda: federation().data[: len(federation().data) // 2]),
    "the SP role only": ("metadata_no_idp", lambda: SP),
    "WS-Federation only": (
        "metadata_no_idp",
        lambda: re.sub(rb"<IDPSSODescriptor.*</IDPSSODescriptor>", b"", adfs().data, flags=re.DOTALL),
    ),
    "SAML 1.1 only": ("metadata_no_idp", lambda: okta().data.replace(b"2.0:protocol", b"1.1:protocol")),
    "two entities of one name": (
        "metadata_ambiguous",
        lambda: federation().data.replace(b"https://idp2.example/idp", b"https://idp1.example/idp"),
    ),
    "a validUntil that is no instant": (
        "metadata_expired",
        lambda: google().data.replace(b'validUntil="2030', b'validUntil="soon'),
    ),
    "100 MB": ("metadata_too_large", lambda: okta().data.ljust(100_000_000)),
    "gzip": ("xml_encoding", lambda: gzip.compress(okta().data, mtime=0)),
    "a gzip bomb": ("xml_encoding", lambda: gzip.compress(bytes(50_000_000), mtime=0)),
    "UTF-16": ("xml_encoding", lambda: shibboleth().data.decode().encode("utf-16")),
    "a DTD": ("xml_dtd", lambda: okta().data.replace(b"<md:E", b"<!DOCTYPE md:EntityDescriptor><md:E", 1)),
    "an entity bomb": (
        "xml_dtd",
        lambda: b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>' + okta().data.partition(b"?>")[2],
    ),
    "evidence": ("metadata_not_saml", genuine),
}


@pytest.mark.parametrize("name", REFUSED)
def test_promise_24_what_is_refused(name: str) -> None:
    """Promise 24: whatever else an address answers is refused, whether all is asked for or one entity."""
    reason, make = REFUSED[name]
    data = make()

    for entity_id in (None, "https://idp1.example/idp/shibboleth"):
        with pytest.raises(Refused) as caught:
            parse_metadata(data, entity_id=entity_id)
        got = str(caught.value.finding.reason)
        assert got == reason or (reason, got, entity_id is None) == (
            "metadata_expired",
            "metadata_entity_mismatch",
            False,
        )


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (_without_keys, "metadata_no_cert"),
        (lambda: okta().data.replace(b'use="signing"', b'use="encryption"'), "metadata_no_cert"),
        (lambda: okta().data.replace(b"MII", b"MIJ", 1), "metadata_bad_cert"),
    ],
    ids=["no keys", "for encryption only", "broken"],
)
def test_promise_24_without_keys(make: Callable[[], bytes], problem: str) -> None:
    """Promises 24 and 39: a document without a usable key has no certificates and says why."""
    (found,) = parse_metadata(make())

    assert found.signing_certificates == ()
    assert problem in [str(each.reason) for each in found.problems]


def test_promise_24_duplicate_keys() -> None:
    """Promise 24: the same certificate many times is one."""
    data = okta().data.decode()
    shown = f"<ds:X509Certificate>{base64_of('idp', width=76)}</ds:X509Certificate>"

    (found,) = parse_metadata(data.replace(shown, shown * 50).encode())

    assert len(found.signing_certificates) == 1


def test_promise_39_a_whole_federation_adds_nobody() -> None:
    """Promise 39: of an aggregate with more IdPs only the one that is asked for is given."""
    vendor = federation()

    found = parse_metadata(vendor.data, entity_id=vendor.entity_id)

    assert [each.entity_id for each in found] == [vendor.entity_id]
    assert len(parse_metadata(vendor.data)) == 3


@examples(150)
@given(mutated(st.sampled_from([each.data for each in documents().values()])))
def test_only_refused_leaves(data: bytes) -> None:
    """Law: whatever the bytes, reading and judging metadata gives its value or raises Refused."""
    for entity_id in (None, adfs().entity_id):
        with suppress(Refused):
            assert parse_metadata(data, entity_id=entity_id)
    with suppress(Refused):
        judged = judge_document_signature(data, trusted("idp"))
        assert judged.signer is None or parse_metadata(judged.octets)
