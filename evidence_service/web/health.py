"""Live, ready, started: three different questions (`docs/operations`), answered without I/O.

Not live means that a restart cures it; not ready means that launches should go elsewhere. An IdP that cannot be
reached or a certificate that ends soon is an alarm and neither of the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import msgspec
from starlette.types import Receive, Scope, Send

from evidence_service.web.auth import ANONYMOUS, Authenticator, Caller, connection_of
from evidence_service.web.problems import CLOSE, Reply, json_reply, problem

WATCHDOG_SECONDS = 30.0


@dataclass(slots=True, kw_only=True)
class Health:
    """The state of this process. `conditions` answers for each condition of readiness whether it holds."""

    conditions: Mapping[str, Callable[[], bool]] = field(default_factory=dict)
    started: bool = False
    draining: bool = False
    _beat: float = field(default_factory=time.monotonic)

    def beat(self) -> None:
        """Say that the background tasks are alive."""
        self._beat = time.monotonic()

    @property
    def live(self) -> bool:
        """Whether the background tasks showed themselves lately."""
        return time.monotonic() - self._beat < WATCHDOG_SECONDS

    def failing(self) -> list[str]:
        """Names of the conditions of readiness that do not hold; empty means ready."""
        failing = [name for name, holds in self.conditions.items() if not holds()]
        if not self.started:
            failing.append("not_started")
        if self.draining:
            failing.append("draining")
        return failing


class Probes:
    """`GET /livez`, `/readyz` and `/startupz`. Anonymous callers get one word, known plug-ins also the conditions."""

    def __init__(self, health: Health, authenticator: Authenticator) -> None:
        """Answer from `health`."""
        self._health = health
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI says
        """Answer one probe."""
        if scope["method"] not in ("GET", "HEAD"):
            await problem(405, "method_not_allowed", headers=((b"allow", b"GET, HEAD"),)).send(send)
            return
        caller = self._authenticator.identify(scope)
        reply = self._answer(scope["path"], known=isinstance(caller, Caller) and caller.name != ANONYMOUS)
        connection = connection_of(scope)
        if connection is not None and connection.crowded:
            reply = replace(reply, headers=(*reply.headers, CLOSE))
        await reply.send(send)

    def _answer(self, path: str, *, known: bool) -> Reply:
        match path:
            case "/livez":
                return _status("live" if self._health.live else "stuck", good=self._health.live)
            case "/startupz":
                return _status("started" if self._health.started else "starting", good=self._health.started)
            case _:
                failing = self._health.failing()
                return _status("unready" if failing else "ready", good=not failing, failing=failing if known else None)


def _status(word: str, *, good: bool, failing: list[str] | None = None) -> Reply:
    content: dict[str, object] = {"status": word}
    if failing:
        content["failing"] = failing
    return json_reply(msgspec.json.encode(content), 200 if good else 503)
