"""What about a FAS server needs a person, when it starts and when it is gone; and what is told of each act."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from evidence_service.notices.alarms import alarm_message
from evidence_service.notices.model import Audience, Message
from evidence_service.renewal.alarms import ServerView, renewal_alarms
from evidence_service.renewal.applying import to_withdraw
from evidence_service.renewal.approvals import host_of, machine_account
from evidence_service.renewal.farm import FasServer, Local, WinRm
from evidence_service.renewal.messages import message_of
from evidence_service.renewal.model import (
    Act,
    Alert,
    Attempt,
    Attempts,
    AuthorizationCertificate,
    AwaitApproval,
    CertificateDefinition,
    CertificateStatus,
    Deadline,
    EnterMaintenance,
    LeaveMaintenance,
    Observation,
    Prove,
    RenewalPolicy,
    Request,
    Rest,
    Result,
    Retire,
    RollBack,
    Switch,
    Verify,
    Withdraw,
)
from evidence_service.renewal.plan import plan_renewal
from evidence_service.renewal.reasons import RenewalReason, advice_for
from evidence_service.renewal.situation import weigh
from idp_certs.alarms import Alarm, Severity
from idp_certs.reasons import Finding

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
CA = "ca1.corp.example\\Corp Issuing CA"
OLD, NEW = "0" * 8, "1" * 8
END = NOW + 365 * DAY
POLICY = RenewalPolicy(check=timedelta(microseconds=1))
"""The server is looked at all the time, so that levels start exactly."""
IN_USE = AuthorizationCertificate(
    id=OLD,
    status_word="Ok",
    status=CertificateStatus.OK,
    certificate_authority=CA,
    not_before=END - 730 * DAY,
    expires=END,
    thumbprint="AA",
)
PENDING = AuthorizationCertificate(
    id=NEW,
    status_word="WaitingForApproval",
    status=CertificateStatus.WAITING_FOR_APPROVAL,
    certificate_authority=CA,
    ca_request_id="4711",
    request_key_sha256="ab" * 32,
)
REQUEST = Request(
    reason=RenewalReason.DUE,
    replaces=OLD,
    known=frozenset({OLD}),
    certificate_authority=CA,
    certificate_template="RA",
    authorization_template="RA_Manual",
    offline=False,
)


def seen(*certificates: AuthorizationCertificate, at: datetime = NOW, used: str = OLD) -> Observation:
    """An observation with one definition."""
    return Observation(
        server="FAS1",
        at=at,
        certificates=certificates or (IN_USE,),
        definitions=(CertificateDefinition(name="default_Definition", template="SC", authorization_certificate=used),),
        rules=(),
    )


def attempt(step: Act, seq: int = 1, **values: object) -> Attempt:
    """An act that was done."""
    given: dict[str, object] = {"at": NOW, "result": Result.DONE, "result_at": NOW + SECOND, **values}
    return Attempt(seq=seq, step=step, **given)  # type: ignore[arg-type]  # each as it is


CALM = ServerView(
    name="FAS1",
    host="fas1.corp.example",
    attempts=Attempts(jitter=0.0),
    observation=seen(),
    step=Rest(reason=RenewalReason.NOT_DUE, until=NOW + HOUR),
)


def waiting(deadline: datetime | None = END, asked: datetime = NOW) -> ServerView:
    """The server whose request waits at the CA."""
    return replace(
        CALM,
        observation=seen(IN_USE, PENDING),
        step=AwaitApproval(certificate_id=NEW, until=NOW + HOUR, deadline=deadline),
        attempts=Attempts(jitter=0.0, acts=(attempt(REQUEST, at=asked, certificate_id=NEW),)),
    )


def raised(view: ServerView, now: datetime = NOW, policy: RenewalPolicy = POLICY) -> set[str]:
    """Severity, kind and key of every alarm; none is named twice, and each is one line about the server."""
    alarms = renewal_alarms(view, policy, now)
    names = [f"{each.severity} {each.kind} {each.key}".replace(OLD, "OLD").replace(NEW, "NEW") for each in alarms]
    assert len(set(names)) == len(names)
    for each in alarms:
        assert (each.entity_id, each.about) == ("FAS1", "fas_server")
        assert "\n" not in each.text
        assert each.text.endswith((".", "`."))
        assert ".." not in each.text
    return {name.strip() for name in names}


def the(kind: str, view: ServerView, now: datetime = NOW, policy: RenewalPolicy = POLICY) -> Alarm:
    """The one alarm of this kind."""
    (alarm,) = (each for each in renewal_alarms(view, policy, now) if each.kind == kind)
    return alarm


def test_a_server_with_nothing_to_do_needs_nobody() -> None:
    """No alarm stands while nothing is due."""
    assert raised(CALM) == set()


@pytest.mark.parametrize(
    ("days", "severity"),
    [(30, "warning"), (21, "warning"), (14, "warning"), (7, "critical"), (3, "critical"), (1, "critical")],
)
def test_the_certificate_in_use_is_told_of_at_each_level(days: int, severity: str) -> None:
    """Promise 63: the alarm is there as soon as that many days are left, and says by when and what to do."""
    at = END - days * DAY
    assert f"{severity} authcert_expiring OLD:{days}d" not in raised(CALM, at - SECOND)
    assert f"{severity} authcert_expiring OLD:{days}d" in raised(CALM, at)
    text = the("authcert_expiring", CALM, at).text
    assert "expires at 2027-01-01T12:00:00Z" in text
    assert "fas-evidence authcert status FAS1" in text


def test_the_alarm_comes_30_days_before_though_a_server_is_looked_at_once_an_hour() -> None:
    """Promise 63: whatever the minute of the look, the first alarm stands at least 30 days before the expiry."""
    policy = RenewalPolicy()
    looks = [END - 32 * DAY + timedelta(minutes=17) + number * policy.check for number in range(49)]
    first = next(at for at in looks if "warning authcert_expiring OLD:30d" in raised(CALM, at, policy))
    assert END - first >= 30 * DAY


def test_a_renewal_clears_what_was_told_of_the_old_certificate() -> None:
    """Promise 63: when the definitions name the new certificate, nothing stands, though the old one still soaks."""
    late = END - 5 * DAY
    assert raised(CALM, late) == {"critical authcert_expiring OLD:7d"}
    new = replace(IN_USE, id=NEW, not_before=late - DAY, expires=late + 729 * DAY)
    assert raised(replace(CALM, observation=seen(IN_USE, new, used=NEW)), late) == set()


def test_certificates_that_live_for_days_are_not_told_of_for_all_their_life() -> None:
    """A level counts only within half of the lifetime."""
    short = replace(IN_USE, not_before=None, expires=NOW + 30 * DAY)
    view = replace(CALM, observation=seen(short))
    policy = replace(POLICY, lead_share=0.5, approval_time=DAY, soak=DAY, lifetime=30 * DAY)
    assert raised(view, NOW + DAY, policy) == set()
    assert raised(view, NOW + 16 * DAY, policy) == {"warning authcert_expiring OLD:14d"}


def test_what_only_the_log_says_is_told_as_that_and_silences_nothing() -> None:
    """Promises 58 and 63: others may write there, so that people are to know where a number comes from."""
    listed = replace(IN_USE, not_before=NOW, expires=NOW + 30 * DAY, serial="4a00b1")
    view = replace(CALM, observation=seen(listed))
    assert raised(view) >= {"warning authcert_expiring OLD:30d"}
    assert "known from the server's event log alone" in the("lead_does_not_fit", view).text
    revoked = the("authcert_revoked", replace(CALM, observation=seen(replace(listed, revoked_at=NOW))))
    assert "by its serial number in the server's event log, 4a00b1." in revoked.text
    assert "compare it with what the CA issued" in revoked.todo[0]


IN_USE_IS: dict[str, tuple[AuthorizationCertificate, str]] = {
    "expired": (replace(IN_USE, expires=NOW), "critical authcert_expired OLD"),
    "revoked": (replace(IN_USE, revoked_at=NOW - HOUR), "critical authcert_revoked OLD"),
    "of unknown expiry": (replace(IN_USE, expires=None), "warning expiry_unknown OLD"),
}


def test_what_to_do_stands_by_itself_in_a_message_and_at_the_end_in_a_list() -> None:
    """A list of alarms has the text alone; a message has a heading for it, and does not say it twice."""
    denied = replace(PENDING, status=CertificateStatus.DENIED, status_word="Denied")
    views = {
        "authcert_expired": replace(CALM, observation=seen(replace(IN_USE, expires=NOW))),
        "authcert_revoked": replace(CALM, observation=seen(replace(IN_USE, revoked_at=NOW - HOUR))),
        "expiry_unknown": replace(CALM, observation=seen(replace(IN_USE, expires=None))),
        "definition_names_missing": replace(CALM, observation=seen(IN_USE, used="gone")),
        "renewal_denied": replace(CALM, observation=seen(IN_USE, denied)),
    }
    for kind, view in views.items():
        alarm = the(kind, view)
        assert len(alarm.todo) == 1
        assert " NAME" not in alarm.todo[0]
        assert alarm.text.endswith(f". {alarm.todo[0]}")
        message = alarm_message(alarm, raised_at=NOW)
        assert f"{message.paragraphs[0]} {alarm.todo[0]}" == alarm.text
        assert message.todo == alarm.todo


@pytest.mark.parametrize("name", IN_USE_IS)
def test_what_is_wrong_with_the_certificate_in_use_is_told(name: str) -> None:
    """Promise 58 for a revoked one: the alarm is there with the observation that shows it."""
    certificate, alarm = IN_USE_IS[name]
    assert raised(replace(CALM, observation=seen(certificate))) == {alarm}


def test_a_definition_that_names_nothing_is_told() -> None:
    """Users of its rules cannot log on."""
    view = replace(CALM, observation=seen(IN_USE, used="gone"))
    assert raised(view) == {"critical definition_names_missing default_Definition"}


def test_the_approver_is_told_all_that_is_needed_to_decide() -> None:
    """On which CA, which request of which machine, for which template and key, until when, and who must not approve."""
    alarm = the("approval_needed", waiting())
    assert (alarm.key, alarm.severity) == (NEW, Severity.NOTICE)
    assert alarm.text == (
        f"Issue or deny the pending request 4711 of FAS1$ (FAS server FAS1) on {CA}, before 2027-01-01T12:00:00Z, in "
        "365 days."
    )
    facts = dict(alarm.facts)
    assert facts["CA"] == CA
    assert facts["Pending request"] == "4711"
    assert facts["Requested by"] == "FAS1$"
    assert facts["Template"] == POLICY.authorization_template
    assert facts["Key (SHA-256 of SubjectPublicKeyInfo)"] == "ab" * 32
    assert facts["Needed before"] == "2027-01-01T12:00:00Z"
    assert any("must not be who asked" in each for each in alarm.more)
    assert any("no user can log on" in each for each in alarm.more)
    message = alarm_message(alarm, raised_at=NOW)
    assert message.audience is Audience.APPROVERS
    assert "(request 4711)" in message.title


def test_reminders_follow_the_days_left_and_come_weekly_before() -> None:
    """Promise 50: one reminder a week, then at 30, 21, 14, 7, 3 and 1 days left, from 7 on critical, so urgent."""
    asked = END - 60 * DAY
    told: list[tuple[int, str, str]] = []
    for hour in range(61 * 24):
        now = asked + hour * HOUR
        alarm = the("approval_needed", waiting(asked=asked), now, replace(POLICY, approval_deadline=90 * DAY))
        key = alarm.key.replace(NEW, "NEW")
        if not told or told[-1][1] != key:
            told.append(((END - now).days, key, alarm.severity.value))
    assert told == [
        (60, "NEW", "notice"),
        (53, "NEW:week 1", "warning"),
        (46, "NEW:week 2", "warning"),
        (39, "NEW:week 3", "warning"),
        (32, "NEW:week 4", "warning"),
        (30, "NEW:30d", "warning"),
        (21, "NEW:21d", "warning"),
        (14, "NEW:14d", "warning"),
        (7, "NEW:7d", "critical"),
        (3, "NEW:3d", "critical"),
        (1, "NEW:1d", "critical"),
        (0, "NEW:expired", "critical"),
    ]


def test_a_forgotten_request_is_told_and_kept() -> None:
    """Promise 50: at the deadline, without a word of a time that is over."""
    view = waiting()
    assert "critical approval_overdue NEW" not in raised(view, NOW + 30 * DAY - SECOND)
    assert any(each.startswith("If nobody decides") for each in the("approval_needed", view, NOW + 29 * DAY).more)
    alarm = the("approval_overdue", view, NOW + 30 * DAY)
    assert alarm.text.startswith("Nobody decided for 30 days. It is kept, as set. Issue or deny")
    assert not any("If nobody decides" in each for each in alarm.more)


def test_nobody_is_asked_to_issue_a_request_that_is_about_to_be_withdrawn() -> None:
    """Promise 50: where forgotten requests are withdrawn, the withdrawal tells of it, and says to deny it."""
    policy = replace(POLICY, on_deadline=Deadline.WITHDRAW)
    assert not any("approval_overdue" in each for each in raised(waiting(), NOW + 30 * DAY, policy))


def test_a_request_that_is_signed_elsewhere_is_described_as_such() -> None:
    """Without a CA that knows the request, the approver signs a file and brings the answer."""
    offline = replace(PENDING, certificate_authority=None, ca_request_id=None)
    view = replace(waiting(), observation=seen(IN_USE, offline))
    alarm = the("approval_needed", view)
    assert "signed" in alarm.text
    assert any("fas-evidence authcert import FAS1" in each for each in alarm.todo)
    assert not any("Certification Authority console" in each for each in alarm.todo)


def test_a_denial_is_told_with_the_word_of_the_ca() -> None:
    """Promise 49: denied once is a warning, denied repeatedly ends it and is critical."""
    denied = replace(PENDING, status=CertificateStatus.DENIED, status_word="Denied", denial="not this month")
    acts = (attempt(REQUEST, certificate_id=NEW),)
    view = replace(
        CALM,
        observation=seen(IN_USE, denied),
        step=Rest(reason=RenewalReason.DENIED, until=NOW + DAY),
        attempts=Attempts(jitter=0.0, acts=acts),
    )
    assert raised(view) == {"warning renewal_denied NEW"}
    assert "(not this month)" in the("renewal_denied", view).text
    twice = replace(view, step=Alert(reason=RenewalReason.DENIED_REPEATEDLY, findings=(), until=NOW + DAY))
    assert raised(twice) == {"critical renewal_denied_repeatedly NEW"}


DENIAL = Withdraw(
    reason=RenewalReason.DENIED, certificate_id=NEW, certificate_authority=CA, ca_request_id="4711", denial="not now"
)


def denied_at(now: datetime, *, denials: int = 1) -> ServerView:
    """The server whose last requests were denied and removed at `now`."""
    acts = []
    for number in range(denials):
        acts.append(attempt(REQUEST, seq=2 * number + 1, at=now, certificate_id=f"{NEW}{number}"))
        gone = replace(DENIAL, certificate_id=f"{NEW}{number}")
        acts.append(attempt(gone, seq=2 * number + 2, at=now, result_at=now))
    return replace(CALM, attempts=Attempts(jitter=0.0, acts=tuple(acts)))


NOT_DUE, DUE, SOON = NOW, END - 50 * DAY, END - 60 * DAY - HOUR


@pytest.mark.parametrize(
    ("now", "changes", "said"),
    [
        (DUE, {}, "It is asked once more after 2026-11-13T12:00:00Z; `fas-evidence authcert renew FAS1` asks now."),
        (
            NOT_DUE,
            {},
            "It is not asked again by itself before 2026-11-02T12:00:00Z; `fas-evidence authcert renew FAS1` asks now.",
        ),
        (
            SOON,
            {},
            "It is asked once more after 2026-11-03T11:00:00Z; `fas-evidence authcert renew FAS1` asks now.",
        ),
        (DUE, {"maximum_denials": 1}, "It is not asked again by itself; `fas-evidence authcert renew FAS1` asks now."),
    ],
    ids=["due", "not due", "due before the retry", "as often as is let pass"],
)
def test_what_a_denial_promises_is_what_the_worker_does(now: datetime, changes: dict[str, int], said: str) -> None:
    """Alarm and message say when the CA is asked again by itself: only where a certificate is due then (promise 49)."""
    policy = replace(POLICY, **changes)  # type: ignore[arg-type]
    view = denied_at(now)
    message = message_of("FAS1", view.attempts.acts[-1], seen(), policy, now, attempts=view.attempts)
    assert message is not None
    assert message.todo == (f"Ask the CA manager why. {said}",)
    assert the("renewal_denied", view, now, policy).todo == message.todo
    again = plan_renewal(seen(), view.attempts, policy, now + policy.retry_denied)
    assert isinstance(again, Request) is ("once more" in said)


def test_nothing_is_promised_of_a_denial_while_it_is_paused() -> None:
    """Only who resumes it has it asked for again."""
    view = denied_at(DUE)
    paused = replace(view, attempts=replace(view.attempts, paused_until=datetime.max.replace(tzinfo=UTC)))
    assert "`fas-evidence authcert resume FAS1`" in the("renewal_denied", paused, DUE).todo[0]


def test_a_denial_stands_until_it_is_asked_again_or_might_be() -> None:
    """The removed entry ends it not; each denial is told by itself, with the request's number and the CA's words."""
    view = denied_at(NOT_DUE)
    text = the("renewal_denied", view).text
    assert text.startswith(
        "The CA denied request 4711 of FAS server FAS1 (not now), and the certificate in use expires"
    )
    assert raised(view, NOT_DUE + DAY - SECOND) == {"warning renewal_denied NEW0"}
    assert raised(view, NOT_DUE + DAY) == set()
    assert raised(denied_at(NOT_DUE, denials=2)) == {"warning renewal_denied NEW1"}
    listed = seen(IN_USE, replace(PENDING, id=f"{NEW}0", status=CertificateStatus.DENIED, denial="not now"))
    assert raised(replace(view, observation=listed)) == {"warning renewal_denied NEW0"}, "once, still listed or not"
    acts = (*view.attempts.acts, attempt(REQUEST, seq=9, certificate_id="2"))
    assert raised(replace(view, attempts=Attempts(jitter=0.0, acts=acts))) == set()


def test_a_certificate_that_failed_is_told_of_while_it_is_on_the_server() -> None:
    """It is usable, so who administers the server could use it, also after another was asked for and denied."""
    new = replace(IN_USE, id=NEW, expires=END + 365 * DAY)
    cause = Finding(reason=RenewalReason.VERIFY_FAILED, presented="0x80094012")
    asked = replace(REQUEST, reason=RenewalReason.ASKED)
    acts = (
        attempt(asked, seq=1, certificate_id=NEW),
        attempt(Prove(certificate_id=NEW), seq=2),
        attempt(Switch(definition="default_Definition", before=OLD, after=NEW), seq=3),
        attempt(Verify(certificate_id=NEW, tests=(), upn="p@x.example"), seq=4, result=Result.FAILED, finding=cause),
        attempt(
            RollBack(reason=RenewalReason.VERIFY_FAILED, definition="default_Definition", before=NEW, after=OLD), seq=5
        ),
        attempt(asked, seq=6, certificate_id="2"),
        attempt(replace(DENIAL, certificate_id="2"), seq=7),
    )
    view = replace(CALM, observation=seen(IN_USE, new), attempts=Attempts(jitter=0.0, acts=acts))
    assert raised(view, NOW + DAY) == {"warning failed_certificate_left NEW"}
    alarm = the("failed_certificate_left", view)
    assert "was given up at 2026-01-01T12:00:00Z (verify_failed: got 0x80094012) and is still there" in alarm.text
    (todo,) = alarm.todo
    assert todo.startswith(f"`fas-evidence authcert withdraw FAS1` removes the certificate {NEW}, which was given up;")
    assert to_withdraw(weigh(seen(IN_USE, new), view.attempts, POLICY, NOW)) == NEW

    waits = replace(view, observation=seen(IN_USE, new, replace(PENDING, id="3")))
    (todo,) = the("failed_certificate_left", waits).todo
    assert f"Remove-FasAuthorizationCertificate -Id '{NEW}'" in todo, "a withdrawal would take the open request"
    assert raised(replace(view, observation=seen(IN_USE)), NOW + DAY) == set()
    stopped = replace(
        view,
        attempts=Attempts(jitter=0.0, acts=acts[:5]),
        step=Alert(reason=RenewalReason.VERIFY_FAILED, findings=(cause,), until=NOW),
    )
    assert raised(stopped) == {"critical renewal_stopped verify_failed"}, "the same is not told twice"
    paused = replace(stopped, step=Rest(reason=RenewalReason.PAUSED, until=NOW + DAY))
    assert raised(paused) == {"warning failed_certificate_left NEW"}


END_TOLD = "The certificate in use expires at 2027-01-01T12:00:00Z."


@pytest.mark.parametrize(
    ("reason", "severity"),
    [
        (RenewalReason.UNKNOWN_STATUS, "critical"),
        (RenewalReason.TWO_OPEN_REQUESTS, "critical"),
        (RenewalReason.VERIFY_FAILED, "critical"),
        (RenewalReason.NO_WAY_BACK, "critical"),
        (RenewalReason.ISSUED_OTHER_KEY, "critical"),
        (RenewalReason.NO_NEIGHBOUR, "warning"),
    ],
)
def test_where_only_a_person_can_go_on_that_is_told_with_the_difference(reason: RenewalReason, severity: str) -> None:
    """Promise 56, 61: the alarm names why, what was expected, what came, and what to do."""
    finding = Finding(reason=reason, expected="this", presented="that")
    view = replace(CALM, step=Alert(reason=reason, findings=(finding,), until=NOW + HOUR))
    assert raised(view) == {f"{severity} renewal_stopped {reason.value}"}
    alarm = the("renewal_stopped", view)
    advice = advice_for(reason, "FAS1")
    assert (
        alarm.text == f"FAS server FAS1: {reason.meaning} Found: {reason}: expected this, got that. {END_TOLD} {advice}"
    )
    assert alarm.todo == (advice,)
    assert alarm_message(alarm, raised_at=NOW).paragraphs[0].endswith(END_TOLD)


def test_a_server_that_does_not_answer_is_told_after_an_hour_and_urgently_when_its_renewal_is_due() -> None:
    """Promise 60: with its age; a single miss is nothing."""
    problem = Finding(reason=RenewalReason.UNREACHABLE, expected="an answer", presented="no route")
    view = replace(CALM, problem=problem, problem_since=NOW, misses=1)
    assert raised(view, NOW + HOUR - SECOND) == set()
    assert raised(view, NOW + HOUR) == {"warning server_unreachable"}
    assert raised(replace(view, misses=3), NOW + SECOND) == {"warning server_unreachable"}
    assert (
        "has not answered for 5 hours (unreachable: expected an answer, got no route)"
        in the("server_unreachable", view, NOW + 5 * HOUR).text
    )
    due = END - 50 * DAY
    assert raised(replace(view, problem_since=due), due + HOUR) == {
        "warning server_unreachable",
        "critical server_unreachable urgent",
    }


def test_acts_that_fail_running_are_told_with_the_last_error() -> None:
    """Twice may be chance, three times needs somebody."""
    finding = Finding(reason=RenewalReason.REFUSED_BY_FAS, presented="Access denied")
    acts = (attempt(REQUEST, result=Result.FAILED, finding=finding),)
    view = replace(CALM, failures=2, attempts=Attempts(jitter=0.0, acts=acts))
    assert raised(view) == set()
    assert raised(replace(view, failures=3)) == {"warning renewal_failing request"}
    assert "got Access denied" in the("renewal_failing", replace(view, failures=3)).text


def test_an_act_that_was_never_answered_is_told_after_an_hour() -> None:
    """Promise 46: nothing is repeated meanwhile, so somebody should look if it lasts."""
    view = replace(CALM, attempts=Attempts(jitter=0.0, acts=(attempt(REQUEST, result=Result.UNKNOWN, result_at=None),)))
    assert raised(view, NOW + HOUR - SECOND) == set()
    assert raised(view, NOW + HOUR) == {"warning renewal_stopped answer_unknown:1"}


def test_a_lead_that_cannot_work_is_told_long_before_it_matters() -> None:
    """Promise 53: with what would fit."""
    policy = replace(POLICY, lead_days=5)
    assert raised(CALM, NOW, policy) == {"warning lead_does_not_fit"}
    assert "got 5 days" in the("lead_does_not_fit", CALM, NOW, policy).text


def test_a_change_outside_of_the_windows_is_told_and_forgotten_after_a_week() -> None:
    """Promise 54: overridden with a warning, never silently."""
    view = replace(CALM, step=EnterMaintenance(certificate_id=NEW, overrides=True))
    assert raised(view) == {"warning window_overridden NEW"}
    switch = attempt(Switch(definition="d", before=OLD, after=NEW, overrides=True))
    after = replace(CALM, attempts=Attempts(jitter=0.0, acts=(switch,)))
    assert raised(after, NOW + 7 * DAY) == {"warning window_overridden NEW"}
    assert raised(after, NOW + 7 * DAY + SECOND) == set()


def test_a_pause_is_told_only_while_a_renewal_is_due() -> None:
    """A paused server with nothing to do needs nobody."""
    view = replace(CALM, attempts=Attempts(jitter=0.0, paused_until=datetime.max.replace(tzinfo=UTC)))
    assert raised(view) == set()
    assert raised(view, END - 50 * DAY) == {"warning renewal_paused"}
    assert "critical renewal_paused" in raised(view, END - 5 * DAY)


def test_rows_that_cannot_be_read_are_told() -> None:
    """Nothing is done at a server of which we do not know what was done."""
    assert raised(replace(CALM, damage="row 5 cannot be read")) == {"critical renewal_stopped damaged"}


def test_the_machine_account_is_the_one_that_the_ca_shows() -> None:
    """A host name's first label, as Active Directory writes it; an address says nothing."""
    assert machine_account("fas1.corp.example") == "FAS1$"
    assert machine_account("192.0.2.1") == "192.0.2.1"
    remote = FasServer(name="one", policy=POLICY, connection=WinRm(host="fas1.corp.example"))
    assert host_of(remote) == "fas1.corp.example"
    assert host_of(replace(remote, address="fas2.corp.example")) == "fas2.corp.example"
    assert host_of(replace(remote, connection=Local())) == "one"


