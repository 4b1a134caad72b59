"""What these tests say to the deployment, and how they compare a finished log with what its job wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, text

from airflow_provider_rayagent.position.trigger_position import POSITION_KEY
from airflow_provider_rayagent.render.records import JOB_LOGGER
from tests.stack.job_logs import PRINT_MESSAGE
from tests.stack.watch import wait_until
from tests.system.support import System, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.stack.deployment import Deployment, Machine

LINES_A_SECOND = 20
MARKERS = ("__RAYAGENT_RESULT_START__", "__RAYAGENT_RESULT_END__")
STEADY = f"""
import json, pathlib
burst = "a line of a long log " * 5
for number in range(BURST):
    print(number, burst)
for number in range(30000):
    print("line", number, flush=True)
    if number % {LINES_A_SECOND} == 0:
        {PRINT_MESSAGE}
    if BARS and number % 40 == 39:
        for percent in range(0, 101, 20):
            print(f"epoch {{number // 40}}: {{percent:3}}%|#####| {{percent}}/100 [00:01<00:00, 1.00it/s]", flush=True)
    if pathlib.Path(RELEASE).exists():
        break
    time.sleep({1 / LINES_A_SECOND})
print("{MARKERS[0]}")
print(json.dumps({{"lines": number + 1}}))
print("{MARKERS[1]}", flush=True)
"""
"""Prints BURST lines at once, then a steady stream until it is released, with progress bars or without (BARS); and at
the end its result."""


@dataclass(frozen=True)
class DeployedTask(Task):
    """One task of one run of the deployment."""

    deployment: Deployment = field(kw_only=True)

    def path(self, try_number: int = 1) -> str:
        """Return where a try's log lies, below a log folder and in the object store."""
        return f"dag_id={self.dag_id}/run_id={self.run_id}/task_id={self.task_id}/attempt={try_number}.log"

    def lines(self, try_number: int = 1) -> list[str]:
        """Return the job's lines in the task log that the API gives, wherever they were written."""
        return [line for record in self.records(try_number) for line in _lines_of(record)]

    def lines_on(self, machine: Machine, try_number: int = 1) -> list[str]:
        """Return the job's lines that lie on one machine's disk and are not uploaded yet."""
        return [line for record in _records_on(machine, self.path(try_number)) for line in _lines_of(record)]

    def forget_heartbeat(self) -> None:
        """Make Airflow consider the task dead, whose worker was killed; its timeout is long, see ``PATIENT``."""
        engine = create_engine(self.airflow.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE task_instance SET last_heartbeat_at = to_timestamp(0) WHERE id = :id"),
                {"id": self.instance()["id"]},
            )
        engine.dispose()

    def wait(self) -> str:
        """Wait until the task's try is over and its log is where it stays; return the state."""
        state = super().wait()
        self.wait_for_uploads()
        return state

    def wait_for_lines(self, count: int) -> None:
        """Wait until so many of the job's lines are on the disks."""
        machines = self.deployment.machines
        self._until(lambda: sum(len(self.lines_on(each)) for each in machines) >= count, f"fewer than {count} lines")

    def wait_for_lines_on(self, machine: Machine, count: int, try_number: int = 1) -> None:
        """Wait until so many of the job's lines are on one machine's disk."""
        complaint = f"fewer than {count} lines on {machine.name}"
        self._until(lambda: len(self.lines_on(machine, try_number)) >= count, complaint)

    def position(self) -> int:
        """Return how many lines the triggers have saved as forwarded."""
        cursor = (self.xcom(POSITION_KEY) or {}).get("position") or {"lines": 0}
        return int(cursor["lines"]) + int(cursor.get("again", 0))

    def wait_for_position(self, count: int) -> None:
        """Wait until the triggers have saved so many lines as forwarded."""
        self._until(lambda: self.position() >= count, f"no position after line {count}")

    def wait_for_uploads(self) -> None:
        """Wait until what the tries have on any disk is in the object store.

        Airflow empties a log file when it has uploaded it, which comes a moment after the task's state.
        """
        tries = range(1, self.instance()["try_number"] + 1)
        self._until(lambda: not any(self._sizes(tries)), "log files that are not uploaded")

    def _until(self, done: Callable[[], bool], complaint: str) -> None:
        wait_until(lambda: done() or None, f"{self.dag_id}: {complaint}")

    def _sizes(self, tries: Iterable[int]) -> Iterator[int]:
        for machine in self.deployment.machines:
            for try_number in tries:
                yield from (file.stat().st_size for file in machine.log_files(self.path(try_number)))


@dataclass(frozen=True)
class Deployed(System):
    """A deployment, and the agent that its connection ``rayagent_default`` names."""

    deployment: Deployment = field(kw_only=True)

    def start(self, dag_id: str, task_id: str, **conf: Any) -> DeployedTask:
        """Start a run of a DAG; return one of its tasks."""
        run_id = self.airflow.trigger(dag_id, conf)
        return DeployedTask(self.airflow, dag_id, run_id, task_id, deployment=self.deployment)

    def follow(self, job_id: str, dag_id: str = "deployed_deferred", **conf: Any) -> DeployedTask:
        """Start a run of a DAG that follows a job."""
        return self.start(dag_id, "follow_job", job_id=job_id, **conf)

    def submit_stream(self, *, burst: int = 0, bars: bool = False) -> str:
        """Submit a job that prints until it is released (25 minutes at most), see :data:`STEADY`; return its id."""
        return self.submit_to_release(f"BURST, BARS = {burst}, {bars}\n{STEADY}")


def without_bars(lines: list[str]) -> list[str]:
    """Return the lines without those states of a progress bar that may be left out: all but the complete one."""
    return [line for line in lines if "%|" not in line or "100%|" in line]


def _lines_of(record: dict[str, Any]) -> list[str]:
    return str(record["event"]).split("\n") if record.get("logger") == JOB_LOGGER else []


def _records_on(machine: Machine, path: str) -> Iterator[dict[str, Any]]:
    for file in machine.log_files(path):
        for line in file.read_bytes().splitlines():
            # The last line may be half written.
            if line.endswith(b"}"):
                yield json.loads(line.lstrip(b"\0"))
