"""What the wire takes, what it refuses and which member it then names."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence_service.access.model import Deny, Phase
from evidence_service.access.reasons import AccessReason
from evidence_service.web.wire import Answer, Malformed, deny_answer, read_question, write_answer


def question(**changes: Any) -> dict[str, Any]:
    """A complete question with some members changed."""
    return {
        "request_id": "7c1e",
        "upn": "alice@corp.example",
        "evidence": [{"type": "SAMLResponse", "value": base64.b64encode(b"<xml/>").decode()}],
        "phase": "assert",
        "sid": "S-1-5-21-1",
        "rule": "default",
        "security_context": None,
        "disposition": None,
        "storefront": "SF01.corp.example",
        "fas_server": "fas1.corp.example",
        "correlation_id": None,
        **changes,
    }


def body(**changes: Any) -> bytes:
    """Its JSON."""
    return json.dumps(question(**changes)).encode()


def test_a_complete_question_is_read() -> None:
    """Every member arrives where the decision looks for it."""
    asked = read_question(body())
    assert asked.refusal is None
    assert asked.request.request_id == "7c1e"
    assert asked.request.upn == "alice@corp.example"
    assert asked.request.evidence == (b"<xml/>",)
    assert asked.request.phase is Phase.ASSERT
    assert asked.request.sid == "S-1-5-21-1"
    assert asked.request.rule == "default"
    assert asked.request.storefront == "SF01.corp.example"
    assert asked.request.fas_server == "fas1.corp.example"


def test_three_members_are_enough() -> None:
    """Optional members may be left out or null."""
    asked = read_question(b'{"request_id":"1","upn":"a@b","evidence":[]}')
    assert asked.request.phase is None
    assert asked.request.evidence == ()


def test_escaped_slashes_are_read() -> None:
    """.NET's DataContractJsonSerializer writes every slash of base64 as an escape."""
    raw = b"\xff\xff\xff\xfe"
    escaped = body(evidence=[{"type": "SAMLResponse", "value": base64.b64encode(raw).decode()}]).replace(b"/", b"\\/")
    assert read_question(escaped).request.evidence == (raw,)


@pytest.mark.parametrize("member", ["request_id", "upn", "evidence"])
def test_a_missing_member_is_named(member: str) -> None:
    """What the contract requires cannot be left out."""
    asked = question()
    del asked[member]
    with pytest.raises(Malformed, match=f"missing required field `{member}`"):
        read_question(json.dumps(asked).encode())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"request_id": 7}, "request_id"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"upn": None}, "upn"),
        ({"upn": "x" * 1025}, "upn"),
        ({"evidence": "PHhtbC8+"}, "evidence"),
        ({"evidence": {}}, "evidence"),
        ({"evidence": ["PHhtbC8+"]}, r"evidence\[0\]"),
        ({"evidence": [{"type": "SAMLResponse"}]}, "value"),
        ({"evidence": [{"type": "SAMLResponse", "value": 1}]}, r"evidence\[0\].value"),
        ({"evidence": [{"type": "SAMLResponse", "value": "", "encoding": "raw"}]}, "encoding"),
        ({"evidence": [{"type": "t", "value": ""}] * 17}, "evidence"),
        ({"phase": "launch"}, "phase"),
        ({"sid": "x" * 257}, "sid"),
        ({"rule": 1}, "rule"),
        ({"security_context": {}}, "security_context"),
        ({"upn_hint": "alice"}, "upn_hint"),
        ({"UPN": "alice@corp.example"}, "UPN"),
    ],
)
def test_a_wrong_member_is_named(changes: dict[str, Any], named: str) -> None:
    """Wrong types, unknown members and over-long texts are refused with the member's name."""
    with pytest.raises(Malformed, match=named):
        read_question(body(**changes))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"request_id":"1"', "not JSON"),
        (b'{"request_id":"1","upn":"a@b","evidence":[]} x', "not JSON"),
        (b'{"request_id":"1","upn":"a\nb","evidence":[]}', "not JSON"),
        (b"[]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b'{"request_id":NaN,"upn":"a@b","evidence":[]}', "NaN is not JSON"),
        (b'{"request_id":-Infinity,"upn":"a@b","evidence":[]}', "-Infinity is not JSON"),
        (b'{"request_id":"\xff","upn":"a@b","evidence":[]}', "not UTF-8"),
        (b'{"request_id":"\\ud800","upn":"a@b","evidence":[]}', "`request_id` holds half a surrogate pair"),
        (
            b'{"request_id":"1","upn":"a@b","evidence":[{"type":"\\udfff","value":""}]}',
            "`evidence` holds half a surrogate pair",
        ),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"evidence":' * 100_000, "nested too deeply"),
        (b'{"request_id":' + b"9" * 5000 + b',"upn":"a@b","evidence":[]}', "too long"),
    ],
)
def test_what_is_not_json_is_refused(raw: bytes, said: str) -> None:
    """Only one JSON object in UTF-8 is a question; parsing costs little whatever comes."""
    with pytest.raises(Malformed, match=said):
        read_question(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"request_id":"1","upn":"alice@corp.example","evidence":[],"upn":"bob@corp.example"}',
        b'{"request_id":"1","upn":"a@b","evidence":[{"type":"SAMLResponse","value":"","value":"QQ=="}]}',
        b'{"request_id":"1","upn":"a@b","evidence":[],"\\u0075pn":"b@b"}',
    ],
)
def test_a_member_that_stands_twice_is_refused(raw: bytes) -> None:
    """Two readers could take different ones of two equal names."""
    with pytest.raises(Malformed, match="more than once"):
        read_question(raw)


