"""Signature, key and trust."""

from __future__ import annotations

import base64
from collections.abc import Callable

from lxml import etree

from tests.corpus import keys
from tests.corpus import names as n
from tests.corpus.build import case, given
from tests.corpus.good import Launch, claim_upn, instant
from tests.corpus.model import BugType, Seen, Setting
from tests.corpus.names import qname
from tests.corpus.sign import How, Transform, below, element, encoded, key_info, key_name, key_value, sign

BYPASS = BugType.SIGNATURE_BYPASS
CONFUSION = BugType.KEY_CONFUSION
WEAK = BugType.WEAK_CRYPTOGRAPHY
HMAC_CVES = "GHSA-c27r-x354-4m68, CVE-2025-48994, CVE-2021-21239, CVE-2018-7644"
EXCLUSION_CVES = "CVE-2012-5351, CVE-2012-5352, CVE-2012-5353, CVE-2025-59718, CVE-2025-59719, CVE-2026-28323"

SIGNATURE_VALUE = "saml:Assertion/ds:Signature/ds:SignatureValue"


def signature_of(launch: Launch) -> etree._Element:
    """The first signature in the message."""
    return next(launch.root.iter(qname("ds:Signature")))


@case("A01", deny="signature_missing", both=True, bug=BYPASS, origin=EXCLUSION_CVES)
def a01_no_signature() -> Launch:
    """Nothing is signed, and the assertion names the victim."""
    return Launch(upn=n.ADMIN, name_id=n.ADMIN)


@case("A01", deny="signature_missing", bug=BYPASS, origin=EXCLUSION_CVES)
def a01_signature_removed() -> Launch:
    """A genuine message whose signature was taken out, otherwise unchanged."""
    return Launch().sign().drop("saml:Assertion/ds:Signature")


@case("A01", deny="signature_missing", policy={"require_signed": "assertion"}, bug=BYPASS)
def a01_response_only_where_assertion_is_required() -> Launch:
    """Only the Response is signed, and the policy asks for a signed assertion."""
    return Launch().sign_response()


@case("A01", deny="signature_missing", policy={"require_signed": "response"}, bug=BYPASS)
def a01_assertion_only_where_response_is_required() -> Launch:
    """Only the assertion is signed, and the policy asks for a signed Response."""
    return Launch().sign()


@case(
    "A01",
    deny="signature_missing",
    policy={"require_signed": "both"},
    bug=BYPASS,
    each={"assertion": Launch.sign, "response": Launch.sign_response},
)
def a01_one_signature_where_both_are_required(act: Callable[[Launch], Launch]) -> Launch:
    """Only one element is signed, and the policy asks for both."""
    return act(Launch())


@case("A02", deny="signature_structure", bug=BYPASS, each={"assertion": False, "response": True})
def a02_empty_signature_element(response: bool) -> Launch:
    """A ds:Signature without content."""
    launch = Launch(upn=n.ADMIN)
    return launch.add("." if response else "saml:Assertion", element("ds:Signature"), 1)


@case(
    "A02",
    deny="signature_structure",
    bug=BYPASS,
    each={
        "signed_info": "ds:SignedInfo",
        "signature_value": "ds:SignatureValue",
        "reference": "ds:SignedInfo/ds:Reference",
        "canonicalization_method": "ds:SignedInfo/ds:CanonicalizationMethod",
        "signature_method": "ds:SignedInfo/ds:SignatureMethod",
        "digest_method": "ds:SignedInfo/ds:Reference/ds:DigestMethod",
        "digest_value": "ds:SignedInfo/ds:Reference/ds:DigestValue",
    },
)
def a02_part_of_the_signature_missing(path: str) -> Launch:
    """One part of a genuine signature was taken out:"""
    return Launch().sign().drop(f"saml:Assertion/ds:Signature/{path}")


@case("A03", deny=("signature_invalid", "signature_structure"), bug=BYPASS, each={"none": None, "blank": "  \n"})
def a03_empty_signature_value(text: str | None) -> Launch:
    """SignedInfo stands, SignatureValue has no octets."""
    return Launch().sign().text(SIGNATURE_VALUE, text)


@case("A04", deny="signature_invalid", bug=BYPASS)
def a04_random_signature_value() -> Launch:
    """SignatureValue has the right length and other octets."""
    return Launch().sign().text(SIGNATURE_VALUE, encoded(b"\x5a" * 256))