def told(act: Attempt, observation: Observation | None = None, attempts: Attempts | None = None) -> Message:
    """The message of an act."""
    found = message_of("FAS1", act, observation or seen(), POLICY, NOW, attempts=attempts)
    assert found is not None
    return found


def test_each_act_that_people_should_hear_of_has_its_message() -> None:
    """One fact a message, to the operators."""
    finding = Finding(reason=RenewalReason.ISSUED_WEAK_KEY, expected="2048", presented="1024")
    acts: list[tuple[Attempt, str, Severity]] = [
        (attempt(REQUEST, certificate_id=NEW), "request_made", Severity.NOTICE),
        (attempt(Prove(certificate_id=NEW)), "certificate_issued", Severity.NOTICE),
        (attempt(Prove(certificate_id=NEW, findings=(finding,))), "proof_failed", Severity.CRITICAL),
        (attempt(Prove(certificate_id=NEW), result=Result.FAILED), "proof_failed", Severity.CRITICAL),
        (attempt(Switch(definition="d", before=OLD, after=NEW)), "switched", Severity.NOTICE),
        (attempt(Switch(definition="d", before=OLD, after=NEW, overrides=True)), "switched", Severity.WARNING),
        (
            attempt(RollBack(reason=RenewalReason.VERIFY_FAILED, definition="d", before=NEW, after=OLD)),
            "rolled_back",
            Severity.CRITICAL,
        ),
        (attempt(Retire(certificate_id=OLD, replaced_by=NEW)), "renewal_report", Severity.NOTICE),
        (attempt(Withdraw(reason=RenewalReason.DENIED, certificate_id=NEW)), "withdrawn", Severity.WARNING),
    ]
    for act, kind, severity in acts:
        message = told(act)
        assert (message.kind, message.severity, message.audience) == (kind, severity, Audience.OPERATORS)
        assert message.fact == f"act:FAS1:1:{kind}"
        assert message.title.startswith("FAS1: ")
    assert "expected 2048, got 1024" in dict(told(acts[2][0]).facts)["issued_weak_key"]


