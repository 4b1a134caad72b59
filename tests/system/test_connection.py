"""The connection, as an operator makes and tests it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.stack.processes import NO_AGENT

if TYPE_CHECKING:
    from tests.system.support import System

WRONG = "this-is-not-the-token"


def tried(system: System, **fields: Any) -> tuple[bool, str]:
    """Press the button *Test* with these fields of a connection form."""
    connection = {"connection_id": "tried", "conn_type": "rayagent", "password": system.agent.token, **fields}
    answer = system.api("POST", "connections/test", **connection)
    return answer["status"], answer["message"]


def test_the_test_of_a_good_connection_names_the_agent_and_its_version(system: System) -> None:
    from airflow_provider_rayagent import __version__

    good, words = tried(system, host=system.agent.url)
    assert good
    assert words.startswith(f"Connected to agent {__version__} at {system.agent.url}")
    host, port = system.agent.url.removeprefix("http://").split(":")
    assert tried(system, host=host, port=int(port), schema="http")[0]


def test_the_test_of_a_bad_connection_says_what_is_wrong(system: System) -> None:
    refused = tried(system, host=system.agent.url, password=WRONG)
    assert refused == (False, "The agent rejected the token (401): check the Token (password).")
    good, words = tried(system, host=NO_AGENT)
    assert not good
    assert NO_AGENT in words
    good, words = tried(system, host=system.airflow.url)
    assert not good
    assert words.startswith(f"The server at {system.airflow.url}")
    assert "is not a Ray agent" in words
    good, words = tried(system, host="")
    assert not good
    assert "host" in words


def test_the_connection_type_is_offered_in_the_form(system: System) -> None:
    forms = system.api("GET", "../../ui/connections/hook_meta")
    assert [form["hook_name"] for form in forms if form["connection_type"] == "rayagent"] == ["Ray agent"]


@pytest.fixture(scope="module")
def stored(system: System) -> str:
    """A connection in Airflow's database."""
    host, port = system.agent.url.removeprefix("http://").split(":")
    system.api(
        "POST",
        "connections",
        connection_id="rayagent_stored",
        conn_type="rayagent",
        host=host,
        port=int(port),
        schema="http",
        password=system.agent.token,
        extra='{"read_timeout": 20}',
    )
    return "rayagent_stored"


def test_a_connection_in_the_database_is_used_like_one_in_the_environment(system: System, stored: str) -> None:
    job_id = system.submit("print('hello')")
    task = system.follow(job_id, "system_plain", conn_id=stored)
    task.assert_ends("success")
    assert task.forwarded() == system.log_of(job_id)


def test_a_task_with_a_wrong_token_fails_and_says_so(system: System) -> None:
    system.api(
        "POST",
        "connections",
        connection_id="rayagent_wrong",
        conn_type="rayagent",
        host=system.agent.url,
        password=WRONG,
    )
    job_id = system.submit("print('hello')")
    task = system.follow(job_id, "system_plain", conn_id="rayagent_wrong")
    task.assert_ends("failed", "up_for_retry")
    assert "401" in task.text()
    assert WRONG not in task.text()
