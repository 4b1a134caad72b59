"""The result that a job printed between two markers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_rayagent.tail.lines import unmarked
from airflow_provider_rayagent.text.storable import TOO_DEEP, TOO_LONG_INTEGER, storable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_RESULT = 64_000
"""Characters; a result goes to Airflow's database."""


class BadResultError(Exception):
    """What stands between the markers can't be used; says why."""


class ResultFinder:
    """Take the text between two markers out of a job's lines; the last complete one counts.

    Pieces of a long line are put together again, so that neither a result nor a marker is broken by their marks.

    :param markers: where it begins and where it ends; both may stand in one line or in several.
    :param state: what :meth:`state` gave a finder that is taken over from.
    """

    def __init__(self, markers: tuple[str, str], state: Mapping[str, Any] | None = None) -> None:
        self._start, self._end = markers
        saved = state or {}
        self._inside: str | None = saved.get("inside")
        self._found: str | None = saved.get("found")
        self._held: str = saved.get("held", "")

    def feed(self, line: str) -> None:
        """Look at the next line, or the next piece of one."""
        text, ends = unmarked(line)
        text = f"{self._held}{text}\n" if ends else self._held + text
        while True:
            marker = self._start if self._inside is None else self._end
            before, found, text = text.partition(marker)
            if not found:
                break
            if self._inside is None:
                self._inside = ""
            else:
                self._collect(before)
                self._found, self._inside = self._inside, None
        # The marker may be in two pieces.
        held = 0 if ends else _common(before, marker)
        self._held = before[len(before) - held :]
        self._collect(before[: len(before) - held])

    def _collect(self, text: str) -> None:
        if self._inside is not None:
            self._inside += text[: max(MAX_RESULT + 1 - len(self._inside), 0)]

    def state(self) -> dict[str, Any]:
        """Return JSON primitives for another finder to go on from."""
        return {"inside": self._inside, "found": self._found, "held": self._held}

    def value(self, redact: Callable[[str], str] = str) -> Any:
        """Return the result, as Airflow can store it.

        :param redact: takes secrets out of its texts.
        :raises BadResultError: if there is none, it is too long, it is not JSON, or Airflow cannot store it.
        """
        if self._found is None:
            missing = "it printed no result" if self._inside is None else f"it printed no {self._end}"
            raise BadResultError(missing)
        if len(self._found) > MAX_RESULT:
            raise BadResultError(f"it has more than {MAX_RESULT:,} characters")
        try:
            value = json.loads(self._found)
        except json.JSONDecodeError as error:
            raise BadResultError(f"it is not JSON ({error})") from None
        except RecursionError:
            _refuse(TOO_DEEP)
        except ValueError:
            # Of more digits than Python reads (sys.set_int_max_str_digits).
            _refuse(TOO_LONG_INTEGER)
        return storable(value, redact, refuse=_refuse)


def _common(text: str, marker: str) -> int:
    """Return how many of a marker's first characters a text ends with."""
    longest = min(len(marker) - 1, len(text))
    return next((length for length in range(longest, 0, -1) if text.endswith(marker[:length])), 0)


def _refuse(why: str) -> NoReturn:
    raise BadResultError(f"it has {why}")
