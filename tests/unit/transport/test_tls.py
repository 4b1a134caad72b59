"""TLS for calls, events and WebSockets alike: checked by default, a CA of one's own, a client certificate."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import (
    RayAgentConnectTimeoutError,
    RayAgentError,
    RayAgentRedirectError,
    RayAgentTimeoutError,
    RayAgentTLSError,
)
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.transport.blocking_logs import WholeLog, open_stream
from tests.scripted import (
    DEFAULT,
    Action,
    Answer,
    Complete,
    Follow,
    Hold,
    Job,
    Play,
    Redirect,
    Reset,
    ScriptedAgent,
    Silence,
)
from tests.unit.certificates import Authority, Identity, TlsFront
from tests.unit.support import GROWING_TIMEOUTS, TOKEN, named
from tests.unit.transports import WHOLE_LOG, live_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.support import Connect

LINES = [f"line {number} é" for number in range(30)]
TEXT = "\n".join(LINES) + "\n"

USES: dict[str, Callable[[RayAgentHook], object]] = {
    "call": lambda hook: hook.health_check(),
    "stop": lambda hook: hook.stop_job("j1"),
    "whole log": lambda hook: WholeLog.open(hook.get_conn(), WHOLE_LOG).close(),
    "http": lambda hook: open_stream(hook.get_conn(), live_log("http")).close(),
    "websocket": lambda hook: open_stream(hook.get_conn(), live_log("websocket")).close(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.issue("server")


@pytest.fixture
def agent() -> Iterator[ScriptedAgent]:
    play = Play(Follow(), Complete(), Hold(0.2))
    with ScriptedAgent(Job(TEXT, status="RUNNING", ws=[play], sse=[play]), token=TOKEN) as running:
        yield running


@pytest.fixture
def front(agent: ScriptedAgent, identity: Identity) -> Iterator[TlsFront]:
    with TlsFront(identity, agent.port) as running:
        yield running


@pytest.mark.parametrize("use", USES)
def test_a_certificate_of_an_unknown_authority_is_refused(
    use: str, front: TlsFront, agent: ScriptedAgent, connect: Connect
) -> None:
    connect(front.url)
    with RayAgentHook() as hook:
        with pytest.raises(RayAgentTLSError, match="TLS handshake with") as caught:
            USES[use](hook)
        assert caught.value.status_code == 503
        assert "CA bundle" in str(caught.value)
        good, words = hook.test_connection()
    assert (good, "TLS handshake with" in words) == (False, True)
    assert agent.requests == []


@pytest.mark.parametrize("use", USES)
def test_a_ca_bundle_of_ones_own_is_used(
    use: str, front: TlsFront, authority: Authority, agent: ScriptedAgent, connect: Connect
) -> None:
    connect(front.url, extra={"ca_bundle": str(authority.bundle)})
    with RayAgentHook() as hook:
        USES[use](hook)
        assert hook.test_connection()[0] is True
    assert {request.headers["authorization"] for request in agent.requests} == {TOKEN}


@pytest.mark.parametrize("use", USES)
def test_a_certificate_for_another_host_is_refused(
    use: str, authority: Authority, agent: ScriptedAgent, connect: Connect
) -> None:
    with TlsFront(authority.issue("elsewhere", host="agent.example.com"), agent.port) as front:
        connect(front.url, extra={"ca_bundle": str(authority.bundle)})
        with RayAgentHook() as hook, pytest.raises(RayAgentTLSError):
            USES[use](hook)
    assert agent.requests == []


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("use", USES)
def test_the_check_can_be_turned_off_and_the_environment_does_not_turn_it_on(
    use: str, front: TlsFront, folder: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = str(Authority(folder, "another").bundle)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    monkeypatch.setenv("CURL_CA_BUNDLE", bundle)
    connect(front.url, extra={"verify": False})
    with RayAgentHook() as hook:
        USES[use](hook)


@pytest.mark.parametrize("use", USES)
def test_the_environments_ca_bundle_is_used_where_the_connection_has_none(
    use: str, front: TlsFront, authority: Authority, folder: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
    connect(front.url)
    with RayAgentHook() as hook:
        USES[use](hook)
    connect(front.url, extra={"ca_bundle": str(Authority(folder, "another").bundle)})
    with RayAgentHook() as hook, pytest.raises(RayAgentTLSError):
        USES[use](hook)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("one_file", [False, True])
def test_a_client_certificate_is_presented(
    use: str, one_file: bool, authority: Authority, identity: Identity, agent: ScriptedAgent, connect: Connect
) -> None:
    worker = authority.issue("worker")
    files = {"client_cert": str(worker.both)}
    if not one_file:
        files = {"client_cert": str(worker.cert), "client_key": str(worker.key)}
    with TlsFront(identity, agent.port, clients=authority) as front:
        connect(front.url, extra={"ca_bundle": str(authority.bundle), **files})
        with RayAgentHook() as hook:
            USES[use](hook)
        assert front.client_names == ["worker"]


@pytest.mark.parametrize("use", USES)
def test_without_the_client_certificate_nothing_is_let_in(
    use: str, authority: Authority, identity: Identity, agent: ScriptedAgent, connect: Connect
) -> None:
    with TlsFront(identity, agent.port, clients=authority) as front:
        connect(front.url, extra={"ca_bundle": str(authority.bundle)})
        with RayAgentHook() as hook, pytest.raises(RayAgentError):
            USES[use](hook)
    assert agent.requests == []


@pytest.mark.parametrize("use", USES)
def test_https_to_a_plain_port_is_a_tls_error(use: str, agent: ScriptedAgent, connect: Connect) -> None:
    agent.connects = [Answer(400, "plain HTTP")]
    connect(agent.url.replace("http:", "https:"))
    with RayAgentHook() as hook, pytest.raises(RayAgentTLSError):
        USES[use](hook)
    assert not [request for request in agent.requests if TOKEN in str(request)]


@pytest.mark.parametrize("use", ["call", "stop", "http"])
def test_a_handshake_that_is_not_answered_is_told_apart_from_an_answer_that_is_late(
    use: str, agent: ScriptedAgent, connect: Connect
) -> None:
    agent.connects = [Play(Silence())]
    connect(agent.url.replace("http:", "https:"), extra={"connect_timeout": 0.2})
    with RayAgentHook() as hook, pytest.raises(RayAgentConnectTimeoutError, match=r"No TLS handshake .* within 0\.2"):
        USES[use](hook)


@pytest.mark.parametrize("fault", [Silence(), Reset()], ids=named)
def test_an_answer_that_stays_away_behind_tls_is_not_taken_for_a_fault_of_tls(
    fault: Action, front: TlsFront, authority: Authority, agent: ScriptedAgent, connect: Connect
) -> None:
    for timeout in GROWING_TIMEOUTS:
        agent.answers = {"GET health/": [Play(fault), DEFAULT], "POST jobs/j1/stop/": [Play(fault)]}
        connect(front.url, extra={"ca_bundle": str(authority.bundle), "read_timeout": timeout})
        with RayAgentHook() as hook:
            with pytest.raises(RayAgentError) as caught:
                hook.stop_job("j1")
            assert not isinstance(caught.value, RayAgentTLSError)
            with suppress(RayAgentTimeoutError):
                assert hook.health_check() == {"status": "ok"}
                return
    pytest.fail("no answer in time")


@pytest.mark.parametrize("protocol", ["auto", "websocket", "http"])
def test_a_jobs_lines_come_over_tls(
    protocol: Any, front: TlsFront, authority: Authority, agent: ScriptedAgent, connect: Connect
) -> None:
    connect(front.url, extra={"ca_bundle": str(authority.bundle)})
    with RayAgentHook() as hook:
        lines = hook.tail_job_logs("j1", protocol=protocol)
        assert next(iter(lines)) == LINES[0]
        agent.jobs["j1"].set_status("SUCCEEDED")
        assert list(lines) == LINES[1:]
    route = "GET jobs/j1/logs/stream/" if protocol == "http" else "WS jobs/j1/logs/"
    assert agent.of(route)


def test_a_redirect_from_https_to_http_is_not_followed(
    front: TlsFront, authority: Authority, agent: ScriptedAgent, connect: Connect
) -> None:
    agent.answers["GET health/"] = [Redirect(f"http://127.0.0.1:{front.port}/jobs/"), Redirect(f"{agent.url}jobs/")]
    connect(front.url, extra={"ca_bundle": str(authority.bundle)})
    with RayAgentHook() as hook:
        for _ in range(2):
            with pytest.raises(RayAgentRedirectError, match="not followed"):
                hook.health_check()
    assert {request.route for request in agent.requests} == {"GET health/"}


def test_a_redirect_from_http_to_https_on_the_same_host_is_followed(
    front: TlsFront, authority: Authority, agent: ScriptedAgent, connect: Connect
) -> None:
    agent.answers["GET health/"] = [Redirect(f"{front.url}nodes/ab/"), Redirect(f"{front.url}gpu_status/")]
    connect(agent, extra={"ca_bundle": str(authority.bundle)})
    with RayAgentHook() as hook:
        with pytest.raises(Exception, match="404"):
            hook.health_check()
        assert hook.health_check()["gpus"] == []
