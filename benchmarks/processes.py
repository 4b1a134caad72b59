"""Agents in separate processes, and the CPU time of processes."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[1]


class Agent:
    """An agent's process, which prints the agent's URL, then a line for each line of its standard input."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self.pid = process.pid
        self.url = self._out.readline().strip()

    def ask(self, command: str = "") -> str:
        """Send a command; return the answer."""
        self._in.write(f"{command}\n")
        self._in.flush()
        return self._out.readline().strip()

    def end(self) -> None:
        """Close the standard input, at whose end the process ends."""
        self._in.close()


@contextmanager
def agent_process(module: str, *arguments: object) -> Iterator[Agent]:
    """Run a module of the benchmarks that is an agent.

    :raises subprocess.CalledProcessError: if it failed.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        agent = Agent(process)
        try:
            yield agent
        finally:
            agent.end()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Return the CPU time that processes have used."""
    return sum(sum(each.cpu_times()[:2]) for each in processes)
