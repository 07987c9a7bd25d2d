"""An identity provider that signs: for `fas-evidence demo`, for rehearsals and for tests.

It issues SAML 2.0 Responses in the shapes of well-known products and publishes the metadata to trust it by. The
signatures and the encryption are real; the users are whoever the caller names, so nothing of it may ever be trusted
outside a demonstration. Times are passed in, keys are passed in, and equal arguments give equal bytes, except where
something is encrypted.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, SignatureMethod
from signxml.signer import SignatureReference, XMLSigner

from evidence_service.access.model import UPN_CLAIM

SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
MD = "urn:oasis:names:tc:SAML:2.0:metadata"
DS = "http://www.w3.org/2000/09/xmldsig#"
XENC = "http://www.w3.org/2001/04/xmlenc#"
XENC11 = "http://www.w3.org/2009/xmlenc11#"
XS = "http://www.w3.org/2001/XMLSchema"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
FED = "http://docs.oasis-open.org/wsfed/federation/200706"
NAME_CLAIM = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name"

_AC = "urn:oasis:names:tc:SAML:2.0:ac:classes:"
_NAME_FORMAT = "urn:oasis:names:tc:SAML:{}:nameid-format:{}"


class Signs(StrEnum):
    """What carries a signature. `NOTHING` exists to show what becomes of it."""

    ASSERTION = "assertion"
    RESPONSE = "response"
    BOTH = "both"
    NOTHING = "nothing"

    @property
    def the_assertion(self) -> bool:
        """Whether the assertion is signed."""
        return self in (Signs.ASSERTION, Signs.BOTH)

    @property
    def the_response(self) -> bool:
        """Whether the response is signed."""
        return self in (Signs.RESPONSE, Signs.BOTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a product shapes its responses and metadata. Change one thing with `dataclasses.replace`.

    `upn_attribute` names the attribute that holds the UPN; None: the NameID holds it. The three windows count from
    the issue instant. `fraction_digits` are those of every instant. `inclusive_prefixes` is the PrefixList of the
    reference's canonicalization.
    """

    product: str
    signs: Signs
    upn_attribute: str | None
    name_id_format: str
    assertion_prefix: str | None = "saml"
    protocol_prefix: str = "samlp"
    typed_values: bool = False
    not_before: timedelta = timedelta(0)
    not_on_or_after: timedelta = timedelta(minutes=60)
    confirmation: timedelta = timedelta(minutes=5)
    session: timedelta | None = None
    signed_in_before: timedelta = timedelta(0)
    authn_context: str = _AC + "PasswordProtectedTransport"
    fraction_digits: int = 3
    inclusive_prefixes: tuple[str, ...] = ()
    key_name: bool = False
    oaep_sha256: bool = False
    other_attributes: tuple[tuple[str, str], ...] = ()
    federation_roles: bool = False

    @property
    def upn_from(self) -> str:
        """The entry of a policy's `upn_from` that fits."""
        return "nameid" if self.upn_attribute is None else f"attribute:{self.upn_attribute}"


ADFS = Profile(
    product="AD FS",
    signs=Signs.ASSERTION,
    upn_attribute=UPN_CLAIM,
    name_id_format=_NAME_FORMAT.format("1.1", "unspecified"),
    assertion_prefix=None,
    signed_in_before=timedelta(minutes=10),
    other_attributes=(("http://schemas.xmlsoap.org/claims/Group", "Domain Users"),),
    federation_roles=True,
)
ENTRA = Profile(
    product="Entra ID",
    signs=Signs.ASSERTION,
    upn_attribute=NAME_CLAIM,
    name_id_format=_NAME_FORMAT.format("1.1", "emailAddress"),
    assertion_prefix=None,
    not_before=timedelta(minutes=-5),
    not_on_or_after=timedelta(minutes=65),
    authn_context=_AC + "Password",
    other_attributes=(
        ("http://schemas.microsoft.com/identity/claims/tenantid", "6c5d7ab1-3f0e-4a29-9b5e-0d1c5d8d7f10"),
    ),
    federation_roles=True,
)
OKTA = Profile(
    product="Okta",
    signs=Signs.BOTH,
    upn_attribute=None,
    name_id_format=_NAME_FORMAT.format("1.1", "unspecified"),
    assertion_prefix="saml2",
    protocol_prefix="saml2p",
    typed_values=True,
    not_before=timedelta(minutes=-5),
    not_on_or_after=timedelta(minutes=5),
    signed_in_before=timedelta(minutes=26),
    inclusive_prefixes=("xs",),
    other_attributes=(("firstName", "Demo"),),
)
KEYCLOAK = Profile(
    product="Keycloak",
    signs=Signs.RESPONSE,
    upn_attribute="upn",
    name_id_format=_NAME_FORMAT.format("1.1", "unspecified"),
    typed_values=True,
    not_on_or_after=timedelta(minutes=1),
    session=timedelta(hours=10),
    authn_context=_AC + "unspecified",
    key_name=True,
    oaep_sha256=True,
    other_attributes=(("Role", "default-roles-demo"),),
)
PROFILES = (ADFS, ENTRA, OKTA, KEYCLOAK)


