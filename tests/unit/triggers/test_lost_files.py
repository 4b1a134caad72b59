"""A triggerer that ends early, and whose log files are not part of the finished task's log."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import RayAgentError, RayAgentJobTimeoutError
from airflow_provider_rayagent.position import gaps
from airflow_provider_rayagent.position import log_files as logfiles
from airflow_provider_rayagent.position.trigger_position import POSITION_KEY, read_position
from airflow_provider_rayagent.triggers import rayagent as triggers
from tests.scripted import Job, Refuse, ScriptedAgent
from tests.unit.sensors.factory import resume
from tests.unit.supervisor import needs_xcoms, supervise
from tests.unit.support import TaskInstance, make_context, task_log
from tests.unit.triggers.driver import fired, make_trigger, running

if TYPE_CHECKING:
    from airflow_provider_rayagent.position.log_files import LogStorage
    from tests.unit.support import Serve, TaskLog

pytestmark = needs_xcoms

LINES = [f"line {number} {'x' * 90}" for number in range(1, 401)]
LONG = 200
"""Lines that are too many for a trigger to forward them again."""
MISSING = "is incomplete: "
TIMED_OUT = {"end": "timed out", "status": "RUNNING", "error": None}


@pytest.fixture(autouse=True)
def _take_over_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "TAKE_OVER_SECONDS", 0.05)


@pytest.fixture
def _each_its_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every process a log folder of its own."""
    folders = (str(number) for number in range(99))
    for module in (
        "airflow_provider_rayagent.position.trigger_position",
        "airflow_provider_rayagent.position.log_files",
    ):
        monkeypatch.setattr(f"{module}.log_folder_id", lambda: next(folders))


def text_of(lines: int) -> str:
    return "".join(f"{line}\n" for line in LINES[:lines])


@dataclass
class Story:
    """A deferred task from trigger to trigger to worker.

    :param storage: where its log files are kept.
    :param arguments: more of the sensor's.
    """

    agent: ScriptedAgent
    job: Job
    ti: TaskInstance
    storage: LogStorage = "remote"
    arguments: dict[str, Any] = field(default_factory=dict)
    killed: list[TaskLog] = field(default_factory=list)
    """What the triggers wrote that were killed."""

    @property
    def saved(self) -> Any:
        return self.ti.xcoms.get(POSITION_KEY)

    def trigger(self) -> Any:
        return make_trigger(self.ti, log_storage=self.storage, **self.arguments)

    def kill_at(self, lines: int, shown: int | None = None) -> TaskLog:
        """Let the job print up to so many lines, and a trigger die when it has saved those that it shows."""
        with task_log() as log:
            asyncio.run(self._until(lines, lines if shown is None else shown))
        self.killed.append(log)
        return log

    async def _until(self, lines: int, shown: int) -> None:
        self.job.grow(text_of(lines)[len(text_of(self.printed)) :])
        async with running(self.trigger()):
            await self.agent.reached(lambda: self.seen() == shown)
        await self.agent.reached(lambda: not self.agent.open_streams["j1"])

    @property
    def printed(self) -> int:
        return str(self.job.text).count("\n")

    def seen(self) -> int:
        found = read_position(self.saved, self.ti)
        return found["lines"] if found else 0

    def end(self, status: str = "SUCCEEDED") -> tuple[TaskLog, Any]:
        """Let the job end, and a trigger that fires."""
        self.job.set_status(status)
        with task_log() as log:
            event = asyncio.run(fired(self.trigger()))
        return log, event

    def conclude(self, event: Any, **arguments: Any) -> TaskLog:
        """Conclude in a worker."""
        with task_log() as log:
            self.resume("execute_complete", {"event": event}, **arguments)
        return log

    def finish(self) -> tuple[TaskLog, TaskLog]:
        """Let the job succeed, a trigger fire, and a worker conclude; return what the last two write."""
        last, event = self.end()
        return last, self.conclude(event)

    def resume(self, next_method: str, next_kwargs: dict[str, Any], **arguments: Any) -> Any:
        arguments = {"log_storage": self.storage, **self.arguments, **arguments}
        return resume(next_method, next_kwargs, make_context(self.ti), **arguments)


