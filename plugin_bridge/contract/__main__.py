"""Write openapi.json and examples/ from the service's source; with --check, say which are stale and exit 1."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from evidence_service.access.reasons import OK, AccessReason
from evidence_service.web.problems import problem
from evidence_service.web.wire import SAML_RESPONSE, Answer, EvidenceItem, Question, deny_answer, write_answer
from idp_certs.reasons import Reason, TrustReason

HERE = Path(__file__).parent
REQUEST_ID = "7c1e0f52-6f0b-4f0e-9a54-1d9a3f1f6a10"
DECISION_ID = "0198f2c1-9f6e-7c3a-8f57-3f1c7f0f9a11"

_PROBLEMS = {
    400: ("malformed", "Not HTTP, not JSON of this form, or an unknown member; `detail` names it."),
    401: ("unauthorized", "No client certificate or key that is enrolled."),
    403: ("forbidden", "The plug-in was revoked."),
    413: ("content_too_large", "The body is over the limit."),
    415: ("unsupported_media_type", "Another media type, or a content encoding."),
    503: ("overloaded", "Too many questions at a time; `Retry-After` says when to ask again."),
}


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document of the one operation that a plug-in uses."""
    (question, answer), schemas = msgspec.json.schema_components(
        [Question, Answer], ref_template="#/components/schemas/{name}"
    )
    # The plug-in takes no member that it does not know: a service that says more is a service of another contract.
    schemas["Answer"]["additionalProperties"] = False
    schemas["Answer"]["required"] = list(schemas["Answer"]["properties"])
    codes: list[Reason] = sorted([*TrustReason, *AccessReason], key=lambda reason: reason.rank)
    schemas["Answer"]["properties"]["reason"]["examples"] = [OK, *map(str, codes)]
    schemas["Problem"] = {
        "type": "object",
        "description": "RFC 9457. Whatever it says, the plug-in denies.",
        "properties": {
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string", "description": "Stable."},
            "detail": {"type": "string"},
        },
        "required": ["title", "status", "code"],
    }
    refusal = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Logon evidence: decision plane",
            "version": "1",
            "description": "One question for each sign-in and launch. The plug-in goes on at status 200, its own"
            " `request_id` and `allow`; everything else is a deny.",
        },
        "paths": {
            "/v1/decisions": {
                "post": {
                    "operationId": "decide",
                    "summary": "May this sign-in or launch go ahead?",
                    "requestBody": {"required": True, "content": {"application/json": {"schema": question}}},
                    "responses": {
                        "200": {"description": "A decision.", "content": {"application/json": {"schema": answer}}},
                        **{
                            str(status): {"description": description, "content": refusal}
                            for status, (_, description) in _PROBLEMS.items()
                        },
                    },
                    "security": [{"certificate": []}, {"key": []}],
                }
            }
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "certificate": {"type": "mutualTLS", "description": "The certificate that was enrolled."},
                "key": {"type": "http", "scheme": "bearer", "description": "On a loopback listener only."},
            },
        },
    }


def examples() -> dict[str, bytes]:
    """Bodies by file name, as the service reads and writes them."""
    response = b'<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol"/>'
    item = EvidenceItem(type=SAML_RESPONSE, value=base64.b64encode(response).decode())
    least = Question(request_id=REQUEST_ID, upn="alice@corp.example", evidence=[item])
    whole = msgspec.structs.replace(
        least,
        phase="assert",
        sid="S-1-5-21-1004336348-1177238915-682003330-1103",
        rule="default",
        security_context="internal",
        disposition="192.0.2.10",
        storefront="SF01.corp.example",
        fas_server="fas1.corp.example",
        correlation_id="launch-4711",
    )
    allow = Answer(request_id=REQUEST_ID, decision_id=DECISION_ID, decision="allow", reason=OK)
    found = {
        "question-least": msgspec.json.encode(
            {name: getattr(least, name) for name in ("request_id", "upn", "evidence")}
        ),
        "question-whole": msgspec.json.encode(whole),
        "answer-allow": write_answer(allow),
        "answer-allow-with-rule": write_answer(
            msgspec.structs.replace(allow, rule="external", security_context="external")
        ),
        "answer-allow-observed": write_answer(
            msgspec.structs.replace(allow, reason=str(AccessReason.UPN_MISMATCH), mode="observe")
        ),
        "answer-deny": write_answer(deny_answer(REQUEST_ID, DECISION_ID, str(AccessReason.UPN_MISMATCH))),
    }
    for status, (code, _) in _PROBLEMS.items():
        found[f"problem-{status}"] = problem(status, code).body
    return {f"examples/{name}.json": body for name, body in found.items()}


def files() -> dict[str, str]:
    """All that is generated: path under this directory to content."""
    bodies = {"openapi.json": openapi(), **{name: json.loads(body) for name, body in examples().items()}}
    return {name: json.dumps(body, indent=2, ensure_ascii=False) + "\n" for name, body in bodies.items()}


def main(arguments: list[str]) -> int:
    """Write or check; answers the exit code."""
    wanted = files()
    stale = [
        name
        for name, content in wanted.items()
        if not (HERE / name).is_file() or (HERE / name).read_text(encoding="utf-8") != content
    ]
    there = {path.relative_to(HERE).as_posix() for path in HERE.rglob("*.json")}
    surplus = sorted(there - wanted.keys())
    if arguments == ["--check"]:
        for name in [*stale, *surplus]:
            sys.stderr.write(f"plugin_bridge/contract/{name} is stale: python -m plugin_bridge.contract\n")
        return 1 if stale or surplus else 0
    if arguments:
        sys.stderr.write("usage: python -m plugin_bridge.contract [--check]\n")
        return 2
    for name in surplus:
        (HERE / name).unlink()
    for name in stale:
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / name).write_text(wanted[name], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
