"""A small process between the agent and the Ray head that it started: it ends Ray when the agent is gone.

Ray's processes open process groups and sessions of their own (a job's entrypoint does), so no group id names
them all. The keeper makes itself the parent that orphans fall to, which lets it find every descendant and only
those. It ends them when its standard input closes, which the kernel sees to even if the agent is killed.

Run as ``python -m airflow_provider_rayagent.local.keeper DIRECTORY COMMAND...``; ``DIRECTORY`` is removed at the end.
It exits with 0 if it was asked to end, and with 1 if the command ended by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Sequence

GRACE = 3.0
"""Seconds between TERM and KILL. Ray drains for 30 s on TERM, which a throw-away cluster has no use for."""
KILL_PATIENCE = 10.0
"""Seconds for killed processes to be gone."""
VITAL = ("gcs_server", "raylet")
"""Names of the processes without which a Ray head is none."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent ends (Linux; elsewhere nothing happens)."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def main(arguments: Sequence[str]) -> int:
    """Run the command until it ends, standard input closes or TERM comes; return the exit code."""
    directory, *command = arguments
    asked = _catch_signals()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: die_with_parent(signal.SIGTERM),  # noqa: PLW1509 (one thread)
    )
    vital = VitalProcesses(child.pid)
    ended_by_itself = False
    while not asked and not _input_closed(0.3):
        if child.pid in _reap() or vital.any_ended():
            ended_by_itself = True
            break
    end_descendants()
    shutil.rmtree(directory, ignore_errors=True)
    return 1 if ended_by_itself else 0


class VitalProcesses:
    """Watches the processes named in :data:`VITAL`.

    ``ray start --block`` ends with them too, but only half a minute later.

    :param parent: process id of ``ray start``.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._found: dict[str, psutil.Process] = {}

    def any_ended(self) -> bool:
        """Whether one of them, once seen, is gone."""
        if len(self._found) < len(VITAL):
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(self._parent).children():
                    with contextlib.suppress(psutil.Error):
                        if process.name() in VITAL:
                            self._found.setdefault(process.name(), process)
        return any(_has_ended(process) for process in self._found.values())


def end_descendants(grace: float = GRACE) -> None:
    """End every process that descends from this one: TERM, then after ``grace`` seconds KILL."""
    for process in _descendants():
        with contextlib.suppress(psutil.Error):
            process.terminate()
    if _all_gone(time.monotonic() + grace):
        return
    deadline = time.monotonic() + KILL_PATIENCE
    while time.monotonic() < deadline:
        for process in _descendants():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if _all_gone(time.monotonic() + 0.3):
            return


def _has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _descendants() -> list[psutil.Process]:
    children: list[psutil.Process] = psutil.Process().children(recursive=True)
    return children


def _all_gone(deadline: float) -> bool:
    while True:
        _reap()
        if not _descendants():
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)


def _reap() -> set[int]:
    """Collect the children that have ended, adopted ones included; return their ids."""
    ended: set[int] = set()
    with contextlib.suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            ended.add(pid)
    return ended


def _input_closed(timeout: float) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], timeout)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1024)


def _catch_signals() -> list[int]:
    caught: list[int] = []

    def note(number: int, _frame: Any) -> None:
        caught.append(number)

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return caught


def _prctl(option: int, argument: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
