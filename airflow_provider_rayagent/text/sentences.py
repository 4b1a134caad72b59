"""Join texts as sentences. Pure."""

from __future__ import annotations


def sentence(text: str) -> str:
    """Return a text with a period at its end, so that another sentence can follow.

    The words of a service, which end the message of many an error, have none, or one of their own.
    """
    return text if text.endswith((".", "?", "!")) else f"{text}."
