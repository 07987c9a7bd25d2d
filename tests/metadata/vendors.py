"""Metadata in the shapes that products publish it, with our own keys.

Each document follows the product's published form: its roles, where its keys stand and for what, its order, white
space and signature. Certificates that must not count are named too, so that a test can look for them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from lxml import etree

from tests.corpus import keys
from tests.corpus import names as n
from tests.corpus.sign import How, sign
from tests.metadata import aggregates

FED = "http://docs.oasis-open.org/wsfed/federation/200706"
TRUST = "http://docs.oasis-open.org/ws-sx/ws-trust/200512 http://schemas.xmlsoap.org/ws/2005/02/trust"
BINDINGS = "urn:oasis:names:tc:SAML:2.0:bindings:"
SHIB = "urn:mace:shibboleth:2.0:"
GOOGLE_END = datetime(2030, 6, 1, 8, 30, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """One document: what must be read from it, and what must not.

    `signer_key` names the key of `tests.corpus.keys` that signed the document, None where it is not signed; `others`
    are certificates of other roles and uses.
    """

    name: str
    data: bytes
    entity_id: str
    signing_certificates: tuple[bytes, ...]
    others: tuple[bytes, ...] = ()
    signer_key: str | None = None
    valid_until: datetime | None = None
    cache_duration: timedelta | None = None
    created: datetime | None = None


def ders(*names: str) -> tuple[bytes, ...]:
    """The certificates of these names."""
    return tuple(map(keys.certificate, names))


def base64_of(name: str, *, width: int = 0, line: str = "\n") -> str:
    """A certificate's base64, in lines of `width` where that is given."""
    text = base64.b64encode(keys.certificate(name)).decode()
    return text if not width else line.join(text[at : at + width] for at in range(0, len(text), width))


def key(*names: str, use: str | None = "signing", info: str = "", width: int = 0, around: str = "") -> str:
    """A KeyDescriptor without prefixes for metadata, with these certificates in one X509Data."""
    shown = "".join(
        f"<ds:X509Certificate>{around}{base64_of(name, width=width)}{around}</ds:X509Certificate>" for name in names
    )
    data = f"<ds:X509Data>{shown}</ds:X509Data>" if names else ""
    attribute = "" if use is None else f' use="{use}"'
    return f'<KeyDescriptor{attribute}><ds:KeyInfo xmlns:ds="{n.DS}">{info}{data}</ds:KeyInfo></KeyDescriptor>'


def services(kind: str, *bindings: str, location: str) -> str:
    """Endpoints of one kind."""
    return "".join(f'<{kind} Binding="{BINDINGS}{binding}" Location="{location}"/>' for binding in bindings)


def signed(text: str, *, by: str) -> bytes:
    """The document with a signature over the document element as its first child."""
    root = etree.fromstring(text.encode())
    sign(root, How(key=by, key_info=(by,), index=0))
    return etree.tostring(root, encoding="utf-8", xml_declaration=True)


def _federation_role(kind: str, *content: str) -> str:
    return (
        f'<RoleDescriptor xmlns:xsi="{n.XSI}" xmlns:fed="{FED}" xsi:type="fed:{kind}" '
        f'protocolSupportEnumeration="{TRUST} {FED}" ServiceDisplayName="Example">{"".join(content)}'
        "<fed:TokenTypesOffered><fed:TokenType "
        'Uri="http://docs.oasis-open.org/wss/oasis-wss-saml-token-profile-1.1#SAMLV2.0"/></fed:TokenTypesOffered>'
        f'<fed:ClaimTypesOffered><auth:ClaimType xmlns:auth="{FED}/authorization" Uri="{n.UPN}" Optional="true">'
        "<auth:DisplayName>UPN</auth:DisplayName></auth:ClaimType></fed:ClaimTypesOffered>"
        "<fed:PassiveRequestorEndpoint>"
        '<EndpointReference xmlns="http://www.w3.org/2005/08/addressing"><Address>https://x.example/ls/</Address>'
        "</EndpointReference></fed:PassiveRequestorEndpoint></RoleDescriptor>"
    )


