"""What people are told of a server: what matters most, in which order, and every step as a sentence."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from evidence_service.adapters.renewal_rows import ServerStatus
from evidence_service.renewal.farm import FasServer, Local
from evidence_service.renewal.memory import Denial
from evidence_service.renewal.model import (
    STEP_KINDS,
    Alert,
    Ask,
    AskKind,
    Attempt,
    AuthorizationCertificate,
    AwaitApproval,
    CertificateDefinition,
    CertificateStatus,
    EnrollmentTest,
    EnterMaintenance,
    Import,
    LeaveMaintenance,
    Observation,
    Prove,
    RenewalPolicy,
    Request,
    Rest,
    Result,
    Retire,
    RollBack,
    Soak,
    Step,
    Switch,
    Verify,
    Withdraw,
)
from evidence_service.renewal.preview import Foreseen
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal_admin.acts import read_response
from evidence_service.renewal_admin.texts import todo_of, what_next, why_of
from evidence_service.renewal_admin.views import (
    CertificateView,
    ServerView,
    certificate_views,
    condition,
    foreseen_json,
    server_json,
    todo_now,
    worker_missing,
)
from evidence_service.trust_admin.documents import Unusable
from idp_certs.alarms import Severity
from idp_certs.reasons import Finding

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TEST = "test_Definition"
POLICY = RenewalPolicy(test_definition=TEST, test_rule="test", test_upn="t@corp.example")
ASKED = RenewalReason.ASKED
STEPS: tuple[tuple[Step, str], ...] = (
    (Rest(reason=RenewalReason.NOT_DUE, until=NOW), "nothing before 2026-03-02T12:00:00Z"),
    (
        Request(
            reason=ASKED,
            replaces="old",
            known=frozenset(),
            certificate_authority="ca1\\CA",
            certificate_template="t",
            authorization_template="m",
            offline=False,
        ),
        "ask ca1\\CA for a certificate in the place of old",
    ),
    (Import(certificate_id="new", response=b"", ask=1), "give FAS the signed answer to the request new"),
    (AwaitApproval(certificate_id="new", until=NOW, deadline=None), "the CA manager must issue new"),
    (Prove(certificate_id="new"), "check the new certificate new"),
    (EnterMaintenance(certificate_id="new"), "put the server into maintenance, so that users go to others"),
    (Switch(definition="d", before="old", after="new"), "make the definition d name new instead of old"),
    (
        Verify(certificate_id="new", tests=(EnrollmentTest(rule="default", definition="d"),), upn="t@corp.example"),
        "test the rules default by t@corp.example, with the new certificate new",
    ),
    (LeaveMaintenance(certificate_id="new"), "let users come back"),
    (Soak(certificate_id="new", until=NOW, ends=NOW), "new serves; the old certificate is kept until 2026-03-02T12:00"),
    (Retire(certificate_id="old", replaced_by="new"), "remove the old certificate old; users' certificates stay"),
    (
        RollBack(reason=ASKED, definition="d", before="new", after="old"),
        "make the definition d name old instead of new",
    ),
    (Withdraw(reason=ASKED, certificate_id="new"), "remove the request new"),
    (Alert(reason=RenewalReason.UNKNOWN_STATUS, findings=(), until=NOW), "a person must look at it"),
)


def certificate(
    certificate_id: str = "old", left: timedelta = 100 * DAY, **changes: object
) -> AuthorizationCertificate:
    """A sound certificate."""
    made = AuthorizationCertificate(
        id=certificate_id, status_word="Ok", status=CertificateStatus.OK, expires=NOW + left
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def view(
    *certificates: AuthorizationCertificate, named: str = "old", configured: bool = True, **changes: object
) -> ServerView:
    """A server seen just now, whose definition names `named`."""
    observation = Observation(
        server="fas1",
        at=NOW,
        certificates=certificates or (certificate(),),
        definitions=(
            CertificateDefinition(name="d", template="t", authorization_certificate=named),
            CertificateDefinition(name=TEST, template="t", authorization_certificate="tested"),
        ),
        rules=(),
    )
    status = ServerStatus(
        name="fas1",
        active=True,
        jitter=0.5,
        next_tick_at=NOW,
        observation=observation,
        observed_at=NOW,
        first_usable={},
    )
    status = replace(status, **changes)  # type: ignore[arg-type]
    return ServerView(
        server=FasServer(name="fas1", policy=POLICY, connection=Local()) if configured else None,
        status=status,
        certificates=certificate_views(status.observation, {}, test_definition=TEST),
    )


def problem(reason: RenewalReason) -> Finding:
    """Why a server does not answer."""
    return Finding(reason=reason, expected="", presented="")


TESTED = certificate("tested", left=DAY)
TAKEN = RenewalReason.TAKEN_BACK
DENIAL = Denial(certificate_id="new", at=NOW - DAY, certificate_authority="ca1\\CA", ca_request_id="7", word="not now")
DONE = Attempt(seq=2, step=Withdraw(reason=RenewalReason.DENIED, certificate_id="new"), at=NOW, result=Result.DONE)
FAILED = Attempt(seq=2, step=Retire(certificate_id="old", replaced_by="new"), at=NOW, result=Result.FAILED)


@pytest.mark.parametrize(
    ("server", "said", "severity"),
    [
        (view(certificate(), TESTED), "in force", None),
        (view(configured=False), "not configured", Severity.WARNING),
        (view(damage="row 1"), "damaged", Severity.CRITICAL),
        (view(certificate(left=-DAY), TESTED), "expired", Severity.CRITICAL),
        (view(certificate(revoked_at=NOW), TESTED), "revoked", Severity.CRITICAL),
        (view(certificate(), TESTED, named="gone"), "a definition names no certificate", Severity.CRITICAL),
        (
            view(certificate(), TESTED, problem=problem(RenewalReason.UNREACHABLE), misses=3),
            "unreachable",
            Severity.CRITICAL,
        ),
        (
            view(certificate(), TESTED, problem=problem(RenewalReason.REFUSED_BY_FAS), misses=1),
            "does not answer usably",
            Severity.WARNING,
        ),
        (view(observation=None, observed_at=None), "not looked at yet", Severity.WARNING),
        (view(certificate(left=6 * DAY), TESTED), "expires in 6 days", Severity.CRITICAL),
        (view(certificate(left=DAY), TESTED), "expires in 1 day", Severity.CRITICAL),
        (view(certificate(left=DAY / 2), TESTED), "expires in less than a day", Severity.CRITICAL),
        (view(certificate(), TESTED, step=STEPS[-1][0]), "needs a person", Severity.CRITICAL),
        (view(certificate(), TESTED, observed_at=NOW - DAY), "not looked at lately", Severity.CRITICAL),
        (view(certificate(), TESTED, paused_until=NOW + DAY), "paused", Severity.WARNING),
        (view(certificate(), TESTED, failures=1, last_act=FAILED), "the last act failed", Severity.WARNING),
        (view(certificate(), TESTED, failures=1, last_act=DONE), "an act failed", Severity.WARNING),
        (view(certificate(), TESTED, failures=1, last_act=DONE, denial=DENIAL), "denied", Severity.WARNING),
        (
            replace(
                view(certificate(), TESTED),
                certificates=(
                    CertificateView(certificate=certificate("new"), definitions=(), in_use=False, failed=TAKEN),
                ),
            ),
            "a failed certificate is left",
            Severity.WARNING,
        ),
        (view(certificate(), TESTED, step=STEPS[3][0]), "waits for approval", Severity.WARNING),
        (view(certificate(), TESTED, step=STEPS[9][0]), "renewed, soaking", None),
        (view(certificate(), TESTED, step=STEPS[6][0]), "renewing", None),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_matters_most_is_said_first(server: ServerView, said: str, severity: Severity | None) -> None:
    """A few words and how much; what the definition for tests names has no users and raises nothing."""
    assert condition(server, NOW) == (said, severity)


@pytest.mark.parametrize(("step", "said"), STEPS, ids=[STEP_KINDS[type(step)] for step, _ in STEPS])
def test_each_step_is_a_sentence(step: Step, said: str) -> None:
    """What is done or waited for, with the names that a person finds in the FAS console and at the CA."""
    assert what_next(step).startswith(said)


def test_every_kind_of_step_has_its_sentence() -> None:
    """A new step cannot be shown as nothing."""
    assert {type(step) for step, _ in STEPS} == set(STEP_KINDS)
    assert [step for step, _ in STEPS if not why_of(step)] == []


def test_a_request_is_named_by_the_ca_s_number() -> None:
    """The CA manager sees request numbers, not FAS's ids."""
    waiting = certificate("new", status=CertificateStatus.WAITING_FOR_APPROVAL, ca_request_id="43")
    observation = view(certificate(), replace(waiting, certificate_authority="ca1\\CA")).status.observation

    assert "new (request 43 at ca1\\CA)" in what_next(STEPS[3][0], observation)


