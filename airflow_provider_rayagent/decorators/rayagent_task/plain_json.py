"""Check that a value is JSON, in Airflow as well as on the cluster. Imports the standard library only."""

from __future__ import annotations

import json
import math
import re
from typing import Any

# The bounds of what Airflow can store; ``text.storable``, which the cluster does not have, has the reasons.
MAX_DEPTH = 99
"""One less, since a returned value is part of an object."""
INTEGERS = range(-(2**63), 2**64)
RESERVED_KEYS = ("__classname__", "__version__", "__data__", "__id__", "__cache__", "__type", "__source", "__var")

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_INSTEAD = {
    "DataFrame": "write it to storage and pass its path",
    "Dataset": "write it to storage and pass its path",
    "ndarray": "write it to storage and pass its path, or pass its tolist()",
    "Connection": "pass its id, or use env_from_connections",
    "ObjectRef": "pass the value, from ray.get()",
    "bytes": "pass text, or write it to storage and pass its path",
    "set": "pass a list",
    "frozenset": "pass a list",
    "generator": "pass a list",
    "datetime": "pass its isoformat()",
    "DateTime": "pass its isoformat()",
    "date": "pass its isoformat()",
    "timedelta": "pass its total_seconds()",
    "Decimal": "pass a float or its str()",
    "UUID": "pass its str()",
    "PosixPath": "pass its str()",
}


class NotJSONError(Exception):
    """A value is not JSON; the message says which one, and what to do."""


def check_json(value: Any, what: str, max_chars: int) -> str:
    """Return a value as JSON text.

    :param value: objects (dict), lists, tuples, strings, numbers, booleans and ``None``.
    :param what: description of the value, for the message.
    :param max_chars: of the text.
    :raises NotJSONError: if it is not JSON, or longer.
    """
    _check(value, what, 0)
    text = json.dumps(value)
    check_length(text, what, max_chars)
    return text


def check_length(text: str, what: str, max_chars: int) -> None:
    """Check the length of a JSON text.

    :raises NotJSONError: if it is longer.
    """
    if len(text) > max_chars:
        raise NotJSONError(
            f"{what} has {len(text):,} characters as JSON, more than {max_chars:,}: write it to storage and pass its "
            "path."
        )


def _check(value: Any, where: str, depth: int) -> None:
    if isinstance(value, (dict, list, tuple)):
        if depth == MAX_DEPTH:
            raise NotJSONError(f"{where} is nested more than {MAX_DEPTH} deep.")
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict) and not isinstance(name, str):
                raise NotJSONError(f"{where} has the key {name!r:.50}; keys of a JSON object are strings.")
            if isinstance(value, dict) and name in RESERVED_KEYS:
                raise NotJSONError(f"{where} has the key {name!r}, which Airflow reserves.")
            _check(item, f"{where}[{name!r:.50}]", depth + 1)
    elif problem := _problem(value):
        raise NotJSONError(f"{where} {problem}.")


def _problem(value: Any) -> str | None:
    """Return what is wrong with a value that has no others in it."""
    if isinstance(value, str):
        unstorable = _UNSTORABLE.search(value)
        return "has a NUL character or half a surrogate pair, which Airflow cannot store" if unstorable else None
    if isinstance(value, int):
        # Of a subclass, such as HTTPStatus, a range compares every number that it has (``range_contains`` in
        # ``Objects/rangeobject.c`` of CPython).
        return None if int.__index__(value) in INTEGERS else "is an integer of more than 64 bits: pass its str()"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"is {value}, which JSON does not have: pass None or text"
    return None if value is None else f"is a {_type_name(value)}, not JSON: {_instead(value)}"


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _instead(value: object) -> str:
    for kind in type(value).__mro__:
        if kind.__name__ in _INSTEAD:
            return _INSTEAD[kind.__name__]
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return "pass its item()"
    return "pass what the other side needs of it as numbers, text, lists and dicts"
