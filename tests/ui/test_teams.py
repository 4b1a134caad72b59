"""An Airflow with teams: connections of a team are for its members and for the tasks of its DAGs only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scripted import Job, ScriptedAgent
from tests.stack.airflow import run_airflow
from tests.stack.api_server import ApiServer, api_server, settings_of_users
from tests.stack.teams import team_settings
from tests.ui.conftest import ask
from tests.ui.stored_task import stored_task

if TYPE_CHECKING:
    from collections.abc import Iterator

TEAMS = ("red_team", "blue_team")
PASSWORD = "password-of-a-test"
USERS = {"root": "admin", "red": "op:red_team", "blue": "op:blue_team"}
DAG_FILE = """
from airflow.sdk import DAG
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor

with DAG("of_{team}", schedule=None):
    RayAgentJobSensor(task_id="follow", job_id="secret", rayagent_conn_id="ray_red")
"""


@pytest.fixture(scope="module")
def agent() -> Iterator[ScriptedAgent]:
    with ScriptedAgent(Job("a line\n", job_id="secret")) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def server(
    agent: ScriptedAgent, stranger: ScriptedAgent, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    """An API server with a DAG of each team, a connection of a team and one of everyone in the database."""
    folder = tmp_path_factory.mktemp("teams")
    settings = {
        **settings_of_users(folder, USERS, PASSWORD),
        **team_settings(folder, TEAMS, DAG_FILE),
    }
    of_environment = {"_red_team___hidden": {"conn_type": "rayagent", "host": stranger.url}}
    with api_server(settings=settings, teams=TEAMS, connections=of_environment) as running:
        root = running.sign_in("root", PASSWORD)
        for name, team in (("ray_red", "red_team"), ("ray_all", None)):
            connection = {"connection_id": name, "conn_type": "rayagent", "host": agent.url, "team_name": team}
            answer = running.request("POST", "api/v2/connections", root, json=connection)
            assert answer.ok, answer.text
        run_airflow(running.env, "dags", "reserialize")
        yield running


@pytest.fixture(scope="module")
def tokens(server: ApiServer) -> dict[str, str]:
    return {name: server.sign_in(name, PASSWORD) for name in USERS}


@pytest.mark.parametrize(
    ("user", "names"), [("root", ["ray_all", "ray_red"]), ("red", ["ray_all", "ray_red"]), ("blue", ["ray_all"])]
)
def test_connections_of_other_teams_are_neither_listed_nor_used(
    user: str, names: list[str], server: ApiServer, tokens: dict[str, str]
) -> None:
    assert server.request("GET", "rayagent/api/connections", tokens[user]).json() == {"connections": names}
    for name in ("ray_all", "ray_red"):
        answer = ask(server, "GET", f"api/connections/{name}/jobs", tokens[user])
        assert answer.status_code == (200 if name in names else 403), answer.text


@pytest.mark.parametrize("user", USERS)
def test_a_connection_that_a_team_has_in_the_environment_only_is_not_used(
    user: str, server: ApiServer, stranger: ScriptedAgent, tokens: dict[str, str]
) -> None:
    answer = server.request("GET", "rayagent/api/connections/_red_team___hidden/jobs", tokens[user])
    assert answer.status_code == 404
    assert stranger.requests == []


@pytest.mark.parametrize(("team", "user", "status"), [("red_team", "red", 200), ("blue_team", "blue", 404)])
def test_the_tab_of_a_task_does_not_use_the_connection_of_another_team(
    team: str, user: str, status: int, server: ApiServer, tokens: dict[str, str]
) -> None:
    """Airflow refuses that connection to the task, but stores its name as an argument of the task."""
    task = stored_task(server, tokens["root"], f"of_{team}", "follow")
    task.set("running", rayagent_conn_id="ray_red", job_id="secret")
    for path in ("job", "job/log", "job/log/download", "cluster"):
        assert ask(server, "GET", f"{task.tab}/{path}", tokens[user]).status_code == status, path
