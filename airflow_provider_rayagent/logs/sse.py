"""Server-sent events, as the WHATWG HTML standard defines their parsing (section 9.2.6)."""

from __future__ import annotations

import codecs
import re

import msgspec

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
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial: list[str] = []
        self._data: str | None = None
        self._name = ""
        self._at_start = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Return the events that ``chunk`` completes."""
        events = []
        data = self._data
        for line in self._lines(self._decoder.decode(chunk)):
            if line[:6] == "data: ":
                value: str | None = line[6:]
            elif line:
                value = self._field(line)
            else:
                if data is not None:
                    events.append(ServerSentEvent(data, self._name))
                    data = None
                self._name = ""
                continue
            if data is None:
                data = value
            elif value is not None:
                data += "\n" + value
        self._data = data
        return events

    def _lines(self, text: str) -> list[str]:
        """Return the lines that ``text`` completes."""
        if not text:
            return []
        if self._at_start:
            self._at_start = False
            text = text.removeprefix(_BOM)
        if self._after_cr:
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r")
        lines = _LINE_END.split(text) if "\r" in text else text.split("\n")
        if len(lines) == 1:
            self._partial.append(lines[0])
            return []
        lines[0] = "".join((*self._partial, lines[0]))
        rest = lines.pop()
        self._partial = [rest] if rest else []
        return lines

    def _field(self, line: str) -> str | None:
        """Take a field that is not the usual one; return the data that it holds, if it does."""
        field, _, value = line.partition(":")
        if field == "data":
            return value
        if field == "event":
            self._name = value.removeprefix(" ")
        return None
