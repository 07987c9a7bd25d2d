"""The story that the demo tells: who takes part, what is tried, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from cryptography.hazmat.primitives.asymmetric import rsa
from lxml import etree

from evidence_service.access.model import Phase, Policy, UpnMapping
from evidence_service.access.reasons import OK, AccessReason
from evidence_service.demo.acts import Act, FarmAct
from evidence_service.demo.idp import ADFS, ENTRA, KEYCLOAK, OKTA, SAML, DemoIdp, Signs, new_key, self_signed
from idp_certs.reasons import Reason, TrustReason
from idp_certs.xml import parse_xml

AUDIENCE = "https://gateway.corp.example"
RECIPIENT = "https://gateway.corp.example/cgi/samlauth"

ALICE = "alice@corp.example"
ADMIN = "admin@corp.example"
BEN = "ben@corp.example"
BEN_IN_THE_CLOUD = "ben@contoso.example"
CAROL = "carol@partner.example"
DANA = "dana@lab.example"

ALLOW, DENY, UNAUTHORIZED = "allow", "deny", "HTTP 401"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """The identity providers, the Gateway's decryption key, and the key of somebody who is nobody.

    `renewed` is AD FS with each of its later token-signing keys, in order; `stranger` claims to be AD FS, with a key
    and a certificate of his own.
    """

    adfs: DemoIdp
    entra: DemoIdp
    okta: DemoIdp
    keycloak: DemoIdp
    gateway_key: rsa.RSAPrivateKey
    stranger_key: rsa.RSAPrivateKey
    renewed: tuple[DemoIdp, DemoIdp, DemoIdp]
    stranger: DemoIdp

    @property
    def registered(self) -> tuple[DemoIdp, ...]:
        """The identity providers whose metadata is imported."""
        return (self.adfs, self.entra, self.okta, self.keycloak)


Issue = Callable[[datetime], bytes]
"""Issues evidence at the instant (UTC) that is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request of the story. `why` explains the expected outcome in plain words.

    Without `evidence` nothing is handed over; a function issues it when the request is sent. `decision` is `allow`,
    `deny` or `HTTP` with a status; `reason` is a reason code, or empty where the caller gets no decision.
    `known_caller` tells whether the enrolled key is used. With `within_seconds` it is asked again for so long, until
    the answer is as expected.
    """

    title: str
    why: str
    idp: str
    upn: str
    evidence: bytes | Issue | None
    decision: str
    reason: str
    phase: Phase = Phase.ASSERT
    known_caller: bool = True
    within_seconds: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """Requests, and acts between them, that show one thing. They come in order."""

    title: str
    steps: tuple[Step | Act | FarmAct, ...]


def new_cast(now: datetime) -> Cast:
    """Everybody with fresh keys; `now` is UTC."""

    def idp(entity_id: str, name: str) -> DemoIdp:
        key = new_key()
        certificate = self_signed(name, key, not_before=now - timedelta(days=30), not_after=now + timedelta(days=335))
        return DemoIdp(entity_id=entity_id, profile=ADFS, key=key, certificate=certificate)

    def renewed(old: DemoIdp) -> DemoIdp:
        made = idp("", "ADFS Signing - sts.corp.example")
        return replace(old, key=made.key, certificate=made.certificate)

    decrypting = idp("", "ADFS Encryption - sts.corp.example").certificate
    adfs = idp("http://sts.corp.example/adfs/services/trust", "ADFS Signing - sts.corp.example")
    entra = idp("https://sts.windows.example/6c5d7ab1-3f0e-4a29-9b5e-0d1c5d8d7f10/", "Federated SSO Certificate")
    okta = idp("http://www.okta.example/exk1fb2c3d4e5f6g7h8", "partner")
    keycloak = idp("https://sso.lab.example/realms/lab", "lab")
    adfs = replace(adfs, encryption_certificate=decrypting)
    stranger = renewed(adfs)
    return Cast(
        adfs=adfs,
        entra=replace(entra, profile=ENTRA),
        okta=replace(okta, profile=OKTA),
        keycloak=replace(keycloak, profile=KEYCLOAK),
        gateway_key=new_key(),
        stranger_key=stranger.key,
        renewed=(renewed(adfs), renewed(adfs), renewed(adfs)),
        stranger=stranger,
    )


def policy_for(idp: DemoIdp, cast: Cast, *, decryption_key: str) -> Policy:
    """What each identity provider may say, with `decryption_key` as the name of the Gateway's private key."""
    suffixes = {cast.okta.entity_id: "partner.example", cast.keycloak.entity_id: "lab.example"}
    mapped = idp.entity_id == cast.entra.entity_id
    return Policy(
        audiences=(AUDIENCE,),
        recipients=(RECIPIENT,),
        upn_from=(idp.profile.upn_from,),
        upn_suffixes=(suffixes.get(idp.entity_id, "corp.example"),),
        upn_map=(UpnMapping(source="@contoso.example", target="@corp.example"),) if mapped else (),
        decryption_keys=(decryption_key,),
    )


