"""Promise 14: UPN comparison is exact and boring."""

from __future__ import annotations

import pytest

from evidence_service.access.model import UpnMapping
from evidence_service.access.upn import MAX_UPN_LENGTH, fold_upn, has_suffix, map_upn, upn_problem
from tests.core.given import ALLOW, OKTA, changed, deny, idp_of, judged, outcome, policy_for, snapshot_of, with_text

NAME_ID: str = "s:Assertion/s:Subject/s:NameID"


@pytest.mark.parametrize(
    ("claimed", "asked", "expected"),
    [
        ("alice@corp.example", "alice@corp.example", ALLOW),
        ("ALICE@corp.example", "alice@CORP.EXAMPLE", ALLOW),
        ("élan@corp.example", "élan@corp.example", ALLOW),
        ("o'neil.b-c_d+e@corp.example", "o'neil.b-c_d+e@corp.example", ALLOW),
        ("alice@corp.example", "alicf@corp.example", deny("upn_mismatch")),
        ("alice@corp.example", "alice@corp.example.", deny("upn_mismatch")),
        ("Élan@corp.example", "élan@corp.example", deny("upn_mismatch")),
        ("\u212aelvin@corp.example", "kelvin@corp.example", deny("upn_invalid")),
        ("kate@corp.example", "\u212aate@corp.example", deny("upn_invalid", "upn_mismatch")),
        ("ma\u017fs@corp.example", "mass@corp.example", deny("upn_mismatch")),
        ("straße@corp.example", "strasse@corp.example", deny("upn_mismatch")),
        ("al\u0131ce@corp.example", "alice@corp.example", deny("upn_mismatch")),
        ("al\u0130ce@corp.example", "alice@corp.example", deny("upn_mismatch")),
        ("\u0430lice@corp.example", "alice@corp.example", deny("upn_mismatch")),
        ("ａlice@corp.example", "alice@corp.example", deny("upn_mismatch")),
        ("alice＠corp.example", "alice@corp.example", deny("upn_invalid")),
        ("e\u0301lan@corp.example", "élan@corp.example", deny("upn_invalid")),
        ("alice@corp.example ", "alice@corp.example", deny("upn_invalid")),
        (" alice@corp.example", "alice@corp.example", deny("upn_invalid")),
        ("alice@corp.example\n", "alice@corp.example", deny("upn_invalid")),
        ("alice\u00a0@corp.example", "alice@corp.example", deny("upn_invalid")),
        ("alice\u200b@corp.example", "alice@corp.example", deny("upn_invalid")),
        ("alice\u202e@corp.example", "alice@corp.example", deny("upn_invalid")),
        ("alice\ufeff@corp.example", "alice@corp.example", deny("upn_invalid")),
        ("alice\u0085@corp.example", "alice@corp.example", deny("upn_invalid")),
        ("alice@corp.example@corp.example", "alice@corp.example", deny("upn_invalid")),
        ("alice", "alice", deny("upn_invalid")),
        ("@corp.example", "@corp.example", deny("upn_invalid")),
        ("alice@", "alice@", deny("upn_invalid")),
        ("", "", deny("upn_expected_missing", "upn_invalid")),
        ("alice@corp.example", "", deny("upn_expected_missing")),
        ("alice@corp.example", "alice@corp.example\x00", deny("upn_invalid", "upn_mismatch")),
        ("alice@corp.example", "alice@corp.example ", deny("upn_invalid", "upn_mismatch")),
        ("CORP\\alice", "alice@corp.example", deny("upn_invalid")),
        ("alice@sub.corp.example", "alice@sub.corp.example", deny("upn_suffix_not_allowed")),
        ("alice@notcorp.example", "alice@notcorp.example", deny("upn_suffix_not_allowed")),
        ("alice@corp.example.evil", "alice@corp.example.evil", deny("upn_suffix_not_allowed")),
        ("x" * (MAX_UPN_LENGTH - 13) + "@corp.example", "x" * (MAX_UPN_LENGTH - 13) + "@corp.example", ALLOW),
        ("x" * (MAX_UPN_LENGTH - 12) + "@corp.example", "alice@corp.example", deny("upn_invalid")),
    ],
)
def test_promise_14(claimed: str, asked: str, expected: tuple[str, ...]) -> None:
    """Only the case of ASCII letters is forgiven; every other difference is a deny with its reason."""
    evidence = changed(with_text(NAME_ID, claimed), idp_of(OKTA))

    assert outcome(judged(evidence, snapshot_of(policy_for(OKTA)), upn=asked)) == expected


