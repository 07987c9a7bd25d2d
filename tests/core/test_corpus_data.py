"""The corpus itself: it compiles to the committed bytes, and it leaves no rule untried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evidence_service.access.decide import _facts
from evidence_service.access.reasons import AccessReason
from evidence_service.access.rules import RULES
from evidence_service.access.verify import verify_evidence
from idp_certs.reasons import Refused, TrustReason
from tests.corpus import harness
from tests.corpus.build import (
    DATA,
    INDEX,
    SCHEMA,
    compiled,
    differences,
    extract,
    index_text,
    load,
    schema_text,
)

NOT_OF_ONE_DECISION = {
    # The service gives these around the decision: journal, store, clock, load.
    AccessReason.DEADLINE,
    AccessReason.CLOCK_UNTRUSTED,
    AccessReason.JOURNAL_UNAVAILABLE,
    AccessReason.STORE_UNAVAILABLE,
    AccessReason.OVERLOADED,
    AccessReason.INTERNAL_ERROR,
    # A second line of defence: the shape rules refuse whatever could lead to it.
    TrustReason.SIGNED_ELEMENT,
    # Of the metadata loader.
    *(reason for reason in TrustReason if reason.startswith("metadata_")),
}


@pytest.fixture(scope="module")
def fresh() -> str:
    """The data as it compiles now."""
    return compiled()


def test_data_compiles_to_the_committed_bytes(fresh: str) -> None:
    """What is committed is what the functions say, byte for byte."""
    assert differences(DATA.read_text(encoding="utf-8"), fresh) == []


def test_schema_and_index_are_fresh() -> None:
    """The generated schema and the generated page are those of today."""
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()
    assert INDEX.read_text(encoding="utf-8") == index_text(list(harness.cases()))


def test_data_has_the_members_of_the_schema() -> None:
    """Every case holds just the members that the schema lists, and the required ones all."""
    case_schema = json.loads(SCHEMA.read_text(encoding="utf-8"))["properties"]["cases"]["items"]
    required, allowed = set(case_schema["required"]), set(case_schema["properties"])
    for entry in harness.data()["cases"]:
        assert required <= set(entry) <= allowed


def test_ids_are_unique() -> None:
    """No two cases have one id."""
    ids = [case.id for case in harness.cases()]
    assert len(ids) == len(set(ids))


def test_every_case_says_what_it_is() -> None:
    """Each function has a docstring of a sentence."""
    for registered in load():
        text = registered.build.__doc__ or ""
        assert len(text) > 10, registered.build.__qualname__
        assert text.rstrip().endswith((".", ":", "is", "are")), registered.build.__qualname__


def test_metadata_and_policies_are_all_used() -> None:
    """Nothing is stored that no case is judged by."""
    assert {case.metadata for case in harness.cases()} == set(harness.data()["metadata"])
    assert {case.policy for case in harness.cases()} == set(harness.data()["policies"])


def test_every_reason_is_reached() -> None:
    """Each code that one decision can give is the stated reason of a case; no case states another code."""
    codes = {str(reason) for family in (AccessReason, TrustReason) for reason in family}
    stated = {code for case in harness.cases() for code in case.reasons}
    assert stated <= codes | {"ok"}
    sole = {case.reasons[0] for case in harness.cases() if len(case.reasons) == 1}
    assert codes - {str(reason) for reason in NOT_OF_ONE_DECISION} == sole - {"ok"}


def test_every_reason_is_the_only_objection_somewhere() -> None:
    """Each code stands alone in a case: without its rule that case would be an allow."""
    alone = {case.reasons[0] for case in harness.cases() if case.only_objection and len(case.reasons) == 1}
    codes = {str(reason) for family in (AccessReason, TrustReason) for reason in family}
    assert codes - {str(reason) for reason in NOT_OF_ONE_DECISION} <= alone


def test_every_rule_is_the_only_objection_somewhere() -> None:
    """Each rule decides a case by itself: without it that deny would be an allow."""
    deciding = set()
    for case in harness.cases():
        if case.decision == "allow" or not case.only_objection or case.seen is not None:
            continue
        prepared = harness.prepare(case)
        try:
            verified = verify_evidence(prepared.request.evidence, prepared.snapshot)
        except Refused:
            continue
        facts = _facts(prepared.request, prepared.snapshot, verified, prepared.now)
        objecting = [rule for rule in RULES if any(not check.passed for check in rule(facts))]
        if len(objecting) == 1:
            deciding.add(objecting[0])
    assert deciding == set(RULES)


def test_wrapping_is_tried_for_both_users() -> None:
    """Every wrapping arrangement is presented for the victim and for the attacker's own name."""
    ids = {case.id for case in harness.cases()}
    victims = {name.removesuffix("@victim") for name in ids if name.endswith("@victim")}
    assert victims == {name.removesuffix("@attacker") for name in ids if name.endswith("@attacker")}
    assert {f"wrapping::b01_wrapped[xsw{number}]" for number in range(1, 9)} <= victims
    assert {f"wrapping::b09_wrapped_with_the_same_id[xsw{number}]" for number in range(1, 9)} <= victims


def test_extracted_files_are_what_the_command_reads(tmp_path: Path) -> None:
    """Every file that a batch line names exists, and the two line files go together."""
    inside, outside = extract(list(harness.cases()), harness.data(), tmp_path)
    assert inside + outside == len(harness.cases())
    batch = [json.loads(line) for line in (tmp_path / "batch.jsonl").read_text(encoding="utf-8").splitlines()]
    expected = [json.loads(line) for line in (tmp_path / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in batch] == [line["id"] for line in expected]
    assert len(batch) == inside
    for line in batch:
        for member in ("file", "metadata", "policy"):
            assert (tmp_path / line[member]).is_file(), line["id"]
