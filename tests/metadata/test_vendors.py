"""What products publish is read as they mean it: exactly the keys that sign sign-ins, and no other."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from idp_certs.metadata import IdpMetadata, parse_metadata
from idp_certs.metadata_signature import judge_document_signature
from idp_certs.model import CertificateState, SigningCertificate
from idp_certs.reasons import Refused
from tests.core.given import LONG_AGO
from tests.corpus import keys
from tests.metadata.vendors import Vendor, adfs, base64_of, ders, documents, key, okta

NAMES = list(documents())


def trusted(*names: str) -> list[SigningCertificate]:
    """The corpus' certificates of these names, as trusted ones."""
    return [
        SigningCertificate(
            der=keys.certificate(name), state=CertificateState.TRUSTED, since=LONG_AGO, provenance="test"
        )
        for name in names
    ]


@pytest.mark.parametrize("name", NAMES)
def test_exactly_the_signing_certificates(name: str) -> None:
    """G11, G04: each product's signing certificates in document order, none of other roles or for encryption."""
    vendor = documents()[name]

    (found,) = parse_metadata(vendor.data, entity_id=vendor.entity_id)

    assert found.entity_id == vendor.entity_id
    assert found.signing_certificates == vendor.signing_certificates
    assert found.problems == ()
    assert found.sso_urls
    assert (found.valid_until, found.cache_duration, found.created) == (
        vendor.valid_until,
        vendor.cache_duration,
        vendor.created,
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_other_certificates_are_there(name: str) -> None:
    """What must not count does stand in the document, or the test above would prove nothing."""
    vendor = documents()[name]
    text = re.sub(rb"\s", b"", vendor.data)

    for der in (*vendor.signing_certificates, *vendor.others):
        assert any(base64_of(each).encode() in text for each in keys.CERTIFICATES if keys.certificate(each) == der)
    assert not {*vendor.signing_certificates} & {*vendor.others}


@pytest.mark.parametrize("name", NAMES)
def test_who_signed_the_document(name: str) -> None:
    """The signature of each product's document verifies with its key, and only what was signed is handed on."""
    vendor = documents()[name]
    signer = vendor.signer_key

    judged = judge_document_signature(vendor.data, trusted("attacker", *([signer] if signer else [])))
    (read,) = parse_metadata(judged.octets, entity_id=vendor.entity_id)

    assert judged.present == (signer is not None)
    assert (None if judged.signer is None else judged.signer.der) == (None if signer is None else ders(signer)[0])
    assert read == parse_metadata(vendor.data, entity_id=vendor.entity_id)[0]


def changed(vendor: Vendor, old: str, new: str) -> IdpMetadata:
    """The document with one thing changed everywhere, read."""
    data = vendor.data.decode()
    assert old in data
    (found,) = parse_metadata(data.replace(old, new).encode())
    return found


@pytest.mark.parametrize("order", [("idp", "idp_next"), ("idp_next", "idp")])
def test_two_certificates_in_one_key_info(order: tuple[str, str]) -> None:
    """G13: both certificates of one X509Data are candidates, whichever stands first; in two X509Data as well."""
    one = f"<ds:X509Certificate>{base64_of('idp', width=76)}</ds:X509Certificate>"
    both = "".join(f"<ds:X509Certificate>{base64_of(name)}</ds:X509Certificate>" for name in order)
    apart = both.replace("</ds:X509Certificate><ds", "</ds:X509Certificate></ds:X509Data><ds:X509Data><ds")

    assert changed(okta(), one, both).signing_certificates == ders(*order)
    assert changed(okta(), one, apart).signing_certificates == ders(*order)


def test_a_key_without_use_counts() -> None:
    """G04: a KeyDescriptor without `use` is for signing too, so that its removal never switches anything off."""
    assert changed(okta(), ' use="signing"', "").signing_certificates == ders("idp")


def test_a_key_for_encryption_does_not_count() -> None:
    """G04: with only an encryption key the IdP has no certificate, and that is said."""
    found = changed(okta(), ' use="signing"', ' use="encryption"')

    assert found.signing_certificates == ()
    assert [str(each.reason) for each in found.problems] == ["metadata_no_cert"]


@pytest.mark.parametrize(
    "info",
    [
        "<ds:KeyName>2bTzPGnmuKqvIbIBzyoXm2rlmtqyP9XkNrd8Ua5Y4rQ</ds:KeyName>",
        "<ds:KeyValue><ds:RSAKeyValue><ds:Modulus>AQAB</ds:Modulus></ds:RSAKeyValue></ds:KeyValue>",
        "<ds:X509Data><ds:X509SKI>AQAB</ds:X509SKI></ds:X509Data>",
    ],
    ids=["KeyName", "KeyValue", "X509SKI"],
)
def test_a_key_that_cannot_be_pinned(info: str) -> None:
    """G14: a name, a bare key or a key identifier is no certificate: `metadata_no_cert`, with what is needed."""
    shown = f"<ds:X509Data><ds:X509Certificate>{base64_of('idp', width=76)}</ds:X509Certificate></ds:X509Data>"

    found = changed(okta(), shown, info)

    assert found.signing_certificates == ()
    assert [str(each.reason) for each in found.problems] == ["metadata_no_cert"]
    assert "X509Certificate" in found.problems[0].expected


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text.replace("\n", " "),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "&#13;\n"),
        lambda text: text.replace("\n", "&#xD;&#10;\t"),
        lambda text: f"\n-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n",
    ],
    ids=["blanks", "CR LF", "&#13;", "references and tabs", "PEM markers"],
)
def test_white_space_in_a_certificate(spell: Callable[[str], str]) -> None:
    """G16: white space however it is written, and PEM markers, are let be."""
    text = base64_of("idp", width=76)

    found = changed(okta(), text, spell(text))

    assert found.signing_certificates == ders("idp")
    assert found.problems == ()