def test_promise_14_a_comment_inside() -> None:
    """A comment cannot cut a UPN short."""
    evidence = changed(with_text(NAME_ID, "alice@corp.exampleCUT.evil"), idp_of(OKTA)).replace(b"CUT", b"<!-- -->")

    assert outcome(judged(evidence, snapshot_of(policy_for(OKTA)))) == deny("xml_comment_or_pi")


@pytest.mark.parametrize(
    ("upn", "problem"),
    [
        ("a@b", None),
        ("", "empty"),
        ("a" * 1025, "longer than 1024 characters"),
        ("a", "not of the form name@suffix"),
        ("a@", "not of the form name@suffix"),
        ("@b", "not of the form name@suffix"),
        ("a@b@c", "not of the form name@suffix"),
        ("a @b", "with blank, control or format characters"),
        ("a\ue000@b", "with blank, control or format characters"),
        ("a\U000e0001@b", "with blank, control or format characters"),
        ("e\u0301@b", "not in Unicode normalization form C"),
    ],
)
def test_problems(upn: str, problem: str | None) -> None:
    """What is wrong with a UPN is said in a few words."""
    assert upn_problem(upn) == problem


_MAP = (
    UpnMapping(source="boss@old.example", target="ceo@corp.example"),
    UpnMapping(source="@OLD.example", target="@corp.example"),
    UpnMapping(source="@corp.example", target="@new.example"),
    UpnMapping(source="late@old.example", target="never@corp.example"),
)


@pytest.mark.parametrize(
    ("upn", "expected"),
    [
        ("boss@old.example", "ceo@corp.example"),
        ("BOSS@Old.example", "ceo@corp.example"),
        ("alice@old.example", "alice@corp.example"),
        ("Alice@oLd.example", "Alice@corp.example"),
        ("alice@corp.example", "alice@new.example"),
        ("late@old.example", "late@corp.example"),
        ("alice@very.old.example", "alice@very.old.example"),
        ("alice@other.example", "alice@other.example"),
    ],
)
def test_mapping(upn: str, expected: str) -> None:
    """The first entry that fits the whole UPN or the whole suffix is used, once."""
    assert map_upn(upn, _MAP) == expected


def test_mapped_evidence() -> None:
    """Who is asked for is compared after mapping, and so is the suffix that the IdP may speak for."""
    evidence = changed(with_text(NAME_ID, "alice@old.example"), idp_of(OKTA))
    mapped = snapshot_of(policy_for(OKTA, upn_map=_MAP))

    assert outcome(judged(evidence, mapped)) == ALLOW
    assert outcome(judged(evidence, mapped, upn="alice@old.example")) == deny("upn_mismatch")
    assert outcome(judged(evidence, snapshot_of(policy_for(OKTA)))) == deny("upn_mismatch", "upn_suffix_not_allowed")


def test_suffixes() -> None:
    """An empty list of suffixes is nobody; ASCII case is forgiven."""
    assert has_suffix("a@Corp.example", ("x.example", "cORP.example"))
    assert not has_suffix("a@corp.example", ())
    assert not has_suffix("a@corp.example", ("example", "@corp.example", ".example", ""))
    assert fold_upn("ÀZ@Ŝ") == "Àz@Ŝ"
