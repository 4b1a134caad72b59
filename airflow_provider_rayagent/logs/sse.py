"""Server-sent events, as the WHATWG HTML standard defines their parsing (section 9.2.6)."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\n|\r")
_BOM = "\ufeff"


@dataclass(frozen=True)
class ServerSentEvent:
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
        self._data: list[str] = []
        self._name = ""
        self._at_start = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Return the events that ``chunk`` completes."""
        text = self._decoder.decode(chunk)
        if not text:
            return []
        if self._at_start:
            self._at_start = False
            text = text.removeprefix(_BOM)
        if self._after_cr:
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r") if text else False
        lines = _LINE_END.split(text)
        if len(lines) == 1:
            self._partial.append(lines[0])
            return []
        lines[0] = "".join((*self._partial, lines[0]))
        rest = lines.pop()
        self._partial = [rest] if rest else []
        events = []
        for line in lines:
            event = self._line(line)
            if event is not None:
                events.append(event)
        return events

    def _line(self, line: str) -> ServerSentEvent | None:
        if not line:
            data, name, self._data, self._name = self._data, self._name, [], ""
            return ServerSentEvent("\n".join(data), name) if data else None
        field, _, value = line.partition(":")
        if field == "data":
            self._data.append(value.removeprefix(" "))
        elif field == "event":
            self._name = value.removeprefix(" ")
        return None
