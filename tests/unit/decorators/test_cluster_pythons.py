"""The Python of the cluster may be another one than Airflow's, older or newer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_rayagent.exceptions import RayAgentRunFailedError
from tests.stack.interpreters import python_of_version
from tests.unit.both_ways import execute
from tests.unit.decorators.cluster import run_job
from tests.unit.decorators.test_ray_task import add, awaits, fails, make_task, shadows, skips
from tests.unit.operators.submissions import SUBMIT
from tests.unit.supervisor import supervise
from tests.unit.support import TaskInstance, make_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import ScriptedAgent

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, ray: ScriptedAgent) -> str:
    """The version of the cluster's Python."""
    python = python_of_version(request.param)
    if python is None:
        pytest.skip(f"there is no Python {request.param}")
    ray.answers[SUBMIT] = [partial(run_job, ray, python=python)]
    return str(request.param)


@pytest.fixture
def run(version: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return what runs a function."""

    def run(function: Callable[..., Any], **call: Any) -> Any:
        context = make_context(TaskInstance(run_id=function.__name__))
        supervise(context["ti"], monkeypatch)
        return execute(lambda: make_task(function, call=call), context)

    return run


def tells_its_python() -> str:
    import sys

    return ".".join(map(str, sys.version_info[:2]))


def test_functions_run_on_it(version: str, run: Callable[..., Any]) -> None:
    assert run(tells_its_python) == version
    assert run(add, a=1, x=2) == {"sum": 3, "named": {"x": 2}}
    assert run(awaits, n=1) == 2
    assert run(shadows, a=1) == [1, None, "\n  kept\n    as it is"]
    with pytest.raises(AirflowSkipException, match="no data today"):
        run(skips)


def test_the_lines_of_an_exception_are_those_of_the_dag_file(run: Callable[..., Any]) -> None:
    def nested(rows: list[int]) -> Any:
        # The indentation of a function in a function is not that of a file.
        return [
            row / 0
            for row in rows
        ]  # fmt: skip

    first = fails.__code__.co_firstlineno
    with pytest.raises(RayAgentRunFailedError) as raised:
        run(fails, rows=[7])
    assert str(raised.value).splitlines()[:3] == [
        "RA-101: ValueError: bad row 7",
        f"  test_ray_task.py, line {first + 5}, in fails",
        f"  test_ray_task.py, line {first + 2}, in check",
    ]
    with pytest.raises(RayAgentRunFailedError) as raised:
        run(nested, rows=[7])
    error, *lines = str(raised.value).splitlines()
    assert error == "RA-101: ZeroDivisionError: division by zero"
    # Before Python 3.12 a list comprehension has a frame of its own.
    frames = [line.rpartition(", in ")[0] for line in lines if line.startswith("  ")]
    assert frames[-1] == f"  test_cluster_pythons.py, line {nested.__code__.co_firstlineno + 3}"
