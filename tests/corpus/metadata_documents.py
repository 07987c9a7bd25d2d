"""The metadata documents that cases are judged against, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lxml import etree

from tests.corpus import keys
from tests.corpus import names as n
from tests.corpus.names import qname
from tests.corpus.sign import How, below, encoded, sign

SAML2 = n.SAMLP


def descriptor(
    entity_id: str,
    signing: Sequence[str | tuple[str, ...]] = ("idp",),
    *,
    encryption: Sequence[str] = (),
    any_use: Sequence[str] = (),
    elsewhere: Sequence[str] = (),
    element_id: str | None = None,
) -> etree._Element:
    """An EntityDescriptor of an IdP; a tuple in `signing` is one KeyDescriptor with several certificates.

    `elsewhere` puts certificates under an SPSSODescriptor, where they must not count.
    """
    entity = etree.Element(qname("md:EntityDescriptor"), nsmap={"md": n.MD, "ds": n.DS})
    entity.set("entityID", entity_id)
    if element_id is not None:
        entity.set("ID", element_id)
    if elsewhere:
        service = below(entity, "md:SPSSODescriptor", protocolSupportEnumeration=SAML2)
        for name in elsewhere:
            _key(service, "signing", (name,))
        below(
            service,
            "md:AssertionConsumerService",
            index="0",
            Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST",
            Location=entity_id + "/acs",
        )
    role = below(entity, "md:IDPSSODescriptor", protocolSupportEnumeration=SAML2)
    for names in signing:
        _key(role, "signing", (names,) if isinstance(names, str) else names)
    for name in encryption:
        _key(role, "encryption", (name,))
    for name in any_use:
        _key(role, None, (name,))
    below(
        role,
        "md:SingleSignOnService",
        Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect",
        Location=entity_id + "/sso",
    )
    return entity


def _key(role: etree._Element, use: str | None, certificates: Sequence[str]) -> None:
    made = below(role, "md:KeyDescriptor")
    if use is not None:
        made.set("use", use)
    data = below(below(made, "ds:KeyInfo"), "ds:X509Data")
    for name in certificates:
        below(data, "ds:X509Certificate", encoded(keys.certificate(name), wrap=True))


def aggregate(*entities: etree._Element) -> etree._Element:
    """An EntitiesDescriptor."""
    made = etree.Element(qname("md:EntitiesDescriptor"), nsmap={"md": n.MD, "ds": n.DS})
    for entity in entities:
        made.append(entity)
    return made


def signed_donor() -> etree._Element:
    """Metadata that the IdP signed with its token key, as AD FS and Entra publish it."""
    entity = descriptor(n.IDP, element_id="_metadata1")
    sign(entity, How(index=0))
    return entity


ADFS = "http://adfs.corp.example/adfs/services/trust"
ENTRA = "https://sts.windows.net/3f1c77aa-0000-4c35-9e0e-1d2f3a4b5c6d/"
OKTA = "http://www.okta.com/exk1fcia6d6EMsf331d8"
PING = "ping.corp.example:entityId"
KEYCLOAK = "https://keycloak.corp.example/realms/corp"
SHIBBOLETH = "https://idp.corp.example/idp/shibboleth"
SIMPLESAMLPHP = "https://ssp.corp.example/simplesaml/module.php/saml/idp/metadata"
GOOGLE = "https://accounts.google.com/o/saml2?idpid=C01abcdef"
ONELOGIN = "https://app.onelogin.com/saml/metadata/123456"
CITRIX = "https://idp-ns.corp.example/saml/login"


def adfs() -> etree._Element:
    """FederationMetadata.xml: four roles, keys for encryption, signed by the key that it announces."""
    fed = "http://docs.oasis-open.org/wsfed/federation/200706"
    entity = descriptor(ADFS, ("idp",), encryption=("idp_encryption",), elsewhere=("idp_next",), element_id="_adfs1")
    for number, kind in enumerate(("ApplicationServiceType", "SecurityTokenServiceType")):
        role = etree.Element(qname("md:RoleDescriptor"), nsmap={"xsi": n.XSI, "fed": fed})
        role.set(qname("xsi:type"), f"fed:{kind}")
        role.set("protocolSupportEnumeration", f"{fed} http://docs.oasis-open.org/ws-sx/ws-trust/200512")
        _key(role, "signing", ("idp_b",))
        entity.insert(number, role)
    sign(entity, How(index=0))
    return entity


DOCUMENTS: dict[str, Callable[[], etree._Element]] = {
    "idp": lambda: descriptor(n.IDP),
    "idp-none": lambda: descriptor(n.IDP, ()),
    "idp-only-encryption": lambda: descriptor(n.IDP, (), encryption=("idp",)),
    "idp-encryption": lambda: descriptor(n.IDP, ("idp",), encryption=("idp_encryption",)),
    "idp-any-use": lambda: descriptor(n.IDP, (), any_use=("idp",)),
    "idp-sp-role": lambda: descriptor(n.IDP, ("idp",), elsewhere=("attacker",)),
    "idp-old-new": lambda: descriptor(n.IDP, ("idp", "idp_next")),
    "idp-new-old": lambda: descriptor(n.IDP, ("idp_next", "idp")),
    "idp-old-new-one-key-info": lambda: descriptor(n.IDP, (("idp", "idp_next"),)),
    "idp-new-old-one-key-info": lambda: descriptor(n.IDP, (("idp_next", "idp"),)),
    "idp-twice": lambda: descriptor(n.IDP, ("idp", "idp")),
    "idp-next": lambda: descriptor(n.IDP, ("idp_next",)),
    "idp-renewed": lambda: descriptor(n.IDP, ("idp_renewed",)),
    "idp-expired": lambda: descriptor(n.IDP, ("idp_expired",)),
    "idp-future": lambda: descriptor(n.IDP, ("idp_future",)),
    "idp-weak": lambda: descriptor(n.IDP, ("weak",)),
    "idp-weak-strong": lambda: descriptor(n.IDP, ("weak", "idp")),
    "idp-strong": lambda: descriptor(n.IDP, ("strong",)),
    "idp-ca": lambda: descriptor(n.IDP, ("ca",)),
    "idp-p224": lambda: descriptor(n.IDP, ("p224",)),
    "idp-p256": lambda: descriptor(n.IDP, ("p256",)),
    "idp-p384": lambda: descriptor(n.IDP, ("p384",)),
    "idp-p521": lambda: descriptor(n.IDP, ("p521",)),
    "idp-rsa-p256": lambda: descriptor(n.IDP, ("idp", "p256")),
    "two-idps": lambda: aggregate(descriptor(n.IDP), descriptor(n.OTHER_IDP, ("idp_b",))),
    "signed-by-itself": signed_donor,
    "adfs": adfs,
    "entra": lambda: descriptor(ENTRA, ("idp", "idp_next")),
    "okta": lambda: descriptor(OKTA),
    "ping": lambda: descriptor(PING),
    "keycloak": lambda: descriptor(KEYCLOAK),
    "shibboleth": lambda: descriptor(SHIBBOLETH, ("idp_b", "idp"), encryption=("idp_encryption",)),
    "simplesamlphp": lambda: descriptor(SIMPLESAMLPHP, ("idp",), encryption=("idp",)),
    "google": lambda: descriptor(GOOGLE),
    "onelogin": lambda: descriptor(ONELOGIN),
    "citrix": lambda: descriptor(CITRIX),
}
"""Name in the compiled data and how to build it."""
