"""How a job's lines look in the task log, in a worker and deferred."""

from __future__ import annotations

from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from airflow_provider_rayagent.exceptions import RayAgentJobFailedError
from airflow_provider_rayagent.render.records import JOB_LOGGER, LAST_LINES
from tests.scripted import Grow, Job, SetStatus, Sleep
from tests.unit.sensors.factory import ending_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.both_ways import Run
    from tests.unit.support import Serve, TaskLog

LINES = [f"line {number}" for number in range(40)]


def growing(*texts: str, pause: float = 0.02, status: str = "SUCCEEDED") -> Job:
    """Return a job that writes one text after the other and then ends."""
    timeline = [action for text in texts for action in (Grow(text), Sleep(pause))]
    return Job("", "RUNNING", timeline=[*timeline, SetStatus(status)])


def lines_in(log: TaskLog) -> list[str]:
    return [line for message in log.messages for line in message.split("\n")]


@contextmanager
def loggers() -> Iterator[list[tuple[str, str]]]:
    """Give the logger's name and the text of every record that is logged meanwhile."""
    from airflow.sdk._shared.logging.structlog import LoggerFactory, NamedBytesLogger

    found: list[tuple[str, str]] = []

    def keep(logger: Any, _: str, event: Any) -> Any:
        found.append((logger.name, event["event"]))
        raise structlog.DropEvent

    factory: Any = LoggerFactory(NamedBytesLogger, io=BytesIO())
    if factory("a").name is None:
        pytest.skip("this Airflow loses the names of loggers with this structlog")
    before = structlog.get_config()
    structlog.configure(processors=[keep], logger_factory=factory, cache_logger_on_first_use=False)
    try:
        yield found
    finally:
        structlog.configure(**before)


LEVELS = {
    "plain": "info",
    "ERROR:root:boom": "error",
    "2026-01-31 03:00:00,123\tWARNING worker.py:8 -- slow": "warning",
    '{"level": "error", "message": "x"}': "error",
}


@pytest.mark.parametrize("detect_levels", [True, False])
def test_a_line_has_the_level_that_it_tells_itself_unless_that_is_not_wanted(
    detect_levels: bool, run: Run, serve: Serve
) -> None:
    serve(Job("\n".join(LEVELS)))
    with structlog.testing.capture_logs() as entries:
        run(detect_levels=detect_levels)
    found = {entry["event"]: entry["log_level"] for entry in entries if entry["event"] in LEVELS}
    assert found == (LEVELS if detect_levels else dict.fromkeys(LEVELS, "info"))


@pytest.mark.parametrize(("colors", "shown"), [(True, "\x1b[31mred\x1b[0m"), (False, "red")])
def test_colors_are_kept_or_dropped(colors: bool, shown: str, run: Run, serve: Serve, log: TaskLog) -> None:
    serve(growing("\x1b[31mred\x1b[0m\n"))
    run(colors=colors)
    assert shown in lines_in(log)


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_of_a_long_log_the_first_lines_are_shown_and_after_a_failure_the_last(
    status: str, run: Run, serve: Serve, log: TaskLog
) -> None:
    serve(growing(*(f"{line}\n" for line in LINES), status=status))
    with ending_as(status):
        run(max_lines=10)
    last = LINES[-LAST_LINES:] if status == "FAILED" else []
    assert [line for line in lines_in(log) if line in LINES] == [*LINES[:10], *last]
    assert any(f"It has {len(LINES)}; the Ray page" in each for each in log.messages)


@pytest.mark.parametrize("interval", [60, None])
def test_a_progress_bar_shows_its_last_state_unless_all_are_wanted(
    interval: float | None, run: Run, serve: Serve, log: TaskLog
) -> None:
    states = [f"{at}%|{'#' * (at // 10)}| {at}/100 [00:0{at // 20}<00:01, 20.0it/s]" for at in range(0, 101, 5)]
    serve(growing(*(f"{state}\n" for state in states), "done\n"))
    run(progress_interval=interval)
    shown = [line for line in lines_in(log) if line in states]
    if interval is None:
        assert shown == states
    else:
        assert shown[-1] == states[-1]
        assert len(shown) <= 2
    assert "done" in lines_in(log)


def test_the_jobs_lines_have_a_logger_of_their_own(run: Run, serve: Serve) -> None:
    serve(Job("a\nb\n"))
    with loggers() as found:
        run()
    assert {text for logger, text in found if logger == JOB_LOGGER} >= {"a", "b"}
    ours = [logger for logger, text in found if text.startswith("Job j1 is")]
    assert ours
    assert JOB_LOGGER not in ours


@pytest.mark.parametrize("forward_logs", [True, False])
def test_a_failure_says_what_is_known_and_where_to_look(forward_logs: bool, run: Run, serve: Serve) -> None:
    job = Job(
        "KeyError: 'x'\n",
        "FAILED",
        message="Job entrypoint command failed with exit code 1, last available logs (truncated):\nKeyError: 'x'",
        details={"driver_exit_code": 1, "driver_node_id": "n7", "start_time": 1_000, "end_time": 3_500},
    )
    serve(job, extra={"job_url": "http://dash/#/jobs/{job_id}"})
    with pytest.raises(RayAgentJobFailedError) as caught:
        run(forward_logs=forward_logs)
    text = str(caught.value)
    for fact in ("j1", "FAILED", "2.5 s", "exit code 1", "node n7", "http://dash/#/jobs/j1", "Check "):
        assert fact in text
    assert ("KeyError" in text) is not forward_logs
