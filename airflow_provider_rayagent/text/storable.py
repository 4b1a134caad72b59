"""Sanitize values for Airflow's database: trigger events, XComs, task state, the extra of asset events. Pure."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

ValueT = TypeVar("ValueT")

MAX_DEPTH = 100
"""Nesting depth of lists and objects; the JSON parser of Airflow's API server (pydantic) accepts fewer than 200."""
INTEGERS = range(-(2**63), 2**64)
"""The integers of msgpack, in which a task talks to its supervisor (``airflow/sdk/execution_time/comms.py``)."""
RESERVED_KEYS = frozenset(
    (
        "__classname__",
        "__version__",
        "__data__",
        "__id__",
        "__cache__",
        "__type",
        "__source",
        "__var",
    )
)
"""Keys that mark a serialized object: on reading, Airflow imports the class that they name
(``airflow/sdk/serde/__init__.py``; the list is ``FORBIDDEN_XCOM_KEYS`` of ``airflow/sdk/_shared/serialization``)."""
TOO_DEEP = f"lists or objects nested more than {MAX_DEPTH} deep"
TOO_LONG_INTEGER = "an integer of more than 64 bits"

_REPLACEMENT = "\ufffd"
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(
    value: ValueT,
    redact: Callable[[str], str] = str,
    *,
    redact_keys: bool = True,
    on_replace: Callable[[str], object] = str,
) -> ValueT:
    """Return a JSON value in a form that Airflow can store and read back; objects, lists and strings keep their type.

    All untrusted data that Airflow stores passes through here. In strings, U+FFFD replaces NUL (which PostgreSQL's
    ``jsonb`` rejects) and lone surrogates (which UTF-8 cannot encode). A string replaces what else cannot be stored:
    numbers that are not finite or exceed 64 bits, values nested too deeply, values that are not JSON. U+FFFD replaces
    the first character of a reserved key.

    :param value: a JSON value; tuples are treated as lists.
    :param redact: redacts secrets in a string.
    :param redact_keys: whether it redacts keys as well; two of them could become one.
    :param on_replace: called with a description of each value before it is replaced; it may raise an error instead.
    """
    sanitized: ValueT = _storable(value, redact, redact if redact_keys else str, on_replace, 0)
    return sanitized


def _storable(
    value: Any,
    redact: Callable[[str], str],
    redact_key: Callable[[str], str],
    on_replace: Callable[[str], object],
    depth: int,
) -> Any:
    if value is None or isinstance(value, bool):
        return value
    # Not an object of a subclass: ``str()`` of an enumeration has the name of its class.
    if isinstance(value, str):
        return _UNSTORABLE.sub(_REPLACEMENT, redact(str.__str__(value)))
    if isinstance(value, float):
        # NaN and Infinity are not JSON (RFC 8259, section 6); PostgreSQL rejects them.
        if math.isfinite(value):
            return float.__float__(value)
        on_replace("a number that is not finite")
        return str(value)
    if isinstance(value, int):
        # Of a subclass, a range compares every number that it has (``range_contains`` in ``Objects/rangeobject.c`` of
        # CPython).
        number = int.__index__(value)
        if number in INTEGERS:
            return number
        on_replace(TOO_LONG_INTEGER)
        # str() would raise: Python limits decimal digits (sys.set_int_max_str_digits).
        return hex(number)
    if not isinstance(value, (dict, list, tuple)):
        on_replace("a value that is not JSON")
        return _storable(str(value), redact, redact_key, on_replace, depth)
    if depth == MAX_DEPTH:
        on_replace(TOO_DEEP)
        return "… [nested too deeply]"
    if not isinstance(value, dict):
        return [_storable(item, redact, redact_key, on_replace, depth + 1) for item in value]
    return {
        _key(name, redact_key, on_replace): _storable(item, redact, redact_key, on_replace, depth + 1)
        for name, item in value.items()
    }


def _key(name: object, redact: Callable[[str], str], on_replace: Callable[[str], object]) -> str:
    key: str = _UNSTORABLE.sub(_REPLACEMENT, redact(str.__str__(name) if isinstance(name, str) else str(name)))
    if key not in RESERVED_KEYS:
        return key
    on_replace(f"the key {key}, which Airflow reserves")
    return _REPLACEMENT + key[1:]
