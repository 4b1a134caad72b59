"""Which requests are retried, how often, and after which pause."""

from __future__ import annotations

import email.utils
import time
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentConnectionError,
    RayAgentHTTPError,
    RayAgentNotFoundError,
    RayAgentServerError,
    RayAgentTimeoutError,
    RayAgentUnreachableError,
)
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.transport.request_retry import MAX_PAUSE, MAX_RETRY_AFTER, MAX_TRIES, may_retry, pause
from tests.scripted import (
    DEFAULT,
    Answer,
    Application,
    Close,
    Drop,
    Html,
    Job,
    Play,
    Refuse,
    Reset,
    ScriptedAgent,
    Silence,
    Step,
)
from tests.unit.support import named

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.services.call import Call
    from tests.unit.transports import MakeAgent

GET = "GET jobs/j1/"
POST = "POST jobs/j1/stop/"
DELETE = "DELETE serve_applications/app/"
OUTAGES: list[Step] = [
    Play(Reset()),
    Play(Drop()),
    Refuse(502),
    Refuse(503),
    Refuse(504),
    Refuse(408),
    Refuse(429),
    Html(502),
    Answer(200, b'{"status', length=500),
    Answer(200, b'{"status', length=500, reset=True),
]


@pytest.mark.parametrize("outage", OUTAGES, ids=named)
def test_a_get_is_retried_after_an_outage(outage: Step, make_agent: MakeAgent) -> None:
    with (
        ScriptedAgent(Job(), answers={GET: [outage, outage, DEFAULT]}) as server,
        make_agent(server) as agent,
    ):
        assert agent.send(AGENT.get_job(JobId("j1")))["status"] == "SUCCEEDED"
        assert len(server.of(GET)) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500, 501, 505, 520])
def test_a_get_is_not_retried_after_a_permanent_error(status: int, make_agent: MakeAgent) -> None:
    with ScriptedAgent(Job(), answers={GET: [Refuse(status)]}) as server, make_agent(server) as agent:
        with pytest.raises(RayAgentHTTPError) as caught:
            agent.send(AGENT.get_job(JobId("j1")))
        assert caught.value.status_code == status
        assert len(server.of(GET)) == 1


@pytest.mark.parametrize("outage", [Play(Reset()), Refuse(503), Refuse(429)], ids=named)
def test_a_get_is_retried_up_to_the_limit(outage: Step, make_agent: MakeAgent) -> None:
    with ScriptedAgent(Job(), answers={GET: [outage]}) as server, make_agent(server) as agent:
        with pytest.raises((RayAgentConnectionError, RayAgentHTTPError)):
            agent.send(AGENT.get_job(JobId("j1")))
        assert len(server.of(GET)) == MAX_TRIES


def test_retry_after_is_respected_up_to_the_limit(make_agent: MakeAgent) -> None:
    pauses: list[float] = []
    at = email.utils.formatdate(time.time() + 20, usegmt=True)
    answers: list[Step] = [Refuse(429, headers={"Retry-After": value}) for value in ("7", at, "86400")]
    with (
        ScriptedAgent(Job(), answers={GET: [*answers, DEFAULT]}) as server,
        make_agent(server, sleep=pauses.append) as agent,
    ):
        assert agent.send(AGENT.get_job(JobId("j1")))["status"] == "SUCCEEDED"
    assert (pauses[0], pauses[2]) == (7, MAX_RETRY_AFTER)
    assert 15 < pauses[1] <= 20


@pytest.mark.parametrize("value", ["soon", "-5", "", "1e9", "Thu, 99 Foo 2026"])
def test_an_invalid_retry_after_is_ignored(value: str, make_agent: MakeAgent) -> None:
    pauses: list[float] = []
    with (
        ScriptedAgent(Job(), answers={GET: [Refuse(503, headers={"Retry-After": value}), DEFAULT]}) as server,
        make_agent(server, sleep=pauses.append) as agent,
    ):
        agent.send(AGENT.get_job(JobId("j1")))
    assert len(pauses) == 1
    assert 0 < pauses[0] <= 1


@pytest.mark.parametrize(
    "value",
    [
        "9" * 400,
        "9" * 5_000,
        "Fri, 31 Dec 99999 23:59:59 GMT",
        "Fri, 31 Dec 9999999999999999999 23:59:59 GMT",
        f"Fri, {'9' * 5_000} Dec 2026 23:59:59 GMT",
        f"Fri, 31 Dec 2026 23:59:{'9' * 400} GMT",
        "Fri, 31 Dec 2026 23:59:59 +99999999999999999999",
    ],
    ids=lambda value: value[:40],
)
def test_an_out_of_range_retry_after_does_not_raise(value: str, make_agent: MakeAgent) -> None:
    pauses: list[float] = []
    with (
        ScriptedAgent(Job(), answers={GET: [Refuse(503, headers={"Retry-After": value}), DEFAULT]}) as server,
        make_agent(server, sleep=pauses.append) as agent,
    ):
        agent.send(AGENT.get_job(JobId("j1")))
    assert len(pauses) == 1
    assert 0 <= pauses[0] <= MAX_RETRY_AFTER


