"""Another server at the connection's URL: no error, and no line of a log, tells what it answers."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.task_instance.stopping import stop_job
from airflow_provider_rayagent.transport.log_responses import read_whole_log
from tests.scripted import Answer, Drop, Job, Play, Raw, ScriptedAgent, Wire
from tests.scripted.foreign import BODIES, SECRET, foreign, told_in
from tests.unit.hooks import test_calls, test_over_ray
from tests.unit.support import task_log
from tests.unit.transports import USES, config_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_rayagent.transport.service_client import ServiceClient
    from tests.scripted import Step
    from tests.unit.support import Serve
    from tests.unit.transports import Transport

STATUSES = (200, 301, 400, 401, 403, 404, 409, 429, 500, 503)
MORE: list[tuple[str, tuple[Any, ...]]] = [
    ("get_cluster_resources", ()),
    ("submit_job", ("true",)),
    ("delete_serve_application", ("app",)),
    ("identify", ()),
]
PLUGINS: list[tuple[str, tuple[Any, ...]]] = [
    ("check_feasibility", ("job", 1)),
    ("list_plugin_releases", ()),
    ("get_plugin_release", ("train@1.0",)),
    ("run_plugin_release", ("train@1.0", "train")),
    ("run_debug_plugin_release", ("train",)),
]
CALLS: dict[str, list[tuple[str, tuple[Any, ...]]]] = {
    "agent": [*((method, given) for method, given, _, _ in test_calls.CALLS), *MORE, *PLUGINS],
    "ray": [*((method, given) for method, given, _, _ in test_over_ray.CALLS), *MORE, ("check_usable", ())],
}
"""The operations of each service, and their arguments."""
NOT_HTTP: dict[str, bytes] = {
    "a banner": f"{SECRET}\r\n".encode(),
    "a status that is no number": f"HTTP/1.1 {SECRET}\r\n\r\n".encode(),
    "a header that is none": f"HTTP/1.1 200 OK\r\n{SECRET}\r\n: {SECRET}\r\n\r\n".encode(),
    "a length that is none": f"HTTP/1.1 200 OK\r\nContent-Length: {SECRET}\r\n\r\n".encode(),
    "a chunk that is none": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{SECRET}\r\n".encode(),
    "an encoding that is none": f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n{SECRET}\r\n".encode(),
    "a reason": f"HTTP/1.1 500 {SECRET}\r\nContent-Length: 0\r\n\r\n".encode(),
    "a target that is none": f"HTTP/1.1 302 Found\r\nLocation: http://[{SECRET}\r\nContent-Length: 0\r\n\r\n".encode(),
    "a target that is a text": f"HTTP/1.1 302 Found\r\nLocation: {SECRET}\r\nContent-Length: 0\r\n\r\n".encode(),
    "another scheme": f"HTTP/1.1 302 Found\r\nLocation: data:{SECRET}\r\nContent-Length: 0\r\n\r\n".encode(),
}


def text_of(error: RayAgentError) -> str:
    """Return all that a log can tell of an error."""
    return f"{error!r} {''.join(traceback.format_exception(error))}"


def error_of(use: Callable[[], object], *, may_succeed: bool = False) -> str:
    """Return what a log can tell of the error of a request."""
    try:
        use()
    except RayAgentError as error:
        return text_of(error)
    assert may_succeed
    return ""


def always(answer: Step) -> dict[str, Sequence[Step]]:
    """Return the scripts of a server with one answer to all requests."""
    return {"*": [answer], "WS jobs/j1/logs/": [answer]}


async def errors_of_all_calls(agent: ServiceClient) -> list[str]:
    """Return what a log can tell of the errors of every call of a service that fails."""
    return [text for call in CALLS[agent.config.service.name] if (text := await _error_of_call(agent, *call))]


async def _error_of_call(agent: ServiceClient, method: str, given: tuple[Any, ...]) -> str:
    try:
        if "logs" in method:
            await read_whole_log(agent, JobId("j1"))
        else:
            await agent.ask(getattr(agent.config.service, method)(*given), tries=1)
    except RayAgentError as error:
        return text_of(error)
    return ""


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("service", CALLS)
def test_no_error_of_a_call_tells_what_another_server_answers(service: str, body: str, transport: Transport) -> None:
    with ScriptedAgent(service=service) as server:  # type: ignore[arg-type]
        for status in STATUSES:
            server.answers = always(foreign(body, status))
            told = transport.run(config_of(server, service=service), errors_of_all_calls)
            assert status == 200 or len(told) == len(CALLS[service])
            assert told_in(told) == []


@pytest.mark.parametrize("answer", NOT_HTTP)
def test_no_error_quotes_a_server_that_breaks_http(answer: str, transport: Transport) -> None:
    with ScriptedAgent(connects=[Play(Wire(NOT_HTTP[answer]), Drop())]) as server:
        config = config_of(server)
        for use in USES.values():
            told = error_of(lambda use=use: use(transport, config), may_succeed=True)  # type: ignore[misc]
            assert told_in([told]) == []


@pytest.mark.parametrize("body", BODIES)
def test_no_error_of_a_log_tells_what_another_server_answers(body: str, transport: Transport) -> None:
    with ScriptedAgent() as server:
        for status in STATUSES[1:]:
            server.answers = always(foreign(body, status))
            for use in USES.values():
                assert told_in([error_of(lambda use=use: use(transport, config_of(server)))]) == []  # type: ignore[misc]


@pytest.mark.parametrize("source", ["websocket", "http"])
@pytest.mark.parametrize("body", BODIES)
def test_no_job_is_followed_on_another_server(body: str, source: Any, transport: Transport) -> None:
    with ScriptedAgent() as server:
        for status in (200, 404, 500):
            server.answers = always(foreign(body, status))
            lines, following = transport.follow(config_of(server), source, unreachable_timeout=0.1, once=True)
            assert lines == []
            assert following.error is not None
            assert told_in([str(following.error), str(following.log_error)]) == []


@pytest.mark.parametrize("source", ["websocket", "http"])
def test_an_object_that_every_path_answers_is_no_log(source: Any, transport: Transport) -> None:
    """Such as the health of a server: it has a status, as a job has."""
    with ScriptedAgent(answers=always(Answer(200, {"status": "UP", "details": SECRET}))) as server:
        lines, following = transport.follow(config_of(server), source, once=True, unfinished=True)
    assert told_in([*lines, str(following.error), str(following.log_error)]) == []
    assert "neither a JSON string nor an object with logs" in str(following.log_error)


def test_what_follows_a_piece_of_a_log_is_not_quoted(transport: Transport) -> None:
    with ScriptedAgent(Job("line\n", full=[Play(Raw("line\n"), Wire(f"{SECRET}\r\n"), Drop())])) as server:
        assert told_in([error_of(lambda: transport.whole_log(config_of(server)))]) == []


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("service", CALLS)
def test_the_test_of_a_connection_tells_no_answer_of_another_server(service: Any, body: str, serve: Serve) -> None:
    server = serve(service=service)
    with RayAgentHook() as hook:
        for status in STATUSES:
            server.answers = always(foreign(body, status))
            good, words = hook.test_connection()
            # The health of an agent may be any object.
            assert good is ((service, body, status) == ("agent", "an object", 200))
            assert told_in([words]) == []


@pytest.mark.parametrize("words", [{"stopped": True}, {"status": "STOPPING", "job_id": "j1"}, {"AccessKeyId": SECRET}])
def test_of_the_answer_to_a_stop_only_the_fields_of_a_service_are_told(words: dict[str, Any], serve: Serve) -> None:
    serve(Job(status="RUNNING"), answers={"POST jobs/j1/stop/": [Answer(200, words)]})
    with task_log() as log, RayAgentHook() as hook:
        assert stop_job(hook.config, "j1", hook.log, "Why")
    shown = {} if "AccessKeyId" in words else words
    assert log.messages[-1] == f"Stop of job j1 requested; the response: {shown}"


def test_the_bodies_have_the_secret() -> None:
    assert told_in([body for body, _ in BODIES.values()]) == [body for body, _ in BODIES.values()]
    assert json.loads(BODIES["an object"][0])
