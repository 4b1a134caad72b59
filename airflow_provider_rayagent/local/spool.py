"""A buffer on disk between a log that is read at full speed and a client that may be slow."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

BLOCK_BYTES = 65_536
"""Number of bytes that are taken from the buffer at a time; fewer only at the end of the log."""
MEMORY_BYTES = 262_144
"""Size beyond which the buffer is a file."""


async def spooled(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield what ``chunks`` yields, which is read without waiting for whoever takes it from here.

    :raises LocalAgentError: if it cannot be written to disk; what ``chunks`` raises, after everything it has yielded.
    """
    with tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES) as file:
        written = taken = 0
        changed = asyncio.Event()

        async def write() -> None:
            nonlocal written
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        # Reads and writes share one position of the file, so each of them seeks first.
                        file.seek(written)
                        written += file.write(chunk)
                        changed.set()
            except OSError as error:
                raise LocalAgentError(f"Cannot store a log in {tempfile.gettempdir()}: {error.strerror}.") from error
            finally:
                changed.set()

        writing = asyncio.ensure_future(write())
        try:
            while taken < written or not writing.done():
                if written - taken < BLOCK_BYTES and not writing.done():
                    await changed.wait()
                    # No other task runs between this and the comparison above, so no change is missed.
                    changed.clear()
                    continue
                file.seek(taken)
                block = file.read(BLOCK_BYTES)
                taken += len(block)
                yield block
                # Other tasks must run, even if whoever takes the blocks never has to wait.
                await asyncio.sleep(0)
            # Only here, when everything that was written has been taken.
            writing.result()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
