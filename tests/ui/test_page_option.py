"""Without the page, ``[rayagent] page = False``: no route of it answers, and nothing leads to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scripted import Job, ScriptedAgent
from tests.stack.api_server import ApiServer, api_server, settings_of_users
from tests.ui.test_access import TABLE, VALUES, own_headers

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "password-of-a-test"


@pytest.fixture(scope="module", params=["False", "no page"])
def option(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def agent() -> Iterator[ScriptedAgent]:
    with ScriptedAgent(Job(job_id="succeeded")) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def server(option: str, agent: ScriptedAgent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    settings = settings_of_users(tmp_path_factory.mktemp("users"), {"root": "admin"}, PASSWORD)
    connections = {"ray_a": {"conn_type": "rayagent", "host": agent.url}}
    with api_server(connections=connections, settings={**settings, "AIRFLOW__RAYAGENT__PAGE": option}) as running:
        yield running


@pytest.fixture(scope="module")
def token(server: ApiServer) -> str:
    return server.sign_in("root", PASSWORD)


@pytest.mark.parametrize(("method", "path"), TABLE)
def test_no_route_of_the_page_answers(
    method: str, path: str, server: ApiServer, agent: ScriptedAgent, token: str
) -> None:
    values = {**VALUES, "name": "page.css"} if "static" in path else VALUES
    address = path.replace(":path", "").format(**values).lstrip("/")
    found = server.request(method, f"rayagent/{address}", token, json={}, headers=own_headers(server))
    # To an unknown path, Airflow answers with the page that loads its own UI, which then says that there is none.
    unknown = server.request(method, f"unknown/{address}", token, json={}, headers=own_headers(server))
    assert (found.status_code, found.text) == (unknown.status_code, unknown.text)
    assert agent.requests == []


def test_nothing_in_airflow_leads_to_the_page(server: ApiServer, token: str) -> None:
    plugins = server.request("GET", "api/v2/plugins", token).json()["plugins"]
    [plugin] = [each for each in plugins if each["name"] == "rayagent"]
    assert (plugin["fastapi_apps"], plugin["external_views"]) == ([], [])


def test_an_option_that_cannot_be_read_is_told(option: str, server: ApiServer, token: str) -> None:
    log = (server.home / "api-server.log").read_text()
    said = "RA-208: The Ray page is off, since Airflow's option [rayagent] page cannot be read"
    assert (said in log) is (option != "False")