def test_the_request_s_text_is_given_while_it_waits() -> None:
    """An offline request is taken to its CA as PKCS #10; afterwards nobody needs it."""
    waiting = certificate("new", status=CertificateStatus.WAITING_FOR_APPROVAL, request_pem="PEM")
    listed = server_json(view(certificate(request_pem="PEM"), waiting), NOW)["certificates"]

    assert [(each["id"], each["request_pem"]) for each in listed] == [("old", None), ("new", "PEM")]


@pytest.mark.parametrize("label", [b"PKCS7", b"CMS", b"CERTIFICATE"])
def test_an_answer_in_pem_is_read_as_der(label: bytes) -> None:
    """FAS wants DER, and CAs give either."""
    pem = b"-----BEGIN " + label + b"-----\r\nMIIB\r\n-----END " + label + b"-----\r\n"

    assert read_response(pem) == b"0\x82\x01"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x" * 300_000, "larger than 262144 bytes"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n", "expected a PKCS #7"),
        (b"-----BEGIN PKCS7-----\nMIIB=A\n-----END PKCS7-----\n", "the PEM is damaged"),
    ],
)
def test_another_file_is_refused(content: bytes, said: str) -> None:
    """The line says what was expected."""
    with pytest.raises(Unusable, match="response: ") as caught:
        read_response(content)

    assert said in str(caught.value)
    assert caught.value.code == "response_unreadable"


