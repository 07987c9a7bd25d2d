"""`rule`: what is special about requests that name one FAS rule."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from evidence_service.access.findings import show
from evidence_service.access.model import FasRule, Mode
from evidence_service.access.policy import PolicyError, parse_policy
from evidence_service.adapters.config_store import ConfigStore
from evidence_service.cli import output
from evidence_service.cli.errors import BadInput, ExitCode, NothingFound
from evidence_service.cli.output import Cell, Output
from evidence_service.cli.session import Session, actor


def set_rule(
    session: Session, name: str, *, mode: str, max_age: str | None, entity_ids: tuple[str, ...], dry_run: bool
) -> int:
    """Add or replace a rule. Entity IDs must be registered."""
    rule = FasRule(
        name=name,
        mode=Mode(mode),
        max_age=None if max_age is None else _duration(max_age),
        entity_ids=frozenset(entity_ids) or None,
    )
    with session.store() as engine:
        store = ConfigStore(engine)
        known = {idp.entity_id for idp in store.list_idps()}
        for entity_id in entity_ids:
            if entity_id not in known:
                raise BadInput(f"--idp: no identity provider {entity_id!r} is registered; see `fas-evidence idp list`")
        first = not store.list_rules()
        if not dry_run:
            store.set_rule(rule, now=datetime.now(UTC), actor=actor())
    output.line(f"Rule {name} {'would be' if dry_run else 'is'} set.")
    if first:
        when = "would be denied" if dry_run else "are denied from now on"
        output.warning(f"this is the first rule: requests that name any other rule {when}")
    if rule.mode is Mode.OBSERVE:
        output.warning(f"rule {name} only observes: every deny {'would be' if dry_run else 'is'} answered allow")
    if dry_run:
        output.nothing_changed()
    return ExitCode.DONE


def _duration(text: str) -> timedelta:
    """A duration as policies have it. Raises BadInput."""
    try:
        return parse_policy(f"max_age = {json.dumps(text)}").max_age
    except PolicyError as problem:
        raise BadInput(f"--max-age: {str(problem).removeprefix('policy member `max_age`: ')}") from None


def list_rules(session: Session, form: Output) -> int:
    """Print all rules."""
    with session.store() as engine:
        stored = ConfigStore(engine).list_rules()
    if form is Output.JSON:
        output.emit_json([_json(rule) for rule in stored])
        return ExitCode.DONE
    rows = [
        (
            rule.name,
            Cell(value=rule.mode.value, style="" if rule.mode is Mode.ENFORCE else "bold yellow"),
            "as the IdP's policy" if rule.max_age is None else show(rule.max_age),
            "all" if rule.entity_ids is None else ", ".join(sorted(rule.entity_ids)),
        )
        for rule in stored
    ]
    nothing = "No rule is set: every FAS rule is accepted and enforced."
    output.table(("rule", "mode", "max age", "IdPs"), rows, nothing=nothing)
    return ExitCode.DONE


def _json(rule: FasRule) -> dict[str, object]:
    return {
        "name": rule.name,
        "mode": rule.mode.value,
        "max_age_seconds": None if rule.max_age is None else rule.max_age.total_seconds(),
        "idps": None if rule.entity_ids is None else sorted(rule.entity_ids),
    }


def remove_rule(session: Session, name: str, *, dry_run: bool) -> int:
    """Remove a rule; says so where it was the last one, as then every rule is accepted."""
    with session.store() as engine:
        store = ConfigStore(engine)
        names = [rule.name for rule in store.list_rules()]
        if name not in names:
            raise NothingFound(f"there is no rule {name!r}; `fas-evidence rule list` shows all")
        if not dry_run:
            store.remove_rule(name, now=datetime.now(UTC), actor=actor())
    output.line(f"Rule {name} {'would be' if dry_run else 'is'} removed.")
    if len(names) == 1:
        tense = ("is", "would be accepted and enforced") if dry_run else ("was", "is accepted and enforced from now on")
        output.warning(f"it {tense[0]} the last rule: every FAS rule {tense[1]}")
    if dry_run:
        output.nothing_changed()
    return ExitCode.DONE
