"""The way of records to the supervisor's socket: nothing lost, in order, in turn, and the event loop never blocked."""

from __future__ import annotations

import asyncio
import logging
import select
import threading
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from airflow_provider_rayagent.render.joined_records import RECORD_BYTES
from airflow_provider_rayagent.render.record_builder import Record
from airflow_provider_rayagent.task_instance import supervisor_channel
from airflow_provider_rayagent.task_instance.supervisor_channel import Channel
from airflow_provider_rayagent.triggers.trigger_sink import MAX_SINGLE_RECORDS, TriggerLog
from tests.scripted.actions import reached
from tests.stack.watch import PATIENCE
from tests.unit.triggers.sink import logging_to, slow_sink

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

    from tests.unit.triggers.sink import Sink

READ_PAUSE = 0.001
STANDSTILL_SECONDS = 1.5
TURNS = 50


def make_records(name: str, count: int, length: int = 100) -> list[Record]:
    return [Record(logging.INFO, f"{name} {number:06d} ".ljust(length, "x")) for number in range(count)]


def make_log(name: str = "one") -> TriggerLog:
    return TriggerLog(structlog.get_logger(name))


def lines_in(sink: Sink, name: str = "one") -> list[str]:
    """Return the lines that came of one trigger, in the order in which they came."""
    return [line for record in sink.records() for line in record["event"].split("\n") if line.startswith(name)]


def texts(found: Sequence[Record]) -> list[str]:
    return [record.text for record in found]


async def written_and_drained(found: Sequence[Record]) -> None:
    await make_log().write(found)
    async with Channel.of_loop().drained():
        pass


