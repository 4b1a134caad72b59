"""The asyncio transport behaves like the blocking one: responses, retries, redirects, secrets, connections."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.errors.service_errors import (
    RayAgentAuthenticationError,
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentConnectionRefusedError,
    RayAgentConnectTimeoutError,
    RayAgentError,
    RayAgentNameResolutionError,
    RayAgentNotFoundError,
    RayAgentRedirectError,
    RayAgentResponseError,
    RayAgentServerError,
    RayAgentTimeoutError,
    RayAgentTLSError,
)
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.transport import aio_network
from airflow_provider_rayagent.transport.aio import AsyncAgent
from airflow_provider_rayagent.transport.request_retry import MAX_TRIES
from tests.scripted import (
    DEFAULT,
    Action,
    Answer,
    Html,
    Job,
    Play,
    Redirect,
    Refuse,
    Reset,
    ScriptedAgent,
    Silence,
    Step,
)
from tests.stack.processes import NO_AGENT
from tests.unit.certificates import Authority, TlsFront
from tests.unit.support import GROWING_TIMEOUTS, TOKEN, named

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_rayagent.services.call import Call

GET = "GET jobs/j1/"
POST = "POST jobs/j1/stop/"
DELETE = "DELETE serve_applications/app/"


def send(server: ScriptedAgent | str, *calls: Call, pauses: list[float] | None = None, **parts: Any) -> list[Any]:
    """Return the values of sequential calls; an error is raised."""

    async def pause(seconds: float) -> None:
        if pauses is not None:
            pauses.append(seconds)

    async def run() -> list[Any]:
        url = server if isinstance(server, str) else server.url
        async with AsyncAgent(read_config(**{"host": url, "token": TOKEN, **parts}), sleep=pause) as agent:
            return [await agent.send(call) for call in calls]

    return asyncio.run(run())


def test_an_idle_connection_is_not_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio_network, "MAX_IDLE_SECONDS", 0.0)
    with ScriptedAgent() as server:
        send(server, *[AGENT.list_jobs()] * 3)
        assert server.connections == 3


def test_calls_send_every_header_and_share_a_connection() -> None:
    job = Job(status="RUNNING")
    calls = (
        AGENT.list_jobs(),
        AGENT.get_job(JobId("j1")),
        AGENT.stop_job(JobId("j1")),
        AGENT.delete_serve_application("a b?"),
    )
    with ScriptedAgent(job, token=TOKEN, base_path="/api") as server:
        answers = send(server, *calls, extra={"user_token": "user-tok", "tenant": "acme", "headers": {"X-Key": "k"}})
        assert answers[1]["submission_id"] == "j1"
        assert answers[2:] == [{"stopped": True}, None]
        assert [request.path for request in server.requests] == [call.path for call in calls]
        for request in server.requests:
            sent = [request.headers[name] for name in ("authorization", "synapse-user", "synapse-tenant", "x-key")]
            assert sent == [TOKEN, "Token user-tok", "Token acme", "k"]
        assert server.connections == 1
        server.wait_until(lambda: server.open_connections == 0)


@pytest.mark.parametrize(
    "outage",
    [Play(Reset()), Refuse(503), Html(502), Refuse(429), Answer(200, b'{"a', length=99, reset=True)],
    ids=named,
)
def test_a_get_is_retried_and_a_post_is_not(outage: Step) -> None:
    answers = {GET: [outage, DEFAULT], POST: [outage, DEFAULT]}
    with ScriptedAgent(Job(), answers=answers) as server:
        assert send(server, AGENT.get_job(JobId("j1")))[0]["status"] == "SUCCEEDED"
        with pytest.raises(RayAgentError):
            send(server, AGENT.stop_job(JobId("j1")))
        assert [len(server.of(route)) for route in (GET, POST)] == [2, 1]


def test_a_get_is_retried_up_to_the_limit_and_respects_retry_after() -> None:
    pauses: list[float] = []
    with ScriptedAgent(Job(), answers={GET: [Refuse(503, headers={"Retry-After": "7"})]}) as server:
        with pytest.raises(RayAgentServerError):
            send(server, AGENT.get_job(JobId("j1")), pauses=pauses)
        assert len(server.requests) == MAX_TRIES
    assert pauses == [7.0] * (MAX_TRIES - 1)


def test_a_404_for_a_retried_delete_is_a_success() -> None:
    with ScriptedAgent(answers={DELETE: [Play(Reset()), Refuse(404)]}) as server:
        assert send(server, AGENT.delete_serve_application("app")) == [None]
    with ScriptedAgent(answers={DELETE: [Refuse(404)]}) as server, pytest.raises(RayAgentNotFoundError):
        send(server, AGENT.delete_serve_application("app"))


@pytest.mark.parametrize("call", [AGENT.get_job(JobId("j1")), AGENT.stop_job(JobId("j1"))])
def test_every_call_is_retried_if_connections_are_refused(call: Call) -> None:
    pauses: list[float] = []
    with pytest.raises(RayAgentConnectionRefusedError):
        send(NO_AGENT, call, pauses=pauses)
    assert len(pauses) == MAX_TRIES - 1


def test_redirects_stay_on_the_host() -> None:
    with ScriptedAgent(Job()) as other, ScriptedAgent(Job(), Job(status="RUNNING", job_id="moved")) as server:
        server.answers = {GET: [Redirect("/jobs/moved/", 302)], POST: [Redirect("/jobs/moved/stop/", 307)]}
        assert send(server, AGENT.get_job(JobId("j1")))[0]["submission_id"] == "moved"
        assert send(server, AGENT.stop_job(JobId("j1"))) == [{"stopped": True}]
        for step in (Redirect(f"{other.url}jobs/j1/"), Redirect("http://[bad"), Redirect("/jobs/j1/")):
            server.answers = {GET: [step]}
            with pytest.raises(RayAgentRedirectError) as caught:
                send(server, AGENT.get_job(JobId("j1")))
            assert TOKEN not in str(caught.value)
        assert (other.connections, other.requests) == (0, [])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(200, b""), RayAgentResponseError),
        (Html(200), RayAgentResponseError),
        (Answer(200, b"[" * 100_000), RayAgentResponseError),
        (Answer(200, [1]), RayAgentResponseError),
        (Refuse(401, f"bad {TOKEN}"), RayAgentAuthenticationError),
        (Answer(500, f"bad {TOKEN}"), RayAgentServerError),
        (Answer(200, b"{}", {"Content-Encoding": "gzip"}), RayAgentConnectionError),
    ],
    ids=named,
)
def test_an_invalid_response_raises_its_error_without_the_token(answer: Answer, error: type[RayAgentError]) -> None:
    with ScriptedAgent(Job(), answers={GET: [answer]}) as server, pytest.raises(error) as caught:
        send(server, AGENT.get_job(JobId("j1")))
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "extra", "error"),
    [
        ("http://agent.invalid", {}, RayAgentNameResolutionError),
        ("https://127.0.0.1:1", {"ca_bundle": "/nowhere/ca.pem"}, RayAgentConfigError),
        ("https://127.0.0.1:1", {"client_cert": "/nowhere/c.pem"}, RayAgentConfigError),
    ],
)
def test_each_connection_failure_raises_its_error(host: str, extra: dict[str, Any], error: type[RayAgentError]) -> None:
    with pytest.raises(error):
        send(host, AGENT.health_check(), extra=extra)


def test_an_agent_that_never_answers_is_a_timeout() -> None:
    with ScriptedAgent(answers={"*": [Play(Silence())]}) as server, pytest.raises(RayAgentTimeoutError):
        send(server, AGENT.stop_job(JobId("j1")), extra={"read_timeout": 0.2})


def test_a_netrc_entry_does_not_override_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with ScriptedAgent(token=TOKEN) as server:
        assert send(server, AGENT.health_check()) == [{"status": "ok"}]


def test_tls_is_verified_by_default_and_as_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, another = Authority(tmp_path), Authority(tmp_path, "another")
    worker = authority.issue("worker")
    good = {"ca_bundle": str(authority.bundle)}
    with ScriptedAgent() as server, TlsFront(authority.issue("server"), server.port) as front:
        for extra in ({}, {"ca_bundle": str(another.bundle)}):
            with pytest.raises(RayAgentTLSError):
                send(front.url, AGENT.health_check(), extra=extra)
        assert server.requests == []
        send(front.url, AGENT.health_check(), extra=good)
        monkeypatch.setenv("SSL_CERT_FILE", str(another.bundle))
        send(front.url, AGENT.health_check(), extra={"verify": False})
    with ScriptedAgent() as server, TlsFront(authority.issue("server"), server.port, clients=authority) as front:
        with pytest.raises(RayAgentError):
            send(front.url, AGENT.health_check(), extra=good)
        both = {"client_cert": str(worker.cert), "client_key": str(worker.key)}
        for files in ({"client_cert": str(worker.both)}, both):
            send(front.url, AGENT.health_check(), extra={**good, **files})
        assert set(front.client_names) == {"worker"}


def test_an_unanswered_tls_handshake_is_a_connect_timeout() -> None:
    with ScriptedAgent(connects=[Play(Silence())]) as server, pytest.raises(RayAgentConnectTimeoutError):
        send(server.url.replace("http:", "https:"), AGENT.stop_job(JobId("j1")), extra={"connect_timeout": 0.2})


@pytest.mark.parametrize(("fault", "error"), [(Silence(), RayAgentTimeoutError), (Reset(), RayAgentConnectionError)])
def test_a_read_timeout_over_tls_is_not_a_tls_error(fault: Action, error: type[RayAgentError], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with ScriptedAgent(Job()) as server, TlsFront(authority.issue("server"), server.port) as front:
        for timeout in GROWING_TIMEOUTS:
            extra = {"ca_bundle": str(authority.bundle), "read_timeout": timeout}
            server.answers = {GET: [Play(fault), DEFAULT], POST: [Play(fault)]}
            with pytest.raises(error) as caught:
                send(front.url, AGENT.stop_job(JobId("j1")), extra=extra)
            assert not isinstance(caught.value, RayAgentTLSError)
            with suppress(RayAgentTimeoutError):
                assert send(front.url, AGENT.get_job(JobId("j1")), extra=extra)[0]["status"] == "SUCCEEDED"
                return
    pytest.fail("no answer in time")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_cancelled_call_leaks_no_connection(scheme: str) -> None:
    async def run(server: ScriptedAgent) -> None:
        async with AsyncAgent(read_config(host=server.url.replace("http", scheme), token=TOKEN)) as agent:
            call = asyncio.create_task(agent.send(AGENT.health_check()))
            # The client waits for the response, or for the TLS handshake.
            await server.reached(lambda: server.requests if scheme == "http" else server.bytes_received)
            await cancel(call)
            await server.reached(lambda: server.open_connections == 0)

    silence = Play(Silence())
    with ScriptedAgent(answers={"GET health/": [silence]}, connects=[silence] if scheme == "https" else []) as server:
        asyncio.run(run(server))


def test_a_cancelled_connect_leaks_no_connection() -> None:
    async def run(server: ScriptedAgent) -> None:
        async with AsyncAgent(read_config(host=server.url, token=TOKEN)) as agent:
            # Creates the client's pool, and leaves no connection in it.
            with pytest.raises(RayAgentConnectionError):
                await agent.send(AGENT.list_nodes(), tries=1)
            for turns in range(40):
                call = asyncio.create_task(agent.send(AGENT.health_check()))
                for _ in range(turns):
                    await asyncio.sleep(0)
                await cancel(call)
                await server.reached(lambda: server.open_connections == 0)
            assert server.connections > 2

    with ScriptedAgent(answers={"GET nodes/": [Play(Reset())], "GET health/": [Play(Silence())]}) as server:
        asyncio.run(run(server))


async def cancel(call: asyncio.Task[Any]) -> None:
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