def test_pauses_grow_with_jitter_up_to_the_maximum() -> None:
    error = RayAgentConnectionError("x")
    longest = [pause(tries, error, 0.999) for tries in range(1, 12)]
    shortest = [pause(tries, error, 0.0) for tries in range(1, 12)]
    assert longest == sorted(longest)
    assert max(longest) <= MAX_PAUSE
    assert all(0 < short < long for short, long in zip(shortest, longest, strict=True))


@pytest.mark.parametrize(("call", "route"), [(AGENT.get_job(JobId("j1")), GET), (AGENT.stop_job(JobId("j1")), POST)])
def test_every_request_is_retried_if_connections_are_refused(call: Call, route: str, make_agent: MakeAgent) -> None:
    with ScriptedAgent(Job()) as server:
        server.down()
        tries: list[float] = []

        def up_at_the_third_try(seconds: float) -> None:
            tries.append(seconds)
            if len(tries) == 2:
                server.up()

        with make_agent(server, sleep=up_at_the_third_try) as agent:
            agent.send(call)
        assert len(tries) == 2
        assert len(server.of(route)) == 1


def test_an_agent_that_stays_unreachable_is_given_up(make_agent: MakeAgent) -> None:
    pauses: list[float] = []
    with ScriptedAgent() as server:
        server.down()
        with make_agent(server, sleep=pauses.append) as agent, pytest.raises(RayAgentUnreachableError):
            agent.send(AGENT.stop_job(JobId("j1")))
    assert len(pauses) == MAX_TRIES - 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Play(Reset()), RayAgentConnectionError),
        (Play(Drop()), RayAgentConnectionError),
        (Play(Silence()), RayAgentTimeoutError),
        (Refuse(502), RayAgentServerError),
        (Refuse(503), RayAgentServerError),
        (Refuse(429), RayAgentHTTPError),
        (Answer(200, b'{"stop', length=500), RayAgentConnectionError),
    ],
    ids=named,
)
def test_a_post_is_never_sent_twice_once_it_may_have_been_received(
    fault: Step, error: type[Exception], make_agent: MakeAgent
) -> None:
    with (
        ScriptedAgent(Job(status="RUNNING"), answers={POST: [fault, DEFAULT]}) as server,
        make_agent(server, extra={"read_timeout": 0.3} if error is RayAgentTimeoutError else {}) as agent,
    ):
        with pytest.raises(error):
            agent.send(AGENT.stop_job(JobId("j1")))
        server.wait_until(lambda: server.of(POST))
        assert len(server.of(POST)) == 1


def test_a_post_is_sent_on_a_new_connection_if_the_pooled_one_was_closed(make_agent: MakeAgent) -> None:
    with (
        ScriptedAgent(
            Job(status="RUNNING"), answers={GET: [Play(Answer(200, {"status": "RUNNING"}), Close())]}
        ) as server,
        make_agent(server) as agent,
    ):
        agent.send(AGENT.get_job(JobId("j1")))
        server.wait_until(lambda: server.open_connections == 0)
        assert agent.send(AGENT.stop_job(JobId("j1"))) == {"stopped": True}
        assert len(server.of(POST)) == 1


@pytest.mark.parametrize("outage", [Play(Reset()), Refuse(503)], ids=named)
def test_a_404_for_a_retried_delete_is_a_success(outage: Step, make_agent: MakeAgent) -> None:
    answers: dict[str, list[Step]] = {DELETE: [outage, Refuse(404)]}
    with ScriptedAgent(answers=answers) as server, make_agent(server) as agent:
        assert agent.send(AGENT.delete_serve_application("app")) is None
        assert len(server.of(DELETE)) == 2


def test_a_404_for_the_first_delete_is_an_error(make_agent: MakeAgent) -> None:
    with (
        ScriptedAgent(applications=[Application("other")], answers={DELETE: [Refuse(404)]}) as server,
        make_agent(server) as agent,
        pytest.raises(RayAgentNotFoundError),
    ):
        agent.send(AGENT.delete_serve_application("app"))


def test_a_get_without_a_response_ends_within_its_timeouts(make_agent: MakeAgent) -> None:
    with (
        ScriptedAgent(Job(), answers={GET: [Play(Silence())]}) as server,
        make_agent(server, extra={"read_timeout": 0.1}) as agent,
    ):
        with pytest.raises(RayAgentTimeoutError, match=r"within 0\.1 seconds") as caught:
            agent.send(AGENT.get_job(JobId("j1")))
        assert caught.value.status_code == 408


@pytest.mark.parametrize(
    ("call", "error", "again"),
    [
        (AGENT.health_check, RayAgentUnreachableError("x"), True),
        (AGENT.health_check, ValueError("x"), False),
        (lambda: AGENT.stop_job(JobId("j")), RayAgentConnectionError("x"), False),
        (lambda: AGENT.stop_job(JobId("j")), RayAgentUnreachableError("x"), True),
    ],
)
def test_retries_depend_on_the_method_and_the_error(call: Callable[[], Call], error: Exception, again: bool) -> None:
    assert may_retry(call(), error) is again
