"""Why a job waits is in the task log, in a worker and deferred, and in the error of ``start_timeout``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.activity import shared_records
from airflow_provider_rayagent.exceptions import RayAgentJobNotStartedError
from airflow_provider_rayagent.run import wait_watch
from tests.scripted import Answer, ScriptedAgent, SetStatus, WaitFor
from tests.unit.both_ways import both_ways
from tests.unit.clusters import NODES, USED, rows
from tests.unit.operators.started_jobs import starting
from tests.unit.operators.submissions import SUBMIT, make_rendered
from tests.unit.support import task_log

if TYPE_CHECKING:
    from tests.scripted import Request
    from tests.unit.both_ways import Run
    from tests.unit.support import TaskLog

ACTORS = "GET api/v0/actors"
GROUPS = "GET api/v0/placement_groups"
TASKS = "GET tasks/"

run = both_ways(make_rendered)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_records, "KEPT_SECONDS", 0.0)
    for name in ("PENDING_SECONDS", "QUIET_SECONDS", "MIN_INTERVAL", "MAX_INTERVAL"):
        monkeypatch.setattr(wait_watch, name, 0.1)


@pytest.fixture
def cluster(ray: ScriptedAgent) -> ScriptedAgent:
    """A Ray with one job that holds GPUs, as far as it tells."""
    ray.nodes[:], ray.used = NODES, USED
    return ray


def supervisor(agent: ScriptedAgent, **resources: float) -> Any:
    """Return a step that lists the actor that is to start the only job."""

    def answer(request: Request) -> Answer:
        if "JobSupervisor" not in request.query:
            return rows()
        (job_id,) = agent.jobs
        return rows({"name": f"_ray_internal_job_actor_{job_id}", "required_resources": resources})

    return answer


def looks(agent: ScriptedAgent) -> int:
    """Return the number of looks at jobs that are PENDING."""
    return sum("JobSupervisor" in request.query for request in agent.of("GET"))


def waits_in(log: TaskLog) -> list[str]:
    """Return what follows ``waits:`` in the lines of a task log."""
    return [match[1] for message in log.messages if (match := re.fullmatch(r"Job \S+ waits: (.*)", message))]


def test_a_reason_is_told_once_and_another_one_again(run: Run, cluster: ScriptedAgent) -> None:
    cluster.answers[ACTORS] = [*[supervisor(cluster, GPU=4)] * 3, *[supervisor(cluster, unicorn=1)] * 2]
    timeline = [WaitFor(lambda: looks(cluster) > 6), SetStatus("RUNNING"), SetStatus("SUCCEEDED")]
    cluster.answers[SUBMIT] = [starting(cluster, first="PENDING", timeline=timeline)]
    with task_log() as log:
        run(entrypoint_num_gpus=4, poll_interval=0.1)
    assert waits_in(log) == [
        "it requires 4 GPUs; free: 2.5 of 4 GPUs.",
        "it requires 1 unicorn; no node has any unicorn.",
    ]


def test_what_has_only_to_be_started_is_told_if_it_is_found_again(run: Run, cluster: ScriptedAgent) -> None:
    cluster.answers[ACTORS] = [supervisor(cluster, GPU=1)]
    timeline = [WaitFor(lambda: looks(cluster) > 3), SetStatus("RUNNING"), SetStatus("SUCCEEDED")]
    cluster.answers[SUBMIT] = [starting(cluster, first="PENDING", timeline=timeline)]
    with task_log() as log:
        run(poll_interval=0.1)
    assert waits_in(log) == ["it requires 1 GPU, which a node has free; Ray has not started it."]


@pytest.mark.parametrize("answer", [Answer(500, "busy"), Answer(200, {"data": None}), rows(), rows({"name": 3})])
def test_a_look_that_tells_nothing_costs_nothing(answer: Answer, run: Run, cluster: ScriptedAgent) -> None:
    cluster.answers[ACTORS] = [answer]
    timeline = [WaitFor(lambda: looks(cluster) > 2), SetStatus("RUNNING"), SetStatus("SUCCEEDED")]
    cluster.answers[SUBMIT] = [starting(cluster, first="PENDING", timeline=timeline)]
    with task_log() as log:
        assert run(poll_interval=0.1)["status"] == "SUCCEEDED"
    assert waits_in(log) == []


def test_a_job_that_runs_and_is_silent_is_looked_at(run: Run, cluster: ScriptedAgent) -> None:
    waiting = {
        "name": "train",
        "type": "NORMAL_TASK",
        "state": "PENDING_NODE_ASSIGNMENT",
        "job_id": "02000000",
        "required_resources": {"GPU": 64.0},
    }
    cluster.answers[TASKS], cluster.answers[GROUPS] = [rows(waiting, waiting)], [rows()]

    def asked() -> bool:
        return sum("02000000" in each.query for each in cluster.of("GET")) > 2

    timeline = [WaitFor(asked), SetStatus("SUCCEEDED")]
    cluster.answers[SUBMIT] = [starting(cluster, details={"job_id": "02000000"}, timeline=timeline)]
    with task_log() as log:
        run(poll_interval=0.1)
    assert waits_in(log) == ["2 tasks train require 64 GPUs each; no node has more than 4 GPUs."]


def test_the_error_of_start_timeout_tells_the_reason(run: Run, cluster: ScriptedAgent) -> None:
    cluster.answers[ACTORS] = [supervisor(cluster, GPU=4, memory=2**30)]
    cluster.answers[SUBMIT] = [starting(cluster, first="PENDING", timeline=())]
    with pytest.raises(
        RayAgentJobNotStartedError, match=r"it is PENDING: it requires 4 GPUs and 1 GiB of memory; free: "
    ):
        run(start_timeout=1.0)
