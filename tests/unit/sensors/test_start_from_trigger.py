"""``start_from_trigger``: no worker before the end, and refused where Airflow would silently do otherwise."""

from __future__ import annotations

import importlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, XComArg
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor
from airflow_provider_rayagent.triggers.outcome import TIMEOUT_MARGIN
from tests.scripted import Job
from tests.unit.sensors.factory import make_sensor, resume
from tests.unit.support import TOKEN, TaskInstance, make_context
from tests.unit.triggers.driver import follow

if TYPE_CHECKING:
    from tests.unit.support import Serve, TaskLog


def test_it_is_off_by_default_and_in_the_class() -> None:
    assert RayAgentJobSensor.start_from_trigger is False
    assert (make_sensor().start_from_trigger, make_sensor().start_trigger_args) == (False, None)
    assert make_sensor(deferrable=True).start_from_trigger is False


@pytest.mark.parametrize(
    "timeouts", [{"timeout": 100}, {"timeout": 500, "execution_timeout": timedelta(seconds=100)}], ids=" ".join
)
def test_the_scheduler_is_told_what_a_deferral_would_tell(timeouts: dict[str, Any]) -> None:
    sensor = make_sensor(start_from_trigger=True, job_id="train-{{ ds }}", poke_interval=9, **timeouts)
    told: Any = sensor.start_trigger_args
    assert sensor.deferrable
    assert (told.next_method, told.next_kwargs) == ("execute_complete", None)
    assert told.timeout == timedelta(seconds=100 + TIMEOUT_MARGIN)
    assert told.trigger_kwargs["job_id"] == "train-{{ ds }}"
    assert (told.trigger_kwargs["poll_interval"], told.trigger_kwargs["deadline"]) == (9, None)


def test_every_templated_argument_is_one_that_the_trigger_has_and_airflow_renders_there() -> None:
    told: Any = make_sensor(start_from_trigger=True).start_trigger_args
    assert set(RayAgentJobSensor.template_fields) <= told.trigger_kwargs.keys()


def test_the_scheduler_gets_it_through_the_serialized_dag() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("night", schedule=None) as dag:
        make_sensor(start_from_trigger=True, timeout=100)
        make_sensor(task_id="other")
    again = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    follow_task, other = again.task_dict["follow"], again.task_dict["other"]
    assert (follow_task.start_from_trigger, other.start_from_trigger) == (True, False)
    told: Any = follow_task.start_trigger_args
    assert told.timeout == timedelta(seconds=100 + TIMEOUT_MARGIN)
    assert told.next_method == "execute_complete"


def test_the_trigger_that_the_scheduler_starts_follows_the_job_and_a_worker_concludes(
    serve: Serve, log: TaskLog
) -> None:
    told: Any = make_sensor(start_from_trigger=True).start_trigger_args
    module, _, name = told.trigger_cls.rpartition(".")
    serve(Job("a\n"))
    event = follow(getattr(importlib.import_module(module), name)(**told.trigger_kwargs)).to_event()
    result = resume(told.next_method, {"event": event}, start_from_trigger=True)
    assert result["status"] == "SUCCEEDED"
    assert log.lines_of("a\n") == ["a"]
    assert TOKEN not in json.dumps(told.trigger_kwargs)


def test_where_airflow_starts_it_in_a_worker_all_the_same_it_is_deferred(serve: Serve) -> None:
    serve(Job("a\n", "RUNNING"))
    with pytest.raises(TaskDeferred):
        make_sensor(start_from_trigger=True).execute(make_context())


def test_the_result_of_another_task_as_the_id_is_refused_when_the_dag_is_read() -> None:
    with DAG("night", schedule=None), pytest.raises(RayAgentInputError, match="start_from_trigger requires a job_id"):
        make_sensor(start_from_trigger=True, job_id=XComArg(make_sensor(task_id="submit")))


@pytest.mark.parametrize("map_index", [0, 7])
def test_a_mapped_task_is_refused_in_clear_words(map_index: int, serve: Serve) -> None:
    agent = serve(Job("a\n"))
    sensor = make_sensor(start_from_trigger=True)
    with pytest.raises(RayAgentInputError, match="mapped task"):
        sensor.execute(make_context(TaskInstance(map_index=map_index)))
    assert agent.connections == 0
