"""The pooled connections: they are reused, closed, and independent of the environment."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.transport import aio_network, blocking_connections
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from tests.scripted import Answer, Hold, Html, Job, Play, ScriptedAgent
from tests.unit.support import TOKEN
from tests.unit.transports import SOURCES, config_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.transports import MakeAgent, Transport


def test_many_calls_use_one_connection(make_agent: MakeAgent) -> None:
    answers = {"GET nodes/": [Answer(500, {"detail": "x"})], "GET tasks/": [Html(404)], "GET jobs/": [Answer(200, [])]}
    with ScriptedAgent(Job(status="RUNNING"), answers=answers) as server, make_agent(server) as agent:
        for _ in range(10):
            agent.send(AGENT.get_job(JobId("j1")))
            agent.send(AGENT.health_check())
            agent.send(AGENT.list_jobs())
            agent.send(AGENT.delete_serve_application("x"))
            for call in (AGENT.list_nodes(), AGENT.list_tasks(), AGENT.get_node("x")):
                with pytest.raises(Exception, match=r"answered (404|500)"):
                    agent.send(call)
        assert server.connections == 1


def test_an_idle_connection_is_not_reused(monkeypatch: pytest.MonkeyPatch, make_agent: MakeAgent) -> None:
    for module in (blocking_connections, aio_network):
        monkeypatch.setattr(module, "MAX_IDLE_SECONDS", 0.0)
    with ScriptedAgent() as server, make_agent(server) as agent:
        for _ in range(3):
            agent.send(AGENT.list_jobs())
        assert server.connections == 3
        server.wait_until(lambda: server.open_connections <= 1)


def test_closing_closes_every_connection_and_the_agent_can_be_used_again() -> None:
    with ScriptedAgent(Job()) as server:
        agent = BlockingServiceClient(config_of(server))
        threads = [threading.Thread(target=agent.send, args=(AGENT.get_job(JobId("j1")),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        agent.close()
        server.wait_until(lambda: server.open_connections == 0)
        agent.close()
        assert agent.send(AGENT.get_job(JobId("j1")))["status"] == "SUCCEEDED"
        agent.close()
        server.wait_until(lambda: server.open_connections == 0)


def test_a_netrc_entry_does_not_override_the_token(
    transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    job = Job("x\n", status="RUNNING", ws=[Play(Hold())], sse=[Play(Hold())])
    with ScriptedAgent(job, token=TOKEN) as server:
        config = config_of(server)
        transport.send(config, AGENT.get_job(JobId("j1")))
        for source in SOURCES:
            transport.open(config, source)
        with pytest.raises(Exception, match="401"):
            transport.send(read_config(host=server.url), AGENT.get_job(JobId("j1")))
        sent = [request.headers.get("authorization") for request in server.requests]
    assert sent == [TOKEN, TOKEN, TOKEN, None]


def test_cookies_and_other_response_headers_are_ignored(make_agent: MakeAgent) -> None:
    headers = {"Set-Cookie": "a=b; Path=/", "Content-Encoding": "identity", "Connection": "keep-alive"}
    with (
        ScriptedAgent(answers={"GET health/": [Answer(200, {"status": "ok"}, headers)]}) as server,
        make_agent(server) as agent,
    ):
        for _ in range(2):
            assert agent.send(AGENT.health_check()) == {"status": "ok"}