def sign_in(
    idp: DemoIdp,
    upn: str,
    at: datetime,
    assertion_id: str,
    *,
    audience: str = AUDIENCE,
    encrypt_to: rsa.RSAPublicKey | None = None,
) -> bytes:
    """The evidence of one sign-in to the Gateway."""
    return idp.issue(
        upn=upn,
        issue_instant=at,
        audience=audience,
        recipient=RECIPIENT,
        assertion_id=assertion_id,
        encrypt_to=encrypt_to,
    )


def launches(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Chapter, ...]:
    """The part of the story that needs no act, as of `now` (UTC); `new_id` gives assertion IDs."""
    return (
        Chapter(title="Sign-ins and launches that go ahead", steps=_genuine(cast, now, new_id)),
        Chapter(title="Forged evidence", steps=_forged(cast, now, new_id)),
        Chapter(title="Genuine evidence, used wrongly", steps=_misused(cast, now, new_id)),
        Chapter(title="A caller that nobody enrolled", steps=_strangers(cast, now, new_id)),
    )


def everyday(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Step, ...]:
    """A few steps that may be sent again and again, mostly harmless, while the demo keeps running."""
    genuine, forged = _genuine(cast, now, new_id), _forged(cast, now, new_id)
    return (*genuine[:3], forged[0], *genuine[3:6], forged[1])


def make_step(
    idp: DemoIdp,
    upn: str,
    evidence: bytes | Issue | None,
    reason: Reason | None,
    *,
    title: str,
    why: str,
    phase: Phase = Phase.ASSERT,
    within_seconds: float = 0,
) -> Step:
    """A step whose expected outcome is a deny for `reason`, or an allow for None."""
    return Step(
        title=title,
        why=why,
        idp=idp.profile.product,
        upn=upn,
        evidence=evidence,
        decision=ALLOW if reason is None else DENY,
        reason=OK if reason is None else reason.value,
        phase=phase,
        within_seconds=within_seconds,
    )


def _genuine(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Step, ...]:
    gateway = cast.gateway_key.public_key()
    morning = sign_in(cast.adfs, ALICE, now - timedelta(hours=6), new_id())
    signing_in = partial(make_step, reason=None, phase=Phase.PREPARE)
    launching = partial(make_step, reason=None, phase=Phase.ASSERT)
    return (
        signing_in(
            cast.adfs,
            ALICE,
            sign_in(cast.adfs, ALICE, now, new_id()),
            title="Alice signs in",
            why="The assertion is signed, and the UPN in it is hers.",
        ),
        signing_in(
            cast.entra,
            BEN,
            sign_in(cast.entra, BEN_IN_THE_CLOUD, now, new_id()),
            title="Ben signs in",
            why="Entra calls him ben@contoso.example; the policy maps that to ben@corp.example.",
        ),
        signing_in(
            cast.okta,
            CAROL,
            sign_in(cast.okta, CAROL, now, new_id()),
            title="Carol signs in",
            why="Response and assertion are signed; both signatures hold.",
        ),
        signing_in(
            cast.keycloak,
            DANA,
            sign_in(cast.keycloak, DANA, now, new_id()),
            title="Dana signs in",
            why="Only the response is signed, and that covers the assertion.",
        ),
        signing_in(
            cast.adfs,
            ALICE,
            sign_in(cast.adfs, ALICE, now, new_id(), encrypt_to=gateway),
            title="Alice signs in, encrypted",
            why="Decrypted with the Gateway's key; the signature inside holds.",
        ),
        signing_in(
            cast.okta,
            CAROL,
            sign_in(cast.okta, CAROL, now, new_id(), encrypt_to=gateway),
            title="Carol signs in, encrypted",
            why="The outer signature holds, then the inner one.",
        ),
        launching(
            cast.adfs,
            ALICE,
            morning,
            title="Alice starts a desktop 6 hours later",
            why="The evidence may be 8 hours old.",
        ),
        launching(
            cast.adfs,
            ALICE,
            morning,
            title="Alice starts an application",
            why="StoreFront presents the same evidence again; for the same user that is normal.",
        ),
    )


