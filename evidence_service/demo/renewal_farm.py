"""The FAS servers of the demo with their CA, over real PowerShell remoting, and the mails that the worker writes."""

from __future__ import annotations

import email
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.policy import default
from pathlib import Path
from typing import Self, cast

from evidence_service.adapters.outbox import Outbox
from evidence_service.adapters.renewal_rows import ServerStatus
from evidence_service.adapters.renewal_store import RenewalStore
from evidence_service.adapters.trust_store import NotFound
from evidence_service.demo.fas_ca import CaRequest
from evidence_service.demo.fas_farm import SERVERS, FarmCall, FarmServer, SimulatedFarm
from evidence_service.demo.service import DemoFailed
from evidence_service.demo.winrm import WinRmServer
from evidence_service.demo.winrm_identity import write_private
from evidence_service.renewal.cmdlets import READING, Argument, Cmdlet, as_powershell
from evidence_service.renewal.model import STEP_KINDS, Attempt, AuthorizationCertificate, Result, StepKind

FAS1, FAS2 = SERVERS
DEFINITIONS = ("default_Definition", "contractors_Definition", "kiosk_Definition")
TEST_DEFINITION, TEST_RULE, TEST_UPN = "test_Definition", "test", "fas-test@corp.example"
USERS = 40
"""Certificates of users that each server keeps when the story begins."""
LEAD_DAYS, LEFT_DAYS, LEFT_DAYS_FAS2 = 30, 20, 300
SOAK_SECONDS = 3
"""The default is three days."""
PASSWORD = "fas-renewal.password"  # noqa: S105 - a file's name
OPERATORS, APPROVERS, SENDER = "citrix@corp.example", "ca-managers@corp.example", "fas-evidence@corp.example"