def test_a_request_that_may_still_wait_is_to_be_denied_by_who_could_issue_it() -> None:
    """Approvers were told to issue it or deny it; the withdrawal says by number and CA what holds now."""
    gone = Withdraw(
        reason=RenewalReason.APPROVAL_OVERDUE, certificate_id=NEW, certificate_authority=CA, ca_request_id="4711"
    )
    message = told(attempt(gone))
    assert message.audience is Audience.APPROVERS
    assert message.title == "FAS1: request 4711 was withdrawn and must be denied at the CA"
    assert message.paragraphs[0].startswith("Do not issue request 4711: it was removed from the FAS server.")
    assert message.todo == (
        f"Deny request 4711 at {CA} (Pending Requests), if it still waits there: FAS cannot take it back.",
    )
    offline = told(attempt(replace(gone, certificate_authority=None, ca_request_id=None)))
    assert (offline.audience, offline.todo) == (
        Audience.OPERATORS,
        ("Tell whoever was to sign the request that it is not wanted any more.",),
    )


def test_an_issued_certificate_that_is_removed_is_to_be_revoked() -> None:
    """Denying is no help then; nobody is told of a request that was removed."""
    removed = Withdraw(
        reason=RenewalReason.ASKED, certificate_id=NEW, certificate_authority=CA, ca_request_id="4711", issued=True
    )
    message = told(attempt(removed))
    assert message.audience is Audience.OPERATORS
    assert message.title == "FAS1: an unused authorization certificate was removed"
    assert message.todo == (
        f"Have the CA revoke the certificate of request 4711 at {CA} (Issued Certificates): FAS cannot.",
    )
    assert "request was removed" not in str(message)
    report = attempt(Retire(certificate_id=OLD, replaced_by=NEW), seq=9)
    acts = (attempt(REQUEST, seq=2, certificate_id=NEW), attempt(removed, seq=3), report)
    assert (
        "an unused certificate removed: done"
        in dict(told(report, None, Attempts(jitter=0.0, acts=acts)).facts).values()
    )


