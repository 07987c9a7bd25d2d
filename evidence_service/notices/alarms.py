"""What people are told of an alarm when it is raised, and when it is over."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from evidence_service.notices.model import About, Audience, Message
from idp_certs.alarms import Alarm, Severity, instant_text, span_text

FOR_APPROVERS = frozenset({"approval_needed", "approval_overdue"})
"""Alarms that a CA manager can do something about; all others are for those who run the farm."""

REQUEST_NUMBER = "Pending request"
"""The name of the fact that holds the CA's number of a request."""
_SINCE = "Since"

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
    "failed_certificate_left": "a certificate that failed is still on the server",
    "lead_does_not_fit": "the lead of the renewal does not fit",
    "maintenance_lasts": "the FAS server stays in maintenance",
    "messages_undelivered": "messages are not delivered",
    "metadata_aging": "metadata was not confirmed for long",
    "metadata_depleting": "metadata expires soon",
    "metadata_expired": "metadata has expired",
    "metadata_refused": "metadata is not taken over",
    "no_successor": "a certificate expires and no successor is known",
    "no_trusted_certificate": "no certificate is trusted",
    "own_certificate_expired": "a certificate of the service's own has expired",
    "own_certificate_expiring": "a certificate of the service's own expires soon",
    "own_certificate_unreadable": "a certificate of the service's own cannot be read",
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
_LEVEL = re.compile(r"(?:(?P<thing>.*):)?(?:(?P<days>\d+)d|\d+(?:h|%)|week \d+|urgent|expired)", re.DOTALL)
"""The key of an alarm that is one of several levels of the same thing: 30 days, 14 days, 7 days; nothing, urgent."""
_WORSE: Mapping[str, str] = {
    "approval_overdue": "approval_needed",
    "authcert_expired": "authcert_expiring",
    "certificate_expired": "certificate_expiring",
    "metadata_aging": "metadata_expired",
    "metadata_depleting": "metadata_expired",
    "no_successor": "certificate_expiring",
    "own_certificate_expired": "own_certificate_expiring",
    "plugin_certificate_expired": "plugin_certificate_expiring",
    "renewal_denied_repeatedly": "renewal_denied",
}
"""Kinds that are levels of the same thing: what has expired does not expire soon any more, and nothing is over."""

OVER = "alarm_over"
"""The kind of the message that an alarm is over."""
_ENDS_UNTOLD = frozenset({"promotion_due", "window_overridden"})
"""Alarms that tell of something that was done, or asks for nothing: that they end says nothing."""
_AFTERWARDS: Mapping[str, str] = {
    "approval_needed": (
        "The request does not wait any more: it was issued, denied or withdrawn, and no reminder follows. If it was "
        "withdrawn, another message says what is left to do at the CA."
    ),
    "messages_undelivered": "What was given up is not sent again: `fas-evidence notify list` lists it.",
    "renewal_denied": (
        "The CA was asked again, or the time until it may be is over. `fas-evidence authcert status` says which."
    ),
    "unknown_signer": "For a day no such evidence came, or its key is known now.",
}


def _alarm_fact(alarm: Alarm, raised_at: datetime, *, risen: bool = False) -> str:
    """The name of the fact that this alarm was raised at `raised_at` (UTC), or has become more severe since.

    An alarm that cleared and was raised again is another fact.
    """
    since = raised_at.isoformat()
    return f"alarm:{alarm.about}:{alarm.kind}:{alarm.entity_id}:{alarm.key}:{since}" + f":{alarm.severity}" * risen


def alarm_message(alarm: Alarm, *, raised_at: datetime, risen: bool = False) -> Message:
    """What is told of this alarm, raised at `raised_at` (UTC); `risen`: of its being more severe than it was."""
    about = About(alarm.about) if alarm.about in tuple(About) else About.SERVICE
    return Message(
        fact=_alarm_fact(alarm, raised_at, risen=risen),
        kind=alarm.kind,
        about=about,
        subject=alarm.entity_id,
        severity=alarm.severity,
        audience=Audience.APPROVERS if alarm.kind in FOR_APPROVERS else Audience.OPERATORS,
        title=f"{alarm.entity_id}: {_what(alarm)}",
        paragraphs=(_without_todo(alarm), *alarm.more),
        facts=((_SUBJECTS[about], alarm.entity_id), *alarm.facts, (_SINCE, instant_text(raised_at))),
        todo=alarm.todo or _todo(alarm),
        urgent=alarm.severity is Severity.CRITICAL,
    )


