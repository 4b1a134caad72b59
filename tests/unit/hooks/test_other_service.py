"""A connection whose *Service* is not the one that answers at its URL: the first request says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import (
    RayAgentConfigError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook
from tests.scripted import DEFAULT, Html, Job, Refuse
from tests.unit.both_ways import both_ways
from tests.unit.operators.submissions import make_operator
from tests.unit.sensors.factory import make_sensor
from tests.unit.support import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.both_ways import Run
    from tests.unit.support import Serve

AGENT = {"service": "agent"}
RAY = {"service": "ray"}

follow = both_ways(make_sensor)
submit = both_ways(make_operator)


async def list_jobs(conn_id: str = "rayagent_default") -> None:
    async with RayAgentAsyncHook(conn_id) as hook:
        await hook.list_jobs()


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Callable[[], None]:
    """What lists the jobs with a new hook."""
    if request.param == "asyncio":
        return lambda: asyncio.run(list_jobs())

    def blocking() -> None:
        with RayAgentHook() as hook:
            hook.list_jobs()

    return blocking


def test_the_first_request_says_which_service_it_is(ask: Callable[[], None], serve: Serve) -> None:
    ray = serve(service="ray", password=None, extra=AGENT)
    with pytest.raises(RayAgentConfigError) as refused:
        ask()
    said = f"At {ray.url} is Ray's own dashboard (2.60.0): set Service (service) to ray."
    assert str(refused.value) == f"RA-208: {said}"


def test_an_agent_is_recognized_too(ask: Callable[[], None], serve: Serve) -> None:
    agent = serve(password=None, extra=RAY)
    with pytest.raises(RayAgentConfigError, match=rf"At {agent.url} is an agent: set Service \(service\) to agent\."):
        ask()


def test_a_rejected_token_may_be_one_in_another_form(ask: Callable[[], None], serve: Serve) -> None:
    serve(service="ray", token=TOKEN, extra=AGENT)
    with pytest.raises(RayAgentConfigError, match=r"is Ray's own dashboard: set Service \(service\) to ray\."):
        ask()


@pytest.mark.parametrize("token", [None, "another"])
def test_a_token_that_the_right_service_rejects_is_only_that(
    token: str | None, ask: Callable[[], None], serve: Serve
) -> None:
    serve(service="ray", token=TOKEN, password=token)
    with pytest.raises(RayAgentHTTPError, match=r"answered 40[13]"):
        ask()


def test_a_server_that_is_no_service_is_only_that(ask: Callable[[], None], serve: Serve) -> None:
    pages: Any = {route: [Html(404)] * 9 for route in ("GET jobs/", "GET health/", "GET api/version")}
    serve(answers=pages)
    with pytest.raises(RayAgentResponseError, match="is this its URL"):
        ask()


def test_it_is_said_by_each_request_and_looked_for_once(serve: Serve) -> None:
    ray = serve(service="ray", password=None, extra=AGENT)
    with RayAgentHook() as hook:
        for _ in range(3):
            with pytest.raises(RayAgentConfigError):
                hook.list_jobs()
        looks = [request for request in ray.requests if request.path.endswith("api/version")]
    assert len(looks) == 1


def test_a_service_that_has_answered_is_not_doubted(serve: Serve) -> None:
    agent = serve(Job(), answers={"GET jobs/": [DEFAULT, Html(404), Refuse(401)]})
    with RayAgentHook() as hook:
        hook.list_jobs()
        before = len(agent.requests)
        for error in (RayAgentResponseError, RayAgentHTTPError):
            with pytest.raises(error):
                hook.list_jobs()
    assert len(agent.requests) == before + 2


@pytest.mark.parametrize("job_id", ["j1", "unknown"])
def test_a_sensor_fails_at_once(job_id: str, follow: Run, serve: Serve) -> None:
    serve(Job(), service="ray", password=None, extra=AGENT)
    with pytest.raises(RayAgentConfigError, match="set Service"):
        follow(job_id=job_id, job_missing_timeout=3600.0, agent_unreachable_timeout=3600.0, timeout=3600.0)


@pytest.mark.parametrize(("service", "extra"), [("ray", AGENT), ("agent", RAY)])
def test_a_task_that_submits_fails_at_once(service: Any, extra: dict[str, str], submit: Run, serve: Serve) -> None:
    server = serve(service=service, password=None, extra=extra)
    with pytest.raises(RayAgentError, match="set Service"):
        submit(job_missing_timeout=3600.0, agent_unreachable_timeout=3600.0)
    assert server.of("POST") == []
