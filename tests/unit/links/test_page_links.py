"""The links from a task to the metrics, the logs and the history of its job."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowRuntimeError, TaskDeferred
from airflow.sdk.execution_time import comms

from airflow_provider_rayagent.exceptions import RayAgentError
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.links.rayagent import LINKS, XCOM_KEYS
from airflow_provider_rayagent.operators.rayagent import RayAgentStopJobOperator
from airflow_provider_rayagent.task_instance import resume_delay
from tests.scripted import Do, Job, Refuse, ScriptedAgent, SetStatus, WaitFor
from tests.stack.watch import PATIENCE
from tests.unit.both_ways import event_of
from tests.unit.operators.submissions import make_operator as make_submit
from tests.unit.sensors.factory import make_sensor
from tests.unit.supervisor import needs_xcoms, supervise
from tests.unit.support import StateStore, TaskInstance, make_context
from tests.unit.triggers.driver import fired, make_trigger, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import Step
    from tests.unit.support import Serve

NODE = "cd" * 28
GET = "GET jobs/j1/"
START, END = 1_700_000_000_123, 1_700_000_060_456
TEMPLATES = {
    "metrics_url": "https://grafana.example.com/d/ray?from={start}&to={end}",
    "logs_url": "https://logs.example.com/{node_id}?to={end}",
    "history_url": "https://history.example.com/{host}/{job_id}",
}
FIELDS = {key: field for field, key in XCOM_KEYS.items()}
each_way = pytest.mark.parametrize("deferrable", [False, pytest.param(True, marks=needs_xcoms)])


class XComs(dict[str, Any]):
    """XComs that keep every link that was there, in order; one that is pushed again counts once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list[str]] = {field: [] for field in XCOM_KEYS}

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        if key in FIELDS and value and self.seen[FIELDS[key]][-1:] != [value]:
            self.seen[FIELDS[key]].append(value)

    @property
    def links(self) -> dict[str, str]:
        return {field: self[key] for field, key in XCOM_KEYS.items() if self.get(key)}


@pytest.fixture
def xcoms() -> XComs:
    return XComs()


@pytest.fixture
def ti(xcoms: XComs, monkeypatch: pytest.MonkeyPatch) -> TaskInstance:
    ti = TaskInstance(xcoms=xcoms)
    supervise(ti, monkeypatch)
    return ti


def metrics(start: object = START, end: object = "now") -> str:
    return f"https://grafana.example.com/d/ray?from={start}&to={end}"


def logs(end: object = "now") -> str:
    return f"https://logs.example.com/{NODE}?to={end}"


def history(agent: ScriptedAgent, job_id: str = "j1") -> str:
    return f"https://history.example.com/127.0.0.1%3A{agent.port}/{job_id}"


def make_job(status: str = "RUNNING", **fields: Any) -> Job:
    return Job(status=status, started=START, ended=END, details={"driver_node_id": NODE}, **fields)


def carry_out(make: Callable[[], Any], ti: TaskInstance, **context: Any) -> None:
    """Execute a task in one process or more, at whose ends Airflow asks for the links (``finalize`` in its
    ``task_runner.py``)."""
    surroundings = make_context(ti, **context)
    operator = make()
    go_on = partial(operator.execute, surroundings)
    while True:
        deferred = None
        try:
            go_on()
        except TaskDeferred as error:
            deferred = error
        finally:
            for link in operator.operator_extra_links:
                ti.xcom_push(link.xcom_key, link.get_link(operator, ti_key=None))
        if deferred is None:
            return
        kwargs = {**(deferred.kwargs or {}), "event": event_of(ti, deferred)}
        operator = make()
        go_on = partial(operator.resume_execution, str(deferred.method_name), kwargs, surroundings)


@each_way
@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_the_links_come_as_soon_as_they_are_known_and_have_the_final_times_at_the_end(
    status: str, deferrable: bool, serve: Serve, ti: TaskInstance, xcoms: XComs
) -> None:
    details: dict[str, Any] = {"driver_node_id": None}
    timeline = [
        WaitFor(lambda: {"metrics_url", "history_url"} == xcoms.links.keys()),
        Do(lambda: details.update(driver_node_id=NODE)),
        SetStatus("RUNNING"),
        WaitFor(lambda: "logs_url" in xcoms.links),
        SetStatus(status),
    ]
    agent = serve(Job("a\n", "PENDING", details=details, timeline=timeline, started=START, ended=END), extra=TEMPLATES)
    if status == "FAILED":
        with pytest.raises(RayAgentError):
            carry_out(lambda: make_sensor(deferrable=deferrable, poke_interval=0.5), ti)
    else:
        carry_out(lambda: make_sensor(deferrable=deferrable, poke_interval=0.5), ti)
    assert xcoms.seen == {
        "job_url": [],
        "metrics_url": [metrics(), metrics(end=END)],
        "logs_url": [logs(), logs(END)],
        "history_url": [history(agent)],
    }


@each_way
def test_a_stopped_job_has_its_final_times(deferrable: bool, serve: Serve, ti: TaskInstance, xcoms: XComs) -> None:
    agent = serve(make_job(stop_delay=0.3), extra=TEMPLATES)
    make = partial(RayAgentStopJobOperator, task_id="stop", job_id="j1", poll_interval=0.1, deferrable=deferrable)
    carry_out(make, ti)
    assert xcoms.seen["metrics_url"] == [metrics(), metrics(end=END)]
    assert xcoms.seen["logs_url"] == [logs(), logs(END)]
    assert xcoms.links["history_url"] == history(agent)


def test_links_need_no_request(serve: Serve, ti: TaskInstance) -> None:
    counts = []
    for extra in ({}, TEMPLATES):
        agent = serve(make_job("SUCCEEDED"), extra=extra)
        carry_out(make_sensor, ti)
        counts.append(len(agent.of("GET jobs/j1/")))
    assert counts[0] == counts[1]


