"""The triggers' arguments, as they lie in Airflow's database."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.module_loading import import_string  # type: ignore[attr-defined]

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.render.record_builder import DisplaySettings
from airflow_provider_rayagent.run.follow_options import FollowOptions
from airflow_provider_rayagent.tail.cursor import Cursor
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.triggers.applications import RayAgentServeApplicationTrigger
from airflow_provider_rayagent.triggers.capacity import RayAgentCapacityTrigger
from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger
from tests.scripted import Job
from tests.unit.support import TOKEN
from tests.unit.triggers.driver import follow

if TYPE_CHECKING:
    from tests.unit.support import Connect, Serve, TaskLog

OF_A_JOB: dict[str, Any] = {
    "job_id": "train-7",
    "rayagent_conn_id": "team_a",
    "cluster": "head-1",
    "forward_logs": False,
    "protocol": "http",
    "poll_interval": 2.5,
    "job_missing_timeout": 7.0,
    "agent_unreachable_timeout": 8.0,
    "max_line_length": 900,
    "deadline": 1_800_000_000.5,
    "position": Cursor(6, 2, marks=[(6, "ab" * 16)]).to_json(),
    "stop_job_on_kill": True,
    "display": {"levels": False, "colors": False, "progress_interval": None, "max_lines": 9, "markers": True},
    "result_markers": [["<<", ">>"]],
    "read_messages": True,
    "printed_links": ["Board"],
    "start_deadline": 1_800_000_001.5,
    "log_storage": "remote",
    "names_entrypoint": False,
    "has_answered": True,
    "stall_after": 61.5,
    "stall_timeout": 62.5,
    "stall_stacks": True,
    "team_name": "red",
}
OF_AN_APPLICATION: dict[str, Any] = {
    "name": "canary 7",
    "rayagent_conn_id": "team_a",
    "cluster": "head-1",
    "target": "gone",
    "poll_interval": 2.5,
    "grace_period": 7.0,
    "deployed_after": 1_700_000_000.5,
    "agent_unreachable_timeout": 8.0,
    "deadline": 1_800_000_000.5,
}
OF_RESOURCES: dict[str, Any] = {
    "num_gpus": 4.0,
    "num_cpus": 1.5,
    "memory_bytes": 10,
    "accelerator_type": "A100",
    "on_one_node": True,
    "wait_for_scale_up": True,
    "rayagent_conn_id": "team_a",
    "cluster": "head-1",
    "poll_interval": 2.5,
    "agent_unreachable_timeout": 8.0,
    "deadline": 1_800_000_000.5,
}
each_trigger = pytest.mark.parametrize(
    ("trigger", "arguments"),
    [
        (RayAgentJobTrigger, OF_A_JOB),
        (RayAgentServeApplicationTrigger, OF_AN_APPLICATION),
        (RayAgentCapacityTrigger, OF_RESOURCES),
    ],
    ids=["job", "application", "capacity"],
)
FIRST_FORM: tuple[str, dict[str, Any]] = (
    "airflow_provider_rayagent.triggers.rayagent.RayAgentJobTrigger",
    {
        "job_id": "j1",
        "rayagent_conn_id": "rayagent_default",
        "forward_logs": True,
        "protocol": "auto",
        "poll_interval": 5.0,
        "job_missing_timeout": 60.0,
        "agent_unreachable_timeout": 300.0,
        "max_line_length": 16_000,
        "deadline": 4_102_444_800.0,
        "position": {"chars": 0, "lines": 0, "mid_line": False, "joining": "unknown", "marks": []},
        "stop_job_on_kill": False,
    },
)
"""What the release that introduced the trigger wrote to the database. It never changes."""


@each_trigger
def test_every_argument_is_stored_and_comes_back(trigger: type[Any], arguments: dict[str, Any]) -> None:
    others = FollowOptions if trigger is RayAgentJobTrigger else trigger.wait_type
    names = {*inspect.signature(trigger).parameters} - {"options", "arguments"}
    names |= {each.name for each in fields(others) if each.init}
    assert arguments.keys() == names
    path, stored = trigger(**arguments).serialize()
    assert stored == arguments
    assert import_string(path) is trigger
    assert trigger(**json.loads(json.dumps(stored, allow_nan=False))).serialize() == (path, stored)


@each_trigger
def test_an_argument_that_is_left_out_has_its_default_on_both_sides(
    trigger: type[Any], arguments: dict[str, Any]
) -> None:
    (required, *_) = arguments.items()
    path, stored = trigger(**dict([required])).serialize()
    assert trigger(**stored).serialize() == (path, stored)


@each_trigger
def test_airflows_own_encoding_of_a_trigger_gives_it_back(trigger: type[Any], arguments: dict[str, Any]) -> None:
    from airflow.serialization import decoders, encoders

    stored = json.loads(json.dumps(encoders.encode_trigger(trigger(**arguments))))
    assert stored["classpath"] == f"{trigger.__module__}.{trigger.__name__}"
    decode: Any = decoders.smart_decode_trigger_kwargs
    assert {name: decode(value) for name, value in stored["kwargs"].items()} == arguments


def test_the_arguments_are_small_and_hold_no_secret_of_the_connection(connect: Connect) -> None:
    connect("http://127.0.0.1:1", "team_a")
    text = json.dumps(RayAgentJobTrigger(**OF_A_JOB).serialize())
    assert len(text) < 2_000
    assert TOKEN not in text


@pytest.mark.parametrize("left_out", [(), ("position", "deadline", "stop_job_on_kill")])
def test_a_trigger_that_the_first_release_stored_still_runs(
    left_out: tuple[str, ...], serve: Serve, log: TaskLog
) -> None:
    path, arguments = FIRST_FORM
    kept = {key: value for key, value in arguments.items() if key not in left_out}
    serve(Job("a\nb\n", "FAILED"))
    outcome = follow(import_string(path)(**kept))
    assert (outcome.end, outcome.error) == (End.JOB_ENDED, None)
    assert outcome.job is not None
    assert outcome.job["status"] == "FAILED"
    assert log.lines_of("a\nb\n") == ["a", "b"]


def test_settings_that_there_are_no_more_are_ignored() -> None:
    trigger = RayAgentJobTrigger(job_id="j1", display={"colors": False, "tail_lines": 7})
    assert trigger.options.display == DisplaySettings(colors=False)


@each_trigger
def test_arguments_that_there_are_no_more_are_ignored_and_logged(
    trigger: type[Any], arguments: dict[str, Any], log: TaskLog
) -> None:
    made = trigger(**arguments, tail_lines=7, resume_log=True)
    assert made.serialize() == trigger(**arguments).serialize()
    assert log.warnings == ["Ignoring arguments that this version does not have: resume_log, tail_lines"]


@pytest.mark.parametrize("value", [True, 1.5, "1", None])
def test_an_argument_of_another_type_makes_a_failed_trigger(value: Any) -> None:
    """By a TypeError: any other exception in a trigger's constructor would end the triggerer."""
    with pytest.raises(TypeError, match="max_line_length"):
        RayAgentJobTrigger(job_id="j1", max_line_length=value)


@pytest.mark.parametrize("value", [-1, 0])
def test_a_line_length_that_is_no_count_ends_the_trigger_with_an_error(value: Any, serve: Serve) -> None:
    agent = serve(Job("line\n"))
    outcome = follow(RayAgentJobTrigger(job_id="j1", max_line_length=value))
    assert isinstance(outcome.error, RayAgentInputError)
    assert "max_line_length must be a whole number greater than 0" in outcome.error.detail
    assert agent.requests == []
