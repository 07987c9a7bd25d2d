"""Metadata: which certificates does an identity provider say it signs with?"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from time import thread_time

import pytest

from evidence_service.demo.idp import PROFILES, Profile
from idp_certs.certificates import parse_certificate
from idp_certs.metadata import AGGREGATE_LIMITS, IdpMetadata, parse_metadata
from idp_certs.reasons import Refused
from idp_certs.signature import MAX_CERTIFICATES_TRIED
from tests.core.given import ENTITY_ID, idp_of
from tests.corpus import keys, names

MD, SAML2 = names.MD, names.SAMLP


def pem(name: str = "idp") -> str:
    """The base64 of a certificate of the corpus."""
    return base64.b64encode(keys.certificate(name)).decode()


def key(*texts: str, use: str | None = "signing", info: str = "") -> str:
    """A KeyDescriptor with these certificate texts."""
    certificates = "".join(f"<ds:X509Certificate>{text}</ds:X509Certificate>" for text in texts)
    data = f"<ds:X509Data>{certificates}</ds:X509Data>" if texts else ""
    attribute = "" if use is None else f' use="{use}"'
    return f"<md:KeyDescriptor{attribute}><ds:KeyInfo>{info}{data}</ds:KeyInfo></md:KeyDescriptor>"


def role(*content: str, kind: str = "IDPSSODescriptor", attributes: str = "", protocols: str = SAML2) -> str:
    """A role with this content."""
    return f'<md:{kind} protocolSupportEnumeration="{protocols}"{attributes}>{"".join(content)}</md:{kind}>'


def entity(*roles: str, entity_id: str = ENTITY_ID, attributes: str = "") -> str:
    """An EntityDescriptor."""
    name = f' entityID="{entity_id}"' if entity_id else ""
    return f"<md:EntityDescriptor{name}{attributes}>{''.join(roles)}</md:EntityDescriptor>"


def group(*entities: str, attributes: str = "") -> str:
    """An EntitiesDescriptor."""
    return f"<md:EntitiesDescriptor{attributes}>{''.join(entities)}</md:EntitiesDescriptor>"


def parse(text: str) -> tuple[IdpMetadata, ...]:
    """Parse it with the namespaces declared on the document element."""
    start, end = text.split(" " if " " in text.split(">", maxsplit=1)[0] else ">", 1)
    joint = " " if " " in text.split(">", maxsplit=1)[0] else ">"
    return parse_metadata(f'{start} xmlns:md="{MD}" xmlns:ds="{names.DS}"{joint}{end}'.encode())


def refused(text: str) -> tuple[str, str]:
    """Why and where it is refused."""
    with pytest.raises(Refused) as error:
        parse(text)
    return str(error.value.finding.reason), error.value.finding.where


def certificates(*names_: str) -> tuple[bytes, ...]:
    """The DER of these certificates."""
    return tuple(map(keys.certificate, names_))


def reasons(idp: IdpMetadata) -> list[str]:
    """The codes of what was left out."""
    return [str(problem.reason) for problem in idp.problems]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.product)
def test_what_products_publish(profile: Profile) -> None:
    """The signing certificate of every product is found, beside its other roles and its encryption key."""
    idp = replace(idp_of(profile), encryption_certificate=idp_of(key="attacker").certificate)

    (found,) = parse_metadata(idp.metadata())

    assert found == IdpMetadata(
        entity_id=ENTITY_ID,
        signing_certificates=certificates("idp"),
        problems=(),
        valid_until=None,
        sso_urls=("https://idp.example/saml/sso",),
    )


_KEYS: dict[str, tuple[Iterable[str], Iterable[str]]] = {
    # sentence: (roles, certificates found)
    "one for signing": ([role(key(pem()))], ["idp"]),
    "without use it is for both": ([role(key(pem(), use=None))], ["idp"]),
    "for encryption it is not": ([role(key(pem("attacker"), use="encryption"), key(pem()))], ["idp"]),
    "an unknown use is none": ([role(key(pem("attacker"), use="Signing"), key(pem()))], ["idp"]),
    "an empty use is none": ([role(key(pem("attacker"), use=""), key(pem()))], ["idp"]),
    "several in document order": ([role(key(pem("idp_next")), key(pem()))], ["idp_next", "idp"]),
    "several in one KeyDescriptor": ([role(key(pem("idp_next"), pem()))], ["idp_next", "idp"]),
    "the same twice counts once": ([role(key(pem(), pem()), key(pem(), use=None))], ["idp"]),
    "of an SP role it is not": ([role(key(pem("attacker")), kind="SPSSODescriptor"), role(key(pem()))], ["idp"]),
    "of an AD FS RoleDescriptor it is not": (
        [role(key(pem("attacker")), kind="RoleDescriptor"), role(key(pem()))],
        ["idp"],
    ),
    "of an AttributeAuthority it is not": (
        [role(key(pem("attacker")), kind="AttributeAuthorityDescriptor"), role(key(pem()))],
        ["idp"],
    ),
    "of a SAML 1.1 role it is not": (
        [role(key(pem("attacker")), protocols="urn:oasis:names:tc:SAML:1.1:protocol"), role(key(pem()))],
        ["idp"],
    ),
    "of a role for several protocols it is": (
        [role(key(pem()), protocols=f"urn:oasis:names:tc:SAML:1.1:protocol {SAML2}")],
        ["idp"],
    ),
    "of two IdP roles both are": ([role(key(pem())), role(key(pem("idp_next")))], ["idp", "idp_next"]),
    "beside a KeyName and a KeyValue": (
        [role(key(pem(), info="<ds:KeyName>k</ds:KeyName><ds:KeyValue/>"))],
        ["idp"],
    ),
    "WantAuthnRequestsSigned changes nothing": (
        [role(key(pem()), attributes=' WantAuthnRequestsSigned="false"')],
        ["idp"],
    ),
}


@pytest.mark.parametrize("name", _KEYS)
def test_which_certificates_count(name: str) -> None:
    """Which keys of a document sign for the IdP."""
    roles, expected = _KEYS[name]

    (found,) = parse(entity(*roles))

    assert found.signing_certificates == certificates(*expected)
    assert found.problems == ()


@pytest.mark.parametrize(
    "text",
    [
        pem(),
        f"\n  {pem()}\n",
        "\r\n".join(pem()[at : at + 64] for at in range(0, len(pem()), 64)),
        f"-----BEGIN CERTIFICATE-----\n{pem()}\n-----END CERTIFICATE-----\n",
        "\t".join(pem()),
    ],
    ids=["plain", "blanks around", "lines", "PEM markers", "tabs"],
)
def test_spellings_of_a_certificate(text: str) -> None:
    """White space and PEM markers in a certificate's text are let be."""
    (found,) = parse(entity(role(key(text))))

    assert parse_certificate(text) == keys.certificate("idp")
    assert found.signing_certificates == certificates("idp")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("AAAA", "not a certificate"),
        ("not base64!", "not base64"),
        (pem()[:-4], "not a certificate"),
        (pem() + "=", "not base64"),
        (base64.b64encode(keys.certificate("idp") + b"\0").decode(), "not a certificate"),
        (base64.b64encode(keys.certificate("idp") * 2).decode(), "not a certificate"),
        (base64.b64encode(keys.certificate("idp")[:-1]).decode(), "not a certificate"),
        (f"{pem()}<ds:X/>", "empty"),
        (f"<ds:X/>{pem()}", "empty"),
        ("é", "not base64"),
    ],
)
def test_a_broken_certificate_is_reported_and_the_others_are_kept(text: str, problem: str) -> None:
    """One broken certificate is a problem with its place, and takes no other away."""
    (found,) = parse(entity(role(key(text), key(pem("idp_next")), key(text, pem()))))

    assert found.signing_certificates == certificates("idp_next", "idp")
    assert reasons(found) == ["metadata_bad_cert", "metadata_bad_cert"]
    assert found.problems[0].presented.startswith(problem)
    assert found.problems[0].where == "IDPSSODescriptor.KeyDescriptor"


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        ("", ["metadata_no_cert"]),
        (key(use="signing", info="<ds:KeyName>k</ds:KeyName>"), ["metadata_no_cert"]),
        (key(pem(), use="encryption"), ["metadata_no_cert"]),
        (key("AAAA"), ["metadata_bad_cert", "metadata_no_cert"]),
    ],
)
def test_no_usable_certificate(content: str, problems: list[str]) -> None:
    """An IdP without any usable certificate is given back with the problem, never with trust in something else."""
    (found,) = parse(entity(role(content)))

    assert found.signing_certificates == ()
    assert reasons(found) == problems