def adfs() -> Vendor:
    """FederationMetadata.xml in a rollover: four roles, a secondary signing key, signed by the primary one."""
    entity_id, url = "http://adfs.corp.example/adfs/services/trust", "https://adfs.corp.example/adfs/ls/"
    name_ids = "".join(f"<NameIDFormat>{each}</NameIDFormat>" for each in (n.EMAIL, n.PERSISTENT, n.TRANSIENT))
    text = (
        f'<EntityDescriptor ID="_f1d0a1c2-6a47-4a3e-9f6e-0f0c9a1b2c3d" entityID="{entity_id}" xmlns="{n.MD}">'
        + _federation_role("ApplicationServiceType", key("leaf", use="encryption"))
        + _federation_role("SecurityTokenServiceType", key("idp_b"), key("ca"))
        + f'<SPSSODescriptor WantAssertionsSigned="true" protocolSupportEnumeration="{n.SAMLP}">'
        + key("sp_old", use="encryption")
        + key("sp")
        + name_ids
        + f'<AssertionConsumerService Binding="{BINDINGS}HTTP-POST" Location="{url}" index="0" isDefault="true"/>'
        + f'</SPSSODescriptor><IDPSSODescriptor protocolSupportEnumeration="{n.SAMLP}">'
        + key("idp_encryption", use="encryption")
        + key("idp")
        + key("idp_next")
        + services("SingleLogoutService", "HTTP-Redirect", "HTTP-POST", location=url)
        + name_ids
        + services("SingleSignOnService", "HTTP-Redirect", "HTTP-POST", location=url)
        + f'<Attribute Name="{n.UPN}" NameFormat="{n.URI_NAME}" FriendlyName="UPN" xmlns="{n.SAML}"/>'
        + "</IDPSSODescriptor><ContactPerson contactType='support'/></EntityDescriptor>"
    )
    return Vendor(
        name="adfs",
        data=signed(text, by="idp"),
        entity_id=entity_id,
        signing_certificates=ders("idp", "idp_next"),
        others=ders("idp_b", "ca", "sp", "sp_old", "leaf", "idp_encryption"),
        signer_key="idp",
    )


def _entra(name: str, tenant: str, sign_with: str, certificates: tuple[str, ...]) -> Vendor:
    entity_id = f"https://sts.windows.net/{tenant}/"
    url = f"https://login.microsoftonline.com/{tenant}/saml2"
    own = "".join(map(key, certificates))
    text = (
        f'<EntityDescriptor ID="_0b7c1b5e-2f0e-4c2a-a5a5-{name.encode().hex()[:12]}" entityID="{entity_id}" '
        f'xmlns="{n.MD}">'
        + _federation_role("SecurityTokenServiceType", own, key("idp_b"))
        + _federation_role("ApplicationServiceType", own, key("idp_b"))
        + f'<IDPSSODescriptor protocolSupportEnumeration="{n.SAMLP}">{own}'
        + services("SingleLogoutService", "HTTP-Redirect", location=url)
        + services("SingleSignOnService", "HTTP-Redirect", "HTTP-POST", location=url)
        + "</IDPSSODescriptor></EntityDescriptor>"
    )
    return Vendor(
        name=name,
        data=b"\xef\xbb\xbf" + signed(text, by=sign_with),
        entity_id=entity_id,
        signing_certificates=ders(*certificates),
        others=ders("idp_b"),
        signer_key=sign_with,
    )


def entra_tenant() -> Vendor:
    """The document of the tenant: several keys, of which none need be that of an application."""
    return _entra("entra-tenant", "3f1c77aa-0000-4c35-9e0e-1d2f3a4b5c6d", "tenant", ("tenant", "strong"))


def entra_application() -> Vendor:
    """The document of one application (`?appid=`): the application's own key, which also signs the document."""
    return _entra("entra-application", "3f1c77aa-0000-4c35-9e0e-1d2f3a4b5c6d", "idp", ("idp",))


def okta() -> Vendor:
    """One application: one certificate in lines of 76, prefixes for everything, not signed."""
    entity_id = "http://www.okta.com/exk1fcia6d6EMsf331d8"
    url = "https://corp.okta.example/app/corp/exk1fcia6d6EMsf331d8/sso/saml"
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><md:EntityDescriptor entityID="{entity_id}" xmlns:md="{n.MD}">'
        f'<md:IDPSSODescriptor WantAuthnRequestsSigned="false" protocolSupportEnumeration="{n.SAMLP}">'
        f'<md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="{n.DS}"><ds:X509Data><ds:X509Certificate>'
        f"{base64_of('idp', width=76)}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
        f"<md:NameIDFormat>{n.UNSPECIFIED}</md:NameIDFormat><md:NameIDFormat>{n.EMAIL}</md:NameIDFormat>"
        + "".join(
            f'<md:SingleSignOnService Binding="{BINDINGS}{each}" Location="{url}"/>'
            for each in ("HTTP-POST", "HTTP-Redirect")
        )
        + "</md:IDPSSODescriptor></md:EntityDescriptor>"
    )
    return Vendor(name="okta", data=text.encode(), entity_id=entity_id, signing_certificates=ders("idp"))


