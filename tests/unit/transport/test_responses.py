"""Parse responses of the agent, valid and invalid ones."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import ServiceConfig
from airflow_provider_rayagent.errors.service_errors import (
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentNotFoundError,
    RayAgentResponseError,
    RayAgentServerError,
)
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.transport.responses import MAX_SHOWN
from tests.scripted import Answer, Html, Job, ScriptedAgent
from tests.unit.support import TOKEN, named
from tests.unit.support import make_agent as make_blocking_agent

if TYPE_CHECKING:
    from airflow_provider_rayagent.services.call import Call
    from tests.unit.transports import MakeAgent

CONFIG = ServiceConfig("http://agent/")

GET = "GET jobs/j1/"


def ask(answer: Answer, call: Call | None = None) -> Any:
    """Return the value of a call for a response."""
    call = call or AGENT.get_job(JobId("j1"))
    with (
        ScriptedAgent(Job(), answers={f"{call.method} {call.path}": [answer]}) as server,
        make_blocking_agent(server) as agent,
    ):
        return agent.send(call, tries=1)


def refused(answer: Answer, call: Call | None = None) -> RayAgentError:
    """Return the error of a call for a response."""
    with pytest.raises(RayAgentError) as caught:
        ask(answer, call)
    return caught.value


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/problem+json", ""])
def test_json_is_parsed_with_any_content_type(content_type: str) -> None:
    assert ask(Answer(200, b'\n {"a": "\xc3\xa9"} ', {"Content-Type": content_type})) == {"a": "é"}


@pytest.mark.parametrize("status", [200, 201, 202])
def test_every_2xx_status_is_a_success(status: int) -> None:
    assert ask(Answer(status, {"a": 1})) == {"a": 1}


def test_a_compressed_response_is_decompressed(make_agent: MakeAgent) -> None:
    answer = Answer(200, gzip.compress(b'{"a": 1}'), {"Content-Encoding": "gzip"})
    with ScriptedAgent(answers={"*": [answer]}) as server, make_agent(server) as agent:
        assert agent.send(AGENT.health_check()) == {"a": 1}


def test_a_wrong_content_encoding_is_a_connection_error(make_agent: MakeAgent) -> None:
    answer = Answer(200, b"{}", {"Content-Encoding": "gzip"})
    with (
        ScriptedAgent(answers={"*": [answer]}) as server,
        make_agent(server) as agent,
        pytest.raises(RayAgentConnectionError),
    ):
        agent.send(AGENT.health_check(), tries=1)


@pytest.mark.parametrize("value", [[], [{"a": 1}]])
def test_a_list_may_be_wrapped_in_results(value: list[Any]) -> None:
    assert ask(Answer(200, value), AGENT.list_jobs()) == value
    assert ask(Answer(200, {"count": len(value), "results": value}), AGENT.list_jobs()) == value


@pytest.mark.parametrize("answer", [Answer(204, None), Answer(200, b""), Answer(200, {"a": 1}), Html(200)])
def test_a_deletion_returns_none_for_any_body(answer: Answer) -> None:
    assert ask(answer, AGENT.delete_serve_application("app")) is None


@pytest.mark.parametrize("body", [b"", b"  \n", None])
def test_an_empty_body_is_an_error(body: bytes | None) -> None:
    error = refused(Answer(200, body))
    assert isinstance(error, RayAgentResponseError)
    assert "empty" in str(error)
    assert "GET /jobs/j1/" in str(error)
    assert error.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b'{"a": ',
        b"{'a': 1}",
        b'{"a": 1} trailing',
        b"\xff\xfe{",
        b"\x00\x01",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
    ids=range(9),
)
def test_the_error_for_invalid_json_names_the_request(body: bytes) -> None:
    error = refused(Answer(200, body))
    assert isinstance(error, RayAgentResponseError)
    assert error.status_code == 200
    assert "GET /jobs/j1/ answered 200" in str(error)
    assert len(str(error)) < MAX_SHOWN + 200


@pytest.mark.parametrize(
    ("call", "value"),
    [
        (AGENT.get_job(JobId("j1")), []),
        (AGENT.get_job(JobId("j1")), [{"a": 1}]),
        (AGENT.get_job(JobId("j1")), "RUNNING"),
        (AGENT.get_job(JobId("j1")), 7),
        (AGENT.get_job(JobId("j1")), None),
        (AGENT.health_check(), True),
        (AGENT.list_jobs(), {}),
        (AGENT.list_jobs(), {"results": {}}),
        (AGENT.list_jobs(), {"results": None}),
        (AGENT.list_jobs(), [1]),
        (AGENT.list_jobs(), [{}, None]),
        (AGENT.list_nodes(), "x"),
    ],
)
def test_json_of_another_shape_is_an_error(call: Call, value: object) -> None:
    error = refused(Answer(200, json.dumps(value), content_type="application/json"), call)
    assert isinstance(error, RayAgentResponseError)
    assert "a JSON list of objects" in str(error) or "a JSON object" in str(error)
    assert f"/{call.path}" in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        Html(200),
        Answer(200, "<!DOCTYPE html><title>Sign in</title><script>var a = 1;</script>"),
        Answer(200, "<HTML><head><title>\nSign in\n</title></head></HTML>", content_type="text/html"),
        Answer(200, '{"a": 1}', content_type="text/html; charset=utf-8"),
    ],
)
def test_an_html_page_with_status_200_is_an_error(answer: Answer) -> None:
    error = refused(answer)
    assert isinstance(error, RayAgentResponseError)
    assert "HTML page" in str(error)
    assert "<" not in str(error)


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, RayAgentHTTPError, Code.REQUEST_REFUSED),
        (401, RayAgentHTTPError, Code.TOKEN),
        (403, RayAgentHTTPError, Code.TOKEN),
        (404, RayAgentNotFoundError, Code.REQUEST_REFUSED),
        (422, RayAgentHTTPError, Code.REQUEST_REFUSED),
        (429, RayAgentHTTPError, Code.SERVICE_FAILED),
        (500, RayAgentServerError, Code.SERVICE_FAILED),
        (503, RayAgentServerError, Code.SERVICE_FAILED),
        (599, RayAgentServerError, Code.SERVICE_FAILED),
    ],
)
def test_each_error_status_has_its_error_class_and_code(status: int, kind: type[RayAgentHTTPError], code: Code) -> None:
    error = refused(Answer(status, {"detail": "so it is"}))
    assert type(error) is kind
    assert error.status_code == status
    assert error.detail == f"GET /jobs/j1/ answered {status}: so it is"
    assert str(error) == f"{code.value}: {error.detail}"


def test_the_words_of_the_service_are_shown_in_one_line() -> None:
    error = refused(Answer(500, {"detail": "two\n\n  lines\t here"}))
    assert error.detail == "GET /jobs/j1/ answered 500: two lines here"


@pytest.mark.parametrize("body", [None, b"", "  \n"])
def test_an_error_without_a_body_names_the_request(body: Any) -> None:
    assert refused(Answer(500, body)).detail == "GET /jobs/j1/ answered 500."


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Html(502), "answered 502, but not in the form of the agent (126 bytes, text/html)."),
        (Answer(400, "é"), "answered 400, but not in the form of the agent (2 bytes, text/plain); is this its URL?"),
        (Html(404), "answered 404, but not in the form of the agent (126 bytes, text/html); is this its URL?"),
        (Answer(500, {"other": 1}), "answered 500, but not in the form of the agent (12 bytes, application/json)."),
        (
            Html(200),
            "answered 200: expected JSON, got an HTML page (126 bytes, text/html); is this the URL of the agent?",
        ),
        (
            Answer(200, b"{", {"Content-Type": "text/plain; a=b"}),
            "answered 200: expected JSON, got invalid JSON (1 bytes, text/plain); is this the URL of the agent?",
        ),
        (
            Answer(200, "x" * 1_234),
            "answered 200: expected JSON, got invalid JSON (1,234 bytes, text/plain); is this the URL of the agent?",
        ),
        (
            Answer(200, ["text"]),
            "answered 200: expected a JSON object, got other JSON (8 bytes, application/json); "
            "is this the URL of the agent?",
        ),
        (
            Answer(200, " "),
            "answered 200: expected JSON, got an empty body; is this the URL of the agent?",
        ),
    ],
    ids=named,
)
def test_of_a_body_that_is_not_the_services_size_and_type_are_told(answer: Answer, words: str) -> None:
    assert refused(answer).detail == f"GET /jobs/j1/ {words}"


@pytest.mark.parametrize(
    ("content_type", "shown"),
    [
        ("Text/X.y+z ;charset=utf-8", ", Text/X.y+z"),
        ("", ""),
        ("secret words", ""),
        ("text/plain secret", ""),
        ("text/a\tb", ""),
        (f"text/{'x' * 61}", ""),
        (f"text/{TOKEN}", ", text/***"),
        ("text/\xe9", ""),
    ],
    ids=ascii,
)
def test_a_content_type_is_told_if_it_is_one(content_type: str, shown: str) -> None:
    body = Answer(500, b"abc", {"Content-Type": content_type})
    assert refused(body).detail == f"GET /jobs/j1/ answered 500, but not in the form of the agent (3 bytes{shown})."


@pytest.mark.parametrize("depth", [100, 900, 990, 5_000, 100_000])
def test_a_deeply_nested_error_body_does_not_raise(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    for body in (nested, b'{"detail": ' + nested + b"}", b'{"detail": [' + nested + b"]}"):
        error = refused(Answer(500, body, content_type="application/json"))
        assert isinstance(error, RayAgentServerError)
        assert len(str(error)) < MAX_SHOWN + 200


def test_long_words_are_truncated() -> None:
    error = refused(Answer(500, {"detail": "x" * 10_000}))
    assert str(error).endswith("characters truncated]")
    assert len(str(error)) < MAX_SHOWN + 100


@pytest.mark.parametrize("status", [200, 401, 500])
@pytest.mark.parametrize(
    "body",
    [
        f"token {TOKEN} is wrong",
        {"detail": f"got {TOKEN}"},
        {"detail": [{"loc": ["header"], "msg": TOKEN, "input": TOKEN}]},
        {"detail": {"got": TOKEN}},
        [TOKEN],
        f"<html><title>{TOKEN}</title></html>",
    ],
)
def test_a_token_in_the_response_is_redacted(status: int, body: object) -> None:
    if status == 200 and isinstance(body, dict):
        body = [body]
    assert TOKEN not in str(refused(Answer(status, body)))


def test_errors_can_be_pickled() -> None:
    import pickle

    error = refused(Answer(404, {"detail": "x"}))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.status_code) == (type(error), str(error), 404)


def test_an_error_of_a_conversion_keeps_its_code() -> None:
    def convert(_: Any) -> None:
        raise RayAgentResponseError("No such form.", 502, code=Code.JOB_MISSING)

    error = refused(Answer(200, b"{}"), replace(AGENT.get_job(JobId("j1")), convert=convert))
    assert (error.code, error.status_code, error.detail) == (Code.JOB_MISSING, 502, "No such form.")
