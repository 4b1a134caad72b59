"""The hooks over plain Ray return what they return over the local agent in front of the same Ray."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import ServiceConfig, read_config
from airflow_provider_rayagent.errors.service_errors import (
    RayAgentHTTPError,
    RayAgentNotFoundError,
    RayAgentServerError,
)
from airflow_provider_rayagent.hooks.connection_check import Result, check_connection
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.transport.aio import AsyncServiceClient
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from tests.local.test_following import config_of_agent, config_of_ray
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.services.call import Operation
    from airflow_provider_rayagent.services.service import Service
    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray


def send(config: ServiceConfig, make: Callable[[Service], Operation]) -> Any:
    with BlockingServiceClient(config) as client:
        return client.send(make(config.service))


def send_async(config: ServiceConfig, make: Callable[[Service], Operation]) -> Any:
    async def work() -> Any:
        async with AsyncServiceClient(config) as client:
            return await client.send(make(config.service))

    return asyncio.run(work())


CALLS: dict[str, Callable[[Service], Operation]] = {
    "jobs": lambda service: service.list_jobs(),
    "a job": lambda service: service.get_job(JobId("finished_job")),
    "nodes": lambda service: service.list_nodes(),
    "tasks": lambda service: service.list_tasks(),
    "applications": lambda service: service.list_serve_applications(),
    "GPUs": lambda service: service.get_gpu_status(),
    "resources": lambda service: service.get_cluster_resources(),
}


def without_time(result: Any) -> Any:
    return {**result, "collected_at": None} if isinstance(result, dict) and "collected_at" in result else result


@pytest.mark.parametrize("call", CALLS)
def test_results_are_those_of_the_agent(agent: LocalAgent, finished_job: dict[str, Any], call: str) -> None:
    over_agent = without_time(send(config_of_agent(agent), CALLS[call]))

    assert without_time(send(config_of_ray(agent), CALLS[call])) == over_agent
    assert without_time(send_async(config_of_ray(agent), CALLS[call])) == over_agent
    if call == "jobs":
        assert finished_job["submission_id"] in [job["submission_id"] for job in over_agent]


def test_one_node_and_one_task_are_those_of_the_agent(agent: LocalAgent) -> None:
    agent.wait(
        agent.submit("python -c \"import ray; f = ray.remote(lambda: 1); ray.get(f.options(name='t').remote())\"")
    )
    node_id = send(config_of_ray(agent), CALLS["nodes"])[0]["node_id"]
    task_id = wait_until(
        lambda: next((row["task_id"] for row in send(config_of_ray(agent), CALLS["tasks"])), None), "no task"
    )

    for make in (lambda service: service.get_node(node_id), lambda service: service.get_task(task_id)):
        assert send(config_of_ray(agent), make) == send(config_of_agent(agent), make)


@pytest.mark.parametrize(
    "make",
    [
        lambda service: service.get_job(JobId("nobody")),
        lambda service: service.stop_job(JobId("nobody")),
        lambda service: service.get_node("ab" * 28),
        lambda service: service.get_node("nobody"),
        lambda service: service.get_task("ab" * 24),
        lambda service: service.get_serve_application("nobody"),
        lambda service: service.delete_serve_application("nobody"),
    ],
)
def test_what_does_not_exist_is_not_found(agent: LocalAgent, make: Callable[[Service], Operation]) -> None:
    with pytest.raises(RayAgentNotFoundError, match="does not exist"):
        send(config_of_ray(agent), make)


def test_job_is_stopped(agent: LocalAgent) -> None:
    job_id = JobId(agent.submit("sleep 3600"))
    agent.wait(job_id, ["RUNNING"])

    assert send(config_of_ray(agent), lambda service: service.stop_job(job_id)) == {"stopped": True}
    assert agent.wait(job_id)["status"] == "STOPPED"

    def is_refused() -> bool | None:
        return send(config_of_ray(agent), lambda service: service.stop_job(job_id)) == {"stopped": False} or None

    # The process that Ray stops, the job's supervisor, outlives the job by a moment.
    wait_until(is_refused, "Ray stops the job again and again")


def test_the_record_of_a_job_is_deleted_once_it_has_ended(agent: LocalAgent) -> None:
    running, ended = agent.submit("sleep 3600"), agent.submit("true")
    agent.wait(ended)
    wait_until(lambda: agent.job(running)["status"] == "RUNNING" or None, "the job does not run")
    with pytest.raises(RayAgentServerError, match="non-terminal state RUNNING"):
        send(config_of_ray(agent), lambda service: service.delete_job(JobId(running)))
    assert send(config_of_ray(agent), lambda service: service.delete_job(JobId(ended))) == {"deleted": True}
    with pytest.raises(RayAgentNotFoundError):
        send_async(config_of_ray(agent), lambda service: service.delete_job(JobId(ended)))
    send(config_of_ray(agent), lambda service: service.stop_job(JobId(running)))


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong-token", 403)])
def test_rejected_token_is_reported(agent: LocalAgent, token: str | None, status: int) -> None:
    config = read_config(host=agent.ray_address, token=token, extra={"service": "ray"})

    with pytest.raises(RayAgentHTTPError, match=f"answered {status}") as raised:
        send(config, CALLS["jobs"])
    assert raised.value.code is Code.TOKEN
    assert "wrong-token" not in str(raised.value)


def test_connection_check_finds_a_wrong_service(agent: LocalAgent) -> None:
    def check(config: ServiceConfig) -> tuple[bool, str]:
        with BlockingServiceClient(config) as client:
            finding = next(check_connection(client))
        return finding.result is not Result.PROBLEM, finding.text

    healthy, message = check(config_of_ray(agent))
    assert healthy
    assert message.startswith("Connected to Ray's own dashboard (2.")
    for token in (None, agent.token):
        healthy, message = check(read_config(host=agent.ray_address, token=token, extra={"service": "agent"}))
        assert not healthy
        assert "is Ray's own dashboard" in message
        assert message.endswith("set Service (service) to ray.")
    healthy, message = check(read_config(host=agent.url, token=agent.token, extra={"service": "ray"}))
    assert not healthy
    assert message.endswith("If this is an agent, set Service (service) to agent.")