@case("A04", deny="signature_invalid", bug=BYPASS, each={"zeros": bytes(256), "one": bytes(255) + b"\1", "byte": b"\0"})
def a04_trivial_signature_value(value: bytes) -> Launch:
    """SignatureValue is a number that a sloppy RSA implementation takes for valid."""
    return Launch().sign().text(SIGNATURE_VALUE, encoded(value))


@case("A04", deny="signature_invalid", bug=BYPASS, each={"short": -1, "long": 1})
def a04_signature_value_of_wrong_length(change: int) -> Launch:
    """SignatureValue is one octet too short or too long."""

    def act(value: bytes) -> bytes:
        return value[:-1] if change < 0 else value + b"\0"

    return change_signature_value(Launch().sign(), act)


@case("A04", deny="signature_invalid", bug=BYPASS, each={"first": 0, "middle": 128, "last": 255})
def a04_flipped_signature_bit(at: int) -> Launch:
    """One bit of the genuine SignatureValue is flipped."""

    def act(value: bytes) -> bytes:
        return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]

    return change_signature_value(Launch().sign(), act)


def change_signature_value(launch: Launch, act: Callable[[bytes], bytes]) -> Launch:
    """Change the octets of the first SignatureValue."""
    holder = next(launch.root.iter(qname("ds:SignatureValue")))
    holder.text = encoded(act(base64.b64decode(holder.text or "")))
    return launch


@case(
    "A05",
    deny="digest_mismatch",
    both=True,
    bug=BYPASS,
    each={
        "upn": lambda launch: claim_upn(launch.assertion, n.ADMIN),
        "upn_attribute": lambda launch: launch.text(
            "saml:Assertion/saml:AttributeStatement/saml:Attribute/saml:AttributeValue", n.ADMIN
        ),
        "issue_instant": lambda launch: launch.set("saml:Assertion", IssueInstant=instant(20)),
        "added_attribute": lambda launch: launch.set("saml:Assertion/saml:Subject/saml:NameID", NameQualifier="x"),
        "blank": lambda launch: launch.text("saml:Assertion/saml:Subject", " "),
    },
)
def a05_content_changed_after_signing(act: Callable[[Launch], object]) -> Launch:
    """The signed assertion was changed after signing:"""
    return Launch().sign().change(act)


@case("A05", deny="digest_mismatch", both=True, bug=BYPASS)
def a05_response_content_changed_after_signing() -> Launch:
    """Only the Response is signed, and the UPN in the assertion was changed afterwards."""
    return Launch().sign_response().change(lambda launch: claim_upn(launch.assertion, n.ADMIN))


@case("A05", deny="digest_mismatch", bug=BYPASS)
def a05_status_changed_after_signing_the_response() -> Launch:
    """The signed Response reported a failure and was changed to success."""
    launch = Launch().set("samlp:Status/samlp:StatusCode", Value=n.RESPONDER).sign_response()
    return launch.set("samlp:Status/samlp:StatusCode", Value=n.SUCCESS)


@case("A06", deny="signature_invalid", both=True, bug=BYPASS)
def a06_content_and_digest_changed() -> Launch:
    """The UPN was changed and DigestValue computed again; SignatureValue is the genuine one."""
    genuine = Launch().sign().find(SIGNATURE_VALUE).text
    launch = Launch(upn=n.ADMIN, name_id=n.ADMIN).sign(key="attacker")
    return launch.text(SIGNATURE_VALUE, genuine)


@case(
    "A07",
    deny="signature_invalid",
    both=True,
    bug=CONFUSION,
    each={
        "own_certificate": ("attacker",),
        "certificate_with_the_subject_and_serial_of_the_idp": ("attacker_lookalike",),
        "certificate_of_the_idp": ("idp",),
        "no_key_info": None,
    },
)
def a07_attacker_key(key_info_of: tuple[str, ...] | None) -> Launch:
    """Signed by the attacker's own key; KeyInfo holds:"""
    return Launch(upn=n.ADMIN, name_id=n.ADMIN).sign(key="attacker", key_info=key_info_of)


@case("A07", deny="signature_invalid", both=True, bug=CONFUSION)
def a07_response_signed_by_attacker() -> Launch:
    """Only the Response is signed, by the attacker's key."""
    launch = Launch(upn=n.ADMIN, name_id=n.ADMIN)
    return launch.sign_response(key="attacker", key_info=("attacker",))