@pytest.mark.parametrize(
    ("step", "what", "todo"),
    [
        (
            Withdraw(reason=ASKED, certificate_id="new", certificate_authority="ca1\\CA", ca_request_id="7"),
            "remove the request new",
            "Deny request 7 at ca1\\CA: FAS cannot take it back there.",
        ),
        (
            Withdraw(
                reason=ASKED, certificate_id="new", certificate_authority="ca1\\CA", ca_request_id="7", issued=True
            ),
            "remove the unused certificate new",
            "Have the CA revoke request 7 at ca1\\CA: FAS cannot take it back there.",
        ),
        (
            Withdraw(reason=RenewalReason.DENIED, certificate_id="new", certificate_authority="ca1\\CA", denial="no"),
            "remove the denied request new",
            None,
        ),
        (Withdraw(reason=ASKED, certificate_id="new"), "remove the request new", None),
    ],
)
def test_a_withdrawal_says_what_is_left_to_do_at_the_ca(step: Withdraw, what: str, todo: str | None) -> None:
    """FAS forgets the request; the CA goes on holding it, pending or issued."""
    assert (what_next(step), todo_of(step)) == (what, todo)


def test_an_alert_s_cause_and_remedy_are_told_once_each() -> None:
    """What was found says why, and what is advised is to be done."""
    found = Finding(reason=RenewalReason.VERIFY_FAILED, presented="0x80094012")
    step = Alert(reason=RenewalReason.VERIFY_FAILED, findings=(found, found), until=NOW)

    assert why_of(step).startswith("verify_failed: After the switch")
    assert why_of(step).endswith("(found 0x80094012).")
    assert todo_of(step) == RenewalReason.VERIFY_FAILED.advice


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (view(), None),
        (view(next_tick_at=NOW - timedelta(minutes=5)), None),
        (view(next_tick_at=NOW - timedelta(hours=3)), "no worker seems to run"),
        (view(observed_at=NOW - timedelta(hours=4)), "no worker seems to run"),
        (view(observation=None, observed_at=None), "no worker has looked"),
        (view(observation=None, observed_at=None, problem=problem(RenewalReason.UNREACHABLE)), None),
        (view(configured=False, next_tick_at=NOW - DAY), None),
    ],
)
def test_a_worker_that_is_missing_is_noticed(server: ServerView, said: str | None) -> None:
    """By looks that are overdue; a server that does not answer is looked at all the same."""
    missing = worker_missing(server, NOW)

    assert (missing or "").startswith(said or "")
    assert (missing is None) == (said is None)
    assert (todo_now(server, NOW) or "").endswith("see its log." if said else "")


