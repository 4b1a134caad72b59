"""Sanitize text from agents, Ray and jobs for the task log. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ERROR = 500
"""Characters of the text of an error of others."""
MAX_NOTICE = 1_000
"""Characters of a notice or a warning, which may quote the service or the job."""

_GROUP_MARKERS = ("::group::", "::endgroup::")
_COLOR = r"\x1b\[[0-9;:]{0,100}m"
_INVISIBLE = r"\x1b\[[0-2]?K|\x1b\]8;[^\x07\x1b]{0,4000}(?:\x07|\x1b\\)"
DROPPED = re.compile(f"{_COLOR}|{_INVISIBLE}")
"""The terminal sequences that do not change what is read: :func:`sanitize` drops them, other than colors to render."""
_UNSAFE = re.compile(
    f"(?P<color>{_COLOR})|(?P<invisible>{_INVISIBLE})"
    "|[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def sanitize(
    text: str,
    redact: Callable[[str], str] = str,
    *,
    length: int | None = None,
    lines: bool = False,
    colors: bool = False,
) -> str:
    """Return untrusted text in a form that is safe for the task log: redacted, truncated, escaped.

    All text from the agent, Ray or a job passes through here on its way into a log or an error message. The function
    is idempotent.

    Control characters (C0 and C1), line and paragraph separators, lone surrogates, bidirectional overrides and
    terminal sequences other than colors are shown as escapes such as ``\\x07`` or ``\\u202e``. Erase-in-line sequences
    and hyperlinks (OSC 8) are dropped, since they do not change what is read. Tabs are kept; ``\\r`` at the end of a
    line is dropped. A zero-width space breaks the markers that fold Airflow's log view (``::group::`` and
    ``::endgroup::``, which Airflow accepts anywhere in a line).

    :param redact: redacts secrets. It runs before truncation, since half a secret is not recognized.
    :param length: characters to keep; ``None``: all.
    :param lines: keep ``\\n``. By default it is escaped, so that a name cannot forge a log line.
    :param colors: keep color sequences, which Airflow's log view renders; otherwise drop them.
    """
    text = redact(text)
    if length is not None:
        text = truncate(text, length)
    if lines and "\n" in text:
        return "\n".join(_sanitize_line(line, colors=colors) for line in text.split("\n"))
    return _sanitize_line(text, colors=colors)


def sanitized(value: Any, redact: Callable[[str], str] = str) -> Any:
    """Return a JSON value with every text in it, names included, in a form that is safe to show.

    :param redact: redacts secrets.
    """
    if isinstance(value, str):
        return sanitize(value, redact, lines=True)
    if isinstance(value, dict):
        return {sanitize(str(name), redact): sanitized(each, redact) for name, each in value.items()}
    return [sanitized(each, redact) for each in value] if isinstance(value, list) else value


def shown_error(error: BaseException) -> str:
    """Return the text of an error that another library has raised, for a log message."""
    return sanitize(str(error), length=MAX_ERROR)


def truncate(text: str, length: int) -> str:
    """Return a text truncated to ``length`` characters, with a note of how many were dropped. Redact it first."""
    return text if len(text) <= length else f"{text[:length]}… [{len(text) - length} characters truncated]"


def _sanitize_line(line: str, *, colors: bool) -> str:
    # A fast test that most lines pass: none of the characters in ``_UNSAFE`` is printable.
    if not line.isprintable():
        line = line.rstrip("\r")
        line = _UNSAFE.sub(_with_colors if colors else _without_colors, line)
    if "group::" in line:
        for fold in _GROUP_MARKERS:
            line = line.replace(fold, f"::\u200b{fold[2:]}")
    return line


def _with_colors(found: re.Match[str]) -> str:
    return found[0] if found["color"] else _without_colors(found)


def _without_colors(found: re.Match[str]) -> str:
    if found.lastgroup is not None:
        return ""
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
