"""Tasks and actors that wait for resources."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_rayagent.text.redaction import Redactor
from airflow_provider_rayagent.ui.pending_work import MAX_GROUPS, waiting_tasks

TOKEN = "token-of-the-agent"
JOBS: list[dict[str, Any]] = [
    {"submission_id": "train", "job_id": "02000000"},
    {"submission_id": None, "job_id": "03000000", "type": "DRIVER"},
    {"submission_id": "pending", "job_id": None},
    {"submission_id": "stopped", "job_id": "04000000", "status": "STOPPED"},
]


def task(name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"name": name, "state": "PENDING_NODE_ASSIGNMENT", "type": "NORMAL_TASK", "job_id": "02000000", **fields}


def groups_of(*tasks: dict[str, Any]) -> Any:
    return waiting_tasks(tasks, JOBS, Redactor([TOKEN]))["groups"]


def test_equal_tasks_are_one_group_with_their_job_and_what_they_require() -> None:
    needed = {"GPU": 1.0, "CPU": 8.0}
    found = groups_of(task(), *(task("g", required_resources=needed) for _ in range(3)), task("g"))
    assert found[0] == {"kind": "task", "name": "g", "job_id": "train", "resources": needed, "count": 3}
    assert [(each["name"], each["count"]) for each in found] == [("g", 3), ("f", 1), ("g", 1)]


def test_an_actor_waits_as_the_task_that_creates_it_and_its_methods_do_not() -> None:
    created = task("Model.__init__", type="ACTOR_CREATION_TASK")
    assert [each["kind"] for each in groups_of(created, task("Model.predict", type="ACTOR_TASK"))] == ["actor"]


def test_what_does_not_wait_for_resources_and_what_waits_for_a_job_is_left_out() -> None:
    states = ("FINISHED", "RUNNING", "PENDING_ARGS_AVAIL", "SUBMITTED_TO_WORKER", None)
    supervisor = task("JobSupervisor.__init__", type="ACTOR_CREATION_TASK", job_id="01000000")
    of_an_ended_job = task(job_id="04000000")
    assert groups_of(*(task(state=state) for state in states), supervisor, of_an_ended_job) == []


def test_tasks_of_drivers_without_a_submission_id_have_no_link() -> None:
    assert [each["job_id"] for each in groups_of(task("a", job_id="03000000"), task("b", job_id=None))] == [None, None]


def test_the_largest_groups_are_shown_and_all_are_counted() -> None:
    tasks = [task(f"f{number}") for number in range(MAX_GROUPS + 5)]
    found = waiting_tasks([*tasks, task("f7")], [], Redactor([]))
    assert (len(found["groups"]), found["total"]) == (MAX_GROUPS, MAX_GROUPS + 6)
    assert found["groups"][0]["name"] == "f7"


def test_nothing_secret_is_shown_and_no_character_that_deceives() -> None:
    shown = json.dumps(groups_of(task(f"f {TOKEN} \x1b[2J", runtime_env_info={"env": TOKEN})), ensure_ascii=False)
    assert TOKEN not in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("odd", [[], ["x"], {"a": 1}, 7, float("nan"), None, True])
def test_a_task_with_odd_values_hides_no_other(odd: Any) -> None:
    jobs = [*JOBS, {"submission_id": odd, "job_id": odd, "status": odd}, {"job_id": odd, "end_time": odd}]
    tasks = [task(), *(task(**{name: odd}) for name in ("name", "type", "state", "job_id", "required_resources"))]
    found = waiting_tasks([*tasks, task(required_resources={"CPU": odd})], jobs, Redactor([TOKEN]))
    json.dumps(found, allow_nan=False)
    assert {"kind": "task", "name": "f", "job_id": "train", "resources": {}, "count": 2} in [
        {**group, "count": 2} for group in found["groups"]
    ]
