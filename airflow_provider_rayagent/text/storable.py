"""Make a value fit for Airflow's database: trigger events, XComs, task state and the extra of asset events. Pure."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

ValueT = TypeVar("ValueT")

MAX_DEPTH = 100
"""Lists and objects within one another; Airflow's API server reads fewer than 200 (pydantic's parser of JSON)."""
INTEGERS = range(-(2**63), 2**64)
"""What msgpack has integers for, in which a task speaks to its supervisor (``airflow/sdk/execution_time/comms.py``)."""
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
"""Keys by which Airflow stores an object: on reading, it imports the class that they name
(``airflow/sdk/serde/__init__.py``; the list is ``FORBIDDEN_XCOM_KEYS`` of ``airflow/sdk/_shared/serialization``)."""
TOO_DEEP = f"more than {MAX_DEPTH} lists or objects within one another"
TOO_LONG_INTEGER = "an integer of more than 64 bits"

_REPLACEMENT = "\ufffd"
_UNFIT = re.compile("[\x00\ud800-\udfff]")


def storable(value: ValueT, redact: Callable[[str], str] = str, *, refuse: Callable[[str], object] = str) -> ValueT:
    """Return a JSON value as Airflow can store and read it, without secrets; an object, list or text stays one.

    Everything that Airflow keeps of a text that is not ours passes this. In texts, NUL (which PostgreSQL's ``jsonb``
    refuses) and halves of surrogate pairs (which UTF-8 has not) become U+FFFD. What else cannot be kept is replaced by
    a text: a number that is not finite or has more than 64 bits, what is nested too deeply, what is not JSON. The first
    character of a reserved key becomes U+FFFD.

    :param value: a JSON value; tuples count as lists.
    :param redact: takes secrets out of a text.
    :param refuse: called with what cannot be kept, in words; it may raise an error, so that nothing is replaced.
    """
    kept: ValueT = _kept(value, redact, refuse, 0)
    return kept


def _kept(value: Any, redact: Callable[[str], str], refuse: Callable[[str], object], depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _UNFIT.sub(_REPLACEMENT, redact(value))
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        refuse("a number that is not finite")
        return str(value)
    if isinstance(value, int):
        if value in INTEGERS:
            return value
        refuse(TOO_LONG_INTEGER)
        # Python writes only so many decimal digits.
        return hex(value)
    if not isinstance(value, (dict, list, tuple)):
        refuse("something that is not JSON")
        return _kept(str(value), redact, refuse, depth)
    if depth == MAX_DEPTH:
        refuse(TOO_DEEP)
        return "… [nested too deeply]"
    if not isinstance(value, dict):
        return [_kept(item, redact, refuse, depth + 1) for item in value]
    return {_key(name, redact, refuse): _kept(item, redact, refuse, depth + 1) for name, item in value.items()}


def _key(name: object, redact: Callable[[str], str], refuse: Callable[[str], object]) -> str:
    key: str = _UNFIT.sub(_REPLACEMENT, redact(str(name)))
    if key not in RESERVED_KEYS:
        return key
    refuse(f"the key {key}, which Airflow reserves")
    return _REPLACEMENT + key[1:]
