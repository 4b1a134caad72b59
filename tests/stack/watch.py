"""Wait for conditions while watching the test's servers: a wait fails immediately when a server has died.

Every server is watched from its start until it is stopped, or expected to end. All code that waits or sends a request
calls :func:`check_servers`: without the server, it would wait in vain, and the server's last lines explain why.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

PATIENCE = 600.0
"""Timeout of all waits in seconds. It only guards against hangs; even a slow machine needs much less."""
PAUSE = 0.1
"""Seconds between the first checks of a wait."""
LONGEST_PAUSE = 1.0
"""Seconds between two checks at most; the pauses are a tenth of the wait so far, since checks load the servers."""
ENDING_SECONDS = 20.0
"""Seconds that a server may take from closing its sockets to its end."""
LAST_LINES = 40


class ServerDiedError(Exception):
    """A server ended unexpectedly."""


class WaitError(Exception):
    """A condition was not fulfilled within :data:`PATIENCE`."""


@dataclass(frozen=True)
class Watched:
    """A server's process.

    :param name: name for error messages.
    :param output: file with its output.
    :param vital: whether its end makes the others useless.
    """

    name: str
    process: subprocess.Popen[bytes]
    output: Path
    vital: bool


_watched: dict[int, Watched] = {}
"""By process id."""


def watch(name: str, process: subprocess.Popen[bytes], output: Path, *, vital: bool = True) -> None:
    """Treat a server's end as an error from now on, if it is a vital one."""
    _watched[process.pid] = Watched(name, process, output, vital)


def unwatch(process: subprocess.Popen[bytes]) -> None:
    """Do not treat a server's end as an error from now on; ignore a server that is not watched."""
    _watched.pop(process.pid, None)


def end_servers() -> None:
    """Terminate the servers that are still watched, and wait for their end."""
    processes = [each.process for each in _watched.values()]
    _watched.clear()
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(PATIENCE)


def check_servers() -> None:
    """Check that all vital servers are running.

    :raises ServerDiedError: with the exit code and the last lines of the first one that is not.
    """
    for each in _watched.values():
        if each.vital and (code := each.process.poll()) is not None:
            raise ServerDiedError(f"{each.name} {ending(code)}; its last lines:\n{tail(each.output)}")


def check_servers_soon() -> None:
    """Check the servers for some time after a connection broke, since a server closes its sockets before it ends.

    :raises ServerDiedError: see :func:`check_servers`.
    """
    deadline = time.monotonic() + ENDING_SECONDS
    while time.monotonic() < deadline:
        check_servers()
        time.sleep(PAUSE)


def wait_until(look: Callable[[], T | None], complaint: Callable[[], str] | str) -> T:
    """Call ``look`` until it returns a value other than ``None``, and return the value.

    :param complaint: the error message if it never does.
    :raises ServerDiedError: as soon as a server has died.
    :raises WaitError: with the complaint, after :data:`PATIENCE`.
    """
    began = time.monotonic()
    while True:
        value = look()
        if value is not None:
            return value
        check_servers()
        waited = time.monotonic() - began
        if waited > PATIENCE:
            text = complaint if isinstance(complaint, str) else complaint()
            raise WaitError(f"{text} after {PATIENCE:g} s")
        time.sleep(min(max(PAUSE, waited / 10), LONGEST_PAUSE))


def ending(code: int) -> str:
    """Describe how a process ended, by its exit code."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def tail(output: Path) -> str:
    """Return the last lines of an output file."""
    return "\n".join(output.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:])