def test_what_is_removed_again_and_again_is_told_once() -> None:
    """FAS says that it did and goes on listing it: an alarm tells of that, and no message each hour."""
    withdraw = Withdraw(reason=RenewalReason.DENIED, certificate_id=NEW)
    for step in (withdraw, Retire(certificate_id=OLD, replaced_by=NEW)):
        acts = Attempts(jitter=0.0, acts=(attempt(step, seq=1), attempt(step, seq=2)))
        assert told(acts.acts[0], None, acts).fact.startswith("act:FAS1:1:")
        assert message_of("FAS1", acts.acts[1], seen(), POLICY, NOW, attempts=acts) is None
    issued = attempt(replace(withdraw, issued=True), seq=2)
    acts = Attempts(jitter=0.0, acts=(attempt(withdraw, seq=1), issued))
    assert "revoke" in str(told(issued, None, acts).todo), "it was issued since, which is more"


def test_what_failed_stays_on_the_server_until_a_person_removes_it() -> None:
    """It may be usable, so every message of a failure says how it is removed, with the server's name to copy."""
    back = RollBack(reason=RenewalReason.VERIFY_FAILED, definition="d", before=NEW, after=OLD)
    weak = Finding(reason=RenewalReason.ISSUED_WEAK_KEY, expected="2048", presented="1024")
    for step in (back, replace(back, reason=RenewalReason.ASKED), Prove(certificate_id=NEW, findings=(weak,))):
        assert "`fas-evidence authcert withdraw FAS1` removes" in " ".join(told(attempt(step)).todo)
    failed = told(attempt(Prove(certificate_id=NEW), result=Result.FAILED))
    assert failed.todo == (advice_for(RenewalReason.PROOF_FAILED, "FAS1"),)
    assert "preflight FAS1 --test" in failed.todo[0]
    assert "Nothing." not in told(attempt(replace(back, reason=RenewalReason.ASKED))).todo


