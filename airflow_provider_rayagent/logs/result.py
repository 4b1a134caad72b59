"""The result that a job printed between two markers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_RESULT = 64_000
"""Characters; a result goes to Airflow's database."""


class BadResultError(Exception):
    """What stands between the markers can't be used; says why."""


class ResultFinder:
    """Take the text between two markers out of a job's lines; the last complete one counts.

    :param markers: where it begins and where it ends; both may stand in one line or in several.
    :param state: what :meth:`state` gave a finder that is taken over from.
    """

    def __init__(self, markers: tuple[str, str], state: Mapping[str, Any] | None = None) -> None:
        self._start, self._end = markers
        saved = state or {}
        self._inside: str | None = saved.get("inside")
        self._found: str | None = saved.get("found")

    def feed(self, line: str) -> None:
        """Look at the next line."""
        if self._inside is None:
            _, start, line = line.partition(self._start)
            if not start:
                return
            self._inside = ""
        text, end, rest = line.partition(self._end)
        if len(self._inside) <= MAX_RESULT:
            self._inside += text if end else f"{text}\n"
        if end:
            self._found, self._inside = self._inside, None
            self.feed(rest)

    def state(self) -> dict[str, Any]:
        """Return JSON primitives for another finder to go on from."""
        return {"inside": self._inside, "found": self._found}

    def value(self) -> Any:
        """Return the result.

        :raises BadResultError: if there is none, or it is too long or no JSON.
        """
        if self._found is None:
            missing = "it printed no result" if self._inside is None else f"it printed no {self._end}"
            raise BadResultError(missing)
        if len(self._found) > MAX_RESULT:
            raise BadResultError(f"it has more than {MAX_RESULT:,} characters")
        try:
            return json.loads(self._found)
        except (ValueError, RecursionError) as error:
            raise BadResultError(f"it is no JSON ({error})") from None
