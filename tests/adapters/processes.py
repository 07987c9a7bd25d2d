"""What the tests of the journal run as processes of their own: `python -m tests.adapters.processes NAME ARGUMENTS`."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from evidence_service.access.model import Allow
from evidence_service.adapters.database import open_database
from evidence_service.adapters.journal import Entry, Journal, JournalUnavailable, new_decision_id
from evidence_service.adapters.snapshots import load_snapshot
from tests.adapters.given import NOW, request, url_of
from tests.adapters.recording import entry, launch


def say(line: str) -> None:
    """One line to whoever started this process, at once."""
    os.write(1, f"{line}\n".encode())


def killed(path: str, trials: str) -> None:
    """Many processes, each killed the moment it has answered; says the ids that were answered."""
    engine = open_database(url_of(Path(path)), create=False)
    template = entry(load_snapshot(engine, secrets_dir=None))
    engine.dispose()
    for trial in range(int(trials)):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            asyncio.run(_answer_for_ever(Path(path), template, writer))
        os.close(writer)
        with os.fdopen(reader) as answers:
            heard = [answers.readline().strip() for _ in range(1 + trial % 7)]
            os.kill(child, signal.SIGKILL)
            heard += answers.read().split("\n")
        os.waitpid(child, 0)
        for decision_id in heard:
            if len(decision_id) == len(new_decision_id(NOW)):
                say(decision_id)


async def _answer_for_ever(path: Path, template: Entry, answers: int) -> None:
    engine = open_database(url_of(path), create=False)
    journal = Journal(engine)
    journal.start()

    async def ask() -> None:
        while True:
            recorded = await journal.record(_next(template))
            os.write(answers, f"{recorded.decision_id}\n".encode())

    await asyncio.gather(*(ask() for _ in range(4)))


def _next(template: Entry) -> Entry:
    return Entry(
        decision_id=new_decision_id(NOW),
        request=template.request,
        snapshot=template.snapshot,
        now=NOW,
        decision=template.decision,
    )


def race(path: str, rounds: str) -> None:
    """Present the same evidence as another process does, round by round; says the outcome of each."""

    async def act() -> None:
        engine = open_database(url_of(Path(path)), create=False)
        snapshot = load_snapshot(engine, secrets_dir=None)
        entries = [entry(snapshot, request(launch(assertion_id=f"_race{number}"))) for number in range(int(rounds))]
        journal = Journal(engine, busy_timeout=timedelta(seconds=30))
        journal.start()
        for number, each in enumerate(entries):
            say(f"ready {number}")
            sys.stdin.readline()
            recorded = await journal.record(each)
            say("allow" if isinstance(recorded.decision, Allow) else str(recorded.decision.reason))
        await journal.stop()
        engine.dispose()

    asyncio.run(act())


def fill(path: str, filler: str, limit: str) -> None:
    """Record until the file system takes no more, make room, go on; says what was answered and what was not.

    `limit` is the size in bytes that a file of this process may have, 0 for none; `filler` a file to remove for room.
    """

    async def act() -> None:
        engine = open_database(url_of(Path(path)), create=False)
        template = entry(load_snapshot(engine, secrets_dir=None))
        journal = Journal(engine)
        journal.start()
        await journal.record(_next(template))
        if int(limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
        refusals = 0
        for number in range(100_000):
            each = _next(template)
            evidence = (b"%d" % number + b"x" * 20_000,)
            each = Entry(
                decision_id=each.decision_id,
                request=request(evidence[0]),
                snapshot=each.snapshot,
                now=NOW,
                decision=each.decision,
            )
            try:
                await journal.record(each)
                say(f"answered {each.decision_id}")
            except JournalUnavailable as error:
                say(f"refused {each.decision_id}")
                say(f"why {error}")
                refusals += 1
            if refusals == 3:
                break
        say(f"healthy {journal.healthy}")
        if int(limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if filler:
            os.unlink(filler)  # noqa: PTH108
        for _ in range(600):
            if journal.healthy:
                break
            await asyncio.sleep(0.1)
        each = _next(template)
        await journal.record(each)
        say(f"answered {each.decision_id}")
        await journal.stop()
        engine.dispose()

    asyncio.run(act())


COMMANDS: dict[str, Callable[..., None]] = {"killed": killed, "race": race, "fill": fill}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
