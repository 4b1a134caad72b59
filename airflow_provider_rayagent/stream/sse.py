"""Decode server-sent events, as defined by the WHATWG HTML standard (section 9.2.6)."""

from __future__ import annotations

import codecs
import re

import msgspec

from airflow_provider_rayagent.stream.events import MAX_MESSAGE_BYTES, TOO_LONG

_LINE_OVERHEAD = 64
"""Bytes of memory that a line of an event takes in addition to its characters."""
_LINE_END = re.compile(r"\r\n|\n|\r")
_BOM = "\ufeff"


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One dispatched event.

    :param data: the ``data`` lines, joined by newlines.
    :param name: the ``event`` field; empty if there is none.
    """

    data: str
    name: str = ""


class SseDecoder:
    """Incrementally decode the bytes of an event stream into events; chunks may end anywhere.

    As the standard requires, the bytes are decoded as UTF-8 regardless of the response's charset, an invalid byte
    becomes U+FFFD, and an incomplete event at the end of the stream is not dispatched. ``id`` and ``retry`` are
    ignored, since no endpoint of the agent accepts a position.

    :param max_bytes: maximum size of a line, and of all lines of an event after the first; exceeding it ends the
        stream.
    """

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial: list[str] = []
        self._partial_length = 0
        self._data: str | None = None
        self._more: list[str] = []
        self._more_length = 0
        self._name = ""
        self._at_start = True
        self._after_cr = False
        self.ended: str | None = None
        """Why the stream has ended; ``None`` while it is open."""

    @property
    def too_long(self) -> bool:
        """Whether the stream ended because an event or a line is too long."""
        return self.ended is TOO_LONG

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Return the events that ``chunk`` completes."""
        events: list[ServerSentEvent] = []
        data = self._data
        for line in self._lines(self._decoder.decode(chunk)) if self.ended is None else ():
            if line[:6] == "data: ":
                value: str | None = line[6:]
            elif line:
                value = self._field(line)
            else:
                if data is not None:
                    events.append(ServerSentEvent(self._join(data) if self._more else data, self._name))
                    data = None
                self._name = ""
                continue
            if data is None:
                data = value
            elif value is not None and not self._add(value):
                break
        self._data = data
        return events

    def _add(self, value: str) -> bool:
        """Add a line to the event. Return whether the event is within the size limit."""
        self._more.append(value)
        self._more_length += len(value) + _LINE_OVERHEAD
        if self._more_length <= self._max_bytes:
            return True
        self.ended = TOO_LONG
        return False

    def _join(self, data: str) -> str:
        """Return the data of an event of several lines."""
        data = "\n".join((data, *self._more))
        self._more.clear()
        self._more_length = 0
        return data

    def _lines(self, text: str) -> list[str]:
        """Return the lines that ``text`` completes; none from the first one on that is too long."""
        if not text:
            return []
        if self._at_start:
            self._at_start = False
            text = text.removeprefix(_BOM)
        # The last chunk ended between the two characters of a line end.
        if self._after_cr:
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r")
        # Not splitlines(), which also splits at U+2028 and other characters of the data.
        lines = _LINE_END.split(text) if "\r" in text else text.split("\n")
        might_be_too_long = self._partial_length + len(text) > self._max_bytes
        if len(lines) > 1:
            lines[0] = "".join((*self._partial, lines[0]))
            self._partial.clear()
            self._partial_length = 0
        rest = lines.pop()
        if rest:
            self._partial.append(rest)
            self._partial_length += len(rest)
        if might_be_too_long:
            for number, line in enumerate(lines):
                if len(line) > self._max_bytes:
                    self.ended = TOO_LONG
                    return lines[:number]
            if self._partial_length > self._max_bytes:
                self.ended = TOO_LONG
        return lines

    def _field(self, line: str) -> str | None:
        """Process a field. Return its value if it is a ``data`` field."""
        field, _, value = line.partition(":")
        if field == "data":
            return value
        if field == "event":
            self._name = value.removeprefix(" ")
        # Also for other fields, and for comments such as ``: ping``, whose name is empty.
        return None
