"""Bounds that several parts share. Imports nothing: every ``airflow`` command loads it."""

from __future__ import annotations

MAX_LINE_LENGTH = 16_000
"""Characters of a line in one record by default, and at most in a triggerer, whose event loop a record of one megabyte
would block for a second."""
MAX_TIMEOUT = 300.0
"""Longest timeout of a request, in seconds; the agent's client accepts no longer one for a stream."""


def utf8_length(text: str) -> int:
    """Return the bytes of a text in UTF-8; a lone surrogate counts as one, since it is replaced by ``?``."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
