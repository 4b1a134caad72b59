"""Redirects are followed on the same host only, so that the token is not sent elsewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import ServiceConfig
from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentHTTPError
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.transport.responses import check_status
from tests.scripted import DEFAULT, Job, Redirect, ScriptedAgent, Step
from tests.unit.support import TOKEN
from tests.unit.transports import Transport, config_of

if TYPE_CHECKING:
    from airflow_provider_rayagent.services.call import Call
    from tests.unit.transports import MakeAgent

GET = "GET jobs/j1/"
POST = "POST jobs/j1/stop/"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_get_follows_a_redirect_on_the_same_host_with_its_headers(status: int, make_agent: MakeAgent) -> None:
    with ScriptedAgent(Job(), Job(job_id="moved"), token=TOKEN) as server, make_agent(server) as agent:
        server.answers[GET] = [Redirect("/jobs/moved/", status)]
        assert agent.send(AGENT.get_job(JobId("j1")))["submission_id"] == "moved"
        assert server.of("GET jobs/moved/")[0].headers["authorization"] == TOKEN


@pytest.mark.parametrize("status", [307, 308])
def test_a_post_follows_a_redirect_that_preserves_the_method(status: int, make_agent: MakeAgent) -> None:
    with (
        ScriptedAgent(Job(), Job(status="RUNNING", job_id="moved"), token=TOKEN) as server,
        make_agent(server) as agent,
    ):
        server.answers[POST] = [Redirect(f"{server.url}jobs/moved/stop/", status)]
        assert agent.send(AGENT.stop_job(JobId("j1"))) == {"stopped": True}
        assert len(server.of("POST")) == 2


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_post_does_not_turn_into_a_get(status: int, make_agent: MakeAgent) -> None:
    with ScriptedAgent(Job(), answers={POST: [Redirect("/jobs/", status)]}) as server, make_agent(server) as agent:
        with pytest.raises(RayAgentHTTPError, match="a redirect to") as caught:
            agent.send(AGENT.stop_job(JobId("j1")))
        assert caught.value.status_code == status
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "call", [AGENT.get_job(JobId("j1")), AGENT.stop_job(JobId("j1")), AGENT.delete_serve_application("j1")]
)
def test_a_redirect_to_another_host_or_port_is_not_followed(call: Call, make_agent: MakeAgent) -> None:
    with ScriptedAgent(Job()) as other, ScriptedAgent(Job()) as server, make_agent(server) as agent:
        for target in (other.url, other.url.replace("127.0.0.1", "localhost"), other.url.replace("http:", "")):
            server.answers["*"] = [Redirect(f"{target}jobs/j1/")]
            with pytest.raises(RayAgentHTTPError, match="a redirect to") as caught:
                agent.send(call)
            assert caught.value.status_code == 307
            assert target in str(caught.value)
            assert TOKEN not in str(caught.value)
        assert (other.connections, other.requests) == (0, [])


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "http://[bad", "http://u:p@127.0.0.1/", "//", "javascript:1"])
def test_the_error_for_an_invalid_redirect_names_its_target(target: str, make_agent: MakeAgent) -> None:
    with (
        ScriptedAgent(Job(), answers={GET: [Redirect(target)]}) as server,
        make_agent(server) as agent,
        pytest.raises(RayAgentError, match=r"http://127\.0\.0\.1|a redirect to"),
    ):
        agent.send(AGENT.get_job(JobId("j1")))


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("https://u:p@other.example:8443/a;b=c/d;e?f#g", "https://other.example:8443/a/d"),
        ("//u:p@other.example/a?b", "//other.example/a"),
        ("HTTP://u@Other.example", "http://Other.example"),
        ("http://other.example:words/", "an invalid URL"),
        ("http://[words/", "an invalid URL"),
        ("http:/words", "an invalid URL"),
        ("data:words", "an invalid URL"),
        ("words", "an invalid URL"),
        ("?words", "an invalid URL"),
    ],
)
def test_of_a_target_only_scheme_host_port_and_path_are_told(target: str, shown: str) -> None:
    call = AGENT.get_job(JobId("j1"))
    with pytest.raises(RayAgentHTTPError, match=f"a redirect to {re.escape(shown)}; not followed"):
        check_status(call, 302, {"location": target}, b"", ServiceConfig("http://agent/"))


def test_a_token_in_the_target_is_redacted(make_agent: MakeAgent) -> None:
    with (
        ScriptedAgent(Job(), answers={GET: [Redirect(f"http://evil.example/?t={TOKEN}")]}) as server,
        make_agent(server) as agent,
        pytest.raises(RayAgentHTTPError, match="a redirect to") as caught,
    ):
        agent.send(AGENT.get_job(JobId("j1")))
    assert "evil.example" in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_redirect_loop_ends(make_agent: MakeAgent) -> None:
    with ScriptedAgent(Job(), answers={GET: [Redirect("/jobs/j1/")]}) as server, make_agent(server) as agent:
        with pytest.raises(RayAgentHTTPError, match="a redirect to"):
            agent.send(AGENT.get_job(JobId("j1")))
        assert len(server.requests) < 10


def test_a_redirect_without_a_target_is_an_error(make_agent: MakeAgent) -> None:
    step: Step = Redirect("")
    with (
        ScriptedAgent(Job(), answers={GET: [step]}) as server,
        make_agent(server) as agent,
        pytest.raises(RayAgentHTTPError, match="a redirect to"),
    ):
        agent.send(AGENT.get_job(JobId("j1")))


@pytest.mark.parametrize(
    "open_log",
    [
        lambda transport, config: transport.open(config, "http"),
        lambda transport, config: transport.open(config, "websocket"),
        lambda transport, config: transport.whole_log(config),
    ],
)
def test_log_streams_do_not_send_the_token_elsewhere(open_log: Any, transport: Transport) -> None:
    with ScriptedAgent(Job("x\n")) as other, ScriptedAgent(Job("x\n")) as server:
        server.answers["*"] = [Redirect(f"{other.url}jobs/j1/logs/")]
        for request in ("GET jobs/j1/logs/", "GET jobs/j1/logs/stream/", "WS jobs/j1/logs/"):
            server.answers[request] = server.answers["*"]
        with pytest.raises(RayAgentError):
            open_log(transport, config_of(server))
        assert (other.connections, other.requests) == (0, [])


def test_a_stream_of_server_sent_events_follows_a_redirect_on_the_same_host(transport: Transport) -> None:
    with ScriptedAgent(Job("x\n", sse=[Redirect("/jobs/moved/logs/stream/"), DEFAULT]), Job(job_id="moved")) as server:
        transport.open(config_of(server), "http")
        assert [request.status for request in server.of("GET")] == [307, 200]
