"""Replay, several identity providers, and what administrators do or leave undone."""

from __future__ import annotations

import base64

from lxml import etree

from tests.corpus import names as n
from tests.corpus.build import case, given
from tests.corpus.good import Launch, instant
from tests.corpus.model import BugType, Seen, Setting

REPLAY = BugType.REPLAY
OPEN = BugType.FAIL_OPEN
EARLIER = instant(10)


@case(
    "H01",
    deny="replay_conflict",
    bug=REPLAY,
    seen=Seen(content="other", upn=n.ALICE, first_seen=EARLIER),
    each={
        "same_user": given(n.ALICE),
        "other_user": given(n.ADMIN, upn=n.ADMIN, seen=Seen(content="other", upn=n.ALICE, first_seen=EARLIER)),
    },
)
def h01_same_id_other_content(upn: str) -> Launch:
    """The assertion ID was seen with other content; this one is genuine too, for the:"""
    return Launch(upn=upn).sign()


@case(
    "H02",
    allow=True,
    seen=Seen(content="same", upn=n.ALICE, first_seen=EARLIER),
    each={
        "soon": given(at=instant(60), label="V26"),
        "hours_later": given(at=instant(7 * 3600)),
        "other_case": given(at=instant(60), seen=Seen(content="same", upn="ALICE@corp.example", first_seen=EARLIER)),
    },
)
def h02_same_evidence_again(_: object) -> Launch:
    """The same evidence for the same user again, as at every launch."""
    return Launch().sign()


@case("H03", deny="upn_mismatch", alone=False, upn=n.ADMIN, bug=REPLAY)
def h03_evidence_of_another_user() -> Launch:
    """Genuine evidence of one user is presented for another."""
    return Launch().sign()


@case(
    "H03",
    deny=("upn_mismatch", "replay_conflict"),
    alone=False,
    upn=n.ADMIN,
    seen=Seen(content="same", upn=n.ALICE, first_seen=EARLIER),
    bug=REPLAY,
)
def h03_seen_evidence_of_another_user() -> Launch:
    """The same, after the evidence was seen for its own user."""
    return Launch().sign()


@case(
    "H03", deny="replay_conflict", bug=REPLAY, seen=Seen(content="same", upn="other@corp.example", first_seen=EARLIER)
)
def h03_seen_for_another_user() -> Launch:
    """The same evidence was seen before for another UPN."""
    return Launch().sign()


def with_other_bytes() -> bytes:
    """The base message in other bytes: declaration, prefix, blanks and order of attributes outside the signature."""
    octets = Launch().sign().wire()
    octets = octets.replace(b"<samlp:", b"<p:").replace(b"</samlp:", b"</p:").replace(b"xmlns:samlp=", b"xmlns:p=")
    octets = octets.replace(b'Version="2.0" IssueInstant', b'  Version="2.0"\n  IssueInstant', 1)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + octets + b"\n"


@case("H04", allow=True, seen=Seen(content="same", upn=n.ALICE, first_seen=EARLIER))
def h04_other_bytes_of_the_same_assertion() -> bytes:
    """The evidence in other bytes around the signed assertion: the same assertion, so no conflict."""
    return with_other_bytes()


@case("H04", allow=True)
def h04_base64_of_the_evidence() -> bytes:
    """The strict base64 form of the POST binding."""
    return base64.b64encode(Launch().sign().wire())


ONCE = {"reuse": "once"}
FRESH_ONCE = {"reuse": "fresh-once", "fresh_within": "10m"}


@case(
    "H02",
    policy=ONCE,
    bug=REPLAY,
    each={
        "first": given(allow=True),
        "second": given(deny="evidence_already_used", seen=Seen(content="same", upn=n.ALICE, first_seen=EARLIER)),
    },
)
def h02_once(_: object) -> Launch:
    """The policy accepts evidence once; this is the presentation:"""
    return Launch().sign()


