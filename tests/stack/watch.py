"""Wait for things while the servers of the test are watched: a wait ends at once when one of them has died.

Every server is watched from its start until it is stopped, or expected to end. Whatever waits, or sends a request,
calls :func:`check_servers`: what it waits for may never come, and the server's last lines say why.
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
"""Seconds after which nothing is waited for any longer. A guard against hangs, far from what a slow machine takes."""
PAUSE = 0.2
"""Seconds between two looks."""
ENDING_SECONDS = 20.0
"""How long a server may take from the close of its sockets to its end."""
LAST_LINES = 40


class StackError(Exception):
    """The servers of the test are of no use any more: no later test should wait for them in turn."""


class ServerDiedError(StackError):
    """A server ended that nobody had asked to."""


class WaitError(StackError):
    """What was waited for has not come within :data:`PATIENCE`."""


@dataclass(frozen=True)
class Watched:
    """A server's process.

    :param name: what it is, as an error says it.
    :param output: the file with what it has printed.
    """

    name: str
    process: subprocess.Popen[bytes]
    output: Path


_watched: dict[int, Watched] = {}
"""By process id."""


def watch(name: str, process: subprocess.Popen[bytes], output: Path) -> None:
    """Take a server's end for an error from now on."""
    _watched[process.pid] = Watched(name, process, output)


def unwatch(process: subprocess.Popen[bytes]) -> None:
    """Take a server's end for what it should do; one that is not watched is none of our business."""
    _watched.pop(process.pid, None)


def check_servers() -> None:
    """Look whether all servers run.

    :raises ServerDiedError: with the exit code and the last lines of the first one that does not.
    """
    for each in _watched.values():
        if (code := each.process.poll()) is not None:
            raise ServerDiedError(f"{each.name} {ending(code)}; its last lines:\n{tail(each.output)}")


def check_servers_soon() -> None:
    """Look whether all servers run after a connection broke: one that is ending closes its sockets before it has ended.

    :raises ServerDiedError: as :func:`check_servers`.
    """
    deadline = time.monotonic() + ENDING_SECONDS
    while time.monotonic() < deadline:
        check_servers()
        time.sleep(PAUSE)


def wait_until(look: Callable[[], T | None], complaint: Callable[[], str] | str) -> T:
    """Look until something is found, and return it.

    :param complaint: what is wrong as long as nothing is found.
    :raises ServerDiedError: as soon as a server has died.
    :raises WaitError: with the complaint.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found is not None:
            return found
        check_servers()
        if time.monotonic() > deadline:
            text = complaint if isinstance(complaint, str) else complaint()
            raise WaitError(f"{text} after {PATIENCE:g} s")
        time.sleep(PAUSE)


def ending(code: int) -> str:
    """Return in words how a process ended, by its exit code."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def tail(output: Path) -> str:
    """Return the last lines of an output."""
    return "\n".join(output.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:])
