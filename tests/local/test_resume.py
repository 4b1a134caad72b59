"""A node dies, and the next try continues: Ray Train after its last checkpoint, Ray Data after the rows done."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.exceptions import RayAgentRunFailedError
from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator
from tests.local.test_failure_kinds import kill_node
from tests.stack.ray import cluster
from tests.stack.watch import wait_until
from tests.tail.figures import figure
from tests.unit.support import TaskInstance, make_context, task_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psutil  # type: ignore[import-untyped]

    from tests.stack.ray import Cluster

pytestmark = [pytest.mark.ray, pytest.mark.full]

PROGRAMS = Path(__file__).parents[2] / "example_dags" / "jobs" / "resume"
IDS = """
import json, sys
import pyarrow.parquet
print(json.dumps(pyarrow.parquet.read_table(sys.argv[1], columns=["id"])["id"].to_pylist()))
"""


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head, whose nodes have what Ray Train and Ray Data need; as a runtime environment they would share it."""
    packages = tmp_path_factory.mktemp("packages")
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    subprocess.run([*install, "--target", str(packages), "pandas", "pyarrow"], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")]))
        with cluster(log_monitor=True) as running:
            yield running


@pytest.fixture
def run_try(ray: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return what runs one try of a task on a node of its own, and returns the lines of its log.

    It is called with the number of the try, the program with its arguments, and, if the node is to die, until when it
    is to live.
    """
    connection = {"conn_type": "rayagent", "host": ray.dashboard_url, "extra": {"service": "ray"}}
    monkeypatch.setenv("AIRFLOW_CONN_RAYAGENT_DEFAULT", json.dumps(connection))

    def run_try(number: int, program: str, *arguments: str, until: Callable[[], bool] | None = None) -> list[str]:
        command = ["python", str(PROGRAMS / program), "--storage", str(tmp_path), *arguments]
        task_id = Path(program).stem
        resource = f"{task_id}-{number}"
        node = ray.add_node({resource: 1})
        operator = RayAgentSubmitJobOperator(
            task_id=task_id, entrypoint=shlex.join(command), entrypoint_resources={resource: 0.1}
        )
        with task_log() as log:
            if until is None:
                operator.execute(make_context(TaskInstance(number, task_id=task_id)))
            else:
                killer = threading.Thread(target=kill_later, args=(node, until))
                killer.start()
                with pytest.raises(RayAgentRunFailedError, match="Platform failure"):
                    operator.execute(make_context(TaskInstance(number, task_id=task_id)))
                killer.join()
        return [line for message in log.messages for line in message.split("\n")]

    return run_try


def kill_later(node: psutil.Process, until: Callable[[], bool]) -> None:
    wait_until(lambda: until() or None, "the node never has to die")
    kill_node(node)


def test_training_continues_after_the_last_checkpoint(run_try: Callable[..., list[str]], tmp_path: Path) -> None:
    first = run_try(1, "train_steps.py", until=lambda: last_step(tmp_path) >= 4)
    last = last_step(tmp_path)
    second = run_try(2, "train_steps.py", "--seconds", "0")
    figure(f"node killed in step {last + 1}: {steps_of(first)}, then {steps_of(second)}")
    assert steps_of(second) == list(range(last + 1, 11))
    (key,) = {match[1] for line in first for match in [re.match("(.*) after no other job", line)] if match}
    assert f"{key} after {key}" in second


def last_step(storage: Path) -> int:
    """Return the step of the last checkpoint that Ray Train has recorded, some time after it was written; 0: none."""
    for record in storage.glob("*/checkpoint_manager_snapshot.json"):
        last = json.loads(record.read_text(encoding="utf-8") or "{}").get("latest_checkpoint_result")
        return int(last["metrics"]["step"]) if last else 0
    return 0


def steps_of(lines: list[str]) -> list[int]:
    return [int(match[1]) for line in lines for match in [re.search(r"step (\d+) of 10", line)] if match]


def test_prediction_omits_the_rows_that_are_done(run_try: Callable[..., list[str]], tmp_path: Path) -> None:
    def done() -> int:
        # Before a block's rows, Ray writes a file that marks them as incomplete (its ``data/checkpoint``).
        return len([path for path in tmp_path.glob("*/done/*.parquet") if not path.name.endswith(".pending.parquet")])

    run_try(1, "predict_rows.py", "--rows", "200", "--seconds", "0.1", until=lambda: done() >= 5)
    blocks = done()
    (rows,) = tmp_path.glob("*/rows")
    before = ids_in(rows)
    run_try(2, "predict_rows.py", "--rows", "200", "--seconds", "0")
    after = ids_in(rows)
    figure(f"node killed after {blocks} of 20 blocks: {len(after) - len(before)} of 200 rows are processed again")
    assert set(after) == set(range(200))
    assert len(after) - len(before) == 200 - 10 * blocks


def ids_in(folder: Path) -> list[int]:
    """Return the ids of all rows in the Parquet files of a folder."""
    done = subprocess.run([sys.executable, "-c", IDS, str(folder)], check=True, stdout=subprocess.PIPE)
    ids: list[int] = json.loads(done.stdout)
    return ids