def _forged(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Step, ...]:
    genuine = sign_in(cast.adfs, ALICE, now, new_id())
    impostor = replace(cast.adfs, key=cast.stranger_key)
    unsigned = replace(cast.adfs, profile=replace(ADFS, signs=Signs.NOTHING))
    longer = "admin@corp.example.partner.example"
    cut = b"admin@corp.example<!---->.partner.example"
    return (
        make_step(
            cast.adfs,
            ADMIN,
            genuine.replace(b"alice", b"admin"),
            TrustReason.DIGEST_MISMATCH,
            title="Alice writes admin into hers",
            why="The content of her evidence is no longer what AD FS signed.",
        ),
        make_step(
            cast.adfs,
            ADMIN,
            sign_in(impostor, ADMIN, now, new_id()),
            TrustReason.SIGNATURE_INVALID,
            title="A stranger signs as AD FS",
            why="AD FS's certificate is shown beside it, but its key did not make the signature.",
        ),
        make_step(
            cast.adfs,
            ADMIN,
            sign_in(unsigned, ADMIN, now, new_id()),
            TrustReason.SIGNATURE_MISSING,
            title="Nobody signs",
            why="Without a signature nothing is evidence.",
        ),
        make_step(
            cast.adfs,
            ADMIN,
            sign_in(unsigned, ADMIN, now, new_id(), encrypt_to=cast.gateway_key.public_key()),
            TrustReason.SIGNATURE_MISSING,
            title="Nobody signs, but encrypts",
            why="Anyone can encrypt to the Gateway: that proves nothing.",
        ),
        make_step(
            cast.adfs,
            ADMIN,
            wrapped(genuine, sign_in(unsigned, ADMIN, now, new_id())),
            AccessReason.ASSERTION_COUNT,
            title="Wrapping: a second assertion",
            why="A forged assertion stands before the signed one; there must be exactly one.",
        ),
        make_step(
            cast.okta,
            ADMIN,
            sign_in(cast.okta, longer, now, new_id()).replace(longer.encode(), cut),
            TrustReason.XML_COMMENT_OR_PI,
            title="A comment cuts a name short",
            why="The signature would still hold, so comments are refused.",
        ),
        make_step(
            cast.adfs,
            ADMIN,
            b'<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + genuine,
            TrustReason.XML_DTD,
            title="A DTD asks for /etc/passwd",
            why="SAML needs no document type declaration; none is ever read.",
        ),
    )


def _misused(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Step, ...]:
    repeated_id = new_id()
    nobody = replace(
        cast.adfs,
        entity_id="https://idp.nobody.example",
        profile=replace(ADFS, product="unknown"),
        key=cast.stranger_key,
    )
    return (
        make_step(
            cast.adfs,
            ALICE,
            None,
            AccessReason.EVIDENCE_MISSING,
            title="StoreFront hands over nothing",
            why="As before CollectFasEvidence is turned on there.",
        ),
        make_step(
            cast.adfs,
            ALICE,
            sign_in(cast.adfs, ALICE, now - timedelta(hours=9), new_id()),
            AccessReason.EVIDENCE_TOO_OLD,
            title="Alice's evidence of 9 hours ago",
            why="It may be 8 hours old. She signs in again.",
        ),
        make_step(
            cast.adfs,
            ALICE,
            sign_in(cast.adfs, ALICE, now, new_id(), audience="https://wiki.corp.example"),
            AccessReason.AUDIENCE_MISMATCH,
            title="Alice's sign-in to the wiki",
            why="It was issued for another service.",
        ),
        make_step(
            cast.okta,
            ADMIN,
            sign_in(cast.okta, ADMIN, now, new_id()),
            AccessReason.UPN_SUFFIX_NOT_ALLOWED,
            title="The partner's IdP signs for admin",
            why="It may speak for partner.example only.",
        ),
        make_step(
            cast.keycloak,
            DANA,
            sign_in(cast.keycloak, DANA, now - timedelta(minutes=2), repeated_id),
            None,
            title="Dana starts a desktop",
            why="Her evidence is remembered by its ID and its content.",
        ),
        make_step(
            cast.keycloak,
            DANA,
            sign_in(cast.keycloak, DANA, now - timedelta(minutes=1), repeated_id),
            AccessReason.REPLAY_CONFLICT,
            title="Same ID, other content",
            why="An IdP never uses an ID twice.",
        ),
        make_step(
            nobody,
            ALICE,
            sign_in(nobody, ALICE, now, new_id()),
            AccessReason.ISSUER_UNKNOWN,
            title="An IdP nobody registered",
            why="Its metadata was never imported.",
        ),
        make_step(
            cast.adfs,
            ADMIN,
            sign_in(cast.adfs, ALICE, now, new_id()),
            AccessReason.UPN_MISMATCH,
            title="Alice's, presented for admin",
            why="The evidence is hers, the session would be admin's.",
        ),
    )


def _strangers(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Step, ...]:
    genuine = make_step(
        cast.adfs,
        ALICE,
        sign_in(cast.adfs, ALICE, now, new_id()),
        None,
        title="A key nobody enrolled asks",
        why="Only enrolled FAS servers are answered.",
    )
    return (replace(genuine, decision=UNAUTHORIZED, reason="", known_caller=False),)


def wrapped(genuine: bytes, forged: bytes) -> bytes:
    """`genuine` with the assertion of `forged` before its own, where careless readers look first."""
    response, evil = parse_xml(genuine), parse_xml(forged)
    ours, theirs = response.find(f"{{{SAML}}}Assertion"), evil.find(f"{{{SAML}}}Assertion")
    if ours is None or theirs is None:
        raise ValueError("both responses need a plain assertion")
    ours.addprevious(deepcopy(theirs))
    return etree.tostring(response, encoding="UTF-8", xml_declaration=False)
