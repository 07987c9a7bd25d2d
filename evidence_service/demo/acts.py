"""What others do between launches: AD FS publishes metadata, people decide; and what comes of it.

An act is done to the real thing: the document is served over HTTPS for `fas-evidence work` to fetch, an
administrator's act goes to the store of trust, and the CA manager's to the CA. What comes of it is read from the
stores, from FAS, and from the mails that were sent.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from evidence_service.adapters.trust_store import Conflict, NotFound, RolloverState, TrustStore
from evidence_service.demo.fas_ca import ApprovalRefused
from evidence_service.demo.federation import Federation
from evidence_service.demo.idp import DemoIdp
from evidence_service.demo.renewal_farm import RenewalFarm, ShownMail
from evidence_service.demo.service import Child, DemoFailed, clean_environment
from idp_certs.model import CertificateState

COMES_WITHIN_SECONDS = 60.0
"""How long the effect of an act is waited for: an upkeep every 5 s is the slowest part, on a machine that is busy."""
_LOOK_SECONDS = 0.02
_COMMAND_SECONDS = 60.0


@dataclass(slots=True, kw_only=True)
class Scene:
    """Where acts happen. `adfs` is AD FS as it signs now; `names` are those of its keys, by certificate SHA-256."""

    trust: TrustStore
    federation: Federation
    renewals: RenewalFarm
    worker: Child
    config: Path
    adfs: DemoIdp
    names: Mapping[str, str]
    published_at: datetime | None = None

    @property
    def states(self) -> Mapping[str, CertificateState]:
        """The state of each of AD FS's certificates, by SHA-256."""
        tracked = self.trust.load_trust(self.adfs.entity_id).certificates
        return {each.certificate.sha256: each.certificate.state for each in tracked}

    @property
    def waiting(self) -> Mapping[str, str]:
        """The certificates that wait for a person, by SHA-256, each with the ID of its rollover."""
        held = self.trust.list_rollovers(state=RolloverState.HELD)
        return {certificate.sha256: each.id for each in held for certificate, _ in each.withheld}

    def name(self, sha256: str) -> str:
        """As the story calls it, with the digits by which `key` commands find it."""
        return f"{self.names.get(sha256, 'a key')} ({sha256[:8]})"

    def publish(self, document: bytes, *, unnoticed: bool) -> None:
        """Serve it; `unnoticed`: when the worker has just asked, so that it does not ask again at once."""
        if unnoticed:
            last = self.trust.get_source(self.adfs.entity_id).state.succeeded_at
            self.wait(lambda: self.trust.get_source(self.adfs.entity_id).state.succeeded_at != last)
        self.published_at = datetime.now(UTC)
        self.federation.publish(document)

    def wait(self, come: Callable[[], bool]) -> bool:
        """Whether it comes in time. Raises DemoFailed where the worker ends."""
        give_up = time.monotonic() + COMES_WITHIN_SECONDS
        while not come():
            if time.monotonic() >= give_up:
                return False
            self.worker.check_running()
            time.sleep(_LOOK_SECONDS)
        return True

    def command(self, *arguments: str) -> str:
        """What `fas-evidence` prints. Raises DemoFailed where it fails."""
        program = [sys.executable, "-m", "evidence_service", "--config", str(self.config), *arguments]
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter and our own arguments
                program,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_COMMAND_SECONDS,
                env=clean_environment(),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DemoFailed(f"fas-evidence {' '.join(arguments)} did not end: {type(error).__name__}") from error
        if done.returncode != 0:
            said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            raise DemoFailed(f"fas-evidence {' '.join(arguments)} ended with code {done.returncode}: {said}")
        return done.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something that is done, and what has to come of it. `why` explains it in plain words, `outcome` in one.

    `by_hand` is an administrator's act, `publishes` a document that is served from then on; with neither, what came
    before takes effect. `states` are those of all of AD FS's certificates afterwards, by SHA-256, `waiting` what waits
    for a person. `unnoticed`: the worker does not fetch the document at once, and nothing is waited for. `tells` adds
    what else has come of it, "" where that is not as it should be. `signs_now` is AD FS as it signs afterwards.
    """

    title: str
    why: str
    outcome: str
    states: Mapping[str, CertificateState]
    waiting: frozenset[str] = frozenset()
    by_hand: Callable[[TrustStore, datetime], object] | None = None
    publishes: bytes | None = None
    unnoticed: bool = False
    tells: Callable[[Scene], str] | None = None
    signs_now: DemoIdp | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmAct:
    """Something that is done about a FAS server, and what has to come of it; `title`, `why` and `outcome` as in Act.

    `by_hand` is what a person does; without it the worker goes on by itself. `tells` says what has come of it, nothing
    while that has not come; `mails` are the kinds of the mails that it leads to, each once, as messages of one
    kind may come as one. Of those in `shows` so many paragraphs are shown, and what to do; of others the subject alone.
    """

    title: str
    why: str
    outcome: str
    server: str
    tells: Callable[[Scene], Sequence[str]]
    by_hand: Callable[[Scene], object] | None = None
    mails: tuple[str, ...] = ()
    shows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What came of an act, in sentences, and how long that took. `wrong` says how it is not as told, "" if it is.

    `mails` arrived meanwhile.
    """

    texts: tuple[str, ...]
    milliseconds: float
    wrong: str = ""
    mails: tuple[ShownMail, ...] = ()


