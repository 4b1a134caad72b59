"""How a job's lines look in the task log, in a worker and deferred."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from airflow_provider_rayagent.exceptions import RayAgentJobFailedError
from airflow_provider_rayagent.render.records import JOB_LOGGER
from tests.scripted import Grow, Job, ScriptedAgent, SetStatus, Sleep
from tests.unit.sensors.factory import run
from tests.unit.support import StateStore, TaskInstance, make_context, task_log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.sensors.deferral import Way
    from tests.unit.support import Connect

LINES = [f"line {number}" for number in range(40)]


def growing(*texts: str, pause: float = 0.02) -> Job:
    """Return a job that writes one text after the other and then succeeds."""
    timeline = [action for text in texts for action in (Grow(text), Sleep(pause))]
    return Job("", "RUNNING", timeline=[*timeline, SetStatus("SUCCEEDED")])


def lines_of(follow: Way, connect: Connect, job: Job, **options: Any) -> list[str]:
    """Follow a job; return all that the task log got, a line each."""
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        follow(**options)
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


def levels_of(follow: Way, connect: Connect, **options: Any) -> dict[str, str]:
    with ScriptedAgent(Job("\n".join(LEVELS))) as agent, structlog.testing.capture_logs() as entries:
        connect(agent)
        follow(**options)
    return {entry["event"]: entry["log_level"] for entry in entries if entry["event"] in LEVELS}


def test_a_line_has_the_level_that_it_tells_itself(follow: Way, connect: Connect) -> None:
    assert levels_of(follow, connect) == LEVELS


def test_without_detection_every_line_is_information(follow: Way, connect: Connect) -> None:
    assert levels_of(follow, connect, detect_levels=False) == dict.fromkeys(LEVELS, "info")


@pytest.mark.parametrize(("colors", "shown"), [(True, "\x1b[31mred\x1b[0m"), (False, "red")])
def test_colors_are_kept_or_dropped(colors: bool, shown: str, follow: Way, connect: Connect) -> None:
    assert shown in lines_of(follow, connect, Job("\x1b[31mred\x1b[0m\n"), colors=colors)


def test_of_a_long_log_the_first_and_the_last_lines_are_shown_and_the_gap_is_said(
    follow: Way, connect: Connect
) -> None:
    lines = lines_of(follow, connect, growing(*(f"{line}\n" for line in LINES)), max_lines=10, tail_lines=5)
    shown = [line for line in lines if line in LINES]
    assert shown == [*LINES[:10], *LINES[-5:]]
    gap = lines[lines.index(LINES[9]) + 1 : lines.index(LINES[-5])]
    assert any("25 lines of the job's log are not shown here" in line for line in gap)


def test_a_progress_bar_shows_its_last_state(follow: Way, connect: Connect) -> None:
    states = [f"{at}%|{'#' * (at // 10)}| {at}/100 [00:0{at // 20}<00:01, 20.0it/s]" for at in range(0, 101, 5)]
    lines = lines_of(follow, connect, growing(*(f"{state}\n" for state in states), "done\n"), progress_interval=60)
    shown = [line for line in lines if line in states]
    assert shown[-1] == states[-1]
    assert len(shown) <= 2
    assert "done" in lines
    every = lines_of(follow, connect, growing(*(f"{state}\n" for state in states)), progress_interval=None)
    assert [line for line in every if line in states] == states


def test_the_jobs_lines_have_a_logger_of_their_own(follow: Way, connect: Connect) -> None:
    with ScriptedAgent(Job("a\nb\n")) as agent:
        connect(agent)
        with loggers() as found:
            follow()
    assert {text for logger, text in found if logger == JOB_LOGGER} >= {"a", "b"}
    ours = [logger for logger, text in found if text.startswith("Job j1 is")]
    assert ours
    assert JOB_LOGGER not in ours


@pytest.mark.parametrize("forward_logs", [True, False])
def test_a_failure_says_what_is_known_and_where_to_look(forward_logs: bool, follow: Way, connect: Connect) -> None:
    job = Job(
        "KeyError: 'x'\n",
        "FAILED",
        message="Job entrypoint command failed with exit code 1, last available logs (truncated):\nKeyError: 'x'",
        details={"driver_exit_code": 1, "driver_node_id": "n7", "start_time": 1_000, "end_time": 3_500},
    )
    with ScriptedAgent(job) as agent:
        connect(agent, extra={"job_url": "http://dash/#/jobs/{job_id}"})
        with pytest.raises(RayAgentJobFailedError) as caught:
            follow(forward_logs=forward_logs)
    text = str(caught.value)
    for fact in ("j1", "FAILED", "2.5 s", "exit code 1", "node n7", "http://dash/#/jobs/j1", "Check "):
        assert fact in text
    assert ("KeyError" in text) is not forward_logs


def test_looks_of_a_rescheduled_task_count_the_lines_together(connect: Connect) -> None:
    job = Job("".join(f"{line}\n" for line in LINES[:20]), "RUNNING")
    store, lines = StateStore(), []
    with ScriptedAgent(job) as agent:
        connect(agent)
        for _ in range(2):
            lines += look(store, max_lines=10, tail_lines=3)
        job.grow("".join(f"{line}\n" for line in LINES[20:]))
        job.set_status("SUCCEEDED")
        lines += look(store, max_lines=10, tail_lines=3)
    assert [line for line in lines if line in LINES] == [*LINES[:10], *LINES[-3:]]
    assert any(re.search(r"\b27 lines .* not shown", line) for line in lines)


def look(store: StateStore, **options: Any) -> list[str]:
    from airflow.sdk.exceptions import AirflowRescheduleException

    with task_log() as log, suppress(AirflowRescheduleException):
        run(context=make_context(task_state_store=store), mode="reschedule", **options)
    return log.messages


def test_a_new_try_that_resumes_the_log_counts_its_lines_anew(connect: Connect) -> None:
    store = StateStore()
    with ScriptedAgent(Job("".join(f"{line}\n" for line in LINES), "FAILED")) as agent:
        connect(agent)
        for try_number, shown in ((1, [*LINES[:5], *LINES[-2:]]), (2, [*LINES[5:10], *LINES[-2:]])):
            context = make_context(TaskInstance(try_number=try_number), task_state_store=store)
            with task_log() as log, pytest.raises(RayAgentJobFailedError):
                run(context=context, resume_log=True, max_lines=5, tail_lines=2)
            assert [message for message in log.messages if message in LINES] == shown
