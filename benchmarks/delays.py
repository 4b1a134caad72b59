"""Delay from the end of a job on a real Ray to the end of its task.

A job prints some lines; the last one is the time at which it ends, which Ray notices up to 0.2 seconds later. Two tasks
of a real Airflow follow it with their defaults: our sensor, and one that writes what ``synapse_sdk`` yields. The end
times of the tasks are Airflow's. The jobs have different durations, so that they end at various times between two
status checks.
"""

from __future__ import annotations

import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING

from benchmarks.measure import Line, Target
from benchmarks.task_logs import airflow_with
from tests.stack.agent import LocalAgent, local_agent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.airflow import Airflow

DAG_ID = "delays"
OURS, THEIRS = "ours", "theirs"
POLL_INTERVAL = 5.0
LONGEST_SECONDS = 4.0
ENOUGH_JOBS = 16
"""With fewer jobs, the median is not meaningful, since their end times relative to status checks vary too little."""
JOBS_AT_ONCE = 4
JOB_SECONDS = 25.0
"""How long a job runs at least; the tasks must start meanwhile."""
PROGRAM = """
import random, time
ends = time.time() + {seconds}
while time.time() < ends:
    print("a line", flush=True)
    time.sleep(random.uniform(0.3, 1.0))
print(time.time(), flush=True)
"""
DAG = """
import logging
from airflow.sdk import DAG, task
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor

with DAG({dag_id!r}, schedule=None):
    RayAgentJobSensor(task_id={ours!r}, job_id="{{{{ dag_run.conf['job_id'] }}}}")

    @task(task_id={theirs!r})
    def follow(job_id):
        from synapse_sdk.clients.agent import AgentClient

        for text in AgentClient({url!r}, agent_token={token!r}).tail_job_logs(job_id):
            logging.getLogger("job").info("%s", text)

    follow("{{{{ dag_run.conf['job_id'] }}}}")
"""


def measure(*, short: bool) -> Iterator[Line]:
    """Follow each job with both tasks."""
    jobs = JOBS_AT_ONCE if short else ENOUGH_JOBS
    lengths = [JOB_SECONDS + POLL_INTERVAL * number / jobs for number in range(jobs)]
    with local_agent() as agent:
        dag = DAG.format(dag_id=DAG_ID, ours=OURS, theirs=THEIRS, url=agent.url, token=agent.token)
        settings = {"AIRFLOW__CORE__PARALLELISM": str(2 * JOBS_AT_ONCE)}
        with airflow_with(dag, agent.url, settings, token=agent.token) as instance:  # noqa: SIM117
            with ThreadPoolExecutor(JOBS_AT_ONCE) as pool:
                followed = list(pool.map(lambda length: delays(agent, instance, length), lengths))
    ours, theirs = zip(*followed, strict=True)
    is_enough = jobs >= ENOUGH_JOBS
    yield Line(
        "delays",
        "from the end of the job to the end of the task",
        "s",
        ours,
        theirs,
        "synapse_sdk",
        Target(maximum=0.5) if is_enough else None,
        f"{jobs} jobs, defaults",
    )
    yield Line(
        "delays",
        "the same, maximum",
        "s",
        [max(ours)],
        [max(theirs)],
        "synapse_sdk",
        Target(maximum=LONGEST_SECONDS, of="figure") if is_enough else None,
    )


def delays(agent: LocalAgent, instance: Airflow, seconds: float) -> tuple[float, float]:
    """Run a job for some seconds; return the seconds from its end to the end of our task, and of theirs."""
    job_id = agent.submit(shlex.join([sys.executable, "-c", PROGRAM.format(seconds=seconds)]))
    agent.wait(job_id, statuses=("RUNNING",))
    run_id = instance.trigger(DAG_ID, {"job_id": job_id})
    instance.wait_for_run(DAG_ID, run_id)
    ended = float(agent.request("GET", f"jobs/{job_id}/logs/").text.splitlines()[-1])

    def delay(task_id: str) -> float:
        end = instance.task_instance(DAG_ID, run_id, task_id)["end_date"]
        return datetime.fromisoformat(end.replace("Z", "+00:00")).timestamp() - ended

    return delay(OURS), delay(THEIRS)