def test_a_job_that_nobody_follows_begins_when_the_task_makes_the_link(
    serve: Serve, ti: TaskInstance, xcoms: XComs
) -> None:
    serve(service="ray", extra={**TEMPLATES, "job_url": "https://ray.example.com/{job_id}?from={start}"})
    began = int(time.time() * 1000)
    carry_out(lambda: make_submit(wait=False, job_id="own"), ti)
    ended = int(time.time() * 1000)
    assert xcoms.links.keys() == {"job_url", "metrics_url", "history_url"}
    [link] = xcoms.seen["metrics_url"]
    start = int(link.removeprefix("https://grafana.example.com/d/ray?from=").removesuffix("&to=now"))
    assert began <= start <= ended
    assert xcoms.links["job_url"] == f"https://ray.example.com/own?from={start}"


@pytest.mark.parametrize("answer", [Refuse(503), Refuse(404)], ids=str)
def test_a_job_that_cannot_be_seen_begins_when_the_task_has_looked_for_it(
    answer: Step, serve: Serve, ti: TaskInstance, xcoms: XComs
) -> None:
    serve(make_job(), answers={GET: [answer]}, extra=TEMPLATES)
    began = int(time.time() * 1000)
    with pytest.raises(RayAgentError):
        carry_out(lambda: make_sensor(job_missing_timeout=0.5, agent_unreachable_timeout=0.5, poke_interval=0.5), ti)
    ended = int(time.time() * 1000)
    # One link: its time does not move while the task waits.
    [link] = xcoms.seen["metrics_url"]
    assert began <= int(link.removeprefix("https://grafana.example.com/d/ray?from=").removesuffix("&to=now")) < ended
    assert "logs_url" not in xcoms.links


def test_each_poke_has_the_links_again(serve: Serve, ti: TaskInstance, xcoms: XComs) -> None:
    serve(make_job(), extra=TEMPLATES)
    make = partial(make_sensor, mode="reschedule")
    for _ in range(2):
        # As Airflow does before each start of the task.
        xcoms.clear()
        with pytest.raises(AirflowRescheduleException):
            carry_out(make, ti, task_state_store=StateStore())
        assert xcoms.links.keys() == TEMPLATES.keys()
    assert (xcoms.seen["metrics_url"], xcoms.seen["logs_url"]) == ([metrics()], [logs()])


def test_where_the_details_are_lost_the_links_are_made_from_what_the_trigger_has_seen(
    serve: Serve, ti: TaskInstance, xcoms: XComs
) -> None:
    agent = serve(make_job("SUCCEEDED"), extra=TEMPLATES)
    event = asyncio.run(fired(make_trigger(ti)))
    agent.answers[GET] = [Refuse(404)]
    sensor = make_sensor(deferrable=True)
    summary = sensor.resume_execution("execute_complete", {"event": event}, make_context(ti))
    assert [link.get_link(sensor, ti_key=None) for link in LINKS[1:3]] == [metrics(end=END), logs(END)]  # type: ignore[arg-type]
    assert (summary["start_time"], summary["end_time"], summary["driver_node_id"]) == (START, END, NODE)


@needs_xcoms
def test_a_trigger_pushes_no_link_before_the_worker_has_pushed_its_last(
    serve: Serve, ti: TaskInstance, xcoms: XComs, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = serve(make_job(), extra=TEMPLATES)

    async def follow(looks: int) -> None:
        async with running(make_trigger(ti)):
            await agent.reached(lambda: len(agent.of(GET)) >= looks)

    monkeypatch.setattr(resume_delay, "seconds_to_resume", lambda: PATIENCE)
    asyncio.run(follow(5))
    assert xcoms.links == {}


@needs_xcoms
@pytest.mark.parametrize(
    "error", [AirflowRuntimeError(comms.ErrorResponse()), OSError("no disk")], ids=["Airflow", "a backend"]
)
def test_a_job_is_followed_where_airflow_or_a_backend_refuses_its_links(
    error: Exception, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(TaskInstance):
        def xcom_push(self, key: str, value: Any) -> None:
            if key in FIELDS:
                raise error
            super().xcom_push(key, value)

    ti = Refusing()
    supervisor = supervise(ti, monkeypatch)
    supervisor.refused.add(comms.SetXCom)
    serve(make_job("SUCCEEDED"), extra=TEMPLATES)
    assert make_sensor().execute(make_context(ti))["status"] == "SUCCEEDED"
    assert asyncio.run(fired(make_trigger(ti)))["status"] == "SUCCEEDED"


class OwnOperator(BaseOperator):
    """An operator of a DAG author."""

    operator_extra_links = LINKS

    def __init__(self, job_id: str = "j1", job_details: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.job_details = job_details
        self.hook = RayAgentHook()


def test_an_operator_of_ones_own_has_the_links_that_its_attributes_permit(
    serve: Serve, ti: TaskInstance, xcoms: XComs
) -> None:
    def links(**attributes: Any) -> dict[str, str]:
        operator = OwnOperator(task_id="own", **attributes)
        found = {link.field: link.get_link(operator, ti_key=None) for link in LINKS}  # type: ignore[arg-type]
        return {field: url for field, url in found.items() if url}

    agent = serve(make_job("SUCCEEDED"), extra=TEMPLATES)
    with RayAgentHook() as hook:
        details = hook.get_job("j1")
    everything = {"metrics_url": metrics(end=END), "logs_url": logs(END), "history_url": history(agent)}
    assert links(job_details=details) == everything
    assert links().keys() == {"metrics_url", "history_url"}
    assert links(job_id="{{ params.job_id }}").keys() == {"metrics_url"}
