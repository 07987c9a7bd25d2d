"""Responses in the shapes of products: their prefixes, windows, signatures and encryption."""

from __future__ import annotations

from tests.corpus import metadata_documents as md
from tests.corpus import names as n
from tests.corpus.build import case
from tests.corpus.encrypt import CBC_MODE, GCM, OAEP_MGF1P, Lock
from tests.corpus.good import Launch, instant
from tests.corpus.model import BugType
from tests.corpus.sign import PLAIN_TRANSFORMS, How, Transform, key_name

PREFIX_XS = (PLAIN_TRANSFORMS[0], Transform(uri=n.EXC_C14N, prefixes="xs"))
OPENSAML = (PLAIN_TRANSFORMS[0], Transform(uri=n.EXC_C14N, prefixes="#default samlp saml ds xs xsi"))
WITH_KEY = {"decryption_keys": ["keys/sp.pem"]}


def milliseconds(seconds: float, fraction: str = ".417") -> str:
    """An instant with milliseconds."""
    return instant(seconds).replace("Z", f"{fraction}Z")


def adfs() -> Launch:
    """AD FS: default namespace for the assertion, milliseconds, no NameID Format."""
    return Launch.parsed(
        f'<samlp:Response ID="_8f2c1d5e-7a3b-4c4d-9e5f-0a1b2c3d4e5f" Version="2.0" IssueInstant="{milliseconds(0)}" '
        f'Destination="{n.ACS}" Consent="urn:oasis:names:tc:SAML:2.0:consent:unspecified" InResponseTo="_request1" '
        f'xmlns:samlp="{n.SAMLP}"><Issuer xmlns="{n.SAML}">{md.ADFS}</Issuer>'
        f'<samlp:Status><samlp:StatusCode Value="{n.SUCCESS}" /></samlp:Status>'
        f'<Assertion ID="_1b7e0c62-55aa-4a0e-8d0c-6f7e8d9c0b1a" IssueInstant="{milliseconds(0)}" Version="2.0" '
        f'xmlns="{n.SAML}"><Issuer>{md.ADFS}</Issuer><Subject><NameID>alice@corp.example</NameID>'
        f'<SubjectConfirmation Method="{n.BEARER}"><SubjectConfirmationData InResponseTo="_request1" '
        f'NotOnOrAfter="{milliseconds(300)}" Recipient="{n.ACS}" /></SubjectConfirmation></Subject>'
        f'<Conditions NotBefore="{milliseconds(-1)}" NotOnOrAfter="{milliseconds(3600)}"><AudienceRestriction>'
        f"<Audience>{n.GATEWAY}</Audience></AudienceRestriction></Conditions><AttributeStatement>"
        f'<Attribute Name="{n.UPN}"><AttributeValue>alice@corp.example</AttributeValue></Attribute>'
        '<Attribute Name="http://schemas.xmlsoap.org/claims/Group"><AttributeValue>Domain Users</AttributeValue>'
        "<AttributeValue>Citrix Users</AttributeValue></Attribute></AttributeStatement>"
        f'<AuthnStatement AuthnInstant="{milliseconds(-600)}" SessionIndex="_1b7e0c62-55aa-4a0e-8d0c-6f7e8d9c0b1a">'
        "<AuthnContext><AuthnContextClassRef>urn:federation:authentication:windows</AuthnContextClassRef>"
        "</AuthnContext></AuthnStatement></Assertion></samlp:Response>"
    )


@case("V31", allow=True, metadata="adfs", origin="AD FS")
def adfs_assertion_signed() -> Launch:
    """AD FS as it is by default: only the assertion is signed."""
    return adfs().sign()


@case("V31", allow=True, metadata="adfs", origin="AD FS")
def adfs_message_and_assertion_signed() -> Launch:
    """AD FS set to MessageAndAssertion."""
    return adfs().sign().sign_response()


@case("V31", allow=True, metadata="adfs", policy=WITH_KEY, origin="AD FS")
def adfs_encrypted() -> Launch:
    """AD FS with an encryption certificate: the signature is inside, none outside."""
    return adfs().sign().encrypt(Lock(content=CBC_MODE[256], transport=OAEP_MGF1P))


@case("V31", deny="signature_algorithm", metadata="adfs", bug=BugType.WEAK_CRYPTOGRAPHY, origin="AD FS")
def adfs_with_sha1() -> Launch:
    """An AD FS trust that was set up long ago and still signs with SHA-1."""
    return adfs().sign(method=n.RSA_SHA1, digest_method=n.SHA1)


@case("V31", deny="signature_invalid", metadata="adfs", bug=BugType.KEY_CONFUSION, origin="AD FS")
def adfs_key_of_another_role() -> Launch:
    """Signed by a key that the AD FS metadata lists only under RoleDescriptor."""
    return adfs().sign(key="idp_b", key_info=("idp_b",))


