"""Parse long JSON in steps. Pure.

The decoder of ``json`` is written in C and lets no other thread run until it has parsed the whole text, which takes
70 ms for 10,000 jobs. Here it parses the elements of a list one by one.
"""

from __future__ import annotations

import json
from json.decoder import JSONArray, JSONObject  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 100_000
"""Characters; a shorter text is parsed at once."""

_decoder = json.JSONDecoder()


def loads(text: str, each: Callable[[Any], Any] = lambda element: element) -> Any:
    """Return what ``json.loads`` does for a text without surrounding whitespace.

    :param each: is called with each element of a list in a long text as soon as it is parsed; what it returns takes the
        place of the element.
    :raises ValueError: if it is not JSON.
    """
    if len(text) < LONG:
        return json.loads(text)

    def parse(text: str, at: int) -> tuple[Any, int]:
        """Return a value and where it ends; the lists in it can be members of objects."""
        match text[at : at + 1]:
            case "{":
                # These two are the versions in Python, which call a function for each value; `json.loads` uses those in
                # C.
                found: tuple[Any, int] = JSONObject((text, at + 1), True, parse, None, None)
            case "[":
                found = JSONArray((text, at + 1), parse_element)
            case _:
                found = _decoder.raw_decode(text, at)
        return found

    def parse_element(text: str, at: int) -> tuple[Any, int]:
        element, end = _decoder.raw_decode(text, at)
        return each(element), end

    value, end = parse(text, 0)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value
