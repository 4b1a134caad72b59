"""The example DAG that creates a Ray cluster for each part of its work, and deletes it in any case."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]
import pytest

from tests.stack.watch import wait_until
from tests.system.support import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.support import System

pytestmark = pytest.mark.full
GROUP = "on_own_cluster"
DAG_ID = "rayagent_own_cluster"
PARTS = range(2)
NAME = "NAME_OF_RAY_CLUSTER"
"""The variable of the example in the environment of a head."""


def task_of(of_run: Task, name: str, part: int) -> Task:
    return Task(of_run.airflow, DAG_ID, of_run.run_id, f"{GROUP}.{name}", part)


def heads(of_run: Task, part: int | None = None) -> list[psutil.Process]:
    """Return the processes of all heads of a run, or of one of them."""
    end = "" if part is None else f"/{part}"
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            name = process.environ().get(NAME, "")
            if name.startswith(of_run.run_id) and name.endswith(end):
                found.append(process)
    return found


def times_printed(task: Task, line: str, try_number: int = 1) -> int:
    """Return how often the log of a task has a line of its job; Ray's own lines may come before or after."""
    return (task.forwarded(try_number) + task.deferred(try_number)).count(line)


def ends(of_run: Task) -> str:
    """Wait until a run has ended; return its state, and assert that its clusters have ended."""
    state = of_run.airflow.wait_for_run(DAG_ID, of_run.run_id)
    assert heads(of_run) == []
    return state


@pytest.fixture(scope="module")
def clusters(system: System) -> Iterator[System]:
    """The system with the connection of the example."""
    extra = {"service": "ray", "clusters": "127.0.0.1:1024-65535"}
    system.connect("ray_clusters", host="http://{cluster}", password="", extra=extra)
    yield system
    system.api("DELETE", "connections/ray_clusters")


def test_two_clusters_are_used_at_once_one_task_of_each_is_tried_again_and_both_end(clusters: System) -> None:
    task = clusters.start(DAG_ID, f"{GROUP}.create", failures=1)
    assert ends(task) == "success", task.airflow.task_instances(DAG_ID, task.run_id)
    addresses = {task_of(task, "create", part).xcom() for part in PARTS}
    assert len(addresses) == len(PARTS)
    for part in PARTS:
        count = task_of(task, "count", part)
        count.assert_has_ended("success", 2)
        assert [times_printed(count, f"try {number}", number) for number in (1, 2)] == [1, 1]
        assert times_printed(task_of(task, "follow", part), "slept") == 1
        assert task_of(task, "square", part).xcom() == (part + 1) ** 2


def test_clusters_end_when_a_user_ends_a_task(clusters: System) -> None:
    task = clusters.start(DAG_ID, f"{GROUP}.create", seconds=3600)
    follow = task_of(task, "follow", 0)
    for part in PARTS:
        task_of(task, "follow", part).wait_for("deferred")
    for part in PARTS:
        task.airflow.set_state(DAG_ID, task.run_id, f"{GROUP}.follow", "failed", part)
    assert ends(task) == "failed"
    assert follow.instance()["state"] == "failed"


def test_a_cluster_that_dies_is_said_to_be_gone_and_the_other_one_is_used_to_the_end(clusters: System) -> None:
    task = clusters.start(DAG_ID, f"{GROUP}.create", seconds=120)
    lost, other = (task_of(task, "follow", part) for part in PARTS)
    for each in (lost, other):
        each.wait_for("deferred")
    for name in ("count", "square"):
        task_of(task, name, 0).wait_for("success")
    for process in heads(task, part=0):
        with contextlib.suppress(psutil.Error):
            process.kill()
    lost.wait_for_text(f"RA-110: Cluster {task_of(task, 'create', 0).xcom()!r} is gone, and job")
    # Its second try would wait for the cluster.
    task.airflow.set_state(DAG_ID, task.run_id, lost.task_id, "failed", 0)
    assert ends(task) == "failed"
    assert times_printed(other, "slept") == 1
    assert other.instance()["state"] == "success"


def test_a_task_that_is_cleared_gets_a_new_cluster(clusters: System) -> None:
    task = clusters.start(DAG_ID, f"{GROUP}.create")
    assert ends(task) == "success"
    before = task_of(task, "create", 0).xcom()
    cleared = task.airflow.clear(DAG_ID, task.run_id, f"{GROUP}.count")
    assert {each["task_id"].removeprefix(f"{GROUP}.") for each in cleared} == {"create", "count", "delete"}
    wait_until(lambda: heads(task) or None, "no cluster was created again")
    assert ends(task) == "success"
    assert task_of(task, "create", 0).xcom() != before
    count = task_of(task, "count", 0)
    assert times_printed(count, "try 2", 2) == 1