def test_the_deadline_of_a_request_is_left_out_where_the_old_certificate_ends_before() -> None:
    """Who has days must not read of a date after the end."""
    told_early = " ".join(the("approval_needed", waiting()).more)
    assert "If nobody decides by 2026-01-31T12:00:00Z, the request" in told_early
    late = the("approval_needed", waiting(), NOW, replace(POLICY, approval_deadline=400 * DAY))
    assert not any("If nobody decides" in each for each in late.more)
    assert any(each.startswith("Reminders come more often") for each in late.more)


def test_what_is_not_known_to_be_done_is_not_told_as_done() -> None:
    """Promise 46: an act without an answer, or not done, has no message; nor has what nobody needs to hear."""
    for result in (None, Result.UNKNOWN, Result.NOT_DONE, Result.FAILED):
        for step in (
            REQUEST,
            Switch(definition="d", before=OLD, after=NEW),
            Retire(certificate_id=OLD, replaced_by=NEW),
        ):
            assert message_of("FAS1", attempt(step, result=result), seen(), POLICY, NOW) is None
    assert message_of("FAS1", attempt(Prove(certificate_id=NEW), result=Result.UNKNOWN), seen(), POLICY, NOW) is None
    done = attempt(Verify(certificate_id=NEW, tests=(), upn="probe@corp.example"))
    assert message_of("FAS1", done, seen(), POLICY, NOW) is None


