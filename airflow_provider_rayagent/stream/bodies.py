"""Decode the body of the whole log incrementally, so that a log is never held in memory as a whole."""

from __future__ import annotations

import codecs
import json
import re

MAX_LOG_BYTES = 100_000_000_000
"""Maximum size of a whole log, which is passed on in chunks."""

_OPENING = re.compile(r'\s*(?:\{\s*"logs"\s*:\s*)?"')
# From this length on, a body that does not match is no log; a shorter one may still be incomplete.
_MAX_OPENING = 200
# Also the first half of a surrogate pair: JSON escapes a character above U+FFFF as two (RFC 8259, section 7), and
# json.loads() joins them only within one string.
_PARTIAL_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?|\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?")
# Six characters of the first escape of a pair, and all but one of the second.
_MAX_PARTIAL_ESCAPE = 11


class LogBodyDecoder:
    """Incrementally decode the bytes of a whole log; chunks may end anywhere.

    The log is plain text. If the content type is JSON, it may also be a JSON string (what FastAPI makes of a returned
    ``str``) or Ray's ``{"logs": "…"}``. Anything else is no log, but the answer of another server.

    :param content_type: the ``Content-Type`` of the response.
    """

    def __init__(self, content_type: str) -> None:
        self._bytes = 0
        # A job may print any bytes, and an invalid one must not end the reading.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._state = "opening" if "json" in content_type.lower() else "plain"

    def feed(self, chunk: bytes) -> str:
        """Return the text that ``chunk`` completes.

        :raises ValueError: if a JSON string contains an invalid escape, or the body has another form or exceeds
            :data:`MAX_LOG_BYTES`. The message has no text of the body.
        """
        self._bytes += len(chunk)
        if self._bytes > MAX_LOG_BYTES:
            raise ValueError(f"it has more than {MAX_LOG_BYTES // 1_000_000_000} GB")
        return self._text(self._decoder.decode(chunk), final=False)

    def end(self) -> str:
        """Return the remaining text at the end of the body.

        :raises ValueError: see :meth:`feed`; also if the body ends inside a JSON string.
        """
        text = self._text(self._decoder.decode(b"", final=True), final=True)
        if self._state == "string":
            raise ValueError("the JSON string that contains the log is not terminated")
        return text

    def _text(self, text: str, *, final: bool) -> str:
        if self._state == "plain":
            return text
        if self._state == "ended":
            return ""
        text, self._held = self._held + text, ""
        if self._state == "opening":
            opening = _OPENING.match(text)
            if opening is None:
                if len(text) < _MAX_OPENING and not final:
                    self._held = text
                    return ""
                if not text.strip():
                    return ""
                raise ValueError("its content type is JSON, but it is neither a JSON string nor an object with logs")
            self._state, text = "string", text[opening.end() :]
        return self._string(text)

    def _string(self, text: str) -> str:
        end = _string_end(text)
        if end is not None:
            self._state, text = "ended", text[:end]
        else:
            split = _partial_escape_start(text)
            text, self._held = text[:split], text[split:]
        # ``strict=False`` accepts control characters that the service did not escape.
        return str(json.loads(f'"{text}"', strict=False))


def _string_end(text: str) -> int | None:
    """Return the index of the first unescaped quote, or ``None``."""
    position = text.find('"')
    while position >= 0:
        if _backslashes_before(text, position) % 2 == 0:
            return position
        position = text.find('"', position + 1)
    return None


def _partial_escape_start(text: str) -> int:
    """Return the index of an incomplete escape (or surrogate pair) at the end of ``text``, or its length."""
    start = text.find("\\", max(len(text) - _MAX_PARTIAL_ESCAPE, 0))
    while start >= 0:
        if _backslashes_before(text, start) % 2 == 0 and _PARTIAL_ESCAPE.fullmatch(text, start):
            return start
        start = text.find("\\", start + 1)
    return len(text)


def _backslashes_before(text: str, position: int) -> int:
    """Return the number of consecutive backslashes before ``position``."""
    # Slicing the text instead would be quadratic for a text of many quotes.
    start = position
    while start > 0 and text[start - 1] == "\\":
        start -= 1
    return position - start
