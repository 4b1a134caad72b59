"""Patterns of the level field in common log formats, strict enough not to match prose or numbers.

Every pattern is anchored at the start of the line, and its repetitions are bounded or cannot overlap with what follows.
So matching a hostile line takes linear time.
"""

from __future__ import annotations

import json
import re

TERMINAL_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
"""Colors, cursor movements and hyperlinks."""

LEVELS = {
    "TRACE": 10,
    "DEBUG": 10,
    "INFO": 20,
    "SUCCESS": 20,
    "NOTICE": 20,
    "WARN": 30,
    "WARNING": 30,
    "ERROR": 40,
    "CRITICAL": 50,
    "FATAL": 50,
}
_LETTERS = {"D": 10, "I": 20, "W": 30, "E": 40, "C": 50, "F": 50}

_NAMES = "TRACE|DEBUG|INFO|SUCCESS|NOTICE|WARNING|WARN|ERROR|CRITICAL|FATAL"
# Written by rich, by loguru and with `%(levelname)-8s`, which pad the level to eight columns.
_PADDED = "DEBUG   |INFO    |WARNING |ERROR   "
_TIME = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?(?:Z\b|UTC\b|[+-]\d\d:?\d\d\b))?"
_TIMESTAMP = rf"(?:\d{{2,4}}[-/.]\d\d[-/.]\d{{2,4}}[T ,]{{1,2}})?{_TIME}"
_SEPARATED = r"(?: {1,8}[-|] {1,8}[\w.:/<>@$-]{1,80}){0,3}? {1,8}[-|] {1,8}"
_BRACKETED = r"(?: {0,2}(?:\[[^\[\]]{1,80}\]|\{[^{}]{1,120}\})){0,3}?"
_FIELD = r"(?:\d{1,10}|root|__main__|[\w-]{1,40}(?:\.[\w-]{1,40}){1,8}):?"
# What follows must be a message: `ERROR: 0.05` is a metric, and `ERROR: None` a value.
_PROSE = r"(?=[A-Za-z\"'`\[(</_])(?!(?i:none|no|null|nil|nan|false|true|ok)\W*$)"

_LEVEL_AFTER_TIME = re.compile(
    rf"\[?{_TIMESTAMP}(?:"
    rf"(?:{_SEPARATED}|{_BRACKETED}[ \t]{{1,4}}(?:{_FIELD} )?|\] |: )(?P<name>{_NAMES})(?=[ \t]|[:/|-][ \w]|\]|$)"
    rf"|\]?{_BRACKETED} {{0,2}}(?:{_FIELD} )?\[(?P<bracketed>{_NAMES}|{_NAMES.lower()}) *\]"
    rf"|\](?:{_BRACKETED}| {_FIELD}) {{1,4}}(?P<later>{_NAMES})(?=[ \t:|-]|$)"
    r"|:? (?P<letter>[DIWECF]) (?:\d+ \d+\] |[\w./-]{1,200}:\d+\])"
    r")"
)
_GLOG = re.compile(
    r"(?:\[rank\d+\]: ?)?\[?([IWEF])(?:\d{4} \d\d:\d\d:\d{2,12}(?:\.\d{1,9})?)? (?: *\d+ )?[^\s\]:]{1,200}:\d+\]"
)
_NCCL = re.compile(rf"[\w.-]{{1,200}}:\d+:\d+ (?:\[\d+\] )?NCCL ({_NAMES}) ")
_LEVEL_FIRST = re.compile(
    rf"(?:(?P<python>{_NAMES}):[^\s:]+:"
    rf"|(?P<colon>{_NAMES}): {{1,6}}(?:{_PROSE}|(?=\d{{1,3}}(?:\.\d{{1,3}}){{3}}:\d))"
    rf"|(?P<timestamp>{_NAMES}) {{1,4}}(?:\d\d-\d\d )?{_TIMESTAMP}"
    rf"|(?P<separated>{_NAMES}) {{1,6}}[-|] {{1,4}}{_PROSE}"
    rf"|(?P<padded>(?:{_PADDED}) (?=[A-Za-z_/<(])|CRITICAL (?=[\w.]+:[\w.]*:?\d+ ))"
    rf"|\[(?P<bracketed>{_NAMES}) *(?:\|[\w.]+:\d+)?\] \S"
    rf"|\[(?P<lower>(?:{_NAMES.lower()})) +\] \S)"
)
_RICH_CONTINUED = re.compile(rf" {{11,30}}({_PADDED}|CRITICAL) [^ ]")
_RICH_PLACE = re.compile(r" [\w.-]+:\d+\s*$")
_WARNING = re.compile(r"\s{0,4}[^\s:][^:]{0,300}:\d+: (?:\w+\.)*\w*Warning: ")
# From the signal handler of Abseil, which Ray's processes install.
_SIGNAL = re.compile(r"\*\*\* SIG[A-Z]+ received at time=\d+")

