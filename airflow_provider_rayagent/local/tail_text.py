r"""The text of Ray's tail of a log, as it is in the log.

The tail can have a newline that the log does not have: where it reads a ``\r`` before the ``\n`` after it is
written, it has a newline for each, while ``\r\n`` is one newline in the log. This newline is the first character of a
message, since the tail sends what it has read before it reads on.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_rayagent.local.ray_api import RayDashboard

MAX_KNOWN = 8_000_000
"""Maximum number of characters of the log that are kept for the next messages; more than a message has."""


class TailText:
    """Removes newlines that the log does not have.

    It reads the log only if a message begins with a newline and the one before ends with one.
    """

    def __init__(self, ray: RayDashboard, job_id: str) -> None:
        self._ray = ray
        self._job_id = job_id
        self._position = 0
        self._after_newline = False
        self._known, self._known_from = "", 0

    async def correct(self, message: str) -> str:
        """Return a message as it is in the log.

        :raises LocalAgentError: if the log cannot be read.
        """
        is_suspect = self._after_newline and message.startswith("\n")
        if is_suspect and not await self._is_next(message) and await self._is_next(message[1:]):
            message = message[1:]
        if message:
            self._position += len(message)
            self._after_newline = message.endswith("\n")
        if self._position >= self._known_from + len(self._known):
            self._known = ""
        return message

    async def _is_next(self, text: str) -> bool:
        """Return whether the log has this text at the current position."""
        if self._position + len(text) > self._known_from + len(self._known):
            await self._read()
        return self._known.startswith(text, self._position - self._known_from)

    async def _read(self) -> None:
        """Read the log from the current position on."""
        to_skip, pieces, characters = self._position, [], 0
        async with self._ray.log_reads, aclosing(self._ray.log_text(self._job_id)) as texts:
            async for text in texts:
                pieces.append(text[to_skip:])
                to_skip = max(to_skip - len(text), 0)
                characters += len(pieces[-1])
                if characters >= MAX_KNOWN:
                    break
        self._known, self._known_from = "".join(pieces), self._position