async def until_full(sink: Sink, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Begin to write, let the socket fill up while the reader stands still for a moment, and return what goes on."""
    sink.reads.clear()
    task = asyncio.create_task(work)
    await reached(lambda: not select.select([], [sink.near], [], 0)[1])
    asyncio.get_running_loop().call_later(0.1, sink.reads.set)
    return task


async def turns_while_still(work: asyncio.Task[None], sink: Sink, patience: float) -> int:
    """Return how often the event loop came round to a watcher while ``work`` went on and the reader stood still.

    The reader goes on after :data:`TURNS` of them, or after ``patience`` seconds.
    """
    turns = 0
    timer = threading.Timer(patience, sink.reads.set)
    timer.start()
    while not work.done() and not sink.reads.is_set():
        await asyncio.sleep(0.01)
        turns += 1
        if turns == TURNS:
            sink.reads.set()
    timer.cancel()
    await work
    return turns


@pytest.mark.parametrize("length", [30, 100, 15_000])
def test_nothing_is_lost_and_the_order_is_kept_however_slow_the_reader_is(length: int) -> None:
    found = make_records("one", 3_000_000 // max(length, 3_000), length)
    with slow_sink(READ_PAUSE) as sink:
        asyncio.run(written_and_drained(found))
        assert lines_in(sink) == texts(found)


async def write_carefully(found: Sequence[Record]) -> None:
    await make_log().write(found)


async def write_anyhow(found: Sequence[Record]) -> None:
    log = structlog.get_logger("one")
    for record in found:
        log.info("%s", record.text)
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("write", "patience", "goes_on"), [(write_carefully, PATIENCE, True), (write_anyhow, STANDSTILL_SECONDS, False)]
)
def test_the_event_loop_goes_on_while_the_reader_stands_still_as_it_would_not_without_us(
    write: Callable[[Sequence[Record]], Coroutine[Any, Any, None]], patience: float, goes_on: bool
) -> None:
    found = make_records("one", 100, 10_000)

    async def run(sink: Sink) -> int:
        return await turns_while_still(asyncio.create_task(write(found)), sink, patience)

    with slow_sink() as sink:
        sink.reads.clear()
        turns = asyncio.run(run(sink))
    assert (turns >= TURNS) is goes_on


@pytest.mark.parametrize(("too_long", "noticed"), [(PATIENCE, False), (supervisor_channel.POLL_SECONDS / 2, True)])
def test_a_reader_that_stands_still_for_too_long_is_noticed(
    too_long: float, noticed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(sink: Sink) -> bool:
        await (await until_full(sink, make_log().write(make_records("one", 200, 10_000))))
        return bool(Channel.of_loop().stalls)

    monkeypatch.setattr(supervisor_channel, "STALL_SECONDS", too_long)
    with slow_sink() as sink:
        assert asyncio.run(run(sink)) is noticed


def test_two_triggers_take_turns() -> None:
    few, many = make_records("few", 200, 1_000), make_records("many", 2_000, 1_000)

    async def run(sink: Sink) -> None:
        busy = await until_full(sink, make_log("many").write(many))
        await make_log("few").write(few)
        assert not busy.done()
        await busy
        async with Channel.of_loop().drained():
            pass

    with slow_sink(READ_PAUSE) as sink:
        asyncio.run(run(sink))
        assert lines_in(sink, "many") == texts(many)
        assert lines_in(sink, "few") == texts(few)
        names = [record["event"].split()[0] for record in sink.records()]
    assert names.index("few") < len(names) / 2
    assert "many" in names[names.index("few") : len(names) - names[::-1].index("few")]


def test_drained_waits_until_the_last_byte_was_read() -> None:
    async def run(sink: Sink) -> None:
        sink.reads.clear()
        await make_log().write(make_records("one", 10, 1_000))
        assert sink.bytes_read < 10 * 1_000
        asyncio.get_running_loop().call_later(0.1, sink.reads.set)
        async with Channel.of_loop().drained():
            assert sink.bytes_read >= 10 * 1_000

    with slow_sink(READ_PAUSE) as sink:
        asyncio.run(run(sink))
        assert len(lines_in(sink)) == 10


def test_drained_gives_up_on_a_reader_that_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> bool:
        await make_log().write(make_records("one", 10, 1_000))
        async with Channel.of_loop().drained() as is_drained:
            return is_drained

    monkeypatch.setattr(supervisor_channel, "DRAIN_SECONDS", 0.2)
    with slow_sink() as sink:
        sink.reads.clear()
        assert asyncio.run(run()) is False
        assert sink.bytes_read < 10_000
    with slow_sink():
        monkeypatch.setattr(supervisor_channel, "DRAIN_SECONDS", PATIENCE)
        assert asyncio.run(run()) is True


@pytest.mark.parametrize(("count", "alone"), [(1, True), (MAX_SINGLE_RECORDS, True), (MAX_SINGLE_RECORDS + 1, False)])
def test_records_are_joined_only_when_there_are_many(count: int, alone: bool) -> None:
    found = make_records("one", count)
    with slow_sink() as sink:
        asyncio.run(written_and_drained(found))
        assert len(sink.records()) == (count if alone else 1)
        assert lines_in(sink) == texts(found)


def test_a_few_records_are_joined_too_while_the_socket_is_full() -> None:
    async def run(sink: Sink) -> None:
        busy = await until_full(sink, make_log("many").write(make_records("many", 1_000, 1_000)))
        await make_log("few").write(make_records("few", 5))
        await busy
        async with Channel.of_loop().drained():
            pass

    with slow_sink(READ_PAUSE) as sink:
        asyncio.run(run(sink))
        assert len([record for record in sink.records() if record["event"].startswith("few")]) == 1


def test_the_channel_is_busy_for_as_long_as_a_trigger_waits_for_its_turn() -> None:
    async def run() -> None:
        channel = Channel.of_loop()
        writing = [asyncio.create_task(make_log().write(make_records("one", 1, 1_000))) for _ in range(100)]
        await asyncio.sleep(0)
        # A trigger that has written ends one turn of the loop later, in which the next one may write too.
        while sum(not task.done() for task in writing) > 2:
            assert channel.is_busy
            await asyncio.sleep(0)
        await asyncio.gather(*writing)
        assert not channel._writers

    with slow_sink(READ_PAUSE):
        asyncio.run(run())


def test_joined_records_are_of_one_level_and_of_a_size_that_suits_airflow() -> None:
    levels = [logging.INFO] * 400 + [logging.WARNING] * 2 + [logging.INFO] * 400
    found = [Record(level, "x" * 99) for level in levels]
    with slow_sink() as sink:
        asyncio.run(written_and_drained(found))
        records = sink.records()
    assert max(len(record["event"]) for record in records) <= RECORD_BYTES
    assert [len(record["event"].split("\n")) for record in records].count(2) == 1
    assert sum(len(record["event"].split("\n")) for record in records) == len(found)


def test_records_are_taken_as_they_are_written_and_not_all_before() -> None:
    taken = 0

    def found() -> Iterator[Record]:
        nonlocal taken
        for record in make_records("one", 2_000, 1_000):
            taken += 1
            yield record

    async def run(sink: Sink) -> int:
        sink.reads.clear()
        writing = asyncio.create_task(make_log().write(found()))
        while not (taken and Channel.of_loop().is_busy):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
        so_far = taken
        sink.reads.set()
        await writing
        return so_far

    with slow_sink(READ_PAUSE) as sink:
        assert asyncio.run(run(sink)) < 2_000


@pytest.mark.parametrize("name", ["file", "nothing"])
def test_where_there_is_no_socket_it_is_written_all_the_same(name: str, tmp_path: Path) -> None:
    found = make_records("one", 50)

    async def run() -> None:
        assert not Channel.of_loop().is_busy
        await written_and_drained(found)

    if name == "nothing":
        with structlog.testing.capture_logs() as entries:
            asyncio.run(run())
        assert "\n".join(entry["event"] for entry in entries) == "\n".join(texts(found))
    else:
        path = tmp_path / "log"
        with path.open("wb", buffering=0) as output, logging_to(output):
            asyncio.run(run())
        assert path.read_text().count(" 0000") == 50


def test_all_triggers_of_a_loop_share_one_channel_and_another_loop_has_its_own() -> None:
    async def run() -> Channel:
        assert Channel.of_loop() is Channel.of_loop()
        return Channel.of_loop()

    assert asyncio.run(run()) is not asyncio.run(run())


def test_the_socket_of_a_triggerer_that_airflow_set_up_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import logging.config

    from airflow.sdk.log import configure_logging

    async def run() -> None:
        channel = Channel.of_loop()
        async with channel.drained():
            assert sink.near.fileno() == channel._fd

    monkeypatch.setattr(logging.config, "dictConfig", lambda _: None)
    with slow_sink() as sink, sink.near.makefile("wb", buffering=0) as output:
        configure_logging(json_output=True, output=output)
        asyncio.run(run())


def test_who_saves_a_position_does_not_wait_for_all_that_write_nor_they_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(sink: Sink) -> None:
        logs = [make_log(f"{number}") for number in range(100)]
        writing = [asyncio.create_task(log.write(make_records("one", 10, 10_000))) for log in logs]
        await asyncio.sleep(0.05)
        channel = Channel.of_loop()
        async with channel.save_slot(), channel.drained():
            assert sink.bytes_read < 100 * 10 * 10_000 / 2
        await asyncio.wait_for(asyncio.gather(*writing), PATIENCE)

    monkeypatch.setattr(supervisor_channel, "SLOW_STORE_SECONDS", 0.001)
    with slow_sink(READ_PAUSE) as sink:
        asyncio.run(run(sink))


def test_nothing_is_written_while_a_position_takes_too_long_to_be_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        with Channel.of_loop().store_in_progress():
            await asyncio.sleep(2 * supervisor_channel.SLOW_STORE_SECONDS)
            writing = asyncio.create_task(make_log().write(make_records("one", 1)))
            await asyncio.sleep(10 * supervisor_channel.POLL_SECONDS)
            assert not writing.done()
        await writing
        async with Channel.of_loop().drained():
            pass

    monkeypatch.setattr(supervisor_channel, "SLOW_STORE_SECONDS", 0.02)
    with slow_sink() as sink:
        asyncio.run(run())
        assert len(lines_in(sink)) == 1


def test_a_position_that_is_never_saved_does_not_stop_the_lines_of_all_triggers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        with Channel.of_loop().store_in_progress():
            await asyncio.sleep(2 * supervisor_channel.SLOW_STORE_SECONDS)
            await asyncio.wait_for(written_and_drained(make_records("one", 1)), PATIENCE)

    monkeypatch.setattr(supervisor_channel, "SLOW_STORE_SECONDS", 0.02)
    monkeypatch.setattr(supervisor_channel, "HUNG_STORE_SECONDS", 0.5)
    with slow_sink() as sink:
        asyncio.run(run())
        assert len(lines_in(sink)) == 1
