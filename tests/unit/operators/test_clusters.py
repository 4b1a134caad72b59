"""The argument ``cluster``: which of the clusters of one connection a task asks, in a worker and deferred."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError
from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook
from airflow_provider_rayagent.text.codes import Code
from tests.scripted import Application, Job, SetStatus, Sleep
from tests.unit.both_ways import execute
from tests.unit.clusters import NODES
from tests.unit.operators import test_delete_application, test_stop_job
from tests.unit.operators.submissions import make_operator as make_submission
from tests.unit.sensors import applications, capacity
from tests.unit.sensors.factory import make_sensor
from tests.unit.supervisor import supervise
from tests.unit.support import make_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import ScriptedAgent
    from tests.unit.support import Connect, Serve

CLUSTERS = {"clusters": "127.0.0.1:1-65535"}


def make_job() -> Job:
    return Job("a\n", "RUNNING", timeline=[Sleep(0.3), SetStatus("SUCCEEDED")])


def cluster_of(agent: ScriptedAgent) -> str:
    return urlsplit(agent.url).netloc


@pytest.fixture
def two_clusters(serve: Serve, connect: Connect) -> list[ScriptedAgent]:
    """Two services with the same jobs, reached by one connection."""
    agents = [
        serve(make_job(), applications=[Application("app", "RUNNING")], nodes=NODES, service="ray") for _ in range(2)
    ]
    connect("http://{cluster}", extra={"service": "ray", **CLUSTERS})
    return agents


TASKS: dict[str, Callable[..., Any]] = {
    "job sensor": make_sensor,
    "stop": test_stop_job.make_operator,
    "application sensor": applications.make_sensor,
    "delete": test_delete_application.make_operator,
    "capacity sensor": partial(capacity.make_sensor, num_gpus=1),
    "submission": make_submission,
}


@pytest.mark.parametrize("task", TASKS)
def test_only_the_cluster_of_the_task_is_asked(
    task: str, two_clusters: list[ScriptedAgent], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, other = two_clusters
    context = make_context()
    supervise(context["ti"], monkeypatch)
    # A deferred task renders its templates again in another process, by then perhaps to another cluster.
    clusters = chain([cluster_of(asked)], repeat(cluster_of(other)))
    execute(lambda: TASKS[task](deferrable=way == "deferred", cluster=next(clusters)), context)
    assert asked.requests
    assert not other.requests


@pytest.mark.parametrize("task", TASKS)
def test_a_cluster_is_rendered(task: str) -> None:
    made = TASKS[task](cluster="{{ word }}")
    made.render_template_fields({"word": "head-1"})
    assert (made.cluster, made.hook.cluster) == ("head-1", "head-1")


def test_a_cluster_that_is_refused_is_asked_nothing(two_clusters: list[ScriptedAgent], connect: Connect) -> None:
    connect("http://{cluster}", extra={"service": "ray", "clusters": "head-1"})
    with pytest.raises(RayAgentConfigError) as caught:
        make_sensor(cluster=cluster_of(two_clusters[0])).execute(make_context())
    assert caught.value.code is Code.CLUSTER_REFUSED
    assert not two_clusters[0].requests


def test_a_deferral_says_its_cluster_only_if_there_is_one(two_clusters: list[ScriptedAgent], serve: Serve) -> None:
    with pytest.raises(TaskDeferred) as caught:
        make_sensor(deferrable=True, cluster=cluster_of(two_clusters[0])).execute(make_context())
    assert (caught.value.kwargs or {})["cluster"] == cluster_of(two_clusters[0])
    serve(make_job())
    with pytest.raises(TaskDeferred) as caught:
        make_sensor(deferrable=True).execute(make_context())
    assert "cluster" not in (caught.value.kwargs or {})


def test_both_hooks_ask_their_cluster(two_clusters: list[ScriptedAgent]) -> None:
    asked, other = two_clusters

    async def get_job() -> Any:
        async with RayAgentAsyncHook(cluster=cluster_of(asked)) as hook:
            return await hook.get_job("j1")

    with RayAgentHook(cluster=cluster_of(asked)) as hook:
        assert hook.get_job("j1")["submission_id"] == asyncio.run(get_job())["submission_id"] == "j1"
    assert not other.requests


def test_the_test_of_a_connection_asks_its_test_cluster(two_clusters: list[ScriptedAgent], connect: Connect) -> None:
    asked, other = two_clusters
    with RayAgentHook() as hook:
        works, text = hook.test_connection()
    assert not works
    assert "the field Test cluster" in text
    connect("http://{cluster}", extra={"service": "ray", "test_cluster": cluster_of(asked), **CLUSTERS})
    with RayAgentHook() as hook:
        works, text = hook.test_connection()
    assert works, text
    assert asked.requests
    assert not other.requests
    # It is not the cluster of tasks that name none.
    with pytest.raises(RayAgentConfigError):
        _ = RayAgentHook().config
