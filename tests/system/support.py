"""What the system tests say to the agent and to Airflow."""

from __future__ import annotations

import json
import re
import shlex
import sys
import uuid
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from airflow import sdk

from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.render.records import JOB_LOGGER
from tests.stack.airflow import FINAL_TASK_STATES
from tests.stack.job_logs import AFTER_RAY, PRINT_MESSAGE
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.stack.agent import LocalAgent
    from tests.stack.airflow import Airflow, Json
    from tests.stack.postgres import Postgres

IS_AIRFLOW_3_2 = version("apache-airflow-core").startswith("3.2.")
IS_AIRFLOW_3_4 = hasattr(sdk, "LoopDecision")
"""Whether it is this or a newer one."""
IN_WORKER, IN_TRIGGERER = "observer.py", "trigger_sink.py"
"""Where in the package the job's lines are written."""
DEFERS = "the triggerer follows job {job_id} from here on"
"""What a task says when it defers."""
# With retries set (see conftest.py), a task that is to be tried again does not go on by itself within a test.
ENDED_FOR_NOW = (*FINAL_TASK_STATES, "up_for_retry")
DATABASE = "airflow"
LATE_END = "https://github.com/apache/airflow/issues/72716"
"""An error of Airflow: its scheduler fails a resumed task if it learns only then that the task had deferred.

It takes the end of the first worker process for the end of the task. On a busy machine, any deferred task can fail so.
"""
COMPLETED = "trigger completed"
"""What Airflow writes to the task log after a trigger's on_kill (`airflow/jobs/triggerer_job_runner.py`)."""
LINES_A_SECOND = 20
STEADY = f"""
import json, pathlib
for number in range({3600 * LINES_A_SECOND}):
    print("line", number, flush=True)
    if number % {LINES_A_SECOND} == 0:
        {PRINT_MESSAGE}
    if pathlib.Path(RELEASE).exists():
        break
    time.sleep({1 / LINES_A_SECOND})
"""
WAITING = """
import pathlib
while not pathlib.Path(RELEASE).exists():
    time.sleep(0.1)
"""


def needs_airflow_3_3(reason: str) -> pytest.MarkDecorator:
    """Mark a test of what Airflow 3.2 cannot do."""
    return pytest.mark.skipif(IS_AIRFLOW_3_2, reason=f"Airflow 3.2 {reason}")


