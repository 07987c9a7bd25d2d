"""Why a renewal is where it is, as codes: what each means for the farm, and what a person should do."""

from __future__ import annotations

from idp_certs.reasons import Reason


class RenewalReason(Reason):
    """Why a step is taken, why one waits, and why only a person can go on. Codes are interface, as all reasons are."""

    ISSUED_WITHOUT_KEY = (
        "issued_without_key",
        700,
        "FAS lists the new certificate as usable, but names no trust area that would hold its key.",
        "Look at it in the FAS console; withdraw it (`fas-evidence authcert withdraw NAME`) and renew again.",
    )
    ISSUED_OTHER_KEY = (
        "issued_other_key",
        701,
        "The certificate that came back is for another key than the one in the request.",
        "Ask the CA manager what was issued. Do not use it: whoever has that other key can enroll anybody.",
    )
    ISSUED_OTHER_CA = (
        "issued_other_ca",
        702,
        "The new certificate comes from another CA than the one that was asked, or from a test CA.",
        "Ask the CA manager. Set `certificate_authority` if the change is meant, withdraw this one and renew again.",
    )
    ISSUED_NOT_REQUEST_AGENT = (
        "issued_not_request_agent",
        703,
        "The new certificate lacks the extended key usage Certificate Request Agent (1.3.6.1.4.1.311.20.2.1).",
        "Check which template the CA used: it must be Citrix_RegistrationAuthority or a copy of it.",
    )
    ISSUED_EXPORTABLE = (
        "issued_exportable",
        704,
        "The private key of the new certificate can be exported from the FAS server.",
        "Correct the template and FAS's key settings, withdraw this certificate and renew again.",
    )
    ISSUED_WEAK_KEY = (
        "issued_weak_key",
        705,
        "The key of the new certificate is shorter than the policy asks for.",
        "Correct the template or FAS's key settings, withdraw this certificate and renew again.",
    )
    ISSUED_SHORT_LIFE = (
        "issued_short_life",
        706,
        "The new certificate ends too soon, or no later than the one that it would replace.",
        "Check the template's validity period and how long the CA's own certificate lasts.",
    )
    RESPONSE_UNREADABLE = (
        "response_unreadable",
        707,
        "What was brought or issued cannot be read as a PKCS #7, or as a certificate.",
        "Bring the CA's answer as a DER PKCS #7 file (`.p7b`), unchanged.",
    )
    PROOF_FAILED = (
        "proof_failed",
        710,
        "FAS could not enroll the test user with the new certificate, which nothing in use names.",
        (
            "See the CA's failed requests, and S123 and S124 on the FAS server; `fas-evidence authcert preflight NAME "
            "--test` looks for causes. `fas-evidence authcert withdraw NAME` removes the one that failed."
        ),
    )
    VERIFY_FAILED = (
        "verify_failed",
        711,
        "After the switch FAS could not enroll the test user, so every definition goes back to the old certificate.",
        (
            "Logons go on by the old certificate. `fas-evidence authcert preflight NAME --test` looks for causes. "
            "`fas-evidence authcert withdraw NAME` removes the one that failed; then renew again."
        ),
    )
    ISSUANCE_FAILS = (
        "issuance_fails",
        712,
        "Since the switch, CAs refuse requests for users' certificates (S123, S124).",
        "See the CA's failed requests. The old certificate is kept; `fas-evidence authcert rollback NAME` goes back.",
    )
    NO_WAY_BACK = (
        "no_way_back",
        713,
        "The definitions should go back to the old certificate, which the server no longer has or which is not usable.",
        "Renew by hand now: this server's users may be unable to log on. Move it into maintenance if others serve.",
    )
    DEFINITION_NAMES_MISSING = (
        "definition_names_missing",
        714,
        "A certificate definition names an authorization certificate that the server does not have.",
        "Users of its rules cannot log on. A renewal is started; or set the definition to a usable one by hand.",
    )
    TAKEN_BACK = (
        "taken_back",
        715,
        "A person had every definition go back; the certificate that was in use is still on the server.",
        (
            "Find out why it did not serve. `fas-evidence authcert withdraw NAME` removes it, and the CA revokes it; "
            "`fas-evidence authcert renew NAME` asks for another."
        ),
    )
    UNKNOWN_STATUS = (
        "unknown_status",
        720,
        "FAS reports a certificate status that no known release has.",
        "Look at the certificate in the FAS console and decide by hand; nothing is done until the status is known.",
    )
    TWO_OPEN_REQUESTS = (
        "two_open_requests",
        721,
        "More than one request of this server waits at the CA.",
        "Deny or withdraw all but one; approve only the one that the message names.",
    )
    EXPIRY_UNKNOWN = (
        "expiry_unknown",
        722,
        "FAS does not tell when a certificate in use expires.",
        "Look in the FAS console; check that the account may read it (`fas-evidence authcert preflight NAME`).",
    )
    REFUSED_BY_FAS = (
        "refused_by_fas",
        723,
        "FAS answered a cmdlet with an error.",
        "Read the error; `fas-evidence authcert preflight NAME` looks for causes. It is tried again, ever less often.",
    )
    NOT_READ_BACK = (
        "not_read_back",
        724,
        "A change was accepted, but reading it back shows something else.",
        "Somebody may work in the FAS console at the same time, or the server answers for another: see its address.",
    )
    UNREACHABLE = (
        "unreachable",
        725,
        "The FAS server did not answer.",
        "Check that it runs, that WinRM answers, and that the account may use it. The renewal of others goes on.",
    )
    ANSWER_UNKNOWN = (
        "answer_unknown",
        726,
        "A cmdlet was sent and no answer came, so FAS may have done it. Nothing is repeated until FAS shows which.",
        "Usually nothing: FAS is read until it is known. If it lasts, see the FAS server.",
    )
    NOT_UNDERSTOOD = (
        "not_understood",
        727,
        "FAS answered with something that cannot be read, so nothing was concluded from the rest of the answer either.",
        "Compare what FAS's PowerShell shows with the error; a FAS release newer than this service may be the cause.",
    )
    LEAD_DOES_NOT_FIT = (
        "lead_does_not_fit",
        730,
        "The lead is longer than certificates live, or too short for the approver, the soak and the windows.",
        "Correct the lead, or the template's validity. Until then at least a third of the lifetime is the lead.",
    )
    NO_NEIGHBOUR = (
        "no_neighbour",
        731,
        "No other FAS server serves, so this one must not enter maintenance.",
        'Bring another FAS server up; or set `maintenance = "skip"` where there is only one.',
    )
    NEIGHBOUR_SWITCHING = (
        "neighbour_switching",
        732,
        "Another FAS server is being switched; servers go one after another.",
        "Nothing.",
    )
    OUTSIDE_WINDOW = (
        "outside_window",
        733,
        "Changes that users could notice wait for the maintenance window.",
        "Nothing.",
    )
    WINDOW_OVERRIDDEN = (
        "window_overridden",
        734,
        "No maintenance window is left before the old certificate expires, so the change is made outside of one.",
        "Set windows that come often enough, or a longer lead.",
    )
    NEIGHBOUR_UNSEEN = (
        "neighbour_unseen",
        737,
        "No other FAS server was seen to serve within the last minutes; they are looked at before this one goes on.",
        "Nothing; it takes a minute. If it lasts, see why the others answer slowly: `fas-evidence authcert status`.",
    )
    PAUSED = (
        "paused",
        735,
        "A person paused this server's renewal.",
        "Resume it: `fas-evidence authcert resume NAME`.",
    )
    BACKING_OFF = (
        "backing_off",
        736,
        "An act failed and is tried again later.",
        "See the last error in `fas-evidence authcert status NAME`.",
    )
    DENIED = (
        "denied",
        740,
        "The CA manager, or the CA, denied the request.",
        (
            "Ask the CA manager why. Where a certificate is due it is asked once more after `retry_denied`; else only "
            "`fas-evidence authcert renew NAME` asks again."
        ),
    )
    DENIED_REPEATEDLY = (
        "denied_repeatedly",
        741,
        "The CA denied as many requests in a row as the policy lets pass.",
        "Settle it with the CA manager, then `fas-evidence authcert renew NAME`. The old certificate goes on expiring.",
    )
    APPROVAL_OVERDUE = (
        "approval_overdue",
        742,
        "Nobody decided the request within the time that is set.",
        "Issue or deny it at the CA, or withdraw it.",
    )
    AWAITING_APPROVAL = (
        "awaiting_approval",
        743,
        "The request waits for the CA manager.",
        "Issue it at the CA, under Pending Requests, after checking who asked.",
    )
    NOT_YET_VALID = (
        "authcert_not_yet_valid",
        744,
        "The new certificate is valid from a later instant: the CA's clock is ahead.",
        "Nothing; it is waited for. Check the clocks if it lasts longer than minutes.",
    )
    REVOKED = (
        "revoked",
        750,
        "The CA has revoked an authorization certificate in use.",
        (
            "Find out why: if its key may be known to somebody, they can enroll anybody. A renewal is started at once. "
            "Its serial number is known from the server's event log alone: compare it with what the CA issued."
        ),
    )
    EXPIRED = (
        "authcert_expired",
        751,
        "An authorization certificate in use has expired: FAS cannot enroll users with it.",
        "Approve the pending request now, or move the server into maintenance while others serve.",
    )
    DUE = ("due", 760, "The certificate expires within the lead.", "Nothing; the approver is told.")
    ASKED = ("asked", 761, "A person asked for it.", "Nothing.")
    SOAKING = (
        "soaking",
        762,
        "The new certificate serves; the old one is kept as the way back until the soak is over.",
        "Nothing.",
    )
    NOT_DUE = ("not_due", 763, "No certificate in use expires within the lead.", "Nothing.")
    WITHDRAWN = ("withdrawn", 764, "A request was withdrawn.", "Nothing.")
    NOTHING_IN_USE = (
        "nothing_in_use",
        765,
        "No certificate definition of this server names an authorization certificate.",
        "Set FAS up on this server, or take it out of the renewal's configuration.",
    )


def advice_for(reason: Reason, server: str) -> str:
    """What to do, with the server's name in the commands to copy."""
    return reason.advice.replace(" NAME", f" {server}")
