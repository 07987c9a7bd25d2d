"""What the tests of the demo share: its whole story, played once, and demos that stay up for a while."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from evidence_service.demo.acts import Act, FarmAct
from evidence_service.demo.steps import Cast, Chapter, Step

COMMAND = [sys.executable, "-m", "evidence_service", "demo"]
_QUIET = (
    "import logging; logging.getLogger('evidence_service').addHandler(logging.NullHandler())"  # as the command does
)

Story = Callable[[Cast, datetime, Callable[[], str]], tuple[Chapter, ...]]


def story_of(*steps: Step | Act | FarmAct) -> Story:
    """A story of these alone."""
    return lambda _cast, _now, _new_id: (Chapter(title="A story", steps=steps),)


def script(text: str) -> list[str]:
    """A program that runs a demo of its own."""
    return [sys.executable, "-c", f"{_QUIET}\n{text}"]


def environment(**members: str) -> dict[str, str]:
    """Ours, off a terminal, with `members` on top."""
    return {**{name: value for name, value in os.environ.items() if name != "NO_COLOR"}, **members}


def running(mark: Path) -> list[str]:
    """The processes whose arguments name `mark`."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True, timeout=60)
    return [line for line in listed.stdout.splitlines() if str(mark) in line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """What a demo printed, and the commands in it as a person would use them in another terminal."""

    out: str

    @property
    def commands(self) -> list[str]:
        """Each `fas-evidence` command that stands on a line of its own, but for the title."""
        return [line for line in self.out.splitlines() if re.match("fas-evidence (?!demo$)", line)]

    def asked(self, command: str, code: int = 0) -> str:
        """What a command prints, after the line that is to come first, and nothing else, has set the shell up."""
        (first,) = (line for line in self.out.splitlines() if line.startswith("export "))
        done = subprocess.run(
            ["sh", "-c", f"{first}\n{command}"],
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr


@contextmanager
def demo(arguments: Sequence[str], directory: Path, until: str) -> Iterator[tuple[subprocess.Popen[str], Printed]]:
    """A demo as a process group of its own, with its files in `directory`, that has printed a line that starts so."""
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(directory), PYTHONUNBUFFERED="1"),
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            told = []
            for line in process.stdout:
                told.append(line)
                if line.startswith(until):
                    break
            yield process, Printed(out="".join(told))
        finally:
            with suppress(ProcessLookupError):  # all of them, where an assertion failed
                os.killpg(process.pid, signal.SIGKILL)


def end(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
    """End it as a terminal does, which sends SIGINT to its children as well; what it still printed."""
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    return process.communicate(timeout=120)
