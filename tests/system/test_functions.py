"""``@task.ray`` in a real Airflow: every way to write it, what the tasks return, and how they end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow import sdk

from tests.system.support import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.support import System

pytestmark = [pytest.mark.each_airflow, pytest.mark.timeout(1800)]

DAG_FILE = Path(__file__).parent / "dags" / "rayagent_system_functions.py"


@pytest.fixture(scope="module", params=["system_functions", "system_functions_deferred"])
def task(request: pytest.FixtureRequest, system: System, plain_ray: str) -> Callable[..., Task]:
    """Start a run; return what waits for one of its tasks, by its id and its map index, and returns it."""
    started = system.start(request.param, "total")

    def ended(task_id: str, map_index: int = -1) -> Task:
        task = Task(system.airflow, started.dag_id, started.run_id, task_id, map_index)
        task.wait()
        return task

    # The mapped tasks are there at the latest when the task behind them has ended.
    ended("group.enumerate_rows")
    ended("total")
    return ended


def test_what_functions_return_goes_through_groups_mapped_tasks_and_loops(task: Callable[..., Task]) -> None:
    total = task("total")
    total.assert_ends("success")
    assert total.xcom() == {"sum": 2 * (0 + 1) + 10, "run": total.run_id}
    # Each item of a dictionary is an XCom of its own, as its annotation says.
    assert task("group.describe").xcom("more") == [10]
    assert [task(name).xcom() for name in ("once", "once__1")] == [1, 2]
    assert len({each.xcom("job_id") for each in (task("once"), task("once__1"), total)}) == 3


def test_each_mapped_task_has_a_job_and_its_lines_once(system: System, task: Callable[..., Task]) -> None:
    for index in range(2):
        mapped = task("group.double", index)
        mapped.assert_ends("success")
        lines = [*mapped.deferred(), *mapped.forwarded()]
        assert lines.count(f"doubling {index}") == 1
        assert mapped.xcom() == 2 * index
        job = system.agent.job(mapped.xcom("job_id"))
        assert job["entrypoint"] == "python -m rayagent_task double"
        assert job["metadata"]["airflow_map_index"] == str(index)


def test_only_a_deferrable_task_without_secrets_is_followed_in_the_triggerer(task: Callable[..., Task]) -> None:
    deferrable = task("total").dag_id.endswith("_deferred")
    assert ("the triggerer follows job" in task("fails").text()) == deferrable
    measures = task("measures")
    measures.assert_ends("success")
    assert measures.xcom() > 8
    assert "the triggerer follows job" not in measures.text()
    assert ("this worker follows the job" in measures.text()) == deferrable


def test_a_task_is_skipped_before_its_job_and_by_its_job(task: Callable[..., Task]) -> None:
    before, by_job = task("is_skipped_before"), task("skips")
    before.assert_ends("skipped")
    assert "Started job" not in before.text()
    by_job.assert_ends("skipped")
    assert "Started job" in by_job.text()
    assert "no data today" in by_job.text()


def test_an_exception_is_the_error_of_the_task_with_the_lines_of_the_dag_file(task: Callable[..., Task]) -> None:
    failed = task("fails")
    failed.assert_ends("failed")
    text = failed.text()
    lines = DAG_FILE.read_text(encoding="utf-8").splitlines()
    frames = [
        f"{DAG_FILE.name}, line {number}, in {'check' if line.endswith('error') else 'fails'}"
        for number, line in reversed(list(enumerate(lines, 1)))
        if line.endswith(("# the line of the call", "# the line of the error"))
    ]
    assert len(frames) == 2
    places = [text.index("RA-101: ValueError: bad row 7"), *(text.index(frame) for frame in frames)]
    assert places == sorted(places), text


@pytest.mark.skipif(not hasattr(sdk, "LoopDecision"), reason="no loops before Airflow 3.4")
def test_each_iteration_of_a_loop_runs_the_function_again(system: System) -> None:
    run_id = system.airflow.trigger("system_functions_loop")
    state = system.airflow.wait_for_run("system_functions_loop", run_id)
    instances = system.airflow.task_instances("system_functions_loop", run_id)
    assert state == "success", instances
    assert len([each for each in instances if each["task_id"] == "looped.counts"]) == 2


@pytest.mark.full
def test_the_example_trains_and_evaluates(system: System) -> None:
    train = system.start("rayagent_functions", "train", rows=200)
    train.assert_ends("success")
    assert "trained on 200 points: slope 2.000" in [*train.deferred(), *train.forwarded()]
    evaluate = Task(system.airflow, train.dag_id, train.run_id, "evaluate")
    evaluate.assert_ends("success")
    assert evaluate.xcom() == pytest.approx(0, abs=1e-6)
