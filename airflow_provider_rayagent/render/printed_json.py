"""JSON that a job has printed for Airflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_rayagent.text.storable import TOO_DEEP, TOO_LONG_INTEGER, storable

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.text.redaction import Redactor


ALTERED = "a secret was redacted in the first part of it, which was saved before the rest"
"""Why what was read in two parts is not usable: see :func:`partial_state`."""


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


def partial_state(name: str, text: str | None, redact: Redactor, *, altered: bool) -> dict[str, Any]:
    """Return the state of a text that is not complete, without secrets; ``{name}_altered`` if it had one.

    What was redacted may have been a key, a number or a part of a word: whoever gets the rest must not use the whole.

    :param text: ``None``: there is none.
    :param altered: whether an earlier state had a secret.
    """
    if text is None:
        return {name: None}
    saved = redact.redact_partial(text)
    return {name: saved, f"{name}_altered": True} if altered or saved != text else {name: saved}


def _reject(why: str) -> NoReturn:
    raise InvalidOutputError(f"it contains {why}")
