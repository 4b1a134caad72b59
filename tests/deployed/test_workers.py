"""A worker is shut down or killed, its log files are gone with its disk, and its tasks go on or are tried again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.text.bounds import MAX_TIMEOUT
from tests.deployed.support import LINES_A_SECOND
from tests.stack.holding import holding_proxy
from tests.system.kill_table import AGENT, PLAIN_RAY, Row, record

if TYPE_CHECKING:
    from tests.deployed.support import Deployed, DeployedTask

QUEUE = "replaced"
EPOCHS = 12
"""Of a second each: the plugin's job outlives its task's first try."""
TERM, KILL = "worker: TERM", "worker: KILL, then its successor"
SENSOR, PLUGIN, SUBMIT = "worker, sensor", "worker, run plugin", "worker, submit"
STARTING = (PLUGIN, SUBMIT)
SOME_LINES = 3 * LINES_A_SECOND


class Replaced:
    """A worker that is killed, and its successor, which is shut down while it runs the second tries."""

    def __init__(self, deployed: Deployed) -> None:
        self.deployed = deployed
        self.job_id = deployed.submit_stream()
        first = deployed.deployment.start_worker(QUEUE)
        agent = deployed.agent
        with (
            holding_proxy(agent.url, "/run/") as proxy,
            holding_proxy(agent.ray_address, "/api/jobs/") as ray_proxy,
        ):
            held = deployed.connect("rayagent_held", host=proxy.url, extra={"read_timeout": MAX_TIMEOUT})
            held_ray = deployed.connect_ray("plain_ray_held", host=ray_proxy.url, read_timeout=MAX_TIMEOUT)
            self.starting = {
                PLUGIN: deployed.start("deployed_run_plugin", "run_plugin", epochs=EPOCHS, conn_id=held),
                SUBMIT: deployed.start("deployed_submit", "submit", epochs=EPOCHS, conn_id=held_ray),
            }
            self.killed = deployed.follow(self.job_id, "deployed_worker_replaced")
            for each in (proxy, ray_proxy):
                each.wait_for_answer()
            self.killed.wait_for_lines_on(first, SOME_LINES)
            first.kill()
            for task in (*self.starting.values(), self.killed):
                task.forget_heartbeat()
            for each in (proxy, ray_proxy):
                each.holds = False
            second = deployed.deployment.start_worker(QUEUE)
            for task in self.starting.values():
                # Not until the task is up for retry, which is where `wait` ends.
                task.wait_for("success", "failed")
        self.shut_down = deployed.follow(self.job_id, "deployed_worker_replaced")
        self.killed.wait_for_lines_on(second, SOME_LINES, try_number=2)
        self.shut_down.wait_for_lines_on(second, SOME_LINES)
        with ThreadPoolExecutor() as pool:
            end = pool.submit(second.terminate)
            second.wait_for_output("Warm shutdown")
            deployed.release(self.job_id)
            end.result()
        for task in (*self.starting.values(), self.killed, self.shut_down):
            task.wait()
        self.rows = {
            **{which: record(self._row(KILL, which, task, 2)) for which, task in self.starting.items()},
            SENSOR: record(self._row(KILL, SENSOR, self.killed, 2)),
            TERM: record(self._row(TERM, SENSOR, self.shut_down, 1)),
        }

    def job_of(self, task: DeployedTask) -> str:
        """Return the id of the one job that Ray has had of a task that started it."""
        if task not in self.starting.values():
            return self.job_id
        beginning = f"{task.dag_id}-{task.task_id}-"
        jobs = self.deployed.agent.request("GET", "jobs/").json()
        (found,) = [job["submission_id"] for job in jobs if str(job["submission_id"]).startswith(beginning)]
        return str(found)

    def _row(self, what: str, which: str, task: DeployedTask, try_number: int) -> Row:
        job_id = self.job_of(task)
        written, read = self.deployed.log_of(job_id), task.lines(try_number)
        if which in STARTING:
            written, read = ([line for line in lines if ": loss " in line] for lines in (written, read))
        service = PLAIN_RAY if which == SUBMIT else AGENT
        return Row(what, which, self.deployed.agent.job(job_id)["status"], written, read, service)


@pytest.fixture(scope="module")
def replaced(deployed: Deployed) -> Replaced:
    return Replaced(deployed)


def test_after_a_worker_was_killed_the_next_try_succeeds_with_the_same_job(replaced: Replaced) -> None:
    instance = replaced.killed.instance()
    assert (instance["state"], instance["try_number"]) == ("success", 2), replaced.killed.text(try_number=2)
    assert replaced.rows[SENSOR].job == "SUCCEEDED"


def test_its_log_has_every_line_from_the_first_one(replaced: Replaced) -> None:
    row = replaced.rows[SENSOR]
    assert row.missing == []
    assert list(row.read) == list(row.written)


def test_a_worker_that_is_shut_down_lets_its_task_end_and_uploads_its_log(replaced: Replaced) -> None:
    task, row = replaced.shut_down, replaced.rows[TERM]
    assert (task.instance()["state"], task.instance()["try_number"]) == ("success", 1), task.text()
    assert row.missing == []
    assert list(row.read) == list(row.written)


@pytest.mark.parametrize("which", STARTING)
def test_a_job_whose_worker_was_killed_before_the_answer_runs_once(replaced: Replaced, which: str) -> None:
    task = replaced.starting[which]
    assert (task.instance()["state"], task.instance()["try_number"]) == ("success", 2), task.text(try_number=2)
    job_id = replaced.job_of(task)
    # Airflow may take the killed try for dead only when the job is over.
    found = (f"Job {job_id} of this task already exists", f"Job {job_id} of this task has already succeeded")
    assert any(sentence in task.text(try_number=2) for sentence in found)
    assert task.xcom("job_id") == job_id
    assert task.xcom()["result"] == {"epochs": EPOCHS, "loss": 0.5**EPOCHS}
    row = replaced.rows[which]
    assert len(row.written) == EPOCHS
    assert list(row.read) == list(row.written)
