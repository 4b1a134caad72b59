"""The page with a connection that has several clusters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest

from tests.stack.watch import wait_until
from tests.ui.conftest import TOKEN, ask, whole_log
from tests.ui.test_access import own_headers

if TYPE_CHECKING:
    from tests.scripted import ScriptedAgent
    from tests.stack.api_server import ApiServer
    from tests.ui.stored_task import StoredTask


@pytest.fixture(scope="module")
def cluster(agent: ScriptedAgent) -> str:
    return urlsplit(agent.url).netloc


@pytest.fixture(scope="module")
def prefix(cluster: str) -> str:
    """The path of the routes of the cluster."""
    return path_of(cluster)


@pytest.fixture
def task(follower: StoredTask, cluster: str) -> StoredTask:
    """A deferred task that follows a job in the cluster."""
    task = replace(follower, task_id="follow_in_cluster")
    task.set("deferred", rayagent_conn_id="ray_many", cluster=cluster, job_id="running")
    return task


def path_of(cluster: str) -> str:
    return f"api/connections/{quote(f'ray_many@{cluster}', safe='')}"


def listed(server: ApiServer, token: str | None) -> list[str]:
    connections = server.request("GET", "rayagent/api/connections", token).json()["connections"]
    return [name for name in connections if name.startswith("ray_many")]


def seen(server: ApiServer, token: str | None, path: str, status: int) -> Any:
    """Return the answer with a status, which takes the time for which viewers share what they see."""
    return wait_until(
        lambda: answer if (answer := ask(server, "GET", path, token)).status_code == status else None,
        f"{path} is not answered with {status}",
    )


@pytest.mark.parametrize(
    ("user", "sees_connection", "sees_cluster"),
    [("admin", True, True), ("editor", True, True), ("reader", True, False), ("viewer", False, False)],
)
def test_a_cluster_is_listed_for_those_who_may_read_the_connection_and_the_task(
    user: str,
    sees_connection: bool,
    sees_cluster: bool,
    server: ApiServer,
    tokens: dict[str, str | None],
    task: StoredTask,
    cluster: str,
) -> None:
    wait_until(lambda: len(listed(server, tokens["admin"])) == 2 or None, "the cluster is not listed")
    expected = ["ray_many"] * sees_connection + [f"ray_many@{cluster}"] * sees_cluster
    # Nothing is listed while Airflow's database takes long.
    wait_until(lambda: listed(server, tokens[user]) == expected or None, f"{user} does not see {expected}")


def test_a_cluster_of_a_task_has_the_views_of_a_connection(
    server: ApiServer, tokens: dict[str, str | None], task: StoredTask, prefix: str
) -> None:
    token = tokens["editor"]
    found = seen(server, token, f"{prefix}/jobs", 200).json()
    assert "running" in {job["job_id"] for job in found["jobs"]}
    wait_until(
        lambda: ask(server, "GET", f"{prefix}/jobs/running", token).json().get("followed_by") == task.as_link() or None,
        "the job does not link to the task",
    )
    assert '"b"' in whole_log(server, f"{prefix}/jobs/succeeded/log", token)
    assert ask(server, "GET", f"{prefix}/jobs/succeeded/log/download", token).text == "a\nb\n"
    assert ask(server, "GET", f"{prefix}/cluster", token).status_code == 200
    assert "kept" in str(ask(server, "GET", f"{prefix}/applications", token).json())
    stopped = ask(server, "POST", f"{prefix}/jobs/succeeded/stop", token, json={}, headers=own_headers(server))
    assert stopped.json() == {}


def test_a_cluster_is_not_shown_to_those_who_may_not_read_its_task(
    server: ApiServer, tokens: dict[str, str | None], task: StoredTask, prefix: str
) -> None:
    seen(server, tokens["admin"], f"{prefix}/jobs", 200)
    answer = ask(server, "GET", f"{prefix}/jobs", tokens["reader"])
    assert answer.status_code == 404
    assert "No task that you may read" in answer.text


def test_a_cluster_is_not_shown_any_more_when_its_task_has_ended(
    server: ApiServer, tokens: dict[str, str | None], task: StoredTask, prefix: str
) -> None:
    seen(server, tokens["admin"], f"{prefix}/jobs", 200)
    task.set("failed")
    seen(server, tokens["admin"], f"{prefix}/jobs", 404)
    wait_until(lambda: listed(server, tokens["admin"]) == ["ray_many"] or None, "the cluster is still listed")
    # The tab shows what the log of the task has, which stays.
    assert ask(server, "GET", f"{task.tab}/job", tokens["viewer"]).json()["job_id"] == "running"


def test_no_request_is_sent_to_a_cluster_that_only_a_url_or_only_a_task_names(
    server: ApiServer, tokens: dict[str, str | None], task: StoredTask, stranger: ScriptedAgent
) -> None:
    foreign = urlsplit(stranger.url).netloc
    for cluster in (foreign, f"{foreign}/", "@", "..", f"a@{foreign}", "", "%7Bcluster%7D", "x" * 5_000):
        answer = ask(server, "GET", f"{path_of(cluster)}/jobs", tokens["admin"])
        assert answer.status_code == 404, cluster
    task.set("deferred", rayagent_conn_id="ray_many", cluster=foreign, job_id="running")
    refused = seen(server, tokens["admin"], f"{path_of(foreign)}/jobs", 502)
    assert "RA-210" in refused.text
    assert "RA-210" in ask(server, "GET", f"{task.tab}/job", tokens["admin"]).text
    assert stranger.requests == []


@pytest.mark.parametrize("cluster", [None, "", ["a"], {"a": 1}, 7])
def test_a_connection_with_clusters_needs_one(
    cluster: Any, server: ApiServer, tokens: dict[str, str | None], task: StoredTask
) -> None:
    task.set("deferred", rayagent_conn_id="ray_many", cluster=cluster, job_id="running")
    answer = ask(server, "GET", f"{task.tab}/job", tokens["admin"])
    assert answer.status_code == 502
    assert "name the cluster" in answer.text


@pytest.mark.parametrize(("user", "is_named"), [("viewer", False), ("editor", True)])
def test_the_tab_of_a_task_stops_its_job_in_the_cluster(
    user: str,
    is_named: bool,
    server: ApiServer,
    tokens: dict[str, str | None],
    task: StoredTask,
    cluster: str,
) -> None:
    details = seen(server, tokens[user], f"{task.tab}/job", 200).json()
    assert details["connection_id"] == (f"ray_many@{cluster}" if is_named else None)
    assert TOKEN not in str(details)
