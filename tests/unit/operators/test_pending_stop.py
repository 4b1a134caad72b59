"""A task requests the stop of its PENDING job, which Ray applies when the job starts; then the task is tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import RayAgentJobNotStartedError, RayAgentJobStoppedError
from airflow_provider_rayagent.run import job_finder
from airflow_provider_rayagent.run.job_ids import numbered
from tests.scripted import Job, Refuse, SetStatus, Sleep
from tests.stack.watch import PATIENCE
from tests.unit.both_ways import both_ways
from tests.unit.operators.started_jobs import ROOT, starting
from tests.unit.operators.submissions import ORIGIN, SUBMIT, make_operator
from tests.unit.support import StateStore, TaskInstance, make_context, task_log

if TYPE_CHECKING:
    from tests.scripted import ScriptedAgent
    from tests.unit.both_ways import Run


run = both_ways(make_operator)


@pytest.mark.parametrize(
    ("has_store", "is_accepted"),
    [
        (True, True),
        # The job may start.
        (True, False),
        # Before Airflow 3.3, the task does not know of the request.
        (False, True),
    ],
)
def test_the_next_try_follows_it_only_if_it_is_not_known_to_be_stopped(
    has_store: bool, is_accepted: bool, ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_finder, "STOP_SECONDS", 0.1)
    store: dict[str, Any] = {"task_state_store": StateStore()} if has_store else {}
    if not is_accepted:
        ray.answers[f"POST jobs/{ROOT}/stop/"] = [Refuse(503)]
    ray.answers[SUBMIT] = [starting(ray, first="PENDING", timeline=(), stop_delay=PATIENCE)]
    with pytest.raises(RayAgentJobNotStartedError):
        make_operator(start_timeout=0.5).execute(make_context(**store))
    assert list(ray.jobs) == [ROOT]
    ray.answers[SUBMIT] = [starting(ray, timeline=(), stop_delay=PATIENCE)]
    job_id = make_operator(wait=False).execute(make_context(TaskInstance(2), **store))
    assert job_id == (numbered(ROOT, 2) if has_store and is_accepted else ROOT)
    assert job_id in ray.jobs
    # Another try follows the job of the last one, whatever came of the first.
    assert make_operator(wait=False).execute(make_context(TaskInstance(3), **store)) == job_id


@pytest.mark.parametrize("argument", [None, "own-2"])
def test_a_try_that_followed_it_starts_another_job(argument: str | None, ray: ScriptedAgent, run: Run) -> None:
    first = argument or ROOT
    timeline = [Sleep(0.5), SetStatus("STOPPED")]
    ray.jobs[first] = Job("", "PENDING", first, timeline=timeline, details={"metadata": ORIGIN})
    ray.answers[SUBMIT] = [starting(ray)]
    ti = TaskInstance(2)
    with task_log() as log:
        assert run(context=make_context(ti), job_id=argument)["status"] == "SUCCEEDED"
    # A second trigger of the try would delete the lines of the first one.
    assert sum(message.startswith("Deferring:") for message in log.messages) <= 1
    assert list(ray.jobs) == [first, numbered(first, 2)]
    assert ti.xcoms["job_id"] == numbered(first, 2)


def test_a_job_that_is_stopped_later_fails_the_task(ray: ScriptedAgent, run: Run) -> None:
    timeline = [Sleep(0.5), SetStatus("STOPPED")]
    ray.jobs[ROOT] = Job("", "RUNNING", ROOT, timeline=timeline, details={"metadata": ORIGIN})
    with pytest.raises(RayAgentJobStoppedError):
        run(context=make_context(TaskInstance(2)))
    assert list(ray.jobs) == [ROOT]
