"""Delays with a real Ray: from the end of a job to the end of its task, and from a ``print`` to the task log.

A job prints the current time a few times per second; its last line contains the time at which it ends, which Ray
notices up to 0.2 seconds later. Two tasks follow it with their defaults: our sensor, and one that writes what
``synapse_sdk`` yields, and then requests the final status, without which a task cannot tell how the job ended. Each
connects to the agent through a relay, which records when the agent sent a line; any further delay is the follower's.
The jobs have different durations, so that they end at various times between two status checks.

The short version runs both in this process. Otherwise they are tasks of a real Airflow, whose log files are read as
they grow, and the end times of the tasks are Airflow's.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from benchmarks.measure import Line, Target
from benchmarks.relay import Marks, Relay, watched_file
from tests.stack.agent import LocalAgent, local_agent
from tests.stack.airflow import Airflow, airflow
from tests.stack.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DAG_ID = "delays"
OURS, THEIRS = "ours", "theirs"
POLL_INTERVAL = 5.0
BASELINE = "synapse_sdk and final status"
LONGEST_SECONDS = 4.0
MORE_SECONDS = 0.5
"""What it may take to read the whole log after the end, and to compare it with what was forwarded."""
ENOUGH_JOBS = 16
"""With fewer jobs, the median is not meaningful, since their end times relative to status checks vary too little."""
WARM_UP_SECONDS = 2.0
"""Seconds after a follower's first line that are not counted, since the first lines arrive together."""
PROGRAM = """
import random, time
ends = time.time() + {seconds}
while time.time() < ends:
    print(f"@{{time.time():.6f}}@", flush=True)
    time.sleep(random.uniform(0.3, 1.0))
print(f"@{{time.time():.6f}}@", flush=True)
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

        client = AgentClient({url!r}, agent_token={token!r})
        for text in client.tail_job_logs(job_id):
            logging.getLogger("job").info("%s", text)
        assert client.get_job(job_id)["status"] == "SUCCEEDED"

    follow("{{{{ dag_run.conf['job_id'] }}}}")
"""


@dataclass
class Followed:
    """A job followed by one follower.

    :param arrived: when the agent sent each line, by the time at which the line was printed.
    :param logged: when each line was written to the task log, likewise.
    :param ended: when the task ended.
    """

    arrived: Marks = field(default_factory=Marks)
    logged: Marks = field(default_factory=Marks)
    ended: float = 0.0

    @property
    def after_end(self) -> float:
        """Seconds from the end of the job to the end of the task."""
        return self.ended - max(self.logged.arrived)

    def _live(self) -> list[float]:
        since = min(self.arrived.arrived.values()) + WARM_UP_SECONDS
        return [printed for printed in self.logged.arrived if printed > since]

    @property
    def delays(self) -> list[float]:
        """Seconds from ``print`` to the task log, for each line."""
        return [self.logged.arrived[printed] - printed for printed in self._live()]

    @property
    def added(self) -> list[float]:
        """Seconds from the agent's sending to the task log, for each line."""
        return [self.logged.arrived[printed] - self.arrived.arrived[printed] for printed in self._live()]


Pair = tuple[Followed, Followed]
"""A job as followed by ours and by theirs."""


def measure(*, short: bool) -> Iterator[Line]:
    """Follow each job with both followers."""
    with tempfile.TemporaryDirectory() as home, patch.dict(os.environ):
        os.environ.setdefault("AIRFLOW_HOME", home)
        yield from _measure(short=short)


def _measure(*, short: bool) -> Iterator[Line]:
    jobs, at_once, seconds = (4, 4, 6.0) if short else (ENOUGH_JOBS, 4, 25.0)
    lengths = [seconds + POLL_INTERVAL * number / jobs for number in range(jobs)]
    with local_agent() as agent, (_in_process if short else _in_airflow)(agent) as follow:  # noqa: SIM117
        with ThreadPoolExecutor(at_once) as pool:
            pairs = list(pool.map(lambda length: follow(_submit(agent, length)), lengths))
    yield from _lines(pairs, "in this process" if short else "in Airflow")


def _lines(pairs: Sequence[Pair], where: str) -> Iterator[Line]:
    ours, theirs = zip(*pairs, strict=True)
    ends = [each.after_end for each in ours]
    has_enough = len(pairs) >= ENOUGH_JOBS
    yield Line(
        "delays",
        "from the end of the job to the end of the task",
        "s",
        ends,
        [each.after_end for each in theirs],
        BASELINE,
        note=f"{where}; {len(pairs)} jobs, defaults",
    )
    yield Line(
        "delays",
        f"of that, longer than with {BASELINE}",
        "s",
        [mine.after_end - other.after_end for mine, other in pairs],
        target=Target(maximum=MORE_SECONDS, of="figure") if has_enough else None,
    )
    yield Line(
        "delays",
        "the same, maximum",
        "s",
        [max(ends)],
        [max(each.after_end for each in theirs)],
        BASELINE,
        Target(maximum=LONGEST_SECONDS, of="figure") if has_enough else None,
    )
    for name, at in (("p50", 50), ("p99", 99)):
        yield Line(
            "delays",
            f"from print to the task log, {name}",
            "s",
            [_percentile([delay for each in ours for delay in each.delays], at)],
            [_percentile([delay for each in theirs for delay in each.delays], at)],
            "synapse_sdk",
            note=f"{sum(len(each.delays) for each in ours)} lines; including the agent's own delay",
        )
        yield Line(
            "delays",
            f"of that, after the agent sent the line, {name}",
            "ms",
            [_percentile([delay for each in ours for delay in each.added], at) * 1e3],
            [_percentile([delay for each in theirs for delay in each.added], at) * 1e3],
            "synapse_sdk",
            Target(maximum=100.0, of="figure"),
        )