@case(
    "H02",
    policy=FRESH_ONCE,
    bug=REPLAY,
    each={
        "first_and_fresh": given(at=instant(599), allow=True),
        "first_at_the_limit": given(at=instant(600), allow=True),
        "first_and_late": given(at=instant(601), deny="evidence_not_fresh"),
        "later": given(
            at=instant(7 * 3600), allow=True, seen=Seen(content="same", upn=n.ALICE, first_seen=instant(30))
        ),
        "later_beyond_the_age_limit": given(
            at=instant(9 * 3600),
            deny="evidence_too_old",
            seen=Seen(content="same", upn=n.ALICE, first_seen=instant(30)),
        ),
    },
)
def h02_fresh_once(_: object) -> Launch:
    """The first presentation must be within ten minutes of issue, later ones within the age limit:"""
    return Launch().sign()


@case("H02", allow=True, each={"prepare": given(phase="prepare"), "assert": given(phase="assert")})
def h02_phase(_: object) -> Launch:
    """The shim says in which phase it asks."""
    return Launch().sign()


@case(
    "H05",
    metadata="two-idps",
    bug=BugType.KEY_CONFUSION,
    both=True,
    deny="signature_invalid",
    origin="CVE-2026-49283, CVE-2026-49284",
)
def h05_other_idp_signs_in_the_name_of_the_first() -> Launch:
    """Of two trusted IdPs the second signs an assertion whose Issuer is the first."""
    return Launch(upn=n.ADMIN).sign(key="idp_b", key_info=("idp_b",))


@case(
    "H05",
    metadata="two-idps",
    bug=BugType.KEY_CONFUSION,
    deny=("issuer_mismatch", "signature_invalid"),
    each={"response": (n.IDP, n.OTHER_IDP), "assertion": (n.OTHER_IDP, n.IDP)},
)
def h05_issuers_of_two_idps(issuers: tuple[str, str]) -> Launch:
    """Response and assertion name two trusted IdPs; the first one's key signed. The other is named by the:"""
    return Launch(issuer=issuers[0], response_issuer=issuers[1]).sign()


@case("H05", metadata="two-idps", bug=BugType.KEY_CONFUSION, deny=("issuer_mismatch", "signature_invalid"))
def h05_response_of_one_and_assertion_of_the_other() -> Launch:
    """The second IdP signed the Response, the first the assertion in it, each in its own name."""
    launch = Launch(response_issuer=n.OTHER_IDP).sign()
    return launch.sign_response(key="idp_b", key_info=("idp_b",))


@case(
    "H05",
    metadata="two-idps",
    policy={"upn_suffixes": ["b.example"]},
    bug=BugType.IDENTITY_CONFUSION,
    deny="upn_suffix_not_allowed",
    origin="CVE-2026-49283, CVE-2026-49284",
)
def h05_user_of_another_idp() -> Launch:
    """The second IdP, which may speak for b.example only, names a user of corp.example in its own name."""
    return Launch(issuer=n.OTHER_IDP, response_issuer=n.OTHER_IDP).sign(key="idp_b", key_info=("idp_b",))


@case(
    "H05",
    metadata="two-idps",
    allow=True,
    each={"first": given((n.IDP, "idp")), "second": given((n.OTHER_IDP, "idp_b"))},
)
def h05_each_idp_in_its_own_name(idp: tuple[str, str]) -> Launch:
    """Two IdPs are trusted, and each signs in its own name:"""
    entity_id, key = idp
    return Launch(issuer=entity_id, response_issuer=entity_id).sign(key=key, key_info=(key,))


@case("H08", deny="evidence_encoding", bug=BugType.PARSER_DIFFERENTIAL, each={"mime": b"\r\n", "newline_at_end": None})
def h08_base64_with_line_breaks(separator: bytes | None) -> bytes:
    """Base64 as mail writes it: decoded strictly or refused."""
    text = base64.b64encode(Launch().sign().wire())
    if separator is None:
        return text + b"\r\n"
    return separator.join(text[at : at + 64] for at in range(0, len(text), 64))


