"""The keeper: a small process between the agent and its Ray head that stops Ray when the agent has exited.

Some of Ray's processes, such as a job's entrypoint, create their own process groups and sessions, so a process group
does not contain all of them. The keeper is a child subreaper: orphans become its children, so it can find all
descendants. It terminates them when its standard input closes, which happens even if the agent is killed.

:func:`keeper_command` returns the command to run it. Its exit code is 0 if it was told to stop, and 1 if the command
exited on its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from airflow_provider_rayagent.local.files import last_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

TERM_GRACE = 3.0
"""Seconds between TERM and KILL. On TERM, Ray drains for 30 s, which a temporary cluster does not need."""
KILL_TIMEOUT = 10.0
"""Seconds to wait until killed processes have exited."""
VITAL_NAMES = ("gcs_server", "raylet")
"""Names of the processes that a Ray head cannot work without."""
RAY_START = "ray start"
LOGS = Path("ray", "session_latest", "logs")
EXITED_PROCESS = re.compile(r"^ +(\w+) \[exit code=", re.MULTILINE)
"""A line of the file in which ``ray start --block`` of Ray 2.55 and newer names what has exited (``scripts.py``)."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent exits; no effect outside Linux."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def keeper_command(directory: Path, command: Sequence[str]) -> list[str]:
    """Return the command of a keeper.

    :param directory: directory of the head, removed at the end.
    :param command: command to run.
    """
    return [sys.executable, "-m", "airflow_provider_rayagent.local.keeper", str(directory), *command]


def main(directory: Path, command: Sequence[str]) -> int:
    """Run the command until it exits, standard input closes or TERM arrives; return the exit code."""
    # First: a TERM during startup must not end the keeper without its descendants.
    signals = _catch_signals()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    ended = _run(command, signals)
    report = describe_end(ended, directory) if ended else []
    end_descendants()
    # After the output of Ray's terminating processes, since the agent reports the last lines.
    sys.stderr.writelines(f"{line}\n" for line in report)
    shutil.rmtree(directory, ignore_errors=True)
    return 1 if ended else 0


def describe_end(ended: str, directory: Path) -> list[str]:
    """Return the last log lines of what has ended the head, and its name; before ``ray start`` what made it exit.

    :param ended: what :func:`_run` has returned.
    :param directory: directory of the head.
    """
    exits = "\n".join(_last_file_lines(directory / LOGS / "ray_process_exit.log"))
    names = [*(EXITED_PROCESS.findall(exits) if ended.startswith(RAY_START) else ()), ended]
    logged = [line for name in names for line in last_process_log_lines(directory, name)]
    return [*logged, *(f"{name} has ended." for name in names)]


def last_process_log_lines(directory: Path, name: str) -> list[str]:
    """Return the last lines of the log files of one of Ray's processes, which ``ray start`` does not print.

    :param directory: directory of the head.
    :param name: name of the process, with which the names of its log files begin.
    """
    paths = sorted((directory / LOGS).glob(f"{name}.*"))
    return [f"{path.name}: {line}" for path in paths for line in _last_file_lines(path)]


def _last_file_lines(path: Path) -> list[str]:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return last_lines(file, 8)
    return []


def _run(command: Sequence[str], signals: Sequence[int]) -> str | None:
    """Run the command; return the name of the process that exited on its own, ``None`` if told to stop."""
    child = subprocess.Popen(  # noqa: S603
        command,
        # Not the keeper's own input, a pipe without data: a process that reads from it would wait forever.
        stdin=subprocess.DEVNULL,
        # If the keeper is killed, `ray start` ends its processes on TERM (`sigterm_handler` in Ray's `node.py`).
        preexec_fn=lambda: die_with_parent(signal.SIGTERM),  # noqa: PLW1509 (one thread)
    )
    vital = VitalProcesses(child.pid)
    while not signals and not _input_closed(0.3):
        if (code := _reap().get(child.pid)) is not None:
            return f"{RAY_START} (exit code {code})"
        if ended := vital.ended():
            return ended
    return None


class VitalProcesses:
    """Watches the processes named in :data:`VITAL_NAMES`.

    ``ray start --block`` exits with them too, but only half a minute later.

    :param parent: process id of ``ray start``.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent
        # Kept once they are found: a process that has exited and was reaped is not among the children any more.
        self._processes: dict[str, psutil.Process] = {}

    def ended(self) -> str | None:
        """Return the name of a process that has exited, ``None`` if there is none."""
        if len(self._processes) < len(VITAL_NAMES):
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(self._parent).children():
                    with contextlib.suppress(psutil.Error):
                        if process.name() in VITAL_NAMES:
                            self._processes.setdefault(process.name(), process)
        return next((name for name, process in self._processes.items() if _has_ended(process)), None)


def end_descendants(grace: float = TERM_GRACE) -> None:
    """Terminate all descendants of this process: TERM, then KILL after ``grace`` seconds."""
    for process in _descendants():
        with contextlib.suppress(psutil.Error):
            process.terminate()
    if _all_gone(time.monotonic() + grace):
        return
    deadline = time.monotonic() + KILL_TIMEOUT
    while time.monotonic() < deadline:
        # A process may have started another one since the last look.
        for process in _descendants():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if _all_gone(time.monotonic() + 0.3):
            return


def _has_ended(process: psutil.Process) -> bool:
    try:
        # A zombie until `ray start --block` looks for ended processes, which it does once a second (`scripts.py`).
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _descendants() -> list[psutil.Process]:
    children: list[psutil.Process] = psutil.Process().children(recursive=True)
    return children


def _all_gone(deadline: float) -> bool:
    while True:
        _reap()
        # psutil counts an adopted process that has exited as a child until it is reaped.
        if not _descendants():
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)


def _reap() -> dict[int, int]:
    """Reap the children that have exited, including adopted ones; return their exit codes by process id."""
    codes: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        # This also reaps the command, whose Popen object would then report 0 (ChildProcessError in `Popen._try_wait`).
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            codes[ended[0]] = os.waitstatus_to_exitcode(ended[1])
    return codes


def _input_closed(timeout: float) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], timeout)
    # Not `sys.stdin.read`, which would wait for the end of the input, or buffer what `select` then does not see.
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
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