def _percentile(values: Sequence[float], at: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[at - 1]


def _submit(agent: LocalAgent, seconds: float) -> str:
    """Start a job that runs for some seconds; return its id once it is running."""
    job_id = agent.submit(shlex.join([sys.executable, "-c", PROGRAM.format(seconds=seconds)]))
    agent.wait(job_id, statuses=("RUNNING",))
    return job_id


# In this process


@contextmanager
def _in_process(agent: LocalAgent) -> Iterator[Callable[[str], Pair]]:
    import structlog
    from airflow.sdk.bases.operator import ExecutorSafeguard
    from synapse_sdk.clients.agent import AgentClient

    from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor
    from tests.unit.support import make_context

    logged: dict[int, Marks] = {}

    def write(_logger: Any, _method: str, record: Any) -> Any:
        logged[threading.get_ident()].record(str(record["event"]).encode(), time.time())
        raise structlog.DropEvent

    def ours(job_id: str, followed: Followed) -> None:
        relay = Relay(agent.url, followed.arrived)
        logged[threading.get_ident()] = followed.logged
        conn_id = f"relay_{job_id}"
        connection = {"conn_type": "rayagent", "host": relay.url, "password": agent.token}
        os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(connection)
        RayAgentJobSensor(task_id=OURS, job_id=job_id, rayagent_conn_id=conn_id).execute(make_context())
        followed.ended = time.time()
        relay.close()

    def theirs(job_id: str, followed: Followed) -> None:
        relay = Relay(agent.url, followed.arrived)
        client = AgentClient(relay.url, agent_token=agent.token)
        for text in client.tail_job_logs(job_id):
            followed.logged.record(text.encode(), time.time())
        assert client.get_job(job_id)["status"] == "SUCCEEDED"
        followed.ended = time.time()
        relay.close()

    def follow(job_id: str) -> Pair:
        pair = Followed(), Followed()
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(task, job_id, each) for task, each in zip((ours, theirs), pair, strict=True)]
        for each in running:
            each.result()
        return pair

    before = structlog.get_config()
    structlog.configure(processors=[write])
    try:
        with patch.object(ExecutorSafeguard, "test_mode", True):
            yield follow
    finally:
        structlog.configure(**before)


# In Airflow


@contextmanager
def _in_airflow(agent: LocalAgent) -> Iterator[Callable[[str], Pair]]:
    arrived = {OURS: Marks(), THEIRS: Marks()}
    relays = {name: Relay(agent.url, marks) for name, marks in arrived.items()}
    connection = {"conn_type": "rayagent", "host": relays[OURS].url, "password": agent.token}
    with tempfile.TemporaryDirectory() as dags:
        text = DAG.format(dag_id=DAG_ID, ours=OURS, theirs=THEIRS, url=relays[THEIRS].url, token=agent.token)
        Path(dags, "delays.py").write_text(text, encoding="utf-8")
        settings = {"AIRFLOW__CORE__PARALLELISM": "8"}
        with (
            postgres() as server,
            airflow(
                Path(dags),
                database=server.create_database("airflow"),
                connections={"rayagent_default": connection},
                settings=settings,
            ) as instance,
        ):
            yield lambda job_id: _follow(instance, arrived, job_id)


def _follow(instance: Airflow, arrived: dict[str, Marks], job_id: str) -> Pair:
    run_id = instance.trigger(DAG_ID, {"job_id": job_id})
    folder = instance.home / "logs" / f"dag_id={DAG_ID}" / f"run_id={run_id}"
    with ExitStack() as stack:
        logged = {
            name: stack.enter_context(watched_file(folder / f"task_id={name}" / "attempt=1.log")) for name in arrived
        }
        instance.wait_for_run(DAG_ID, run_id)
    followed = []
    for name, marks in logged.items():
        ended = datetime.fromisoformat(instance.task_instance(DAG_ID, run_id, name)["end_date"].replace("Z", "+00:00"))
        from_agent = Marks()
        from_agent.arrived = {printed: arrived[name].arrived[printed] for printed in marks.arrived}
        followed.append(Followed(from_agent, marks, ended.timestamp()))
    return followed[0], followed[1]
