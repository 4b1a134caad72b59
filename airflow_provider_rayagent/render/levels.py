"""The level of a line of a job's log, where the line itself tells it. A wrong guess is worse than none."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from airflow_provider_rayagent.render.bars import BAR
from airflow_provider_rayagent.render.markers import TERMINAL_SEQUENCES, marked_level
from airflow_provider_rayagent.render.tracebacks import (
    begins_traceback,
    ends_traceback,
    goes_on,
    is_frame,
    is_remote_frame,
)
from airflow_provider_rayagent.tail.lines import Piece

MAX_BLOCKS = 64
"""Processes whose unfinished tracebacks are remembered."""
MAX_PROCESSES = 3
"""Prefixes of a line; an engine that shows its own processes may show Ray's within them."""

_PROCESS = re.compile(r"\((?:raylet|autoscaler|gcs_server|(?:[^\n]{1,200}? )?pid=\d{1,10})(?:[ ,][^()\n]{1,60})?\) ?")
_RAY_ITSELF = re.compile(r"(?:(Error)|Warning): [A-Z]")
_REPEATED = re.compile(r" \[repeated \d+x across cluster\].*$")
_OPENINGS = (":", ",", "{", "[", "(", "\\")

Kind: TypeAlias = Literal["traceback", "indented", "source", "error"]


@dataclass(frozen=True)
class _Block:
    """Lines that belong to the one before.

    :param kind: a ``traceback`` to its exception's line, ``indented`` lines, one line of ``source``, or, after an
        ``error``, a traceback whose first line is missing: Ray holds back lines that are like others.
    """

    kind: Kind
    level: int


class LevelFinder:
    """Find the level of each line of one job's log, given in order.

    Known are Python's logging in its usual formats, Ray's own lines, glog, loguru, structlog, rich, uvicorn, JSON and
    logfmt with a level field, Python's warnings, and tracebacks with all their lines; each also in colors, after
    Ray's ``(name pid=123)`` and after a bar that was not ended. A line without a level of its own takes that of the
    line before only if that one begins a block: a traceback, or a record that ends in an opening such as ``:`` and
    goes on indented.
    """

    def __init__(self) -> None:
        self._blocks: dict[str, _Block] = {}
        self._last: int | None = None

    def level_of(self, line: str) -> int | None:
        """Return the level as a number of :mod:`logging`, ``None`` if the line tells none."""
        if isinstance(line, Piece) and line.continued:
            return self._last
        if "\x1b" in line:
            line = TERMINAL_SEQUENCES.sub("", line)
        process = ""
        for _ in range(MAX_PROCESSES):
            found = _PROCESS.match(line) if line.startswith("(") else None
            if found is None:
                break
            process, line = process + found[0], line[found.end() :]
        if process and line.endswith((")", "]")):
            line = _REPEATED.sub("", line)
        bar = BAR.match(line) if "%|" in line else None
        if bar is not None:
            line = line[bar.end() :].removeprefix(" ")
            if not line:
                return None
        if self._blocks:
            block = self._blocks.get(process)
            if block is not None:
                self._last = self._within(process, block, line)
                return self._last
        self._last = self._begin(process, line)
        return self._last

    def _begin(self, process: str, line: str) -> int | None:
        level = marked_level(line)
        if level is None:
            if begins_traceback(line):
                return self._open(process, "traceback", logging.ERROR)
            if process and line.startswith(("Error: ", "Warning: ")):
                found = _RAY_ITSELF.match(line)
                return None if found is None else logging.ERROR if found[1] else logging.WARNING
            return None
        if level > logging.INFO:
            if is_remote_frame(line):
                return self._open(process, "traceback", level)
            if "Warning: " in line:
                return self._open(process, "source", level)
            if line.rstrip().endswith(_OPENINGS):
                return self._open(process, "indented", level)
            if level >= logging.ERROR:
                return self._open(process, "error", level)
        return level

    def _within(self, process: str, block: _Block, line: str) -> int | None:
        if block.kind == "error":
            if is_frame(line):
                return self._open(process, "traceback", block.level)
            del self._blocks[process]
            return self._begin(process, line)
        blank = not line or line.isspace()
        indented = not blank and line.startswith((" ", "\t", "> File "))
        if indented or (blank and block.kind == "traceback"):
            if block.kind == "source":
                del self._blocks[process]
            return block.level
        if block.kind == "traceback" and ends_traceback(line):
            if not goes_on(line):
                del self._blocks[process]
                if line.startswith("ray.exceptions.") or line.endswith(_OPENINGS):
                    self._open(process, "indented", block.level)
            return block.level
        del self._blocks[process]
        return self._begin(process, line)

    def _open(self, process: str, kind: Kind, level: int) -> int:
        if len(self._blocks) >= MAX_BLOCKS and process not in self._blocks:
            self._blocks.clear()
        self._blocks[process] = _Block(kind, level)
        return level
