"""A constant stream of sign-ins, launches and forgeries, and what was answered to each, as a timeline."""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import secrets
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import httpx
from lxml import etree
from signxml.signer import XMLSigner

from tests.e2e.browser import loopback
from tests.e2e.doors import RunningService
from tests.e2e.idps import PASSWORDS, RunningIdp

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
DS = "http://www.w3.org/2000/09/xmldsig#"
EXC_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
LAUNCH_PAUSE = 0.02
SIGN_IN_PAUSE = 0.2
FORGERY_PAUSE = 0.2
SESSIONS_OF_A_KEY = 6
"""How many users signed in by one key go on launching."""


class Kind(StrEnum):
    """What was asked."""

    SIGN_IN = "sign-ins"
    """Fresh evidence of the identity provider, phase `prepare`."""
    LAUNCH = "launches"
    """The same evidence again, phase `assert`."""
    STRANGER = "forged by a stranger"
    """Evidence by a key that never was the identity provider's."""
    LATE = "forged by the old key"
    """Evidence by a key that was the identity provider's, issued now."""


GENUINE = (Kind.SIGN_IN, Kind.LAUNCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer. `asked` and `at` (answered) are seconds of the timeline; `key` is the signer's file name."""

    kind: Kind
    key: str
    asked: float
    at: float
    decision: str
    reason: str

    @property
    def outcome(self) -> str:
        """Decision and reason."""
        return "allowed" if self.decision == "allow" else f"denied {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    user: str
    evidence: bytes
    key: str


@dataclass(slots=True, kw_only=True)
class Timeline:
    """What happened and what was answered, by one clock: seconds since it was made."""

    began: float = field(default_factory=time.monotonic)
    events: list[tuple[float, str]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def event(self, text: str) -> float:
        """Something happened; answers when."""
        at = self.now()
        self.events.append((at, text))
        return at

    def text(self) -> str:
        """Each event, and below it what was answered until the next."""
        lines = []
        for number, (at, text) in enumerate(self.events):
            until = self.events[number + 1][0] if number + 1 < len(self.events) else float("inf")
            lines.append(f"{at:+7.2f} s  {text}")
            counts = Counter(
                (each.kind, each.key, each.outcome) for each in list(self.answers) if at <= each.at < until
            )
            for kind in Kind:
                told = [
                    f"{count} by {key} {outcome}"
                    for (asked, key, outcome), count in sorted(counts.items())
                    if asked is kind
                ]
                if told:
                    lines.append(f"{'':11} {kind}: {', '.join(told)}")
        return "\n".join(lines)


class Stream:
    """Users who sign in one after the other and launch again and again, and forgers among them.

    Faults of the threads end up in `faults`; `running` raises them.
    """

    def __init__(self, service: RunningService, idp: RunningIdp, form: str, timeline: Timeline) -> None:
        """Ask `service`, with evidence of this form by `idp`."""
        self._service = service
        self._idp = idp
        self._form = form
        self._timeline = timeline
        self._stop = threading.Event()
        self._sessions: dict[str, list[_Session]] = {}
        self._names: dict[bytes, str] = {}
        self._strangers: str | None = None
        self._late: str | None = None
        self._forging = threading.Lock()
        self.faults: list[BaseException] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let it flow until the end of the block."""
        threads = [
            threading.Thread(target=self._guarded, args=(work, pause), name=work.__name__)
            for work, pause in (
                (self._sign_in, SIGN_IN_PAUSE),
                (self._launch, LAUNCH_PAUSE),
                (self._forge_as_stranger, FORGERY_PAUSE),
                (self._forge_late, FORGERY_PAUSE),
            )
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(30)
        if self.faults:
            raise self.faults[0]

    def forge(self, *, stranger: str | None = None, late: str | None = None) -> None:
        """Mix in evidence by these keys from now on; None: none. What is being asked is answered before."""
        with self._forging:
            self._strangers, self._late = stranger, late

    def _guarded(self, work: Callable[[httpx.Client], None], pause: float) -> None:
        try:
            with loopback() as client:
                while not self._stop.wait(pause):
                    work(client)
        except BaseException as fault:  # noqa: BLE001 - raised in the test's thread
            self.faults.append(fault)

    def _sign_in(self, client: httpx.Client) -> None:
        users = list(PASSWORDS)
        user = users[sum(map(len, self._sessions.values())) % len(users)]
        evidence = self._idp.sign_in(self._form, user=user).xml
        session = _Session(user=user, evidence=evidence, key=self._signer(evidence))
        if self._ask(client, Kind.SIGN_IN, session) == "allow":
            mine = self._sessions.setdefault(session.key, [])
            if len(mine) == SESSIONS_OF_A_KEY:
                mine.pop()  # the first ones stay: theirs is the oldest evidence
            mine.append(session)

    def _launch(self, client: httpx.Client) -> None:
        for session in [each for sessions in list(self._sessions.values()) for each in list(sessions)]:
            if self._stop.wait(LAUNCH_PAUSE):
                return
            self._ask(client, Kind.LAUNCH, session)

    def _forge_as_stranger(self, client: httpx.Client) -> None:
        with self._forging:
            self._forge(client, Kind.STRANGER, self._strangers)

    def _forge_late(self, client: httpx.Client) -> None:
        self._forge(client, Kind.LATE, self._late)

    def _forge(self, client: httpx.Client, kind: Kind, key: str | None) -> None:
        genuine = next(iter(self._sessions.values()), None)
        if key is None or not genuine:
            return
        evidence = forged(genuine[0].evidence, self._idp.keys / f"{key}.key")
        self._ask(client, kind, _Session(user=genuine[0].user, evidence=evidence, key=key))

    def _ask(self, client: httpx.Client, kind: Kind, session: _Session) -> str:
        asked = self._timeline.now()
        question = {
            "request_id": str(uuid.uuid4()),
            "upn": f"{session.user}@corp.example",
            "evidence": [{"type": "SAMLResponse", "value": base64.b64encode(session.evidence).decode()}],
            "phase": "assert" if kind is Kind.LAUNCH else "prepare",
        }
        response = client.post(
            f"{self._service.url}/v1/decisions",
            json=question,
            headers={"Authorization": f"Bearer {self._service.bearer_key}"},
        )
        assert response.status_code == 200, response.text
        answer = response.json()
        assert (answer["request_id"], answer["mode"]) == (question["request_id"], "enforce")
        decision: str = answer["decision"]
        self._timeline.answers.append(
            Answer(
                kind=kind,
                key=session.key,
                asked=asked,
                at=self._timeline.now(),
                decision=decision,
                reason=answer["reason"],
            )
        )
        return decision

    def _signer(self, evidence: bytes) -> str:
        """The name of the key that signed, by the certificate that the evidence shows."""
        shown = etree.fromstring(evidence).findtext(f".//{{{DS}}}X509Certificate")
        assert shown is not None
        der = base64.b64decode(shown)
        if der not in self._names:
            self._names |= {read_certificate(file): file.stem for file in self._idp.keys.glob("*.crt")}
        return self._names[der]


def read_certificate(file: Path) -> bytes:
    """The DER of the one certificate in a PEM file."""
    return base64.b64decode("".join(line for line in file.read_text().splitlines() if not line.startswith("-----")))


def fingerprint(file: Path) -> str:
    """The SHA-256 (hex) of the certificate in a PEM file."""
    return hashlib.sha256(read_certificate(file)).hexdigest()


def forged(genuine: bytes, key: Path) -> bytes:
    """An assertion like the one in `genuine`, with an ID of its own, issued now, and signed by this key (PEM).

    Its certificate lies beside the key.
    """
    response = etree.fromstring(genuine)
    for signature in response.findall(f".//{{{DS}}}Signature"):
        parent = signature.getparent()
        assert parent is not None
        parent.remove(signature)
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    old = response.find(f"{{{SAML}}}Assertion")
    assert old is not None
    for element in (response, old):
        element.set("ID", "_" + secrets.token_hex(16))
        element.set("IssueInstant", now)
    statement = old.find(f"{{{SAML}}}AuthnStatement")
    assert statement is not None
    statement.set("AuthnInstant", now)
    alone = copy.deepcopy(old)
    alone.tail = None
    alone.insert(1, etree.Element(f"{{{DS}}}Signature", Id="placeholder", nsmap={"ds": DS}))
    signer = XMLSigner(signature_algorithm="rsa-sha256", digest_algorithm="sha256", c14n_algorithm=EXC_C14N)
    signed = signer.sign(
        alone, key=key.read_bytes(), cert=key.with_suffix(".crt").read_text(), reference_uri=alone.get("ID")
    )
    response.replace(old, signed)
    return etree.tostring(response)
