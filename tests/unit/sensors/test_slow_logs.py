"""A log that arrives so slowly after the job's end that it could take hours: the task's time limits hold."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.execution_time import timeout as airflows

from airflow_provider_rayagent.position.gaps import Gap
from airflow_provider_rayagent.run import printed_output
from airflow_provider_rayagent.tail import draining
from airflow_provider_rayagent.tail.cursor import Cursor
from tests.scripted import DEFAULT, Do, Job, Play, Refuse, Repeat, SetStatus, Sleep, WaitFor, Wire
from tests.stack.watch import PATIENCE
from tests.unit.sensors.factory import make_sensor, resume, run_in_worker
from tests.unit.sensors.kills import send_signal
from tests.unit.support import TaskInstance, make_context

if TYPE_CHECKING:
    from tests.unit.both_ways import Run
    from tests.unit.support import Serve, TaskLog

pytestmark = pytest.mark.timeout(PATIENCE)
"""Without limits, these tests would not end."""

SLOW = Play(
    Wire("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"),
    Repeat(b"7\r\na line\n\r\n"),
)
LOST = "RA-302: Could not read the end of the job's log; lines may be missing here."
GET = "GET jobs/j1/"
ENDED: dict[str, Any] = {"timeline": [], "status": "SUCCEEDED"}


@pytest.fixture(autouse=True)
def _waits_for_the_log_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "FAILING_SECONDS", 0.5)


def make_job(**overrides: Any) -> Job:
    """Return a job that ends while it is followed, and whose log is slow."""
    timeline = [Sleep(0.2), SetStatus("SUCCEEDED")]
    return Job(**{"status": "RUNNING", "timeline": timeline, "ws": [Refuse(404)], "sse": [Refuse(404)], **overrides})


@pytest.mark.parametrize(
    ("mode", "job"),
    [("poke", {}), ("poke", ENDED), ("reschedule", ENDED)],
    ids=["ends", "ended", "ended, reschedule"],
)
def test_the_timeout_ends_the_reading_and_the_task_has_succeeded(
    mode: str, job: dict[str, Any], run: Run, serve: Serve, log: TaskLog
) -> None:
    agent = serve(make_job(full=[SLOW], **job))
    assert run(mode=mode, timeout=1, poke_interval=0.2)["status"] == "SUCCEEDED"
    assert log.warnings == [LOST]
    assert "a line" in log.messages
    agent.wait_until(lambda: agent.open_connections == 0)


def test_after_an_execution_timeout_the_log_is_read_no_longer_than_a_minute(serve: Serve, log: TaskLog) -> None:
    job = make_job(full=[SLOW])
    serve(job)
    job.timeline = [SetStatus("SUCCEEDED"), WaitFor(lambda: "a line" in log.messages), Do(send_alarm)]
    ends: Any = airflows.timeout
    with ends(PATIENCE):
        assert run_in_worker(timeout=PATIENCE)["status"] == "SUCCEEDED"
    assert log.warnings == [LOST]


def send_alarm() -> None:
    """Send the signal of Airflow's timer for the ``execution_timeout``."""
    send_signal(signal.SIGALRM)


def test_a_deferral_that_no_triggerer_ended_reads_the_log_for_a_minute(serve: Serve, log: TaskLog) -> None:
    serve(Job(full=[SLOW]))
    assert resume("__fail__", {"error": "Trigger timeout"})["status"] == "SUCCEEDED"
    assert log.warnings == [LOST]


def test_a_result_is_looked_for_again_for_a_limited_time(
    serve: Serve, log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long a log may arrive after the job's end.
    monkeypatch.setattr(draining, "FAILING_SECONDS", PATIENCE)
    monkeypatch.setattr(printed_output, "READ_AGAIN_SECONDS", 0.5)
    serve(Job(full=[SLOW]))
    event = {"end": "job ended", "status": "SUCCEEDED", "error": None}
    assert resume("execute_complete", {"event": event}, read_result=True)["result"] is None
    words = "Cannot read the log of job j1 to find its result and messages: reading it took more than 0.5 seconds."
    assert f"RA-308: {words}" in log.warnings


def test_lost_lines_are_forwarded_for_a_limited_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "FAILING_SECONDS", PATIENCE)
    serve(Job(full=[SLOW]))
    run = make_sensor()._new_run(make_context(TaskInstance()), "j1")
    why = run.observer.forward_gap(Gap(Cursor().to_json(), None), 900, 0.5)
    assert why == "reading them took more than 0.5 seconds"


@pytest.mark.parametrize(("timeout", "seconds"), [(None, 600.0), (100.0, 50.0), (-5.0, 0.0)])
def test_half_of_what_is_left_is_reserved_for_the_outcome(timeout: float | None, seconds: float) -> None:
    expires = float("inf") if timeout is None else time.monotonic() + timeout
    assert printed_output.seconds_to_read_again(expires) == pytest.approx(seconds, abs=10)


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_rejected_request_does_not_end_a_task_that_got_an_answer(mode: str, run: Run, serve: Serve) -> None:
    # The first answer is that of the worker before it defers, of an earlier poke, or of the same process.
    job = Job("a\n", "RUNNING", ws=[Refuse(404)], sse=[Refuse(404)])
    answers = [*([DEFAULT] if mode == "poke" else []), Refuse(401), Do(lambda: job.set_status("SUCCEEDED")), DEFAULT]
    serve(job, answers={GET: answers})
    context = make_context()
    context["task_reschedule_count"] = int(mode == "reschedule")
    assert run(context=context, mode=mode, poke_interval=0.2)["status"] == "SUCCEEDED"