@case("V31", allow=True, metadata="entra", policy={"upn_from": ["nameid"]}, origin="Entra ID")
def entra() -> Launch:
    """Entra ID: assertion signed, NameID holds the UPN, window from five minutes before issue."""
    claims = "http://schemas.microsoft.com/identity/claims/"
    return Launch.parsed(
        f'<samlp:Response ID="_c7b2" Version="2.0" IssueInstant="{milliseconds(0)}" Destination="{n.ACS}" '
        f'InResponseTo="_request1" xmlns:samlp="{n.SAMLP}"><Issuer xmlns="{n.SAML}">{md.ENTRA}</Issuer>'
        f'<samlp:Status><samlp:StatusCode Value="{n.SUCCESS}"/></samlp:Status><Assertion ID="_5a1d" '
        f'IssueInstant="{milliseconds(0)}" Version="2.0" xmlns="{n.SAML}"><Issuer>{md.ENTRA}</Issuer><Subject>'
        f'<NameID Format="{n.EMAIL}">alice@corp.example</NameID><SubjectConfirmation Method="{n.BEARER}">'
        f'<SubjectConfirmationData InResponseTo="_request1" NotOnOrAfter="{milliseconds(3300)}" '
        f'Recipient="{n.ACS}"/></SubjectConfirmation></Subject><Conditions NotBefore="{milliseconds(-300)}" '
        f'NotOnOrAfter="{milliseconds(3300)}"><AudienceRestriction><Audience>{n.GATEWAY}</Audience>'
        f'</AudienceRestriction></Conditions><AttributeStatement><Attribute Name="{claims}tenantid"><AttributeValue>'
        f'3f1c77aa-0000-4c35-9e0e-1d2f3a4b5c6d</AttributeValue></Attribute><Attribute Name="{n.CLAIMS}name">'
        "<AttributeValue>alice@corp.example</AttributeValue></Attribute></AttributeStatement>"
        f'<AuthnStatement AuthnInstant="{milliseconds(-7200)}" SessionIndex="_5a1d"><AuthnContext>'
        f"<AuthnContextClassRef>{n.PASSWORD.replace('ProtectedTransport', '')}</AuthnContextClassRef></AuthnContext>"
        "</AuthnStatement></Assertion></samlp:Response>"
    ).sign(prefix="")


@case("V31", allow=True, metadata="entra", origin="Entra ID")
def entra_switches_to_the_inactive_certificate() -> Launch:
    """Entra signs with the certificate that was listed as inactive, without anyone having activated it."""
    return Launch(issuer=md.ENTRA, response_issuer=md.ENTRA).sign(key="idp_next", key_info=("idp_next",))


def okta() -> Launch:
    """Okta: saml2 prefixes, values typed xs:string."""
    return Launch.parsed(
        '<?xml version="1.0"?>'
        f'<saml2p:Response Destination="{n.ACS}" ID="id21037415827913312102458493" InResponseTo="_request1" '
        f'IssueInstant="{milliseconds(0, ".128")}" Version="2.0" xmlns:saml2p="{n.SAMLP}" xmlns:xs="{n.XS}">'
        '<saml2:Issuer Format="urn:oasis:names:tc:SAML:2.0:nameid-format:entity" '
        f'xmlns:saml2="{n.SAML}">{md.OKTA}</saml2:Issuer><saml2p:Status><saml2p:StatusCode Value="{n.SUCCESS}"/>'
        f'</saml2p:Status><saml2:Assertion ID="id21037415828070421513294728" IssueInstant="{milliseconds(0, ".128")}" '
        f'Version="2.0" xmlns:saml2="{n.SAML}" xmlns:xs="{n.XS}"><saml2:Issuer '
        f'Format="urn:oasis:names:tc:SAML:2.0:nameid-format:entity">{md.OKTA}</saml2:Issuer><saml2:Subject>'
        f'<saml2:NameID Format="{n.UNSPECIFIED}">alice@corp.example</saml2:NameID><saml2:SubjectConfirmation '
        f'Method="{n.BEARER}"><saml2:SubjectConfirmationData InResponseTo="_request1" NotOnOrAfter="{instant(300)}" '
        f'Recipient="{n.ACS}"/></saml2:SubjectConfirmation></saml2:Subject><saml2:Conditions '
        f'NotBefore="{instant(-300)}" NotOnOrAfter="{instant(300)}"><saml2:AudienceRestriction>'
        f"<saml2:Audience>{n.GATEWAY}</saml2:Audience></saml2:AudienceRestriction></saml2:Conditions>"
        f'<saml2:AuthnStatement AuthnInstant="{instant(-1560)}" SessionIndex="_request1"><saml2:AuthnContext>'
        f"<saml2:AuthnContextClassRef>{n.PASSWORD}</saml2:AuthnContextClassRef></saml2:AuthnContext>"
        f'</saml2:AuthnStatement><saml2:AttributeStatement><saml2:Attribute Name="{n.UPN}" '
        'NameFormat="urn:oasis:names:tc:SAML:2.0:attrname-format:unspecified"><saml2:AttributeValue '
        f'xmlns:xsi="{n.XSI}" xsi:type="xs:string">alice@corp.example</saml2:AttributeValue></saml2:Attribute>'
        "</saml2:AttributeStatement></saml2:Assertion></saml2p:Response>"
    )


