"""Find the result that a job prints between two markers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.render.printed_json import InvalidOutputError, parse_printed
from airflow_provider_rayagent.tail.lines import strip_marks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_RESULT = 64_000
"""Characters; a result is stored in Airflow's database."""


class InvalidResultError(InvalidOutputError):
    """The job's output between the markers is not a usable result; the message says why."""


class NoResultError(InvalidResultError):
    """The job printed no start marker."""


class ResultFinder:
    """Extract the text between two markers from a job's lines; the last complete result counts.

    The pieces of a long line are joined again, so a result or a marker may span several of them.

    :param markers: start and end marker, in the same line or in different lines.
    :param state: from :meth:`state` of an earlier finder, to continue where it stopped.
    :param redact: redacts secrets in the strings of the result.
    """

    def __init__(
        self,
        markers: tuple[str, str],
        state: Mapping[str, Any] | None = None,
        redact: Callable[[str], str] = str,
    ) -> None:
        self._start, self._end = markers
        self._redact = redact
        saved = state or {}
        self._inside: str | None = saved.get("inside")
        self._found: str | None = saved.get("found")
        self._held: str = saved.get("held", "")
        self._is_altered: bool = saved.get("altered", False)
        """Whether a secret was redacted in the beginning of a result, which may have been a number or a key."""

    def feed(self, line: str) -> bool:
        """Search the next line, or the next piece of a long one. Return whether it completes a result."""
        is_complete = False
        text, ends = strip_marks(line)
        text = f"{self._held}{text}\n" if ends else self._held + text
        while True:
            marker = self._start if self._inside is None else self._end
            before, found, text = text.partition(marker)
            if not found:
                break
            if self._inside is None:
                self._inside, self._is_altered = "", False
            else:
                self._collect(before)
                self._found, self._inside = self._inside, None
                is_complete = True
        # Two pieces may split the marker.
        held = 0 if ends else _overlap(before, marker)
        self._held = before[len(before) - held :]
        self._collect(before[: len(before) - held])
        return is_complete

    def _collect(self, text: str) -> None:
        if self._inside is not None:
            # One character too many shows that the result is too long; more need not be kept.
            self._inside += text[: max(MAX_RESULT + 1 - len(self._inside), 0)]

    def state(self) -> dict[str, Any]:
        """Return the state from which another finder can continue, as JSON primitives without secrets."""
        inside = None if self._inside is None else self._redact(self._inside)
        found = self._found
        # Parsed only if there is a secret, since a state is made after each batch of lines.
        if found is not None and self._redact(found) != found:
            try:
                # As short as it was, since its length has a limit.
                found = json.dumps(self.value(), ensure_ascii=False, separators=(",", ":"))
            except InvalidResultError:
                found = self._redact(found)
        state = {"inside": inside, "found": found, "held": self._held}
        return {**state, "altered": True} if self._is_altered or inside != self._inside else state

    def value(self) -> Any:
        """Return the result in a form that Airflow can store.

        :raises NoResultError: if there is none.
        :raises InvalidResultError: if it is incomplete, too long, not JSON, or Airflow cannot store it.
        """
        if self._found is None:
            if self._inside is None:
                raise NoResultError("the job printed no result")
            raise InvalidResultError(f"the job printed no {self._end}")
        if self._is_altered and self._inside is None:
            raise InvalidResultError("a secret was redacted in the first part of it, which was saved before the rest")
        if len(self._found) > MAX_RESULT:
            raise InvalidResultError(f"it has more than {MAX_RESULT:,} characters")
        try:
            return parse_printed(self._found, self._redact)
        except InvalidOutputError as error:
            raise InvalidResultError(str(error)) from None


def _overlap(text: str, marker: str) -> int:
    """Return the length of the longest prefix of ``marker`` that ``text`` ends with."""
    longest = min(len(marker) - 1, len(text))
    return next((length for length in range(longest, 0, -1) if text.endswith(marker[:length])), 0)
