"""All routes of the local agent with a real Ray, for valid and invalid requests."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests
import websocket

from airflow_provider_rayagent import __version__
from tests.local.conftest import error_detail
from tests.stack.ray import driver_environment
from tests.stack.watch import PATIENCE, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray

BAD_IDS = ["a%20b", "a.b", "a" * 101, "%2e%2e", "a%0Ab", "%C3%A9", "a;b", "a%3Fb", "a:b"]
PROTECTED = [
    ("GET", "health/"),
    ("GET", "jobs/"),
    ("POST", "jobs/"),
    ("GET", "jobs/finished_job/"),
    ("GET", "jobs/finished_job/logs/"),
    ("GET", "jobs/finished_job/logs/stream/"),
    ("POST", "jobs/finished_job/stop/"),
    ("GET", "nodes/"),
    ("GET", "tasks/"),
    ("GET", "serve_applications/"),
    ("DELETE", "serve_applications/a/"),
    ("GET", "gpu_status/"),
    ("POST", "plugin_releases/a/run/"),
    ("GET", "nothing/"),
    ("GET", "docs"),
    ("GET", "jobs"),
]


def get(agent: LocalAgent, path: str) -> Any:
    response = agent.request("GET", path)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_requests_without_token_are_rejected(agent: LocalAgent, method: str, path: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        without = session.request(method, f"{agent.url}/{path}", timeout=PATIENCE)
        assert "No agent token" in error_detail(without, 401)
        for wrong in ("wrong", agent.token[:-1], f"Token {agent.token}", f"{agent.token}x", ""):
            answer = session.request(method, f"{agent.url}/{path}", headers={"Authorization": wrong}, timeout=PATIENCE)
            assert agent.token not in error_detail(answer, 401)


def test_health_contains_versions_and_ray(agent: LocalAgent) -> None:
    health = get(agent, "health/")

    assert health["status"] == "ok"
    assert health["version"] == __version__
    assert health["ray"]["status"] == "ok"
    assert health["ray"]["address"] == agent.ray_address
    assert health["ray"]["version"].startswith("2.")


def test_api_description_is_public_and_complete(agent: LocalAgent) -> None:
    description = requests.get(f"{agent.url}/openapi.json", timeout=PATIENCE).json()

    assert "Local" in description["info"]["title"]
    paths = description["paths"]
    assert {"/jobs/{job_id}/logs/stream/", "/serve_applications/{name}/", "/gpu_status/", "/tasks/{task_id}/"} <= set(
        paths
    )
    assert all(call["summary"] for path in paths.values() for call in path.values())


def test_job_has_details_of_ray(agent: LocalAgent, finished_job: dict[str, Any]) -> None:
    job = get(agent, "jobs/finished_job/")

    assert job == finished_job
    assert (job["type"], job["submission_id"], job["status"]) == ("SUBMISSION", "finished_job", "SUCCEEDED")
    assert job["metadata"] == {"who": "test"}
    assert job["end_time"] > job["start_time"] > 1_500_000_000_000
    assert job["driver_exit_code"] == 0
    assert job in get(agent, "jobs/")


@pytest.mark.parametrize(
    "body", [{}, {"entrypoint": ""}, {"entrypoint": 1}, {"entrypoint": "true", "other": 1}, [], "x"]
)
def test_invalid_submission_is_rejected(agent: LocalAgent, body: object) -> None:
    answer = agent.request("POST", "jobs/", json=body)

    assert answer.status_code == 422
    assert {"loc", "msg", "type"} <= set(answer.json()["detail"][0])


@pytest.mark.parametrize("job_id", ["", "a b", "../a", "a" * 101, "é"])
def test_submission_with_invalid_id_is_rejected(agent: LocalAgent, job_id: str) -> None:
    answer = agent.request("POST", "jobs/", json={"entrypoint": "true", "submission_id": job_id})

    assert "job id" in error_detail(answer, 400)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "jobs/unknown/"),
        ("GET", "jobs/unknown/logs/"),
        ("GET", "jobs/unknown/logs/stream/"),
        ("POST", "jobs/unknown/stop/"),
        ("GET", "nodes/unknown/"),
        ("GET", f"nodes/{'ab' * 28}/"),
        ("GET", "nodes/ab/"),
        ("GET", "tasks/unknown/"),
        ("GET", f"tasks/{'ab' * 24}/"),
        ("GET", "tasks/ab/"),
        ("GET", "serve_applications/unknown/"),
        ("DELETE", "serve_applications/unknown/"),
    ],
)
def test_unknown_ids_return_404(agent: LocalAgent, method: str, path: str) -> None:
    assert error_detail(agent.request(method, path), 404)


@pytest.mark.parametrize("bad_id", BAD_IDS)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "jobs/{}/"),
        ("GET", "jobs/{}/logs/"),
        ("GET", "jobs/{}/logs/stream/"),
        ("POST", "jobs/{}/stop/"),
        ("GET", "nodes/{}/"),
        ("GET", "tasks/{}/"),
    ],
)
def test_invalid_id_is_rejected(agent: LocalAgent, method: str, path: str, bad_id: str) -> None:
    session = requests.Session()
    # Set the URL directly: requests would normalize '%2e%2e'.
    request = session.prepare_request(requests.Request(method, agent.url, headers={"Authorization": agent.token}))
    request.url = f"{agent.url}/{path.format(bad_id)}"
    assert "is not valid" in error_detail(session.send(request, timeout=PATIENCE), 400)


@pytest.mark.parametrize(("job_id", "status_code"), [("unknown", 404), ("a%20b", 400), ("a" * 101, 400), ("a.b", 400)])
def test_websocket_with_unknown_or_invalid_id_is_rejected(agent: LocalAgent, job_id: str, status_code: int) -> None:
    url = f"{agent.url.replace('http', 'ws')}/jobs/{job_id}/logs/"
    with pytest.raises(websocket.WebSocketBadStatusException) as error:
        websocket.create_connection(url, header=[f"Authorization: {agent.token}"], timeout=PATIENCE)
    assert error.value.status_code == status_code
    assert b"detail" in (error.value.resp_body or b"")


@pytest.mark.parametrize("header", [[], ["Authorization: wrong"]])
def test_websocket_without_token_is_rejected(agent: LocalAgent, header: list[str]) -> None:
    url = f"{agent.url.replace('http', 'ws')}/jobs/finished_job/logs/"
    with pytest.raises(websocket.WebSocketBadStatusException) as error:
        websocket.create_connection(url, header=header, timeout=PATIENCE)
    assert error.value.status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "plugin_releases/"),
        ("DELETE", "plugin_releases/train@1.0"),
        ("GET", "builds/a/"),
        ("GET", "containers/docker/"),
        ("PATCH", "resources/policy/"),
        ("GET", "system/status/"),
    ],
)
def test_unsupported_routes_return_501(agent: LocalAgent, method: str, path: str) -> None:
    assert "local agent has no" in error_detail(agent.request(method, path, json={"action": "x"}), 501)


@pytest.mark.parametrize(
    ("request_", "feasible"),
    [
        ({"num_cpus": 4}, True),
        ({"num_cpus": 2, "replicas": 2}, True),
        ({"num_cpus": 3, "replicas": 2}, False),
        ({"num_cpus": 0, "replicas": 100}, True),
        ({"num_cpus": 1, "num_gpus": 1}, False),
        ({"num_cpus": 1, "memory_bytes": 2**60}, False),
    ],
)
def test_feasibility_is_that_of_the_nodes(agent: LocalAgent, request_: dict[str, Any], feasible: bool) -> None:
    def ask() -> Any:
        answer = agent.request("POST", "resources/feasibility/", json={"kind": "job", **request_})
        assert answer.status_code == 200, answer.text
        return answer.json()

    # Ray reports the usage every few seconds; another test's job may just have ended.
    wait_until(lambda: ask()["feasible"] is feasible or None, "feasibility")
    assert "replicas" in ask()["reason"]


def test_policy_is_that_of_the_queue(agent: LocalAgent) -> None:
    policy = get(agent, "resources/policy/")

    assert (policy["max_concurrent_jobs"], policy["gatekeeping_enabled"]) == (3, False)


def test_nodes_and_gpus_of_machine(agent: LocalAgent) -> None:
    (node,) = get(agent, "nodes/")

    assert node["state"] == "ALIVE"
    assert node["resources_total"]["CPU"] == 4
    assert get(agent, f"nodes/{node['node_id']}/") == node
    gpus = get(agent, "gpu_status/")
    assert (gpus["total_gpus"], gpus["used_gpus"], gpus["available_gpus"]) == (0, 0, 0)
    assert [row["node_id"] for row in gpus["nodes"]] == [node["node_id"]]


def test_tasks_and_drivers_are_listed(agent: LocalAgent, tmp_path: Path) -> None:
    code = (
        "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)\n"
        "@ray.remote(num_cpus=0.1)\ndef double(x): return 2 * x\n"
        "print(ray.get(double.remote(21)), ray.get_runtime_context().get_job_id())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(agent.gcs_address)],
        env=driver_environment(tmp_path, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(agent.ray_token_file)}),
        capture_output=True,
        text=True,
        check=True,
    )
    answer, driver_id = done.stdout.split()
    assert answer == "42"

    (driver,) = [job for job in get(agent, "jobs/") if job["type"] == "DRIVER"]
    assert (driver["job_id"], driver["submission_id"]) == (driver_id, None)
    assert get(agent, f"jobs/{driver_id}/")["type"] == "DRIVER"
    for method, path in (("GET", "logs/"), ("GET", "logs/stream/"), ("POST", "stop/")):
        assert "submission" in error_detail(agent.request(method, f"jobs/{driver_id}/{path}"), 400)

    (task,) = [task for task in get(agent, "tasks/") if task["name"] == "double"]
    assert {"task_id", "name", "state", "job_id", "type", "node_id", "worker_pid", "error_type"} <= set(task)
    assert task["job_id"] == driver_id
    assert get(agent, f"tasks/{task['task_id']}/")["name"] == "double"
