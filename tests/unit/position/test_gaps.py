"""Take-overs where the predecessor's log file is lost: what the finished log holds in the end."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.metrics.job_metrics import JobMetrics
from airflow_provider_rayagent.position import gaps as rules
from airflow_provider_rayagent.position.gaps import MAX_GAPS, Gap, add_gap, saved_gaps, take_over
from airflow_provider_rayagent.render.record_builder import DisplaySettings
from airflow_provider_rayagent.render.records import JobRecords
from airflow_provider_rayagent.run.follow_options import FollowOptions
from airflow_provider_rayagent.run.message_xcoms import MessageXComs
from airflow_provider_rayagent.run.observer import JobObserver
from airflow_provider_rayagent.run.printed_output import PrintedOutput
from airflow_provider_rayagent.tail.cursor import Cursor
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.text_reader import TextReader
from airflow_provider_rayagent.text.redaction import NO_SECRETS
from tests.unit.support import items_of, task_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.cursor import LogPosition
    from airflow_provider_rayagent.tail.items import Item

MARKERS = (("<<", ">>"),)
MAX_LINE_LENGTH = 16_000


def position(lines: int, *, width: int = 1, **more: Any) -> LogPosition:
    cursor = Cursor()
    TextReader(cursor, MAX_LINE_LENGTH).feed_text("".join(f"{number:0{width}}\n" for number in range(lines)))
    found = cursor.to_json()
    found.update(more)  # type: ignore[typeddict-item]
    return found


START = position(0)


def test_where_the_file_is_kept_the_next_trigger_goes_on_at_its_place() -> None:
    gap = Gap(START, 5)
    found = take_over({"position": position(9), "began": position(5), "gaps": [gap.to_json()]}, None, is_kept=True)
    assert (found.position, found.gaps, found.lost) == (position(9), [gap], None)


def test_a_short_gap_is_forwarded_again_by_the_next_trigger() -> None:
    found = take_over({"position": position(90), "began": position(10)}, None, is_kept=False)
    assert (found.position, found.gaps) == (position(10), [])
    assert (found.lost, found.is_repeated) == (Gap(position(10), 90), True)


def test_a_long_gap_is_left_to_the_worker() -> None:
    width = rules.SHORT_GAP_CHARS // 50
    saved = {"position": position(90, width=width), "began": position(10, width=width)}
    found = take_over(saved, None, is_kept=False)
    assert found.position == saved["position"]
    assert found.gaps == [Gap(position(10, width=width), 90)]
    assert not found.is_repeated


def test_nothing_is_lost_with_a_file_in_which_there_was_nothing() -> None:
    found = take_over({"position": position(7), "began": position(7)}, None, is_kept=False)
    assert (found.position, found.gaps, found.lost) == (position(7), [], None)


def test_what_a_release_without_gaps_saved_began_where_the_task_did() -> None:
    assert take_over({"position": position(7)}, position(3), is_kept=False).lost == Gap(position(3), 7)
    assert take_over({"position": position(7)}, None, is_kept=False).lost == Gap(START, 7)


def test_gaps_that_adjoin_become_one_and_others_stay_apart() -> None:
    one, two, apart = Gap(START, 4), Gap(position(4), 9), Gap(position(12), 15)
    assert add_gap([one], two) == [Gap(START, 9)]
    assert add_gap(add_gap([one], two), apart) == [Gap(START, 9), apart]
    assert add_gap([one, apart], Gap(position(15), None)) == [one, Gap(position(12), None)]


def test_gaps_that_are_too_many_become_one_that_holds_them_all() -> None:
    found: list[Gap] = []
    for number in range(3 * MAX_GAPS):
        found = add_gap(found, Gap(position(10 * number), 10 * number + 5))
    assert len(found) <= MAX_GAPS
    assert found[0].first == 1
    assert found[-1].until == 10 * (3 * MAX_GAPS - 1) + 5


def test_a_gap_keeps_no_result() -> None:
    (gap,) = add_gap([], Gap(position(1, result={"inside": "secret", "found": None}), 3))
    assert "result" not in gap.start
    assert saved_gaps({"gaps": json.loads(json.dumps([gap.to_json()]))}) == [gap]


@pytest.mark.parametrize("value", [None, 3, [None], [{}], [{"start": START}], [{"start": {}, "until": 3}]])
def test_what_is_no_gap_is_left_out(value: Any) -> None:
    assert saved_gaps({"gaps": value}) == []


class Trigger:
    """A trigger that follows a log from a position to where it dies."""

    def __init__(self, text: str, begin: LogPosition, display: DisplaySettings) -> None:
        self._text = text
        self.cursor = Cursor.from_json(dict(begin))
        redraws = display.progress_interval is not None
        self._reading = TextReader(self.cursor, MAX_LINE_LENGTH, redraws=redraws)
        self._records = JobRecords("j1", display, markers=MARKERS, position=begin)

    def read(self, until: int) -> list[str]:
        return self._texts(
            self._records.render(items_of(*self._reading.feed_text(self._text[self._reading.chars : until])), 0.0)
        )

    def end(self) -> list[str]:
        found = self.read(len(self._text))
        found += self._texts(self._records.render(items_of(*self._reading.flush()), 0.0))
        return found + self._texts(self._records.finish())

    def position(self) -> dict[str, Any]:
        return dict(json.loads(json.dumps(self._records.position(self.cursor))))

    def result(self) -> Any:
        return self._records.printed.state()

    @staticmethod
    def _texts(records: Any) -> list[str]:
        return [record.text for record in records if record.from_job]


class Hook:
    """A hook whose jobs have ended, with this log."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.config = SimpleNamespace(redact=NO_SECRETS)

    def follow_job(self, job_id: str, settings: TailSettings, *, cursor: Cursor, **_: Any) -> Any:
        reading = TextReader(cursor, settings.max_line_length, redraws=settings.progress_interval is not None)

        async def items() -> AsyncIterator[list[Item]]:
            for start in range(0, len(self._text), 7):
                yield items_of(*reading.feed_text(self._text[start : start + 7]))
            yield items_of(*reading.flush())

        return SimpleNamespace(
            items=items,
            cursor=cursor,
            end=End.JOB_ENDED,
            log_is_whole=True,
            error=None,
            redact=NO_SECRETS,
            expect_end=lambda: None,
            credentials=NO_SECRETS,
            job_id=job_id,
            base_url="",
        )


