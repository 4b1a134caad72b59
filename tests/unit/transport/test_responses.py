"""Parse responses of the agent, valid and invalid ones."""

from __future__ import annotations

import gzip
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import AgentConfig
from airflow_provider_rayagent.errors.service_errors import (
    RayAgentAuthenticationError,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentNotFoundError,
    RayAgentPermissionError,
    RayAgentRateLimitError,
    RayAgentResponseError,
    RayAgentServerError,
)
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.transport import responses
from airflow_provider_rayagent.transport.responses import MAX_SHOWN
from tests.scripted import Answer, Html, Job, ScriptedAgent
from tests.unit.support import TOKEN
from tests.unit.support import make_agent as make_blocking_agent

if TYPE_CHECKING:
    from airflow_provider_rayagent.services.call import Call
    from tests.unit.transports import MakeAgent

CONFIG = AgentConfig("http://agent/")

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
def test_the_error_for_invalid_json_shows_part_of_the_body(body: bytes) -> None:
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
    ("status", "kind"),
    [
        (400, RayAgentHTTPError),
        (401, RayAgentAuthenticationError),
        (403, RayAgentPermissionError),
        (404, RayAgentNotFoundError),
        (422, RayAgentHTTPError),
        (429, RayAgentRateLimitError),
        (500, RayAgentServerError),
        (503, RayAgentServerError),
        (599, RayAgentServerError),
    ],
)
def test_each_error_status_has_its_error_class(status: int, kind: type[RayAgentHTTPError]) -> None:
    error = refused(Answer(status, {"detail": "so it is"}))
    assert type(error) is kind
    assert error.status_code == status
    assert error.detail == f"GET /jobs/j1/ answered {status}: so it is"
    assert str(error) == f"{error.code}: {error.detail}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": "Job not found"}, "Job not found"),
        ({"detail": [{"loc": ["path", "job_id"], "msg": "too long", "type": "x"}]}, "path.job_id: too long"),
        ({"detail": [{"msg": "bad"}, "plain", 7]}, "bad; plain; 7"),
        ({"detail": [{"loc": "oops", "msg": None}]}, "None"),
        ({"detail": [{"loc": None, "msg": "too short"}, {"loc": 5, "msg": "too old"}]}, "too short; too old"),
        ({"detail": {"code": 7}}, '{"code": 7}'),
        ({"detail": None}, "null"),
        ({"message": "No GPU", "error_type": "gpu_unavailable"}, "No GPU"),
        ({"other": "thing"}, '{"other": "thing"}'),
        ([1, 2], "[1, 2]"),
        ("Job j1 does not exist", "Job j1 does not exist"),
        ("two\n\n  lines\t here", "two lines here"),
    ],
)
def test_the_message_of_an_error_body_is_shown(body: object, words: str) -> None:
    assert words in str(refused(Answer(500, body)))


@pytest.mark.parametrize("body", [None, b"", "  \n"])
def test_an_error_without_a_body_names_the_request(body: Any) -> None:
    assert refused(Answer(500, body)).detail == "GET /jobs/j1/ answered 500."


def test_a_proxys_page_is_reduced_to_its_title() -> None:
    assert refused(Html(502)).detail == "GET /jobs/j1/ answered 502: 502"
    page = "<html><style>p {}</style><body><p>Down for <b>maintenance</b></p></body></html>"
    assert refused(Answer(503, page)).detail == "GET /jobs/j1/ answered 503: Down for maintenance"


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("<title>Down</title><p>more</p><title>again</title>", "Down"),
        ("<TITLE lang='en'>a &amp; <b>b</b></TITLE>x", "a &amp;"),
        ("<title></title><body>words</body>", "words"),
        ("<script>if (a<b && c>d) x()</script>text<style>p {}", "text"),
        ("1 < 2 <br/>and 3 > 2", "1 < 2 and 3 > 2"),
        ("<>< >text", "text"),
        ("<title>never ends", "never ends"),
    ],
)
def test_a_malformed_page_is_reduced_to_its_text(page: str, words: str) -> None:
    answer = Answer(502, page, content_type="text/html")
    assert refused(answer).detail == f"GET /jobs/j1/ answered 502: {words}"


@pytest.mark.parametrize("piece", ["<", "<style", "<style>", "<title", "<title>", "<a ", "<>", "<script>x", "</title>"])
def test_a_page_is_parsed_in_linear_time(piece: str) -> None:
    def seconds(size: int) -> float:
        page = (piece * size)[:size].encode()
        taken = []
        for _ in range(3):
            began = time.process_time()
            with pytest.raises(RayAgentServerError):
                responses.check_status(AGENT.get_job(JobId("j1")), 502, {"content-type": "text/html"}, page, CONFIG)
            taken.append(time.process_time() - began)
        return min(taken)

    assert seconds(64_000) < 10 * max(seconds(16_000), 0.005)


@pytest.mark.parametrize("depth", [100, 900, 990, 5_000, 100_000])
def test_a_deeply_nested_error_body_does_not_raise(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    for body in (nested, b'{"detail": ' + nested + b"}", b'{"detail": [' + nested + b"]}"):
        error = refused(Answer(500, body, content_type="application/json"))
        assert isinstance(error, RayAgentServerError)
        assert len(str(error)) < MAX_SHOWN + 200


def test_a_long_body_is_truncated() -> None:
    error = refused(Answer(500, "x" * 1_000_000))
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
        f"<html><body>{'x' * 5000}{TOKEN}</body></html>",
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
