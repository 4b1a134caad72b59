"""A real Airflow for tasks that log, and the contents of their log files."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_rayagent.render.records import JOB_LOGGER
from benchmarks.processes import ROOT
from tests.stack.airflow import airflow
from tests.stack.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.stack.airflow import Airflow


@dataclass(frozen=True)
class Entry:
    """A record in a log file.

    :param moment: when it was written, in seconds since the epoch.
    """

    moment: float
    logger: str
    text: str


@dataclass(frozen=True)
class Logged:
    """The lines in the log file of one task.

    :param began: when the first line was written, in seconds since the epoch.
    :param ended: when the last line was written, in seconds since the epoch.
    """

    lines: int
    records: int
    began: float
    ended: float

    @property
    def rate(self) -> float:
        """Lines per second."""
        return self.lines / (self.ended - self.began)


@contextmanager
def airflow_with(dags: str, agent_url: str, settings: Mapping[str, str] | None = None) -> Iterator[Airflow]:
    """Run an Airflow with a DAG file, given as text, and a connection to an agent."""
    python_path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "benchmark.py").write_text(dags, encoding="utf-8")
        with (
            postgres() as server,
            airflow(
                Path(folder),
                database=server.create_database("airflow"),
                connections={"rayagent_default": {"conn_type": "rayagent", "host": agent_url, "password": "t"}},
                settings={"PYTHONPATH": python_path, **(settings or {})},
            ) as instance,
        ):
            yield instance


def log_files(instance: Airflow, dag_id: str, run_id: str, task_id: str) -> Iterator[Path]:
    """Yield the log files of a task's first try, from the worker and the triggerer; ``*`` stands for all runs."""
    folder = instance.home / "logs"
    yield from folder.glob(f"dag_id={dag_id}/run_id={run_id}/task_id={task_id}/attempt=1.log*")


class NewLines:
    """Reads from growing log files what is new in them."""

    def __init__(self) -> None:
        self.bytes = 0
        """Number of bytes read so far."""
        self._read: dict[Path, int] = {}

    def of(self, path: Path) -> Iterator[str]:
        """Return the jobs' lines that a file has received since the last call."""
        done = self._read.get(path, 0)
        if path.stat().st_size <= done:
            return iter(())
        with path.open("rb") as file:
            file.seek(done)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read[path] = done + len(whole)
        self.bytes += len(whole)
        return job_lines(whole)


def job_lines(log: bytes) -> Iterator[str]:
    """Yield the lines of jobs in a task log."""
    for record in map(json.loads, log.splitlines()):
        if record.get("logger") == JOB_LOGGER:
            yield from record["event"].split("\n")


def run_and_read(instance: Airflow, dag_id: str, job_id: str, logger: str, lines: int | None = None) -> Logged:
    """Run a DAG with one task of the same name; return the lines of ``logger`` in its log file.

    :param lines: their number; ``None`` if some may be missing, since a busy Airflow can lose what a trigger logs last.
    :raises AssertionError: if the number of lines is wrong, or the task did not succeed.
    """
    run_id = instance.trigger(dag_id, {"job_id": job_id})
    state = instance.wait_for_run(dag_id, run_id)
    found = [each for each in entries(instance, dag_id, run_id, dag_id) if each.logger == logger]
    logged = Logged(
        sum(each.text.count("\n") + 1 for each in found),
        len(found),
        min(each.moment for each in found),
        max(each.moment for each in found),
    )
    assert state == "success", (state, logged)
    assert lines in (None, logged.lines), logged
    return logged


def entries(instance: Airflow, dag_id: str, run_id: str, task_id: str) -> Iterator[Entry]:
    """Yield the records in the log files of a task."""
    for path in log_files(instance, dag_id, run_id, task_id):
        with path.open(encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                moment = datetime.fromisoformat(record["timestamp"].replace("Z", "+00:00")).timestamp()
                yield Entry(moment, record.get("logger", ""), record["event"])
