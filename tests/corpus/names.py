"""Namespace names, algorithm identifiers and the people of the corpus."""

from __future__ import annotations

SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
DS = "http://www.w3.org/2000/09/xmldsig#"
DSIG_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
DSIG_MORE_2007 = "http://www.w3.org/2007/05/xmldsig-more#"
DSIG11 = "http://www.w3.org/2009/xmldsig11#"
XENC = "http://www.w3.org/2001/04/xmlenc#"
XENC11 = "http://www.w3.org/2009/xmlenc11#"
EXC_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
XS = "http://www.w3.org/2001/XMLSchema"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
MD = "urn:oasis:names:tc:SAML:2.0:metadata"
XML = "http://www.w3.org/XML/1998/namespace"

PREFIXES = {
    "samlp": SAMLP,
    "saml": SAML,
    "ds": DS,
    "dsig11": DSIG11,
    "xenc": XENC,
    "xenc11": XENC11,
    "ec": EXC_C14N,
    "xs": XS,
    "xsi": XSI,
    "md": MD,
    "xml": XML,
}

EXC_C14N_COMMENTS = EXC_C14N + "WithComments"
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
C14N11 = "http://www.w3.org/2006/12/xml-c14n11"
ENVELOPED = DS + "enveloped-signature"

RSA_SHA1 = DS + "rsa-sha1"
RSA_SHA256 = DSIG_MORE + "rsa-sha256"
RSA_SHA384 = DSIG_MORE + "rsa-sha384"
RSA_SHA512 = DSIG_MORE + "rsa-sha512"
RSA_MD5 = DSIG_MORE + "rsa-md5"
PSS_SHA256 = DSIG_MORE_2007 + "sha256-rsa-MGF1"
PSS_SHA384 = DSIG_MORE_2007 + "sha384-rsa-MGF1"
PSS_SHA512 = DSIG_MORE_2007 + "sha512-rsa-MGF1"
ECDSA_SHA1 = DSIG_MORE + "ecdsa-sha1"
ECDSA_SHA256 = DSIG_MORE + "ecdsa-sha256"
ECDSA_SHA384 = DSIG_MORE + "ecdsa-sha384"
ECDSA_SHA512 = DSIG_MORE + "ecdsa-sha512"
HMAC_SHA1 = DS + "hmac-sha1"
HMAC_SHA256 = DSIG_MORE + "hmac-sha256"
DSA_SHA1 = DS + "dsa-sha1"

SHA1 = DS + "sha1"
SHA256 = XENC + "sha256"
SHA384 = DSIG_MORE + "sha384"
SHA512 = XENC + "sha512"
MD5 = DSIG_MORE + "md5"

IDP = "https://idp.example/saml"
OTHER_IDP = "https://idp-b.example/saml"
GATEWAY = "https://gw.example"
ACS = "https://gw.example/cgi/samlauth"
ALICE = "alice@corp.example"
ADMIN = "admin@corp.example"

BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
HOLDER_OF_KEY = "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"
SENDER_VOUCHES = "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
RESPONDER = "urn:oasis:names:tc:SAML:2.0:status:Responder"
AUTHN_FAILED = "urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"
PASSWORD = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
REFEDS_MFA = "https://refeds.org/profile/mfa"
UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
EMAIL = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
ENTITY = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"
URI_NAME = "urn:oasis:names:tc:SAML:2.0:attrname-format:uri"

CLAIMS = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/"
UPN = CLAIMS + "upn"


def qname(name: str) -> str:
    """`saml:Issuer` as lxml writes it, `{urn:...}Issuer`; a name without a prefix stays as it is."""
    prefix, _, local = name.rpartition(":")
    return f"{{{PREFIXES[prefix]}}}{local}" if prefix in PREFIXES else name