@dataclass(frozen=True)
class Task:
    """One task of one run."""

    airflow: Airflow
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    def wait(self) -> str:
        """Wait until the task's try is over; return the state."""
        return self.wait_for(*ENDED_FOR_NOW)

    def was_failed_by_mistake(self) -> bool:
        """Whether the scheduler has failed the resumed task, since it got to know late that its first part was over."""
        entries = self.airflow.audit_log(self.dag_id, self.run_id, self.task_id, "state mismatch", self.map_index)
        return any(
            re.search(r"finished with state success, .* is (scheduled|queued|running)\b", each) for each in entries
        )

    def wait_for(self, *states: str) -> str:
        """Wait until the task is in one of these states; return it."""
        return self.airflow.wait_for_task(self.dag_id, self.run_id, self.task_id, states, self.map_index)

    def wait_for_lines(self, count: int) -> None:
        """Wait until so many of the job's lines are in the task log."""

        self._wait_for_log(lambda: len(self.forwarded() + self.deferred()) >= count, f"has fewer than {count} lines")

    def wait_for_text(self, text: str, try_number: int = 1) -> None:
        """Wait until the task log has a text."""
        complaint = f"of try {try_number} does not say {text!r}"
        self._wait_for_log(lambda: text in self.text(try_number), complaint, try_number)

    def assert_ends(self, *states: str) -> None:
        """Wait until the task's try is over, and fail with its log unless the state is one of these.

        If Airflow has failed the task by mistake, the test ends as an expected failure instead.
        """
        state = self.wait()
        if state not in states:
            self.excuse_mistake()
        assert state in states, f"{self.dag_id}: {state}\n{self.text()}"

    def assert_has_ended(self, state: str, try_number: int) -> None:
        """Fail with the task's log unless this is its state, after so many tries; see :meth:`assert_ends`."""
        instance = self.instance()
        if state == "up_for_retry" and IS_AIRFLOW_3_4:
            # It counts the next try as soon as this one has failed.
            try_number += 1
        found = instance["state"], instance["try_number"]
        if found != (state, try_number):
            self.excuse_mistake()
        assert found == (state, try_number), self.text(instance["try_number"])

    def excuse_mistake(self) -> None:
        """End the test as an expected failure if Airflow has failed the task by mistake."""
        if self.was_failed_by_mistake():
            pytest.xfail(f"Airflow has failed {self.dag_id} after it had resumed ({LATE_END})")

    def instance(self) -> Json:
        """Return the task instance as the API gives it."""
        return self.airflow.task_instance(self.dag_id, self.run_id, self.task_id, self.map_index)

    def xcom(self, key: str = "return_value") -> Any:
        """Return what the task returned, or pushed."""
        return self.airflow.xcom(self.dag_id, self.run_id, self.task_id, key, self.map_index)

    def link(self, try_number: int | None = None) -> str | None:
        """Return the link to the job's page."""
        return self.links(try_number)["Ray job"]

    def links(self, try_number: int | None = None) -> dict[str, str | None]:
        """Return the extra links by name; ``None``: Airflow shows no button."""
        return self.airflow.extra_links(self.dag_id, self.run_id, self.task_id, self.map_index, try_number)

    def records(self, try_number: int = 1) -> list[Json]:
        """Return the records of the task log."""
        return self.airflow.log(self.dag_id, self.run_id, self.task_id, try_number, self.map_index)

    def text(self, try_number: int = 1) -> str:
        """Return all that the task log says, errors and reasons included, as one text."""
        return "\n".join(
            f"{record['event']} {json.dumps([record[key] for key in ('reason', 'error_detail') if record.get(key)])}"
            for record in self.records(try_number)
        )

    def forwarded(self, try_number: int = 1) -> list[str]:
        """Return the job's lines that were written in a worker."""
        return self._lines(IN_WORKER, try_number)

    def deferred(self, try_number: int = 1) -> list[str]:
        """Return the job's lines that were written in the triggerer."""
        return self._lines(IN_TRIGGERER, try_number)

    def _wait_for_log(self, shows: Callable[[], bool], complaint: str, try_number: int = 1) -> None:
        """Wait until the task log is as it should be; fail if the task is over before.

        The API server answers 404 for the log of a try that the scheduler has not begun.
        """

        def look() -> bool | None:
            is_over = self.instance()["state"] in FINAL_TASK_STATES
            shown = shows()
            assert shown or not is_over, f"the task is over and its log {complaint}:\n{self.text()}"
            return shown or None

        wait_until(lambda: self.instance()["try_number"] >= try_number or None, f"{self.dag_id}: no try {try_number}")
        wait_until(look, f"the log of {self.dag_id} {complaint}")

    def _lines(self, filename: str, try_number: int) -> list[str]:
        return [
            line
            for record in self.records(try_number)
            if record.get("logger") == JOB_LOGGER and record.get("filename") == filename
            for line in record["event"].split("\n")
        ]