def test_the_report_says_what_was_done_when_and_when_it_comes_again() -> None:
    """At the end: the new expiry, the next renewal, and each act from the request on, without any user's name."""
    new = replace(IN_USE, id=NEW, not_before=NOW, expires=NOW + 730 * DAY)
    retire = attempt(Retire(certificate_id=OLD, replaced_by=NEW), seq=9, at=NOW + 4 * DAY)
    acts = (
        attempt(Withdraw(reason=RenewalReason.ASKED, certificate_id="other"), seq=1),
        attempt(REQUEST, seq=2, certificate_id=NEW),
        attempt(Switch(definition="d", before=OLD, after=NEW), seq=3, result_at=NOW + DAY),
        attempt(Verify(certificate_id=NEW, tests=(), upn="probe@corp.example"), seq=4, result_at=NOW + DAY + SECOND),
        retire,
    )
    message = told(retire, seen(new, used=NEW), Attempts(jitter=0.0, acts=acts))
    facts = dict(message.facts)
    assert facts["Expires"] == "2028-01-01T12:00:00Z"
    assert facts["Next renewal"] == "2027-11-02T12:00:00Z"
    assert facts["2026-01-02T12:00:00Z"] == "a definition switched: done"
    assert facts["2026-01-02T12:00:01Z"] == "tested: done"
    assert "withdrawn" not in str(message.facts)
    assert "probe@corp.example" not in str(message)


