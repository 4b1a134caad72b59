"""Make remote text fit for Airflow's task log: what it looks like is kept, what it could do to the log is not."""

from __future__ import annotations

import re

_FOLDS = ("::group::", "::endgroup::")
_UNFIT = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]{0,100}m)"
    r"|(?P<dress>\x1b\[[0-2]?K|\x1b\]8;[^\x07\x1b]{0,4000}(?:\x07|\x1b\\))"
    "|[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def readable(line: str, *, colours: bool = True) -> str:
    """Return one line of remote text as the task log may show it.

    Control characters, C1 included, line and paragraph separators, halves of surrogate pairs and what overrides the
    direction of text are shown as ``\\x07`` or ``\\u202e``, and so is every terminal sequence that is not a colour. Two
    are dropped, since they change nothing that is read: to erase the rest of a line, and the link around a text.
    Tabs are kept, ``\\r`` at the end is dropped, and fold markers are broken by :func:`neutralize`.

    :param colours: whether colours, which Airflow's view renders, are kept; else they are dropped.
    """
    if not line.isprintable():
        line = line.rstrip("\r")
        line = _UNFIT.sub(_with_colours if colours else _without_colours, line)
    return neutralize(line)


def neutralize(line: str) -> str:
    """Return ``line`` with markers broken that Airflow's log view would obey, by a zero-width space.

    The view folds lines between ``::group::`` and ``::endgroup::`` wherever they stand in a line.
    """
    if "group::" in line:
        for fold in _FOLDS:
            line = line.replace(fold, f"::\u200b{fold[2:]}")
    return line


def _with_colours(found: re.Match[str]) -> str:
    return found[0] if found["colour"] else _without_colours(found)


def _without_colours(found: re.Match[str]) -> str:
    if found.lastgroup is not None:
        return ""
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
