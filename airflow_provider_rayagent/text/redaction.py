"""Take secrets out of texts. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MIN_LENGTH = 3
"""Characters; a shorter secret is part of too many words to be taken out."""
REDACTED = "***"


class Redactor:
    """Replace every secret by ``***``, also where it is escaped in JSON or quoted in a URL.

    A text has to be redacted before it is cut: of a secret that a cut has divided, no piece is recognized.

    :param secrets: texts of at least :data:`MIN_LENGTH` characters; shorter ones are left alone.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= MIN_LENGTH}
        self.forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))
        """The secrets in all of their forms, the longest first."""
        self._pattern = re.compile("|".join(map(re.escape, self.forms)))
        self.overlap = max(map(len, self.forms), default=1) - 1
        """Characters after a cut that decide whether it divides a secret."""

    def __call__(self, text: str) -> str:
        """Return ``text`` without the secrets."""
        # To look for each first is several times as fast as the pattern, and few texts have any.
        for form in self.forms:
            if form in text:
                return self._pattern.sub(REDACTED, text)
        return text

    def unfinished(self, text: str) -> str:
        """Return a text that is still being written, also without the beginning of a secret at its end."""
        text = self(text)
        for form in self.forms:
            for length in range(min(len(form) - 1, len(text)), MIN_LENGTH - 1, -1):
                if text.endswith(form[:length]):
                    return text[:-length] + REDACTED
        return text

    def cut_at(self, text: str, start: int, end: int) -> int:
        """Return where to end a piece of ``text`` so that no secret is divided.

        That is at ``end``, or where the secret begins in which ``end`` lies; if the piece would begin there too, where
        the secret ends.

        :param start: where the piece begins.
        :param end: where it is to end; what decides is within :attr:`overlap` characters after it.
        """
        if self.forms:
            for found in self._pattern.finditer(text, start, min(end + self.overlap, len(text))):
                if found.start() < end < found.end():
                    return found.start() if found.start() > start else found.end()
        return end


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield quote(secret, safe="")
    yield quote_plus(secret)


NO_SECRETS = Redactor()
