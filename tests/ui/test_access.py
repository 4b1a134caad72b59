"""Who may call which route: all routes, with the real roles of FAB."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.routing import APIRoute

from airflow_provider_rayagent.ui.access import OWN_HEADER
from airflow_provider_rayagent.ui.app import WithHeaders, create_app
from airflow_provider_rayagent.ui.routes import PREFIXES
from tests.stack.watch import wait_until
from tests.ui.conftest import DAG_ID, TOKEN, UNUSED, USERS, ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import ScriptedAgent
    from tests.stack.api_server import ApiServer
    from tests.ui.stored_task import StoredTask

VALUES = {
    "connection_id": "ray_a",
    "cluster": "unused",
    "job_id": "succeeded",
    "name": "app",
    "dag_id": DAG_ID,
    "run_id": "run",
    "task_id": "task",
    "map_index": "-1",
}
SIGNED_IN = set(USERS)
CONNECTION, EDIT, TASK_LOGS = {"reader", "editor", "admin"}, {"editor", "admin"}, {"viewer", "owner", "editor", "admin"}
TABLE: dict[tuple[str, str], set[str]] = {
    ("GET", "/"): SIGNED_IN,
    ("GET", "/task"): SIGNED_IN,
    ("GET", "/static/{name}"): SIGNED_IN,
    ("GET", "/api/connections"): SIGNED_IN,
    **{
        (method, prefix + path): users
        for prefix in PREFIXES
        for (method, path), users in {
            ("GET", "/jobs"): CONNECTION,
            ("GET", "/jobs/{job_id}"): CONNECTION,
            ("GET", "/jobs/{job_id}/log"): CONNECTION,
            ("GET", "/jobs/{job_id}/log/download"): CONNECTION,
            ("POST", "/jobs/{job_id}/stop"): EDIT,
            ("GET", "/cluster"): CONNECTION,
            ("GET", "/applications"): CONNECTION,
            ("DELETE", "/applications/{name:path}"): EDIT,
        }.items()
    },
    ("GET", "/api/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/{map_index}/job"): TASK_LOGS,
    ("GET", "/api/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/{map_index}/job/log"): TASK_LOGS,
    ("GET", "/api/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/{map_index}/job/log/download"): TASK_LOGS,
    ("GET", "/api/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/{map_index}/cluster"): TASK_LOGS,
}
"""Who may call each route."""


def own_headers(server: ApiServer) -> dict[str, str]:
    return {OWN_HEADER: "1", "Origin": server.url}


def test_the_table_has_every_route() -> None:
    app = create_app()
    assert isinstance(app, WithHeaders)
    found = {
        (method, route.path)
        for route in app.app.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    assert found == set(TABLE)
    assert len(app.app.routes) == len(TABLE)


@pytest.mark.parametrize(
    "user",
    [
        pytest.param(user, marks=() if user in ("nobody", "reader", "owner", "editor") else pytest.mark.full)
        for user in ("nobody", *USERS)
    ],
)
@pytest.mark.parametrize(("method", "path"), TABLE)
def test_a_route_answers_those_who_may_call_it_and_no_others(
    method: str, path: str, user: str, server: ApiServer, tokens: dict[str, str | None]
) -> None:
    values = {**VALUES, "name": "page.css"} if "static" in path else VALUES
    address = path.replace(":path", "").format(**values).lstrip("/")
    answer = ask(server, method, address, tokens[user], json={}, headers=own_headers(server))
    if user == "nobody":
        assert answer.status_code == 401
    elif user not in TABLE[method, path]:
        assert answer.status_code == 403
    else:
        # Neither the task instance nor the cluster of these addresses exists.
        assert answer.status_code == (404 if "/dags/" in path or "@" in path else 200), answer.text


@pytest.mark.parametrize(
    ("method", "path", "what"),
    [("POST", "jobs/stoppable/stop", "POST jobs/stoppable/stop/"), ("DELETE", "applications/kept", "DELETE")],
)
def test_a_request_from_elsewhere_changes_nothing(
    method: str, path: str, what: str, server: ApiServer, agent: ScriptedAgent, tokens: dict[str, str | None]
) -> None:
    own = own_headers(server)
    for headers in (
        {},
        {OWN_HEADER: "1"},
        {"Origin": server.url},
        {**own, "Origin": "https://evil.example.com"},
        {**own, "Sec-Fetch-Site": "cross-site"},
    ):
        address = f"rayagent/api/connections/ray_a/{path}"
        answer = server.request(method, address, tokens["admin"], json={}, headers=headers)
        assert answer.status_code == 403, headers
    assert [each for each in agent.requests if what in f"{each.method} {each.path}" and "kept" in each.path] == []
    assert agent.jobs["stoppable"].stop_calls == 0


@pytest.mark.parametrize("user", USERS)
def test_only_connections_that_the_user_may_read_are_listed(
    user: str, server: ApiServer, tokens: dict[str, str | None]
) -> None:
    answer = server.request("GET", "rayagent/api/connections", tokens[user]).json()
    others = ("ray_dead", "ray_file", "ray_many", "ray_no_host", "ray_own", "ray_permitted", "ray_refused")
    assert answer == {"connections": sorted(["ray_a", *UNUSED, *others]) if user in CONNECTION else []}


def test_a_connection_of_another_type_is_not_used(
    server: ApiServer, agent: ScriptedAgent, tokens: dict[str, str | None]
) -> None:
    # The logs that other tests follow have other requests.
    before = len(agent.of("GET jobs/"))
    answer = server.request("GET", "rayagent/api/connections/web/jobs", tokens["admin"])
    assert answer.status_code == 404
    assert len(agent.of("GET jobs/")) == before


def test_a_wildcard_for_dags_is_no_way_around_the_permission(server: ApiServer, tokens: dict[str, str | None]) -> None:
    answer = server.request("GET", "rayagent/api/dags/~/runs/~/tasks/~/-1/job", tokens["other"])
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("event", "method", "path", "what"),
    [
        ("stop_ray_job", "POST", "jobs/succeeded/stop", {"job_id": "succeeded"}),
        ("delete_serve_application", "DELETE", "applications/app", {"name": "app"}),
        ("delete_serve_application", "DELETE", "applications/team%2Fapp", {"name": "team/app"}),
    ],
)
def test_what_is_stopped_or_deleted_is_in_the_audit_log_of_airflow_and_what_was_refused_is_not(
    event: str, method: str, path: str, what: dict[str, str], server: ApiServer, tokens: dict[str, str | None]
) -> None:
    def rows() -> list[Any]:
        answer = server.request("GET", f"api/v2/eventLogs?event={event}&order_by=-id", tokens["admin"]).json()
        found: list[Any] = answer["event_logs"]
        return found

    before = len(rows())
    for user in ("reader", "editor"):
        address = f"rayagent/api/connections/ray_a/{path}"
        server.request(method, address, tokens[user], json={}, headers=own_headers(server))
    # Airflow can write the row after its answer.
    found = wait_until(lambda: found if len(found := rows()) > before else None, f"{event} is not recorded")
    assert len(found) == before + 1
    assert found[0]["owner"] == "editor"
    assert json.loads(found[0]["extra"]) == {"connection_id": "ray_a", "method": method, **what}
    assert TOKEN not in str(found)


@pytest.mark.parametrize(("user", "is_shown"), [("admin", True), ("editor", True), ("reader", False)])
def test_a_job_links_to_the_task_that_follows_it_for_those_who_may_read_that_task(
    user: str, is_shown: bool, server: ApiServer, tokens: dict[str, str | None], follower: StoredTask
) -> None:
    def linked(path: str) -> Any:
        answer = ask(server, "GET", f"api/connections/ray_a/{path}", tokens[user]).json()
        return {job["job_id"]: job["followed_by"] for job in answer.get("jobs", [answer])}

    follower.set("deferred")
    expected = follower.as_link() if is_shown else None
    wait_until(lambda: linked("jobs/running") == {"running": expected} or None, "the link is not that of the task")
    # No link is shown while Airflow's database takes long.
    links = wait_until(
        lambda: links if (links := linked("jobs"))["running"] == expected else None, "the list has not the same link"
    )
    assert {job for job, link in links.items() if link} == ({"running"} if is_shown else set())


def test_a_task_that_has_ended_follows_no_job(
    server: ApiServer, tokens: dict[str, str | None], follower: StoredTask
) -> None:
    follower.set("failed")
    address = "api/connections/ray_a/jobs/running"
    wait_until(
        lambda: ask(server, "GET", address, tokens["admin"]).json()["followed_by"] is None or None,
        "the job still links to the task",
    )


@pytest.mark.parametrize(("user", "connection"), [("viewer", None), ("owner", None), ("editor", "ray_a")])
def test_the_tab_of_a_task_stops_its_job_for_those_who_may_edit_the_connection(
    user: str, connection: str | None, server: ApiServer, tokens: dict[str, str | None], follower: StoredTask
) -> None:
    details = ask(server, "GET", f"{follower.tab}/job", tokens[user]).json()
    assert (details["job_id"], details["connection_id"]) == ("running", connection)


HOSTILE = {"__classname__": "antigravity.no_such", "__version__": 1, "__data__": {}}
"""A value whose deserialization imports a module."""
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "an argument of a submit operator": ("submit", {"job_id": "running", "entrypoint": "true", "xcom": "running"}),
    "an argument of a stop operator": ("stop", {"job_id": "running"}),
    "an XCom": ("submit", {"job_id": None, "xcom": "running"}),
    "an XCom in JSON": ("submit", {"job_id": None, "xcom": '"running"'}),
    "an XCom that is an object": ("submit", {"job_id": None, "xcom": HOSTILE}),
    "an XCom that is an object in JSON": ("submit", {"job_id": None, "xcom": json.dumps(HOSTILE)}),
}
"""Ways to name the job of another DAG."""


@pytest.mark.parametrize("path", ["job", "job/log", "job/log/download", "cluster"])
@pytest.mark.parametrize("way", OTHERS)
def test_the_tab_of_a_task_shows_no_job_of_another_dag(
    way: str, path: str, server: ApiServer, tokens: dict[str, str | None], taking: Callable[..., StoredTask]
) -> None:
    task_id, fields = OTHERS[way]
    task = taking(task_id, **fields)
    answer = ask(server, "GET", f"{task.tab}/{path}", tokens["viewer"])
    assert answer.status_code == 404, answer.text


def test_the_tab_of_a_task_shows_a_job_of_its_own_dag(
    server: ApiServer, tokens: dict[str, str | None], taking: Callable[..., StoredTask]
) -> None:
    for task in (taking("submit", job_id=None, xcom="stoppable"), taking("stop", job_id="stoppable")):
        assert ask(server, "GET", f"{task.tab}/job", tokens["viewer"]).json()["job_id"] == "stoppable"


@pytest.mark.parametrize("number", [2**31, 2**70, -2])
def test_a_map_index_that_no_task_has_is_refused(
    number: int, server: ApiServer, tokens: dict[str, str | None], follower: StoredTask
) -> None:
    path = follower.tab.removesuffix("-1")
    assert ask(server, "GET", f"{path}{number}/job", tokens["viewer"]).status_code == 422
