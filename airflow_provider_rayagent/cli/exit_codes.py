"""Exit codes of the commands, and their handling of errors and signals."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
from enum import IntEnum
from io import TextIOWrapper
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowException
from airflow.utils.cli import suppress_logs_and_warning

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentConfigError,
    RayAgentError,
    RayAgentInputError,
    RayAgentNotFoundError,
    RayAgentUnsupportedError,
)
from airflow_provider_rayagent.text.sanitization import sanitize

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from typing import TextIO


class ExitCode(IntEnum):
    """Exit code of a command."""

    SUCCESS = 0
    FAILED = 1
    """The job FAILED or has an unknown status, a stop was not confirmed, or ``doctor`` found something to correct."""
    INVALID = 2
    """The arguments or the connection are invalid; argparse uses the same code."""
    STOPPED = 3
    NOT_FOUND = 4
    """The job does not exist, or no longer."""
    UNAVAILABLE = 5
    """The service cannot be reached, or answered with an error."""
    UNSUPPORTED = 6
    """The service cannot do this."""
    OUTPUT_LOST = 7
    """The output cannot be written, as on a full disk."""
    INTERRUPTED = 130
    """Ctrl-C, as in a shell: 128 and the number of the signal."""
    BROKEN_PIPE = 141
    """The reader of the output has ended, such as ``head``."""


# The first class that matches counts, so the base class is last.
_OF_ERRORS: tuple[tuple[type[RayAgentError], ExitCode], ...] = (
    (RayAgentConfigError, ExitCode.INVALID),
    (RayAgentInputError, ExitCode.INVALID),
    (RayAgentUnsupportedError, ExitCode.UNSUPPORTED),
    (RayAgentNotFoundError, ExitCode.NOT_FOUND),
    (RayAgentError, ExitCode.UNAVAILABLE),
)
# The last one is that of a stream that was closed before the program began.
_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def exit_code_of(error: RayAgentError) -> ExitCode:
    """Return the exit code of a command that fails with ``error``."""
    return next(code for kind, code in _OF_ERRORS if isinstance(error, kind))


def report(text: str) -> None:
    """Write a message to stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def command(run: Callable[[Namespace], ExitCode]) -> Callable[[Namespace], None]:
    """Return a function for Airflow's CLI that exits with the code of ``run``, and reports its errors on stderr.

    Log messages are suppressed without ``--verbose``, as for Airflow's own commands: Airflow writes them to stdout.
    """

    @functools.wraps(run)
    @suppress_logs_and_warning
    def wrapper(args: Namespace) -> None:
        # As Airflow's own commands do: without it, the SDK does not look for connections in Airflow's database.
        os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
        # What was closed when Python began is ``None`` (``create_stdio()`` in ``Python/pylifecycle.c``).
        sys.stdout = sys.stdout or _closed_stream()
        sys.stderr = sys.stderr or _closed_stream()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                # Every text can be printed, in any locale.
                stream.reconfigure(errors="backslashreplace")
        try:
            code = _run(run, args)
        except OSError as error:
            # An error that is not about the output keeps its traceback.
            if not isinstance(error, BrokenPipeError) and error.errno not in _OUTPUT_ERRORS:
                raise
            code = _output_lost(error)
        if code is not ExitCode.SUCCESS:
            # Airflow ignores what the function returns (`args.func(args)` in `airflow/__main__.py`).
            raise SystemExit(int(code))

    return wrapper


def _run(run: Callable[[Namespace], ExitCode], args: Namespace) -> ExitCode:
    try:
        code = run(args)
    except RayAgentError as error:
        report(str(error))
        code = exit_code_of(error)
    except AirflowException as error:
        report(sanitize(str(error)))
        code = ExitCode.INVALID
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    # Here, where a full disk or a closed pipe still gets its exit code, and not when Python exits.
    sys.stdout.flush()
    return code


def _closed_stream() -> TextIOWrapper:
    """Return a stream whose writing fails as that of a closed one."""
    return TextIOWrapper(os.fdopen(os.open(os.devnull, os.O_RDONLY), "wb"), encoding="utf-8")


def _output_lost(error: OSError) -> ExitCode:
    is_pipe = isinstance(error, BrokenPipeError)
    if not is_pipe:
        with contextlib.suppress(OSError):
            report(f"The output cannot be written: {error.strerror}.")
    for stream in (sys.stdout, sys.stderr):
        _flush_or_discard(stream)
    return ExitCode.BROKEN_PIPE if is_pipe else ExitCode.OUTPUT_LOST


def _flush_or_discard(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        # Python flushes it at exit, which would fail again, with another exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
