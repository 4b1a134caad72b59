"""The sensor for free resources: over an agent and over plain Ray, in a worker and deferred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException

from airflow_provider_rayagent.exceptions import (
    RayAgentError,
    RayAgentInputError,
    RayAgentResourcesError,
    RayAgentResponseError,
    RayAgentUnsupportedError,
    RayAgentWaitTimeoutError,
)
from tests.scripted import DEFAULT, Answer, Refuse, ScriptedAgent
from tests.unit.both_ways import both_ways
from tests.unit.clusters import GIB, NODES
from tests.unit.sensors.capacity import READS, WORKER, cluster, make_sensor
from tests.unit.support import make_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.both_ways import Run
    from tests.unit.support import Serve, TaskLog

IDLE: dict[str, dict[str, float]] = {}
run = both_ways(make_sensor)


@pytest.fixture(params=["agent", "ray"])
def service(request: pytest.FixtureRequest) -> str:
    """What the connection leads to."""
    return str(request.param)


def at_each_look(agent: ScriptedAgent, change: Callable[[int], Any]) -> None:
    """Call with the number of the look, before it is answered by what the call returns, or as usual."""
    route = READS[agent.service]
    agent.answers[route] = [lambda request: change(len(agent.of(route))) or DEFAULT]


def freed_after(looks: int, agent: ScriptedAgent) -> None:
    """Have all resources be free from a look on."""

    def free(look: int) -> None:
        agent.used = IDLE if look > looks else agent.used

    at_each_look(agent, free)


def test_what_is_free_needs_one_look(service: str, run: Run, serve: Serve, log: TaskLog) -> None:
    agent = cluster(serve, service)
    assert run(num_gpus=2, num_cpus=20, memory_bytes=int(90 * GIB)) == {
        "free": {"num_gpus": 2.0 if service == "agent" else 2.5, "num_cpus": 22.9, "memory_bytes": 96 * GIB},
        "node_id": None,
        "node_ip": None,
    }
    assert len(agent.of(READS[service])) == 1
    agent.wait_until(lambda: agent.open_connections == 0)
    assert log.messages[0].endswith("Required: 2 GPUs, 20 CPUs, 90 GiB of memory. Nothing is missing.")


def test_gpus_are_waited_for_until_another_job_frees_them(service: str, run: Run, serve: Serve, log: TaskLog) -> None:
    agent = cluster(serve, service)
    freed_after(4, agent)
    assert run(num_gpus=4, num_cpus=1)["free"] == {"num_gpus": 4.0, "num_cpus": 24.0}
    assert len(agent.of(READS[service])) == 5
    free, missing = ("2 GPUs", "2 GPUs") if service == "agent" else ("2.5 GPUs", "1.5 GPUs")
    told = [message for message in log.messages if message.startswith("Free")]
    waits = f"Free: {free}, 22.9 CPUs. Required: 4 GPUs, 1 CPU. Missing: {missing}."
    # Each process says it once.
    assert told[:-1] in ([waits], [waits, waits])
    assert told[-1] == "Free: 4 GPUs, 24 CPUs. Required: 4 GPUs, 1 CPU. Nothing is missing."


@pytest.mark.parametrize(
    ("options", "required", "most"),
    [
        ({"num_gpus": 5}, "5 GPUs", "4 GPUs"),
        ({"num_cpus": 25, "num_gpus": 1}, "1 GPU, 25 CPUs", "4 GPUs, 24 CPUs"),
        ({"num_cpus": 17, "on_one_node": True}, "17 CPUs on one node", "16 CPUs"),
        ({"num_cpus": 20, "accelerator_type": "A100"}, "20 CPUs with accelerator A100", "16 CPUs"),
        ({"num_gpus": 1, "accelerator_type": "H100"}, "1 GPU with accelerator H100", "0 GPUs"),
        ({"memory_bytes": int(97 * GIB)}, "97 GiB of memory", "96 GiB of memory"),
    ],
)
def test_what_the_cluster_never_has_fails_at_once_in_plain_words(
    options: dict[str, Any], required: str, most: str, service: str, run: Run, serve: Serve
) -> None:
    agent = cluster(serve, service)
    with pytest.raises(RayAgentResourcesError) as caught:
        run(**options)
    assert len(agent.of(READS[service])) == 1
    assert f"what is required, free or in use: {required}. The most there is: {most}. " in str(caught.value)
    assert str(caught.value).endswith("set wait_for_scale_up.")


def test_a_cluster_that_grows_may_be_waited_for(service: str, run: Run, serve: Serve) -> None:
    agent = cluster(serve, service)
    joins = {**NODES[1], "node_id": "d" * 56}
    at_each_look(agent, lambda look: agent.nodes.append(joins) if look == 4 else None)
    assert run(num_gpus=6, wait_for_scale_up=True)["free"]["num_gpus"] >= 6


def test_a_cluster_that_lists_no_node_yet_is_waited_for(service: str, run: Run, serve: Serve, log: TaskLog) -> None:
    agent = cluster(serve, service, nodes=[], used=IDLE)
    at_each_look(agent, lambda look: agent.nodes.extend(NODES) if look == 3 else None)
    assert run()["free"] == {"num_gpus": 4.0}
    assert log.messages[0] == "It is not known yet what the cluster has free."


def test_one_node_may_have_to_have_all_of_it(service: str, run: Run, serve: Serve, log: TaskLog) -> None:
    agent = cluster(serve, service, used={WORKER: {"CPU": 12.0}})
    freed_after(3, agent)
    assert run(num_cpus=10, num_gpus=1, on_one_node=True) == {
        "free": {"num_gpus": 4.0, "num_cpus": 16.0},
        "node_id": WORKER,
        "node_ip": "10.0.0.2",
    }
    assert log.messages[0] == (
        "Free on node 10.0.0.2: 4 GPUs, 4 CPUs. Required: 1 GPU, 10 CPUs on one node. Missing: 6 CPUs."
    )


def test_an_agent_that_does_not_tell_which_node_has_the_free_gpus_is_no_use_for_one_node(
    run: Run, serve: Serve
) -> None:
    cluster(serve, nodes=[*NODES, {**NODES[1], "node_id": "d" * 56}])
    with pytest.raises(RayAgentUnsupportedError, match="do not set on_one_node or accelerator_type"):
        run(num_gpus=1, on_one_node=True)
    assert run(num_gpus=5)["free"] == {"num_gpus": 6.0}


@pytest.mark.parametrize("status", [503, 500, 401])
def test_an_outage_is_waited_out(status: int, service: str, run: Run, serve: Serve) -> None:
    agent = cluster(serve, service)

    def answer(look: int) -> Any:
        agent.used = IDLE if look > 3 else agent.used
        # The first look of each process is answered.
        return Refuse(status) if look == 3 else None

    at_each_look(agent, answer)
    assert run()["free"] == {"num_gpus": 4.0}


def test_a_refused_token_fails_at_once(service: str, run: Run, serve: Serve) -> None:
    agent = cluster(serve, service, token="another")
    with pytest.raises(RayAgentError, match=r"40[13]"):
        run()
    assert len(agent.requests) == 1


def test_an_agent_without_the_route_is_told_in_plain_words(run: Run, serve: Serve) -> None:
    cluster(serve, answers={READS["agent"]: [Refuse(404)]})
    with pytest.raises(RayAgentUnsupportedError, match="does not report the resources of its cluster"):
        run()


def test_the_timeout_says_what_is_missing_and_may_skip(service: str, run: Run, serve: Serve, log: TaskLog) -> None:
    cluster(serve, service)
    with pytest.raises(AirflowSensorTimeout) as caught:
        run(timeout=0.3)
    with pytest.raises(AirflowSkipException):
        run(timeout=0.3, soft_fail=True)
    if isinstance(caught.value, RayAgentWaitTimeoutError):
        assert "did not have enough free within the timeout of 0.3 seconds. Free: 2" in str(caught.value)
    assert "Required: 4 GPUs. Missing: " in log.messages[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_gpus": 0}, "Set at least one of num_gpus, num_cpus and memory_bytes"),
        ({"num_gpus": -1}, "num_gpus must be a number of at least 0"),
        ({"num_cpus": float("inf")}, "num_cpus must be a number of at least 0"),
        ({"memory_bytes": 1.5}, "memory_bytes must be a whole number of bytes"),
        ({"agent_unreachable_timeout": 0}, "agent_unreachable_timeout"),
    ],
)
def test_an_invalid_argument_is_refused_when_the_dag_is_parsed(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RayAgentInputError, match=words):
        make_sensor(**options)


def test_an_accelerator_type_that_is_none_is_refused_when_the_task_runs() -> None:
    with pytest.raises(RayAgentInputError, match="accelerator_type must be a non-empty string"):
        make_sensor(accelerator_type=" ").execute(make_context())


@pytest.mark.parametrize(
    ("service", "route", "answer"),
    [
        ("agent", "GET resources/cluster/", {"gpu": [{"available_gpus": 4}], "nodes": [{"gpus": [{}] * 4}]}),
        ("agent", "GET resources/cluster/", {"nodes": {"a": {}}}),
        ("ray", "GET api/cluster_status", {"data": {"clusterStatus": {"loadMetricsReport": {"usageByNode": ["x"]}}}}),
        ("ray", "GET nodes/", {"data": {"result": {"result": [{"state": "ALIVE", "resources_total": {"GPU": "x"}}]}}}),
    ],
)
def test_an_answer_in_an_unknown_form_fails_the_sensor_after_the_time_for_an_agent_that_is_away(
    service: str, route: str, answer: Any, run: Run, serve: Serve
) -> None:
    cluster(serve, service, answers={route: [Answer(200, answer)]})
    with pytest.raises(RayAgentResponseError, match="in an unknown form"):
        run(agent_unreachable_timeout=0.1)


@pytest.mark.parametrize("odd", ["x", None, [], {"state": "ALIVE", "cpu": {"total": "x"}, "gpu": [4]}])
def test_one_odd_node_hides_no_other(odd: Any, run: Run, serve: Serve) -> None:
    nodes = [odd, {"node_id": "b", "gpu": {"total": 4, "available": 4}}]
    cluster(serve, answers={"GET resources/cluster/": [Answer(200, {"nodes": nodes})]})
    assert run(num_gpus=4)["free"] == {"num_gpus": 4.0}
    assert run(num_gpus=4, on_one_node=True)["node_id"] == "b"
