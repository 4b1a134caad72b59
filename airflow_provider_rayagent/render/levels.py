"""Detect the log level of a job's lines. A wrong level is worse than none."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from airflow_provider_rayagent.render.level_patterns import marked_level
from airflow_provider_rayagent.render.prefixes import split_process, text_after_bar
from airflow_provider_rayagent.render.tracebacks import (
    begins_traceback,
    ends_traceback,
    has_nested_traceback,
    is_frame,
    is_remote_frame,
)
from airflow_provider_rayagent.tail.lines import Piece

MAX_BLOCKS = 64
"""Processes whose open tracebacks are tracked."""

_RAY_MESSAGE = re.compile(r"(?:(Error)|Warning): [A-Z]")
_OPENINGS = (":", ",", "{", "[", "(", "\\")

Kind: TypeAlias = Literal["traceback", "indented", "source", "error"]


@dataclass(frozen=True)
class _Block:
    """Lines that have the level of the line before them.

    :param kind: ``traceback``: up to the line of its exception. ``indented``: indented lines. ``source``: one line of
        source code. ``error``: a traceback that lacks its first line, since Ray deduplicates similar lines.
    """

    kind: Kind
    level: int


class LevelFinder:
    """Find the level of each line of one job's log; the lines must come in order.

    Recognizes Python's logging in its usual formats, Ray's own lines, glog, loguru, structlog, rich, uvicorn, NCCL,
    JSON with a level field, Python's warnings, and whole tracebacks; also with colors, after Ray's ``(name pid=123)``,
    and after an unfinished progress bar. A line without a level inherits the level of the line
    before only within a block: a traceback, or the indented lines after a record that ends with an opening such as
    ``:``.
    """

    def __init__(self) -> None:
        # One for each process, since Ray mixes the lines of its workers.
        self._blocks: dict[str, _Block] = {}
        self._last: int | None = None

    def level_of(self, line: str) -> int | None:
        """Return the level of a line (a level of :mod:`logging`), ``None`` if it has none."""
        if isinstance(line, Piece) and line.continued:
            return self._last
        process, line = split_process(line)
        rest = text_after_bar(line)
        if rest is not None:
            if not rest:
                return None
            line = rest
        if self._blocks:
            block = self._blocks.get(process)
            if block is not None:
                self._last = self._level_in_block(process, block, line)
                return self._last
        self._last = self._level_outside_block(process, line)
        return self._last

    def _level_outside_block(self, process: str, line: str) -> int | None:
        level = marked_level(line)
        if level is None:
            if begins_traceback(line):
                return self._open_block(process, "traceback", logging.ERROR)
            if process and line.startswith(("Error: ", "Warning: ")):
                found = _RAY_MESSAGE.match(line)
                return None if found is None else logging.ERROR if found[1] else logging.WARNING
            return None
        if level > logging.INFO:
            if is_remote_frame(line):
                return self._open_block(process, "traceback", level)
            if "Warning: " in line:
                return self._open_block(process, "source", level)
            if line.rstrip().endswith(_OPENINGS):
                return self._open_block(process, "indented", level)
            if level >= logging.ERROR:
                return self._open_block(process, "error", level)
        return level

    def _level_in_block(self, process: str, block: _Block, line: str) -> int | None:
        if block.kind == "error":
            if is_frame(line):
                return self._open_block(process, "traceback", block.level)
            del self._blocks[process]
            return self._level_outside_block(process, line)
        blank = not line or line.isspace()
        indented = not blank and line.startswith((" ", "\t", "> File "))
        if indented or (blank and block.kind == "traceback"):
            if block.kind == "source":
                del self._blocks[process]
            return block.level
        if block.kind == "traceback" and ends_traceback(line):
            if not has_nested_traceback(line):
                del self._blocks[process]
                # Exceptions of Ray have texts of several lines, indented below the first.
                if line.startswith("ray.exceptions.") or line.endswith(_OPENINGS):
                    self._open_block(process, "indented", block.level)
            return block.level
        del self._blocks[process]
        return self._level_outside_block(process, line)

    def _open_block(self, process: str, kind: Kind, level: int) -> int:
        if len(self._blocks) >= MAX_BLOCKS and process not in self._blocks:
            # The traceback of a killed process never ends, and processes come and go while the job runs.
            self._blocks.clear()
        self._blocks[process] = _Block(kind, level)
        return level
