"""The metrics of tasks that follow a job, as a StatsD listener receives them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from airflow.sdk.exceptions import AirflowException

from airflow_provider_rayagent.exceptions import RayAgentError
from airflow_provider_rayagent.metrics import job_metrics, names
from tests.scripted import (
    Complete,
    Follow,
    Grow,
    Job,
    Play,
    Refuse,
    ScriptedAgent,
    SetStatus,
    Sleep,
    WaitForStream,
)
from tests.stack.processes import NO_AGENT
from tests.stack.watch import wait_until
from tests.unit.both_ways import execute
from tests.unit.sensors.factory import make_sensor
from tests.unit.supervisor import supervise
from tests.unit.support import make_context
from tests.unit.triggers.driver import make_trigger, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import Step
    from tests.stack.statsd import Sample, StatsdListener
    from tests.unit.support import Connect, Serve

TEXT = "one\n  zwei €\n\n" * 20
KINDS = {"counter": "c", "gauge": "g", "timer": "ms"}
ENDS: Step = Play(SetStatus("SUCCEEDED"), Follow(), Complete())
"""A stream that comes when the job has just ended."""
FollowJob: TypeAlias = "Callable[..., None]"


def make_job(status: str = "SUCCEEDED", **overrides: Any) -> Job:
    """Return a job that is followed before its end."""
    timeline = [WaitForStream(), Grow(TEXT), Sleep(0.6), SetStatus(status)]
    return Job(**{"status": "RUNNING", "timeline": timeline, **overrides})


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> FollowJob:
    """Follow a job to its end, whatever that is."""

    def followed(mode: str, **overrides: Any) -> None:
        context = make_context()
        supervise(context["ti"], monkeypatch)
        with contextlib.suppress(RayAgentError, AirflowException):
            options = {"poke_interval": 0.1, **overrides}
            execute(lambda: make_sensor(deferrable=mode == "deferred", **options), context)

    return followed


def received(statsd: StatsdListener, metric: names.Metric, count: int = 1, **tags: str) -> list[Sample]:
    """Wait for samples of a metric; return them."""
    return wait_until(
        lambda: found if len(found := statsd.samples(metric.name, **tags)) >= count else None,
        f"not received: {count} {metric.name} with {tags}; received: {statsd.samples()}",
    )


@pytest.fixture(autouse=True)
def _samples_are_as_defined(statsd: StatsdListener) -> Any:
    """Compare all that a test received with the definitions."""
    yield
    metrics = {metric.name: metric for metric in names.METRICS}
    found = [sample for sample in statsd.samples() if sample.name.startswith("rayagent.")]
    for sample in found:
        metric = metrics[sample.name]
        assert (sample.kind, set(sample.tags)) == (KINDS[metric.kind], set(metric.tags))
        for tag in {"mode", "status"} & set(sample.tags):
            assert sample.tags[tag] in names.VALUES[tag]


def test_a_job_that_succeeds(way: str, statsd: StatsdListener, serve: Serve, follow: FollowJob) -> None:
    serve(make_job())
    began = time.monotonic()
    follow(way)
    ended = time.monotonic()
    tags = {"conn_id": "rayagent_default", "mode": way}
    (end,) = received(statsd, names.JOB_ENDS)
    assert (end.value, end.tags) == (1, {**tags, "status": "SUCCEEDED"})
    for metric in (names.LINE_LAG, names.END_DELAY):
        (value,) = statsd.values(metric.name, **tags)
        assert 0 <= value <= (ended - began) * 1000
    assert statsd.samples(names.UNREADABLE_LOGS.name) == []


@pytest.mark.parametrize(
    ("status", "make", "options"),
    [
        ("FAILED", lambda: make_job("FAILED"), {}),
        ("STOPPED", lambda: make_job("STOPPED"), {}),
        ("SUCCEEDED", lambda: Job(TEXT, "SUCCEEDED"), {}),
        ("TIMED_OUT", lambda: Job("a\n", "RUNNING"), {"timeout": 0.5}),
        ("JOB_MISSING", lambda: Job(job_id="j2"), {"job_missing_timeout": 0.3}),
        ("AGENT_UNREACHABLE", None, {"agent_unreachable_timeout": 0.3}),
    ],
)
def test_an_end_is_counted_once_and_its_delay_if_it_was_followed(
    status: str,
    make: Callable[[], Job] | None,
    options: dict[str, Any],
    way: str,
    statsd: StatsdListener,
    serve: Serve,
    connect: Connect,
    follow: FollowJob,
) -> None:
    if make:
        serve(make())
    else:
        connect(NO_AGENT)
    follow(way, **options)
    received(statsd, names.JOB_ENDS, status=status, mode=way)
    assert statsd.total(names.JOB_ENDS.name) == 1
    assert len(statsd.samples(names.END_DELAY.name)) == (status in ("FAILED", "STOPPED"))


def test_a_log_that_cannot_be_read_counts_once(
    way: str, statsd: StatsdListener, serve: Serve, follow: FollowJob
) -> None:
    refused: list[Step] = [Refuse(500)]
    ends = [Sleep(0.6), SetStatus("SUCCEEDED")]
    serve(make_job(timeline=ends, ws=refused, sse=refused, full=refused))
    follow(way)
    received(statsd, names.JOB_ENDS, status="SUCCEEDED")
    assert statsd.total(names.UNREADABLE_LOGS.name, mode=way) == 1


def test_a_triggerer_sends_how_many_jobs_it_follows(
    statsd: StatsdListener, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_metrics, "SEND_SECONDS", 0.3)

    async def run(agent: ScriptedAgent) -> None:
        async with running(make_trigger(job_id="j1")):
            await agent.reached(lambda: agent.open_streams["j1"])
            async with running(make_trigger(job_id="j2")):
                await agent.reached(lambda: agent.open_streams["j2"])
                repeated = lambda: statsd.values(names.JOBS_FOLLOWED.name).count(2) >= 2  # noqa: E731
                await agent.reached(repeated)

    agent = serve(Job("a\n", "RUNNING"), Job("a\n", "RUNNING", job_id="j2"))
    asyncio.run(run(agent))
    received(statsd, names.JOBS_FOLLOWED, 4)
    values = wait_until(
        lambda: found if (found := statsd.values(names.JOBS_FOLLOWED.name))[-1] == 0 else None, "the last is not 0"
    )
    assert [value for value, before in zip(values, [None, *values], strict=False) if value != before] == [1, 2, 1, 0]


def test_a_task_without_metrics_sends_nothing(
    statsd: StatsdListener, serve: Serve, follow: FollowJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "False")
    serve(make_job("FAILED"))
    for mode in ("worker", "deferred"):
        follow(mode)
    assert [sample for sample in statsd.samples() if sample.name.startswith("rayagent.")] == []


def test_an_error_of_the_backend_does_not_reach_the_task(
    way: str, statsd: StatsdListener, serve: Serve, follow: FollowJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.observability.stats import Stats

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no backend")

    monkeypatch.setattr(Stats, "incr", fail)
    serve(make_job())
    follow(way)
    received(statsd, names.END_DELAY, mode=way)
    assert statsd.samples(names.JOB_ENDS.name) == []
