"""The registry of cases and their compilation to data."""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lxml import etree

from tests.corpus import access, keys
from tests.corpus import names as n
from tests.corpus.good import AT, Launch, policy_text
from tests.corpus.metadata_documents import DOCUMENTS
from tests.corpus.model import EFFECTS, BugType, Case, Seen, Setting, schema

HERE = Path(__file__).parent
DATA = HERE / "access.json"
SCHEMA = HERE / "corpus.schema.json"
INDEX = HERE.parent.parent / "docs" / "corpus.md"

DECRYPTION_KEYS = ("sp", "sp_old")

Evidence = Launch | bytes | str | None
Builder = Callable[..., Evidence]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """Everything about a case but its evidence."""

    label: str
    decision: str = "deny"
    reasons: tuple[str, ...] = ()
    upn: str = n.ALICE
    both: bool = False
    metadata: str = "idp"
    policy: Mapping[str, object] | None = None
    at: str = AT
    phase: str | None = None
    rule: str | None = None
    seen: Seen | None = None
    setting: Setting | None = None
    bug: BugType = BugType.SIGNATURE_BYPASS
    effect: str = ""
    origin: str = ""
    alone: bool | None = None
    about: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """The argument of one variant of a case, and what it changes in the expectation."""

    argument: object
    changes: Mapping[str, Any]


