"""Follow a real Ray job in a real Airflow: ``python -m tests.demo [--keep]``.

Starts the local agent with a Ray of its own and an Airflow with the example DAGs, submits a job,
triggers the DAG that follows it, prints the task log as it grows, and checks what came of it.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from tests.demo import job
from tests.stack.agent import local_agent
from tests.stack.airflow import FINAL_RUN_STATES, Airflow, airflow
from tests.stack.ray import cluster
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from tests.stack.airflow import Json

EXAMPLE_DAGS = Path(__file__).parents[2] / "example_dags"
STARTED = time.monotonic()
ENDING = (signal.SIGINT, signal.SIGTERM)
"""Signals that end the demo."""


class Example(NamedTuple):
    """An example DAG that the demo runs.

    :param task_id: the task whose log is printed.
    :param expected: the job's lines.
    """

    dag_id: str
    task_id: str
    expected: list[str]


FOLLOWED = Example(
    "rayagent_follow_job", "follow_job", [job.line(step, step * step) for step in range(1, job.STEPS + 1)]
)
SUBMITTED = Example(
    "rayagent_submit_job",
    "train",
    ["rate 0.1: loss 0.262144 after 3 epochs", "rate 0.25: loss 0.015625 after 3 epochs"],
)


class Service(NamedTuple):
    """A running service.

    :param connection: JSON of the connection to it.
    :param submit: submits the job and returns its id; ``None``: the DAG submits it.
    :param status: returns the status of a job.
    :param access: how the user reaches it.
    """

    connection: Json
    submit: Callable[[], str] | None
    status: Callable[[str], str]
    access: str


def say(text: str) -> None:
    """Print a line of the demo's own, with the seconds since its start."""
    print(f"[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


def main() -> int:
    """Run the demo; return 0 if all went as it should."""
    parser = argparse.ArgumentParser(prog="demo", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--plain", action="store_true", help="submit the job to Ray's own dashboard, without an agent")
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C")
    options = parser.parse_args()
    for number in ENDING:
        signal.signal(number, _leave)
    return demo(SUBMITTED if options.plain else FOLLOWED, plain=options.plain, keep=options.keep)


@contextlib.contextmanager
def agent_service() -> Iterator[Service]:
    """Run the local agent with a Ray of its own until the block ends."""
    say("starting Ray and the local agent")
    with local_agent() as agent:
        say(f"the agent is up at {agent.url}")
        yield Service(
            {"conn_type": "rayagent", "host": agent.url, "password": agent.token},
            lambda: agent.submit(f"{shlex.quote(sys.executable)} {shlex.quote(job.__file__)}"),
            lambda job_id: str(agent.job(job_id)["status"]),
            f"agent:   {agent.url} with the header 'Authorization: {agent.token}'",
        )


@contextlib.contextmanager
def plain_service() -> Iterator[Service]:
    """Run Ray without an agent until the block ends."""
    say("starting Ray")
    token = secrets.token_hex(16)
    with cluster(token=token) as ray:
        say(f"Ray's dashboard is up at {ray.dashboard_url}")
        yield Service(
            {"conn_type": "rayagent", "host": ray.dashboard_url, "password": token, "extra": {"service": "ray"}},
            None,
            lambda job_id: str(ray.job(job_id)["status"]),
            f"Ray:     {ray.dashboard_url} with the token {token}",
        )


def demo(example: Example, *, plain: bool, keep: bool) -> int:
    """Run the demo; return 0 if all went as it should.

    :param plain: without an agent.
    """
    with (
        plain_service() if plain else agent_service() as service,
        airflow(EXAMPLE_DAGS, connections={"rayagent_default": service.connection}) as server,
    ):
        say(f"Airflow is up at {server.url}")
        conf = {}
        if service.submit is not None:
            conf["job_id"] = service.submit()
            say(f"submitted Ray job {conf['job_id']}")
        run_id = server.trigger(example.dag_id, conf)
        say(f"triggered {example.dag_id}, run {run_id}; the log of its task {example.task_id}:")
        events = follow(server, example, run_id)
        job_id = conf.get("job_id") or server.xcom(example.dag_id, run_id, example.task_id, "job_id")
        states = {
            "job": service.status(job_id) if job_id else "not submitted",
            "task": str(server.task_instance(example.dag_id, run_id, example.task_id)["state"]),
            "run": str(server.run(example.dag_id, run_id)["state"]),
        }
        say(", ".join(f"{name}: {state}" for name, state in states.items()))
        faults = found_faults(events, states, example.expected)
        for fault in faults:
            say(f"WRONG: {fault}")
        if not faults:
            say(f"all {len(example.expected)} lines of the job are in the task log, once and in order")
        if keep:
            say(f"Airflow: {server.url}/dags/{example.dag_id}/runs/{run_id}/tasks/{example.task_id}")
            say(service.access)
            _wait_for_signal()
        say("stopping")
    return 1 if faults else 0


def follow(server: Airflow, example: Example, run_id: str) -> list[str]:
    """Print the task log as it grows until the run is over; return its events."""
    shown = 0

    def look() -> list[str] | None:
        nonlocal shown
        over = server.run(example.dag_id, run_id)["state"] in FINAL_RUN_STATES
        started = server.task_instance(example.dag_id, run_id, example.task_id)["try_number"] > 0
        records = server.log(example.dag_id, run_id, example.task_id) if started else []
        for record in records[shown:]:
            moment = (record.get("timestamp") or "")[11:19]
            print(f"    {moment:8} {record.get('level') or '':7} {record['event']}", flush=True)
        shown = max(shown, len(records))
        return [record["event"] for record in records] if over else None

    return wait_until(look, f"run {run_id} of {example.dag_id} is not over")


def found_faults(events: list[str], states: dict[str, str], expected: list[str]) -> list[str]:
    """Return what is not as it should be."""
    faults = [
        f"the {name} is {states[name]}, not {wanted}"
        for name, wanted in (("job", "SUCCEEDED"), ("task", "success"), ("run", "success"))
        if states[name] != wanted
    ]
    came = [text for event in events for text in event.splitlines() if text in expected]
    if came != expected:
        missing = [text for text in expected if text not in came]
        doubled = sorted({text for text in came if came.count(text) > 1})
        faults.append(f"lines missing: {missing}; doubled: {doubled}; in this order: {came}")
    return faults


def _wait_for_signal() -> None:
    """Wait for a signal, after which no further one interrupts the end of the servers."""
    received: list[int] = []
    for each in ENDING:
        signal.signal(each, lambda number, _: received.append(number))
    say("Ctrl-C stops everything")
    while not received:
        time.sleep(0.2)
    _ignore_signals()


def _ignore_signals() -> None:
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """Unwind, which ends the servers; nothing may interrupt that."""
    _ignore_signals()
    say("stopping")
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