@pytest.mark.parametrize(
    "value", ["QQ", "QQ=", "QQ===", "Q Q=", "QQ==\n", "QR==", "-_==", "\u0051\u0051==\u00a0", "<xml/>"]
)
def test_broken_base64_is_a_decision(value: str) -> None:
    """Only the one canonical spelling of base64 is decoded; what was sent stays for the record (H08)."""
    asked = read_question(body(evidence=[{"type": "SAMLResponse", "value": value}]))
    assert isinstance(asked.refusal, Deny)
    assert asked.refusal.reason is AccessReason.EVIDENCE_ENCODING
    assert asked.refusal.findings[0].where == "evidence[0].value"
    assert asked.request.evidence == (value.encode(),)


def test_other_evidence_types_are_ignored() -> None:
    """Whatever else FAS holds is not ours to read, not even as base64."""
    asked = read_question(body(evidence=[{"type": "Kerberos", "value": "!!"}, {"type": "samlresponse", "value": "!!"}]))
    assert asked.refusal is None
    assert asked.request.evidence == ()


def test_hostile_member_names_are_shown_harmlessly() -> None:
    """The problem text is one short line whatever the name (H11)."""
    name = "\r\nX-Injected: 1\x1b[31m" + "A" * 10_000
    with pytest.raises(Malformed) as caught:
        read_question(body(**{name: 1}))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def problem_of(raw: bytes) -> str:
    """The refusal's text; empty where the body is read."""
    try:
        read_question(raw)
    except Malformed as error:
        return str(error)
    return ""


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_malformed(raw: bytes) -> None:
    """No body makes the reader fail in another way."""
    assert problem_of(raw).isprintable()


_SCALARS = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_json_is_read_or_malformed(value: object) -> None:
    """No JSON makes the reader fail in another way."""
    for raw in (value, question(upn=value), question(evidence=value), question(evidence=[value])):
        assert problem_of(json.dumps(raw).encode()).isprintable()


def test_the_answer_has_exactly_the_members_of_the_contract() -> None:
    """The order and the nulls are part of what plug-ins were built against."""
    answer = Answer(request_id="7c1e", decision_id="d", decision="allow", reason="ok")
    assert write_answer(answer) == (
        b'{"request_id":"7c1e","decision_id":"d","decision":"allow","reason":"ok",'
        b'"rule":null,"security_context":null,"mode":"enforce"}'
    )
    assert json.loads(write_answer(deny_answer("1", "d", "deadline")))["decision"] == "deny"


def test_promise_5_a_member_given_twice_among_many_costs_little() -> None:
    """The refusal costs one pass, not one per member (promise 5)."""
    names = [f'"{number:x}":0' for number in range(60_000)]
    began = time.process_time()
    with pytest.raises(Malformed, match="the member ea5f stands more than once"):
        read_question(f"{{{','.join([*names, names[-1]])}}}".encode())
    assert time.process_time() - began < 5
