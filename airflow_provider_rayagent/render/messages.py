"""Find the messages for Airflow that a job prints. Pure.

A message is a line of its own, ``__RAYAGENT_MESSAGE__ {"kind": "xcom", "data": {"loss": 0.1}}``. Within a line it is
text like any other, such as a name that somebody has entered and the program logs.

A message states what holds from now on: the last value of a name counts. So it makes no difference if a message is read
again, as after a triggerer was killed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_rayagent.connection.page_urls import has_plain_host, is_web_page
from airflow_provider_rayagent.render.prefixes import own_text
from airflow_provider_rayagent.render.printed_json import (
    ALTERED,
    InvalidOutputError,
    parse_printed,
    partial_state,
)
from airflow_provider_rayagent.tail.lines import Piece
from airflow_provider_rayagent.text.redaction import NO_SECRETS
from airflow_provider_rayagent.text.storable import ValueT, storable
from airflow_provider_rayagent.text.xcom_keys import MAX_KEY, key_problem_of_job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeGuard

    from airflow_provider_rayagent.text.redaction import Redactor

MARKER = "__RAYAGENT_MESSAGE__ "
MAX_MESSAGE = 16_000
"""Characters of one message."""
MAX_PREFIX = 2_000
"""Characters of what may stand before a message in its line."""
MAX_TOTAL = 32_000
"""Characters of all that the messages of a job state, as JSON: it is stored with each position in the log."""
MAX_NAMES = 100
"""Number of XComs, of assets and of links."""
MAX_NAME = MAX_KEY
"""Characters of the name of an asset or a link."""
MAX_URL = 2_000
MAX_PROGRESS_TEXT = 200


class Message(NamedTuple):
    """A message that a line contains.

    :param kind: ``xcom``, ``asset``, ``progress``, ``link`` or ``result``; empty if the message is invalid.
    :param problem: why it is invalid.
    """

    kind: str
    problem: str = ""


@dataclass(frozen=True)
class JobProgress:
    """How far a job is.

    :param done: at least 0.
    :param total: more than 0; ``None``: unknown.
    :param text: what else the job says, perhaps empty.
    """

    done: float
    total: float | None = None
    text: str = ""

    @property
    def fraction(self) -> float | None:
        """A number from 0 to 1; ``None``: unknown."""
        return None if self.total is None else min(self.done / self.total, 1.0)

    def __str__(self) -> str:
        counted = f"{self.done:,.10g}"
        if self.total is not None:
            counted = f"{int(100 * (self.fraction or 0))}% ({counted} of {self.total:,.10g})"
        return f"{counted}: {self.text}" if self.text else counted


class MessageFinder:
    """Collect what the messages among a job's lines state.

    :param state: from :meth:`state` of an earlier finder, to continue where it stopped.
    :param redact: redacts secrets in progress, which is shown, and in the state of a message that is not complete.
    :param credentials: the secrets that are redacted in other values.
    """

    def __init__(
        self,
        state: Mapping[str, Any] | None = None,
        redact: Redactor = NO_SECRETS,
        credentials: Redactor = NO_SECRETS,
    ) -> None:
        saved = state or {}
        self._redact = redact
        self._credentials = credentials
        self.xcoms: dict[str, Any] = dict(saved.get("xcoms", {}))
        """XComs by key."""
        self.links: dict[str, str] = dict(saved.get("links", {}))
        """URLs by the name of the link."""
        self.progress: JobProgress | None = JobProgress(*saved["progress"]) if saved.get("progress") else None
        """The last progress that the job has reported."""
        self._extras: dict[str, dict[str, Any]] = _copies(saved.get("extras", {}))
        self._held: str | None = saved.get("held")
        self._held_altered: bool = saved.get("held_altered", False)
        self._total = sum(map(_size, (self.xcoms, self.links, self._extras)))

    def feed(self, line: str) -> Message | None:
        """Search the next line, or the next piece of a long one; return the message that it completes."""
        if isinstance(line, Piece):
            return self._feed_piece(line)
        return self._read(line) if MARKER in line else None

    def extra_of(self, *names: str) -> dict[str, Any]:
        """Return what the messages add to the extra of an asset's event.

        :param names: name and URI of the asset.
        """
        found: dict[str, Any] = {}
        for name in ("", *names):
            found |= self._extras.get(name, {})
        return found

    def state(self) -> dict[str, Any]:
        """Return the state from which another finder can continue, as JSON primitives."""
        progress = self.progress
        return {
            "xcoms": dict(self.xcoms),
            "extras": _copies(self._extras),
            "links": dict(self.links),
            "progress": None if progress is None else [progress.done, progress.total, progress.text],
            **partial_state("held", self._held, self._redact, altered=self._held_altered),
        }

    def _feed_piece(self, piece: Piece) -> Message | None:
        if not piece.continued:
            self._held, self._held_altered = "", False
        if self._held is None:
            return None
        # More than that is no message, or one that is too long.
        self._held += piece.text[: MAX_PREFIX + MAX_MESSAGE - len(self._held)]
        if MARKER not in self._held and len(self._held) > MAX_PREFIX:
            self._held = None
        if self._held is None or piece.continues:
            return None
        text, self._held = self._held, None
        return self._read(text, is_altered=self._held_altered)

    def _read(self, line: str, *, is_altered: bool = False) -> Message | None:
        text = _message_in(line)
        if text is None:
            return None
        if is_altered:
            return Message("", ALTERED)
        try:
            return Message(self._accept(text))
        except InvalidOutputError as error:
            return Message("", str(error))

    def _accept(self, text: str) -> str:
        """Take over what a message states; return its kind.

        :raises InvalidOutputError: if it is invalid; then it has no effect.
        """
        if len(text) > MAX_MESSAGE:
            raise InvalidOutputError(f"it has more than {MAX_MESSAGE:,} characters")
        message = parse_printed(text)
        kind, data = (message.get("kind"), message.get("data")) if isinstance(message, dict) else (None, None)
        if not isinstance(data, dict):
            raise InvalidOutputError('it must be {"kind": …, "data": {…}}')
        match kind:
            case "xcom":
                if problem := next(filter(None, map(key_problem_of_job, data)), ""):
                    raise InvalidOutputError(problem)
                self._update(self.xcoms, self._without_secrets(data))
            case "asset":
                asset, extra = data.get("asset"), data.get("extra")
                if not isinstance(extra, dict):
                    raise InvalidOutputError('the data of an asset must be {"extra": {…}}')
                name = "" if asset is None else _name(asset, "The asset, its name or URI,")
                extra = self._without_secrets(extra)
                # In place: with each message, a copy of all that is known of an asset, or its size, would cost more.
                if known := self._extras.get(name):
                    self._merge(known, extra)
                else:
                    self._update(self._extras, {name: extra})
            case "progress":
                self.progress = _progress(data, self._redact)
            case "link":
                self._update(
                    self.links,
                    self._without_secrets({_name(data.get("name"), "The name of a link"): _url(data.get("url"))}),
                )
            case _:
                raise InvalidOutputError("its kind must be xcom, asset, progress or link")
        return str(kind)

    def _without_secrets(self, data: ValueT) -> ValueT:
        return storable(data, self._credentials.redact_words, redact_keys=False)

    def _update(self, table: dict[str, Any], values: Mapping[str, Any]) -> None:
        if len(table) + sum(name not in table for name in values) > MAX_NAMES:
            raise InvalidOutputError(f"there are {MAX_NAMES} of its kind already")
        self._merge(table, values)

    def _merge(self, table: dict[str, Any], values: Mapping[str, Any]) -> None:
        # Of what changes only, since a job may print messages without end.
        grown = _size(values) - _size({name: table[name] for name in values if name in table})
        if self._total + grown > MAX_TOTAL:
            raise InvalidOutputError(f"all messages together state more than {MAX_TOTAL:,} characters")
        self._total += grown
        table.update(values)


def _size(values: Mapping[str, Any]) -> int:
    """Return the characters of values as a part of a JSON object.

    The sizes of the parts of an object add up to its size, unless it is empty: a separator has as many characters as
    the braces.
    """
    return len(json.dumps(values)) if values else 0


def _copies(extras: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: dict(extra) for name, extra in extras.items()}


def _message_in(text: str) -> str | None:
    """Return the JSON of the message that a line begins with, ``None`` if it is no message."""
    own = own_text(text)
    return own.removeprefix(MARKER) if own.startswith(MARKER) else None


def _progress(data: Mapping[str, Any], redact: Callable[[str], str]) -> JobProgress:
    done, total, text = data.get("done"), data.get("total"), data.get("text", "")
    if not isinstance(text, str):
        raise InvalidOutputError("text must be a string")
    if not _is_number(done) or not (total is None or (_is_number(total) and total)):
        raise InvalidOutputError("done must be a number from 0 on, and total, if there is one, greater than 0")
    return JobProgress(float(done), None if total is None else float(total), redact(text)[:MAX_PROGRESS_TEXT])


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _name(value: object, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise InvalidOutputError(f"{what} must be a text of 1 to {MAX_NAME} printable characters")
    return value


def _url(value: object) -> str:
    if isinstance(value, str) and len(value) <= MAX_URL and is_web_page(value) and has_plain_host(value):
        return value
    raise InvalidOutputError(f"url must be an http or https URL without a password, of up to {MAX_URL:,} characters")