@dataclass(frozen=True)
class System:
    """An Airflow, and the agent that its connection ``rayagent_default`` names.

    :param database: the server that has Airflow's database, :data:`DATABASE`.
    :param programs: a folder for the programs of the jobs.
    """

    airflow: Airflow
    agent: LocalAgent
    database: Postgres
    programs: Path

    def submit(self, program: str, **fields: Any) -> str:
        """Submit a Python program, which may use the module ``time``, as a Ray job; return its id."""
        script = self.programs / f"job{len(list(self.programs.iterdir()))}.py"
        script.write_text(AFTER_RAY + program, encoding="utf-8")
        return self.agent.submit(shlex.join([sys.executable, str(script)]), **fields)

    def submit_programs(self, programs: Mapping[str, str], folder: Path, prefix: str, **fields: Any) -> dict[str, str]:
        """Upload Python programs, and submit each as a Ray job whose entrypoint names no folder.

        :param programs: texts of the programs by name.
        :param folder: an empty folder for them.
        :param prefix: what the job ids begin with.
        :param fields: the other fields of the jobs.
        :returns: the job ids by name of the program.
        """
        for name, program in programs.items():
            (folder / f"{name}.py").write_text(program.lstrip(), encoding="utf-8")
        connection = {"conn_type": "rayagent", "host": self.agent.url, "password": self.agent.token}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AIRFLOW_CONN_OF_PROGRAMS", json.dumps(connection))
            with RayAgentHook("of_programs") as hook:
                runtime_env = {**fields.pop("runtime_env", {}), "working_dir": hook.upload_working_dir(folder)}
                return {
                    name: hook.submit_job(
                        f"python {name}.py", job_id=f"{prefix}-{name}", runtime_env=runtime_env, **fields
                    )
                    for name in programs
                }

    def submit_steady(self) -> str:
        """Submit a job that prints LINES_A_SECOND until it is released (an hour at most); return its id."""
        return self.submit_to_release(STEADY)

    def submit_waiting(self, program: str) -> str:
        """Submit a Python program that begins when it is released; return the job's id."""
        return self.submit_to_release(WAITING + program)

    def release(self, *job_ids: str) -> None:
        """Make the files that jobs look for: steady ones end well then, and waiting ones begin."""
        for job_id in job_ids:
            (self.programs / job_id).touch()

    def submit_to_release(self, program: str) -> str:
        """Submit a Python program with ``RELEASE``, the file that :meth:`release` makes; return the job's id."""
        job_id = f"job-{uuid.uuid4().hex[:8]}"
        return self.submit(f"RELEASE = {str(self.programs / job_id)!r}\n{program}", submission_id=job_id)

    def api(self, method: str, path: str, **body: Any) -> Any:
        """Call Airflow's REST API, ``body`` being JSON; return the answer."""
        return self.airflow.call(method, path, body or None)

    def connect(self, conn_id: str, *, extra: Json | None = None, **parts: Any) -> str:
        """Store a connection of type ``rayagent`` in Airflow's database; return its id."""
        connection = {"password": self.agent.token, "host": self.agent.url, **parts}
        if extra is not None:
            connection["extra"] = json.dumps(extra)
        self.api("POST", "connections", connection_id=conn_id, conn_type="rayagent", **connection)
        return conn_id

    def connect_ray(self, conn_id: str, host: str | None = None, **extra: Any) -> str:
        """Store a connection to the Ray behind the agent.

        :param host: URL that leads to it; default: its own.
        :param extra: further fields of the connection's extra.
        """
        path = self.agent.ray_token_file
        token = Path(path).read_text(encoding="utf-8").strip() if path else None
        extra["service"] = "ray"
        return self.connect(conn_id, host=host or self.agent.ray_address, password=token, extra=extra)

    def connect_cluster(self, conn_id: str) -> dict[str, str]:
        """Store a connection that admits the agent as its only cluster; return the parameters of a run that uses it."""
        cluster = urlsplit(self.agent.url).netloc
        job_url = f"{self.agent.ray_address}/#/jobs/{{job_id}}"
        self.connect(conn_id, host="http://{cluster}", extra={"clusters": cluster, "job_url": job_url})
        return {"conn_id": conn_id, "cluster": cluster}

    def start(self, dag_id: str, task_id: str, **conf: Any) -> Task:
        """Start a run of a DAG; return one of its tasks."""
        return Task(self.airflow, dag_id, self.airflow.trigger(dag_id, conf), task_id)

    def follow(self, job_id: str, dag_id: str = "rayagent_follow_job", **conf: Any) -> Task:
        """Start a run of a DAG that follows a job."""
        return self.start(dag_id, "follow_job", job_id=job_id, **conf)

    def stop(self, job_id: str) -> Task:
        """Start a run of the DAG that stops a job."""
        return self.start("rayagent_stop_job", "stop_job", job_id=job_id)

    def assert_second_try_succeeds(self, task: Task, job_id: str) -> None:
        """The second try is green, and its log has the lines of this job from the first one on."""
        task.assert_has_ended("success", 2)
        lines, written = (
            [line for line in lines if line.startswith("line ")]
            for lines in (task.forwarded(2) + task.deferred(2), self.log_of(job_id))
        )
        assert lines == written

    def log_of(self, job_id: str) -> list[str]:
        """Return the lines of a job's log as the agent has them."""
        response = self.agent.request("GET", f"jobs/{job_id}/logs/")
        response.raise_for_status()
        return response.content.decode().removesuffix("\n").split("\n")
