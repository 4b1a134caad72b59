"""A small process between the agent and the Ray head that it started: it ends Ray when the agent is gone.

Ray's processes open process groups and sessions of their own (a job's entrypoint does), so no group id names
them all. The keeper makes itself the parent that orphans fall to, which lets it find every descendant and only
those. It ends them when its standard input closes, which the kernel sees to even if the agent is killed.

:func:`keeper_command` says how to run it. It exits with 0 if it was asked to end, and with 1 if the command ended by
itself.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from airflow_provider_rayagent.local.errors import LocalAgentError
from airflow_provider_rayagent.local.files import last_lines, regular_file
from airflow_provider_rayagent.local.info_file import remove_if_left

if TYPE_CHECKING:
    from collections.abc import Sequence

GRACE = 3.0
"""Seconds between TERM and KILL. Ray drains for 30 s on TERM, which a throw-away cluster has no use for."""
KILL_PATIENCE = 10.0
"""Seconds for killed processes to be gone."""
UNLOCK_PATIENCE = 10.0
"""Seconds for an agent that ends to let go of its info file."""
VITAL = ("gcs_server", "raylet")
"""Names of the processes without which a Ray head is none."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent ends (Linux; elsewhere nothing happens)."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def keeper_command(info_file: Path | None, directory: Path | None = None, command: Sequence[str] = ()) -> list[str]:
    """Return the command of a keeper.

    :param info_file: the agent's, which is removed once the agent is gone.
    :param directory: is removed at the end.
    :param command: runs meanwhile; none: there is only the info file to look after.
    """
    options = {"--info-file": info_file, "--directory": directory}
    given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return [sys.executable, "-m", "airflow_provider_rayagent.local.keeper", *given, "--", *command]


def main(arguments: Sequence[str]) -> int:
    """Run the command until it ends, standard input closes or TERM comes; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--info-file", type=Path)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("command", nargs="*")
    options = parser.parse_args(arguments)
    asked = _catch_signals()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    ended = _run(options.command, asked)
    logged = process_log_lines(options.directory, ended) if ended and options.directory else []
    if options.info_file and not ended and not asked:
        remove_info_file(options.info_file)
    end_descendants()
    if ended:
        # Last of all, after what Ray's processes print when they are told to end: the agent shows the last lines.
        sys.stderr.write("\n".join([*logged, f"{ended} has ended.", ""]))
    if options.directory:
        shutil.rmtree(options.directory, ignore_errors=True)
    return 1 if ended else 0


def process_log_lines(directory: Path, name: str) -> list[str]:
    """Return the last lines that one of Ray's processes has logged; the output of ``ray start`` has none of them.

    :param directory: of a head; see :class:`~airflow_provider_rayagent.local.head.RayHead`.
    :param name: of the process; Ray's names of log files begin with it.
    """
    lines: list[str] = []
    for path in sorted(directory.glob(f"ray/session_latest/logs/{name}.*")):
        with contextlib.suppress(OSError), regular_file(path) as file:
            lines += [f"{path.name}: {line}" for line in last_lines(file, 8)]
    return lines


def _run(command: Sequence[str], asked: Sequence[int]) -> str | None:
    """Run the command; return what of it ended by itself, ``None`` if it was asked to end."""
    if not command:
        while not asked and not _input_closed(0.3):
            pass
        return None
    child = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: die_with_parent(signal.SIGTERM),  # noqa: PLW1509 (one thread)
    )
    vital = VitalProcesses(child.pid)
    while not asked and not _input_closed(0.3):
        if (code := _reap().get(child.pid)) is not None:
            return f"ray start (exit code {code})"
        if ended := vital.ended():
            return ended
    return None


def remove_info_file(path: Path) -> None:
    """Remove the info file of an agent that ends, but not that of one that was started since.

    The kernel closes the files of a killed process one by one: standard input may be closed here while the file is
    still locked. That this process has another parent by then proves nothing: Linux hands over the children of a
    process as soon as all its threads are ending, which is before the last of them closes the files
    (``find_alive_thread`` in kernel/exit.c). A lock that lasts is that of another agent.
    """
    deadline = time.monotonic() + UNLOCK_PATIENCE
    while True:
        try:
            return remove_if_left(path)
        except LocalAgentError:
            if time.monotonic() > deadline:
                return None
        time.sleep(0.05)


class VitalProcesses:
    """Watches the processes named in :data:`VITAL`.

    ``ray start --block`` ends with them too, but only half a minute later.

    :param parent: process id of ``ray start``.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._found: dict[str, psutil.Process] = {}

    def ended(self) -> str | None:
        """Return the name of one that was seen and is gone, ``None`` if there is none."""
        if len(self._found) < len(VITAL):
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(self._parent).children():
                    with contextlib.suppress(psutil.Error):
                        if process.name() in VITAL:
                            self._found.setdefault(process.name(), process)
        return next((name for name, process in self._found.items() if _has_ended(process)), None)


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


def _reap() -> dict[int, int]:
    """Collect the children that have ended, adopted ones included; return their exit codes by process id."""
    codes: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            codes[ended[0]] = os.waitstatus_to_exitcode(ended[1])
    return codes


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
