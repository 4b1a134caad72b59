"""Server-sent events, as the WHATWG HTML standard defines their parsing (section 9.2.6)."""

from __future__ import annotations

import codecs
import re

import msgspec

from airflow_provider_rayagent.stream.events import MAX_MESSAGE_BYTES, TOO_LONG

_LINE_BYTES = 64
"""What a line of an event takes in memory, beside its characters."""
_LINE_END = re.compile(r"\r\n|\n|\r")
_BOM = "\ufeff"


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One dispatched event.

    :param data: the ``data`` lines, joined by newlines.
    :param name: the ``event`` field, empty where there was none.
    """

    data: str
    name: str = ""


class SseDecoder:
    """Turn the bytes of an event stream, cut anywhere, into events.

    The bytes are UTF-8 whatever the response says, a bad byte is U+FFFD, and an event that the stream's end
    cuts off is not dispatched: all as the standard has it. ``id`` and ``retry`` are read and not used, since
    no endpoint of the agent takes a position.

    :param max_bytes: of one line, and of an event's further lines together; what is longer ends the stream.
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
        """Why no more is to come; ``None`` while there is."""

    @property
    def too_long(self) -> bool:
        """Whether it ended because an event or a line is too long."""
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
                    events.append(ServerSentEvent(self._joined(data) if self._more else data, self._name))
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
        """Add a further line to the event. Return whether it is short enough."""
        self._more.append(value)
        self._more_length += len(value) + _LINE_BYTES
        if self._more_length <= self._max_bytes:
            return True
        self.ended = TOO_LONG
        return False

    def _joined(self, data: str) -> str:
        """Return the whole data of an event of several lines."""
        data = "\n".join((data, *self._more))
        self._more.clear()
        self._more_length = 0
        return data

    def _lines(self, text: str) -> list[str]:
        """Return the lines that ``text`` completes, up to one that is too long."""
        if not text:
            return []
        if self._at_start:
            self._at_start = False
            text = text.removeprefix(_BOM)
        if self._after_cr:
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r")
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
        """Take a field that is not the usual one; return the data that it holds, if it does."""
        field, _, value = line.partition(":")
        if field == "data":
            return value
        if field == "event":
            self._name = value.removeprefix(" ")
        return None