def observer_of(text: str, display: DisplaySettings) -> JobObserver:
    hook: Any = Hook(text)
    metrics = JobMetrics("rayagent_default", "deferred")
    log, options = structlog.get_logger(), FollowOptions(display=display)
    output = PrintedOutput(hook, "j1", log, options)
    nothing: Any = None
    xcoms = MessageXComs(nothing, log, "j1", ())
    return JobObserver(hook, "j1", log, options, metrics=metrics, output=output, xcoms=xcoms)


TEXTS = st.lists(st.sampled_from(["a", "bb", "", "  c", "<<[1,", "2]>>", "d" * 40]), max_size=40).map(
    lambda lines: "".join(f"{number} {line}\n" for number, line in enumerate(lines))
)
DEATHS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=6)


@given(
    text=TEXTS,
    deaths=DEATHS,
    last_is_lost=st.booleans(),
    short=st.sampled_from([0, 30, 10_000]),
    max_lines=st.none() | st.integers(1, 30),
)
def test_the_finished_log_has_every_line_once_whichever_files_are_lost(
    text: str, deaths: list[tuple[float, bool]], last_is_lost: bool, short: int, max_lines: int | None
) -> None:
    display = DisplaySettings(max_lines=max_lines)
    finished: list[str] = []
    saved: dict[str, Any] = {}
    begin: LogPosition = START
    found: list[Gap] = []
    read = 0
    before, rules.SHORT_GAP_CHARS = rules.SHORT_GAP_CHARS, short
    try:
        for share, is_kept in deaths:
            trigger = Trigger(text, begin, display)
            read = max(read, int(share * len(text)))
            written = trigger.read(read)
            saved = {"position": trigger.position(), "began": begin, "gaps": [gap.to_json() for gap in found]}
            finished += written if is_kept else []
            taken = take_over(saved, None, is_kept=is_kept)
            begin, found = taken.position, taken.gaps
    finally:
        rules.SHORT_GAP_CHARS = before
    trigger = Trigger(text, begin, display)
    written = trigger.end()
    if last_is_lost:
        found = add_gap(found, Gap(begin, None))
    else:
        finished += written
    observer = observer_of(text, display)
    with task_log() as log:
        gaps = [gap for gap in found if not gap.is_empty]
        assert [observer.forward_gap(gap, MAX_LINE_LENGTH, 600.0) for gap in gaps] == [""] * len(found)
    lines = text.splitlines()
    finished += [line for message in log.messages for line in message.split("\n") if line in lines]
    assert Counter(finished) == Counter(lines[:max_lines])
    whole = Trigger(text, START, display)
    whole.end()
    assert trigger.result() == whole.result()
