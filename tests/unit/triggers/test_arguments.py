"""The trigger's arguments, as they lie in Airflow's database."""

from __future__ import annotations

import importlib
import inspect
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.render.record_builder import DisplaySettings
from airflow_provider_rayagent.tail.cursor import Cursor
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.triggers.follow_options import FollowOptions
from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger
from tests.scripted import Job, ScriptedAgent
from tests.unit.support import TOKEN, task_log
from tests.unit.triggers.driver import follow

if TYPE_CHECKING:
    from tests.unit.support import Connect

EVERY_ARGUMENT: dict[str, Any] = {
    "job_id": "train-7",
    "rayagent_conn_id": "team_a",
    "forward_logs": False,
    "protocol": "http",
    "poll_interval": 2.5,
    "job_missing_timeout": 7.0,
    "agent_unreachable_timeout": 8.0,
    "max_line_length": 900,
    "deadline": 1_800_000_000.5,
    "cursor": Cursor(6, 2, marks=[(6, "ab" * 16)]).to_json(),
    "stop_job_on_kill": True,
    "display": {"levels": False, "colors": False, "progress_interval": None, "max_lines": 9, "tail_lines": 3},
    "result_markers": ["<<", ">>"],
    "start_deadline": 1_800_000_001.5,
    "log_storage": "remote",
}
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
        "cursor": {"chars": 0, "lines": 0, "mid_line": False, "joining": "unknown", "marks": []},
        "stop_job_on_kill": False,
    },
)
"""What the release that introduced the trigger wrote to the database. It never changes."""


def test_every_argument_is_stored_and_comes_back() -> None:
    names = {*inspect.signature(RayAgentJobTrigger).parameters, *(each.name for each in fields(FollowOptions))}
    assert EVERY_ARGUMENT.keys() == names - {"options"}
    path, arguments = RayAgentJobTrigger(**EVERY_ARGUMENT).serialize()
    assert arguments == EVERY_ARGUMENT
    again = RayAgentJobTrigger(**json.loads(json.dumps(arguments, allow_nan=False)))
    assert again.serialize() == (path, arguments)


def test_an_argument_that_is_left_out_has_its_default_on_both_sides() -> None:
    path, arguments = RayAgentJobTrigger(job_id="j1").serialize()
    assert RayAgentJobTrigger(**arguments).serialize() == (path, arguments)
    assert RayAgentJobTrigger(job_id="j1").serialize() == (path, arguments)


def test_the_stored_path_leads_to_the_class() -> None:
    module, _, name = RayAgentJobTrigger(job_id="j1").serialize()[0].rpartition(".")
    assert getattr(importlib.import_module(module), name) is RayAgentJobTrigger


def test_the_arguments_are_small_and_hold_no_secret_of_the_connection(connect: Connect) -> None:
    connect("http://127.0.0.1:1", "team_a")
    text = json.dumps(RayAgentJobTrigger(**EVERY_ARGUMENT).serialize())
    assert len(text) < 2_000
    assert TOKEN not in text


def test_airflows_own_encoding_of_a_trigger_gives_it_back() -> None:
    from airflow.serialization import decoders, encoders

    trigger: Any = RayAgentJobTrigger(**EVERY_ARGUMENT)
    stored = json.loads(json.dumps(encoders.encode_trigger(trigger)))
    assert stored["classpath"] == FIRST_FORM[0]
    decode: Any = decoders.smart_decode_trigger_kwargs
    assert {name: decode(value) for name, value in stored["kwargs"].items()} == EVERY_ARGUMENT


@pytest.mark.parametrize("left_out", [(), ("cursor", "deadline", "stop_job_on_kill")])
def test_a_trigger_that_the_first_release_stored_still_runs(left_out: tuple[str, ...], connect: Connect) -> None:
    path, arguments = FIRST_FORM
    module, _, name = path.rpartition(".")
    kept = {key: value for key, value in arguments.items() if key not in left_out}
    with ScriptedAgent(Job("a\nb\n", "FAILED")) as agent, task_log() as log:
        connect(agent)
        outcome = follow(getattr(importlib.import_module(module), name)(**kept))
    assert (outcome.end, outcome.job, outcome.error) == (End.JOB_ENDED, {"status": "FAILED"}, None)
    assert log.lines_of("a\nb\n") == ["a", "b"]


def test_the_names_of_earlier_releases_are_still_read() -> None:
    trigger = RayAgentJobTrigger(job_id="j1", present={"colours": False})
    assert trigger.options.display == DisplaySettings(colors=False)
    assert RayAgentJobTrigger(job_id="j1", present=None).options == FollowOptions()