@case("A07", deny="signature_invalid", both=True, bug=CONFUSION)
def a07_attacker_elliptic_key() -> Launch:
    """Signed by the attacker's elliptic-curve key, named in KeyInfo."""
    return Launch(upn=n.ADMIN).sign(key="attacker_ec", method=n.ECDSA_SHA256, key_info=("attacker_ec",))


@case("A08", deny="signature_invalid", both=True, bug=CONFUSION, origin="CVE-2021-21239 (pysaml2)")
def a08_attacker_key_as_key_value() -> Launch:
    """Signed by the attacker's key, which KeyInfo holds as a bare KeyValue."""
    return Launch(upn=n.ADMIN, name_id=n.ADMIN).sign(key="attacker", key_info=key_value("attacker"))


@case("A09", deny="signature_invalid", both=True, bug=CONFUSION)
def a09_attacker_key_under_the_name_of_the_idp_key() -> Launch:
    """Signed by the attacker's key; KeyInfo holds only a KeyName, that of the IdP's key."""
    return Launch(upn=n.ADMIN).sign(key="attacker", key_info=key_name(keys.fingerprint("idp")))


@case("A09", deny="signature_invalid", both=True, bug=CONFUSION)
def a09_certificate_of_the_idp_and_key_value_of_the_attacker() -> Launch:
    """KeyInfo holds the IdP's certificate and the attacker's KeyValue; the attacker's key signed."""
    info = key_value("attacker")
    info.insert(0, key_info("idp")[0])
    return Launch(upn=n.ADMIN).sign(key="attacker", key_info=info)


@case(
    "A10",
    deny="signature_invalid",
    both=True,
    bug=CONFUSION,
    each={"idp_first": ("idp", "attacker"), "attacker_first": ("attacker", "idp")},
)
def a10_two_certificates(order: tuple[str, ...]) -> Launch:
    """Signed by the attacker's key; KeyInfo lists the certificates of the IdP and of the attacker:"""
    return Launch(upn=n.ADMIN, name_id=n.ADMIN).sign(key="attacker", key_info=order)


@case(
    "A11a",
    deny="signature_algorithm",
    both=True,
    bug=CONFUSION,
    origin=HMAC_CVES,
    each={"empty": b"", "attacker": b"secret"},
)
def a11a_hmac_with_any_key(secret: bytes) -> Launch:
    """SignatureMethod HMAC-SHA256 with a key of the attacker's choice:"""
    return Launch(upn=n.ADMIN).sign(method=n.HMAC_SHA256, hmac_key=secret)


@case("A11b", deny="signature_algorithm", both=True, bug=CONFUSION, origin=HMAC_CVES)
def a11b_hmac_with_the_certificate() -> Launch:
    """SignatureMethod HMAC-SHA256, keyed with the DER of the IdP's certificate."""
    return Launch(upn=n.ADMIN).sign(method=n.HMAC_SHA256, hmac_key=keys.certificate("idp"))


@case("A11c", deny="signature_algorithm", both=True, bug=CONFUSION, origin=HMAC_CVES)
def a11c_hmac_with_the_public_key() -> Launch:
    """SignatureMethod HMAC-SHA256, keyed with the PEM of the IdP's public key."""
    return Launch(upn=n.ADMIN).sign(method=n.HMAC_SHA256, hmac_key=keys.public_pem("idp"))


@case("A11d", deny="signature_algorithm", both=True, bug=CONFUSION, origin=HMAC_CVES)
def a11d_hmac_sha1() -> Launch:
    """SignatureMethod HMAC-SHA1, keyed with the IdP's certificate."""
    return Launch(upn=n.ADMIN).sign(method=n.HMAC_SHA1, hmac_key=keys.certificate("idp"))


@case(
    "A12",
    deny=("signature_algorithm", "signature_structure"),
    both=True,
    bug=CONFUSION,
    origin="CVE-2009-0217",
    each={"0": 0, "8": 1},
)
def a12_truncated_hmac(octets: int) -> Launch:
    """HMAC with an HMACOutputLength so short that it can be guessed; bits:"""

    def shorten(info: etree._Element) -> None:
        below(info[1], "ds:HMACOutputLength", str(octets * 8))

    launch = Launch(upn=n.ADMIN).sign(method=n.HMAC_SHA256, hmac_key=b"x", signed_info=shorten)
    return change_signature_value(launch, lambda value: value[:octets])


@case("A12", deny=("signature_algorithm", "signature_structure"), bug=CONFUSION, origin="CVE-2009-0217")
def a12_output_length_on_rsa() -> Launch:
    """An RSA signature, genuinely made, with an HMACOutputLength in SignatureMethod."""
    return Launch().sign(signed_info=lambda info: below(info[1], "ds:HMACOutputLength", "0"))


