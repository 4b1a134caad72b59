"""A task that runs a job ends in each phase of its worker: what becomes of the job, and which error says so."""

from __future__ import annotations

import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout
from airflow.sdk.execution_time import timeout as airflows

from airflow_provider_rayagent.exceptions import RayAgentError, RayAgentJobNotStartedError, RayAgentRunFailedError
from airflow_provider_rayagent.run import job_finder, stopper
from airflow_provider_rayagent.transport import blocking_driver
from tests.scripted import DEFAULT, Do, Job, Refuse, WaitFor
from tests.stack.watch import PATIENCE
from tests.unit.operators.started_jobs import ROOT, starting
from tests.unit.operators.submissions import ORIGIN, SUBMIT, make_operator
from tests.unit.sensors.kills import send_signal
from tests.unit.supervisor import supervise
from tests.unit.support import TaskInstance, make_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import Request, ScriptedAgent
    from tests.unit.support import TaskLog

GET, STOP = f"GET jobs/{ROOT}/", f"POST jobs/{ROOT}/stop/"
LINE = "epoch 1"


class Moment:
    """The moment at which the task ends, and what leads to it.

    :param end: ends the task.
    """

    def __init__(self, ray: ScriptedAgent, log: TaskLog, end: Callable[[], None]) -> None:
        self.ray = ray
        self.log = log
        self.ti = TaskInstance()
        self.options: dict[str, Any] = {}
        self._end = end
        self._has_come = False

    def come(self) -> None:
        """End the task, the first time."""
        if not self._has_come:
            self._has_come = True
            self._end()

    def come_at(self, route: str, number: int = 1) -> None:
        """End the task while it waits for the response to a request."""

        def on_request(request: Request) -> None:
            if request.route == route and len(self.ray.of(route)) == number:
                self.come()

        self.ray.on_request = on_request

    def find_running(self) -> None:
        """Let the task find that its job is running."""
        self.ray.jobs[ROOT] = Job("", "RUNNING", ROOT, details={"metadata": ORIGIN})


class PushingInstance(TaskInstance):
    """One at whose XCom the moment comes."""

    moment: Moment

    def xcom_push(self, key: str, value: Any) -> None:
        super().xcom_push(key, value)
        if key == "return_value":
            self.moment.come()


def looking_for_no_job(moment: Moment) -> None:
    moment.come_at(GET)


def looking_for_its_job(moment: Moment) -> None:
    moment.find_running()
    moment.come_at(GET)


def waiting_for_the_stop_of_its_job(moment: Moment) -> None:
    moment.find_running()
    moment.come_at(GET, number=2)


def starting_its_job(moment: Moment) -> None:
    start: Any = starting(moment.ray, timeline=())

    def start_and_come(request: Request) -> Any:
        answer = start(request)
        moment.come()
        return answer

    moment.ray.answers[SUBMIT] = [start_and_come]


def following_its_job(moment: Moment) -> None:
    timeline = [WaitFor(lambda: LINE in moment.log.messages), Do(moment.come)]
    moment.find_running()
    moment.ray.jobs[ROOT].grow(f"{LINE}\n")
    moment.ray.jobs[ROOT].timeline = timeline


def concluding_from_a_failure(moment: Moment) -> None:
    moment.ti = ti = PushingInstance()
    ti.moment = moment
    moment.ray.answers[SUBMIT] = [starting(moment.ray, status="FAILED")]


def stopping_its_job(moment: Moment) -> None:
    moment.options["start_timeout"] = 0.3
    moment.ray.answers[SUBMIT] = [starting(moment.ray, first="PENDING", timeline=())]
    moment.come_at(STOP)


def failing_to_stop_its_job(moment: Moment) -> None:
    def refuse(_: Request) -> Any:
        moment.come()
        return Refuse(503)

    stopping_its_job(moment)
    moment.ray.answers[STOP] = [refuse, DEFAULT]


class Cell(NamedTuple):
    """What follows.

    :param job: status of the job; ``None``: there is none.
    """

    job: str | None
    error: type[BaseException]


