"""A worker that is killed at a named point: `python -m tests.renewal.killed`, asked by lines of JSON on stdin.

Each line is answered by a worker of its own, forked from this process, which has loaded everything and opened nothing:
so one costs milliseconds, and `kill -9` is a real one. The FAS farm is outside, over PowerShell remoting.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

from evidence_service.adapters.database import open_database
from evidence_service.renewal.farm import Farm
from evidence_service.renewal_loop import RenewalLoop

ROUNDS = 30


def main() -> None:
    """Answer every line by how its worker ended."""
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_work(asked))
        _, status = os.waitpid(child, 0)
        ended = "killed" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else "ended"
        code = os.waitstatus_to_exitcode(status)
        sys.stdout.write(json.dumps({"ended": ended, "code": code}) + "\n")
        sys.stdout.flush()


def _work(asked: dict[str, Any]) -> int:
    now = datetime.fromisoformat(asked["now"])
    farm: Farm = pickle.loads(base64.b64decode(asked["farm"]))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what it logs is no answer
    engine = open_database(asked["database"], create=False)
    loop = RenewalLoop(
        engine,
        farm,
        owner=f"worker:{os.getpid()}",
        clock=lambda: now,
        draw=lambda: 0.0,
        told=lambda _server, _ticked: None,
        at_point=_killer(asked["point"]),
    )
    try:
        for _ in range(ROUNDS):
            loop.round()
            if not loop.store.due(now):
                break
        return 0
    finally:
        engine.dispose()


def _killer(point: str | None) -> Callable[[str], None]:
    def at_point(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    return at_point


if __name__ == "__main__":
    main()
