"""Named reasons for refusing XML, signatures and metadata, and the values that carry them.

Codes are interface (`docs/reasons.md`): never reused, never renamed. A code's *rank* orders findings when
several hold at once, lowest first: signature, provider trust, subject, audience, time, ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """A stable code with what it means, what an operator should do, and its rank (lower is shown first)."""

    rank: int
    meaning: str
    advice: str

    def __new__(cls, code: str, rank: int, meaning: str, advice: str) -> Self:
        """Make a member that *is* its code and carries the rest."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.rank = rank
        member.meaning = meaning
        member.advice = advice
        return member


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One named violation.

    `expected` and `presented` are for operators only and never leave on the plug-in plane (promise 17).
    `where` is a path such as `Assertion.Conditions.AudienceRestriction[0]`.
    """

    reason: Reason
    expected: str = ""
    presented: str = ""
    where: str = ""


class Refused(Exception):  # noqa: N818 - an outcome of parsing hostile input, not an error of the program
    """The only exception that leaves a parser or verifier; carries the one finding that ended it.

    `entity_id` is the registered IdP that the refused thing names, where that is known; unverified.
    """

    entity_id: str | None = None

    def __init__(self, reason: Reason, *, expected: str = "", presented: str = "", where: str = "") -> None:
        """Wrap the finding; values are kept as given and cut when shown."""
        super().__init__(str(reason))
        self.finding = Finding(reason=reason, expected=expected, presented=presented, where=where)


class TrustReason(Reason):
    """Refusals of the XML, signature and metadata layers."""

    XML_ENCODING = (
        "xml_encoding",
        110,
        "The XML is not UTF-8 encoded XML 1.0, or holds a character that XML 1.0 forbids.",
        "Capture the response as it was issued. FAS hands over UTF-8; anything else was altered or is an attack.",
    )
    XML_DTD = (
        "xml_dtd",
        111,
        "The XML holds a document type declaration or entity declaration.",
        "SAML never needs a DTD. Treat the sender as hostile and find out where the document came from.",
    )
    XML_MALFORMED = (
        "xml_malformed",
        112,
        "The bytes are not one well-formed XML document.",
        "Check whether the evidence was cut short or altered on its way; compare it with what the IdP sent.",
    )
    XML_COMMENT_OR_PI = (
        "xml_comment_or_pi",
        113,
        "The XML holds a comment or a processing instruction.",
        "Known attacks split names with comments. If your IdP really sends them, turn that off at the IdP.",
    )
    XML_NAMESPACE = (
        "xml_namespace",
        114,
        "A namespace name is relative, so that canonicalization of the document is not defined.",
        "No product sends this. Treat the sender as hostile.",
    )
    XML_LIMITS = (
        "xml_limits",
        115,
        "The XML is larger in some dimension (elements, depth, attributes, text) than any genuine document.",
        "If it is genuine, reduce the claims the IdP sends (most often group memberships).",
    )
    SIGNATURE_PLACEMENT = (
        "signature_placement",
        140,
        "An XML signature, or a part of one, stands where SAML does not put it.",
        "This is the mark of signature wrapping. Treat the sender as hostile.",
    )
    SIGNATURE_STRUCTURE = (
        "signature_structure",
        141,
        "An XML signature does not have exactly the parts that SAML's signature profile asks for.",
        "Compare with a response taken directly from the IdP; a genuine IdP signs in the plain form.",
    )
    C14N_FORBIDDEN = (
        "c14n_forbidden",
        142,
        "The signature uses a canonicalization other than exclusive XML canonicalization.",
        "Set the IdP to exclusive canonicalization (the default of every known IdP).",
    )
    SIGNATURE_ALGORITHM = (
        "signature_algorithm",
        143,
        "The signature algorithm is not on the list of accepted algorithms.",
        "Set the IdP to sign with RSA-SHA256 or stronger. `allow_sha1` exists for IdPs that cannot.",
    )
    REFERENCE_URI = (
        "reference_uri",
        144,
        "The signature's reference does not name the element that the signature stands in.",
        "This is the mark of signature wrapping, or of a signer that does not follow SAML core 5.4.2.",
    )
    TRANSFORM_FORBIDDEN = (
        "transform_forbidden",
        145,
        "The signature's transforms are not exactly enveloped-signature, then exclusive canonicalization.",
        "A genuine IdP uses just these two (SAML core 5.4.4). Treat the sender as hostile.",
    )
    DIGEST_ALGORITHM = (
        "digest_algorithm",
        146,
        "The digest algorithm is not on the list of accepted algorithms.",
        "Set the IdP to SHA-256 or stronger. `allow_sha1` exists for IdPs that cannot.",
    )
    NO_TRUSTED_CERTIFICATE = (
        "no_trusted_certificate",
        202,
        "The IdP is known, but no certificate is trusted for it at present.",
        "Import the IdP's current metadata, or approve the certificate that waits for approval.",
    )
    CERTIFICATE_WEAK_KEY = (
        "certificate_weak_key",
        203,
        "The certificate's key is too weak (RSA below 2048 bits, elliptic curve below 256 bits, or another kind).",
        "Give the IdP a token-signing certificate with a key of accepted strength and import its metadata.",
    )
    CERTIFICATE_EXPIRED = (
        "certificate_expired",
        204,
        "The signing certificate is outside its validity dates and the policy asks for valid dates.",
        "Renew the IdP's token-signing certificate, or set `enforce_certificate_dates = false`.",
    )
    CERTIFICATE_REVOKED = (
        "certificate_revoked",
        205,
        "The evidence was signed by a key that an administrator revoked.",
        "The user must sign in again. If the revocation was an error, reinstate the certificate.",
    )
    CERTIFICATE_RETIRED = (
        "certificate_retired",
        206,
        "The evidence was signed by a certificate that the IdP has withdrawn, after it withdrew it.",
        "The user must sign in again. If the IdP still signs with it, refresh its metadata.",
    )
    SIGNATURE_MISSING = (
        "signature_missing",
        100,
        "Nothing that the policy accepts is signed.",
        "Make the IdP sign the assertion or the response, as `require_signed` of its policy asks.",
    )
    SIGNATURE_INVALID = (
        "signature_invalid",
        101,
        "A signature was not made by any certificate trusted for this IdP.",
        "If the IdP has changed its signing certificate, import its new metadata. Otherwise this is a forgery.",
    )
    DIGEST_MISMATCH = (
        "digest_mismatch",
        102,
        "The content was changed after a trusted certificate signed it.",
        "Something between the IdP and FAS alters the response, or it is a forgery.",
    )
    SIGNED_ELEMENT = (
        "signed_element",
        103,
        "What the signature covers is not the element it stands in.",
        "This is the mark of signature wrapping. Treat the sender as hostile.",
    )
    METADATA_NOT_SAML = (
        "metadata_not_saml",
        300,
        "The document is not SAML 2.0 metadata.",
        "Give the IdP's federation metadata: its document element is EntityDescriptor or EntitiesDescriptor.",
    )
    METADATA_NO_IDP = (
        "metadata_no_idp",
        301,
        "The metadata describes no SAML 2.0 identity provider.",
        "Take the metadata of the identity provider, not that of the service provider.",
    )
    METADATA_NO_CERT = (
        "metadata_no_cert",
        302,
        "The metadata gives no usable token-signing certificate.",
        "Export metadata that holds X509Certificate elements in a KeyDescriptor for signing.",
    )
    METADATA_BAD_CERT = (
        "metadata_bad_cert",
        303,
        "A certificate in the metadata cannot be read.",
        "Export the metadata again; the certificate must be base64 of DER without anything after it.",
    )
    METADATA_AMBIGUOUS = (
        "metadata_ambiguous",
        304,
        "The metadata describes the same entity ID more than once.",
        "Take the metadata from the IdP itself, or ask the federation operator.",
    )
    METADATA_ENTITY_MISMATCH = (
        "metadata_entity_mismatch",
        305,
        "The metadata does not describe the entity ID that was asked for.",
        "Check the entity ID; choose one of those that the document describes.",
    )
    METADATA_EXPIRED = (
        "metadata_expired",
        306,
        "The metadata's validUntil has passed.",
        "Export or fetch current metadata.",
    )
    METADATA_TOO_LARGE = (
        "metadata_too_large",
        307,
        "The metadata is larger than the limit.",
        "Take the metadata of the one IdP instead of that of the whole federation.",
    )
    METADATA_UNTRUSTED = (
        "metadata_untrusted",
        308,
        "Nothing proves that the metadata comes from the IdP: no verified TLS connection, no signature by a known key.",
        "Use an https address whose certificate verifies, or import the file by hand and compare its fingerprint.",
    )
    METADATA_SIGNATURE_INVALID = (
        "metadata_signature_invalid",
        309,
        "The metadata's own signature is broken, misplaced, by an unknown key, or missing where one is asked for.",
        "Fetch the document again without anything that alters it on its way; if it stays, ask the IdP's operator.",
    )
    METADATA_ROLLBACK = (
        "metadata_rollback",
        310,
        "The metadata is older than the document that was accepted before it.",
        "Find out why an old document is served: a cache, a restored backup or a replay. The newer one stays in force.",
    )
    METADATA_URL = (
        "metadata_url",
        311,
        "The metadata address, or one that it redirects to, is not an https address that may be fetched.",
        "Give the IdP's https metadata address itself, without user name, without redirects to other hosts.",
    )
    METADATA_UNREACHABLE = (
        "metadata_unreachable",
        312,
        "The metadata could not be fetched: no connection, no answer in time, or an answer that is not 200 OK.",
        "Open the address from this machine; check name resolution, proxy, firewall and certificate authorities.",
    )
    METADATA_KEY_WITHHELD = (
        "metadata_key_withheld",
        313,
        "The metadata holds a signing key that is not trusted until a person approves it.",
        "Compare the certificate's fingerprint with the IdP's administrator, then approve or reject the held rollover.",
    )
    METADATA_VALID_TOO_LONG = (
        "metadata_valid_too_long",
        314,
        "The metadata's validUntil is farther ahead than the policy allows.",
        "Ask the metadata's publisher for a shorter validity, or raise the limit for this IdP.",
    )
    METADATA_BAD_VALUE = (
        "metadata_bad_value",
        315,
        "A time in the metadata (cacheDuration or creationInstant) cannot be read and was left out.",
        "Nothing needs to be done at once. Tell the metadata's publisher: it must be written as XML Schema says.",
    )
    METADATA_FAULT = (
        "metadata_fault",
        316,
        "This service failed while it judged or stored the metadata, and took nothing of it over.",
        "Look for the IdP's line `refreshed` in the worker's log; check the database and its disk.",
    )
