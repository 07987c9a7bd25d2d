"""The metadata of a whole federation, as large as wanted, made quickly."""

from __future__ import annotations

import base64

from tests.corpus import keys
from tests.corpus import names as n

RPI = "urn:oasis:names:tc:SAML:metadata:rpi"
CREATED = "2026-01-01T00:00:00Z"
HEAD = (
    f'<md:EntitiesDescriptor xmlns:md="{n.MD}" xmlns:ds="{n.DS}" xmlns:mdrpi="{RPI}" ID="_federation1" '
    'Name="https://federation.example" validUntil="2026-01-15T00:00:00Z" cacheDuration="PT6H"><md:Extensions>'
    f'<mdrpi:PublicationInfo publisher="https://federation.example" creationInstant="{CREATED}"/></md:Extensions>\n'
)
TAIL = "</md:EntitiesDescriptor>\n"
ICON = "data:image/png;base64,"
ENTITY_SIZE = 13_200
"""Bytes of one entity: 5,000 of them make 66 MB, as eduGAIN with its logos and languages."""


def name_of(number: int) -> str:
    """The entity ID of one IdP of the federation."""
    return f"https://idp{number}.example/idp/shibboleth"


def _certificate(name: str) -> str:
    text = base64.b64encode(keys.certificate(name)).decode()
    return "\n".join(text[at : at + 76] for at in range(0, len(text), 76))


def entity(entity_id: str, *, size: int = ENTITY_SIZE, key: str = "idp") -> str:
    """One IdP with two keys, names in many languages, and as many requested attributes as fill the size."""
    names = "".join(
        f'<mdui:DisplayName xml:lang="l{each}">Universität &amp; Hochschule {each}</mdui:DisplayName>\n'
        for each in range(12)
    )
    descriptor = "".join(
        f"<md:KeyDescriptor{use}><ds:KeyInfo><ds:X509Data><ds:X509Certificate>\n{_certificate(name)}\n"
        "</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>\n"
        for use, name in (("", key), (' use="encryption"', "idp_encryption"))
    )
    services = "".join(
        f'<md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:{binding}" '
        f'Location="{entity_id}/{binding}/SSO"/>\n'
        for binding in ("HTTP-POST", "HTTP-Redirect", "SOAP")
    )
    head = (
        f'<md:EntityDescriptor entityID="{entity_id}"><md:Extensions>'
        f'<mdrpi:RegistrationInfo registrationAuthority="https://federation.example"/></md:Extensions>\n'
        f'<md:IDPSSODescriptor protocolSupportEnumeration="{n.SAMLP}"><md:Extensions>'
        f'<mdui:UIInfo xmlns:mdui="urn:oasis:names:tc:SAML:metadata:ui">{names}'
    )
    rest = f"</mdui:UIInfo></md:Extensions>\n{descriptor}{services}"
    tail = "</md:IDPSSODescriptor></md:EntityDescriptor>\n"
    scopes = "".join(
        f'<saml:Attribute xmlns:saml="{n.SAML}" Name="urn:oid:1.3.6.1.4.1.5923.1.1.1.{each}" FriendlyName="a{each}"/>\n'
        for each in range(20)
    )
    body = head + rest + scopes + tail
    left = size - len(body.encode())
    logo = f'<mdui:Logo height="16" width="16">{ICON}{"iVBORw0KGgo" * (left // 11)}</mdui:Logo>' if left > 100 else ""
    return head + logo + rest + scopes + tail


def federation(entities: int, *, size: int = ENTITY_SIZE) -> bytes:
    """An aggregate of so many IdPs, each of about so many bytes, none of them the same as another."""
    template = entity("ENTITY-ID", size=size)
    return (HEAD + "".join(template.replace("ENTITY-ID", name_of(each)) for each in range(entities)) + TAIL).encode()
