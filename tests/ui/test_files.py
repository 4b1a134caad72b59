"""The API server opens no file that a connection names, except in folders that its configuration names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.ui import conftest
from tests.ui.conftest import ask

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.scripted import ScriptedAgent
    from tests.stack.api_server import ApiServer

Tokens = dict[str, "str | None"]
JOBS = "api/connections/{}/jobs"
FORBIDDEN = "may not be opened here: {}. With Airflow's option [rayagent] api_server_folders"


def answer_of_test(server: ApiServer, tokens: Tokens, host: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Press the button "Test" for a connection that is not stored."""
    connection = {"connection_id": "tested", "conn_type": "rayagent", "host": host, "extra": json.dumps(extra)}
    answer = server.request("POST", "api/v2/connections/test", tokens["editor"], json=connection)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_the_page_sends_no_file_of_the_api_server_anywhere(
    server: ApiServer, stranger: ScriptedAgent, tokens: Tokens
) -> None:
    answer = ask(server, "GET", JOBS.format("ray_file"), tokens["editor"])
    assert answer.status_code >= 400
    assert FORBIDDEN.format(conftest.__file__) in answer.text
    assert stranger.requests == []


def test_a_file_in_a_permitted_folder_is_used(server: ApiServer, tokens: Tokens) -> None:
    assert ask(server, "GET", JOBS.format("ray_permitted"), tokens["editor"]).status_code == 200


@pytest.mark.parametrize("field", ["token_file", "ca_bundle", "client_cert"])
def test_the_test_of_a_connection_opens_no_other_file(
    field: str, server: ApiServer, stranger: ScriptedAgent, tokens: Tokens
) -> None:
    path = str(server.home / "airflow.cfg")
    host = stranger.url if field == "token_file" else stranger.url.replace("http:", "https:")
    answer = answer_of_test(server, tokens, host, {field: path})
    assert answer["status"] is False
    assert FORBIDDEN.format(path) in answer["message"]
    assert stranger.requests == []


def test_the_test_of_a_connection_uses_a_permitted_file(
    server: ApiServer, agent: ScriptedAgent, tokens: Tokens, token_file: Path
) -> None:
    assert answer_of_test(server, tokens, agent.url, {"token_file": str(token_file)})["status"] is True
