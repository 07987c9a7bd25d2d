"""`fas-evidence demo`: the real service on a loopback port, and a story of launches sent to it."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from evidence_service.access.policy import dump_policy
from evidence_service.adapters.config_store import ConfigStore
from evidence_service.adapters.database import StoreUnavailable, open_database
from evidence_service.adapters.outbox import Outbox
from evidence_service.adapters.renewal_store import RenewalStore
from evidence_service.adapters.trust_store import SourceConfig, TrustStore
from evidence_service.demo.acts import Act, Effect, FarmAct, Scene, perform, perform_at_farm
from evidence_service.demo.ca_desk import FILE as DESK_FILE
from evidence_service.demo.ca_desk import CaDesk
from evidence_service.demo.federation import PATH, Federation
from evidence_service.demo.renewal import renewals
from evidence_service.demo.renewal_farm import FAS1, FAS2, RenewalFarm, ShownMail
from evidence_service.demo.rollover import ACTOR, key_names, rollovers
from evidence_service.demo.service import HOST, Answer, Child, DemoFailed, Plugin, answers, free_port, question
from evidence_service.demo.steps import ALICE, Cast, Chapter, Step, everyday, launches, new_cast, policy_for, sign_in
from idp_certs.metadata import parse_metadata

DONE, NEGATIVE, BAD_INPUT, DEPENDENCY_FAILED = 0, 1, 2, 3

PLUGIN_NAME = "fas01.corp.example"
DECRYPTION_KEY = "gateway.pem"
PAUSE_SECONDS = 10.0
NARROWEST = 80
REFRESH_SECONDS = 1.0
"""So often AD FS's metadata is asked for; the default is an hour, which nobody wants to watch."""
COOL_DOWN_SECONDS = 0.2
REMOVAL_SIGHTINGS = 2
CHANGES_SECONDS = 0.1

_LOOK_SECONDS = 0.05

Story = Callable[[Cast, datetime, Callable[[], str]], tuple[Chapter, ...]]


