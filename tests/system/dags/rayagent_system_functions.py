"""Functions as jobs, written in the ways in which DAG files have tasks, in a worker and deferred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow import sdk
from airflow.sdk import DAG, TaskGroup
from airflow.sdk import task as step

if TYPE_CHECKING:
    from collections.abc import Sequence


def add_tasks_that_return() -> None:
    """Add tasks whose functions get and return values."""

    @step.ray
    def describe(rows: int) -> dict[str, Any]:
        return {"rows": rows, "more": [10]}

    @step.ray
    def enumerate_rows(rows: int) -> list[int]:
        return list(range(rows))

    @step.ray
    def double(row: int) -> int:
        print(f"doubling {row}", flush=True)
        return 2 * row

    @step.ray
    def total(rows: Sequence[int], more: list[int], run_id: str | None = None) -> dict[str, Any]:
        return {"sum": sum(rows) + sum(more), "run": run_id}

    with TaskGroup("group"):
        described: Any = describe(2)
        doubled: Any = double.expand(row=enumerate_rows(described["rows"]))
    total(doubled, more=described["more"])

    # A loop of the DAG file: the tasks once, once__1.
    for number in range(2):

        @step.ray
        def once(row: int) -> int:
            return row + 1

        once(number)

    @step.ray
    def measures(token: str) -> int:
        return len(token)

    measures("{{ conn.rayagent_default.password }}")


def add_tasks_that_end_otherwise() -> None:
    """Add tasks that are skipped or fail."""

    @step.skip_if(lambda _context: True)
    @step.ray
    def is_skipped_before() -> None: ...

    @step.run_if(lambda _context: True)
    @step.ray
    def skips() -> None:
        from airflow.sdk.exceptions import AirflowSkipException

        raise AirflowSkipException("no data today")

    @step.ray
    def fails(row: int) -> None:
        def check(row: int) -> None:
            raise ValueError(f"bad row {row}")  # the line of the error

        check(row)  # the line of the call

    is_skipped_before()
    skips()
    fails(7)


PLACES = {"system_functions": ("plain_ray", False), "system_functions_deferred": ("rayagent_default", True)}
EACH = {"poll_interval": 1, "retries": 0}

for name, (conn_id, deferrable) in PLACES.items():
    with DAG(dag_id=name, schedule=None, default_args={**EACH, "rayagent_conn_id": conn_id, "deferrable": deferrable}):
        add_tasks_that_return()
        add_tasks_that_end_otherwise()


if hasattr(sdk, "LoopDecision"):
    with DAG(dag_id="system_functions_loop", schedule=None, default_args=EACH):

        @step.ray
        def counts(index: str) -> int:
            return int(index)

        def body() -> None:
            """Add the task of each iteration."""
            counts("{{ loop.index }}")

        looped: Any = sdk.task_group(group_id="looped")(body)
        looped.loop(max_iterations=2, until=lambda *, loop: loop.result == 1)
