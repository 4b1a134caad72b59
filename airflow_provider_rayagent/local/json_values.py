"""JSON values that Python accepts but other parsers reject: NaN, infinity, and lone surrogates, invalid in UTF-8."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# A surrogate can only come from an escape, since the text was decoded from UTF-8. A valid pair matches too.
_MAYBE_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
REPLACEMENT = "\ufffd"


def read_tolerantly(text: str) -> Any:
    """Parse JSON, and replace invalid values, so that an invalid value of one job does not break a list of jobs.

    Numbers that JSON does not support become ``None``, lone surrogates become U+FFFD.

    :raises ValueError: if it is not JSON.
    :raises RecursionError: if it is nested too deeply.
    """
    # `1e999` is valid JSON that `float` makes infinite; Starlette's JSONResponse then fails (`allow_nan=False`).
    value = json.loads(text, parse_constant=lambda _: None, parse_float=_finite_or_none)
    return _replace_lone_surrogates(value) if _MAYBE_LONE_SURROGATE.search(text) else value


def describe_problem(content: bytes) -> str | None:
    """Describe what makes JSON unusable apart from its syntax; ``None`` if it is usable, or not JSON at all."""
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_reject, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    # All but RecursionError are subclasses of ValueError, so that comes last. FastAPI reports a syntax error itself.
    except json.JSONDecodeError:
        return None
    except UnicodeDecodeError:
        return "is not UTF-8"
    except UnicodeEncodeError:
        return "contains a lone surrogate, which is not a character"
    except RecursionError:
        return "is nested too deeply"
    except ValueError as error:
        return f"contains an invalid number: {error}"
    return None


def _finite_or_none(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _reject(text)


def _reject(text: str) -> float:
    raise ValueError(text[:40])


def _replace_lone_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE_SURROGATE.sub(REPLACEMENT, value)
    if isinstance(value, list):
        return [_replace_lone_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {_replace_lone_surrogates(key): _replace_lone_surrogates(each) for key, each in value.items()}
    return value
