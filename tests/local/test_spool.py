"""A spool and its readers: each gets everything, and all advance together."""

from __future__ import annotations

import asyncio

from airflow_provider_rayagent.local.spool import BLOCK_BYTES, MAX_ACTIVE_READERS, Spool

READERS = 40
BLOCKS = 50


def test_readers_advance_together_and_other_tasks_run_in_between() -> None:
    async def play() -> None:
        spool, read_slots = Spool(), asyncio.Semaphore(MAX_ACTIVE_READERS)
        data = bytes(range(256)) * (BLOCKS * BLOCK_BYTES // 256)
        spool.write(data)
        spool.finish()
        read = [0] * READERS
        widest = 0
        rounds = 0

        async def reader(number: int) -> bytes:
            nonlocal widest
            got = b""
            async for block in spool.blocks(read_slots):
                got += block or b""
                read[number] += 1
                widest = max(widest, max(read) - min(read))
            return got

        async def bystander() -> None:
            nonlocal rounds
            while any(count < BLOCKS for count in read):
                rounds += 1
                await asyncio.sleep(0)

        *logs, _ = await asyncio.gather(*(reader(number) for number in range(READERS)), bystander())
        assert all(log == data for log in logs)
        assert widest <= 2
        assert rounds >= READERS * BLOCKS / MAX_ACTIVE_READERS, "it runs after at most this number of blocks"
        spool.close()

    asyncio.run(play())


def test_readers_wait_for_later_writes() -> None:
    async def play() -> None:
        spool, read_slots = Spool(), asyncio.Semaphore(MAX_ACTIVE_READERS)

        async def read() -> list[bytes | None]:
            return [block async for block in spool.blocks(read_slots)]

        reading = asyncio.ensure_future(read())
        for data in (b"one", b"", b"two"):
            spool.write(data)
            await asyncio.sleep(0.01)
        spool.wake_readers()
        await asyncio.sleep(0.01)
        spool.finish()
        assert await reading == [b"one", b"two", None]
        spool.close()

    asyncio.run(play())
