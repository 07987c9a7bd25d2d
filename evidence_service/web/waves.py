"""Which launches may wait for new trust, and for how long: the bounds on what a forged signature can cost.

Making keys and signing with them costs nothing, so waiting is rationed. The first launch that brings plausible evidence
by an unknown key opens a *wave* for its IdP; while it lasts, others of the same IdP may wait along. A wave ends when
the launch that opened it would run out of time, whoever has joined, and the next may begin a cool-down after it began.
Between waves nobody waits and nothing is looked at. At any time a fraction of all launches may wait; the rest is
answered at once, and its signer is reported all the same. Looking costs more than verifying, and what is not plausible
opens no wave, so the number of looks in a second is bounded too. No plug-in can use up what others need: each has a few
looks and a place whatever the others do. Time is monotonic here: a clock that jumps neither opens nor blocks anything.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

WAITING_SHARE = 8
"""One in so many of the launches that may be in flight may wait."""

LOOKS_PER_SECOND = 25
"""How often plausibility is asked for, all IdPs together; once takes some 3 ms, in which nothing else is decided."""

LOOKS_OF_EACH = 2
"""How often in a second it is asked for a plug-in even where others have used up all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wave:
    began: float
    ends: float


class Waves:
    """Rations looking and waiting. For one event loop; instants are its times, durations are seconds."""

    def __init__(self, *, cool_down: float, max_in_flight: int) -> None:
        """`cool_down` lies between the beginnings of two waves of one IdP."""
        self._cool_down = cool_down
        self._places = max(1, max_in_flight // WAITING_SHARE)
        self._waiting: Counter[str | None] = Counter()
        self._waves: dict[str, _Wave] = {}
        self._second = 0.0
        self._looks: Counter[str | None] = Counter()

    @property
    def waiting(self) -> int:
        """Launches that wait now."""
        return self._waiting.total()

    def may_look(self, entity_id: str, plugin: str | None, now: float) -> bool:
        """Whether to ask if evidence of this IdP, brought by `plugin`, is plausible; then the asking is counted."""
        wave = self._waves.get(entity_id)
        if wave is not None and wave.ends <= now < wave.began + self._cool_down:
            return False
        if now - self._second >= 1:
            self._second = now
            self._looks.clear()
        if self._looks[plugin] >= LOOKS_OF_EACH and self._looks.total() >= LOOKS_PER_SECOND:
            return False
        self._looks[plugin] += 1
        return True

    @contextlib.contextmanager
    def joined(self, entity_id: str, plugin: str | None, now: float, until: float) -> Iterator[float]:
        """Wait in a wave, which begins now if there is none; gives until when at most. Only after `may_look`.

        Where there is no place to wait that is `now`.
        """
        wave = self._waves.get(entity_id)
        if wave is None or now >= wave.ends:
            wave = self._waves[entity_id] = _Wave(began=now, ends=until)
        if self._waiting[plugin] and self._waiting.total() >= self._places:
            yield now
            return
        self._waiting[plugin] += 1
        try:
            yield min(until, wave.ends)
        finally:
            self._waiting[plugin] -= 1
            if not self._waiting[plugin]:
                del self._waiting[plugin]
