"""Start a server in its own session, and terminate only that session."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.stack.watch import tail, unwatch, watch

if TYPE_CHECKING:
    import pwd
    from collections.abc import Iterator, Mapping, Sequence


NO_AGENT = "http://127.0.0.1:1"
"""Nothing listens there. A port that is only free for the moment can be that of another suite's server soon."""


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Defer Ctrl-C and TERM to the end of the block, so that a server is registered once it has started."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda each, _frame: held.append(each)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for each in held:
            signal.raise_signal(each)


ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)


class Server:
    """A child process that leads its own session, with its output in a file.

    Its children may create their own process groups (an Airflow task does), but stay in the session, so :meth:`stop`
    terminates all processes of the session. If the server ends without being stopped or expected to end, that is an
    error (see :mod:`tests.stack.watch`).

    :param name: name for error messages; by default its command.
    :param output: file for its output.
    :param account: system account that runs it, with only its own group; by default the current one.
    :param stop_signal: signal that stops it.
    :param vital: whether its unexpected end makes all other servers useless; otherwise the caller starts it again.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str | None = None,
        env: Mapping[str, str],
        cwd: Path,
        output: Path,
        account: pwd.struct_passwd | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        vital: bool = True,
    ) -> None:
        self.output = output
        self._stop_signal = stop_signal
        with output.open("ab") as stream:
            self._process = subprocess.Popen(
                list(command),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **identity(account),
            )
        self.pid = self._process.pid
        watch(name or shlex.join(command), self._process, output, vital=vital)

    def returncode(self) -> int | None:
        """Return the leader's exit code, None while it is running."""
        return self._process.poll()

    def tail(self) -> str:
        """Return the last lines of the output."""
        return tail(self.output)

    def members(self) -> list[int]:
        """Return the ids of the live processes in the session."""
        return [pid for pid in _all_pids() if _session_of(pid) == self.pid]

    def send(self, number: signal.Signals, pid: int) -> None:
        """Send a signal to a process of the session; after a terminating signal, the leader is expected to end.

        :raises ProcessLookupError: if it is not, or no longer, in the session.
        """
        if pid not in self.members():
            raise ProcessLookupError(f"no process {pid} in the session of {self.pid}")
        if pid == self.pid and number in ENDING:
            self.expect_end()
        os.kill(pid, number)

    def expect_end(self) -> None:
        """Do not treat the server's end as an error from now on."""
        unwatch(self._process)

    def stop(self) -> None:
        """Terminate the session."""
        stop_servers([self])

    def is_up(self) -> bool:
        """Return whether a process of the session is running."""
        self._process.poll()
        return bool(self.members())

    def send_all(self, number: signal.Signals | None = None) -> None:
        """Send a signal, by default the stop signal, to all processes of the session."""
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number or self._stop_signal)


def stop_servers(servers: Sequence[Server], grace: float = 6.0) -> None:
    """Terminate the sessions of servers in parallel: send the stop signal, and KILL after ``grace`` seconds."""
    for each in servers:
        each.expect_end()
        each.send_all()
    deadline = time.monotonic() + grace
    while left := [each for each in servers if each.is_up()]:
        if time.monotonic() > deadline:
            for each in left:
                each.send_all(signal.SIGKILL)
        time.sleep(0.1)


def identity(account: pwd.struct_passwd | None) -> dict[str, Any]:
    """Return the options of :class:`subprocess.Popen` that run a process as ``account``."""
    return {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def parent_of(pid: int) -> int | None:
    """Return the id of a process's parent, None if there is no such process."""
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def is_asleep(pid: int) -> bool:
    """Return whether a process's main thread waits for something, rather than runs or wants to."""
    fields = _stat(pid)
    return fields is not None and fields[0] == "S"


def command_of(pid: int) -> list[str]:
    """Return a process's command line, empty if there is no such process or it is dead."""
    with contextlib.suppress(OSError):
        line = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").rstrip("\0")
        return line.split("\0") if line else []
    return []


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _session_of(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None or fields[0] == "Z" else int(fields[3])


def _stat(pid: int) -> list[str] | None:
    """Return the fields of a process's ``stat`` file: state, parent, process group, session and more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()
