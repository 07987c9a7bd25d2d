"""What a case is: one request, what it is judged by, and the decision and reason that are right.

The compiled data (`access.json`) holds the same members; evidence is base64, metadata and policies are stored once
under a name. `corpus.schema.json` is generated from here.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class BugType(StrEnum):
    """What kind of fault a verifier has that gets the case wrong."""

    SIGNATURE_BYPASS = "SIGNATURE_BYPASS"
    KEY_CONFUSION = "KEY_CONFUSION"
    WRAPPING = "WRAPPING"
    PARSER_DIFFERENTIAL = "PARSER_DIFFERENTIAL"
    DENIAL_OF_SERVICE = "DENIAL_OF_SERVICE"
    SERVER_SIDE_REQUEST = "SERVER_SIDE_REQUEST"
    WEAK_CRYPTOGRAPHY = "WEAK_CRYPTOGRAPHY"
    DECRYPTION_ORACLE = "DECRYPTION_ORACLE"
    CLAIM_BYPASS = "CLAIM_BYPASS"
    IDENTITY_CONFUSION = "IDENTITY_CONFUSION"
    REPLAY = "REPLAY"
    FAIL_OPEN = "FAIL_OPEN"
    INTEROP = "INTEROP"


EFFECTS: Mapping[BugType, str] = {
    BugType.SIGNATURE_BYPASS: "Anyone signs in as anyone.",
    BugType.KEY_CONFUSION: "Whoever holds another key signs in as anyone.",
    BugType.WRAPPING: "A holder of one genuine response signs in as anyone.",
    BugType.PARSER_DIFFERENTIAL: "What is judged is not what was signed, so a user may become another.",
    BugType.DENIAL_OF_SERVICE: "One request takes the service away from everyone.",
    BugType.SERVER_SIDE_REQUEST: "The service reads files or calls addresses that the sender chooses.",
    BugType.WEAK_CRYPTOGRAPHY: "A signature or encryption that can be broken is relied on.",
    BugType.DECRYPTION_ORACLE: "The sender learns plaintext from how the service answers.",
    BugType.CLAIM_BYPASS: "Evidence is accepted for a purpose, time or place it was not issued for.",
    BugType.IDENTITY_CONFUSION: "A user signs in as another user whose name looks alike.",
    BugType.REPLAY: "Evidence of one sign-in is used for another.",
    BugType.FAIL_OPEN: "A fault of configuration or operation lets everyone in.",
    BugType.INTEROP: "Users of a genuine identity provider cannot work.",
}
"""What happens where a verifier with the fault accepts (for INTEROP: refuses)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An earlier sighting of the same assertion.

    `content` is `same` (what this evidence says) or `other`; `first_seen` is UTC. `issuer` and `assertion_id` are
    those of this evidence.
    """

    content: str
    upn: str
    first_seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What an administrator or time did to the trust, beyond metadata and policy; the defaults are nothing.

    `certificates` maps the SHA-256 of a certificate to (state, since). `rules` maps a FAS rule to the entity IDs it
    may be used with (None: all). `deny_after` is when stale metadata ends the trust.
    """

    enabled: bool = True
    deny_after: str | None = None
    certificates: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    rules: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case. `evidence` None: FAS handed over no SAMLResponse.

    `reasons` holds every code that is right (`ok` for an allow). With `only_objection` no finding may have another
    code. `effect` says what it costs to get the case wrong; `origin` where it comes from.
    """

    id: str
    label: str
    description: str
    evidence: bytes | None
    metadata: str
    policy: str
    upn: str
    at: str
    phase: str | None
    rule: str | None
    decision: str
    reasons: tuple[str, ...]
    only_objection: bool
    bug_type: BugType
    effect: str
    origin: str
    seen: Seen | None = None
    setting: Setting | None = None

    @property
    def group(self) -> str:
        """The letter of the label."""
        return self.label[0]

    def as_data(self) -> dict[str, Any]:
        """The case as it stands in the compiled data."""
        data: dict[str, Any] = {
            "id": self.id,
            "label": self.label,
            "group": self.group,
            "description": self.description,
            "bug_type": str(self.bug_type),
            "effect": self.effect,
            "origin": self.origin,
            "upn": self.upn,
            "at": self.at,
            "phase": self.phase,
            "rule": self.rule,
            "metadata": self.metadata,
            "policy": self.policy,
            "decision": self.decision,
            "reasons": list(self.reasons),
            "only_objection": self.only_objection,
            "evidence": None if self.evidence is None else base64.b64encode(self.evidence).decode(),
        }
        if self.seen is not None:
            data["seen"] = {
                "content": self.seen.content,
                "upn": self.seen.upn,
                "first_seen": self.seen.first_seen,
            }
        if self.setting is not None:
            data["setting"] = {
                "enabled": self.setting.enabled,
                "deny_after": self.setting.deny_after,
                "certificates": {key: list(value) for key, value in self.setting.certificates.items()},
                "rules": {
                    name: None if entities is None else list(entities) for name, entities in self.setting.rules.items()
                },
            }
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Case:
        """A case read back from the compiled data."""
        members = {key: value for key, value in data.items() if key != "group"}
        if members["evidence"] is not None:
            members["evidence"] = base64.b64decode(members["evidence"], validate=True)
        members["reasons"] = tuple(members["reasons"])
        members["bug_type"] = BugType(members["bug_type"])
        if "seen" in members:
            members["seen"] = Seen(**members["seen"])
        if "setting" in members:
            setting = dict(members["setting"])
            setting["certificates"] = {key: tuple(value) for key, value in setting["certificates"].items()}
            setting["rules"] = {
                name: None if entities is None else tuple(entities) for name, entities in setting["rules"].items()
            }
            members["setting"] = Setting(**setting)
        return cls(**members)


def schema() -> dict[str, Any]:
    """The JSON schema of the compiled data."""
    text = {"type": "string"}
    optional = {"type": ["string", "null"]}
    names = {"type": "array", "items": text}
    case = {
        "id": {"type": "string", "pattern": "^[a-z_0-9]+::[a-z_0-9]+(\\[[^\\]]+\\])?(@victim|@attacker)?$"},
        "label": {"type": "string", "pattern": "^[A-Z][0-9]+[a-z]?$"},
        "group": {"type": "string", "pattern": "^[A-Z]$"},
        "description": {"type": "string", "minLength": 1},
        "bug_type": {"enum": [str(kind) for kind in BugType]},
        "effect": {"type": "string", "minLength": 1},
        "origin": text,
        "upn": text,
        "at": text,
        "phase": {"enum": ["prepare", "assert", None]},
        "rule": optional,
        "metadata": text,
        "policy": text,
        "decision": {"enum": ["allow", "deny"]},
        "reasons": {**names, "minItems": 1, "uniqueItems": True},
        "only_objection": {"type": "boolean"},
        "evidence": {**optional, "contentEncoding": "base64"},
    }
    seen = {"content": {"enum": ["same", "other"]}, "upn": text, "first_seen": text}
    setting = {
        "enabled": {"type": "boolean"},
        "deny_after": optional,
        "certificates": {"type": "object", "additionalProperties": names},
        "rules": {"type": "object", "additionalProperties": {**names, "type": ["array", "null"]}},
    }
    documents = {"type": "object", "additionalProperties": text}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Attack and interop corpus of access requests",
        **_closed(
            {
                "version": {"const": 1},
                "metadata": documents,
                "policies": documents,
                "decryption_keys": documents,
                "cases": {
                    "type": "array",
                    "items": _closed(case, optional={"seen": _closed(seen), "setting": _closed(setting)}),
                },
            }
        ),
    }


def _closed(members: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(members),
        "properties": {**members, **(optional or {})},
    }
