"""The JSON of `POST /v1/decisions`: what a plug-in may say and what it is answered (`docs/wire.md`).

One parser reads each body once. A body that is not exactly of this form is `Malformed`, which is the plug-in's
fault (400); what an administrator has to learn about (no evidence, broken base64 in it, no UPN) is a decision.
"""

from __future__ import annotations

import binascii
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import msgspec
import pybase64

from evidence_service.access.model import AccessRequest, Deny, Mode, Phase, refused
from evidence_service.access.reasons import AccessReason
from evidence_service.web.text import shown

SAML_RESPONSE = "SAMLResponse"
MAX_EVIDENCE_ITEMS = 16

_T = TypeVar("_T")

_Id = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=128,
        description="Chosen by the plug-in and echoed back; a new one for every question.",
        examples=["7c1e0f52-6f0b-4f0e-9a54-1d9a3f1f6a10"],
    ),
]


class EvidenceItem(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One piece of evidence as FAS holds it."""

    type: Annotated[
        str,
        msgspec.Meta(max_length=256, description="`SAMLResponse`; other types are ignored.", examples=[SAML_RESPONSE]),
    ]
    value: Annotated[
        str,
        msgspec.Meta(
            description="Base64 (RFC 4648 section 4: standard alphabet, padded, no line breaks) of the raw bytes.",
            examples=["PHNhbWxwOlJlc3BvbnNl..."],
        ),
    ]


class Question(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body of `POST /v1/decisions`."""

    request_id: _Id
    upn: Annotated[
        str,
        msgspec.Meta(
            max_length=1024, description="The UPN that FAS is about to assert.", examples=["alice@corp.example"]
        ),
    ]
    evidence: Annotated[
        list[EvidenceItem],
        msgspec.Meta(
            max_length=MAX_EVIDENCE_ITEMS,
            description="What FAS holds for this sign-in. Without a `SAMLResponse` the answer is `evidence_missing`.",
        ),
    ]
    phase: Annotated[
        Literal["prepare", "assert"] | None,
        msgspec.Meta(
            description="`prepare`: StoreFront sign-in; `assert`: VDA launch; null: not known.", examples=["assert"]
        ),
    ] = None
    sid: Annotated[Annotated[str, msgspec.Meta(max_length=256)] | None, msgspec.Meta(description="The user's SID.")] = (
        None
    )
    rule: Annotated[
        Annotated[str, msgspec.Meta(max_length=256)] | None,
        msgspec.Meta(description="The FAS rule that was asked for.", examples=["default"]),
    ] = None
    security_context: Annotated[
        Annotated[str, msgspec.Meta(max_length=1024)] | None,
        msgspec.Meta(description="The security context that FAS passes along."),
    ] = None
    disposition: Annotated[
        Annotated[str, msgspec.Meta(max_length=256)] | None,
        msgspec.Meta(description="The access disposition that StoreFront reports."),
    ] = None
    storefront: Annotated[
        Annotated[str, msgspec.Meta(max_length=256)] | None,
        msgspec.Meta(description="The StoreFront server that asked FAS.", examples=["SF01.corp.example"]),
    ] = None
    fas_server: Annotated[
        Annotated[str, msgspec.Meta(max_length=256)] | None,
        msgspec.Meta(description="The FAS server that asks.", examples=["fas1.corp.example"]),
    ] = None
    correlation_id: Annotated[
        Annotated[str, msgspec.Meta(max_length=256)] | None,
        msgspec.Meta(description="An id that ties this question to log lines elsewhere."),
    ] = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a 200 answer. The plug-in allows on exactly one shape: 200, its own `request_id`, `allow`."""

    request_id: Annotated[
        str,
        msgspec.Meta(description="As asked. Empty where this service failed before it could read the question."),
    ]
    decision_id: Annotated[
        str, msgspec.Meta(description="Names the record, if it could be made: `fas-evidence explain DECISION_ID`.")
    ]
    decision: Annotated[Literal["allow", "deny"], msgspec.Meta(description="What the plug-in must do.")]
    reason: Annotated[
        str,
        msgspec.Meta(
            description="`ok`, or the code of `docs/reasons.md`. With `allow` in observe mode: why it would be a deny."
        ),
    ]
    rule: Annotated[str | None, msgspec.Meta(description="The FAS rule to continue with; null: as asked.")] = None
    security_context: Annotated[
        str | None, msgspec.Meta(description="The security context to continue with; null: as asked.")
    ] = None
    mode: Annotated[
        Literal["enforce", "observe"],
        msgspec.Meta(description="`observe`: a deny of the evidence was recorded, and is not enforced."),
    ] = "enforce"


class Malformed(Exception):  # noqa: N818 - an outcome of reading a foreign body
    """The body is not what the contract says; `str()` is one clear line that names the member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as read. `refusal` is set where the wire itself already decides."""

    request: AccessRequest
    refusal: Deny | None = None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen = set()
        for twice, _ in pairs:
            if twice in seen:
                break
            seen.add(twice)
        raise Malformed(f"the member {shown(twice, 64)} stands more than once in one object")
    return members


def _no_constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_no_constant)


def read_json(body: bytes, kind: type[_T]) -> _T:
    """The JSON in `body` as a value of exactly this shape. Raises Malformed."""
    try:
        return msgspec.convert(_DECODER.decode(body.decode("utf-8")), kind)
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8 at byte {error.start}") from error
    except msgspec.ValidationError as error:
        raise Malformed(shown(str(error), 300)) from error
    except json.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise Malformed("the body is nested too deeply") from error
    except ValueError as error:  # a number beyond Python's limit of digits
        raise Malformed("the body holds a number that is too long") from error


def read_question(body: bytes) -> Asked:
    """Read the body of `POST /v1/decisions`. Raises Malformed."""
    question = read_json(body, Question)
    if b"\\u" in body:
        _refuse_surrogates(question)
    evidence = []
    refusal = None
    for index, item in enumerate(question.evidence):
        if item.type != SAML_RESPONSE:
            continue
        raw = _strict_base64(item.value)
        if raw is None:
            raw = item.value.encode("utf-8")
            refusal = refusal or refused(
                AccessReason.EVIDENCE_ENCODING,
                expected="base64 with the standard alphabet, padded, without blanks or line breaks",
                presented=f"{len(item.value)} characters that are not",
                where=f"evidence[{index}].value",
            )
        evidence.append(raw)
    return Asked(
        request=AccessRequest(
            request_id=question.request_id,
            upn=question.upn,
            evidence=tuple(evidence),
            phase=Phase(question.phase) if question.phase else None,
            sid=question.sid,
            rule=question.rule,
            security_context=question.security_context,
            disposition=question.disposition,
            storefront=question.storefront,
            fas_server=question.fas_server,
            correlation_id=question.correlation_id,
        ),
        refusal=refusal,
    )


def _refuse_surrogates(question: Question) -> None:
    """JSON can spell half a UTF-16 pair, which no UTF-8 sink can hold."""
    for name in Question.__struct_fields__:
        value = getattr(question, name)
        texts = [text for item in value for text in (item.type, item.value)] if name == "evidence" else [value]
        for text in texts:
            if text is not None and not text.isascii():
                try:
                    text.encode("utf-8")
                except UnicodeEncodeError as error:
                    raise Malformed(f"`{name}` holds half a surrogate pair") from error


def _strict_base64(value: str) -> bytes | None:
    """The bytes, or None for anything but their one canonical spelling (RFC 4648 sections 3.2, 3.3 and 3.5)."""
    try:
        ascii_value = value.encode("ascii")
        raw = pybase64.b64decode(ascii_value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if pybase64.b64encode(raw) == ascii_value else None


_ENCODER = msgspec.json.Encoder()


def write_answer(answer: Answer) -> bytes:
    """The answer as UTF-8 JSON."""
    return _ENCODER.encode(answer)


def deny_answer(request_id: str, decision_id: str, reason: str) -> Answer:
    """A deny in enforce mode."""
    return Answer(
        request_id=request_id, decision_id=decision_id, decision="deny", reason=reason, mode=Mode.ENFORCE.value
    )