def test_aggregates() -> None:
    """Every IdP of nested groups is found in document order; entities without an IdP role are left out."""
    text = group(
        entity(role(key(pem())), entity_id="urn:a"),
        entity(role(key(pem("attacker")), kind="SPSSODescriptor"), entity_id="urn:sp"),
        group(group(entity(role(key(pem("idp_b"))), entity_id="urn:b")), entity(role(key(pem())), entity_id="urn:c")),
    )

    assert [(each.entity_id, each.signing_certificates) for each in parse(text)] == [
        ("urn:a", certificates("idp")),
        ("urn:b", certificates("idp_b")),
        ("urn:c", certificates("idp")),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (group(), ("metadata_no_idp", "")),
        (entity(), ("metadata_no_idp", "")),
        (entity(role(key(pem()), kind="SPSSODescriptor")), ("metadata_no_idp", "")),
        (entity(role(key(pem()), protocols="urn:x")), ("metadata_no_idp", "")),
        (group(entity(role()), entity(role())), ("metadata_ambiguous", "document")),
        (group(entity(role()), group(entity(role(kind="SPSSODescriptor")))), ("metadata_ambiguous", "document")),
        (entity(role(), entity_id=""), ("metadata_not_saml", "EntityDescriptor")),
        (entity(role(), entity_id="x" * 1025), ("metadata_not_saml", "EntityDescriptor")),
        (role(key(pem())), ("metadata_not_saml", "document")),
        (f"<html>{entity(role())}</html>", ("metadata_not_saml", "document")),
        (entity(role(), attributes=' validUntil="soon"'), ("metadata_expired", "EntityDescriptor.validUntil")),
        (entity(role(attributes=' validUntil=""')), ("metadata_expired", "IDPSSODescriptor.validUntil")),
        (
            group(entity(role()), attributes=' validUntil="2026-01-01"'),
            ("metadata_expired", "EntitiesDescriptor.validUntil"),
        ),
    ],
)
def test_what_is_refused(text: str, expected: tuple[str, str]) -> None:
    """A document that describes no IdP, or one ambiguously, is refused for its own reason."""
    assert refused(text) == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "xml_malformed"),
        (b"<html><body>Sign in</body>", "xml_malformed"),
        (b"<!DOCTYPE html><html/>", "xml_dtd"),
        (b"\x1f\x8b\x08\x00", "xml_encoding"),
        (b"<a/>", "metadata_not_saml"),
        (b" " * (AGGREGATE_LIMITS.document + 1), "metadata_too_large"),
    ],
)
def test_what_is_no_metadata(data: bytes, reason: str) -> None:
    """Bytes that are something else are refused for what they are."""
    with pytest.raises(Refused) as error:
        parse_metadata(data)

    assert error.value.finding.reason == reason


