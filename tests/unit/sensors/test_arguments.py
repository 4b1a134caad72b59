"""The sensor's arguments: refused when the DAG is read, or rendered when the task runs."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_rayagent.exceptions import RayAgentInputError
from tests.unit.sensors.factory import make_sensor


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        ({"protocol": "grpc"}, "protocol"),
        ({"protocol": None}, "protocol"),
        ({"job_missing_timeout": 0}, "job_missing_timeout"),
        ({"job_missing_timeout": "60"}, "job_missing_timeout"),
        ({"agent_unreachable_timeout": -1}, "agent_unreachable_timeout"),
        ({"agent_unreachable_timeout": float("nan")}, "agent_unreachable_timeout"),
        ({"agent_unreachable_timeout": True}, "agent_unreachable_timeout"),
        ({"max_line_length": 0}, "max_line_length"),
        ({"max_line_length": 1.5}, "max_line_length"),
        ({"max_line_length": None}, "max_line_length"),
        ({"progress_interval": 0}, "progress_interval"),
        ({"max_lines": 0}, "max_lines"),
        ({"result_markers": "ab"}, "result_markers"),
        ({"result_markers": ("a",)}, "result_markers"),
        ({"result_markers": ("a", "")}, "result_markers"),
        ({"result_markers": ("a", 1)}, "result_markers"),
    ],
)
def test_a_bad_argument_is_refused_when_the_dag_is_read(overrides: dict[str, Any], word: str) -> None:
    with pytest.raises(RayAgentInputError, match=word):
        make_sensor(**overrides)


def test_a_sensor_can_be_copied_as_airflow_does_and_belongs_to_a_dag() -> None:
    with DAG("night", schedule=None) as dag:
        sensor = make_sensor(timeout=timedelta(hours=2))
    again = copy.deepcopy(sensor)
    assert dag.task_ids == ["follow"]
    assert (again.job_id, again.timeout) == ("j1", 7200)


def test_reading_a_dag_opens_no_connection_and_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow.sdk.BaseHook.get_connection", lambda *_: pytest.fail("asked for a connection"))
    sensor = make_sensor(rayagent_conn_id="nowhere")
    assert sensor.hook.rayagent_conn_id == "nowhere"
