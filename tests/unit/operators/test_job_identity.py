"""Which job is a task's: its derived id, for loops, deployments and later tries."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from airflow_provider_rayagent.exceptions import (
    RayAgentUnsupportedError,
)
from airflow_provider_rayagent.run.job_ids import MAX_BASE_ID, derived_id
from airflow_provider_rayagent.task_instance.identity import job_key
from airflow_provider_rayagent.text.codes import Code
from tests.scripted import Job, ScriptedAgent
from tests.stack.processes import NO_AGENT
from tests.unit.operators.plugin_runs import RUN, make_operator
from tests.unit.operators.started_jobs import ROOT, starting
from tests.unit.support import LoopTaskInstance, StateStore, TaskInstance, make_context

if TYPE_CHECKING:
    from tests.unit.both_ways import Run
    from tests.unit.support import Connect, Serve

RUN_ID = "manual__2026-01-31T00:00:00+00:00"
KEY = ("night", "run-7", "follow", "-1")
NAMESPACED = derived_id(KEY, "production")


def test_a_task_that_goes_on_elsewhere_follows_its_own_job(connect: Connect) -> None:
    connect(NO_AGENT)
    operator = make_operator()
    ti = TaskInstance(xcoms={"job_id": f"{ROOT}-2"})
    assert operator._resumed_run(make_context(ti)).job_id == f"{ROOT}-2"


@pytest.mark.parametrize(
    ("dag_id", "task_id", "map_index"),
    [("night", "train", -1), ("nacht.täglich", "größe.x", 3), ("d" * 250, "t" * 250, 1023), ("…", "…", None)],
)
def test_a_derived_id_is_valid_and_the_tasks_own(dag_id: str, task_id: str, map_index: int | None) -> None:
    ti = TaskInstance(dag_id=dag_id, run_id=RUN_ID, task_id=task_id, map_index=map_index)  # type: ignore[arg-type]
    job_id = id_of(ti)
    assert re.fullmatch("[a-zA-Z0-9_-]+", job_id)
    assert len(job_id) <= MAX_BASE_ID
    others = [
        replace(ti, run_id="another"),
        replace(ti, dag_id=f"{dag_id}x"),
        replace(ti, task_id=f"{task_id}x"),
        replace(ti, map_index=7),
    ]
    assert len({job_id, *map(id_of, others)}) == 5
    assert id_of(replace(ti, try_number=2, id=uuid4())) == job_id


def id_of(ti: TaskInstance) -> str:
    return derived_id(job_key(make_context(ti)))


def test_a_derived_id_never_changes() -> None:
    """The jobs of tasks that run while the package is upgraded are found by it."""
    assert id_of(TaskInstance(task_id="train")) == "night-train-5852e91e08c4057b"
    assert id_of(TaskInstance(task_id="train", map_index=3)) == "night-train-8092115747605a22"
    region = UUID("01a215cb-ae51-7556-8fc7-b09cbe61d2e2")
    looped = LoopTaskInstance(task_id="train", region_id=region, region_index=1)
    assert derived_id(job_key(make_context(looped, loop=object()))) == "night-train-a1fef90556251802"


def test_each_iteration_of_a_loop_has_a_job_of_its_own(run: Run, agent: ScriptedAgent) -> None:
    region = uuid4()
    iterations = [LoopTaskInstance(region_id=region, region_index=index) for index in (0, 1)]
    agent.answers[RUN] = [starting(agent), starting(agent)]
    ids = [run(context=make_context(ti, loop=object()))["submission_id"] for ti in iterations]
    assert [json.loads(sent.body)["job_id"] for sent in agent.of(RUN)] == ids
    assert len({*ids, ROOT}) == 3
    assert [ti.xcoms["job_id"] for ti in iterations] == ids


def test_where_airflow_tells_tasks_apart_in_an_unknown_way_no_job_is_started(run: Run, agent: ScriptedAgent) -> None:
    with pytest.raises(RayAgentUnsupportedError, match="instances by region_index, which") as caught:
        run(context=make_context(LoopTaskInstance()))
    assert caught.value.code is Code.TASK_IDENTITY
    assert agent.of(RUN) == []
    assert run(context=make_context(LoopTaskInstance()), job_id="mine")["submission_id"] == "mine"


@pytest.mark.parametrize(
    ("namespace", "base_url", "expected"),
    [
        ("", "http://localhost:8080", ROOT),
        ("", "http://127.0.0.1:8080/", ROOT),
        ("production", "http://localhost:8080", NAMESPACED),
        (" production ", "https://airflow.example.com", NAMESPACED),
        ("", "https://airflow.example.com/", derived_id(KEY, "https://airflow.example.com")),
        ("", "https://staging.example.com", derived_id(KEY, "https://staging.example.com")),
    ],
)
def test_two_airflows_on_one_agent_have_jobs_of_their_own_unless_the_task_has_an_id(
    namespace: str, base_url: str, expected: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    agent = serve(extra={"job_namespace": namespace} if namespace else {})
    agent.answers[RUN] = [starting(agent)]
    assert make_operator(wait=False).execute(make_context()) == expected
    assert make_operator(wait=False, job_id="mine").execute(make_context()) == "mine"


@pytest.mark.parametrize(("status", "found"), [("RUNNING", ROOT), ("SUCCEEDED", ROOT), ("FAILED", NAMESPACED)])
@pytest.mark.parametrize("try_number", [1, 2])
def test_another_try_finds_the_job_that_was_started_before_there_were_namespaces(
    status: str, found: str, try_number: int, serve: Serve
) -> None:
    agent = serve(Job("", status, ROOT), extra={"job_namespace": "production"})
    agent.answers[RUN] = [starting(agent)]
    got = make_operator(wait=False).execute(make_context(TaskInstance(try_number)))
    assert got == (found if try_number > 1 else NAMESPACED)


def test_another_try_finds_its_job_though_the_namespace_has_changed(connect: Connect) -> None:
    store = StateStore()
    with ScriptedAgent() as agent:
        agent.answers[RUN] = [starting(agent)]
        for try_number, name in ((1, "production"), (2, "live")):
            connect(agent, extra={"job_namespace": name})
            context = make_context(TaskInstance(try_number), task_state_store=store)
            assert make_operator(wait=False).execute(context) == NAMESPACED
        assert len(agent.of(RUN)) == 1