def test_the_longest_entity_id() -> None:
    """An entity ID of 1024 characters is one (SAML core 8.3.6)."""
    (found,) = parse(entity(role(key(pem())), entity_id="x" * 1024))

    assert found.entity_id == "x" * 1024


def test_the_earliest_valid_until_applies() -> None:
    """ValidUntil counts wherever it stands around the IdP, and only there."""
    text = group(
        entity(
            role(key(pem()), attributes=' validUntil="2026-03-01T00:00:00Z"'),
            entity_id="urn:a",
            attributes=' validUntil="2026-02-01T00:00:00Z"',
        ),
        entity(role(key(pem())), entity_id="urn:b"),
        entity(
            role(key(pem())),
            role(kind="SPSSODescriptor", attributes=' validUntil="2020-01-01T00:00:00Z"'),
            entity_id="urn:c",
            attributes=' validUntil="2026-05-01T00:00:00Z"',
        ),
        attributes=' validUntil="2026-04-01T00:00:00Z"',
    )

    assert [each.valid_until for each in parse(text)] == [
        datetime(2026, 2, 1, tzinfo=UTC),
        datetime(2026, 4, 1, tzinfo=UTC),
        datetime(2026, 4, 1, tzinfo=UTC),
    ]
    assert parse(entity(role(key(pem()))))[0].valid_until is None


def test_sign_on_addresses() -> None:
    """Each address once, in order."""
    services = "".join(f'<md:SingleSignOnService Binding="b" Location="{url}"/>' for url in ("u:1", "u:2", "u:1"))

    assert parse(entity(role(key(pem()), services)))[0].sso_urls == ("u:1", "u:2")


def test_promise_7_more_certificates_than_are_tried() -> None:
    """Promise 7: metadata with more signing certificates than would ever be tried is refused."""
    made = _many(MAX_CERTIFICATES_TRIED + 1)

    (found,) = parse(entity(role(key(*made[:-1]))))

    assert len(found.signing_certificates) == MAX_CERTIFICATES_TRIED
    assert refused(entity(role(key(*made)))) == ("xml_limits", ENTITY_ID)


def _many(number: int) -> list[str]:
    """So many different certificates: of one, only the serial is changed, as nobody checks their signatures."""
    der = keys.certificate("idp")
    at = der.index(bytes.fromhex("020203e9")) + 2
    serials = ((1000 + each).to_bytes(2, "big") for each in range(number))
    return [base64.b64encode(der[:at] + serial + der[at + 2 :]).decode() for serial in serials]


def test_comments_are_let_be() -> None:
    """People write comments into metadata; they cut nothing short."""
    text = entity(role("<!-- our key -->", key(f"{pem()[:100]}<!-- -->{pem()[100:]}"))).replace("<md:K", "<?x y?><md:K")

    (found,) = parse(text)

    assert found.signing_certificates == certificates("idp")
    assert found.problems == ()


def test_a_large_federation_takes_time_in_proportion() -> None:
    """Eight times the entities take about eight times the work, not sixty-four times."""

    def seconds(entities: int) -> float:
        text = group(*(entity(entity_id=f"urn:{each}") for each in range(entities)), entity(role(key(pem()))))
        start = thread_time()
        assert len(parse(text)) == 1
        return thread_time() - start

    seconds(100)
    assert min(seconds(6_000) for _ in range(3)) < 24 * min(seconds(750) for _ in range(3))