def test_an_expired_certificate_is_read() -> None:
    """G17: a certificate that has expired is read like any other; its use is for the policy to judge."""
    found = changed(okta(), base64_of("idp", width=76), base64_of("idp_expired"))

    assert found.signing_certificates == ders("idp_expired")
    assert found.problems == ()


@pytest.mark.parametrize("kind", ["SPSSODescriptor", "AttributeAuthorityDescriptor", "RoleDescriptor"])
def test_a_foreign_key_in_another_role(kind: str) -> None:
    """G11: an attacker's certificate beside the IdP role is not taken, before or after it."""
    role = f'<{kind} protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">{key("attacker")}</{kind}>'
    data = adfs().data.decode()

    for place in ("<IDPSSODescriptor", "<ContactPerson"):
        (found,) = parse_metadata(data.replace(place, role + place, 1).encode())
        assert found.signing_certificates == ders("idp", "idp_next")


def test_what_metadata_asks_for_changes_nothing() -> None:
    """Promise 22: WantAssertionsSigned, unknown extensions and a second IdP role leave the keys as they are."""
    vendor = adfs()
    data = vendor.data.decode().replace('WantAssertionsSigned="true"', 'WantAssertionsSigned="false"')
    data = data.replace(
        "<SPSSODescriptor", '<Extensions><x:Off xmlns:x="urn:x" signatures="no"/></Extensions><SPSSODescriptor', 1
    )
    second = f'<IDPSSODescriptor protocolSupportEnumeration="urn:x">{key("attacker")}</IDPSSODescriptor>'
    data = data.replace("<ContactPerson", second + "<ContactPerson", 1)

    (found,) = parse_metadata(data.encode())

    assert found.signing_certificates == vendor.signing_certificates
    assert found.problems == ()


def test_no_keys_are_a_problem_not_trust() -> None:
    """Promise 22: a document without any key is named as such, so that nothing is imported from it."""
    data = re.sub(rb"<KeyDescriptor.*?</KeyDescriptor>", b"", adfs().data)

    (found,) = parse_metadata(data)

    assert found.signing_certificates == ()
    assert [str(each.reason) for each in found.problems] == ["metadata_no_cert"]


def test_the_entity_that_is_not_there() -> None:
    """G03, G06: another entity ID is refused with the names that the document does have, never taken by position."""
    for vendor in documents().values():
        with pytest.raises(Refused) as refused:
            parse_metadata(vendor.data, entity_id=vendor.entity_id + "/")
        assert refused.value.finding.reason == "metadata_entity_mismatch"
        assert vendor.entity_id in refused.value.finding.presented