def new_key() -> rsa.RSAPrivateKey:
    """A fresh RSA key of 2048 bits."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def self_signed(
    common_name: str, key: rsa.RSAPrivateKey, *, not_before: datetime, not_after: datetime
) -> x509.Certificate:
    """A self-signed certificate for `key`; the times are UTC. Raises ValueError where they are in the wrong order."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .sign(key, hashes.SHA256())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoIdp:
    """One identity provider: its name, its habits and its token-signing key.

    `encryption_certificate` is what it publishes for encryption to itself, where its product does; it signs nothing.
    """

    entity_id: str
    profile: Profile
    key: rsa.RSAPrivateKey
    certificate: x509.Certificate
    encryption_certificate: x509.Certificate | None = None

    def issue(
        self,
        *,
        upn: str,
        issue_instant: datetime,
        audience: str,
        recipient: str,
        assertion_id: str,
        encrypt_to: rsa.RSAPublicKey | None = None,
    ) -> bytes:
        """The Response for a sign-in of `upn` at `issue_instant` (UTC), as UTF-8 XML.

        `audience` is the service's entity ID, `recipient` its assertion consumer URL. With `encrypt_to` the
        assertion is encrypted to that key, after it was signed and before the response is.
        """
        assertion = self._assertion(upn, issue_instant, audience, recipient, assertion_id)
        if self.profile.signs.the_assertion:
            assertion = self._sign(assertion, after=f"{{{SAML}}}Issuer")
        if encrypt_to is not None:
            assertion = _encrypted(assertion, encrypt_to, sha256=self.profile.oaep_sha256)
        response = etree.Element(
            f"{{{SAMLP}}}Response",
            {
                "ID": f"_{hashlib.sha256(assertion_id.encode()).hexdigest()[:32]}",
                "Version": "2.0",
                "IssueInstant": self._instant(issue_instant),
                "Destination": recipient,
            },
            nsmap={self.profile.protocol_prefix: SAMLP, **self._assertion_names},
        )
        issuer = etree.SubElement(response, f"{{{SAML}}}Issuer", nsmap={self.profile.assertion_prefix: SAML})
        issuer.text = self.entity_id
        status = _child(response, SAMLP, "Status")
        _child(status, SAMLP, "StatusCode", {"Value": "urn:oasis:names:tc:SAML:2.0:status:Success"})
        response.append(assertion)
        if self.profile.signs.the_response:
            response = self._sign(response, after=f"{{{SAML}}}Issuer")
        return etree.tostring(response, encoding="UTF-8", xml_declaration=False)

    def metadata(self, *, also: Sequence[x509.Certificate] = (), signed_by: DemoIdp | None = None) -> bytes:
        """The metadata that this IdP publishes, as UTF-8 XML; products with federation roles sign theirs.

        It lists the certificates of `also` after its own, and is signed by the key of `signed_by` instead of its own.
        """
        signing = (self.certificate, *also)
        descriptor = etree.Element(
            f"{{{MD}}}EntityDescriptor",
            {"ID": f"_{hashlib.sha256(self.entity_id.encode()).hexdigest()[:32]}", "entityID": self.entity_id},
            nsmap={None: MD, "ds": DS},
        )
        if self.profile.federation_roles:
            for kind in ("ApplicationServiceType", "SecurityTokenServiceType"):
                role = etree.SubElement(
                    descriptor,
                    f"{{{MD}}}RoleDescriptor",
                    {f"{{{XSI}}}type": f"fed:{kind}", "protocolSupportEnumeration": FED},
                    nsmap={"fed": FED, "xsi": XSI},
                )
                for each in signing:
                    self._key_descriptor(role, "signing", each)
        idp = _child(descriptor, MD, "IDPSSODescriptor", {"protocolSupportEnumeration": SAMLP})
        if self.encryption_certificate is not None:
            self._key_descriptor(idp, "encryption", self.encryption_certificate)
        for each in signing:
            self._key_descriptor(idp, "signing", each)
        _child(idp, MD, "NameIDFormat", text=self.profile.name_id_format)
        for binding in ("HTTP-POST", "HTTP-Redirect"):
            location = {"Binding": f"urn:oasis:names:tc:SAML:2.0:bindings:{binding}", "Location": self._sso_url}
            _child(idp, MD, "SingleSignOnService", location)
        if self.profile.federation_roles:
            descriptor = self._sign(descriptor, after=None, by=signed_by)
        return etree.tostring(descriptor, encoding="UTF-8", xml_declaration=True)

    @property
    def _sso_url(self) -> str:
        return f"{self.entity_id.replace('http://', 'https://').rstrip('/')}/sso"

    @property
    def _assertion_names(self) -> Mapping[str | None, str]:
        """Namespaces that the response declares for what is below it.

        A second prefix for the same namespace would make lxml rename the signed assertion's elements.
        """
        names: dict[str | None, str] = {}
        if self.profile.assertion_prefix is not None:
            names[self.profile.assertion_prefix] = SAML
        if self.profile.typed_values:
            names["xs"] = XS
        return names

    def _instant(self, moment: datetime) -> str:
        utc = moment.astimezone(UTC)
        fraction = f"{utc:%f}0000"[: self.profile.fraction_digits]
        return f"{utc:%Y-%m-%dT%H:%M:%S}{'.' if fraction else ''}{fraction}Z"

    def _assertion(
        self, upn: str, issued: datetime, audience: str, recipient: str, assertion_id: str
    ) -> etree._Element:
        profile = self.profile
        names: dict[str | None, str] = {profile.assertion_prefix: SAML}
        if profile.typed_values:
            names |= {"xs": XS, "xsi": XSI}
        assertion = etree.Element(
            f"{{{SAML}}}Assertion",
            {"ID": assertion_id, "IssueInstant": self._instant(issued), "Version": "2.0"},
            nsmap=names,
        )
        _child(assertion, SAML, "Issuer", text=self.entity_id)
        subject = _child(assertion, SAML, "Subject")
        name_id = upn if profile.upn_attribute in (None, NAME_CLAIM) else upn.partition("@")[0]
        _child(subject, SAML, "NameID", {"Format": profile.name_id_format}, text=name_id)
        bearer = _child(subject, SAML, "SubjectConfirmation", {"Method": "urn:oasis:names:tc:SAML:2.0:cm:bearer"})
        until = {"NotOnOrAfter": self._instant(issued + profile.confirmation), "Recipient": recipient}
        _child(bearer, SAML, "SubjectConfirmationData", until)
        window = {
            "NotBefore": self._instant(issued + profile.not_before),
            "NotOnOrAfter": self._instant(issued + profile.not_on_or_after),
        }
        conditions = _child(assertion, SAML, "Conditions", window)
        restriction = _child(conditions, SAML, "AudienceRestriction")
        _child(restriction, SAML, "Audience", text=audience)
        self._add_authn_statement(assertion, issued, assertion_id)
        self._add_attributes(assertion, upn)
        return assertion

    def _add_authn_statement(self, assertion: etree._Element, issued: datetime, session_index: str) -> None:
        profile = self.profile
        members = {
            "AuthnInstant": self._instant(issued - profile.signed_in_before),
            "SessionIndex": session_index,
        }
        if profile.session is not None:
            members["SessionNotOnOrAfter"] = self._instant(issued + profile.session)
        statement = _child(assertion, SAML, "AuthnStatement", members)
        context = _child(statement, SAML, "AuthnContext")
        _child(context, SAML, "AuthnContextClassRef", text=profile.authn_context)

    def _add_attributes(self, assertion: etree._Element, upn: str) -> None:
        profile = self.profile
        values = list(profile.other_attributes)
        if profile.upn_attribute is not None:
            values.append((profile.upn_attribute, upn))
        statement = _child(assertion, SAML, "AttributeStatement")
        kind = {f"{{{XSI}}}type": "xs:string"} if profile.typed_values else {}
        for name, value in values:
            attribute = _child(statement, SAML, "Attribute", {"Name": name})
            _child(attribute, SAML, "AttributeValue", kind, text=value)

    def _key_descriptor(self, parent: etree._Element, use: str, certificate: x509.Certificate) -> None:
        descriptor = _child(parent, MD, "KeyDescriptor", {"use": use})
        info = _child(descriptor, DS, "KeyInfo")
        if self.profile.key_name:
            _child(info, DS, "KeyName", text=self._key_id)
        data = _child(info, DS, "X509Data")
        der = certificate.public_bytes(Encoding.DER)
        _child(data, DS, "X509Certificate", text=b64encode(der).decode("ascii"))

    @property
    def _key_id(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()[:16]

    def _sign(self, element: etree._Element, *, after: str | None, by: DemoIdp | None = None) -> etree._Element:
        """A signed copy of `element`; its Signature stands after the child `after`, or first.

        The key is our own, or that of `by`.
        """
        signer = by or self
        place = etree.Element(f"{{{DS}}}Signature", {"Id": "placeholder"}, nsmap={"ds": DS})
        before = None if after is None else element.find(after)
        element.insert(0 if before is None else element.index(before) + 1, place)
        reference = SignatureReference(
            URI=f"#{element.get('ID')}", inclusive_ns_prefixes=list(self.profile.inclusive_prefixes) or None
        )
        return _Signer(
            signature_algorithm=SignatureMethod.RSA_SHA256,
            c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
        ).sign(
            element,
            key=signer.key,
            cert=[signer.certificate],
            key_name=self._key_id if self.profile.key_name else None,
            reference_uri=[reference],
            id_attribute="ID",
        )


class _Signer(XMLSigner):
    """signxml digests an enveloped reference with its PrefixList but does not write the list down; this does."""

    def _build_transforms_for_reference(
        self,
        *,
        transforms_node: etree._Element,
        reference: SignatureReference,
        exclude_c14n_transform_element: bool = True,
    ) -> None:
        super()._build_transforms_for_reference(
            transforms_node=transforms_node,
            reference=reference,
            exclude_c14n_transform_element=exclude_c14n_transform_element,
        )
        if reference.inclusive_ns_prefixes:
            exclusive = CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0.value
            etree.SubElement(
                transforms_node[-1],
                f"{{{exclusive}}}InclusiveNamespaces",
                {"PrefixList": " ".join(reference.inclusive_ns_prefixes)},
                nsmap={"ec": exclusive},
            )


def _encrypted(assertion: etree._Element, key: rsa.RSAPublicKey, *, sha256: bool) -> etree._Element:
    """An EncryptedAssertion of AES-256-GCM with RSA-OAEP: XML Encryption 1.1, or the mgf1p form of 1.0."""
    content_key, nonce = AESGCM.generate_key(bit_length=256), os.urandom(12)
    content = nonce + AESGCM(content_key).encrypt(nonce, etree.tostring(assertion), None)
    digest = hashes.SHA256() if sha256 else hashes.SHA1()  # noqa: S303 - mgf1p's digest; sound inside OAEP
    wrapped = key.encrypt(content_key, padding.OAEP(mgf=padding.MGF1(digest), algorithm=digest, label=None))

    outer = etree.Element(f"{{{SAML}}}EncryptedAssertion", nsmap={"saml": SAML})
    data = etree.SubElement(
        outer, f"{{{XENC}}}EncryptedData", {"Type": f"{XENC}Element"}, nsmap={"xenc": XENC, "ds": DS}
    )
    _child(data, XENC, "EncryptionMethod", {"Algorithm": f"{XENC11}aes256-gcm"})
    encrypted_key = _child(_child(data, DS, "KeyInfo"), XENC, "EncryptedKey")
    algorithm = f"{XENC11}rsa-oaep" if sha256 else f"{XENC}rsa-oaep-mgf1p"
    method = _child(encrypted_key, XENC, "EncryptionMethod", {"Algorithm": algorithm})
    _child(method, DS, "DigestMethod", {"Algorithm": f"{XENC}sha256" if sha256 else f"{DS}sha1"})
    if sha256:
        mgf = {"Algorithm": f"{XENC11}mgf1sha256"}
        etree.SubElement(method, f"{{{XENC11}}}MGF", mgf, nsmap={"xenc11": XENC11})
    for parent, octets in ((encrypted_key, wrapped), (data, content)):
        cipher = _child(parent, XENC, "CipherData")
        _child(cipher, XENC, "CipherValue", text=b64encode(octets).decode("ascii"))
    return outer


def _child(
    parent: etree._Element, namespace: str, name: str, members: Mapping[str, str] | None = None, *, text: str = ""
) -> etree._Element:
    element = etree.SubElement(parent, f"{{{namespace}}}{name}", dict(members or {}))
    element.text = text or None
    return element