@pytest.fixture
def story(serve: Serve, ti: TaskInstance) -> Story:
    job = Job("", "RUNNING")
    return Story(serve(job), job, ti)


def lines_in(*logs: TaskLog) -> list[str]:
    known = set(LINES)
    return [line for log in logs for message in log.messages for line in message.split("\n") if line in known]


@pytest.mark.parametrize(("lines", "by_the_trigger"), [(20, True), (LONG, False)])
def test_few_lines_are_forwarded_by_the_next_trigger_and_many_by_the_worker_that_ends_the_task(
    lines: int, by_the_trigger: bool, story: Story
) -> None:
    story.kill_at(lines)
    last, worker = story.finish()
    assert lines_in(last) == (LINES[:lines] if by_the_trigger else [])
    assert lines_in(worker) == ([] if by_the_trigger else LINES[:lines])
    place = "here" if by_the_trigger else "by the worker"
    assert [warning for warning in last.warnings if f"lines 1 to {lines} are forwarded again {place}" in warning]
    told = [message for message in worker.messages if f"Forwarding lines 1 to {lines} of job j1" in message]
    assert len(told) == (not by_the_trigger)
    assert all(message.startswith("RA-305: ") for message in told)


def test_several_triggers_in_a_row_lose_nothing(story: Story) -> None:
    for lines in (LONG, LONG + 10, LONG + 150):
        story.kill_at(lines)
    story.job.grow(text_of(len(LINES))[len(text_of(story.printed)) :])
    last, worker = story.finish()
    assert Counter(lines_in(last, worker)) == Counter(LINES)
    assert len(story.saved["gaps"]) <= 2


@pytest.mark.parametrize("storage", ["shared", "auto"])
def test_where_files_are_shared_or_there_is_one_folder_for_all_nothing_is_forwarded_again(
    storage: LogStorage, story: Story
) -> None:
    story.storage = storage
    first = story.kill_at(LONG)
    last, worker = story.finish()
    assert lines_in(first, last, worker) == LINES[:LONG]
    assert lines_in(worker) == []


@pytest.mark.usefixtures("_each_its_own_folder")
@pytest.mark.parametrize("max_lines", [None, 50])
def test_where_each_keeps_its_own_files_the_worker_forwards_all(story: Story, max_lines: int | None) -> None:
    story.storage = "auto"
    if max_lines:
        story.arguments = {"display": {"max_lines": max_lines}}
    story.kill_at(LONG)
    _, event = story.end()
    story.arguments = {"max_lines": max_lines}
    worker = story.conclude(event)
    assert lines_in(worker) == LINES[: max_lines or LONG]