def perform(act: Act, scene: Scene) -> Effect:
    """Do it and wait for what has to come. Raises DemoFailed and StoreUnavailable."""
    began = time.perf_counter()
    entity_id = scene.adfs.entity_id
    past, waited = len(scene.trust.history(entity_id)), scene.waiting
    wrong = ""
    come = _has_come(act, scene)  # all that is asked of what nobody notices: the worker may look at any moment
    if act.by_hand is not None:
        try:
            act.by_hand(scene.trust, datetime.now(UTC))
        except (Conflict, NotFound) as refusal:
            wrong = f"it was refused: {refusal}"
    if act.publishes is not None:
        scene.publish(act.publishes, unnoticed=act.unnoticed)
    if act.signs_now is not None:
        scene.adfs = act.signs_now
    if not wrong and not act.unnoticed:
        come = scene.wait(lambda: _has_come(act, scene))
    elapsed = (time.perf_counter() - began) * 1000
    texts = [
        f"{scene.name(each.sha256)}: {each.before or 'new'} -> {each.after}."
        for each in scene.trust.history(entity_id)[past:]
    ]
    waits = scene.waiting
    texts += [f"{scene.name(each)} waits, as rollover {waits[each]}." for each in waits if each not in waited]
    decided = sorted(set(waited.values()) - set(waits.values()))
    texts += [f"Rollover {each}: held -> {scene.trust.get_rollover(each).state}." for each in decided]
    if act.tells is not None:
        told = act.tells(scene)
        come = come and told != ""
        texts += [told] if told else []
    if not come and not wrong:
        is_so = _standing(scene, scene.states, scene.waiting)
        wrong = f"the story says {_standing(scene, act.states, act.waiting)}; it is {is_so}"
    return Effect(texts=tuple(texts) or ("No key changes its state.",), milliseconds=elapsed, wrong=wrong)


def perform_at_farm(act: FarmAct, scene: Scene) -> Effect:
    """Do it and wait for what has to come. Raises DemoFailed and StoreUnavailable."""
    began = time.perf_counter()
    wrong = ""
    try:
        if act.by_hand is not None:
            act.by_hand(scene)
    except (Conflict, NotFound, ApprovalRefused) as refusal:
        wrong = f"it was refused: {refusal}"
    texts: Sequence[str] = ()
    mails: Sequence[ShownMail] = ()

    def has_come() -> bool:
        nonlocal texts, mails
        texts = texts or act.tells(scene)
        mails = mails or scene.renewals.new_mails(act.mails)
        return bool(texts) and len(mails) == len(act.mails)

    if not wrong and not scene.wait(has_come):
        missing = "" if mails or not act.mails else f", and not every mail came ({', '.join(act.mails)})"
        wrong = f"the story says {act.outcome}; {scene.renewals.standing(act.server)}{missing}"
    elapsed = (time.perf_counter() - began) * 1000
    return Effect(texts=tuple(texts), mails=tuple(mails), milliseconds=elapsed, wrong=wrong)


def _has_come(act: Act, scene: Scene) -> bool:
    if act.publishes is not None and not act.unnoticed and not act.waiting:  # what waits puts no document into force
        accepted = scene.trust.get_source(scene.adfs.entity_id).state.document_sha256
        if accepted != hashlib.sha256(act.publishes).hexdigest():
            return False
    return scene.states == act.states and set(scene.waiting) == act.waiting


def _standing(scene: Scene, states: Mapping[str, CertificateState], waiting: Iterable[str]) -> str:
    said = [f"{scene.name(each)} {state}" for each, state in states.items()]
    return ", ".join([*said, *(f"{scene.name(each)} waiting" for each in sorted(waiting))])