@case(
    "A13",
    deny="signature_algorithm",
    bug=WEAK,
    each={
        "empty": given("", label="A13a"),
        "none": given("none", label="A13b"),
        "rsa_md5": given(n.RSA_MD5, label="A13c"),
        "unknown": given("urn:example:unknown", label="A13d"),
        "digest_uri": given(n.SHA256, label="A13e"),
        "dsa_sha1": given(n.DSA_SHA1, label="A13f"),
        "ripemd160": given(n.DSIG_MORE + "rsa-ripemd160", label="A13g"),
        "other_case": given(n.RSA_SHA256.upper(), label="A13h"),
        "trailing_blank": given(n.RSA_SHA256 + " ", label="A13i"),
        "rsa_sha224": given(n.DSIG_MORE + "rsa-sha224", label="A13j"),
        "pss_with_parameters": given(n.DSIG_MORE_2007 + "rsa-pss", label="A13k"),
        "http_url": given("http://127.0.0.1:9/algorithm", label="A13l"),
        "ecdsa_sha1": given(n.ECDSA_SHA1, label="A13m"),
    },
)
def a13_signature_method(uri: str) -> Launch:
    """Signed with SignatureMethod:"""
    return Launch().sign(method=uri, made_with=n.RSA_SHA256)


@case("A13", deny="signature_algorithm", bug=WEAK)
def a13_signature_method_without_algorithm() -> Launch:
    """SignatureMethod has no Algorithm attribute."""
    return Launch().sign(signed_info=lambda info: info[1].attrib.pop("Algorithm"))


@case(
    "A14",
    deny="signature_algorithm",
    bug=WEAK,
    each={
        "rsa_sha1": given(How(method=n.RSA_SHA1)),
        "rsa_sha1_with_sha1_digest": given(How(method=n.RSA_SHA1, digest_method=n.SHA1)),
        "ecdsa_sha1": given(How(key="p256", method=n.ECDSA_SHA1, key_info=None), metadata="idp-p256"),
    },
)
def a14_sha1_signature(how: How) -> Launch:
    """A genuine signature over SHA-1, which is accepted only where `allow_sha1` is set."""
    return Launch().sign(how)


@case("A15", deny="digest_algorithm", bug=WEAK)
def a15_sha1_digest() -> Launch:
    """rsa-sha256, and the digest of the content is SHA-1."""
    return Launch().sign(digest_method=n.SHA1)


@case(
    "A16",
    deny="digest_algorithm",
    bug=WEAK,
    each={
        "md5": n.MD5,
        "empty": "",
        "unknown": "urn:example:digest",
        "sha224": n.DSIG_MORE + "sha224",
        "signature_uri": n.RSA_SHA256,
        "ripemd160": n.XENC + "ripemd160",
    },
)
def a16_digest_method(uri: str) -> Launch:
    """Genuinely signed with DigestMethod:"""
    return Launch().sign(digest_method=uri)


@case("A17", deny="certificate_weak_key", metadata="idp-p224", bug=WEAK)
def a17_small_elliptic_curve() -> Launch:
    """The IdP's certificate has a key on secp224r1."""
    return Launch().sign(key="p224", method=n.ECDSA_SHA256, key_info=None)


@case("A18", deny="certificate_weak_key", metadata="idp-weak", bug=WEAK, each={"key_info": ("weak",), "none": None})
def a18_small_rsa_key(info: tuple[str, ...] | None) -> Launch:
    """The IdP's certificate has an RSA key of 1024 bits."""
    return Launch().sign(key="weak", key_info=info)


@case("A18", deny=("certificate_weak_key", "signature_invalid"), metadata="idp-weak-strong", bug=WEAK)
def a18_small_rsa_key_beside_a_strong_one() -> Launch:
    """The IdP has a strong and a 1024-bit certificate; the weak one signed."""
    return Launch().sign(key="weak", key_info=("weak",))


@case("A18", allow=True, metadata="idp-weak-strong")
def a18_strong_key_beside_a_small_one() -> Launch:
    """The IdP has a strong and a 1024-bit certificate; the strong one signed."""
    return Launch().sign()