def test_a_remedy_names_the_server() -> None:
    """Its commands can be copied."""
    step = Alert(reason=RenewalReason.DENIED_REPEATEDLY, findings=(), until=NOW)
    todo = server_json(view(step=step), NOW)["todo"]

    assert "`fas-evidence authcert renew" in todo
    assert "NAME" not in todo


def test_nobody_is_sent_to_a_ca_that_has_no_request() -> None:
    """A request that was made as a file is signed elsewhere, and its answer imported."""
    step = AwaitApproval(certificate_id="new", until=NOW, deadline=None)
    request = certificate("new", status=CertificateStatus.WAITING_FOR_APPROVAL, request_pem="PEM")
    as_file = server_json(view(certificate(), request, step=step), NOW)
    at_ca = server_json(view(certificate(), replace(request, certificate_authority="ca1\\CA"), step=step), NOW)

    assert as_file["step"]["text"] == "the request new must be signed elsewhere and its answer imported"
    assert as_file["todo"] == as_file["step"]["todo"]
    assert "`fas-evidence authcert import fas1 FILE.p7b`" in as_file["todo"]
    assert "Issue it at the CA" not in as_file["todo"]
    assert at_ca["todo"] == RenewalReason.AWAITING_APPROVAL.advice


def test_a_denial_stays_in_the_status_with_what_is_left_to_do() -> None:
    """The removed entry says nothing more, so the status keeps the CA's words, the number and when."""
    server = replace(view(certificate(), TESTED, denial=DENIAL), left=("Ask the CA manager why.",))
    shown = server_json(server, NOW)

    assert shown["denial"] == {
        "certificate_id": "new",
        "certificate_authority": "ca1\\CA",
        "ca_request_id": "7",
        "reason": "not now",
        "at": "2026-03-01T12:00:00Z",
    }
    assert (shown["condition"], shown["todo"]) == ("denied", "Ask the CA manager why.")
    assert server_json(view(), NOW)["denial"] is None


def test_the_last_error_has_its_time() -> None:
    """An act that failed days ago is not taken for the last one."""
    failed = replace(FAILED, result_at=NOW - DAY, finding=problem(RenewalReason.REFUSED_BY_FAS))

    shown = server_json(view(failures=1, last_failed=failed), NOW)
    assert (shown["last_error"]["reason"], shown["last_error_at"]) == ("refused_by_fas", "2026-03-01T12:00:00Z")
    assert server_json(view(failures=0, last_failed=failed), NOW)["last_error_at"] is None


def test_nothing_is_planned_for_a_server_that_is_not_configured() -> None:
    """Nobody looks at it, and nobody waits for what it last waited for."""
    shown = server_json(view(configured=False, step=STEPS[3][0]), NOW)

    assert (shown["condition"], shown["next_look"], shown["todo"]) == ("not configured", None, None)


def test_a_dry_run_tells_how_long_and_not_when() -> None:
    """When a wait begins depends on people: the CA manager does not approve at once."""
    observation = view().status.observation
    assert observation is not None
    later = NOW + 3 * DAY
    steps: dict[Step, str] = {
        Soak(certificate_id="new", until=NOW, ends=later): "kept for 3 days after the switch",
        Rest(reason=RenewalReason.NOT_DUE, until=later): "nothing more, until the new certificate is due",
        Rest(reason=RenewalReason.OUTSIDE_WINDOW, until=later): "wait for the next maintenance window",
        Rest(reason=RenewalReason.NOT_YET_VALID, until=later): "wait for 3 days",
        STEPS[4][0]: "check the new certificate new",
    }

    for step, said in steps.items():
        text = foreseen_json(Foreseen(step=step, at=NOW), observation)["text"]
        assert text.endswith(said)
        assert "2026" not in text


def test_nobody_is_asked_to_issue_what_is_to_be_withdrawn() -> None:
    """While a withdrawal is asked for, approving is no longer wanted."""
    step = AwaitApproval(certificate_id="new", until=NOW, deadline=None)
    wish = Ask(seq=1, kind=AskKind.WITHDRAW, at=NOW, actor="cli:a")

    assert todo_now(view(step=step), NOW) == RenewalReason.AWAITING_APPROVAL.advice
    assert todo_now(view(step=step, asks=(wish,)), NOW) is None
    assert server_json(view(step=step, asks=(wish,)), NOW)["step"]["todo"] is None