@case(
    "H09",
    deny="config_invalid",
    bug=OPEN,
    origin="CVE-2026-28323, CVE-2026-16443",
    each={
        "no_audiences": given(policy={"audiences": []}),
        "no_recipients": given(policy={"recipients": []}),
        "no_upn_source": given(policy={"upn_from": []}),
        "audiences_left_out": given(policy={"audiences": None}),
        "recipients_left_out": given(policy={"recipients": None}),
    },
)
def h09_incomplete_policy(_: object) -> Launch:
    """The policy cannot be applied:"""
    return Launch().sign()


@case(
    "H09",
    deny="idp_disabled",
    bug=OPEN,
    setting=Setting(enabled=False),
    origin="CVE-2026-2603, CVE-2026-3009, CVE-2026-3047",
)
def h09_disabled_idp() -> Launch:
    """An administrator disabled the IdP."""
    return Launch().sign()


@case(
    "H09",
    bug=OPEN,
    each={
        "long_past": given(setting=Setting(deny_after="2025-12-31T00:00:00Z"), deny="metadata_stale"),
        "one_second_past": given(setting=Setting(deny_after="2026-01-01T12:00:29Z"), deny="metadata_stale"),
        "ahead": given(setting=Setting(deny_after="2026-01-01T12:00:31Z"), allow=True),
    },
)
def h09_stale_metadata(_: object) -> Launch:
    """The IdP's metadata may be used only until an instant, which is:"""
    return Launch().sign()


@case(
    "H11",
    deny="issuer_unknown",
    bug=OPEN,
    each={
        "newline": "https://x.example/\r\nlevel=info decision=allow",
        "escape": "https://x.example/\u009b31m",
        "format": "%s%n%d{0.__class__}",
        "json": '"}],"decision":"allow"',
        "template": "{{7*7}}${jndi:ldap://127.0.0.1:9/x}",
        "sql": "' OR 1=1 --",
        "markup": "<script>alert(1)</script>",
        "long": "x" * 20_000,
    },
)
def h11_text_that_wants_to_break_out(text: str) -> Launch:
    """Issuer holds text that breaks logs, terminals, JSON or pages that show it unescaped:"""
    return Launch(issuer=text, response_issuer=text).sign()


@case("H15", deny=("xml_limits", "evidence_too_large"), bug=BugType.DENIAL_OF_SERVICE)
def h15_many_distinct_names() -> bytes:
    """Eight thousand different element names, which fill the parser's dictionary."""
    octets = Launch().sign().wire()
    return octets.replace(b"<samlp:Status>", b"".join(b"<a%x/>" % number for number in range(8000)) + b"<samlp:Status>")


@case("H15", allow=True)
def h15_many_certificates() -> Launch:
    """KeyInfo with sixty certificates; it is no guide to the key, so nothing is tried with them."""
    return Launch().sign(key_info=("attacker",) * 60)


@case("H16", metadata="idp-twice", allow=True)
def h16_certificate_listed_twice() -> Launch:
    """The metadata lists the same certificate twice."""
    return Launch().sign()


@case("H17", allow=True, metadata="signed-by-itself")
def h17_metadata_signed_by_its_own_key() -> Launch:
    """The metadata is signed by the very key it announces, as AD FS and Entra do it; it was imported by hand."""
    return Launch().sign()


@case("H18", deny="issuer_unknown", bug=OPEN, metadata="two-idps")
def h18_issuer_is_an_address_of_the_idp() -> Launch:
    """Issuer names the sign-on address of a registered IdP instead of its entity ID."""
    return Launch(issuer=n.IDP + "/sso", response_issuer=n.IDP + "/sso").sign()


@case("H19", allow=True)
def h19_byte_order_mark() -> bytes:
    """UTF-8 with a byte order mark and an XML declaration."""
    return b"\xef\xbb\xbf" + b'<?xml version="1.0" encoding="utf-8"?>' + Launch().sign().wire()


@case("H19", allow=True, each={"newline": b"\n", "blanks": b"  \r\n\t "})
def h19_blanks_around(blanks: bytes) -> bytes:
    """White space before and after the document element, without a declaration:"""
    return blanks + etree.tostring(Launch().sign().root) + blanks
