"""Serve applications on a real Ray."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentNotFoundError
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from tests.local.test_following import config_of_ray
from tests.stack.agent import local_agent
from tests.stack.serve import Serve

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray

# Ray 2.60 never finishes deploying a non-ASCII name, nor any application after it.
ODD = "an app? 50% off #1; a&b+c"
QUOTES = 'it\'s $HOME "here" `id`'
OTHER = "other"
LAST = "last"


@pytest.fixture(scope="module")
def serve(agent: LocalAgent, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Serve with four applications, which the tests delete one after the other."""
    deployed = Serve(agent, tmp_path_factory.mktemp("serve"))
    deployed.deploy(QUOTES, ODD, OTHER, LAST)
    return deployed


def delete(agent: LocalAgent, name: str) -> Any:
    return agent.request("DELETE", f"serve_applications/{quote(name, safe='')}/")


def test_only_the_given_application_is_deleted_over_plain_ray(serve: Serve) -> None:
    others = dict.fromkeys((ODD, OTHER, LAST), "RUNNING")
    with BlockingServiceClient(config_of_ray(serve.agent)) as client:
        replicas = replicas_of(client, others)

        client.send(client.config.service.delete_serve_application(QUOTES))

        assert serve.statuses().get(QUOTES) in (None, "DELETING")
        serve.wait_for(others)
        assert replicas_of(client, others) == replicas
        with pytest.raises(RayAgentNotFoundError, match="does not exist"):
            client.send(client.config.service.delete_serve_application(QUOTES))
    jobs = serve.agent.request("GET", "jobs/").json()
    (job_id,) = [
        job["submission_id"] for job in jobs if (job["submission_id"] or "").startswith("rayagent-delete-application-")
    ]
    assert serve.agent.wait(job_id)["status"] == "SUCCEEDED"


def replicas_of(client: BlockingServiceClient, names: Iterable[str]) -> list[str]:
    """Return the ids of the actors of applications."""
    found = client.send(client.config.service.list_serve_applications())
    return [
        replica["actor_id"]
        for application in found
        if application["name"] in names
        for deployment in application["deployments"].values()
        for replica in deployment["replicas"]
    ]


def test_only_the_given_application_is_deleted(serve: Serve) -> None:
    one = serve.agent.request("GET", f"serve_applications/{quote(ODD, safe='')}/")
    assert (one.status_code, one.json()["name"], one.json()["status"]) == (200, ODD, "RUNNING")

    answer = delete(serve.agent, ODD)

    assert (answer.status_code, answer.content) == (204, b"")
    assert serve.statuses().get(ODD) in (None, "DELETING")
    serve.wait_for({OTHER: "RUNNING", LAST: "RUNNING"})
    assert delete(serve.agent, ODD).status_code == 404


def test_agent_with_existing_ray_deletes_application(serve: Serve) -> None:
    with local_agent(
        "--address", serve.agent.ray_address, "--ray-token-file", str(serve.agent.ray_token_file)
    ) as second:
        assert second.token in second.output.read_text()
        assert delete(second, OTHER).status_code == 204
        serve.wait_for({LAST: "RUNNING"})
    assert serve.statuses() == {LAST: "RUNNING"}


def test_concurrent_deletions_of_an_application_succeed(serve: Serve) -> None:
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: delete(serve.agent, LAST).status_code, range(2)))

    assert answers == [204, 204]
    serve.wait_for({})
