"""The console script: runs one command and turns whatever goes wrong into one line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence

from typer import Abort
from typer.exceptions import TyperException
from typer.main import get_command

from evidence_service.cli import output
from evidence_service.cli.errors import CommandError, ExitCode
from evidence_service.cli.grammar import PROGRAM, app, hint


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command (default: the process's arguments) and return its exit code; never raises for bad input.

    0 done or allow, 1 deny or negative answer, 2 wrong usage or bad input, 3 a dependency (or this program) failed,
    130 interrupted, 141 the reader of the output went away (the code that a shell gives for SIGPIPE).
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    output.safe_streams()
    # What only a service has to say goes to its log; without one it goes nowhere.
    logging.getLogger("evidence_service").addHandler(logging.NullHandler())
    code = _run(words)
    try:
        sys.stdout.flush()
    except OSError as problem:
        # What the interpreter flushes at exit must not complain about it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(problem, BrokenPipeError):
            return code or ExitCode.READER_GONE
        if code != ExitCode.DEPENDENCY:
            output.error(_os_error(problem))
        return ExitCode.DEPENDENCY
    return code


def _run(words: list[str]) -> int:
    try:
        result = app(words, prog_name=PROGRAM, standalone_mode=False)
    except CommandError as problem:
        output.error(str(problem))
        return problem.exit_code
    except TyperException as usage:
        return _usage(usage, words)
    except (KeyboardInterrupt, Abort):
        output.error("interrupted")
        return ExitCode.INTERRUPTED
    except SystemExit:  # typer's answer to a reader that went away
        return ExitCode.READER_GONE
    except OSError as problem:
        output.error(_os_error(problem))
        return ExitCode.DEPENDENCY
    except Exception as bug:  # noqa: BLE001 - the last door: a person gets a line, not a stack trace
        if "--debug" in words:
            traceback.print_exc()
        output.complain("internal error", f"{type(bug).__name__}: {bug}; run again with --debug for details")
        return ExitCode.DEPENDENCY
    code = int(result or ExitCode.DONE)
    if code == ExitCode.INTERRUPTED:  # typer's answer to Ctrl-C
        output.error("interrupted")
    return code


def _usage(usage: TyperException, words: list[str]) -> int:
    context = getattr(usage, "ctx", None)
    path = context.command_path if context is not None else _command_path(words)
    if type(usage).__name__ == "NoArgsIsHelpError":  # its message is the whole help text
        sys.stderr.write(usage.format_message() + "\n")
        output.error(f"no command given; choose one of those above, or see `{path} --help`")
        return ExitCode.BAD_INPUT
    message = usage.format_message().strip().rstrip(".").replace("Value error, ", "", 1)
    option = getattr(usage, "option_name", "")
    what, _, guess = message.partition(". Did you mean ")
    message = f"{what} (did you mean {guess.rstrip('?')}?)" if guess else message
    output.error(f"{message[:1].lower()}{message[1:]}; {hint(option, words, path)}")
    return ExitCode.BAD_INPUT


def _command_path(words: list[str]) -> str:
    """The command that these words lead to; the parser does not say it of an option without a value."""
    path, command = [PROGRAM], get_command(app)
    for word in words:
        found = getattr(command, "commands", {}).get(word)
        if found is not None:
            path.append(word)
            command = found
    return " ".join(path)


def _os_error(problem: OSError) -> str:
    what = problem.strerror or str(problem)
    where = f"{os.fsdecode(problem.filename)}: " if isinstance(problem.filename, (str, bytes)) else ""
    return f"{where}{what}; check the path, its permissions and the space on its disk"