RUNNING, STOPPED = "RUNNING", "STOPPED"
TIMED_OUT = AirflowTaskTimeout
TABLE: dict[Callable[[Moment], None], tuple[Cell, Cell, Cell]] = {
    # The job of a task whose timeout expires before it knows of the job runs on for the next try.
    looking_for_no_job: (Cell(None, RayAgentError), Cell(None, RayAgentError), Cell(None, TIMED_OUT)),
    looking_for_its_job: (Cell(STOPPED, RayAgentError), Cell(RUNNING, RayAgentError), Cell(RUNNING, TIMED_OUT)),
    waiting_for_the_stop_of_its_job: (
        Cell(STOPPED, RayAgentError),
        Cell(RUNNING, RayAgentError),
        Cell(STOPPED, TIMED_OUT),
    ),
    starting_its_job: (Cell(STOPPED, RayAgentError), Cell(RUNNING, RayAgentError), Cell(STOPPED, TIMED_OUT)),
    following_its_job: (Cell(STOPPED, RayAgentError), Cell(RUNNING, RayAgentError), Cell(STOPPED, TIMED_OUT)),
    concluding_from_a_failure: (
        Cell("FAILED", RayAgentRunFailedError),
        Cell("FAILED", RayAgentRunFailedError),
        Cell("FAILED", TIMED_OUT),
    ),
    stopping_its_job: (
        Cell(STOPPED, RayAgentJobNotStartedError),
        Cell(STOPPED, RayAgentJobNotStartedError),
        Cell(STOPPED, TIMED_OUT),
    ),
    failing_to_stop_its_job: (
        Cell("PENDING", RayAgentJobNotStartedError),
        Cell("PENDING", RayAgentJobNotStartedError),
        # Requested again, since the first request was interrupted.
        Cell(STOPPED, TIMED_OUT),
    ),
}
"""By phase: a user marks the task as failed; its worker ends, but not the task; its ``execution_timeout`` expires."""
EVENTS = ("marked failed", "worker ends", "execution timeout")
CELLS = [
    pytest.param(phase, event, cell, id=f"{phase.__name__}, {event}")
    for phase, row in TABLE.items()
    for event, cell in zip(EVENTS, row, strict=True)
]


@pytest.fixture(autouse=True)
def _looks_up_often_and_is_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking_driver, "SLICE_SECONDS", 0.1)
    monkeypatch.setattr(job_finder, "STOP_SECONDS", 0.5)
    monkeypatch.setattr(stopper, "KILL_SECONDS", PATIENCE)


@pytest.mark.parametrize(("phase", "event", "cell"), CELLS)
def test_a_task_that_ends_in_a_worker(
    phase: Callable[[Moment], None],
    event: str,
    cell: Cell,
    ray: ScriptedAgent,
    log: TaskLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moment = Moment(ray, log, lambda: send_signal(signal.SIGALRM if event == EVENTS[2] else signal.SIGUSR1))
    phase(moment)
    supervise(moment.ti, monkeypatch).state = "failed" if event == EVENTS[0] else "running"
    operator = make_operator(execution_timeout=timedelta(seconds=PATIENCE), **moment.options)
    before = signal.signal(signal.SIGUSR1, lambda *_: operator.on_kill())
    ends: Any = airflows.timeout
    try:
        with pytest.raises(cell.error) as raised, ends(PATIENCE):
            operator.execute(make_context(moment.ti))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert type(raised.value) is cell.error
    # Ray sets the status a moment after it has answered the request for the stop.
    ray.wait_until(lambda: [job.status for job in ray.jobs.values()] == [cell.job] * (cell.job is not None))
    assert cell.job != RUNNING or ray.of(STOP) == []
    assert len(ray.of(SUBMIT)) <= 1
    assert log.lines_of(f"{LINE}\n") == [LINE] * (phase in (following_its_job, concluding_from_a_failure))
    ray.wait_until(lambda: ray.open_connections == 0)