@case("A19", deny="signature_invalid", both=True, bug=CONFUSION, origin="CVE-2026-49284 family")
def a19_other_tenant_of_the_same_vendor() -> Launch:
    """Correctly signed by another customer of the same vendor, with our Issuer."""
    return Launch(upn=n.ADMIN, name_id=n.ADMIN).sign(key="tenant", key_info=("tenant",))


@case(
    "A20",
    deny="certificate_expired",
    policy={"enforce_certificate_dates": True},
    bug=WEAK,
    each={
        "expired": given(metadata="idp-expired"),
        "not_yet_valid": given(metadata="idp-future"),
    },
)
def a20_certificate_dates_enforced(_: object) -> Launch:
    """The signing certificate is outside its dates and the policy enforces them."""
    return Launch().sign(key_info=None)


@case(
    "A20",
    allow=True,
    origin="IIP-MD12",
    each={"expired": given(metadata="idp-expired"), "not_yet_valid": given(metadata="idp-future")},
)
def a20_certificate_dates_not_enforced(_: object) -> Launch:
    """The signing certificate is outside its dates, which is an alarm and no refusal by default."""
    return Launch().sign(key_info=None)


@case("A20", allow=True, policy={"enforce_certificate_dates": True})
def a20_certificate_inside_its_dates() -> Launch:
    """The policy enforces certificate dates and they hold."""
    return Launch().sign()


@case("A21", deny="signature_invalid", metadata="idp-p256", bug=WEAK, origin="RFC 4051 section 2.3.6")
def a21_ecdsa_in_der() -> Launch:
    """An ECDSA signature in DER instead of r and s."""
    return Launch().sign(key="p256", method=n.ECDSA_SHA256, ecdsa_der=True, key_info=None)


@case("A22", deny="signature_invalid", bug=CONFUSION, origin="xmlseclibs 4 changelog")
def a22_ecdsa_named_for_an_rsa_key() -> Launch:
    """SignedInfo names ecdsa-sha256; the key is RSA."""
    return Launch().sign(method=n.ECDSA_SHA256, made_with=n.RSA_SHA256)


@case("A22", deny="signature_invalid", metadata="idp-p256", bug=CONFUSION, origin="xmlseclibs 4 changelog")
def a22_rsa_named_for_an_elliptic_key() -> Launch:
    """SignedInfo names rsa-sha256; the key is elliptic."""
    return Launch().sign(key="p256", method=n.RSA_SHA256, made_with=n.ECDSA_SHA256, key_info=None)


@case("A22", deny="signature_invalid", bug=CONFUSION)
def a22_pss_named_for_pkcs1() -> Launch:
    """SignedInfo names RSA-PSS; the signature is PKCS #1 v1.5."""
    return Launch().sign(method=n.PSS_SHA256, made_with=n.RSA_SHA256)


@case("A22", deny="signature_invalid", bug=CONFUSION)
def a22_pkcs1_named_for_pss() -> Launch:
    """SignedInfo names rsa-sha256; the signature is RSA-PSS."""
    return Launch().sign(method=n.RSA_SHA256, made_with=n.PSS_SHA256)


def retrieval() -> etree._Element:
    """A KeyInfo that wants to be followed."""
    info = element("ds:KeyInfo")
    below(info, "ds:RetrievalMethod", URI="http://127.0.0.1:9/k", Type=n.DS + "rawX509Certificate")
    return info


@case("A23", allow=True, origin="CVE-2023-36661, CVE-2021-40690")
def a23_retrieval_method_is_ignored() -> Launch:
    """KeyInfo points to an address. It is never followed; the genuine signature holds by the known key."""
    return Launch().sign(key_info=retrieval())


@case(
    "A23",
    deny="signature_invalid",
    both=True,
    bug=BugType.SERVER_SIDE_REQUEST,
    origin="CVE-2023-36661, CVE-2021-40690",
)
def a23_retrieval_method_of_an_attacker() -> Launch:
    """KeyInfo points to an address where the attacker's certificate would be; the attacker's key signed."""
    return Launch(upn=n.ADMIN).sign(key="attacker", key_info=retrieval())


