"""The link from a task to its job's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.agent.config import read_config
from airflow_provider_rayagent.exceptions import RayAgentConfigError, RayAgentJobFailedError
from airflow_provider_rayagent.links.rayagent import RayAgentJobLink
from airflow_provider_rayagent.operators.rayagent import RayAgentStopJobOperator
from tests.scripted import Job, ScriptedAgent
from tests.unit.sensors.factory import make_sensor
from tests.unit.support import NO_AGENT, TaskInstance, make_context

if TYPE_CHECKING:
    from tests.unit.support import Connect

TEMPLATE = "https://ray.example.com/#/jobs/{job_id}"
PAGE = "https://ray.example.com/#/jobs/j1"
KEY = "_link_RayAgentJobLink"


def link_of(operator: Any) -> str:
    return RayAgentJobLink().get_link(operator, ti_key=None)  # type: ignore[arg-type]


def test_sensor_and_stop_operator_link_to_the_jobs_page(connect: Connect) -> None:
    connect(NO_AGENT, extra={"job_url": TEMPLATE})

    assert link_of(make_sensor()) == PAGE
    assert link_of(RayAgentStopJobOperator(task_id="stop", job_id="j1")) == PAGE


def test_the_link_is_there_before_the_waiting_begins_and_when_the_job_fails(connect: Connect) -> None:
    ti = TaskInstance()
    with ScriptedAgent(Job("boom\n", status="FAILED")) as agent:
        connect(agent, extra={"job_url": TEMPLATE})
        with pytest.raises(RayAgentJobFailedError):
            make_sensor().execute(make_context(ti))

    assert ti.xcoms[KEY] == PAGE


def test_without_a_template_there_is_no_link(connect: Connect) -> None:
    ti = TaskInstance()
    with ScriptedAgent(Job("fine\n", status="SUCCEEDED")) as agent:
        connect(agent)
        sensor = make_sensor()
        sensor.execute(make_context(ti))

        assert link_of(sensor) == ""
    assert KEY not in ti.xcoms


def test_a_job_id_that_was_never_rendered_gives_no_link(connect: Connect) -> None:
    connect(NO_AGENT, extra={"job_url": TEMPLATE})

    assert link_of(make_sensor(job_id="{{ params.job_id }}")) == ""


def test_a_connection_that_cannot_be_used_gives_no_link(connect: Connect) -> None:
    connect("", extra={"job_url": TEMPLATE})

    assert link_of(make_sensor()) == ""


@pytest.mark.parametrize("template", ["javascript:alert('{job_id}')", "https://ray.example.com/", 7, "/jobs/{job_id}"])
def test_a_template_that_is_no_url_with_a_job_id_is_refused(template: object) -> None:
    with pytest.raises(RayAgentConfigError, match="job_url"):
        read_config(host="agent", extra={"job_url": template})