@case("V31", allow=True, metadata="okta", policy={"require_signed": "both"}, origin="Okta")
def okta_both_signed() -> Launch:
    """Okta as it is by default: assertion and Response signed, PrefixList xs."""
    return okta().sign(transforms=PREFIX_XS, wrap=True).sign_response(transforms=PREFIX_XS, wrap=True)


@case("V31", allow=True, metadata="okta", policy=WITH_KEY, origin="Okta")
def okta_encrypted() -> Launch:
    """Okta with encryption: signed inside and outside."""
    launch = okta().sign(transforms=PREFIX_XS, wrap=True)
    return launch.encrypt(Lock(content=CBC_MODE[256], place="inside")).sign_response(transforms=PREFIX_XS, wrap=True)


@case("V31", allow=True, metadata="okta", policy={"upn_from": ["nameid"]}, origin="Okta", at=instant(6 * 3600))
def okta_hours_later() -> Launch:
    """Okta's assertion lives for minutes and is presented hours later."""
    return okta().sign(transforms=PREFIX_XS)


@case("V31", allow=True, metadata="ping", policy={"upn_from": ["nameid"]}, origin="PingFederate")
def ping_federate() -> Launch:
    """PingFederate: an entity ID that is no URL, no KeyInfo, the signature of the assertion only."""
    return Launch(
        issuer=md.PING,
        response_issuer=md.PING,
        response_id="pfRkwBy1",
        assertion_id="mPgWkXoEs4kQxoM.sJ-2_x",
        authenticated=instant(),
        not_before=instant(-300),
        not_on_or_after=instant(300),
        upn=None,
    ).sign(key_info=None, wrap=True)


@case("V31", allow=True, metadata="ping", origin="PingFederate")
def ping_federate_response_signed() -> Launch:
    """PingFederate set to sign the Response, with KeyValue beside the certificate."""
    return Launch(issuer=md.PING, response_issuer=md.PING).sign_response(wrap=True)


@case("V31", allow=True, metadata="keycloak", origin="Keycloak")
def keycloak() -> Launch:
    """Keycloak: Response signed, KeyName as a hint, xs types, SessionNotOnOrAfter, roles in many attributes."""
    roles = "".join(
        f'<saml:Attribute Name="Role" NameFormat="urn:oasis:names:tc:SAML:2.0:attrname-format:basic">'
        f'<saml:AttributeValue xmlns:xs="{n.XS}" xmlns:xsi="{n.XSI}" xsi:type="xs:string">{role}'
        "</saml:AttributeValue></saml:Attribute>"
        for role in ("offline_access", "uma_authorization", "default-roles-corp")
    )
    return Launch.parsed(
        f'<samlp:Response xmlns:samlp="{n.SAMLP}" xmlns:saml="{n.SAML}" Destination="{n.ACS}" '
        f'ID="ID_5b2a4f2e-6f7e-4f6c-9a54-0c8e3c3e6f01" InResponseTo="_request1" IssueInstant="{milliseconds(0)}" '
        f'Version="2.0"><saml:Issuer>{md.KEYCLOAK}</saml:Issuer><samlp:Status><samlp:StatusCode '
        f'Value="{n.SUCCESS}"/></samlp:Status><saml:Assertion ID="ID_9f0f7ac1-0b1c-4e0a-9d1b-6f1c7b8a9d02" '
        f'IssueInstant="{milliseconds(0)}" Version="2.0" xmlns="{n.SAML}"><saml:Issuer>{md.KEYCLOAK}</saml:Issuer>'
        f'<saml:Subject><saml:NameID Format="{n.UNSPECIFIED}">alice</saml:NameID><saml:SubjectConfirmation '
        f'Method="{n.BEARER}"><saml:SubjectConfirmationData InResponseTo="_request1" '
        f'NotOnOrAfter="{milliseconds(298)}" Recipient="{n.ACS}"/></saml:SubjectConfirmation></saml:Subject>'
        f'<saml:Conditions NotBefore="{milliseconds(-2)}" NotOnOrAfter="{milliseconds(58)}"><saml:AudienceRestriction>'
        f"<saml:Audience>{n.GATEWAY}</saml:Audience></saml:AudienceRestriction></saml:Conditions>"
        f'<saml:AuthnStatement AuthnInstant="{milliseconds(0)}" SessionIndex="f5d5::a1b2" '
        f'SessionNotOnOrAfter="{milliseconds(36000)}"><saml:AuthnContext><saml:AuthnContextClassRef>'
        "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified</saml:AuthnContextClassRef></saml:AuthnContext>"
        f'</saml:AuthnStatement><saml:AttributeStatement><saml:Attribute FriendlyName="upn" Name="{n.UPN}" '
        f'NameFormat="{n.URI_NAME}"><saml:AttributeValue>alice@corp.example</saml:AttributeValue></saml:Attribute>'
        f"{roles}</saml:AttributeStatement></saml:Assertion></samlp:Response>"
    ).sign_response(key_info=key_name("R5fJ2e0aQm"), prefix="dsig")