def _what(alarm: Alarm) -> str:
    """What it is about in a few words, with how many days are left where that is its level."""
    level = _LEVEL.fullmatch(alarm.key)
    what = title_text(alarm.kind)
    if level is None or level["days"] is None:
        return _numbered(what, alarm.facts)
    days = "a day" if level["days"] == "1" else f"{level['days']} days"
    if what.endswith(" soon"):
        return _numbered(f"{what.removesuffix(' soon')} within {days}", alarm.facts)
    return f"{_numbered(what, alarm.facts)}, the old one expires within {days}"


def _numbered(what: str, facts: Sequence[tuple[str, str]]) -> str:
    number = dict(facts).get(REQUEST_NUMBER)
    return what if number is None else f"{what} (request {number})"


def title_text(kind: str) -> str:
    """An alarm of this kind in a few words."""
    return _TITLES.get(kind, kind.replace("_", " "))


def _todo(alarm: Alarm) -> tuple[str, ...]:
    """Where everything about an identity provider is seen; what to do is in the text of its alarms."""
    if alarm.about != About.IDP:
        return ()
    return (f"See how it stands: `fas-evidence idp show {shlex.quote(alarm.entity_id)}`.",)


def _without_todo(alarm: Alarm) -> str:
    """The text without the advice at its end, which the message has under what to do."""
    return alarm.text.removesuffix(" ".join(alarm.todo)).rstrip() or alarm.text


def worth_telling(raised: Sequence[Alarm]) -> tuple[Alarm, ...]:
    """Those of the alarms raised at once that people are told of.

    Where several levels of the same thing are reached at once, as at a first look, that is the last, the closest.
    """
    return tuple({thing_of(each): each for each in raised}.values())


def thing_of(alarm: Alarm) -> tuple[str, str, str, str]:
    """What the alarm is a level of: the same for all levels, and for the kinds that follow each other."""
    level = _LEVEL.fullmatch(alarm.key)
    key = alarm.key if level is None else level["thing"] or ""
    return alarm.about, _WORSE.get(alarm.kind, alarm.kind), alarm.entity_id, key


def end_is_told(alarm: Alarm) -> bool:
    """Whether people who were told of it are told that it is over."""
    return alarm.kind not in _ENDS_UNTOLD


def over_message(
    told: Message, *, raised_at: datetime, cleared_at: datetime, urgent: bool, standing: Collection[str]
) -> Message:
    """What is told when nothing is left of what `told` told of, first raised and last cleared then (UTC).

    `urgent`: those were told who are told of what is urgent alone. `standing` are the kinds of alarms that stand about
    the same subject.
    """
    what = _numbered(title_text(told.kind), told.facts)
    stood = span_text(cleared_at - raised_at)
    afterwards = _AFTERWARDS.get(_WORSE.get(told.kind, told.kind))
    still = "; ".join(dict.fromkeys(map(title_text, standing)))
    return Message(
        fact=f"over:{told.fact}",
        kind=OVER,
        about=told.about,
        subject=told.subject,
        severity=Severity.NOTICE,
        audience=told.audience,
        title=f"{told.subject}: over: {what}",
        paragraphs=(
            f"This is over, after {stood}: {what}.",
            *(() if afterwards is None else (afterwards,)),
            f"Another alarm stands: {still}." if still else f"No other alarm stands about {told.subject}.",
        ),
        facts=(
            *(each for each in told.facts if each[0] != _SINCE),
            ("Alarm", told.kind),
            (_SINCE, instant_text(raised_at)),
            ("Until", instant_text(cleared_at)),
        ),
        urgent=urgent,
    )
