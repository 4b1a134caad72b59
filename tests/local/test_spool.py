"""A log on its way from Ray to a client that may be slow."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.local.errors import LocalAgentError
from airflow_provider_rayagent.local.spool import BLOCK_BYTES, MEMORY_BYTES, spooled

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

CHUNK = bytes(range(256)) * 100


class Log:
    """A log of chunks.

    :ivar read: number of chunks that were read.
    :ivar is_closed: whether it is read no more.
    """

    def __init__(self, chunks: int, error: Exception | None = None) -> None:
        self._chunks = chunks
        self._error = error
        self.read = 0
        self.is_closed = False
        self.more = asyncio.Event()
        self.more.set()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            for _ in range(self._chunks):
                await self.more.wait()
                await asyncio.sleep(0)
                self.read += 1
                yield CHUNK
            if self._error:
                raise self._error
        finally:
            self.is_closed = True


async def read(log: Log, got: list[bytes]) -> None:
    # Unlike a comprehension, this keeps what came before an error.
    async for block in spooled(log.chunks()):
        got.append(block)  # noqa: PERF401


def test_log_is_read_without_waiting_for_the_client() -> None:
    async def play() -> None:
        log = Log(100)
        async with aclosing(spooled(log.chunks())) as blocks:
            got = await anext(blocks)
            while not log.is_closed:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0)
            assert log.read == 100
            assert 100 * len(CHUNK) > MEMORY_BYTES
            async for block in blocks:
                assert len(block) <= BLOCK_BYTES
                got += block
        assert got == CHUNK * 100

    asyncio.run(play())


def test_blocks_arrive_while_the_log_is_read() -> None:
    async def play() -> None:
        log = Log(10)
        async with aclosing(spooled(log.chunks())) as blocks:
            first = await anext(blocks)
            assert len(first) == BLOCK_BYTES
            log.more.clear()
            assert not log.is_closed
            log.more.set()
            assert first + b"".join([block async for block in blocks]) == CHUNK * 10

    asyncio.run(play())


@pytest.mark.parametrize("chunks", [0, 50])
def test_error_follows_what_was_read_before(chunks: int) -> None:
    async def play() -> None:
        got: list[bytes] = []
        with pytest.raises(LocalAgentError, match="broke off"):
            await read(Log(chunks, LocalAgentError("broke off")), got)
        assert b"".join(got) == CHUNK * chunks

    asyncio.run(play())


def test_log_is_not_read_further_once_the_client_is_gone() -> None:
    async def play() -> None:
        log = Log(1_000_000)
        async with aclosing(spooled(log.chunks())) as blocks:
            await anext(blocks)
        assert log.is_closed
        assert log.read < 1_000

    asyncio.run(play())


def test_full_disk_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)

    async def play() -> None:
        log = Log(100)
        with pytest.raises(LocalAgentError, match=r"Cannot store a log in .*: No space left on device"):
            await read(log, [])
        assert log.is_closed

    asyncio.run(play())


def test_other_tasks_run_between_blocks() -> None:
    async def play() -> None:
        rounds = 0

        async def bystander() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                await asyncio.sleep(0)

        log = Log(200)
        async with aclosing(spooled(log.chunks())) as blocks:
            await anext(blocks)
            while not log.is_closed:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0)
            other = asyncio.ensure_future(bystander())
            count = len([block async for block in blocks])
            assert rounds >= count > 50
            other.cancel()

    asyncio.run(play())
