"""Reasons why an access request is denied, beyond those of the XML and signature layers."""

from __future__ import annotations

from idp_certs.reasons import Reason, TrustReason

OK = "ok"
"""The reason that an allow carries."""


class AccessReason(Reason):
    """Refusals of the evidence, its claims and the identity, and of this service itself."""

    EVIDENCE_MISSING = (
        "evidence_missing",
        104,
        "FAS handed over no SAML Response.",
        "Turn on CollectFasEvidence at StoreFront, Store SAML Response at the Gateway, and set the callback URL.",
    )
    EVIDENCE_EMPTY = (
        "evidence_empty",
        105,
        "The evidence has no bytes.",
        "Check that the Gateway stores the SAML Response and that StoreFront reaches it by the callback URL.",
    )
    EVIDENCE_TOO_LARGE = (
        "evidence_too_large",
        106,
        "The evidence is larger than the limit.",
        "Reduce the claims the IdP sends (most often group memberships).",
    )
    EVIDENCE_ENCODING = (
        "evidence_encoding",
        107,
        "The evidence is neither XML nor strict base64 of XML.",
        "Hand over the bytes as StoreFront gave them, or their base64 without line breaks and without URL encoding.",
    )
    NOT_A_RESPONSE = (
        "not_a_response",
        120,
        "The document element is not a SAML 2.0 protocol Response.",
        "Give the SAML Response itself, not metadata, an assertion or an envelope around it.",
    )
    SAML_VERSION = (
        "saml_version",
        121,
        "A SAML version other than 2.0.",
        "Set the IdP to SAML 2.0.",
    )
    ID_MISSING = ("id_missing", 122, "A Response or Assertion has no ID.", "A genuine IdP sends IDs. Treat as hostile.")
    ID_INVALID = (
        "id_invalid",
        123,
        "An ID holds characters that no genuine ID holds, or is an ID attribute of a foreign namespace.",
        "This is the mark of signature wrapping. Treat the sender as hostile.",
    )
    ID_DUPLICATE = (
        "id_duplicate",
        124,
        "The same ID stands on more than one element.",
        "This is the mark of signature wrapping. Treat the sender as hostile.",
    )
    RESPONSE_COUNT = (
        "response_count",
        125,
        "There is more than one Response.",
        "This is the mark of signature wrapping. Treat the sender as hostile.",
    )
    ASSERTION_COUNT = (
        "assertion_count",
        126,
        "There is not exactly one assertion, or it is not directly below the Response.",
        "With a failed sign-in an IdP sends none. Otherwise this is the mark of signature wrapping.",
    )
    ISSUER_UNKNOWN = (
        "issuer_unknown",
        200,
        "No identity provider with this entity ID is registered.",
        "Register the IdP if it is yours: `fas-evidence idp add --metadata FILE --policy FILE`.",
    )
    IDP_DISABLED = (
        "idp_disabled",
        201,
        "An administrator has disabled this identity provider.",
        "Enable it again if it should be used: `fas-evidence idp enable ENTITY_ID`.",
    )
    ENCRYPTED_UNSUPPORTED = (
        "encrypted_unsupported",
        150,
        "The assertion is encrypted, and no decryption key is set or the policy refuses encryption.",
        "Turn assertion encryption off at the IdP, or name the private key in `decryption_keys`.",
    )
    ENCRYPTION_ALGORITHM = (
        "encryption_algorithm",
        151,
        "The assertion is encrypted with an algorithm that is not accepted.",
        "Set the IdP to AES-GCM (or AES-CBC) with RSA-OAEP.",
    )
    DECRYPT_FAILED = (
        "decrypt_failed",
        152,
        "The assertion could not be decrypted to one assertion.",
        "Check that the IdP encrypts to the certificate of one of the `decryption_keys`.",
    )
    ENCRYPTION_REQUIRED = (
        "encryption_required",
        153,
        "The policy asks for encrypted assertions and this one is not encrypted.",
        'Turn assertion encryption on at the IdP, or set `encryption = "allowed"`.',
    )
    ISSUER_MISSING = ("issuer_missing", 210, "The assertion names no issuer.", "A genuine IdP names itself.")
    ISSUER_MISMATCH = (
        "issuer_mismatch",
        211,
        "The issuer is not exactly the entity ID of the IdP whose key signed.",
        "Compare character by character, case and blanks included, with the entityID in the metadata.",
    )
    STATUS_NOT_SUCCESS = (
        "status_not_success",
        212,
        "The Response does not report plain success.",
        "Look in the IdP's own log for why this sign-in failed.",
    )
    DESTINATION_MISMATCH = (
        "destination_mismatch",
        421,
        "The Response was sent to another address than ours.",
        "Add the assertion consumer URL of your Gateway or StoreFront to `recipients`.",
    )
    TIME_FORMAT = (
        "time_format",
        499,
        "A time is missing or not a UTC xs:dateTime.",
        "A genuine IdP sends times such as 2026-01-31T12:00:00Z (SAML core 1.3.3).",
    )
    ISSUED_IN_FUTURE = (
        "issued_in_future",
        500,
        "The evidence was issued later than now, beyond the accepted clock difference.",
        "Check the clocks of the IdP and of this server.",
    )
    EVIDENCE_TOO_OLD = (
        "evidence_too_old",
        501,
        "The evidence was issued longer ago than the policy accepts.",
        "The user must sign in again. Raise `max_age` if your sessions last longer.",
    )
    CONDITIONS_MISSING = (
        "conditions_missing",
        430,
        "The assertion does not have exactly one Conditions element with an end.",
        "A genuine IdP sends it; without it the assertion would be good for anyone for ever.",
    )
    CONDITIONS_WINDOW = (
        "conditions_window",
        502,
        "The assertion was not valid when it was issued.",
        "Check the IdP's clock and the assertion lifetime set there.",
    )
    NOT_YET_VALID = (
        "not_yet_valid",
        503,
        "The assertion's NotBefore lies ahead.",
        "Check the clocks of the IdP and of this server.",
    )
    EXPIRED = (
        "expired",
        504,
        "The assertion's NotOnOrAfter has passed and the policy enforces it.",
        "The user must sign in again; `enforce_not_on_or_after` is rarely right, as assertions live for minutes.",
    )
    CONDITION_UNKNOWN = (
        "condition_unknown",
        431,
        "The assertion carries a condition that we do not understand.",
        "SAML core 2.5.1 forbids to accept it. Remove the condition at the IdP.",
    )
    AUDIENCE_MISSING = (
        "audience_missing",
        432,
        "The assertion does not say for whom it is meant.",
        "Set the audience (SP entity ID) at the IdP.",
    )
    AUDIENCE_MISMATCH = (
        "audience_mismatch",
        433,
        "The assertion is meant for another service.",
        "If this is your Gateway's or StoreFront's entity ID, add it to `audiences`.",
    )
    SUBJECT_INVALID = (
        "subject_invalid",
        399,
        "The assertion does not have exactly one Subject with content.",
        "A genuine IdP sends one. Treat the sender as hostile.",
    )
    SUBJECT_CONFIRMATION = (
        "subject_confirmation",
        422,
        "No bearer subject confirmation that was good when the assertion was issued.",
        "Set the IdP to the web browser SSO profile (bearer, with NotOnOrAfter and without NotBefore).",
    )
    RECIPIENT_MISMATCH = (
        "recipient_mismatch",
        420,
        "The assertion was sent to another address than ours.",
        "Add the assertion consumer URL of your Gateway or StoreFront to `recipients`.",
    )
    IN_RESPONSE_TO_MISMATCH = (
        "in_response_to_mismatch",
        423,
        "Response and subject confirmation answer different requests.",
        "Treat the sender as hostile: parts of two responses were combined.",
    )
    AUTHN_STATEMENT_MISSING = (
        "authn_statement_missing",
        440,
        "The assertion does not state that the user authenticated.",
        "Attribute-only assertions are no sign-in. Use the web browser SSO profile at the IdP.",
    )
    AUTHN_CONTEXT = (
        "authn_context",
        441,
        "The user authenticated in a way that the policy does not list.",
        "Require the wanted method (for example MFA) at the IdP, or extend `authn_contexts`.",
    )
    AUTHENTICATION_TOO_OLD = (
        "authentication_too_old",
        505,
        "The user authenticated longer ago than the policy accepts.",
        "The user must sign in at the IdP again; shorten the IdP's SSO session or raise `max_authentication_age`.",
    )
    SESSION_EXPIRED = (
        "session_expired",
        506,
        "The IdP's session has ended.",
        "The user must sign in again, or set `enforce_session_expiry = false`.",
    )
    UPN_EXPECTED_MISSING = (
        "upn_expected_missing",
        400,
        "FAS presented no UPN.",
        "Check the shim; FAS always knows the UPN it asserts.",
    )
    UPN_MISSING = (
        "upn_missing",
        401,
        "The evidence does not hold the UPN where the policy looks for it.",
        "Make the IdP send the UPN there, or correct `upn_from`.",
    )
    UPN_AMBIGUOUS = (
        "upn_ambiguous",
        402,
        "The evidence holds the UPN more than once.",
        "Make the IdP send exactly one value.",
    )
    UPN_INVALID = (
        "upn_invalid",
        403,
        "A UPN is not of the form name@suffix in normal characters.",
        "Correct the user's UPN; blanks, control characters and non-normalised Unicode are refused.",
    )
    UPN_MISMATCH = (
        "upn_mismatch",
        405,
        "The UPN in the evidence is not the UPN that FAS presented.",
        "If the UPN is changed on its way, state how in `upn_map`. Otherwise someone uses another user's evidence.",
    )
    UPN_SUFFIX_NOT_ALLOWED = (
        "upn_suffix_not_allowed",
        406,
        "This IdP may not speak for users of this UPN suffix.",
        "If it should, add the suffix to `upn_suffixes` of this IdP.",
    )
    REPLAY_CONFLICT = (
        "replay_conflict",
        407,
        "The same assertion was seen before with other content or for another user.",
        "Alarm: either the IdP repeats assertion IDs, or evidence is forged or shared.",
    )
    EVIDENCE_NOT_FRESH = (
        "evidence_not_fresh",
        507,
        "The evidence was seen for the first time later than the policy accepts.",
        "The user must sign in again. Raise `fresh_within` if sign-ins take longer to reach FAS.",
    )
    EVIDENCE_ALREADY_USED = (
        "evidence_already_used",
        508,
        "The policy accepts evidence once, and this was used before.",
        'Use `reuse = "bounded"`: StoreFront presents the same evidence at every launch.',
    )
    RULE_NOT_ALLOWED = (
        "rule_not_allowed",
        410,
        "The FAS rule is not one that this IdP may be used with.",
        "Add the rule with `fas-evidence rule set NAME`.",
    )
    CONFIG_INVALID = (
        "config_invalid",
        207,
        "The policy for this IdP cannot be applied.",
        "Correct the policy; it needs at least one audience, one recipient and one UPN source.",
    )
    METADATA_STALE = (
        "metadata_stale",
        208,
        "The IdP's metadata is older than the configured limit.",
        "Import current metadata, or find out why it cannot be fetched.",
    )
    DEADLINE = ("deadline", 600, "The decision took longer than its deadline.", "Look for overload or a slow disk.")
    CLOCK_UNTRUSTED = (
        "clock_untrusted",
        601,
        "This server's clock is behind a time it has already recorded.",
        "Set the clock (NTP). It is trusted again once it has passed the latest recorded decision.",
    )
    JOURNAL_UNAVAILABLE = (
        "journal_unavailable",
        602,
        "The decision could not be recorded, so it is a deny.",
        "Look at the database and its disk: space, permissions, locks.",
    )
    STORE_UNAVAILABLE = (
        "store_unavailable",
        603,
        "The store of trust and policy cannot be read.",
        "Look at the database and its disk.",
    )
    OVERLOADED = ("overloaded", 604, "More requests arrive than can be served in time.", "Add workers or machines.")
    INTERNAL_ERROR = (
        "internal_error",
        605,
        "An unexpected error of this service. It denies to be safe.",
        "Report it with the decision id and the log line of that id.",
    )


_BY_CODE: dict[str, Reason] = {str(reason): reason for family in (TrustReason, AccessReason) for reason in family}


def reason_of(code: str) -> Reason:
    """The reason with this code. Raises KeyError where there is none."""
    return _BY_CODE[code]
