"""The records in which a trigger writes a job's lines to its task log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.position import trigger_position
from airflow_provider_rayagent.render.joined_records import RECORD_BYTES
from airflow_provider_rayagent.render.records import JobRecords
from airflow_provider_rayagent.tail.items import PORTION_CHARS, lines_in
from airflow_provider_rayagent.text.bounds import MAX_LINE_LENGTH
from airflow_provider_rayagent.triggers.trigger_sink import MAX_SINGLE_RECORDS
from tests.scripted import Complete, Follow, Grow, Job, Play, SetStatus, Sleep, every
from tests.unit.render.test_messages import message
from tests.unit.triggers.driver import follow, make_trigger, running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_rayagent.render.record_builder import Record
    from airflow_provider_rayagent.tail.items import Item
    from tests.unit.support import Serve, TaskLog

MAX_RECORD_BYTES = 16_384


def records_of_the_job(log: TaskLog) -> list[str]:
    return [message for message in log.messages if not message.startswith("Job j1 is")]


@pytest.mark.parametrize("protocol", ["auto", "websocket", "http"])
def test_while_it_is_quiet_every_line_is_a_record_of_its_own(
    protocol: str, serve: Serve, log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trigger_position, "SAVE_SECONDS", 60.0)
    lines = ["begin", "", "  indented", "\ttab\t", "same", "same", *(f"{number} é漢 %s {{}}" for number in range(14))]
    assert len(lines) == MAX_SINGLE_RECORDS
    writing: list[Any] = [action for line in lines for action in (Grow(f"{line}\n"), Sleep(0.01))]
    serve(Job(status="RUNNING", timeline=[*writing, SetStatus("SUCCEEDED")]))
    follow(make_trigger(protocol=protocol))
    assert records_of_the_job(log) == lines


@pytest.mark.parametrize("protocol", ["websocket", "http"])
def test_much_at_once_comes_in_large_records_with_nothing_lost(protocol: str, serve: Serve, log: TaskLog) -> None:
    lines = [f"{number:06d} {'x' * 92}" for number in range(5_000)]
    play = Play(Follow(every(40_000)), Complete())
    serve(Job("".join(f"{line}\n" for line in lines), ws=[play], sse=[play]))
    follow(make_trigger(protocol=protocol))
    records = records_of_the_job(log)
    assert [line for record in records for line in record.split("\n")] == lines
    sizes = [len(record) for record in records]
    assert max(sizes) <= MAX_RECORD_BYTES
    assert len(sizes) < 2 * sum(sizes) / RECORD_BYTES


def test_a_long_line_comes_in_pieces_that_a_triggerer_can_carry(serve: Serve, log: TaskLog) -> None:
    long = "".join(chr(0x4E00 + number % 5_000) for number in range(MAX_LINE_LENGTH + 50))
    serve(Job(f"{long}\n"))
    follow(make_trigger(max_line_length=8_000_000))
    assert records_of_the_job(log) == [
        f"{long[:MAX_LINE_LENGTH]} [line continues]",
        f"[continued] {long[MAX_LINE_LENGTH:]}",
    ]


@pytest.mark.parametrize("kind", ["progress", "xcom"])
def test_other_triggers_run_between_two_portions_whatever_they_are(
    kind: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0
    seen: list[tuple[int, int]] = []

    def render(records: JobRecords, items: Sequence[Item], now: float) -> list[Record]:
        seen.append((turns, sum(map(len, lines_in(items)))))
        return as_ever(records, items, now)

    async def count_turns_meanwhile() -> None:
        nonlocal turns
        async with running(make_trigger(forward_logs=False, read_messages=True, protocol="http")) as task:
            while not task.done():
                turns += 1
                await asyncio.sleep(0)

    as_ever = JobRecords.render
    monkeypatch.setattr(JobRecords, "render", render)
    long = message(kind, {"done": 1, "a": [0] * 4_000})
    lines = [*(message(kind, {"done": number}) for number in range(3_000)), *[long] * 40]
    serve(Job("".join(f"{line}\n" for line in lines)))
    asyncio.run(count_turns_meanwhile())
    rendered = [turn for turn, chars in seen if chars]
    assert len(set(rendered)) == len(rendered)
    assert max(chars for _, chars in seen) < PORTION_CHARS + len(long)
    assert sum(chars for _, chars in seen) == sum(map(len, lines))