def test_a_request_that_we_did_not_make_is_told_as_such() -> None:
    """Who has rights on a FAS server must not get our word for a request of their own."""
    ours = the("approval_needed", waiting())
    foreign = the("approval_needed", replace(waiting(), attempts=Attempts(jitter=0.0)))

    assert not any("did not make this request" in each for each in ours.more)
    assert "did not make this request" in foreign.more[0]


def test_a_server_that_stays_in_maintenance_is_told() -> None:
    """Promise 61: a switch takes minutes; an hour later people are to look, unless somebody took it out."""
    entered = attempt(EnterMaintenance(certificate_id=NEW))
    view = replace(CALM, attempts=Attempts(jitter=0.0, acts=(entered,)), observation=replace(seen(), maintenance=True))
    assert raised(view, NOW + HOUR) == set()
    alarm = the("maintenance_lasts", view, NOW + HOUR + SECOND)
    assert "since 2026-01-01" in alarm.text
    assert "Set-FasServer -MaintenanceMode $false" in alarm.todo[0]
    left = attempt(LeaveMaintenance(certificate_id=NEW), seq=2)
    for other in (
        replace(view, observation=replace(seen(), maintenance=False)),
        replace(view, attempts=Attempts(jitter=0.0, acts=(entered, left))),
    ):
        assert raised(other, NOW + DAY) == set()


def test_a_server_that_waits_an_hour_for_a_look_at_the_others_is_told() -> None:
    """Promise 61: it takes a minute; others that answer too slowly would hold it up without a word."""
    rest = Rest(reason=RenewalReason.NEIGHBOUR_UNSEEN, until=NOW)
    view = replace(CALM, step=rest, step_since=NOW)
    assert raised(view, NOW + HOUR - SECOND) == set()
    assert raised(view, NOW + HOUR) == {"warning renewal_stopped neighbour_unseen"}
