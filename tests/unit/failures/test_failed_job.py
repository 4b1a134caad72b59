"""The look at a failed job in a worker: it ends in time, and never changes the outcome."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.failures import explanation
from airflow_provider_rayagent.run import failed_job
from airflow_provider_rayagent.transport import daemon_threads
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from tests.unit.failures.test_failure_look import JOB, NODES, TASK

if TYPE_CHECKING:
    from collections.abc import Callable


CONFIG = read_config(host="http://127.0.0.1:1", extra={"service": "ray"})


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., object]], Any]:
    """Return a function that looks at a failed job with another way to carry out an operation."""

    def look(send: Callable[..., object]) -> Any:
        monkeypatch.setattr(BlockingServiceClient, "send", lambda _, steps, **__: send(steps))
        return failed_job.look_at_failure(CONFIG, JOB)

    return look


@pytest.mark.parametrize("status", ["SUCCEEDED", "STOPPED", "EVICTED"])
def test_ray_is_asked_about_failed_jobs_only(status: str) -> None:
    assert failed_job.look_at_failure(CONFIG, {**JOB, "status": status}) is None


def test_what_was_found_in_time_is_told_though_ray_does_not_end(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_job, "LOOK_SECONDS", 0.5)
    released, ended = threading.Event(), threading.Event()

    def send(steps: Any) -> None:
        next(steps)
        # The nodes, the failed tasks, the dead actors, and the attempts of the task.
        for answer in (NODES, [TASK], [], [TASK]):
            steps.send(answer)
        released.wait()
        # No further request is sent.
        with pytest.raises(StopIteration):
            steps.send([])
        ended.set()

    try:
        found = look(send)
    finally:
        released.set()
        ended.wait()
    text = explanation.explain(JOB, "j1", found, log_is_shown=True).text
    assert "1 task f failed: its process died" in text
    assert "Ray did not tell all that it has recorded within 0.5 seconds." in text


def test_a_timeout_of_the_task_ends_the_look_and_not_the_explanation(
    look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_out(*_: object) -> bool:
        raise AirflowTaskTimeout

    monkeypatch.setattr(daemon_threads, "is_done_within", time_out)
    assert "did not tell all" in look(lambda _: None).note


def test_an_error_in_the_look_itself_is_told(look: Any) -> None:
    def send(steps: Any) -> None:
        raise RuntimeError("broken\nRA-999")

    assert look(send).note == "What Ray recorded about this job could not be read: broken\\x0aRA-999"