def story(cast: Cast, now: datetime, new_id: Callable[[], str]) -> tuple[Chapter, ...]:
    """The whole story as of `now` (UTC); `new_id` gives assertion IDs."""
    return (*launches(cast, now, new_id), *rollovers(cast, now, new_id), *renewals(cast, now, new_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where the demo keeps its files and how to talk to its service."""

    directory: Path
    port: int
    key: str

    @property
    def config(self) -> Path:
        """The settings of the service."""
        return self.directory / "fas-evidence.toml"

    @property
    def renewal_file(self) -> Path:
        """Which FAS servers are renewed; missing until the story names some."""
        return self.data / "renewal.toml"

    @property
    def launch(self) -> Path:
        """One question, ready for curl."""
        return self.directory / "launch.json"

    @property
    def captured(self) -> Path:
        """What the quickstart tries offline, under its names there: a response, metadata and a policy that fit it."""
        return self.directory / "captured"

    @property
    def log(self) -> Path:
        """What the service said."""
        return self.directory / "service.log"

    @property
    def worker_log(self) -> Path:
        """What the worker said."""
        return self.directory / "worker.log"

    @property
    def data(self) -> Path:
        """The service's data directory."""
        return self.directory / "data"

    @property
    def secrets(self) -> Path:
        """The decryption key's directory."""
        return self.directory / "secrets"


def run_demo(
    *,
    once: bool,
    port: int | None = None,
    directory: Path | None = None,
    tell: Story = story,
    pause_seconds: float = PAUSE_SECONDS,
) -> int:
    """Run the demo and return its exit code.

    With `once` it ends after the story; otherwise the service stays up and is sent a launch every `pause_seconds`
    until Ctrl-C. Files go to `directory` and stay there, or to a temporary one that is removed. The code is 0 where
    every answer was as the story says, 1 where one was not, 2 for an unusable `directory`, 3 where the service or its
    database fails.
    """
    out = _console()
    try:
        with _ended_by_signals(), _directory(directory) as place:
            stage = Stage(directory=place, port=free_port(port), key=secrets.token_urlsafe(32))
            return _perform(out, stage, once=once, kept=directory is not None, tell=tell, pause=pause_seconds)
    except _UnusableDirectory as problem:
        return _complain(str(problem), BAD_INPUT)
    except (DemoFailed, StoreUnavailable) as problem:
        return _complain(str(problem), DEPENDENCY_FAILED)


def _perform(out: Console, stage: Stage, *, once: bool, kept: bool, tell: Story, pause: float) -> int:
    now = datetime.now(UTC)
    cast = new_cast(now)
    with _stage(stage, cast, now) as (engine, federation):
        _introduce(out, stage, federation, once=once)
        trust = TrustStore(engine)
        source = partial(trust.get_source, cast.adfs.entity_id)
        service = Child(
            name="service",
            command="serve",
            config=stage.config,
            log=stage.log,
            is_ready=lambda: answers(stage.port),
        )
        worker = Child(
            name="worker",
            command="work",
            config=stage.config,
            log=stage.worker_log,
            is_ready=lambda: source().state.succeeded_at is not None,
        )
        renewal_farm = RenewalFarm(
            directory=stage.directory,
            settings_file=stage.renewal_file,
            secrets_dir=stage.secrets,
            store=RenewalStore(engine),
            outbox=Outbox(engine),
        )
        with renewal_farm, service, worker:
            service.start()
            worker.start()
            service.wait_until_ready()
            worker.wait_until_ready()
            scene = Scene(
                trust=trust,
                federation=federation,
                renewals=renewal_farm,
                worker=worker,
                config=stage.config,
                adfs=cast.adfs,
                names=key_names(cast),
            )
            code, denied = _tell(out, stage, scene, tell(cast, datetime.now(UTC), _new_id))
            if once and not kept:
                out.print("Without --once all stays up; with --directory DIR the files stay, to look into them.")
            else:
                _say_how_to_repeat(out, stage, denied, began=now, running=not once, farm=renewal_farm.is_open)
            if once:
                return code
            desk = CaDesk(renewal_farm.farm.ca, stage.data / DESK_FILE) if renewal_farm.is_open else nullcontext()
            with suppress(KeyboardInterrupt), desk:
                ending = "ends it" if kept else "ends it and removes its files"
                out.print(f"\nRunning; a launch every {pause:g} s, and mails as they come. Ctrl-C {ending}.")
                _keep_running(out, stage, (service, worker), scene, replace(cast, adfs=scene.adfs), pause=pause)
            out.print("\nStopping.")
            if not kept:
                out.print("In the other terminal `unset FAS_EVIDENCE_CONFIG`: the file that it names goes now.")
    return code


@contextmanager
def _stage(stage: Stage, cast: Cast, now: datetime) -> Iterator[tuple[Engine, Federation]]:
    """What an administrator does once: import metadata with policies, follow AD FS's, place the key, enroll FAS."""
    for each in (stage.data, stage.secrets, stage.captured, stage.directory / "metadata", stage.directory / "policies"):
        each.mkdir(mode=0o700)
    pem = cast.gateway_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_private(stage.secrets / DECRYPTION_KEY, pem)
    settings = {
        "data_dir": str(stage.data),
        "secrets_dir": str(stage.secrets),
        "listen_host": HOST,
        "listen_port": stage.port,
        "drain_seconds": 0,
        "refresh_seconds": CHANGES_SECONDS,
        "metadata_allow_loopback": True,
        "metadata_refresh_hours": REFRESH_SECONDS / 3600,
        "metadata_cool_down_seconds": COOL_DOWN_SECONDS,
        "metadata_removal_sightings": REMOVAL_SIGHTINGS,
        "metadata_removal_minutes": 0,
    }
    # A JSON string, number or boolean is a TOML one too.
    lines = (f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    stage.config.write_text("".join(lines), encoding="utf-8")

    engine = open_database(f"sqlite:///{stage.data / 'fas-evidence.db'}")
    try:
        with Federation(cast.adfs.metadata(), stage.directory) as federation:
            _register(stage, cast, ConfigStore(engine), now)
            _capture(stage, cast, now)
            TrustStore(engine).add_source(
                entity_id=cast.adfs.entity_id,
                source=SourceConfig(url=federation.url, ca_pem=federation.ca_pem),
                now=now,
                actor=ACTOR,
                jitter=0,
                seen=None,
            )
            yield engine, federation
    finally:
        engine.dispose()


def _register(stage: Stage, cast: Cast, store: ConfigStore, now: datetime) -> None:
    for idp in cast.registered:
        document, policy = idp.metadata(), policy_for(idp, cast, decryption_key=DECRYPTION_KEY)
        name = idp.profile.product.lower().replace(" ", "-")
        (stage.directory / "metadata" / f"{name}.xml").write_bytes(document)
        (stage.directory / "policies" / f"{name}.toml").write_text(dump_policy(policy), encoding="utf-8")
        (metadata,) = parse_metadata(document)
        store.add_idp(metadata=metadata, document=document, policy=policy, now=now, actor=ACTOR)
    digest = hashlib.sha256(stage.key.encode()).hexdigest()
    store.enroll_plugin(name=PLUGIN_NAME, bearer_key_sha256=digest, now=now, actor=ACTOR)


def _capture(stage: Stage, cast: Cast, now: datetime) -> None:
    """Leave a sign-in as a browser shows it; its policy names no key, which another installation would not have."""
    response = b64encode(sign_in(cast.adfs, ALICE, now, _new_id()))
    policy = replace(policy_for(cast.adfs, cast, decryption_key=DECRYPTION_KEY), decryption_keys=())
    _write_private(stage.captured / "response.b64", response)
    (stage.captured / "FederationMetadata.xml").write_bytes(cast.adfs.metadata())
    (stage.captured / "policy.toml").write_text(dump_policy(policy), encoding="utf-8")


def _tell(out: Console, stage: Stage, scene: Scene, chapters: tuple[Chapter, ...]) -> tuple[int, str]:
    """Take every step; the exit code, and the id of the last decision that was a deny."""
    sent, done, wrong, denied = 0, 0, 0, ""
    for chapter in chapters:
        out.print(Text(f"\n{chapter.title}", style="bold"))
        whose = "IdP, FAS" if any(isinstance(step, FarmAct) for step in chapter.steps) else "IdP"
        _row(out, "answer", "reason", whose, "ms", "what happens, and why", style="dim")
        for step in chapter.steps:
            if not isinstance(step, Step):
                effect = perform(step, scene) if isinstance(step, Act) else perform_at_farm(step, scene)
                done, wrong = done + 1, wrong + bool(effect.wrong)
                _show_act(out, step, effect, scene)
                continue
            answer, asked = _send_until_expected(stage, step)
            sent, wrong = sent + 1, wrong + (not _is_expected(step, answer))
            denied = answer.decision_id if answer.decision == "deny" else denied
            _show(out, step, answer, asked)
    out.print()
    counted = f"{sent} answers and {done} acts" if done else f"{sent} answers"
    if wrong:
        out.print(Text(f"{wrong} of {counted} were not what the story says; look for WRONG above.", "bold red"))
        return NEGATIVE, denied
    out.print(Text(f"All {counted} were what the story says.", "bold green"))
    return DONE, denied


def _send_until_expected(stage: Stage, step: Step) -> tuple[Answer, str]:
    """The last answer, and how often and how long it was asked for, where that was more than once."""
    evidence = step.evidence(datetime.now(UTC)) if callable(step.evidence) else step.evidence
    began = time.monotonic()
    answer, asked = _send(stage, step, evidence), 1
    while not _is_expected(step, answer) and time.monotonic() - began < step.within_seconds:
        time.sleep(_LOOK_SECONDS)
        answer, asked = _send(stage, step, evidence), asked + 1
    return answer, f"Asked {asked} times in {time.monotonic() - began:.1f} s." if asked > 1 else ""


def _send(stage: Stage, step: Step, evidence: bytes | None) -> Answer:
    asked = question(request_id=str(uuid.uuid4()), upn=step.upn, evidence=evidence, phase=step.phase)
    key = stage.key if step.known_caller else secrets.token_urlsafe(32)
    if step.known_caller and step.decision == "allow" and step.upn == ALICE:  # whose launch the plug-in's readme forges
        _write_private(stage.launch, json.dumps(asked, indent=1).encode())
    return Plugin(port=stage.port, key=key).ask(asked)


def _is_expected(step: Step, answer: Answer) -> bool:
    return (answer.decision, answer.reason) == (step.decision, step.reason)


def _row(out: Console, *cells: str | Text, style: str = "") -> None:
    """One row of the table; rows stand alone so that each is shown when its answer comes."""
    # A reason must never be cut, so at 80 columns the words beside it wrap instead.
    row = Table.grid(padding=(0, 2, 0, 0))
    row.width = max(out.width, NARROWEST)
    row.add_column(width=8, no_wrap=True)
    row.add_column(width=22, no_wrap=True)
    row.add_column(width=8, no_wrap=True)
    row.add_column(width=6, no_wrap=True, justify="right")
    row.add_column(ratio=1, overflow="fold")
    row.add_row(*cells, style=style)
    out.print(row)


def _show(out: Console, step: Step, answer: Answer, asked: str) -> None:
    decision = Text(answer.decision, style="green" if answer.decision == "allow" else "red")
    _row(out, decision, answer.reason or "-", step.idp, f"{answer.milliseconds:.1f}", step.title)
    out.print(Padding(Text(f"{step.why} {asked}".strip(), style="dim"), (0, 0, 0, 10)))
    if not _is_expected(step, answer):
        _show_wrong(out, f"the story says {step.decision} {step.reason}".rstrip())


def _show_act(out: Console, act: Act | FarmAct, effect: Effect, scene: Scene) -> None:
    whose = scene.adfs.profile.product if isinstance(act, Act) else act.server.partition(".")[0]
    _row(out, Text("act", style="cyan"), act.outcome, whose, f"{effect.milliseconds:.0f}", act.title)
    out.print(Padding(Text(act.why, style="dim"), (0, 0, 0, 10)))
    for each in effect.texts:
        out.print(Padding(Text(each, style="cyan"), (0, 0, 0, 10)))
    if isinstance(act, FarmAct):
        _show_mails(out, effect.mails, act.shows)
    if effect.wrong:
        _show_wrong(out, effect.wrong)


def _show_mails(out: Console, mails: Sequence[ShownMail], shows: Mapping[str, int]) -> None:
    for mail in mails:
        if mail.kind not in shows:
            out.print(Padding(Text(f"Mail to {mail.to}: {mail.subject}"), (0, 0, 0, 10)))
            continue
        copies = f", copy to {mail.copies}" if mail.copies else ""
        head = f"From: {mail.sender}\nTo: {mail.to}{copies}\nSubject: {mail.subject}"
        for line in "\n\n".join([head, *mail.excerpt(shows[mail.kind])]).split("\n"):
            for part in textwrap.wrap(line, max(out.width, NARROWEST) - 14, break_on_hyphens=False) or [""]:
                out.print(Padding(Text(f"> {part}".rstrip()), (0, 0, 0, 12)))


def _show_wrong(out: Console, how: str) -> None:
    out.print(Padding(Text(f"WRONG: {how}", style="bold red"), (0, 0, 0, 10)))


def _introduce(out: Console, stage: Stage, federation: Federation, *, once: bool) -> None:
    out.print(Text("fas-evidence demo", style="bold"))
    ending = "ends after the story" if once else "runs until Ctrl-C"
    out.print(f"The real service on http://{HOST}:{stage.port} with four demonstration IdPs; it {ending}.")
    out.print("Launches go to it over HTTP, as the FAS plug-in sends them; ms is the whole request.")
    out.print(f"AD FS publishes its metadata on {federation.url.removesuffix(PATH)}; the worker follows it.")
    out.print("The FAS servers and the CA of the last chapters are simulated; they are reached as real ones are.")


def _say_how_to_repeat(out: Console, stage: Stage, denied: str, *, began: datetime, running: bool, farm: bool) -> None:
    out.print()
    out.print(Text("In another terminal, first:", style="bold"))
    out.print(f"export {_path_to_program()}FAS_EVIDENCE_CONFIG={shlex.quote(str(stage.config))}", soft_wrap=True)
    if running:
        out.print(Text("Send a launch yourself:", style="bold"))
        command = (
            f"curl -s -H 'Authorization: Bearer {stage.key}' -H 'Content-Type: application/json' "
            f"--data @{shlex.quote(str(stage.launch))} http://{HOST}:{stage.port}/v1/decisions"
        )
        out.print(command, soft_wrap=True)
    out.print(Text("Judge a captured response offline, as of when it was issued:", style="bold"))
    names = ("response.b64", "FederationMetadata.xml", "policy.toml")
    files = (shlex.quote(str(stage.captured / name)) for name in names)
    out.print(
        "fas-evidence check {} --metadata {} --policy {}".format(*files)
        + f" --upn {ALICE} --at {began:%Y-%m-%dT%H:%M:%SZ}",
        soft_wrap=True,
    )
    if denied:
        out.print(Text("See why one was denied, check by check:", style="bold"))
        out.print(f"fas-evidence explain {denied}", soft_wrap=True)
    out.print(Text("See which keys are trusted, and what waited for a person:", style="bold"))
    out.print("fas-evidence key list", soft_wrap=True)
    out.print("fas-evidence rollover list --all", soft_wrap=True)
    if farm:
        out.print(Text("See how the FAS servers stand, and what was done at one:", style="bold"))
        out.print("fas-evidence authcert status", soft_wrap=True)
        out.print(f"fas-evidence authcert history {FAS2}", soft_wrap=True)
    if farm and running:
        out.print(
            Text("Play the CA manager: ask for a renewal, wait for the mail, then issue or deny it:", style="bold")
        )
        out.print(f"fas-evidence authcert renew {FAS1} --yes", soft_wrap=True)
        out.print("fas-evidence demo ca list", soft_wrap=True)
        out.print("fas-evidence demo ca issue NUMBER", soft_wrap=True)
        out.print("fas-evidence demo ca deny NUMBER --reason 'Nobody told me'", soft_wrap=True)
        out.print("That mail comes at once; others of a kind that just came wait 15 minutes and come as one:")
        out.print("fas-evidence notify list", soft_wrap=True)
    out.print(Text("Files (metadata, policies, mails, database, logs):", style="bold"))
    out.print(str(stage.directory), soft_wrap=True)


def _path_to_program() -> str:
    """What makes a shell find the `fas-evidence` that belongs to this Python; "" where it does."""
    ours = Path(sys.executable).parent
    found = shutil.which("fas-evidence")
    if not (ours / "fas-evidence").exists() or (found is not None and Path(found).parent == ours):
        return ""
    return f'PATH={shlex.quote(str(ours))}:"$PATH" '


def _keep_running(
    out: Console, stage: Stage, children: Sequence[Child], scene: Scene, cast: Cast, *, pause: float
) -> None:
    """Send something now and then, and show the mails that come, until Ctrl-C."""
    scene.renewals.unseen_mails()  # those that the story led to
    for number in count():
        give_up = time.monotonic() + pause
        while time.monotonic() < give_up:
            time.sleep(min(0.5, pause))
            for child in children:
                child.check_running()
            _show_mails(out, scene.renewals.unseen_mails(), {"approval_needed": 1})
        now = datetime.now(UTC)
        steps = everyday(cast, now, _new_id)
        step = steps[number % len(steps)]
        answer, _ = _send_until_expected(stage, step)
        mark = "" if _is_expected(step, answer) else "  WRONG"
        out.print(
            f"{now:%H:%M:%S}Z  {answer.decision:<5}  {answer.reason:<22}  {answer.milliseconds:5.1f} ms  "
            f"{step.idp:<8}  {step.title}{mark}",
            soft_wrap=True,
        )


def _new_id() -> str:
    return f"_{uuid.uuid4().hex}"


def _console() -> Console:
    # rich takes the width from COLUMNS or the terminal, and leaves out colour off a terminal or with NO_COLOR.
    return Console(file=sys.stdout, markup=False, highlight=False, emoji=False)


def _complain(text: str, code: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"error: {' '.join(text.split())}\n")
    return code


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


class _UnusableDirectory(Exception):  # noqa: N818 - named for what happened
    """The directory that was asked for cannot take the demo's files."""


@contextmanager
def _directory(wanted: Path | None) -> Iterator[Path]:
    if wanted is None:
        place = Path(tempfile.mkdtemp(prefix="fas-evidence-demo-"))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return
    place = wanted.absolute()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise _UnusableDirectory(f"--directory {place}: is not empty; name a new or empty one")
    except OSError as error:
        raise _UnusableDirectory(f"--directory {place}: {error.strerror}; name a new or empty one") from error
    yield place


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End quietly on Ctrl-C and on SIGTERM, with everything cleaned up on the way out.

    Ctrl-C also where a shell started it with `&` and had it ignored: service and worker would end by it all the same.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
