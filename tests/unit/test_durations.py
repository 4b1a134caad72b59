"""Every argument that is a time takes seconds or a timedelta, as the arguments of Airflow's own sensors do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.operators.rayagent import (
    RayAgentDeleteServeApplicationOperator,
    RayAgentRunPluginOperator,
    RayAgentStopJobOperator,
)
from airflow_provider_rayagent.sensors.rayagent import (
    RayAgentCapacitySensor,
    RayAgentJobSensor,
    RayAgentServeApplicationSensor,
)

SECONDS = {
    "timeout": 3600.0,
    "poll_interval": 3.0,
    "poke_interval": 4.0,
    "start_timeout": 600.0,
    "job_missing_timeout": 90.0,
    "agent_unreachable_timeout": 120.0,
    "progress_interval": 7.0,
    "grace_period": 0.5,
}
CLASSES: dict[type, tuple[dict[str, Any], set[str]]] = {
    RayAgentStopJobOperator: ({"job_id": "j1"}, {"timeout", "poll_interval"}),
    RayAgentDeleteServeApplicationOperator: ({"name": "app"}, {"timeout", "poll_interval"}),
    RayAgentRunPluginOperator: (
        {"lookup": "train", "action": "train"},
        {"poll_interval", "start_timeout", "job_missing_timeout", "agent_unreachable_timeout", "progress_interval"},
    ),
    RayAgentJobSensor: (
        {"job_id": "j1"},
        {"timeout", "poke_interval", "job_missing_timeout", "agent_unreachable_timeout", "progress_interval"},
    ),
    RayAgentCapacitySensor: ({"num_gpus": 1}, {"timeout", "poke_interval", "agent_unreachable_timeout"}),
    RayAgentServeApplicationSensor: (
        {"name": "app"},
        {"timeout", "poke_interval", "grace_period", "agent_unreachable_timeout"},
    ),
}


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("as_timedelta", [True, False])
def test_the_default_args_of_a_dag_may_hold_them_in_either_form(cls: Any, as_timedelta: bool) -> None:
    arguments, names = CLASSES[cls]
    defaults = {name: timedelta(seconds=value) if as_timedelta else value for name, value in SECONDS.items()}
    with DAG("night", schedule=None, default_args=defaults):
        task = cls(task_id="task", **arguments)
    assert {name: getattr(task, name) for name in names} == {name: SECONDS[name] for name in names}
    assert not {name for name in SECONDS if isinstance(getattr(task, name, None), timedelta)}


@pytest.mark.parametrize(
    ("cls", "name"), [(cls, name) for cls, (_, names) in CLASSES.items() for name in sorted(names - {"poke_interval"})]
)
@pytest.mark.parametrize("value", [timedelta(seconds=-1), -1, "abc"], ids=ascii)
def test_one_that_is_none_is_refused_by_its_name(cls: Any, name: str, value: Any) -> None:
    with pytest.raises((RayAgentInputError, ValueError), match=name):
        cls(task_id="task", **CLASSES[cls][0], **{name: value})


@pytest.mark.parametrize("value", [0, timedelta()])
def test_an_application_may_have_no_grace_period(value: Any) -> None:
    sensor = RayAgentServeApplicationSensor(task_id="task", name="app", grace_period=value)
    assert sensor.grace_period == 0.0
