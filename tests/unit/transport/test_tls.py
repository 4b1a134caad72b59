"""TLS for calls, events and WebSockets alike: the host, a client certificate, and what is told apart from TLS."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentError,
    RayAgentHTTPError,
    RayAgentTimeoutError,
    RayAgentTLSError,
    RayAgentUnreachableError,
)
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.transport import aio
from tests.scripted import (
    DEFAULT,
    Action,
    Answer,
    Complete,
    Follow,
    Grow,
    Hold,
    Job,
    Play,
    Redirect,
    Reset,
    ScriptedAgent,
    SetStatus,
    Silence,
    Sleep,
)
from tests.unit.certificates import Authority, Identity, TlsFront
from tests.unit.support import GROWING_TIMEOUTS, TOKEN, named
from tests.unit.transports import SOURCES, USES, Transport, config_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.tail.commands import StreamSource

LINES = [f"line {number} é" for number in range(30)]
TEXT = "\n".join(LINES) + "\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.issue("server")


@pytest.fixture
def agent() -> Iterator[ScriptedAgent]:
    play = Play(Follow(), Complete(), Hold(0.2))
    job = Job(TEXT, "RUNNING", ws=[play], sse=[play])
    with ScriptedAgent(job, token=TOKEN) as running:
        yield running


@pytest.fixture
def front(agent: ScriptedAgent, identity: Identity) -> Iterator[TlsFront]:
    with TlsFront(identity, agent.port) as running:
        yield running


@pytest.mark.parametrize("use", USES)
def test_a_certificate_for_another_host_is_refused(
    use: str, transport: Transport, authority: Authority, agent: ScriptedAgent
) -> None:
    with TlsFront(authority.issue("elsewhere", host="agent.example.com"), agent.port) as front:
        with pytest.raises(RayAgentTLSError) as caught:
            USES[use](transport, config_of(front.url, ca_bundle=str(authority.bundle)))
        assert caught.value.status_code == 503
    assert agent.requests == []


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("one_file", [False, True])
def test_a_client_certificate_is_presented(
    use: str, one_file: bool, transport: Transport, authority: Authority, identity: Identity, agent: ScriptedAgent
) -> None:
    worker = authority.issue("worker")
    files = {"client_cert": str(worker.both)}
    if not one_file:
        files = {"client_cert": str(worker.cert), "client_key": str(worker.key)}
    with TlsFront(identity, agent.port, clients=authority) as front:
        USES[use](transport, config_of(front.url, ca_bundle=str(authority.bundle), **files))
        assert front.client_names == ["worker"]


@pytest.mark.parametrize("use", USES)
def test_without_the_client_certificate_nothing_is_let_in(
    use: str, transport: Transport, authority: Authority, identity: Identity, agent: ScriptedAgent
) -> None:
    with (
        TlsFront(identity, agent.port, clients=authority) as front,
        pytest.raises(RayAgentError),
    ):
        USES[use](transport, config_of(front.url, ca_bundle=str(authority.bundle)))
    assert agent.requests == []


@pytest.mark.parametrize("use", USES)
def test_https_to_a_plain_port_is_a_tls_error(use: str, transport: Transport, agent: ScriptedAgent) -> None:
    agent.connects = [Answer(400, "plain HTTP")]
    with pytest.raises(RayAgentTLSError):
        USES[use](transport, config_of(agent.url.replace("http:", "https:")))
    assert not [request for request in agent.requests if TOKEN in str(request)]


@pytest.mark.parametrize("use", ["call", "stop", "http"])
def test_a_handshake_that_is_not_answered_is_told_apart_from_an_answer_that_is_late(
    use: str, transport: Transport, agent: ScriptedAgent
) -> None:
    agent.connects = [Play(Silence())]
    with pytest.raises(RayAgentUnreachableError, match=r"No TLS handshake .* within 1 seconds"):
        USES[use](transport, config_of(agent.url.replace("http:", "https:"), connect_timeout=1))


def test_reading_the_cas_does_not_take_from_the_time_for_the_service(
    transport: Transport, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = aio._environment_and_tls

    def read_slowly(config: ServiceConfig) -> Any:
        # Longer than the whole opening may take, which is twice the connect_timeout.
        time.sleep(2.5)
        return read(config)

    monkeypatch.setattr(aio, "_environment_and_tls", read_slowly)
    agent.connects = [Play(Silence())]
    with pytest.raises(RayAgentUnreachableError, match="No TLS handshake"):
        USES["http"](transport, config_of(agent.url.replace("http:", "https:"), connect_timeout=1))


@pytest.mark.parametrize("fault", [Silence(), Reset()], ids=named)
def test_an_answer_that_stays_away_behind_tls_is_not_taken_for_a_fault_of_tls(
    fault: Action, transport: Transport, front: TlsFront, authority: Authority, agent: ScriptedAgent
) -> None:
    for timeout in GROWING_TIMEOUTS:
        config = config_of(front.url, ca_bundle=str(authority.bundle), read_timeout=timeout)
        agent.answers = {"GET health/": [DEFAULT], "POST jobs/j1/stop/": [Play(fault)]}
        with pytest.raises(RayAgentError) as caught:
            transport.send(config, AGENT.stop_job(JobId("j1")))
        assert not isinstance(caught.value, RayAgentTLSError)
        with suppress(RayAgentTimeoutError):
            assert transport.send(config, AGENT.health_check()) == {"status": "ok"}
            return
    pytest.fail("no answer in time")


@pytest.mark.parametrize("source", SOURCES)
def test_a_jobs_lines_come_over_tls(
    source: StreamSource, transport: Transport, front: TlsFront, authority: Authority, agent: ScriptedAgent
) -> None:
    agent.jobs["j1"] = Job("", "RUNNING", timeline=[Grow(TEXT), Sleep(0.2), SetStatus("SUCCEEDED")])
    lines, _ = transport.follow(config_of(front.url, ca_bundle=str(authority.bundle)), source)
    assert lines == LINES
    assert agent.of("GET jobs/j1/logs/stream/" if source == "http" else "WS jobs/j1/logs/")


def test_a_redirect_from_https_to_http_is_not_followed(
    transport: Transport, front: TlsFront, authority: Authority, agent: ScriptedAgent
) -> None:
    agent.answers["GET health/"] = [Redirect(f"http://127.0.0.1:{front.port}/jobs/"), Redirect(f"{agent.url}jobs/")]
    for _ in range(2):
        with pytest.raises(RayAgentHTTPError, match="not followed"):
            transport.send(config_of(front.url, ca_bundle=str(authority.bundle)), AGENT.health_check())
    assert {request.route for request in agent.requests} == {"GET health/"}
