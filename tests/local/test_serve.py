"""Serve applications on a real Ray."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentNotFoundError
from airflow_provider_rayagent.local.ports import free_ports
from airflow_provider_rayagent.transport.blocking import BlockingAgent
from tests.local.test_following import config_of_ray
from tests.stack.agent import LocalAgent, start_agent, stop_agent, wait_for_file
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

pytestmark = pytest.mark.ray

# Ray 2.60 never finishes deploying a non-ASCII name, nor any application after it.
ODD = "an app? 50% off #1; a&b+c"
QUOTES = 'it\'s $HOME "here" `id`'
OTHER = "other"
LAST = "last"
DEPLOY = """
import sys
from ray import serve
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class App:
    def __call__(self):
        return "hello"
for number, name in enumerate(sys.argv[2:]):
    serve.run(App.bind(), name=name, route_prefix=f"/{number}")
"""


def applications(agent: LocalAgent) -> dict[str, str]:
    response = agent.request("GET", "serve_applications/")
    assert response.status_code == 200, response.text
    return {application["name"]: application["status"] for application in response.json()}


def wait_for(agent: LocalAgent, wanted: dict[str, str]) -> None:
    wait_until(lambda: applications(agent) == wanted or None, lambda: f"{applications(agent)}, not {wanted},")


@pytest.fixture(scope="module")
def deployed(agent: LocalAgent, tmp_path_factory: pytest.TempPathFactory) -> LocalAgent:
    script = tmp_path_factory.mktemp("serve") / "deploy.py"
    script.write_text(DEPLOY)
    names = shlex.join((QUOTES, ODD, OTHER, LAST))
    job = agent.wait(agent.submit(f"python {script} {free_ports(1)[0]} {names}"))
    assert job["status"] == "SUCCEEDED", job["message"]
    wait_for(agent, dict.fromkeys((QUOTES, ODD, OTHER, LAST), "RUNNING"))
    return agent


def delete(agent: LocalAgent, name: str) -> Any:
    return agent.request("DELETE", f"serve_applications/{quote(name, safe='')}/")


def test_only_the_given_application_is_deleted_over_plain_ray(deployed: LocalAgent) -> None:
    others = dict.fromkeys((ODD, OTHER, LAST), "RUNNING")
    with BlockingAgent(config_of_ray(deployed)) as client:
        replicas = replicas_of(client, others)

        client.send(client.config.service.delete_serve_application(QUOTES))

        assert applications(deployed).get(QUOTES) in (None, "DELETING")
        wait_for(deployed, others)
        assert replicas_of(client, others) == replicas
        with pytest.raises(RayAgentNotFoundError, match="does not exist"):
            client.send(client.config.service.delete_serve_application(QUOTES))
    jobs = deployed.request("GET", "jobs/").json()
    (job_id,) = [
        job["submission_id"] for job in jobs if (job["submission_id"] or "").startswith("rayagent-delete-application-")
    ]
    assert deployed.wait(job_id)["status"] == "SUCCEEDED"


def replicas_of(client: BlockingAgent, names: Iterable[str]) -> list[str]:
    """Return the ids of the actors of applications."""
    found = client.send(client.config.service.list_serve_applications())
    return [
        replica["actor_id"]
        for application in found
        if application["name"] in names
        for deployment in application["deployments"].values()
        for replica in deployment["replicas"]
    ]


def test_only_the_given_application_is_deleted(deployed: LocalAgent) -> None:
    one = deployed.request("GET", f"serve_applications/{quote(ODD, safe='')}/")
    assert (one.status_code, one.json()["name"], one.json()["status"]) == (200, ODD, "RUNNING")

    answer = delete(deployed, ODD)

    assert (answer.status_code, answer.content) == (204, b"")
    assert applications(deployed).get(ODD) in (None, "DELETING")
    wait_for(deployed, {OTHER: "RUNNING", LAST: "RUNNING"})
    assert delete(deployed, ODD).status_code == 404


def test_agent_with_existing_ray_deletes_application(deployed: LocalAgent, tmp_path: Path) -> None:
    info, output = tmp_path / "info.json", tmp_path / "output.log"
    ray = ("--address", deployed.ray_address, "--ray-token-file", str(deployed.ray_token_file))
    process = start_agent(*ray, "--info-file", str(info), output=output)
    try:
        wait_for_file(info, process, output)
        second = LocalAgent(**json.loads(info.read_text()), output=output)
        assert second.token in output.read_text()
        assert delete(second, OTHER).status_code == 204
        wait_for(second, {LAST: "RUNNING"})
    finally:
        assert stop_agent(process) == 0
    assert applications(deployed) == {LAST: "RUNNING"}


def test_concurrent_deletions_of_an_application_succeed(deployed: LocalAgent) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: delete(deployed, LAST).status_code, range(2)))

    assert answers == [204, 204]
    wait_for(deployed, {})
