"""Bytes that one task writes and many read, each at its own pace, without holding them in memory."""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import IO, TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

BLOCK = 65_536
"""Most bytes that a reader is given at a time; more than the longest event."""
TURNS = 8
"""Readers that go on at a time: a request must not wait until a thousand of them were served."""


class Spool:
    """A file without a name: it grows until it is finished, and it is gone with the process, however that ends."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self.size = 0
        self.is_finished = False
        self._news = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Append bytes.

        :raises LocalAgentError: if the disk does not take them.
        """
        if not data:
            return
        left = memoryview(data)
        try:
            if self._file is None:
                # Without a buffer, so that a reader sees what was written.
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (see close)
            while left:
                left = left[os.write(self._file.fileno(), left) :]
        except OSError as error:
            raise LocalAgentError(f"Cannot keep a log in {tempfile.gettempdir()}: {error.strerror}.") from error
        self.size += len(data)
        self.wake_readers()

    def finish(self) -> None:
        """Say that no more will be written."""
        self.is_finished = True
        self.wake_readers()

    def wake_readers(self) -> None:
        """Let everybody who waits for news look again."""
        self._news.set()
        self._news = asyncio.Event()

    async def blocks(
        self, turns: asyncio.Semaphore, cut: Callable[[bytes], bytes] = bytes
    ) -> AsyncGenerator[bytes | None, None]:
        """Yield what was and is written until it is finished, and ``None`` where it was woken and there is nothing new.

        :param turns: of all readers; see :data:`TURNS`.
        :param cut: returns as much of a block as can be used; some of it, if there is one of :data:`BLOCK` bytes.
        """
        offset = 0
        while True:
            if offset < self.size:
                async with turns:
                    # What else the event loop has to do comes between two turns.
                    await asyncio.sleep(0)
                    block = cut(self._read(offset))
                offset += len(block)
                yield block
            elif self.is_finished:
                return
            else:
                await self._news.wait()
                if offset == self.size and not self.is_finished:
                    yield None

    def close(self) -> None:
        """Give the disk space back."""
        if self._file is not None:
            self._file.close()

    def _read(self, offset: int) -> bytes:
        if self._file is None:
            return b""
        return os.pread(self._file.fileno(), min(BLOCK, self.size - offset), offset)
