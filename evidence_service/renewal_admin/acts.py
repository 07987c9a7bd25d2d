"""What people do about renewals. The worker does what is asked for; here it is checked and left for it.

Nothing here changes anything at FAS: what a person wishes is judged by the worker, with everything else, at its next
look, which it takes at once.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import SystemRandom
from typing import Any

from cryptography import x509
from sqlalchemy import Engine

from evidence_service.adapters.channels import Tried, find_channels, open_channels, send_test
from evidence_service.adapters.database import writing
from evidence_service.adapters.fas import open_fas
from evidence_service.adapters.idp_rows import record_act
from evidence_service.adapters.preflight import look_over
from evidence_service.adapters.renewal_store import Conflict, HistoryEntry, NotFound, RenewalStore, ServerStatus
from evidence_service.notices.model import Audience
from evidence_service.renewal.aftermath import after_denial, failed_and_left, how_to_remove
from evidence_service.renewal.applying import the_request, to_withdraw, withdrawal
from evidence_service.renewal.changeover import way_back
from evidence_service.renewal.farm import Farm, FasServer
from evidence_service.renewal.issued import certificates_for, check_offline_response
from evidence_service.renewal.model import (
    WAITING,
    Act,
    Alert,
    Ask,
    AskKind,
    Attempts,
    AuthorizationCertificate,
    Import,
    Maintenance,
    Observation,
    RollBack,
)
from evidence_service.renewal.plan import asks_to_settle
from evidence_service.renewal.ports import Fas, FasAnswerUnknown, FasRefused, FasUnreachable
from evidence_service.renewal.preflight import judge
from evidence_service.renewal.preflight_model import Check
from evidence_service.renewal.preview import Foreseen, preview_renewal
from evidence_service.renewal.reasons import RenewalReason
from evidence_service.renewal.situation import Situation, weigh
from evidence_service.renewal.timing import lead_findings, lifetime_of, renewal_start
from evidence_service.renewal_admin.views import ServerView, certificate_views, foreseen_json
from evidence_service.renewal_settings import RenewalSettings
from evidence_service.trust_admin.documents import Unusable
from evidence_service.trust_admin.texts import finding_line, instant, moment

_draw = SystemRandom().random
MAX_RESPONSE = 256 * 1024
"""A PKCS #7 with a chain has a few KiB."""

# The web pages of AD CS write CERTIFICATE above a PKCS #7 as well; what is none is refused when it is judged.
_PEM = re.compile(rb"-----BEGIN (PKCS7|CMS|CERTIFICATE)-----\s+([A-Za-z0-9+/=\s]+)-----END \1-----\s*")


