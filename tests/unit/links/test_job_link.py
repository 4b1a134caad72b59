"""The link from a task to its job's page."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import RayAgentJobFailedError, RayAgentJobMissingError
from airflow_provider_rayagent.links.rayagent import LINKS, RayAgentJobLink
from airflow_provider_rayagent.operators.rayagent import RayAgentStopJobOperator
from tests.scripted import Job
from tests.stack.processes import NO_AGENT
from tests.unit.sensors.factory import make_sensor
from tests.unit.support import TaskInstance, make_context

if TYPE_CHECKING:
    from tests.unit.support import Connect, Serve

TEMPLATE = "https://ray.example.com/#/jobs/{job_id}"
PAGE = "https://ray.example.com/#/jobs/j1"
KEY = "_link_RayAgentJobLink"
BAD_TEMPLATES = ["javascript:alert('{job_id}')", "https://ray.example.com/", "https://ray.example.com/{job}", 7]


def link_of(operator: Any) -> str:
    return RayAgentJobLink().get_link(operator, ti_key=None)  # type: ignore[arg-type]


def make_stop(**arguments: Any) -> RayAgentStopJobOperator:
    return RayAgentStopJobOperator(**{"task_id": "stop", "job_id": "j1", **arguments})


def test_sensor_and_stop_operator_link_to_the_jobs_page_by_their_own_connection(connect: Connect) -> None:
    connect(NO_AGENT, extra={"job_url": TEMPLATE})
    other = connect(NO_AGENT, "other", extra={"job_url": "http://other.example.com/{job_id}?tab={job_id}"})
    assert link_of(make_sensor()) == link_of(make_stop()) == PAGE
    assert link_of(make_sensor(rayagent_conn_id=other)) == "http://other.example.com/j1?tab=j1"
    # There is none if the job's id was never rendered, or the connection is not there or cannot be used.
    assert link_of(make_sensor(job_id="{{ params.job_id }}")) == ""
    assert link_of(make_sensor(rayagent_conn_id="no_such_connection")) == ""
    connect("", extra={"job_url": TEMPLATE})
    assert link_of(make_sensor()) == ""


@pytest.mark.parametrize(
    ("make", "jobs", "error"),
    [
        (make_sensor, [Job("boom\n", status="FAILED")], RayAgentJobFailedError),
        (make_stop, [], RayAgentJobMissingError),
    ],
)
def test_the_link_is_there_before_the_waiting_begins_and_when_the_task_fails(
    make: Any, jobs: list[Job], error: type[Exception], serve: Serve
) -> None:
    ti = TaskInstance()
    serve(*jobs, extra={"job_url": TEMPLATE})
    with pytest.raises(error):
        make().execute(make_context(ti))
    assert ti.xcoms[KEY] == PAGE


def test_an_operator_that_has_run_has_only_the_links_with_a_url(serve: Serve) -> None:
    serve(Job("fine\n", status="SUCCEEDED"), extra={"job_url": TEMPLATE})
    for make in (make_sensor, partial(make_sensor, printed_links=["Board"]), make_stop):
        operator = make()
        every = list(operator.operator_extra_links)
        assert every[: len(LINKS)] == list(LINKS) == list(type(operator).operator_extra_links)
        for _ in range(2):
            operator.execute(make_context(TaskInstance()))
            assert [link.name for link in operator.operator_extra_links] == ["Ray job"]
        operator.job_links = None
        assert list(operator.operator_extra_links) == every


@pytest.mark.parametrize("template", [None, "", *BAD_TEMPLATES])
def test_without_a_template_or_with_a_bad_one_the_task_does_its_work_and_has_no_link(
    template: object, serve: Serve
) -> None:
    ti = TaskInstance()
    serve(Job("fine\n", status="SUCCEEDED"), extra={"job_url": template})
    sensor, stop = make_sensor(), make_stop()
    sensor.execute(make_context(ti))
    stop.execute(make_context(ti))
    assert link_of(sensor) == link_of(stop) == ""
    assert KEY not in ti.xcoms
