"""Make a text that is not ours fit for the task log: its looks are kept, what it could do to the log is not. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_FOLDS = ("::group::", "::endgroup::")
_UNFIT = re.compile(
    r"(?P<color>\x1b\[[0-9;:]{0,100}m)"
    r"|(?P<dress>\x1b\[[0-2]?K|\x1b\]8;[^\x07\x1b]{0,4000}(?:\x07|\x1b\\))"
    "|[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def showable(
    text: str,
    redact: Callable[[str], str] = str,
    *,
    length: int | None = None,
    lines: bool = False,
    colors: bool = False,
) -> str:
    """Return a text that is not ours as the task log may show it, without secrets and cut to a length.

    Every text of the agent, of Ray and of a job passes this on its way into a log, an error's words included. Applied
    twice, it does no more than once.

    Control characters, C1 included, line and paragraph separators, halves of surrogate pairs and what overrides the
    direction of text are shown as ``\\x07`` or ``\\u202e``, and so is every terminal sequence that is not a color. Two
    are dropped, since they change nothing that is read: to erase the rest of a line, and the link around a text.
    Tabs are kept, and ``\\r`` at a line's end is dropped. Markers that fold Airflow's log view (``::group::`` and
    ``::endgroup::``, anywhere in a line) are broken by a zero-width space.

    :param redact: takes secrets out; before anything is cut, since of a secret that is cut no piece is recognized.
    :param length: characters of the text that are shown; ``None``: all.
    :param lines: whether ``\\n`` is kept; else it is a control character, so that a name cannot look like a sentence.
    :param colors: whether colors, which Airflow's view renders, are kept; else they are dropped.
    """
    text = redact(text)
    if length is not None:
        text = cut(text, length)
    if lines and "\n" in text:
        return "\n".join(_line(line, colors=colors) for line in text.split("\n"))
    return _line(text, colors=colors)


def cut(text: str, length: int) -> str:
    """Return a text, or its beginning and how much more there is; to be redacted before."""
    return text if len(text) <= length else f"{text[:length]}… [{len(text) - length} characters cut]"


def _line(line: str, *, colors: bool) -> str:
    if not line.isprintable():
        line = line.rstrip("\r")
        line = _UNFIT.sub(_with_colors if colors else _without_colors, line)
    if "group::" in line:
        for fold in _FOLDS:
            line = line.replace(fold, f"::\u200b{fold[2:]}")
    return line


def _with_colors(found: re.Match[str]) -> str:
    return found[0] if found["color"] else _without_colors(found)


def _without_colors(found: re.Match[str]) -> str:
    if found.lastgroup is not None:
        return ""
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
