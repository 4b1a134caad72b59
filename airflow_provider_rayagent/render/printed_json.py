"""JSON that a job has printed for Airflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_rayagent.text.storable import TOO_DEEP, TOO_LONG_INTEGER, storable

if TYPE_CHECKING:
    from collections.abc import Callable


class InvalidOutputError(Exception):
    """What the job has printed is not usable; the message says why."""


def parse_printed(text: str, redact: Callable[[str], str] = str) -> Any:
    """Return a value in a form that Airflow can store.

    :param text: JSON.
    :param redact: redacts secrets in its strings, but not in keys.
    :raises InvalidOutputError: if it is not JSON, or Airflow cannot store it.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidOutputError(f"it is not JSON ({error})") from None
    except RecursionError:
        _reject(TOO_DEEP)
    except ValueError:
        # An integer with more digits than Python converts (sys.set_int_max_str_digits).
        _reject(TOO_LONG_INTEGER)
    return storable(value, redact, redact_keys=False, on_replace=_reject)


def _reject(why: str) -> NoReturn:
    raise InvalidOutputError(f"it contains {why}")
