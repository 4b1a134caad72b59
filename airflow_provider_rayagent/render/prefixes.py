"""What stands before a program's own text in a line: the process, by Ray, and an unfinished progress bar."""

from __future__ import annotations

import re

from airflow_provider_rayagent.render.bars import BAR
from airflow_provider_rayagent.render.level_patterns import TERMINAL_SEQUENCES

MAX_PROCESSES = 3
"""Process prefixes of one line; a framework may add its own around Ray's."""

_PROCESS = re.compile(r"\((?:raylet|autoscaler|gcs_server|(?:[^\n]{1,200}? )?pid=\d{1,10})(?:[ ,][^()\n]{1,60})?\) ?")
_REPEATED = re.compile(r" \[repeated \d+x across cluster\].*$")


def split_process(line: str) -> tuple[str, str]:
    """Return Ray's ``(name pid=123)`` of a line, empty if there is none, and the text of this process.

    Both are without colors, and the text is without Ray's note that other processes have printed the same.
    """
    if "\x1b" in line:
        line = TERMINAL_SEQUENCES.sub("", line)
    process = ""
    for _ in range(MAX_PROCESSES):
        found = _PROCESS.match(line) if line.startswith("(") else None
        if found is None:
            break
        process, line = process + found[0], line[found.end() :]
    # The first one is followed by a hint in parentheses (`_warn_once` in Ray's `ray_logging`).
    if process and line.endswith((")", "]")):
        line = _REPEATED.sub("", line)
    return process, line


def own_text(line: str) -> str:
    """Return what the program has printed in a line: without the process and an unfinished progress bar before it."""
    _, own = split_process(line)
    rest = text_after_bar(own)
    return own if rest is None else rest


def text_after_bar(text: str) -> str | None:
    """Return what a text has after an unfinished progress bar, ``None`` if it does not begin with one."""
    bar = BAR.match(text) if "%|" in text else None
    return None if bar is None else text[bar.end() :].removeprefix(" ")