_LIFETIME = timedelta(days=400)
_NOTICED_WITHIN = timedelta(seconds=0.3)
_GUID = re.compile(r"\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_SPEAKS_TO_NOBODY = READING | {"Add-PSSnapin"}
_TODO = "What to do:"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownMail:
    """A mail as it lies in the pickup directory. `paragraphs` are those of its text between title and signature."""

    kind: str
    sender: str
    to: str
    copies: str
    subject: str
    paragraphs: tuple[str, ...]

    def excerpt(self, paragraphs: int) -> tuple[str, ...]:
        """The first so many paragraphs, and the one that says what to do; what is left out is marked."""
        shown = tuple(
            each for number, each in enumerate(self.paragraphs) if number < paragraphs or each.startswith(_TODO)
        )
        return shown if shown == self.paragraphs else (*shown, "[...]")


class RenewalFarm:
    """Two FAS servers, their CA, and what the worker needs to renew them. A context manager: leaving it ends them.

    fas1's certificate is due, fas2's is not; only fas1 has a certificate definition for tests.
    """

    def __init__(
        self, *, directory: Path, settings_file: Path, secrets_dir: Path, store: RenewalStore, outbox: Outbox
    ) -> None:
        """Prepare; nothing is started or written.

        Mails and certificates will go to `directory`, a password to `secrets_dir`, and the names of the servers to
        `settings_file`, where the worker looks for them.
        """
        self._directory, self._settings_file, self._secrets_dir = directory, settings_file, secrets_dir
        self.store, self._outbox = store, outbox
        self._ending = ExitStack()
        self._farm: SimulatedFarm | None = None
        self._seen: set[str] = set()

    def __enter__(self) -> Self:
        """Nothing yet."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Serve no more."""
        self._ending.close()

    @property
    def mail_directory(self) -> Path:
        """Where mails are put."""
        return self._directory / "mail"

    def open(self) -> None:
        """Start the servers, and write the settings by which a worker renews them. Raises OSError."""
        now = datetime.now(UTC)
        self._farm = _new_farm(now)
        winrm_directory = self._directory / "winrm"
        for each in (winrm_directory, self.mail_directory):
            each.mkdir(mode=0o700)
        winrm = self._ending.enter_context(WinRmServer(self._farm, winrm_directory))
        write_private(self._secrets_dir / PASSWORD, winrm.password.encode())
        self._settings_file.write_text(_settings(winrm, self.mail_directory), encoding="utf-8")
        # Otherwise a new server is looked at within a minute, and its renewal starts within a day of being due.
        self.store.configure(SERVERS, now=now, draw=lambda: 0.0)

    @property
    def is_open(self) -> bool:
        """Whether the servers were started."""
        return self._farm is not None

    @property
    def farm(self) -> SimulatedFarm:
        """The servers and the CA. Raises DemoFailed before `open`."""
        if self._farm is None:
            raise DemoFailed("the story asks for the FAS servers before it has started them")
        return self._farm

    def server(self, name: str) -> FarmServer:
        """One server at the state of now."""
        return self.farm.server(name)

    def status(self, name: str) -> ServerStatus:
        """What the worker knows of it."""
        return self.store.status(name)

    def pending(self, name: str) -> CaRequest:
        """What the server has asked the CA for and nobody has decided. Raises NotFound."""
        account = self.server(name).account
        for each in self.farm.ca.pending:
            if each.requester == account:
                return each
        raise NotFound(f"no request of {account} is pending")

    def done(self, name: str, kind: StepKind, result: Result = Result.DONE) -> tuple[Attempt, ...]:
        """The worker's acts of this kind at a server that ended so."""
        acts = self.store.attempts(name).acts
        return tuple(each for each in acts if STEP_KINDS[type(each.step)] is kind and each.result is result)

    def entry(self, name: str, certificate_id: str | None) -> AuthorizationCertificate | None:
        """A certificate as the worker saw it last."""
        seen = self.status(name).observation
        return None if seen is None else seen.certificate(certificate_id)

    def in_use(self, name: str) -> frozenset[str]:
        """The ids that the server's definitions name."""
        return frozenset(each.authorization_certificate for each in self.server(name).definitions.values())

    def standing(self, name: str) -> str:
        """Where the server's renewal stands, for a story that went another way."""
        try:
            status = self.status(name)
        except NotFound as unknown:
            return str(unknown)
        at = "nothing was looked at" if status.step is None else f"it is at {STEP_KINDS[type(status.step)]}"
        reason = getattr(status.step, "reason", None)
        problem = "" if status.problem is None else f"; {status.problem.reason}: {status.problem.presented}"
        return f"{at}{'' if reason is None else f' ({reason})'}{problem}"

    def calls(self, name: str) -> tuple[FarmCall, ...]:
        """The calls that changed or tested something at a server."""
        with self.farm.lock:
            return tuple(each for each in self.farm.calls if each.server == name and each.name not in _SPEAKS_TO_NOBODY)

    def new_mails(self, kinds: Sequence[str]) -> tuple[ShownMail, ...]:
        """A mail of each of these kinds that was not shown yet, in this order; nothing while one is missing."""
        arrived = self._arrived()
        found: list[Path] = []
        for kind in kinds:
            path = next((each for each, its in arrived.items() if its == kind and each not in found), None)
            if path is None:
                return ()
            found.append(path)
        self._seen |= {each.stem for each in found}
        return tuple(_read_mail(each, arrived[each]) for each in found)

    def unseen_mails(self) -> tuple[ShownMail, ...]:
        """Every mail that was not shown yet, oldest first."""
        return self.new_mails(tuple(self._arrived().values()))

    def _arrived(self) -> Mapping[Path, str]:
        """The mails that were not shown yet, oldest first, each with its kind."""
        stored = {each.id: each.message.kind for each in self._outbox.messages(limit=1000)}
        arrived = (path for path in self.mail_directory.glob("*.eml") if path.stem in stored)
        unseen = sorted(
            (path for path in arrived if path.stem not in self._seen),
            key=lambda path: (path.stat().st_mtime_ns, path.stem),
        )
        return {path: stored[path.stem] for path in unseen}


def short(certificate_id: str) -> str:
    """The digits of an id that tell it apart."""
    return certificate_id[:8]


def typed(call: FarmCall) -> str:
    """The call as a person would type it, with ids cut short."""
    text = as_powershell(Cmdlet(name=call.name, parameters=cast("Mapping[str, Argument]", call.parameters)))
    return _GUID.sub(r"\1...", text)


def _new_farm(now: datetime) -> SimulatedFarm:
    farm = SimulatedFarm(now, clock=lambda: datetime.now(UTC))
    rules = {"default": DEFINITIONS[:1], "contractors": DEFINITIONS[1:]}
    first = (*DEFINITIONS, TEST_DEFINITION), {**rules, TEST_RULE: (TEST_DEFINITION,)}
    for name, left, (definitions, its_rules) in (
        (FAS1, LEFT_DAYS, first),
        (FAS2, LEFT_DAYS_FAS2, (DEFINITIONS, rules)),
    ):
        farm.install(
            name,
            # An hour more, so that whole days are left to the end of the story.
            expires=now + timedelta(days=left, hours=1),
            lifetime=_LIFETIME,
            definitions=definitions,
            rules=its_rules,
            user_certificates=USERS,
        )
        farm.server(name).notice_delay = _NOTICED_WITHIN
    farm.ca.set_lifetime(_LIFETIME)
    return farm


def _settings(winrm: WinRmServer, mail_directory: Path) -> str:
    """What `renewal.toml` says, with short times so that nobody waits."""
    common = {
        "lead": f"{LEAD_DAYS}d",
        "jitter": "0s",
        "soak": f"{SOAK_SECONDS}s",
        "poll": "1s",
        "check": "10s",
        "test_upn": TEST_UPN,
    }
    lines = ["[renewal]", *_members(common)]
    for name in SERVERS:
        connection = winrm.connection(name)
        reached = {
            "name": name,
            "connection": "winrm",
            "host": connection.host,
            "port": connection.port,
            "username": connection.username,
            "password_file": PASSWORD,
            "ca_file": connection.ca_file,
        }
        lines += ["", "[[fas_servers]]", *_members(reached)]
        if name == FAS1:
            tested = {"test_rule": TEST_RULE, "test_definition": TEST_DEFINITION}
            lines += ["[fas_servers.renewal]", *_members(tested)]
    people = {"from": SENDER, "approvers": [APPROVERS], "operators": [OPERATORS]}
    lines += ["", "[mail]", *_members(people), "[mail.pickup]", *_members({"directory": str(mail_directory)})]
    return "\n".join(lines) + "\n"


def _members(table: Mapping[str, object]) -> list[str]:
    # A JSON string, number or list of strings is a TOML one too.
    return [f"{name} = {json.dumps(value)}" for name, value in table.items()]


def _read_mail(path: Path, kind: str) -> ShownMail:
    mail = email.message_from_bytes(path.read_bytes(), policy=default)
    body = mail.get_body(("plain",))
    text = "" if body is None else body.get_content().replace("\r\n", "\n")
    # The title comes first and is the subject; the signature begins with "-- ".
    paragraphs = [each.strip() for each in text.split("\n-- \n")[0].split("\n\n")[1:]]
    return ShownMail(
        kind=kind,
        sender=str(mail["From"]),
        to=str(mail["To"]),
        copies=str(mail["Cc"] or ""),
        subject=str(mail["Subject"]),
        paragraphs=tuple(each for each in paragraphs if each),
    )
