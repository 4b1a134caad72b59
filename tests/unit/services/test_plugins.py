"""Validate requests to run plugins, and parse their responses."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError, RayAgentResourcesError
from airflow_provider_rayagent.services import plugins
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.plugins import job_id_in
from airflow_provider_rayagent.transport.request_retry import may_retry
from tests.unit.support import HOSTILE_IDS

if TYPE_CHECKING:
    from collections.abc import Callable

CYCLE: dict[str, Any] = {}
CYCLE["self"] = CYCLE
NO_OBJECTS: list[Any] = [
    [],
    "x",
    7,
    {1: "x"},
    {"at": datetime(2026, 1, 31, tzinfo=timezone.utc)},
    {"x": {1, 2}},
    {"x": float("nan")},
    {"x": b"x"},
    CYCLE,
]


def run(lookup: Any = "train@1.0", action: Any = "train", params: Any = None, **more: Any) -> Any:
    return AGENT.run_plugin_release(lookup, action, params, **more)


def debug(action: Any = "train", params: Any = None, **more: Any) -> Any:
    return AGENT.run_debug_plugin_release(action, params, **more)


def test_arguments_are_sent_with_the_names_of_the_agents_client_if_they_are_given() -> None:
    assert run().body == debug().body == {"action": "train"}
    assert run(params={}, requirements=[]).body == {"action": "train", "params": {}, "requirements": []}
    more = {"requirements": ("torch==2.9",), "job_id": "train-1", "language": "ko"}
    sent = {"action": "train", "params": {"a": [1, 2]}, **more, "requirements": ["torch==2.9"]}
    assert run(params={"a": (1, 2)}, **more).body == sent
    assert json.loads(json.dumps(sent)) == sent
    source = {"plugin_path": "/plugins/a b", "config": {"name": "x"}, "modules": {"main": "print(1)\n"}}
    assert debug(params={"a": (1, 2)}, **more, **source).body == {**sent, **source}


@pytest.mark.parametrize(
    ("lookup", "path"),
    [
        ("12", "12"),
        ("train@1.0", "train@1.0"),
        ("train@1.0+gpu", "train@1.0+gpu"),
        ("train:1.0", "train:1.0"),
        ("a b?c#d%2F", "a%20b%3Fc%23d%252F"),
        ("학습@1", "%ED%95%99%EC%8A%B5@1"),
    ],
)
def test_a_lookup_is_quoted_as_one_segment(lookup: str, path: str) -> None:
    assert run(lookup).path == f"plugin_releases/{path}/run/"
    assert AGENT.get_plugin_release(lookup).path == f"plugin_releases/{path}"


REFUSED: dict[str, tuple[tuple[Callable[[Any], object], ...], list[Any]]] = {
    "plugin lookup": (
        (run, AGENT.get_plugin_release),
        ["", " ", ".", "..", "a/b", "a\n", "\x7f", "\ud800", None, 7, b"a"],
    ),
    "action": (
        (lambda value: run(action=value), lambda value: debug(action=value)),
        ["", " ", "a\n", "\ud800", None, 7],
    ),
    "job id": (
        (lambda value: run(job_id=value), lambda value: debug(job_id=value)),
        [each for each in HOSTILE_IDS if each is not None],
    ),
    "requirements": ((lambda value: run(requirements=value),), ["torch", {"torch": 1}, [1], [""], ["a\n"], 7]),
    "modules": ((lambda value: debug(modules=value),), [{"main": 1}]),
    "plugin path": ((lambda value: debug(plugin_path=value),), [7]),
    "timeout": (
        (plugins.validate_timeout_pair,),
        [5, "5", (5,), (1, 2, 3), (0, 5), (5, float("inf")), (5, None), (True, 5)],
    ),
}


@pytest.mark.parametrize(
    ("what", "value"), [(what, value) for what in REFUSED for value in REFUSED[what][1]], ids=ascii
)
def test_an_invalid_argument_is_rejected_by_its_name(what: str, value: Any) -> None:
    for call in REFUSED[what][0]:
        with pytest.raises(RayAgentInputError, match=what):
            call(value)


@pytest.mark.parametrize("value", NO_OBJECTS, ids=lambda value: type(value).__name__)
def test_the_error_for_an_argument_that_is_not_json_names_it(value: Any) -> None:
    for name, call in (("params", run), ("params", debug), ("config", debug), ("modules", debug)):
        with pytest.raises(RayAgentInputError, match=f"^RA-601: {name} ") as caught:
            call(**{name: value})
        assert len(str(caught.value)) < 200


def test_missing_gpus_are_not_an_outage() -> None:
    error = RayAgentResourcesError("x", 503)
    assert not may_retry(run(), error)
    assert not may_retry(AGENT.list_plugin_releases(), error)


@pytest.mark.parametrize(
    ("answer", "asked", "job_id"),
    [
        ({"job_id": "j1"}, None, "j1"),
        ({"submission_id": "j1", "status": "PENDING"}, None, "j1"),
        ({"id": "j1"}, None, "j1"),
        ({"job": {"job_id": "j1"}}, None, "j1"),
        ({"job": {"id": "j1"}, "plugin": {"id": "p"}}, None, "j1"),
        ({"job": "j1"}, None, "j1"),
        ({"result": {"submission_id": "j1"}}, None, "j1"),
        ({"answer": "j1"}, None, "j1"),
        ({"answer": ["j1"]}, None, None),
        ({"job_id": "01000000", "submission_id": "j1"}, "j1", "j1"),
        ({"job_id": "other"}, "j1", "other"),
        ({"id": "release-7"}, "j1", "j1"),
        ({"id": 7, "job_id": 8}, "j1", "j1"),
        ({"job_id": None, "job": None}, "j1", "j1"),
        ({"job_id": "not an id"}, None, None),
        ({"answer": "Job accepted."}, "j1", "j1"),
        ({"result": "accepted"}, "j1", "j1"),
        ({"answer": "accepted", "job": "queued"}, "j1", "j1"),
        ({"result": {"job_id": "other"}}, "j1", "other"),
        ({}, "j1", "j1"),
        ({}, None, None),
    ],
)
def test_the_job_id_is_found_in_any_response(answer: dict[str, Any], asked: str | None, job_id: str | None) -> None:
    assert job_id_in(answer, asked) == job_id