def pingfederate() -> Vendor:
    """A connection's export in a rotation: two signing certificates, cacheDuration, IDs with dots."""
    entity_id = "ping.corp.example:entityId"
    text = (
        f'<md:EntityDescriptor ID="u.4nYpAeZ_6w1WbB1kQ2" cacheDuration="PT1440M" entityID="{entity_id}" '
        f'xmlns="{n.MD}" xmlns:md="{n.MD}">'
        f'<md:IDPSSODescriptor protocolSupportEnumeration="{n.SAMLP}" WantAuthnRequestsSigned="false">'
        + key("idp")
        + key("idp_next")
        + f"<md:NameIDFormat>{n.UNSPECIFIED}</md:NameIDFormat>"
        + services("SingleSignOnService", "HTTP-POST", "HTTP-Redirect", location="https://ping.corp.example/idp/SSO")
        + "</md:IDPSSODescriptor><md:ContactPerson contactType='administrative'><md:Company>Corp</md:Company>"
        "</md:ContactPerson></md:EntityDescriptor>"
    )
    return Vendor(
        name="pingfederate",
        data=text.encode(),
        entity_id=entity_id,
        signing_certificates=ders("idp", "idp_next"),
        cache_duration=timedelta(days=1),
    )


def keycloak() -> Vendor:
    """A realm's descriptor: each enabled key with its KeyName, the passive ones too, on one line."""
    entity_id = "https://keycloak.corp.example/realms/corp"
    url = f"{entity_id}/protocol/saml"
    text = (
        f'<md:EntityDescriptor xmlns="{n.MD}" xmlns:md="{n.MD}" xmlns:saml="{n.SAML}" entityID="{entity_id}">'
        f'<md:IDPSSODescriptor WantAuthnRequestsSigned="true" protocolSupportEnumeration="{n.SAMLP}">'
        + key("idp_next", info="<ds:KeyName>2bTzPGnmuKqvIbIBzyoXm2rlmtqyP9XkNrd8Ua5Y4rQ</ds:KeyName>")
        + key("idp", info="<ds:KeyName>FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE</ds:KeyName>")
        + f'<md:ArtifactResolutionService Binding="{BINDINGS}SOAP" Location="{url}/resolve" index="0"/>'
        + services("SingleLogoutService", "HTTP-POST", "HTTP-Redirect", "SOAP", location=url)
        + f"<md:NameIDFormat>{n.PERSISTENT}</md:NameIDFormat><md:NameIDFormat>{n.TRANSIENT}</md:NameIDFormat>"
        + services("SingleSignOnService", "HTTP-POST", "HTTP-Redirect", "SOAP", location=url)
        + "</md:IDPSSODescriptor></md:EntityDescriptor>"
    )
    return Vendor(
        name="keycloak", data=text.encode(), entity_id=entity_id, signing_certificates=ders("idp_next", "idp")
    )


