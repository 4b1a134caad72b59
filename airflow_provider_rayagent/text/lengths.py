"""Lengths of text in the task log. Pure."""

from __future__ import annotations

MAX_LINE_LENGTH = 16_000
"""Characters of a line in one record by default, and at most in a triggerer, whose event loop a record of one megabyte
would block for a second."""


def utf8_length(text: str) -> int:
    """Return the bytes of a text in UTF-8; a lone surrogate counts as one, since it is replaced by ``?``."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