@case(
    "A24",
    deny="signature_structure",
    bug=BugType.PARSER_DIFFERENTIAL,
    each={
        "exclamation_mark": lambda text: text[:40] + "!*" + text[40:],
        "padding_inside": lambda text: text[:40] + "=" + text[40:],
        "after_padding": lambda text: text + "AAAA",
        "url_safe": lambda text: text.replace("+", "-").replace("/", "_") + "-_",
        "no_padding": lambda text: text.rstrip("="),
        "full_width_letter": lambda text: text[:40] + "\uff21" + text[40:],
        "no_break_space": lambda text: text[:40] + "\u00a0" + text[40:],
        "vertical_tab_alternative": lambda text: text[:40] + "\u2028" + text[40:],
    },
)
def a24_junk_in_signature_value(act: Callable[[str], str]) -> Launch:
    """The genuine SignatureValue holds characters that a lenient base64 decoder skips:"""
    launch = Launch().sign()
    return launch.text(SIGNATURE_VALUE, act(launch.find(SIGNATURE_VALUE).text or ""))


@case("A24", deny="signature_structure", bug=BugType.PARSER_DIFFERENTIAL)
def a24_junk_in_digest_value() -> Launch:
    """DigestValue, genuinely signed, holds characters that a lenient base64 decoder skips."""

    def junk(info: etree._Element) -> None:
        value = next(info.iter(qname("ds:DigestValue")))
        value.text = "!*" + (value.text or "")

    return Launch().sign(signed_info=junk)


@case("A24", deny="signature_structure", bug=BugType.PARSER_DIFFERENTIAL)
def a24_element_in_signature_value() -> Launch:
    """The genuine SignatureValue is followed by a child element."""
    launch = Launch().sign()
    below(launch.find(SIGNATURE_VALUE), "ds:Junk")
    return launch


@case(
    "A25",
    deny="certificate_revoked",
    bug=CONFUSION,
    setting=Setting(certificates={keys.fingerprint("idp"): ("revoked", "2025-12-31T00:00:00Z")}),
    each={
        "only_certificate": given(metadata="idp"),
        "beside_a_trusted_one": given(metadata="idp-old-new"),
    },
)
def a25_revoked_certificate(_: object) -> Launch:
    """Signed by a certificate that an administrator revoked."""
    return Launch().sign()


@case(
    "A25",
    deny="certificate_revoked",
    bug=CONFUSION,
    metadata="idp-renewed",
    setting=Setting(certificates={keys.fingerprint("idp_renewed"): ("revoked", "2026-01-01T12:00:20Z")}),
)
def a25_revoked_after_issue() -> Launch:
    """The certificate was revoked after the evidence was issued: revoking means at once."""
    return Launch().sign()


@case(
    "A25",
    deny="certificate_retired",
    bug=CONFUSION,
    metadata="idp-old-new",
    setting=Setting(certificates={keys.fingerprint("idp"): ("retired", "2025-12-01T00:00:00Z")}),
)
def a25_retired_certificate() -> Launch:
    """Signed by a certificate that was withdrawn long ago."""
    return Launch().sign()


@case(
    "A25",
    metadata="idp-old-new",
    bug=CONFUSION,
    each={
        "issued_after": given(
            deny="certificate_retired",
            setting=Setting(certificates={keys.fingerprint("idp"): ("retiring", "2026-01-01T11:59:59Z")}),
        ),
        "issued_before": given(
            allow=True,
            setting=Setting(certificates={keys.fingerprint("idp"): ("retiring", "2026-01-01T12:00:01Z")}),
        ),
    },
)
def a25_retiring_certificate(_: object) -> Launch:
    """The certificate has left the metadata and is good only for what was issued before."""
    return Launch().sign()


@case(
    "A25",
    metadata="idp-old-new",
    bug=CONFUSION,
    at="2026-01-01T12:30:00Z",
    setting=Setting(certificates={keys.fingerprint("idp"): ("retiring", "2026-01-01T12:00:01Z")}),
    each={
        "at_a_sign_in": given(phase="prepare", deny="certificate_retired"),
        "at_a_sign_in_under_way": given(phase="prepare", at="2026-01-01T12:05:01Z", allow=True),
        "at_a_sign_in_just_too_late": given(phase="prepare", at="2026-01-01T12:05:02Z", deny="certificate_retired"),
        "at_a_sign_in_as_before": given(
            phase="prepare", allow=True, seen=Seen(content="same", upn=n.ALICE, first_seen="2026-01-01T12:00:00Z")
        ),
        "at_a_launch": given(phase="assert", allow=True),
        "in_no_known_phase": given(allow=True),
    },
)
def a25_retiring_certificate_first_seen_later(_: object) -> Launch:
    """Issued before its certificate left the metadata, as it says itself, and presented half an hour after."""
    return Launch().sign()