def shibboleth() -> Vendor:
    """A hand-kept file: back channel and front channel, encryption, a key for both, scopes, comments, a second role."""
    entity_id = "https://idp.corp.example/idp/shibboleth"
    url = "https://idp.corp.example/idp/profile/SAML2"
    methods = (
        '<EncryptionMethod Algorithm="http://www.w3.org/2009/xmlenc11#rsa-oaep">'
        f'<ds:DigestMethod xmlns:ds="{n.DS}" Algorithm="{n.SHA256}"/></EncryptionMethod></KeyDescriptor>'
    )
    encryption = key("idp_encryption", use="encryption", width=64, around="\n").replace("</KeyDescriptor>", methods)
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!--\n     This is example metadata only. Do *NOT* supply it as is.\n'
        f'-->\n<EntityDescriptor xmlns="{n.MD}" xmlns:shibmd="urn:mace:shibboleth:metadata:1.0" '
        f'xmlns:mdui="urn:oasis:names:tc:SAML:metadata:ui" entityID="{entity_id}">\n'
        f'<IDPSSODescriptor protocolSupportEnumeration="{n.SAMLP} urn:oasis:names:tc:SAML:1.1:protocol '
        'urn:mace:shibboleth:1.0">\n<Extensions><shibmd:Scope regexp="false">corp.example</shibmd:Scope>\n<!--\n'
        '    Fill in the details for your IdP here\n-->\n<mdui:UIInfo><mdui:DisplayName xml:lang="en">Corp'
        "</mdui:DisplayName></mdui:UIInfo></Extensions>\n<!-- First signing certificate is BackChannel -->\n"
        + key("idp_b", width=64, around="\n")
        + "\n<!-- The Second is FrontChannel -->\n"
        + key("idp", width=64, around="\n")
        + encryption
        + key("idp_next", use=None, width=64, around="\n")
        + services("SingleSignOnService", "HTTP-POST", "HTTP-Redirect", location=f"{url}/SSO")
        + "</IDPSSODescriptor>\n<AttributeAuthorityDescriptor "
        f'protocolSupportEnumeration="urn:oasis:names:tc:SAML:1.1:protocol {n.SAMLP}">\n'
        + key("leaf", width=64, around="\n")
        + f'<AttributeService Binding="{BINDINGS}SOAP" Location="{url}/SOAP/AttributeQuery"/>'
        "</AttributeAuthorityDescriptor>\n</EntityDescriptor>\n"
    )
    return Vendor(
        name="shibboleth",
        data=text.encode(),
        entity_id=entity_id,
        signing_certificates=ders("idp_b", "idp", "idp_next"),
        others=ders("idp_encryption", "leaf"),
    )


def google() -> Vendor:
    """A Workspace application: one certificate in lines, validUntil at the certificate's end with milliseconds."""
    entity_id = "https://accounts.google.com/o/saml2?idpid=C01abcdef"
    url = "https://accounts.google.com/o/saml2/idp?idpid=C01abcdef"
    text = (
        '<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n'
        f'<md:EntityDescriptor xmlns="{n.MD}" xmlns:md="{n.MD}" entityID="{entity_id}" '
        f'validUntil="{GOOGLE_END:%Y-%m-%dT%H:%M:%S}.000Z">\n'
        f'  <md:IDPSSODescriptor WantAuthnRequestsSigned="false" protocolSupportEnumeration="{n.SAMLP}">\n    '
        + key("idp", width=64)
        + f"\n    <md:NameIDFormat>{n.EMAIL}</md:NameIDFormat>\n    "
        + services("SingleSignOnService", "HTTP-Redirect", "HTTP-POST", location=url)
        + "\n  </md:IDPSSODescriptor>\n</md:EntityDescriptor>\n"
    )
    return Vendor(
        name="google",
        data=text.encode(),
        entity_id=entity_id,
        signing_certificates=ders("idp"),
        valid_until=GOOGLE_END,
    )


def federation() -> Vendor:
    """An aggregate of three IdPs and an SP, signed as a whole by the federation's operator."""
    text = aggregates.HEAD + aggregates.entity(aggregates.name_of(0), size=0, key="attacker")
    text += (
        '<md:EntityDescriptor entityID="https://sp.example">'
        f'<md:SPSSODescriptor protocolSupportEnumeration="{n.SAMLP}">'
        f'<md:AssertionConsumerService index="0" Binding="{BINDINGS}HTTP-POST" Location="https://sp.example/acs"/>'
        "</md:SPSSODescriptor></md:EntityDescriptor>"
    )
    text += aggregates.entity(aggregates.name_of(1), size=0, key="idp")
    text += aggregates.entity(aggregates.name_of(2), size=0, key="idp_b") + aggregates.TAIL
    return Vendor(
        name="federation",
        data=signed(text, by="ca"),
        entity_id=aggregates.name_of(1),
        signing_certificates=ders("idp"),
        others=ders("attacker", "idp_b", "idp_encryption", "ca"),
        signer_key="ca",
        valid_until=datetime(2026, 1, 15, tzinfo=UTC),
        cache_duration=timedelta(hours=6),
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )


@cache
def documents() -> Mapping[str, Vendor]:
    """Every document by name."""
    made = (
        adfs(),
        entra_tenant(),
        entra_application(),
        okta(),
        pingfederate(),
        keycloak(),
        shibboleth(),
        google(),
        federation(),
    )
    return {each.name: each for each in made}
