"""The part of the story in which FAS servers get new authorization certificates: as planned, and when it goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from evidence_service.demo.acts import FarmAct, Scene
from evidence_service.demo.renewal_farm import FAS1, FAS2, LEAD_DAYS, LEFT_DAYS, SOAK_SECONDS, TEST_UPN, short, typed
from evidence_service.demo.steps import CAROL, Cast, Chapter, Step, make_step, sign_in
from evidence_service.renewal.model import Attempt, Request, Result, Retire, StepKind, Verify, Withdraw

RENEWAL_CMDLETS = (
    "New-FasAuthorizationCertificate",
    "Set-FasCertificateDefinition",
    "Test-FasCertificateSigningRequest",
    "Set-FasServer",
    *["Set-FasCertificateDefinition"] * 3,
    *["Test-FasCertificateSigningRequest"] * 4,
    "Set-FasServer",
    "Remove-FasAuthorizationCertificate",
)
"""What a renewal of fas1 calls, in order, besides what only reads."""
NOT_ME = "Nobody told me of this request"


def renewals(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Chapter, ...]:
    """Renewals of FAS authorization certificates; arguments as of `launches`."""
    return (
        Chapter(title="A FAS server's authorization certificate is renewed", steps=_planned(cast, now, new_id)),
        Chapter(title="A request that is denied, and a certificate that does not work", steps=_adverse()),
    )


def _planned(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Step | FarmAct, ...]:
    at_fas1 = partial(FarmAct, server=FAS1)
    return (
        at_fas1(
            title="Two FAS servers are named",
            why="By renewal.toml. The worker starts anew and asks each, by PowerShell remoting.",
            outcome="looked at",
            by_hand=_start,
            tells=_told_of_servers,
        ),
        at_fas1(
            title="Expiry is noticed",
            why=f"{LEFT_DAYS} days are left and the lead is {LEAD_DAYS}: FAS is told to ask the CA for a new one.",
            outcome="requested",
            tells=partial(_told_of_request, name=FAS1),
            mails=("authcert_expiring", "request_made"),
        ),
        at_fas1(
            title="The CA manager is told",
            why="A certificate by which a server can sign anybody on is issued by a person, or not at all.",
            outcome="mailed",
            tells=_told_where_it_stands,
            mails=("approval_needed",),
            shows={"approval_needed": 1},
        ),
        make_step(
            cast.okta,
            CAROL,
            sign_in(cast.okta, CAROL, now, new_id()),
            None,
            title="Carol launches meanwhile",
            why="A renewal changes nothing for users, and decisions do not wait for it.",
        ),
        at_fas1(
            title="The CA manager issues it",
            why="FAS fetches it. One definition, which no user has, tries it before any other names it.",
            outcome="proven",
            by_hand=partial(_decide, name=FAS1),
            tells=_told_of_proof,
            mails=("certificate_issued",),
        ),
        at_fas1(
            title="The definitions are switched",
            why="Users go to fas2 meanwhile. Each definition is read back, then each rule is tested.",
            outcome="switched",
            tells=_told_of_switch,
            mails=("switched",),
        ),
        at_fas1(
            title="The old one is removed",
            why=f"It was the way back for {SOAK_SECONDS} s, where 3 days are usual. Now nothing names it.",
            outcome="removed",
            tells=_told_of_removal,
            mails=("renewal_report",),
            shows={"renewal_report": 3},
        ),
        at_fas1(
            title="What was called at fas1",
            why="Every cmdlet that changed or tested something, as it came to FAS; ids are cut short.",
            outcome="as planned",
            tells=_told_of_calls,
        ),
    )


def _adverse() -> tuple[FarmAct, ...]:
    at_fas2 = partial(FarmAct, server=FAS2)
    return (
        at_fas2(
            title="An administrator asks",
            why="By `authcert renew fas2.corp.example`, although 300 days are left.",
            outcome="requested",
            by_hand=partial(_ask, note="rehearsal"),
            tells=partial(_told_of_request, name=FAS2),
        ),
        at_fas2(
            title="The CA manager denies it",
            why="The request is taken back, and nothing else was changed.",
            outcome="withdrawn",
            by_hand=partial(_decide, name=FAS2, denied=NOT_ME),
            tells=_told_of_denial,
            mails=("withdrawn",),
            shows={"withdrawn": 1},
        ),
        at_fas2(
            title="They talk, and ask again",
            why="A denial ends what a person asked for; only what is due is asked once more by itself, after a day.",
            outcome="requested",
            by_hand=partial(_ask, note="agreed with the CA manager"),
            tells=partial(_told_of_request, name=FAS2, requests=2),
        ),
        at_fas2(
            title="It is issued, and fails",
            why="fas2 has no definition for tests, so that this shows only after the switch.",
            outcome="rolled back",
            by_hand=_issue_broken,
            tells=_told_of_roll_back,
            mails=("rolled_back",),
            shows={"rolled_back": 2},
        ),
    )


def _start(scene: Scene) -> None:
    scene.renewals.open()
    scene.worker.restart()


def _ask(scene: Scene, *, note: str) -> None:
    scene.command("authcert", "renew", FAS2, "--yes", "--note", note)


def _decide(scene: Scene, *, name: str, denied: str = "") -> None:
    """Play the CA manager. Raises NotFound."""
    request, ca = scene.renewals.pending(name), scene.renewals.farm.ca
    if denied:
        ca.deny(request.number, denied)
    else:
        ca.issue(request.number)


def _issue_broken(scene: Scene) -> None:
    """Issue what FAS cannot enroll anybody with. Raises NotFound."""
    farm = scene.renewals
    request, server = farm.pending(FAS2), farm.server(FAS2)
    server.test_fails = next(each.id for each in server.certificates.values() if each.request is request)
    farm.farm.ca.issue(request.number)


def _told_of_servers(scene: Scene) -> Sequence[str]:
    texts = []
    for name in (FAS1, FAS2):
        seen = scene.renewals.status(name).observation
        if seen is None:
            return ()
        (used,) = seen.used
        certificate = seen.certificate(used)
        if certificate is None or certificate.expires is None:
            return ()
        days = (certificate.expires - datetime.now(UTC)).days
        texts.append(
            f"{name}: {len(seen.definitions)} certificate definitions name authorization certificate {short(used)}, "
            f"which expires in {days} days."
        )
    return texts


def _told_of_request(scene: Scene, *, name: str, requests: int = 1) -> Sequence[str]:
    made = scene.renewals.done(name, StepKind.REQUEST)
    new = scene.renewals.entry(name, made[-1].certificate_id) if len(made) == requests else None
    if new is None or new.ca_request_id is None:
        return ()
    return (f"Request {new.ca_request_id} is pending at {new.certificate_authority}; FAS calls it {short(new.id)}.",)


def _told_where_it_stands(scene: Scene) -> Sequence[str]:
    shown = json.loads(scene.command("authcert", "status", FAS1, "--output", "json"))
    if shown["condition"] != "waits for approval":
        return ()
    return (f"`authcert status` says: {shown['condition']}. {shown['step']['todo']}",)


def _told_of_proof(scene: Scene) -> Sequence[str]:
    new = _new(scene, FAS1)
    if not scene.renewals.done(FAS1, StepKind.PROVE):
        return ()
    return (f"{short(new)} is for the key that was made, lives long enough, and enrolls {TEST_UPN}.",)


def _told_of_switch(scene: Scene) -> Sequence[str]:
    farm, new = scene.renewals, _new(scene, FAS1)
    entered, left = farm.done(FAS1, StepKind.ENTER_MAINTENANCE), farm.done(FAS1, StepKind.LEAVE_MAINTENANCE)
    tested = [each.step for each in farm.done(FAS1, StepKind.VERIFY) if isinstance(each.step, Verify)]
    if not left or not tested or farm.in_use(FAS1) != {new} or farm.server(FAS1).maintenance:
        return ()
    seconds = (_end(left[-1]) - _end(entered[-1])).total_seconds()
    switched = len(farm.done(FAS1, StepKind.SWITCH))
    return (
        f"{switched} definitions name {short(new)}. {TEST_UPN} was enrolled {len(tested[-1].tests)} times.",
        f"fas1 was in maintenance for {seconds:.1f} s.",
    )


def _told_of_removal(scene: Scene) -> Sequence[str]:
    farm = scene.renewals
    retired = [each.step for each in farm.done(FAS1, StepKind.RETIRE) if isinstance(each.step, Retire)]
    server = farm.server(FAS1)
    if not retired or set(server.certificates) != farm.in_use(FAS1):
        return ()
    kept = sum(each.authorization_certificate == retired[-1].certificate_id for each in server.users)
    return (f"{short(retired[-1].certificate_id)} is gone. {kept} users' certificates that it enrolled are kept.",)


def _told_of_calls(scene: Scene) -> Sequence[str]:
    calls = scene.renewals.calls(FAS1)
    if tuple(each.name for each in calls) != RENEWAL_CMDLETS:
        return ()
    return tuple(f"{number:2}. {typed(each)}" for number, each in enumerate(calls, 1))


def _told_of_denial(scene: Scene) -> Sequence[str]:
    farm = scene.renewals
    gone = [each.step for each in farm.done(FAS2, StepKind.WITHDRAW) if isinstance(each.step, Withdraw)]
    if not gone or set(farm.server(FAS2).certificates) != farm.in_use(FAS2):
        return ()
    (used,) = farm.in_use(FAS2)
    return (f"{short(gone[-1].certificate_id)} is gone; {short(used)} stays in use.",)


def _told_of_roll_back(scene: Scene) -> Sequence[str]:
    farm, new = scene.renewals, _new(scene, FAS2)
    server = farm.server(FAS2)
    failed = farm.done(FAS2, StepKind.VERIFY, Result.FAILED)
    if not failed or not farm.done(FAS2, StepKind.LEAVE_MAINTENANCE) or new in farm.in_use(FAS2) or server.maintenance:
        return ()
    (used,) = farm.in_use(FAS2)
    there, back = len(farm.done(FAS2, StepKind.SWITCH)), len(farm.done(FAS2, StepKind.ROLL_BACK))
    return (
        f"{there} definitions went to {short(new)}, which did not enroll {TEST_UPN}, and {back} back to {short(used)}.",
        f"fas2 serves again, by the old one. {len(server.users)} users' certificates are kept.",
    )


def _new(scene: Scene, name: str) -> str:
    """The id of what was requested last."""
    made = [each for each in scene.renewals.done(name, StepKind.REQUEST) if isinstance(each.step, Request)]
    return (made[-1].certificate_id if made else None) or ""


def _end(attempt: Attempt) -> datetime:
    return attempt.result_at or attempt.at
