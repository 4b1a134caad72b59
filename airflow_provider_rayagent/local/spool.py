"""A buffer on disk that one task writes and many tasks read, each at its own pace."""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import IO, TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

BLOCK_BYTES = 65_536
"""Maximum number of bytes that a reader gets at a time; more than the longest event."""
MAX_ACTIVE_READERS = 8
"""Readers that read at the same time, so that other requests do not wait for a thousand of them."""


class Spool:
    """An unnamed temporary file that grows until it is finished, and is deleted even if the process is killed."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self.size = 0
        self.is_finished = False
        self._changed = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Append bytes.

        :raises LocalAgentError: if they cannot be written to disk.
        """
        if not data:
            return
        remaining = memoryview(data)
        try:
            if self._file is None:
                # Unbuffered, so that readers see all written bytes.
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (see close)
            while remaining:
                remaining = remaining[os.write(self._file.fileno(), remaining) :]
        except OSError as error:
            raise LocalAgentError(f"Cannot store a log in {tempfile.gettempdir()}: {error.strerror}.") from error
        self.size += len(data)
        self.wake_readers()

    def finish(self) -> None:
        """Mark the file as finished; nothing is written after this."""
        self.is_finished = True
        self.wake_readers()

    def wake_readers(self) -> None:
        """Wake the readers that wait for more bytes."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def blocks(
        self, read_slots: asyncio.Semaphore, trim: Callable[[bytes], bytes] = bytes
    ) -> AsyncGenerator[bytes | None, None]:
        """Yield all bytes until the file is finished, and ``None`` if woken without new bytes.

        :param read_slots: semaphore shared by all readers; see :data:`MAX_ACTIVE_READERS`.
        :param trim: returns the usable beginning of a block, which must not be empty if the block is full.
        """
        offset = 0
        while True:
            if offset < self.size:
                async with read_slots:
                    # Let other tasks of the event loop run between two blocks.
                    await asyncio.sleep(0)
                    block = trim(self._read(offset))
                offset += len(block)
                yield block
            elif self.is_finished:
                return
            else:
                await self._changed.wait()
                if offset == self.size and not self.is_finished:
                    yield None

    def close(self) -> None:
        """Release the disk space."""
        if self._file is not None:
            self._file.close()

    def _read(self, offset: int) -> bytes:
        if self._file is None:
            return b""
        return os.pread(self._file.fileno(), min(BLOCK_BYTES, self.size - offset), offset)