EPPN = "urn:oid:1.3.6.1.4.1.5923.1.1.1.6"


def shibboleth() -> Launch:
    """Shibboleth: the UPN in eduPersonPrincipalName, transient NameID, AuthnContext of its own."""
    return Launch(
        issuer=md.SHIBBOLETH,
        response_issuer=md.SHIBBOLETH,
        response_id="_d1e2f3a4b5c60718",
        assertion_id="_0a9b8c7d6e5f4031",
        name_id="AAdzZWNyZXQx",
        name_id_format=n.TRANSIENT,
        upn_attribute=EPPN,
        not_before=instant(),
        not_on_or_after=instant(300),
        issued=milliseconds(0),
    )


@case(
    "V31",
    allow=True,
    metadata="shibboleth",
    policy={**WITH_KEY, "upn_from": [f"attribute:{EPPN}"]},
    origin="Shibboleth",
)
def shibboleth_encrypted() -> Launch:
    """Shibboleth as it is with a key of ours: Response signed over the encrypted, unsigned assertion."""
    lock = Lock(content=CBC_MODE[128])
    return shibboleth().encrypt(lock).sign_response(transforms=PREFIX_XS, digest_method=n.SHA256, wrap=True)


@case(
    "V31",
    allow=True,
    metadata="shibboleth",
    policy={**WITH_KEY, "upn_from": [f"attribute:{EPPN}"]},
    origin="Shibboleth 4",
)
def shibboleth_4_encrypted() -> Launch:
    """Shibboleth 4 and later encrypt with AES-GCM."""
    return shibboleth().encrypt(Lock(content=GCM[128])).sign_response(wrap=True)


@case("V31", allow=True, metadata="shibboleth", policy={"upn_from": [f"attribute:{EPPN}"]}, origin="Shibboleth 2")
def shibboleth_opensaml_prefix_list() -> Launch:
    """The PrefixList of old OpenSAML releases."""
    return shibboleth().sign_response(transforms=OPENSAML, wrap=True)


@case("V31", deny="upn_invalid", metadata="shibboleth", policy={"upn_from": ["nameid"]}, bug=BugType.IDENTITY_CONFUSION)
def shibboleth_transient_name_id() -> Launch:
    """The policy takes the UPN from NameID, which Shibboleth makes a transient handle."""
    return shibboleth().sign_response()


@case("V31", allow=True, metadata="simplesamlphp", origin="SimpleSAMLphp")
def simplesamlphp() -> Launch:
    """SimpleSAMLphp: assertion and Response signed, basic attribute names, session end."""
    launch = Launch(
        issuer=md.SIMPLESAMLPHP,
        response_issuer=md.SIMPLESAMLPHP,
        session_ends=instant(8 * 3600),
        not_before=instant(-30),
        not_on_or_after=instant(300),
    )
    return launch.sign().sign_response()


@case("V31", allow=True, metadata="google", policy={"upn_from": ["nameid"]}, origin="Google Workspace")
def google() -> Launch:
    """Google Workspace: Response signed, e-mail NameID, an entity ID with a query."""
    launch = Launch(issuer=md.GOOGLE, response_issuer=md.GOOGLE, name_id_format=n.EMAIL, upn=None)
    return launch.sign_response(wrap=True)


@case("V31", allow=True, metadata="onelogin", origin="OneLogin")
def onelogin() -> Launch:
    """OneLogin: IDs with a prefix, the assertion signed, KeyInfo with a certificate."""
    launch = Launch(
        issuer=md.ONELOGIN, response_issuer=md.ONELOGIN, assertion_id="pfx4a1b2c3d-0f9e", response_id="R4a1b"
    )
    return launch.sign(How(prefix="ds"))


@case("V31", allow=True, metadata="citrix", policy={"upn_from": ["nameid"]}, origin="NetScaler as identity provider")
def netscaler() -> Launch:
    """A NetScaler as identity provider: assertion signed, NameID holds the UPN, no attributes."""
    return Launch(issuer=md.CITRIX, response_issuer=md.CITRIX, upn=None, not_before=instant(-300)).sign(wrap=True)