def given(argument: object = None, **changes: Any) -> Given:
    """One variant: the argument for the function, and changed keywords of `case`."""
    return Given(argument, changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One function of the corpus with its variants."""

    build: Builder
    expectation: Expectation
    each: Mapping[str, object] | None


REGISTRY: list[Registered] = []


def case(label: str, *, each: Mapping[str, object] | None = None, **expected: Any) -> Callable[[Builder], Builder]:
    """Register a function as a case, or as several: one per entry of `each`, called with its value.

    `deny` gives a code or several codes of which any is right; `allow=True` expects an allow. `both=True` tries the
    evidence for the victim and for the attacker's own name. `alone=False` permits further findings. The value of an
    entry of `each` may be `given(argument, **changes)`; an `about` there is added to the description.
    """
    expectation = _changed(Expectation(label=label), expected)

    def register(build: Builder) -> Builder:
        REGISTRY.append(Registered(build=build, expectation=expectation, each=each))
        return build

    return register


def _changed(expectation: Expectation, changes: Mapping[str, Any]) -> Expectation:
    members = dict(changes)
    if members.pop("allow", False):
        members.update(decision="allow", reasons=("ok",))
    deny = members.pop("deny", None)
    if deny is not None:
        members.update(decision="deny", reasons=(deny,) if isinstance(deny, str) else tuple(deny))
    return replace(expectation, **members)


class Compiler:
    """Collects the documents that cases share while cases are built."""

    def __init__(self) -> None:
        """Start empty."""
        self.metadata: dict[str, str] = {}
        self.policies: dict[str, str] = {}
        self.cases: list[Case] = []

    def add(self, registered: Registered) -> None:
        """Build every case of one function."""
        name = f"{registered.build.__module__.rpartition('.')[2]}::{registered.build.__name__}"
        description = " ".join((registered.build.__doc__ or "").split())
        if registered.each is None:
            self._one(name, description, registered.expectation, registered.build())
            return
        for variant, value in registered.each.items():
            entry = value if isinstance(value, Given) else Given(value, {})
            expectation = _changed(registered.expectation, entry.changes)
            shown = f"{description} {expectation.about or _in_words(description, variant)}"
            self._one(f"{name}[{variant}]", shown, expectation, registered.build(entry.argument))

    def _one(self, name: str, description: str, expectation: Expectation, evidence: Evidence) -> None:
        octets = evidence.wire() if isinstance(evidence, Launch) else evidence
        if isinstance(octets, str):
            octets = octets.encode()
        alone = expectation.decision == "deny" if expectation.alone is None else expectation.alone
        made = Case(
            id=name,
            label=expectation.label,
            description=description,
            evidence=octets,
            metadata=self._metadata(expectation.metadata),
            policy=self._policy(expectation.policy or {}),
            upn=expectation.upn,
            at=expectation.at,
            phase=expectation.phase,
            rule=expectation.rule,
            decision=expectation.decision,
            reasons=expectation.reasons,
            only_objection=alone,
            bug_type=expectation.bug if expectation.decision == "deny" else BugType.INTEROP,
            effect=expectation.effect
            or EFFECTS[expectation.bug if expectation.decision == "deny" else BugType.INTEROP],
            origin=expectation.origin,
            seen=expectation.seen,
            setting=expectation.setting,
        )
        if expectation.both:
            self.cases.append(replace(made, id=f"{name}@victim", upn=n.ADMIN))
            self.cases.append(replace(made, id=f"{name}@attacker", upn=n.ALICE))
        else:
            self.cases.append(made)

    def _metadata(self, name: str) -> str:
        if name not in self.metadata:
            self.metadata[name] = etree.tostring(DOCUMENTS[name](), encoding="unicode")
        return name

    def _policy(self, changes: Mapping[str, object]) -> str:
        text = policy_text(**changes)
        name = "base"
        if changes:
            name = f"{'-'.join(changes)}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
        self.policies[name] = text
        return name


def _in_words(description: str, variant: str) -> str:
    words = variant.replace("_", " ")
    return f"({words})" if description.endswith(".") else f"{words}."


def load() -> list[Registered]:
    """Import every module of cases; the registry in a fixed order."""
    for module in sorted(pkgutil.iter_modules(access.__path__), key=lambda module: module.name):
        importlib.import_module(f"{access.__name__}.{module.name}")
    return sorted(REGISTRY, key=lambda entry: (entry.build.__module__, entry.build.__code__.co_firstlineno))


def compile_cases() -> Compiler:
    """Build everything."""
    compiler = Compiler()
    for registered in load():
        compiler.add(registered)
    return compiler


def compiled() -> str:
    """The text of `access.json`."""
    compiler = compile_cases()
    data = {
        "version": 1,
        "metadata": dict(sorted(compiler.metadata.items())),
        "policies": dict(sorted(compiler.policies.items())),
        "decryption_keys": {f"keys/{name}.pem": keys.pem(name) for name in DECRYPTION_KEYS},
        "cases": [made.as_data() for made in compiler.cases],
    }
    return json.dumps(data, indent=1) + "\n"


def schema_text() -> str:
    """The text of `corpus.schema.json`."""
    return json.dumps(schema(), indent=2) + "\n"


def differences(committed: str, fresh: str) -> list[str]:
    """What changed between two texts of the data, one line each; empty where they are the same bytes."""
    if committed == fresh:
        return []
    old, new = (json.loads(text) if text else {"cases": []} for text in (committed, fresh))
    lines = []
    for table in ("metadata", "policies", "decryption_keys"):
        before, after = old.get(table, {}), new.get(table, {})
        lines += [f"{table}: {name}" for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    before = {entry["id"]: entry for entry in old["cases"]}
    after = {entry["id"]: entry for entry in new["cases"]}
    lines += [f"gone: {name}" for name in before if name not in after]
    lines += [f"new: {name}" for name in after if name not in before]
    for name in before:
        if name in after and before[name] != after[name]:
            members = [key for key in after[name] if before[name].get(key) != after[name][key]]
            lines.append(f"changed: {name} ({', '.join(members)})")
    return lines or ["the order or the layout differs"]


def index_text(cases: list[Case]) -> str:
    """The text of `docs/corpus.md`."""
    allows = sum(made.decision == "allow" for made in cases)
    lines = [
        "# Corpus",
        "",
        "The attack and interop corpus: every case with the decision and the reason that are right. The data is",
        "`tests/corpus/access.json`, its form `tests/corpus/corpus.schema.json`; `python -m tests.corpus` compiles it",
        "from the functions in `tests/corpus/access/`. This page is generated: `python -m tests.corpus --docs`.",
        "",
        f"{len(cases)} cases: {allows} must be allowed, {len(cases) - allows} denied.",
        "",
    ]
    for module, entries in _by_module(cases):
        lines += [
            f"## {module}",
            "",
            "| id | label | what | decision | reason | origin |",
            "|---|---|---|---|---|---|",
        ]
        for made in entries:
            reasons = ", ".join(f"`{code}`" for code in made.reasons)
            cells = (f"`{made.id.partition('::')[2]}`", made.label, made.description, made.decision, reasons)
            lines.append("| " + " | ".join(map(_cell, (*cells, made.origin))) + " |")
        lines.append("")
    return "\n".join(lines)


def _by_module(cases: list[Case]) -> Iterator[tuple[str, list[Case]]]:
    modules: dict[str, list[Case]] = {}
    for made in cases:
        modules.setdefault(made.id.partition("::")[0], []).append(made)
    yield from modules.items()


def _cell(text: str) -> str:
    shown = re.sub(r"[^\x20-\x7e]", lambda match: f"U+{ord(match.group()):04X}", text)
    return (
        shown.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
        if ("`" not in shown)
        else shown.replace("|", "\\|")
    )


def _ends_as_text_files_do(evidence: bytes) -> bool:
    """Base64 that ends with a line break: in a file the line break belongs to the file."""
    return evidence.endswith(b"\n") and b"<" not in evidence


def extract(cases: list[Case], data: Mapping[str, Mapping[str, str]], directory: Path) -> tuple[int, int]:
    """Write every case as files, with `batch.jsonl` for `fas-evidence check --batch` and `expected.jsonl`.

    Cases that a file cannot express (no evidence, an earlier sighting, a FAS rule, an administrator's act) are
    written only as evidence; returns how many are in the batch and how many are not.
    """
    for table, suffix in (("metadata", "xml"), ("policies", "toml")):
        (directory / table).mkdir(parents=True, exist_ok=True)
        for name, text in data[table].items():
            (directory / table / f"{name}.{suffix}").write_text(text, encoding="utf-8")
    (directory / "policies" / "keys").mkdir(exist_ok=True)
    for name, text in data["decryption_keys"].items():
        (directory / "policies" / name).write_text(text, encoding="utf-8")
    (directory / "evidence").mkdir(exist_ok=True)
    batch, expected, left_out = [], [], 0
    for number, made in enumerate(cases):
        file = f"evidence/{number:04d}.xml"
        if made.evidence is not None:
            (directory / file).write_bytes(made.evidence)
        if made.evidence is None or made.seen or made.setting or made.rule or _ends_as_text_files_do(made.evidence):
            left_out += 1
            continue
        line = {
            "id": made.id,
            "file": file,
            "metadata": f"metadata/{made.metadata}.xml",
            "upn": made.upn,
            "at": made.at,
            "policy": f"policies/{made.policy}.toml",
        }
        if made.phase is not None:
            line["phase"] = made.phase
        batch.append(json.dumps(line))
        expected.append(
            json.dumps(
                {
                    "id": made.id,
                    "decision": made.decision,
                    "reasons": list(made.reasons),
                    "only_objection": made.only_objection,
                }
            )
        )
    (directory / "batch.jsonl").write_text("".join(f"{line}\n" for line in batch), encoding="utf-8")
    (directory / "expected.jsonl").write_text("".join(f"{line}\n" for line in expected), encoding="utf-8")
    return len(batch), left_out
