"""Rules about who the evidence is for, and for which FAS rule it may be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from evidence_service.access.facts import Facts
from evidence_service.access.model import Check
from evidence_service.access.reasons import AccessReason
from evidence_service.access.upn import fold_upn, has_suffix, map_upn, upn_problem

_NAME_ID = "Assertion.Subject.NameID"
_NAME_ID_FORMATS_WITHOUT_UPN = frozenset(
    {
        "",
        "urn:oasis:names:tc:SAML:2.0:nameid-format:transient",
        "urn:oasis:names:tc:SAML:2.0:nameid-format:entity",
        "urn:oasis:names:tc:SAML:2.0:nameid-format:encrypted",
    }
)


def expected_upn(facts: Facts) -> Iterator[Check]:
    """FAS must say for whom it asks; an empty UPN must never equal an empty claim."""
    upn = facts.request.upn
    yield Check(
        reason=AccessReason.UPN_EXPECTED_MISSING,
        passed=bool(upn),
        expected="a UPN",
        presented="present" if upn else "none",
        where="request.upn",
    )
    if upn:
        problem = upn_problem(upn)
        yield Check(
            reason=AccessReason.UPN_INVALID,
            passed=problem is None,
            expected="name@suffix",
            presented=problem or upn,
            where="request.upn",
        )


def claimed_upn(facts: Facts) -> Iterator[Check]:
    """One UPN in the first configured source that is present; then the presented one, and a suffix of this IdP."""
    where, values = _source(facts)
    name_ids = len(facts.assertion.name_ids)
    if name_ids > 1 and where != _NAME_ID:  # readers of the first and of the last would differ, whoever reads it
        yield Check(
            reason=AccessReason.UPN_AMBIGUOUS,
            passed=False,
            expected="one NameID",
            presented=str(name_ids),
            where=_NAME_ID,
        )
    yield Check(
        reason=AccessReason.UPN_MISSING,
        passed=bool(values),
        expected=facts.policy.upn_from,
        presented=where or "none of them",
        where=where or "Assertion",
    )
    if not values:
        return
    yield Check(
        reason=AccessReason.UPN_AMBIGUOUS,
        passed=len(values) == 1,
        expected="one value",
        presented="one" if len(values) == 1 else str(len(values)),
        where=where,
    )
    if len(values) == 1:
        yield from _judge(facts, where, values[0])


def _source(facts: Facts) -> tuple[str, tuple[str | None, ...]]:
    """The first source that is present, and its values; several Attributes of one Name give the values of all."""
    for source in facts.policy.upn_from:
        if source == "nameid":
            if facts.assertion.name_ids:
                return _NAME_ID, tuple(
                    None if each.format in _NAME_ID_FORMATS_WITHOUT_UPN else each.value
                    for each in facts.assertion.name_ids
                )
            continue
        attributes = facts.assertion.attributes.get(source.removeprefix("attribute:"))
        if attributes:
            values = tuple(value for each in attributes for value in each)
            repeated = len(attributes) > 1 and len(values) == 1
            return f"Assertion.AttributeStatement.{source}", (*values, None) if repeated else values
    return "", ()


def mapped_upn(facts: Facts) -> str | None:
    """The UPN that the evidence speaks for, after mapping; None where there is not exactly one well-formed UPN."""
    _, values = _source(facts)
    claimed = values[0] if len(values) == 1 else None
    return None if claimed is None or upn_problem(claimed) else map_upn(claimed, facts.policy.upn_map)


def _judge(facts: Facts, where: str, claimed: str | None) -> Iterator[Check]:
    problem = "not a text, or a NameID of a Format that holds no UPN" if claimed is None else upn_problem(claimed)
    yield Check(
        reason=AccessReason.UPN_INVALID,
        passed=problem is None,
        expected="name@suffix",
        presented=problem or claimed,
        where=where,
    )
    if problem is not None or claimed is None:
        return
    upn = map_upn(claimed, facts.policy.upn_map)
    if facts.request.upn:
        yield Check(
            reason=AccessReason.UPN_MISMATCH,
            passed=fold_upn(upn) == fold_upn(facts.request.upn),
            expected=facts.request.upn,
            presented=upn if upn == claimed else f"{upn} (mapped from {claimed})",
            where=where,
        )
    yield Check(
        reason=AccessReason.UPN_SUFFIX_NOT_ALLOWED,
        passed=has_suffix(upn, facts.policy.upn_suffixes),
        expected=facts.policy.upn_suffixes or "none: this IdP speaks for nobody",
        presented=upn.partition("@")[2],
        where=where,
    )


def fas_rule(facts: Facts) -> Iterator[Check]:
    """The FAS rule must be one that is configured, and this IdP one that it may be used with."""
    rule = facts.rule
    allowed = facts.rule_is_known and (rule is None or rule.entity_ids is None or facts.entity_id in rule.entity_ids)
    yield Check(
        reason=AccessReason.RULE_NOT_ALLOWED,
        passed=allowed,
        expected="a configured rule that names this IdP" if not allowed else "a rule for this IdP",
        presented=facts.request.rule or "default",
        where="request.rule",
    )


IDENTITY_RULES: tuple[Callable[[Facts], Iterator[Check]], ...] = (expected_upn, claimed_upn, fas_rule)
