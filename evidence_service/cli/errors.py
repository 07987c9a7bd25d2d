"""The exit codes of every command, and the errors that become one line on stderr."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit code says to a script."""

    DONE = 0
    NEGATIVE = 1
    BAD_INPUT = 2
    DEPENDENCY = 3
    INTERRUPTED = 130
    READER_GONE = 141


class CommandError(Exception):
    """Ends a command. The text is one line that says what is wrong and what to do next."""

    exit_code = ExitCode.NEGATIVE


class BadInput(CommandError):  # noqa: N818 - reads as what happened, like the codes
    """A file, option or value that cannot be used."""

    exit_code = ExitCode.BAD_INPUT


class NothingFound(CommandError):  # noqa: N818
    """The thing asked for is not there: a negative answer."""

    exit_code = ExitCode.NEGATIVE


class DependencyFailed(CommandError):  # noqa: N818
    """Something outside this program (database, disk, network) did not do its part."""

    exit_code = ExitCode.DEPENDENCY
