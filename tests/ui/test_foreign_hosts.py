"""Another server at a connection's URL: neither the page nor the test of a connection tells what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.scripted import ScriptedAgent
from tests.scripted.foreign import BODIES, foreign, told_in
from tests.stack.api_server import ApiServer, api_server, settings_of_users
from tests.ui.conftest import ask, whole_log
from tests.ui.test_access import TABLE, VALUES, own_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.scripted import Answer, Request, Step

PASSWORD = "password-of-a-test"
STATUSES = (200, 301, 401, 404, 500)
SERVICES = ("agent", "ray")
ROUTES = [(method, path) for method, path in TABLE if "connection_id" in path and "@" not in path]
"""The routes that ask a service; those with a cluster ask it by the same functions."""
FINAL = (301, 401)
"""Statuses that end the reading of a log at once."""


def path_of(service: str, body: str, status: int) -> str:
    """Return the path below which the server answers so; it is the id of the connection, too."""
    return f"{service}_{list(BODIES).index(body)}_{status}"


def answer(request: Request) -> Answer:
    _, body, status = request.path.partition("/")[0].split("_")
    return foreign(list(BODIES)[int(body)], int(status))


@pytest.fixture(scope="module")
def host() -> Iterator[ScriptedAgent]:
    script: list[Step] = [answer]
    with ScriptedAgent(answers={"*": script}) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def server(host: ScriptedAgent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    names = [
        (service, path_of(service, body, status)) for service in SERVICES for body in BODIES for status in STATUSES
    ]
    connections = {
        name: {"conn_type": "rayagent", "host": f"{host.url}{name}", "extra": {"service": service}}
        for service, name in names
    }
    settings = settings_of_users(tmp_path_factory.mktemp("users"), {"editor": "op"}, PASSWORD)
    with api_server(connections=connections, settings={**settings, "AIRFLOW__CORE__TEST_CONNECTION": "Enabled"}) as run:
        yield run


@pytest.fixture(scope="module")
def token(server: ApiServer) -> str:
    return server.sign_in("editor", PASSWORD)


def with_each_answer(test: Callable[..., None]) -> Callable[..., None]:
    """Parametrize a test with each service and each answer of another server."""
    for name, values in (("service", SERVICES), ("body", BODIES), ("status", STATUSES)):
        test = pytest.mark.parametrize(name, values)(test)
    return test


@with_each_answer
def test_no_route_of_the_page_tells_what_another_server_answers(
    service: str, body: str, status: int, server: ApiServer, host: ScriptedAgent, token: str
) -> None:
    name = path_of(service, body, status)
    before = len(host.requests)
    texts = []
    for method, path in ROUTES:
        if "/log" in path and status not in FINAL:
            continue
        address = path.replace(":path", "").format(**{**VALUES, "connection_id": name}).lstrip("/")
        if path.endswith("/log"):
            texts.append(whole_log(server, address, token))
            continue
        found = ask(server, method, address, token, json={}, headers=own_headers(server))
        texts.append(f"{found.text} {found.headers}")
    assert len(host.requests) > before
    assert told_in(texts) == []


@with_each_answer
def test_the_test_of_a_connection_tells_no_answer_of_another_server(
    service: str, body: str, status: int, server: ApiServer, host: ScriptedAgent, token: str
) -> None:
    url = f"{host.url}{path_of(service, body, status)}"
    connection: dict[str, Any] = {"connection_id": "tested", "conn_type": "rayagent", "host": url}
    connection["extra"] = f'{{"service": "{service}"}}'
    found = server.request("POST", "api/v2/connections/test", token, json=connection)
    assert found.status_code == 200, found.text
    assert told_in([found.text]) == []
