"""Find the result that a job prints between two markers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_rayagent.render.prefixes import own_text
from airflow_provider_rayagent.render.printed_json import (
    ALTERED,
    InvalidOutputError,
    parse_printed,
    partial_state,
)
from airflow_provider_rayagent.tail.lines import Piece, strip_marks
from airflow_provider_rayagent.text.redaction import NO_SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_rayagent.text.redaction import Redactor

Markers: TypeAlias = tuple[str, str]
"""Start and end marker of a result."""
RESULT_MARKERS: tuple[Markers, ...] = (
    ("__RAYAGENT_RESULT_START__", "__RAYAGENT_RESULT_END__"),
    # Those of an agent's plugin runner.
    ("__SYNAPSE_RESULT_START__", "__SYNAPSE_RESULT_END__"),
)
MAX_RESULT = 64_000
"""Characters; a result is stored in Airflow's database."""

_STRING = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?')
"""A string of a JSON text, and the colon after a key."""


class InvalidResultError(InvalidOutputError):
    """The job's output between the markers is not a usable result; the message says why."""


class NoResultError(InvalidResultError):
    """The job printed no start marker."""


class ResultFinder:
    """Extract the text between two markers from a job's lines; the last complete result counts.

    The pieces of a long line are joined again, so a result or a marker may span several of them.

    :param markers: pairs of a start and an end marker, in the same line or in different lines.
    :param state: from :meth:`state` of an earlier finder, to continue where it stopped.
    :param redact: redacts secrets in the state of a result that is not complete.
    :param credentials: the secrets that are redacted in the strings of the result.
    """

    def __init__(
        self,
        markers: Sequence[Markers],
        state: Mapping[str, Any] | None = None,
        redact: Redactor = NO_SECRETS,
        credentials: Redactor = NO_SECRETS,
    ) -> None:
        self._ends = dict(markers)
        """The end markers by their start markers."""
        self._redact = redact
        self._credentials = credentials
        saved = state or {}
        self._inside: str | None = saved.get("inside")
        self._awaited: tuple[str, ...] = tuple(self._ends)
        """The markers of which one comes next."""
        if self._inside is not None:
            # A release before this one knew one pair only.
            self._awaited = (saved.get("awaited") or self._ends[self._awaited[0]],)
        self._found: str | None = saved.get("found")
        self._held: str = saved.get("held", "")
        self._inside_altered: bool = saved.get("inside_altered", False)
        self._found_altered: bool = saved.get("found_altered", False)
        self._masked: tuple[str, tuple[str, ...], str] | None = None
        """The last result, the forms of the secrets, and the result without them."""

    def feed(self, line: str) -> bool:
        """Search the next line, or the next piece of a long one. Return whether it completes a result."""
        is_complete = False
        text, ends = strip_marks(line)
        text = f"{self._held}{text}\n" if ends else self._held + text
        begin = 0
        while (found := self._next_marker(text, begin)) is not None:
            at, marker = found
            if self._inside is None:
                self._inside, self._inside_altered = "", False
                self._awaited = (self._ends[marker],)
            else:
                self._collect(text[begin:at])
                self._found, self._inside = self._inside, None
                self._found_altered = self._inside_altered
                self._awaited = tuple(self._ends)
                is_complete = True
            begin = at + len(marker)
        rest = text[begin:]
        # Two pieces may split a marker.
        held = 0 if ends else max(_overlap(rest, marker) for marker in self._awaited)
        self._held = rest[len(rest) - held :]
        self._collect(rest[: len(rest) - held])
        return is_complete

    def _next_marker(self, text: str, begin: int) -> tuple[int, str] | None:
        found = None
        for marker in self._awaited:
            at = text.find(marker, begin)
            if at >= 0 and (found is None or at < found[0]):
                found = at, marker
        return found

    def _collect(self, text: str) -> None:
        if self._inside is not None:
            # One character too many shows that the result is too long; more need not be kept.
            self._inside += text[: max(MAX_RESULT + 1 - len(self._inside), 0)]

    def is_whole_line(self, line: str) -> bool:
        """Return whether a line, with which a result was completed, is this result alone, and usable."""
        own = "" if isinstance(line, Piece) else own_text(line).strip()
        if not any(own == f"{start}{self._found}{end}" for start, end in self._ends.items()):
            return False
        try:
            self.value()
        except InvalidResultError:
            return False
        return True

    def state(self) -> dict[str, Any]:
        """Return the state from which another finder can continue, as JSON primitives without secrets."""
        state = partial_state("inside", self._inside, self._redact, altered=self._inside_altered)
        state |= {"found": self._found_without_secrets(), "held": self._held}
        if self._inside is not None:
            state["awaited"] = self._awaited[0]
        return {**state, "found_altered": True} if self._found_altered else state

    def value(self) -> Any:
        """Return the result in a form that Airflow can store.

        :raises NoResultError: if there is none.
        :raises InvalidResultError: if it is incomplete, too long, not JSON, or Airflow cannot store it.
        """
        if self._found is None:
            if self._inside is None:
                raise NoResultError("the job printed no result")
            raise InvalidResultError(f"the job printed no {self._awaited[0]}")
        if self._found_altered:
            raise InvalidResultError(ALTERED)
        if len(self._found) > MAX_RESULT:
            raise InvalidResultError(f"it has more than {MAX_RESULT:,} characters")
        try:
            return parse_printed(self._found, self._credentials.redact_words)
        except InvalidOutputError as error:
            raise InvalidResultError(str(error)) from None

    def _found_without_secrets(self) -> str | None:
        found, forms = self._found, self._credentials.forms
        if found is None or not forms:
            return found
        # Once for each result: to parse a long one takes some 10 ms, and a state is made after each batch of lines.
        if self._masked is None or self._masked[0] is not found or self._masked[1] is not forms:
            try:
                self.value()
                masked = _STRING.sub(self._mask_string, found)
            except InvalidResultError:
                masked = self._credentials(found)
            self._masked = (found, forms, masked)
        return self._masked[2]

    def _mask_string(self, literal: re.Match[str]) -> str:
        text, colon = literal.groups()
        value = json.loads(text)
        masked = self._credentials.redact_words(value)
        # What has no secret stays as it was printed.
        return literal[0] if colon or masked == value else json.dumps(masked, ensure_ascii=False)


def _overlap(text: str, marker: str) -> int:
    """Return the length of the longest prefix of ``marker`` that ``text`` ends with."""
    longest = min(len(marker) - 1, len(text))
    return next((length for length in range(longest, 0, -1) if text.endswith(marker[:length])), 0)
