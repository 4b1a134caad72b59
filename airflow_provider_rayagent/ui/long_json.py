"""Parse long JSON in steps.

The decoder of ``json`` is written in C and lets no other thread run until it has parsed the whole text, which takes
70 ms for 10,000 jobs. Here it parses the elements of a list one by one.
"""

from __future__ import annotations

import json
from json.decoder import JSONArray, JSONObject  # type: ignore[attr-defined]
from typing import Any

from airflow_provider_rayagent.ui.page_thread import rest

LONG = 100_000
"""Characters; a shorter text is parsed at once."""

_decoder = json.JSONDecoder()


def loads(text: str) -> Any:
    """Return what ``json.loads`` does for a text without surrounding whitespace.

    :raises ValueError: if it is not JSON.
    """
    if len(text) < LONG:
        return json.loads(text)
    value, end = _parse(text, 0)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def _parse(text: str, at: int) -> tuple[Any, int]:
    """Return a value and where it ends; the lists in it can be members of objects."""
    match text[at : at + 1]:
        case "{":
            # These two are the versions in Python, which call a function for each value; `json.loads` uses those in C.
            found: tuple[Any, int] = JSONObject((text, at + 1), True, _parse, None, None)
        case "[":
            found = JSONArray((text, at + 1), _parse_element)
        case _:
            found = _decoder.raw_decode(text, at)
    return found


def _parse_element(text: str, at: int) -> tuple[Any, int]:
    rest()
    return _decoder.raw_decode(text, at)
