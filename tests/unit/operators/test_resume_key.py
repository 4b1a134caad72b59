"""What a job learns of the task's earlier jobs, to continue their work: as environment variables."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from airflow_provider_rayagent.exceptions import RayAgentRunFailedError
from airflow_provider_rayagent.run.resume_key import SUCCESSES_KEY
from tests.scripted import Job
from tests.unit.both_ways import both_ways
from tests.unit.operators.started_jobs import ROOT, starting
from tests.unit.operators.submissions import ORIGIN, SUBMIT, make_operator, make_rendered, sent_by
from tests.unit.support import LoopTaskInstance, RefusingStore, StateStore, TaskInstance, make_context

if TYPE_CHECKING:
    from tests.scripted import ScriptedAgent
    from tests.unit.both_ways import Run

Try = Callable[..., "tuple[str, str | None]"]

run = both_ways(make_rendered)


@pytest.fixture
def submit(run: Run, ray: ScriptedAgent) -> Try:
    """Return what runs the next try of the task, which must start a job, and returns what that job got."""

    def submit(status: str, **options: Any) -> tuple[str, str | None]:
        ray.answers[SUBMIT] = [starting(ray, status=status)]
        submissions = len(ray.of(SUBMIT))
        if status == "SUCCEEDED":
            run(**options)
        else:
            with pytest.raises(RayAgentRunFailedError):
                run(**options)
        (sent,) = ray.of(SUBMIT)[submissions:]
        env_vars = json.loads(sent.body)["runtime_env"]["env_vars"]
        return env_vars["RAYAGENT_RESUME_KEY"], env_vars.get("RAYAGENT_PREVIOUS_JOB_ID")

    return submit


def test_all_tries_of_a_task_have_one_key_and_know_the_job_before_theirs(submit: Try) -> None:
    tries = [submit(status) for status in ("FAILED", "FAILED", "SUCCEEDED")]
    assert tries == [(ROOT, None), (ROOT, ROOT), (ROOT, f"{ROOT}-2")]


@pytest.mark.parametrize("has_store", [False, True])
def test_a_success_that_runs_again_has_a_new_key(submit: Try, has_store: bool) -> None:
    def submit_again(status: str) -> tuple[str, str | None]:
        return submit(status, if_succeeded="run_again", context=make_context(task_state_store=store))

    store = StateStore() if has_store else None
    assert submit_again("FAILED") == (ROOT, None)
    assert submit_again("SUCCEEDED") == (ROOT, ROOT)
    tries = [submit_again("FAILED"), submit_again("SUCCEEDED"), submit_again("SUCCEEDED")]
    assert tries == [(f"{ROOT}-2", None), (f"{ROOT}-2", f"{ROOT}-3"), (f"{ROOT}-3", None)]


def test_a_restarted_head_changes_no_key(submit: Try, ray: ScriptedAgent) -> None:
    """It has forgotten its jobs."""

    def submit_again(status: str) -> tuple[str, str | None]:
        ray.jobs.clear()
        return submit(status, if_succeeded="run_again", context=context)

    context = make_context(task_state_store=StateStore())
    tries = [submit_again(status) for status in ("FAILED", "SUCCEEDED", "FAILED", "SUCCEEDED")]
    assert tries == [(ROOT, None), (ROOT, None), (f"{ROOT}-2", None), (f"{ROOT}-2", None)]


def test_a_task_that_was_cleared_while_its_job_succeeded_ends_all_the_same(submit: Try) -> None:
    context = make_context(task_state_store=RefusingStore(SUCCESSES_KEY))
    assert submit("SUCCEEDED", if_succeeded="run_again", context=context) == (ROOT, None)


def test_another_run_map_index_or_iteration_has_a_key_of_its_own(submit: Try) -> None:
    ti = TaskInstance()
    looped = LoopTaskInstance(region_id=uuid4())
    contexts = [make_context(each) for each in (ti, replace(ti, run_id="run-8"), replace(ti, map_index=3))]
    contexts += [make_context(replace(looped, region_index=index), loop=object()) for index in (1, 2)]
    keys = [submit("SUCCEEDED", context=context)[0] for context in contexts]
    assert len(set(keys)) == 5


def test_a_job_id_of_the_authors_own_is_the_key(submit: Try) -> None:
    assert [submit(status, job_id="mine") for status in ("FAILED", "SUCCEEDED")] == [("mine", None), ("mine", "mine")]


def test_the_author_can_set_another_key(submit: Try) -> None:
    key, _ = submit("SUCCEEDED", runtime_env={"env_vars": {"RAYAGENT_RESUME_KEY": "mine"}})
    assert key == "mine"


def test_a_job_that_was_stopped_is_a_previous_one(ray: ScriptedAgent) -> None:
    ray.jobs[ROOT] = Job("", "STOPPED", ROOT, details={"metadata": ORIGIN})
    make_operator(wait=False).execute(make_context())
    assert sent_by(ray)["runtime_env"]["env_vars"]["RAYAGENT_PREVIOUS_JOB_ID"] == ROOT
