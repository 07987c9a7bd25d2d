"""What people are told of an alarm when it is raised."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from evidence_service.notices.model import About, Audience, Message
from idp_certs.alarms import Alarm, Severity, instant_text

FOR_APPROVERS = frozenset({"approval_needed", "approval_overdue"})
"""Alarms that a CA manager can do something about; all others are for those who run the farm."""

REQUEST_NUMBER = "Pending request"
"""The name of the fact that holds the CA's number of a request."""

_TITLES: Mapping[str, str] = {
    "approval_needed": "an authorization certificate waits for approval",
    "approval_overdue": "nobody decided about an authorization certificate",
    "authcert_expired": "the authorization certificate has expired",
    "authcert_expiring": "the authorization certificate expires soon",
    "authcert_revoked": "the authorization certificate is revoked",
    "certificate_expired": "a signing certificate has expired",
    "certificate_expiring": "a signing certificate expires soon",
    "crl_unknown": "whether certificates are revoked cannot be known",
    "definition_names_missing": "a definition names a certificate that is gone",
    "expiry_unknown": "FAS does not tell when a certificate expires",
    "lead_does_not_fit": "the lead of the renewal does not fit",
    "messages_undelivered": "messages are not delivered",
    "metadata_aging": "metadata was not confirmed for long",
    "metadata_depleting": "metadata expires soon",
    "metadata_expired": "metadata has expired",
    "metadata_refused": "metadata is not taken over",
    "no_successor": "a certificate expires and no successor is known",
    "no_trusted_certificate": "no certificate is trusted",
    "own_certificate_expired": "a certificate of the service's own has expired",
    "own_certificate_expiring": "a certificate of the service's own expires soon",
    "plugin_certificate_expired": "a plug-in's certificate has expired",
    "plugin_certificate_expiring": "a plug-in's certificate expires soon",
    "promotion_due": "the next certificate is announced",
    "renewal_denied": "the CA denied the request",
    "renewal_denied_repeatedly": "the CA denied the request again, and the renewal stops",
    "renewal_failing": "the renewal fails",
    "renewal_paused": "the renewal is due, and paused",
    "renewal_stopped": "the renewal needs a person",
    "revoked_key_listed": "a revoked key is still listed",
    "rollover_held": "new certificates wait for approval",
    "server_unreachable": "the FAS server does not answer",
    "source_frozen": "a metadata source stands still",
    "trust_damaged": "what is stored was changed from outside",
    "unknown_signer": "evidence is signed by an unknown key",
    "used_key_left_out": "metadata leaves out the key in use",
    "window_overridden": "a change is made outside of the maintenance windows",
}

_SUBJECTS: Mapping[str, str] = {
    About.IDP: "Identity provider",
    About.FAS_SERVER: "FAS server",
    About.PLUGIN: "Plug-in",
    About.SERVICE: "Service",
}
_LEVEL = re.compile(r"(?:(?P<thing>.*):)?(?:\d+(?:d|h|%)|urgent)|", re.DOTALL)
"""The key of an alarm that is one of several levels of the same thing: 30 days, 14 days, 7 days; nothing, urgent."""


def alarm_fact(alarm: Alarm, raised_at: datetime, *, risen: bool = False) -> str:
    """The name of the fact that this alarm was raised at `raised_at` (UTC), or has become more severe since.

    An alarm that cleared and was raised again is another fact.
    """
    since = raised_at.isoformat()
    return f"alarm:{alarm.about}:{alarm.kind}:{alarm.entity_id}:{alarm.key}:{since}" + f":{alarm.severity}" * risen


def alarm_message(alarm: Alarm, *, raised_at: datetime, risen: bool = False) -> Message:
    """What is told of this alarm, raised at `raised_at` (UTC); `risen`: of its being more severe than it was."""
    about = About(alarm.about) if alarm.about in tuple(About) else About.SERVICE
    title = f"{alarm.entity_id}: {_TITLES.get(alarm.kind, alarm.kind.replace('_', ' '))}"
    number = dict(alarm.facts).get(REQUEST_NUMBER)
    return Message(
        fact=alarm_fact(alarm, raised_at, risen=risen),
        kind=alarm.kind,
        about=about,
        subject=alarm.entity_id,
        severity=alarm.severity,
        audience=Audience.APPROVERS if alarm.kind in FOR_APPROVERS else Audience.OPERATORS,
        title=title if number is None else f"{title} (request {number})",
        paragraphs=(_without_todo(alarm), *alarm.more),
        facts=((_SUBJECTS[about], alarm.entity_id), *alarm.facts, ("Since", instant_text(raised_at))),
        todo=alarm.todo,
        urgent=alarm.severity is Severity.CRITICAL,
    )


def _without_todo(alarm: Alarm) -> str:
    """The text without the advice at its end, which the message has under what to do."""
    return alarm.text.removesuffix(" ".join(alarm.todo)).rstrip() or alarm.text


def worth_telling(raised: Sequence[Alarm]) -> tuple[Alarm, ...]:
    """Those of the alarms raised at once that people are told of.

    Where several levels of the same thing are reached at once, as at a first look, that is the last, the closest.
    """
    last: dict[tuple[str, ...], Alarm] = {}
    for each in raised:
        level = _LEVEL.fullmatch(each.key)
        thing = ("key", each.key) if level is None else ("level of", level["thing"] or "")
        last[each.about, each.kind, each.entity_id, *thing] = each
    return tuple(last.values())