_JSON_LEVELS = ("level", "levelname", "severity", "log.level", "loglevel", "lvl", "level_name", "severity_text")
_JSON_HINTS = ('"level', '"severity', '"log.level"', '"loglevel"', '"lvl"')
_JSON_TEXTS = ("message", "msg", "event", "text", "body", "textPayload")


def marked_level(line: str) -> int | None:
    """Return the level that a line states (a level of :mod:`logging`), ``None`` if it states none.

    :param line: without terminal sequences and Ray's prefix ``(name pid=123)``.
    """
    first = line[:1]
    if first in _UPPER:
        level = _level_first(line) or _glog(line)
    elif first in _DIGITS:
        level = _level_after_time(line)
    elif first == "[":
        level = _level_after_time(line) or _level_first(line) or _glog(line)
    elif first == "{":
        return _json(line)
    elif first == " ":
        level = _rich(line)
    elif first == "*":
        return LEVELS["ERROR"] if _SIGNAL.match(line) else None
    else:
        level = None
    if level is None and "Warning: " in line and _WARNING.match(line):
        return LEVELS["WARNING"]
    if level is None and " NCCL " in line:
        found = _NCCL.match(line)
        return None if found is None else _level_named(found[1])
    return level


# The first letters of all levels: most lines are rejected without a regular expression.
_UPPER = frozenset("DITWEFCSN")
_DIGITS = frozenset("0123456789")


def _level_after_time(line: str) -> int | None:
    found = _LEVEL_AFTER_TIME.match(line)
    if found is None:
        return None
    letter = found["letter"]
    return _LETTERS[letter] if letter else _level_named(found["name"] or found["bracketed"] or found["later"])


def _level_first(line: str) -> int | None:
    found = _LEVEL_FIRST.match(line)
    return None if found is None or found.lastgroup is None else _level_named(found[found.lastgroup])


def _glog(line: str) -> int | None:
    found = _GLOG.match(line)
    return None if found is None else _LETTERS[found[1]]


def _rich(line: str) -> int | None:
    found = _RICH_CONTINUED.match(line)
    # `search` tries each position of a line, so it gets the end of the line only.
    return _level_named(found[1]) if found is not None and _RICH_PLACE.search(line, max(len(line) - 80, 0)) else None


def _json(line: str) -> int | None:
    # Cheaper than parsing each line that begins with a brace.
    if not any(hint in line for hint in _JSON_HINTS):
        return None
    try:
        record = json.loads(_without_suffix(line))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    # loguru (`serialize=True`) has its fields in `record`, and its level is an object with a name.
    if isinstance(record.get("record"), dict):
        record = {"message": "", **record["record"]}
    # A level without a text is data, such as a part of a configuration.
    if not any(key in record for key in _JSON_TEXTS):
        return None
    for key in _JSON_LEVELS:
        if key in record:
            value = record[key]
            name = value.get("name") if isinstance(value, dict) else value
            return _level_named(name) if isinstance(name, str) else None
    return None


def _without_suffix(line: str) -> str:
    """Return a JSON line without the suffix that Ray may have appended, such as ``[repeated 2x across cluster]``."""
    return line[: line.rfind("}") + 1]


def _level_named(name: str) -> int | None:
    return LEVELS.get(name.strip().upper())
