"""Processes that one signal ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

INTERRUPTED = 130
"""The exit code after a signal."""


class Processes:
    """Processes that one signal ends."""

    def __init__(self) -> None:
        self.interrupted = False
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process in its own session, so that Ctrl-C reaches it only once."""
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
        self._started.append(process)
        if self.interrupted:
            os.killpg(process.pid, signal.SIGINT)
        return process

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal: the first one is forwarded to each process, as SIGINT."""
        if not self.interrupted:
            self.interrupted = True
            self.end()

    def end(self) -> None:
        """Send SIGINT to each process that runs; they end what they have started."""
        for process in self._started:
            # The id of a process that has been waited for may be that of another one by now.
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)


@contextlib.contextmanager
def forwarded_signals() -> Iterator[Processes]:
    """Forward signals to the processes that are started in the context."""
    processes = Processes()
    before = {each: signal.signal(each, processes.interrupt) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield processes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(command: list[str], **options: Any) -> int:
    """Run a command; return its exit code, or INTERRUPTED if a signal arrived, which is forwarded once as SIGINT."""
    with forwarded_signals() as processes:
        code = processes.start(command, **options).wait()
    return INTERRUPTED if processes.interrupted else code