def test_remote_logs_are_found_out(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow.sdk.log.load_remote_log_handler", object)
    story.storage = "auto"
    story.kill_at(LONG)
    assert lines_in(*story.finish()) == LINES[:LONG]


def test_remote_logs_that_cannot_be_loaded_are_known_by_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ImportError("no such handler")

    monkeypatch.setattr("airflow.sdk.log.load_remote_log_handler", fail)
    assert logfiles.storage_of("auto", None) == "shared"
    monkeypatch.setenv("AIRFLOW__LOGGING__REMOTE_LOGGING", "True")
    assert logfiles.storage_of("auto", None) == "remote"


def test_a_result_in_lines_that_are_lost_is_kept(story: Story) -> None:
    story.arguments = {"result_markers": [["<<", ">>"]]}
    story.job.grow('<<{"loss":\n0.5}>>\n')
    asyncio.run(_saved(story, 2))
    story.job.grow("".join(f"{line}\n" for line in LINES[:LONG]))
    asyncio.run(_saved(story, 2 + LONG))
    _, event = story.end()
    story.arguments = {}
    told = story.resume("execute_complete", {"event": event}, read_result=True, result_markers=("<<", ">>"))
    assert told["result"] == {"loss": 0.5}


async def _saved(story: Story, lines: int) -> None:
    async with running(story.trigger()):
        await story.agent.reached(lambda: story.seen() == lines)


@pytest.mark.parametrize("stop_job_on_kill", [True, False])
def test_a_user_who_ends_the_task_is_told_which_lines_are_missing(
    story: Story, stop_job_on_kill: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end() -> None:
        trigger = story.trigger()
        async with running(trigger):
            await story.agent.reached(lambda: story.agent.open_streams["j1"])
        await trigger.on_kill()

    story.kill_at(LONG)
    story.arguments = {"stop_job_on_kill": stop_job_on_kill}
    supervise(story.ti, monkeypatch).state = "failed"
    with task_log() as log:
        asyncio.run(end())
    (warning,) = [warning for warning in log.warnings if MISSING in warning]
    assert f"lines 1 to {LONG} were in the log file" in warning
    assert story.job.stop_calls == int(stop_job_on_kill)


def test_a_log_that_was_rewritten_since_is_said_to_lack_the_lines(story: Story) -> None:
    story.kill_at(LONG)
    story.job.text = "another text\n" * 5
    last, worker = story.finish()
    assert [warning for warning in last.warnings if MISSING in warning and "rewritten" in warning]
    assert lines_in(last, worker) == []
    assert story.saved["gaps"] == []
    assert not [message for message in worker.messages if "Forwarding" in message]


def test_a_task_that_timed_out_and_a_deferral_that_no_triggerer_ended_have_the_lines_too(story: Story) -> None:
    story.kill_at(LONG)
    story.kill_at(LONG + 1)
    with task_log() as worker, pytest.raises(RayAgentJobTimeoutError):
        story.resume("execute_complete", {"event": TIMED_OUT})
    assert lines_in(worker) == LINES[:LONG]
    story.job.set_status("SUCCEEDED")
    with task_log() as worker:
        story.resume("__fail__", {"error": "Trigger timeout"})
    assert lines_in(worker) == LINES[: LONG + 1]


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({"end": "job missing", "status": None, "error": None}, "the job does not exist"),
        ({"end": "agent unreachable", "status": None, "error": ["RayAgentHTTPError", "no luck", 503]}, "no luck"),
    ],
)
def test_where_the_agent_is_gone_the_lines_are_said_to_be_missing(
    story: Story, event: dict[str, Any], why: str
) -> None:
    story.kill_at(LONG)
    story.kill_at(LONG + 1)
    with task_log() as worker, pytest.raises(RayAgentError):
        story.resume("execute_complete", {"event": event})
    (warning,) = [warning for warning in worker.warnings if MISSING in warning]
    assert why in warning


def test_a_log_that_cannot_be_read_again_does_not_decide_the_outcome(story: Story) -> None:
    story.kill_at(LONG)
    _, event = story.end()
    story.job.full = [Refuse(404)]
    story.job.ws = story.job.sse = [Refuse(404)]
    worker = story.conclude(event, execution_timeout=timedelta(seconds=4))
    assert [warning for warning in worker.warnings if MISSING in warning]


def test_a_log_folder_is_known_by_a_file_in_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    def identity(folder: str) -> str | None:
        monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path / folder))
        logfiles.log_folder_id.cache_clear()
        return logfiles.log_folder_id()

    a, b, again = identity("a"), identity("b"), identity("a")
    assert a == again
    assert None is not a != b
    (tmp_path / "file").write_text("")
    assert identity("file") is None
    logfiles.log_folder_id.cache_clear()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [logfiles.MARKER]


def test_the_threshold_is_what_the_tests_take_it_for() -> None:
    assert len(text_of(20)) < gaps.SHORT_GAP_CHARS < len(text_of(LONG))