class NothingToDo(Conflict):
    """A wish to take something back, where there is nothing: a negative answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a server reports. `problem` says why it did not answer; then the observation is the stored one."""

    observation: Observation
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The steps of a whole renewal as it would be now, if everything goes well.

    `warnings` say what is taken for granted in it.
    """

    server: FasServer
    looked: Looked
    steps: tuple[Foreseen, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedAnswer:
    """The answer to an offline request that would be given to FAS, with the certificate that it brings.

    `certificate` is for the key of `request`: that was checked.
    """

    act: Import
    request: AuthorizationCertificate
    certificate: x509.Certificate


def preview_json(preview: Preview, now: datetime) -> dict[str, Any]:
    """A dry run for programs. `problem` says why the server did not answer; then what it last reported is used."""
    observation = preview.looked.observation
    return {
        "name": preview.server.name,
        "dry_run": True,
        "observed_at": instant(observation.at),
        "age_seconds": max(int((now - observation.at).total_seconds()), 0),
        "problem": preview.looked.problem,
        "warnings": list(preview.warnings),
        "steps": [foreseen_json(each, observation) for each in preview.steps],
    }


class RenewalAdmin:
    """The use cases over an open database. All raise StoreUnavailable; a name that is not configured is NotFound."""

    def __init__(
        self,
        engine: Engine,
        settings: RenewalSettings,
        *,
        opens: Callable[[FasServer], Fas] = open_fas,
        draw: Callable[[], float] = _draw,
    ) -> None:
        """Work on what is configured. `opens` and `draw` are for tests."""
        self.settings = settings
        self._engine = engine
        self._store = RenewalStore(engine)
        self._opens = opens
        self._draw = draw

    @property
    def farm(self) -> Farm:
        """What is configured."""
        return self.settings.farm

    def store(self, now: datetime) -> RenewalStore:
        """The memory of renewals, which knows the configured servers even where no worker has run yet."""
        names = [each.name for each in self.farm.servers]
        self._store.configure(names, now=now, draw=self._draw, spread=timedelta(0))
        return self._store

    def find(self, name: str) -> FasServer:
        """The configured server of this name, whatever its capitals. Raises NotFound."""
        found = next((each for each in self.farm.servers if each.name.casefold() == name.casefold()), None)
        if found is None:
            names = ", ".join(each.name for each in self.farm.servers) or "none; see the setting renewal_file"
            raise NotFound(f"no FAS server {name!r} is configured; configured are {names}")
        return found

    def views(self, now: datetime) -> tuple[ServerView, ...]:
        """All servers that are configured or ever were."""
        store = self.store(now)
        return tuple(self._view(store, each, now) for each in store.statuses())

    def view(self, name: str, now: datetime) -> ServerView:
        """One server that is configured or ever was."""
        store = self.store(now)
        return self._view(store, store.status(self.known(name, now)), now)

    def known(self, name: str, now: datetime) -> str:
        """The name of a server that is configured or ever was, whatever its capitals. Raises NotFound."""
        names = (each.name for each in self.store(now).statuses())
        return next((each for each in names if each.casefold() == name.casefold()), None) or self.find(name).name

    def _view(self, store: RenewalStore, status: ServerStatus, now: datetime) -> ServerView:
        server = self.farm.server(status.name)
        if server is None or status.observation is None or status.damage is not None:
            tested = None if server is None else server.policy.test_definition
            certificates = certificate_views(status.observation, {}, test_definition=tested)
            return ServerView(server=server, status=status, certificates=certificates)
        attempts = store.attempts(status.name)
        situation = weigh(status.observation, attempts, server.policy, now)
        failed = failed_and_left(situation, status.step)
        left = [how_to_remove(situation, each.certificate_id, status.name) for each in failed]
        if status.denial is not None and not isinstance(status.step, Alert):
            left.insert(0, after_denial(situation, status.name))
        certificates = certificate_views(
            status.observation,
            renewal_starts(status.observation, attempts, server, now),
            test_definition=server.policy.test_definition,
            failed={each.certificate_id: each.cause for each in failed},
        )
        return ServerView(server=server, status=status, certificates=certificates, left=tuple(left))

    def history(
        self, name: str | None, now: datetime, limit: int, before: datetime | None = None
    ) -> tuple[HistoryEntry, ...]:
        """The latest acts at a server, or at all, and what people said about it, before an instant; oldest first.

        A server that is configured no more has its history.
        """
        return self.store(now).history(None if name is None else self.known(name, now), limit, before)

    def look(self, name: str, now: datetime) -> Looked:
        """What the server reports now; where it does not answer, what it last reported.

        Raises FasUnreachable, FasAnswerUnknown and FasRefused where nothing is stored either.
        """
        server = self.find(name)
        try:
            return Looked(observation=self._opens(server).observe(now))
        except (FasUnreachable, FasAnswerUnknown, FasRefused) as error:
            stored = self.store(now).status(server.name).observation
            if stored is None:
                raise
            return Looked(observation=stored, problem=" ".join(str(error).split()))

    def preview(self, name: str, now: datetime) -> Preview:
        """The whole renewal in order, for a dry run; nothing is changed. Raises as `look`."""
        server, looked, store = self.find(name), self.look(name, now), self.store(now)
        warnings = [] if looked.problem is None else [f"{looked.problem}; what it last reported is used, of {{}}"]
        warnings = [each.format(moment(looked.observation.at)) for each in warnings]
        neighbours = store.neighbours(server.name, now)
        if server.policy.maintenance is Maintenance.REQUIRED and neighbours:
            if not any(each.serving for each in neighbours):
                warnings.append(
                    "no other FAS server is known to serve at present; the switch would wait until one does"
                )
            neighbours = tuple(replace(each, serving=True, seen_lately=True, switching=False) for each in neighbours)
        observation = replace(looked.observation, neighbours=neighbours)
        steps = preview_renewal(observation, store.attempts(server.name), server.policy, now)
        return Preview(server=server, looked=looked, steps=steps, warnings=tuple(warnings))

    def preflight(
        self, names: Sequence[str], now: datetime, *, test: bool, actor: str
    ) -> tuple[tuple[str, tuple[Check, ...]], ...]:
        """Whether everything is ready for a renewal of these servers, each by its name.

        With `test` the test user is enrolled, which is journalled. That one does not answer tells on the others too; of
        those that are not looked at, what the worker found last counts.
        """
        mail, store, looked = self.settings.channels.mail, self.store(now), []
        for server in map(self.find, names):
            if test:
                self._journal("renewal_preflight", server.name, {"test": True}, now=now, actor=actor)
            approvers = None if mail is None else mail.approvers
            looked.append(look_over(server, self.farm, now, test=test, approvers=approvers))
        seen = {each.server.name: each.session is None for each in looked}
        away = {each.name for each in self.farm.servers if store.status(each.name).problem is not None}
        away = {each for each in away if each not in seen} | {each for each, answers in seen.items() if not answers}
        return tuple((each.server.name, judge(replace(each, away=frozenset(away)))) for each in looked)

    def lead_problems(self) -> Iterator[tuple[str, str]]:
        """Leads that do not fit how long the certificates in use really live: subject and one line (promise 53).

        Reads what the servers last reported, and makes nothing.
        """
        known = {each.name for each in self._store.statuses()}
        for server in self.farm.servers:
            observation = self._store.status(server.name).observation if server.name in known else None
            if observation is None:
                continue
            attempts = self._store.attempts(server.name)
            for each in observation.certificates:
                if each.id in observation.used:
                    for finding in lead_findings(server.policy, lifetime_of(each, attempts, server.policy)):
                        yield f"FAS server {server.name}", f"certificate {each.id}: {finding_line(finding)}"

    @property
    def channels(self) -> tuple[str, ...]:
        """What messages go out by, by name."""
        return tuple(each.name for each in open_channels(self.settings.channels))

    def send_test(self, channel: str | None, audience: Audience, *, now: datetime, actor: str) -> list[Tried]:
        """Send a test message by one channel or all, which is journalled. Raises NotFound without such a channel."""
        chosen = find_channels(self.settings.channels, channel)
        if not chosen:
            names = ", ".join(self.channels) or "none; see the setting renewal_file"
            raise NotFound(f"channel: there is no such channel; configured are {names}")
        tried = send_test(chosen, now, audience=audience)
        detail = {"audience": audience.value, "problems": {each.channel: each.problem for each in tried}}
        self._journal("notification_test", "fas-evidence", detail, now=now, actor=actor)
        return tried

    def _journal(self, act: str, subject: str, detail: Mapping[str, object], *, now: datetime, actor: str) -> None:
        with writing(self._engine) as connection:
            record_act(connection, now=now, actor=actor, act=act, subject=subject, detail=detail, trust=False)

    def check(self, name: str, kind: AskKind, now: datetime, payload: bytes | None = None) -> tuple[Act, ...]:
        """What the worker would do about such a wish besides requests, by what it last saw.

        Raises Conflict with the sentence by which the worker would settle it at once, so that nobody waits for that;
        NothingToDo where there is nothing to take back.
        """
        server = self.find(name)
        store = self.store(now)
        status, attempts = store.status(server.name), store.attempts(server.name)
        if any(each.kind is kind for each in attempts.asks):
            raise Conflict(f"{server.name}: {kind.value} was asked for already and is not settled; see its status")
        observation = status.observation
        if observation is None:
            if kind is AskKind.RENEW:
                return ()
            if status.damage is not None:
                raise Conflict(f"{server.name}: {status.damage}")
            if status.problem is not None:
                raise Conflict(f"{server.name}: nothing is known of it yet. {finding_line(status.problem)}")
            raise Conflict(f"{server.name}: the worker has not looked at this server yet; start it and see its status")
        wish = Ask(seq=0, kind=kind, at=now, actor="", payload=payload)
        attempts = replace(attempts, asks=(wish,))
        for _, outcome in asks_to_settle(observation, attempts, server.policy, now):
            refused = NothingToDo if kind in (AskKind.WITHDRAW, AskKind.ROLL_BACK) else Conflict
            raise refused(f"{server.name}: {outcome}")
        return _acts_of(weigh(observation, attempts, server.policy, now), wish)

    def check_import(self, name: str, content: bytes, now: datetime) -> SignedAnswer:
        """What the worker would do with this file, of DER or PEM. Raises Conflict, and Unusable for another file."""
        response = read_response(content)
        server = self.find(name)
        observation = self.store(now).status(server.name).observation
        waiting = () if observation is None else observation.certificates
        for each in waiting:
            if each.status in WAITING and each.certificate_authority is None:
                findings = check_offline_response(response, each, server.policy, now)
                if findings:
                    raise Unusable("response", finding_line(findings[0]), code=str(findings[0].reason))
        (act,) = self.check(name, AskKind.IMPORT, now, response)
        assert isinstance(act, Import)  # noqa: S101 - what this wish leads to
        (request,) = [each for each in waiting if each.id == act.certificate_id]
        (certificate,) = certificates_for(response, request)
        return SignedAnswer(act=act, request=request, certificate=certificate)

    def ask(
        self, name: str, kind: AskKind, *, now: datetime, actor: str, note: str = "", payload: bytes | None = None
    ) -> Ask:
        """Leave a wish for the worker. Raises Conflict while one of this kind is open."""
        return self.store(now).ask(self.find(name).name, kind, now=now, actor=actor, note=note, payload=payload)

    def check_pause(self, name: str, until: datetime | None, now: datetime) -> None:
        """Raises Conflict for a pause that would be over."""
        if until is not None and until <= now:
            raise Conflict(f"{name}: the pause would end at {moment(until)}, which is over; give a later end")

    def pause(self, name: str, until: datetime | None, *, now: datetime, actor: str, note: str = "") -> None:
        """Begin nothing at this server until then; None: until somebody resumes. Raises Conflict."""
        self.check_pause(name, until, now)
        self.store(now).pause(self.find(name).name, until, now=now, actor=actor, note=note)

    def resume(self, name: str, *, now: datetime, actor: str, note: str = "") -> None:
        """End a pause. Raises Conflict without one."""
        self.store(now).resume(self.find(name).name, now=now, actor=actor, note=note)


def _acts_of(situation: Situation, wish: Ask) -> tuple[Act, ...]:
    if wish.kind is AskKind.WITHDRAW and (certificate_id := to_withdraw(situation)) is not None:
        return (withdrawal(situation, RenewalReason.ASKED, certificate_id),)
    if wish.kind is AskKind.IMPORT and (request := the_request(situation)) is not None:
        return (Import(certificate_id=request.id, response=wish.payload or b"", ask=wish.seq),)
    newest = situation.past.switched_to
    if wish.kind is not AskKind.ROLL_BACK or newest is None:
        return ()
    ways = ((each.name, way_back(situation, each.name, newest)) for each in situation.observation.naming(newest))
    return tuple(
        RollBack(reason=RenewalReason.ASKED, definition=definition, before=newest, after=before)
        for definition, before in ways
        if before is not None and situation.is_sound(before)
    )


def renewal_starts(
    observation: Observation, attempts: Attempts, server: FasServer, now: datetime
) -> dict[str, datetime]:
    """When the renewal of each certificate in use begins, by id."""
    used = (each for each in observation.certificates if each.id in observation.used)
    starts = ((each.id, renewal_start(each, attempts, server.policy, now)) for each in used)
    return {name: start for name, start in starts if start is not None}


def read_response(content: bytes) -> bytes:
    """A PKCS #7 as DER, of DER or PEM. Raises Unusable for anything that is neither."""
    code = "response_unreadable"
    if len(content) > MAX_RESPONSE:
        raise Unusable("response", f"response: larger than {MAX_RESPONSE} bytes; give the PKCS #7 alone", code=code)
    if content.lstrip().startswith(b"-----BEGIN"):
        match = _PEM.fullmatch(content.strip() + b"\n")
        if match is None:
            text = "response: expected a PKCS #7 (.p7b) with the certificate and its chain, and not another kind of PEM"
            raise Unusable("response", text, code=code)
        try:
            return base64.b64decode(b"".join(match[2].split()), validate=True)
        except binascii.Error:
            raise Unusable("response", "response: the PEM is damaged; copy the file again", code=code) from None
    return content


def paused_text(view: ServerView, now: datetime) -> str | None:
    """That a wish waits for the end of a pause; None without one."""
    until = view.status.paused_until
    if until is None or until <= now:
        return None
    by = f" by {view.status.paused_by}" if view.status.paused_by else ""
    return f"its renewal is paused{by}, and nothing is begun before it is resumed"