@case(
    "A25",
    allow=True,
    metadata="idp-old-new",
    setting=Setting(certificates={keys.fingerprint("idp_next"): ("announced", "2026-01-01T00:00:00Z")}),
)
def a25_announced_certificate() -> Launch:
    """Signed by a certificate that was announced ahead of its first use."""
    return Launch().sign(key="idp_next", key_info=("idp_next",))


@case("A26", deny="signature_invalid", bug=WEAK, origin="CVE-2018-7644 class")
def a26_signature_of_another_hash() -> Launch:
    """SignedInfo names rsa-sha512; the signature was made with SHA-256."""
    return Launch().sign(method=n.RSA_SHA512, made_with=n.RSA_SHA256)


@case(
    "A27",
    deny="no_trusted_certificate",
    bug=BugType.FAIL_OPEN,
    origin="CVE-2026-28323, CVE-2026-16443",
    each={
        "none": given(metadata="idp-none"),
        "only_for_encryption": given(metadata="idp-only-encryption"),
    },
)
def a27_empty_trust(_: object) -> Launch:
    """Genuine evidence, and no certificate is trusted for the IdP."""
    return Launch().sign()


@case("A27", deny="no_trusted_certificate", metadata="idp-none", bug=BugType.FAIL_OPEN)
def a27_empty_trust_and_unsigned() -> Launch:
    """Nothing is signed and no certificate is trusted for the IdP."""
    return Launch(upn=n.ADMIN)


@case("A28", deny="signature_invalid", metadata="idp-encryption", bug=CONFUSION, origin="CVE-2026-16443 (Keycloak)")
def a28_encryption_key() -> Launch:
    """Signed by the key that the metadata lists for encryption only."""
    return Launch().sign(key="idp_encryption", key_info=("idp_encryption",))


@case("A28", allow=True, metadata="idp-any-use", origin="IIP-MD11; CVE-2026-16443 (Keycloak)")
def a28_key_without_use() -> Launch:
    """Signed by a key whose KeyDescriptor names no use: it serves both."""
    return Launch().sign()


@case("A28", deny="signature_invalid", both=True, metadata="idp-sp-role", bug=CONFUSION)
def a28_key_of_another_role() -> Launch:
    """Signed by a key that the metadata lists only under SPSSODescriptor."""
    return Launch(upn=n.ADMIN).sign(key="attacker", key_info=("attacker",))


@case("A29", deny="signature_invalid", both=True, metadata="idp-ca", bug=CONFUSION)
def a29_leaf_of_a_pinned_authority() -> Launch:
    """The metadata lists a certification authority; a leaf that it issued signed."""
    return Launch(upn=n.ADMIN).sign(key="leaf", key_info=("leaf", "ca"))


@case("A29", deny="signature_invalid", both=True, metadata="two-idps", bug=CONFUSION)
def a29_key_of_another_idp_of_the_aggregate() -> Launch:
    """Signed by another IdP of the same metadata file, in the first one's name."""
    return Launch(upn=n.ADMIN).sign(key="idp_b", key_info=("idp_b",))


@case("A30", deny="digest_mismatch", bug=BYPASS)
def a30_digest_of_other_content() -> Launch:
    """Genuinely signed, and the digest is that of other content."""
    return Launch().sign(digested=b"other")


@case(
    "A30",
    deny="signature_structure",
    bug=BYPASS,
    each={"id": "Id", "unknown": "Evil", "xml_space": f"{{{n.XML}}}space"},
)
def a30_attribute_on_digest_method(name: str) -> Launch:
    """DigestMethod carries a further attribute, genuinely signed:"""

    def act(info: etree._Element) -> None:
        next(info.iter(qname("ds:DigestMethod"))).set(name, "preserve")

    return Launch().sign(signed_info=act)


@case("A30", deny="digest_algorithm", bug=BYPASS)
def a30_parameter_in_digest_method() -> Launch:
    """DigestMethod carries a child element, genuinely signed."""
    return Launch().sign(signed_info=lambda info: below(next(info.iter(qname("ds:DigestMethod"))), "ds:Junk"))


@case("A31", deny="signature_invalid", bug=BYPASS)
def a31_signature_of_another_message() -> Launch:
    """Digest and content belong together; SignatureValue was taken from another genuine message."""
    other = Launch(assertion_id="_other").sign().find(SIGNATURE_VALUE).text
    return Launch().sign().text(SIGNATURE_VALUE, other)


@case("A31", deny="signature_invalid", bug=BYPASS)
def a31_signed_info_changed_in_blanks() -> Launch:
    """A blank was added in SignedInfo after signing."""
    launch = Launch().sign()
    launch.find("saml:Assertion/ds:Signature/ds:SignedInfo").text = " "
    return launch


