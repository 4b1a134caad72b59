"""The look at a failed job in a worker: it ends in time, and never changes the outcome."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_provider_rayagent.failures import explanation
from airflow_provider_rayagent.run import failed_job
from airflow_provider_rayagent.services.ray_service import RAY
from airflow_provider_rayagent.transport import daemon_threads
from tests.unit.failures.test_failure_look import JOB, NODES, TASK

if TYPE_CHECKING:
    from collections.abc import Callable


def look(send: Callable[..., object]) -> Any:
    client: Any = SimpleNamespace(config=SimpleNamespace(service=RAY), send=send)
    return failed_job.look_at_failure(client, JOB)


@pytest.mark.parametrize("status", ["SUCCEEDED", "STOPPED", "EVICTED"])
def test_ray_is_asked_about_failed_jobs_only(status: str) -> None:
    assert failed_job.look_at_failure(None, {**JOB, "status": status}) is None  # type: ignore[arg-type]


def test_what_was_found_in_time_is_told_though_ray_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_job, "LOOK_SECONDS", 0.5)
    released = threading.Event()

    def send(steps: Any, **_: Any) -> None:
        next(steps)
        steps.send(NODES)
        steps.send([TASK])
        # The next step is sent when the tasks and the actors are known; its answer never comes.
        steps.send([])
        released.wait()

    found = look(send)
    text = explanation.explain(JOB, "j1", found, log_is_shown=True).text
    assert "1 task f failed: its process died" in text
    assert "Ray did not tell all that it has recorded within 0.5 seconds." in text
    released.set()


def test_a_timeout_of_the_task_ends_the_look_and_not_the_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    def time_out(*_: object) -> bool:
        raise AirflowTaskTimeout

    monkeypatch.setattr(daemon_threads, "is_done_within", time_out)
    assert "did not tell all" in look(lambda steps, **_: None).note


def test_an_error_in_the_look_itself_is_told() -> None:
    def send(steps: Any, **_: Any) -> None:
        raise RuntimeError("broken\nRA-999")

    assert look(send).note == "What Ray recorded about this job could not be read: broken\\x0aRA-999"
