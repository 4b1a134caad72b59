"""Decode the whole log's body piece by piece, so that no log is ever held whole."""

from __future__ import annotations

import codecs
import json
import re

MAX_LOG_BYTES = 100_000_000_000
"""Of a whole log, which is passed on piece by piece."""

_OPENING = re.compile(r'\s*(?:\{\s*"logs"\s*:\s*)?"')
_MAX_OPENING = 200
_CUT_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?|\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?")
_LONGEST_CUT_ESCAPE = 11


class LogBodyDecoder:
    """Turn the bytes of a whole log, cut anywhere, into text.

    The log is plain text, or, where the content type says JSON, a JSON string (FastAPI's way to return a
    ``str``) or Ray's ``{"logs": "…"}``. JSON of any other kind is a log that happens to look like it.

    :param content_type: of the answer.
    """

    def __init__(self, content_type: str) -> None:
        self._bytes = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._state = "opening" if "json" in content_type.lower() else "plain"

    def feed(self, chunk: bytes) -> str:
        """Return the text that ``chunk`` completes.

        :raises ValueError: if a JSON string has an escape that JSON does not know, or the body doesn't seem to end.
        """
        self._bytes += len(chunk)
        if self._bytes > MAX_LOG_BYTES:
            raise ValueError(f"it has more than {MAX_LOG_BYTES // 1_000_000_000} GB")
        return self._text(self._decoder.decode(chunk), final=False)

    def end(self) -> str:
        """Return what is left at the body's end.

        :raises ValueError: as :meth:`feed`, and if the body broke off within a JSON string.
        """
        text = self._text(self._decoder.decode(b"", final=True), final=True)
        if self._state == "string":
            raise ValueError("the JSON string with the log has no end")
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
                self._state = "plain"
                return text
            self._state, text = "string", text[opening.end() :]
        return self._string(text)

    def _string(self, text: str) -> str:
        end = _string_end(text)
        if end is not None:
            self._state, text = "ended", text[:end]
        else:
            cut = _cut_at(text)
            text, self._held = text[:cut], text[cut:]
        return str(json.loads(f'"{text}"', strict=False))


def _string_end(text: str) -> int | None:
    """Return where the first quote stands that no backslash escapes."""
    position = text.find('"')
    while position >= 0:
        if _backslashes_before(text, position) % 2 == 0:
            return position
        position = text.find('"', position + 1)
    return None


def _cut_at(text: str) -> int:
    """Return where an escape (or a pair of surrogates) begins that ``text`` does not complete; else its length."""
    start = text.find("\\", max(len(text) - _LONGEST_CUT_ESCAPE, 0))
    while start >= 0:
        if _backslashes_before(text, start) % 2 == 0 and _CUT_ESCAPE.fullmatch(text, start):
            return start
        start = text.find("\\", start + 1)
    return len(text)


def _backslashes_before(text: str, position: int) -> int:
    """Return how many there are in a row; a copy of the text before would make a text of quotes quadratic."""
    start = position
    while start > 0 and text[start - 1] == "\\":
        start -= 1
    return position - start
