"""Functions of ``@task.ray`` on a real Ray, over its dashboard and over the local agent, in a worker and deferred."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import RayAgentRunFailedError
from tests.unit.both_ways import execute
from tests.unit.decorators.test_ray_task import make_task
from tests.unit.supervisor import supervise
from tests.unit.support import TaskInstance, make_context, task_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray


@pytest.fixture(params=product(("ray", "agent"), (False, True)), ids=lambda param: f"{param[0]}-{param[1]}")
def run(request: pytest.FixtureRequest, agent: LocalAgent, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return what runs a function as a task of its own run."""
    service, deferrable = request.param
    host, token = agent.url, agent.token
    if service == "ray":
        host, token = agent.ray_address, Path(str(agent.ray_token_file)).read_text(encoding="utf-8").strip()

    def run(function: Callable[..., Any], **call: Any) -> Any:
        run_id = f"{function.__name__}-{service}-{deferrable}"
        return run_function(function, call, (service, host, token), monkeypatch, run_id=run_id, deferrable=deferrable)

    return run


def run_function(
    function: Callable[..., Any],
    call: dict[str, Any],
    server: tuple[str, str, str | None],
    monkeypatch: pytest.MonkeyPatch,
    run_id: str = "run",
    **options: Any,
) -> Any:
    """Run a function as a task of its own; return what goes to XCom.

    :param server: the service, its URL and its token.
    :param options: arguments of the decorator.
    """
    service, host, token = server
    connection = {"conn_type": "rayagent", "host": host, "password": token, "extra": {"service": service}}
    monkeypatch.setenv("AIRFLOW_CONN_RAYAGENT_DEFAULT", json.dumps(connection))
    context = make_context(TaskInstance(task_id=function.__name__, run_id=run_id))
    supervise(context["ti"], monkeypatch)
    return execute(lambda: make_task(function, call=call, **options), context)


def sums_squares(numbers: list[int]) -> dict[str, Any]:
    import os

    import ray

    ray.init()

    class Square:
        def __init__(self, n: int) -> None:
            self.n = n

    @ray.remote
    def square(n: int) -> Any:
        return Square(n * n)

    print("from the driver", flush=True)
    squares = ray.get([square.remote(n) for n in numbers])
    return {"sum": sum(each.n for each in squares), "task": os.environ["AIRFLOW_CTX_TASK_ID"]}


def test_a_function_runs_on_the_cluster_with_tasks_and_classes_of_its_own(run: Callable[..., Any]) -> None:
    with task_log() as log:
        assert run(sums_squares, numbers=[1, 2, 3]) == {"sum": 14, "task": "sums_squares"}
    lines = [line for message in log.messages for line in message.split("\n")]
    assert lines.count("from the driver") == 1


def fails_in_a_task() -> None:
    import ray

    ray.init()

    @ray.remote
    def check(row: int) -> None:
        raise ValueError(f"bad row {row}")

    ray.get(check.remote(7))


def test_the_error_of_a_ray_task_is_the_tasks(run: Callable[..., Any]) -> None:
    with pytest.raises(RayAgentRunFailedError) as raised:
        run(fails_in_a_task)
    assert_names_the_lines_of_the_ray_task(raised.value)


def assert_names_the_lines_of_the_ray_task(error: Exception) -> None:
    first = fails_in_a_task.__code__.co_firstlineno
    assert str(error).splitlines()[:3] == [
        "RA-101: ValueError: bad row 7",
        f"  test_ray_task.py, line {first + 9}, in fails_in_a_task",
        f"  test_ray_task.py, line {first + 7}, in check",
    ]