@case("A31", deny="signature_invalid", bug=BYPASS)
def a31_signature_method_replaced() -> Launch:
    """SignatureMethod was changed from rsa-sha512 to rsa-sha256 after signing."""
    launch = Launch().sign(method=n.RSA_SHA512)
    return launch.set("saml:Assertion/ds:Signature/ds:SignedInfo/ds:SignatureMethod", Algorithm=n.RSA_SHA256)


@case("A32", deny="signature_structure", bug=BugType.WRAPPING)
def a32_parts_in_another_order() -> Launch:
    """KeyInfo stands before SignatureValue."""
    launch = Launch().sign()
    signature = signature_of(launch)
    signature.insert(1, signature[2])
    return launch


@case("A32", deny="signature_structure", bug=BugType.WRAPPING, each={"ds": "ds:SignedInfo", "saml": "saml:Advice"})
def a32_further_part(name: str) -> Launch:
    """The signature holds a further element after KeyInfo:"""
    launch = Launch().sign()
    below(signature_of(launch), name)
    return launch


@case("A32", deny="signature_structure", bug=BugType.WRAPPING)
def a32_two_signed_infos() -> Launch:
    """An attacker's SignedInfo stands before the genuine one."""
    launch = Launch().sign()
    other = signature_of(Launch(upn=n.ADMIN).sign(key="attacker"))[0]
    signature_of(launch).insert(0, other)
    claim_upn(launch.assertion, n.ADMIN)
    return launch


@case("A32", deny="signature_structure", bug=BugType.WRAPPING)
def a32_text_in_signed_info() -> Launch:
    """Text stands between the parts of SignedInfo, genuinely signed."""

    def act(info: etree._Element) -> None:
        info[0].tail = "text"

    return Launch().sign(signed_info=act)


@case(
    "A33",
    deny="signature_placement",
    bug=BYPASS,
    each={"second": 2, "first": 1},
)
def a33_second_signature_by_attacker(index: int) -> Launch:
    """The assertion holds the genuine signature and a second one by the attacker's key, at index:"""
    launch = Launch().sign()
    sign(launch.assertion, How(key="attacker", key_info=("attacker",), index=index))
    return launch


@case("A33", deny="signature_invalid", bug=BYPASS)
def a33_signature_with_the_digest_transform_order_of_an_attacker() -> Launch:
    """The genuine SignatureValue under a SignedInfo whose transforms name a PrefixList that was not signed."""
    launch = Launch().sign()
    transform = next(found for found in launch.root.iter(qname("ds:Transform")) if found.get("Algorithm") == n.EXC_C14N)
    extra = below(transform, "ec:InclusiveNamespaces")
    extra.set("PrefixList", "samlp")
    return launch


@case("A34", deny="signature_missing", both=True, bug=BYPASS)
def a34_signature_in_another_namespace() -> Launch:
    """The only signature is an element named Signature in a foreign namespace."""
    launch = Launch(upn=n.ADMIN)
    made = etree.Element("{urn:example:evil}Signature", nsmap={"evil": "urn:example:evil"})
    launch.assertion.insert(1, made)
    return launch


@case("A34", deny=("signature_missing", "signature_placement"), both=True, bug=BYPASS)
def a34_signature_only_in_key_info_of_confirmation() -> Launch:
    """The only ds: content is a KeyInfo in SubjectConfirmationData."""
    launch = Launch(upn=n.ADMIN)
    launch.find("saml:Assertion/saml:Subject/saml:SubjectConfirmation/saml:SubjectConfirmationData").append(
        key_info("idp")
    )
    return launch


@case("A35", deny="issuer_unknown", bug=CONFUSION, each={"unsigned": None, "signed": "attacker"})
def a35_unknown_issuer(key: str | None) -> Launch:
    """Issuer names an IdP that nobody registered, as an attacker's own IdP would."""
    launch = Launch(issuer="https://attacker.example/saml", response_issuer="https://attacker.example/saml")
    return launch if key is None else launch.sign(key=key, key_info=(key,))


@case("A36", deny="transform_forbidden", bug=BYPASS)
def a36_whole_signature_left_out_by_prefix() -> Launch:
    """A transform that is neither enveloped-signature nor exclusive canonicalization, alone."""
    return Launch().sign(transforms=(Transform(uri=n.DS + "base64"),))
