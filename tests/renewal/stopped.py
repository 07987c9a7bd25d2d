"""A worker that stops itself at a point: `python -m tests.renewal.stopped`, told what to do by one line of JSON.

It looks until its stdin ends, and says on stdout, a line each, under which epoch it leads and what it did. Its clocks
begin with the farm's time and run faster than the real ones, so that the patience of a real worker takes seconds.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import select
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from evidence_service.adapters.database import open_database
from evidence_service.renewal.farm import Farm
from evidence_service.renewal_loop import RenewalLoop

SAID = {"renewal_leads", "renewal_lead_lost", "renewal_not_leader", "renewal_act", "renewal_failed"}


def main() -> None:
    """Work until stdin ends, then give the lease back."""
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    farm: Farm = pickle.loads(base64.b64decode(asked["farm"]))
    begin, began, speed = datetime.fromisoformat(asked["now"]), datetime.fromisoformat(asked["began"]), asked["speed"]
    said, stopped = threading.Lock(), threading.Event()

    def say(_logger: object, _method: str, line: Any) -> Any:  # noqa: ANN401 - structlog's
        if line["event"] in SAID:
            with said:
                sys.stdout.write(json.dumps(line, default=str) + "\n")
                sys.stdout.flush()
        raise structlog.DropEvent

    def at_point(reached: str) -> None:
        if reached == asked["point"] and not stopped.is_set():
            stopped.set()
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(0.2)  # the signal stops the whole process, and perhaps this thread a moment later

    structlog.configure(processors=[say])
    engine = open_database(asked["database"], create=False)
    loop = RenewalLoop(
        engine,
        farm,
        owner=f"worker:{os.getpid()}",
        clock=lambda: begin + (datetime.now(UTC) - began) * speed,
        draw=lambda: 0.0,
        told=lambda _server, _ticked: None,
        at_point=at_point,
        monotonic=lambda: time.monotonic() * speed,
        lease_length=timedelta(seconds=asked["lease"]),
    )
    sys.stdout.write('{"event": "ready"}\n')
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        loop.look()
    loop.end(seconds=5)
    engine.dispose()


if __name__ == "__main__":
    main()
