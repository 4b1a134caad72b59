"""The scripted agent as Ray's dashboard: its routes, its errors, and the same scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.scripted import DEFAULT, Application, Drop, FullText, Html, Job, Play, ScriptedAgent
from tests.scripted.clients import get
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

NODE = "ab" * 28
LOG = f"api/v0/logs/file?node_id={NODE}&filename=job-driver-j1.log&lines=-1&timeout=290"


def ray(*jobs: Job, **parts: Any) -> ScriptedAgent:
    return ScriptedAgent(*jobs, service="ray", **parts)


def post(agent: ScriptedAgent, path: str, **options: Any) -> Any:
    import requests

    return requests.post(agent.url + path, timeout=PATIENCE, **options)


def test_its_paths_are_the_agents_for_scripts_and_counts() -> None:
    job = Job("one\ntwo\n", full=[Play(FullText(stop=5), Drop()), DEFAULT])
    with ray(job, answers={"GET jobs/j1/": [Html(502), DEFAULT]}) as agent:
        assert get(agent, "api/jobs/j1").status_code == 502
        assert get(agent, "api/jobs/j1").json()["driver_node_id"] == NODE
        with pytest.raises(Exception, match=r"ended prematurely|broken"):
            get(agent, LOG)
        assert get(agent, LOG).content == b"one\ntwo\n"
        assert [request.route for request in agent.requests] == ["GET jobs/j1/"] * 2 + ["GET jobs/j1/logs/"] * 2
        assert agent.requests[2].sent_path == "api/v0/logs/file"
        assert [each["submission_id"] for each in get(agent, "api/jobs/").json()] == ["j1"]


@pytest.mark.parametrize(
    "path", ["jobs/", "jobs/j1/", "health/", "api/jobs", "api/jobs/j1/", "api/healthz", "x/api/jobs/"]
)
def test_any_other_route_is_not_found(path: str) -> None:
    with ray(Job()) as agent:
        answer = get(agent, path)
    assert (answer.status_code, answer.text) == (404, "404: Not Found")


@pytest.mark.parametrize(
    "path",
    [
        # Ray takes it for 1,000.
        LOG.replace("lines=-1", "lines=0"),
        LOG.replace("&lines=-1", ""),
        LOG.replace("timeout=290", "timeout=30"),
        LOG.replace("timeout=290", "timeout=300"),
        LOG.replace("&timeout=290", ""),
        LOG.replace(NODE, "cd" * 28),
        LOG.replace("j1.log", "j2.log"),
        f"{LOG}&submission_id=j1",
        f"{LOG}&filter_ansi_code=true",
    ],
)
def test_a_log_that_may_be_incomplete_is_refused_before_its_script(path: str) -> None:
    with ray(Job("x\n", full=[Drop()])) as agent:
        assert get(agent, path).status_code == 500


@pytest.mark.parametrize(
    ("log", "lines", "expected"),
    [("a\nb\nc\n", 2, "b\nc\n"), ("a\nb\nc", 1, "c"), ("a\n\n", 1, "\n"), ("a\nb\n", 9, "a\nb\n"), ("", 1, "")],
)
def test_the_last_lines_are_given_alone(log: str, lines: int, expected: str) -> None:
    with ray(Job(log)) as agent:
        assert get(agent, LOG.replace("lines=-1", f"lines={lines}")).text == expected


def test_a_job_that_has_not_started_has_no_node_and_no_log() -> None:
    with ray(Job(status="PENDING")) as agent:
        assert get(agent, "api/jobs/j1").json()["driver_node_id"] is None
        assert get(agent, LOG).status_code == 500
        agent.jobs["j1"].set_status("RUNNING")
        assert get(agent, "api/jobs/j1").json()["driver_node_id"] == NODE
        assert get(agent, LOG).status_code == 200


def test_the_token_is_a_bearers_and_two_routes_are_open() -> None:
    with ray(Job(), token="s3cret") as agent:
        answers = [
            get(agent, "api/jobs/", headers={"Authorization": value} if value else {})
            for value in ("", "s3cret", "bearer s3cret", "Bearer  s3cret", "Bearer s3cret")
        ]
        assert [answer.status_code for answer in answers] == [401, 403, 403, 403, 200]
        assert answers[0].text == "Unauthorized: Missing authentication token"
        assert get(agent, "api/gcs_healthz").text == "success"
        assert get(agent, "api/authentication_mode").json() == {"authentication_mode": "token"}
        assert get(agent, "api/version").status_code == 401


def test_a_submission_adds_a_job_once() -> None:
    body = {"entrypoint": "python x.py", "submission_id": "new", "metadata": {"a": "b"}}
    with ray() as agent:
        assert post(agent, "api/jobs/", json=body).json() == {"job_id": "new", "submission_id": "new"}
        taken = post(agent, "api/jobs/", json=body)
        assert (taken.status_code, "Job with submission_id new already exists" in taken.text) == (500, True)
        seen = [get(agent, "api/jobs/new").json() for _ in range(4)]
        assert [each["status"] for each in seen] == ["PENDING", "RUNNING", "SUCCEEDED", "SUCCEEDED"]
        assert seen[0]["metadata"] == {"a": "b"}
        assert post(agent, "api/jobs/", json={"submission_id": "x"}).status_code == 400
        assert post(agent, "api/jobs/", json=body, headers={"Origin": "x"}).status_code == 405
        assert list(agent.jobs) == ["new"]


def test_stop_and_delete() -> None:
    import requests

    with ray(Job(status="RUNNING")) as agent:
        assert requests.delete(f"{agent.url}api/jobs/j1", timeout=PATIENCE).status_code == 500
        assert post(agent, "api/jobs/j1/stop").json() == {"stopped": True}
        agent.wait_until(lambda: agent.jobs["j1"].is_over)
        assert post(agent, "api/jobs/j1/stop").json() == {"stopped": False}
        assert requests.delete(f"{agent.url}api/jobs/j1", timeout=PATIENCE).json() == {"deleted": True}
        for answer in (get(agent, "api/jobs/j1"), post(agent, "api/jobs/j1/stop")):
            assert (answer.status_code, answer.text) == (404, "Job j1 does not exist")


def test_rows_of_the_state_api_and_their_filters() -> None:
    def rows(answer: Any) -> Any:
        return answer.json()["data"]["result"]["result"]

    nodes: list[dict[str, Any]] = [{"node_id": "ab" * 28, "resources_total": {"GPU": 2.0}}, {"node_id": "cd" * 28}]
    one = "filter_keys=node_id&filter_predicates=%3D&filter_values="
    with ray(nodes=nodes) as agent:
        find: Callable[[str], Any] = lambda query: get(agent, f"api/v0/nodes?{query}")  # noqa: E731
        assert rows(find("detail=1&limit=10000&timeout=7")) == nodes
        assert rows(find("limit=1")) == [{"node_id": "ab" * 28}]
        assert find("limit=1").json()["data"]["result"]["num_filtered"] == 2
        assert rows(find(f"{one}{'AB' * 28}&detail=1")) == nodes[:1]
        assert rows(find(f"{one}{'ef' * 28}")) == []
        for bad in ("limit=10001", "timeout=7.5", f"{one}head", "filter_keys=x"):
            assert (find(bad).status_code, find(bad).json()["result"]) == (400, False)
        assert [row["name"] for row in rows(get(agent, "api/v0/tasks"))] == ["f"]
        by_state = "api/v0/tasks?filter_keys=state&filter_predicates=%3D&filter_values="
        assert [row["name"] for row in rows(get(agent, f"{by_state}FINISHED"))] == ["f"]
        assert rows(get(agent, f"{by_state}RUNNING")) == []
        usage = get(agent, "api/cluster_status").json()["data"]["clusterStatus"]["loadMetricsReport"]["usageByNode"]
        assert usage == {"ab" * 28: {"GPU": [0.0, 2.0]}, "cd" * 28: {}}


def test_serve_applications_are_deleted_by_a_job() -> None:
    with ray(applications=[Application("a b", gone_after=None), Application("other")]) as agent:
        assert list(get(agent, "api/serve/applications/").json()["applications"]) == ["a b", "other"]
        post(agent, "api/jobs/", json={"entrypoint": "python -c 'serve.delete(sys.argv[1])' 'a b'"})
        found = get(agent, "api/serve/applications/").json()["applications"]
        assert {name: app["status"] for name, app in found.items()} == {"a b": "DELETING", "other": "RUNNING"}
