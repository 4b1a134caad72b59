"""Recognize the lines of tracebacks in a log: plain, chained, and those that Ray adds for remote workers."""

from __future__ import annotations

import re

_HEADER = "Traceback (most recent call last):"
_FIRST_LINES = frozenset(
    (
        _HEADER,
        "  + Exception Group Traceback (most recent call last):",
        "Stack (most recent call first):",
        "During handling of the above exception, another exception occurred:",
        "The above exception was the direct cause of the following exception:",
        "Error in atexit._run_exitfuncs:",
    )
)
# All repetitions are bounded, so that a hostile line takes linear time.
_FIRST_LINE = re.compile(
    r"Fatal Python error: [A-Za-z_]"
    r"|Exception in thread [^\n]{1,200}:$"
    r"|Exception ignored (?:in|on|while)\b[^\n]{1,2000}$"
    r"|(?:Current thread|Thread) 0x[0-9a-f]{1,16}(?: \[[^\]]{1,80}\])? \(most recent call first\):$"
    r"|  File \"[^\"\n]{1,400}\", line \d{1,9}$"
    r"|Exception raised in creation task: "
)
# loguru marks the frame that has caught the exception with `>`.
_FRAME = re.compile(r"(?:\s{2}|> )File \"[^\"\n]{1,400}\", line \d{1,9}, in ")
_EXCEPTION = re.compile(r"(?:[^\W\d]\w{0,80}\.){0,12}(?:(?<=\.)[^\W\d]|[A-Z])\w{0,80}(?:\([\w.]{1,120}\))?(?:: |:?$)")
# The first characters of all first lines: most other lines are rejected without a regular expression.
_FIRST_CHARS = frozenset("TSDEFC ")


def begins_traceback(line: str) -> bool:
    """Whether ``line`` starts a traceback or a report that contains one."""
    first = line[:1]
    if first in _FIRST_CHARS:
        return line.rstrip() in _FIRST_LINES or _FIRST_LINE.match(line) is not None or is_remote_frame(line)
    return is_remote_frame(line)


def is_frame(line: str) -> bool:
    """Whether ``line`` is a frame of a traceback."""
    return _FRAME.match(line) is not None


def is_remote_frame(line: str) -> bool:
    """Whether ``line`` introduces the traceback of a remote function: ``ray::f() (pid=123, ip=…)``."""
    end = line.find("() (pid=")
    # Bounded like the repetitions above; the name is that of a class and its method.
    return end > 0 and "ray::" in line[max(end - 400, 0) : end]


def ends_traceback(line: str) -> bool:
    """Whether an unindented line below a traceback is the line of its exception."""
    return _EXCEPTION.match(line) is not None


def has_nested_traceback(line: str) -> bool:
    """Whether the exception's message is another traceback."""
    return line.endswith(_HEADER) or is_remote_frame(line)
