"""JSON that Python reads though it is none: NaN, infinity, and halves of surrogate pairs, which UTF-8 cannot carry."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_HALF_PAIR = re.compile("[\ud800-\udfff]")
_MAYBE_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
REPLACEMENT = "\ufffd"


def read_tolerantly(content: bytes) -> Any:
    """Return what JSON says, in values that can be sent on: one odd value of one job must not spoil a list of jobs.

    Numbers that JSON does not know become ``None``, halves of surrogate pairs become U+FFFD.

    :raises ValueError: if it is not JSON.
    :raises RecursionError: if it is nested too deeply.
    """
    text = content.decode("utf-8", "replace")
    value = json.loads(text, parse_constant=lambda _: None, parse_float=_finite_or_none)
    return _without_halves(value) if _MAYBE_HALF_PAIR.search(text) else value


def fault_of(content: bytes) -> str | None:
    """Return in words what makes JSON unusable beyond its syntax, ``None`` if nothing does or if it is not JSON."""
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError:
        return None
    except UnicodeDecodeError:
        return "is not UTF-8"
    except UnicodeEncodeError:
        return "has half of a surrogate pair, which is no character"
    except RecursionError:
        return "is nested too deeply"
    except ValueError as error:
        return f"has a number that cannot be used: {error}"
    return None


def _finite_or_none(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(text: str) -> float:
    raise ValueError(text[:40])


def _without_halves(value: Any) -> Any:
    if isinstance(value, str):
        return _HALF_PAIR.sub(REPLACEMENT, value)
    if isinstance(value, list):
        return [_without_halves(each) for each in value]
    if isinstance(value, dict):
        return {_without_halves(key): _without_halves(each) for key, each in value.items()}
    return value
