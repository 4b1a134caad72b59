"""One table of histories, for a task in a worker and one that is deferred: all that can be seen is the same."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from airflow_provider_rayagent.exceptions import (
    RayAgentAuthenticationError,
    RayAgentError,
    RayAgentInputError,
    RayAgentJobFailedError,
    RayAgentJobMissingError,
    RayAgentJobStoppedError,
    RayAgentJobTimeoutError,
    RayAgentServerError,
)
from tests.scripted import (
    DEFAULT,
    Action,
    Complete,
    Follow,
    Grow,
    Hold,
    Job,
    Play,
    Refuse,
    Reset,
    ScriptedAgent,
    SetStatus,
    Sleep,
)
from tests.tail.jobs import UntilRead
from tests.unit.sensors.deferral import WAYS
from tests.unit.supervisor import supervise
from tests.unit.support import TOKEN, TaskInstance, task_log, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.scripted import Step
    from tests.scripted.exchange import Exchange
    from tests.unit.support import Connect

GET = "GET jobs/j1/"
LINES = ["begin", "", "  indented", "same", "same", *(f"line {number} é漢\U0001f680" for number in range(60))]
TEXT = "".join(f"{line}\n" for line in LINES)
TIMES = {"start_time": 1_000, "end_time": 3_500}


@dataclass(frozen=True)
class History:
    """What happens, and the class of the error that it ends in.

    :param job: makes the job anew; ``None``: the agent knows none.
    :param arguments: of the sensor.
    """

    job: Callable[[], Job] | None
    error: type[BaseException] | None = None
    answers: dict[str, list[Step]] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    token: str | None = None


def ending(status: str, **overrides: Any) -> Callable[[], Job]:
    """Return what makes a job that writes its log by and by and then ends."""
    pieces = [TEXT[at : at + 150] for at in range(0, len(TEXT), 150)]
    timeline = [action for piece in pieces for action in (Grow(piece), Sleep(0.02))]
    return lambda: Job(
        **{"status": "RUNNING", "timeline": [*timeline, SetStatus(status)], "details": TIMES, **overrides}
    )


def ended(status: str, **overrides: Any) -> Callable[[], Job]:
    return lambda: Job(TEXT, status, **{"details": TIMES, **overrides})


def running(polls: Iterable[str] = (), timeline: Sequence[Action] = ()) -> Job:
    return Job(TEXT, "RUNNING", details=TIMES, ws=[Play(Follow(), Hold())], polls=polls, timeline=timeline)


@dataclass(frozen=True)
class AnswerStatus(Action):
    """Answer every request for the status with this from now on."""

    step: Step

    async def run(self, x: Exchange) -> None:
        cast("ScriptedAgent", x.agent).answers[GET] = [self.step]


def read_and_then(step: Step) -> Callable[[], Job]:
    """Return what makes a job whose status is answered with this once its log has been read."""
    return lambda: running(timeline=[UntilRead(), AnswerStatus(step)])


def ended_at_the_last_look() -> Job:
    return running(until(time.time() + 0.6))


FAILED = "Job entrypoint command failed with exit code 1, last lines:\nKeyError: 'x'"
BROKEN = [*(Play(Follow(stop=stop), Reset()) for stop in (7, 400)), Play(Follow(stop=700), Complete()), DEFAULT]
HISTORIES = {
    "succeeds": History(ending("SUCCEEDED")),
    "fails": History(ending("FAILED", message=FAILED), RayAgentJobFailedError),
    "is stopped": History(ending("STOPPED"), RayAgentJobStoppedError),
    "ends in a status that ray does not have": History(ending("EVICTED"), RayAgentJobFailedError),
    "had succeeded": History(ended("SUCCEEDED")),
    "had failed": History(ended("FAILED", message=FAILED), RayAgentJobFailedError),
    "streams break": History(ending("SUCCEEDED", ws=BROKEN, sse=BROKEN)),
    "log cannot be read": History(
        ending("SUCCEEDED", ws=[Refuse(500)], sse=[Refuse(500)], full=[Refuse(500)]), arguments={"poke_interval": 0.5}
    ),
    "log is not wanted": History(ending("FAILED"), RayAgentJobFailedError, arguments={"forward_logs": False}),
    "was never known": History(None, RayAgentJobMissingError, arguments={"job_missing_timeout": 0.4}),
    "vanishes": History(read_and_then(Refuse(404)), RayAgentJobMissingError, arguments={"job_missing_timeout": 0.2}),
    "is queued at first": History(ending("SUCCEEDED"), answers={GET: [Refuse(404), DEFAULT]}),
    "agent goes away": History(
        read_and_then(Refuse(503)), RayAgentServerError, arguments={"agent_unreachable_timeout": 0.3}
    ),
    "token is refused": History(running, RayAgentAuthenticationError, token="another"),
    "takes too long": History(running, RayAgentJobTimeoutError, arguments={"timeout": 0.6}),
    "ends just in time": History(ended_at_the_last_look, arguments={"timeout": 0.6, "poke_interval": 30.0}),
    "id is not valid": History(running, RayAgentInputError, arguments={"job_id": "../x"}),
}


@dataclass
class Seen:
    """What an operator sees of a task."""

    result: Any = None
    error: type[BaseException] | None = None
    words: str = ""
    status_code: int | None = None
    xcom: Any = None
    lines: list[str] = field(default_factory=list)
    warnings: int = 0


def see(way: str, history: History, connect: Connect, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> Seen:
    """Run one history one way."""
    # A job that ends at a moment counts from here, a task's timeout from the start of its instance.
    jobs = [history.job()] if history.job else []
    seen, ti = Seen(), TaskInstance()
    supervise(ti, monkeypatch)
    with ScriptedAgent(*jobs, answers=history.answers, token=history.token) as agent, task_log() as log:
        connect(agent)
        try:
            seen.result = WAYS[way](ti, **{"poke_interval": 0.5, **history.arguments, **arguments})
        except (RayAgentError, AirflowException) as error:
            seen.error, seen.words = type(error), str(error).replace(str(agent.port), "PORT")
            seen.status_code = getattr(error, "status_code", None)
        agent.wait_until(lambda: agent.open_connections == 0)
    seen.xcom = ti.xcoms.get("return_value")
    forwarded = [message for message in log.messages if not message.startswith("The last lines of job")]
    seen.lines = [line for message in forwarded for line in message.split("\n") if line in LINES]
    seen.warnings = len(log.warnings)
    assert not [message for message in log.messages if TOKEN in message]
    return seen


def assert_same(worker: Seen, deferred: Seen, history: History) -> None:
    if history.error is RayAgentJobTimeoutError:
        # How many lines come before the time is up depends on the machine.
        for seen in (worker, deferred):
            assert seen.lines == LINES[: len(seen.lines)]
        worker.lines = deferred.lines
    assert deferred == worker


@pytest.mark.parametrize("name", HISTORIES)
def test_the_outcome_the_xcom_the_error_and_the_lines_are_the_same(
    name: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = HISTORIES[name]
    worker, deferred = (see(way, history, connect, monkeypatch) for way in ("worker", "deferred"))
    assert_same(worker, deferred, history)
    assert worker.error is history.error
    if history.error is None:
        assert worker.result["status"] == "SUCCEEDED"
    if history.error is None and "cannot" not in name:
        assert worker.lines == LINES


@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("name", ["fails", "had failed", "takes too long", "was never known", "token is refused"])
def test_what_is_skipped_and_what_is_not_is_the_same(
    name: str, option: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = HISTORIES[name]
    worker, deferred = (see(way, history, connect, monkeypatch, **{option: True}) for way in ("worker", "deferred"))
    assert_same(worker, deferred, history)
    blamed = history.error is not None and issubclass(history.error, (AirflowFailException, AirflowSensorTimeout))
    assert worker.error is (AirflowSkipException if blamed or option == "never_fail" else history.error)
