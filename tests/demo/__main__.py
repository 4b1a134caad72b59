"""Follow a real Ray job in a real Airflow: ``python -m tests.demo [--keep]``.

Starts the local agent with a Ray of its own and an Airflow with the example DAGs, submits a job,
triggers the DAG that follows it, prints the task log as it grows, and checks what came of it.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tests.demo import job
from tests.stack.agent import local_agent
from tests.stack.airflow import FINAL_RUN_STATES, Airflow, airflow

if TYPE_CHECKING:
    from types import FrameType

EXAMPLE_DAGS = Path(__file__).parents[2] / "example_dags"
DAG_ID = "rayagent_follow_job"
TASK_ID = "follow_job"
EXPECTED = [job.line(step, step * step) for step in range(1, job.STEPS + 1)]
RUN_TIMEOUT = 120.0
STARTED = time.monotonic()


def say(text: str) -> None:
    """Print a line of the demo's own, with the seconds since its start."""
    print(f"[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


def main() -> int:
    """Run the demo; return 0 if all went as it should."""
    parser = argparse.ArgumentParser(prog="demo", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    return demo(EXAMPLE_DAGS, keep=options.keep)


def demo(dags: Path, *, keep: bool) -> int:
    """Run the demo with the DAGs of a folder; return 0 if all went as it should."""
    say("starting Ray and the local agent")
    with local_agent() as agent:
        say(f"the agent is up at {agent.url}; starting Airflow")
        connection = {"conn_type": "rayagent", "host": agent.url, "password": agent.token}
        with airflow(dags, connections={"rayagent_default": connection}) as server:
            say(f"Airflow is up at {server.url}")
            job_id = agent.submit(f"{shlex.quote(sys.executable)} {shlex.quote(job.__file__)}")
            say(f"submitted Ray job {job_id}")
            run_id = server.trigger(DAG_ID, {"job_id": job_id})
            say(f"triggered {DAG_ID}, run {run_id}; the log of its task {TASK_ID}:")
            events = follow(server, run_id)
            states = {
                "job": str(agent.job(job_id)["status"]),
                "task": str(server.task_instance(DAG_ID, run_id, TASK_ID)["state"]),
                "run": str(server.run(DAG_ID, run_id)["state"]),
            }
            say(", ".join(f"{name}: {state}" for name, state in states.items()))
            faults = found_faults(events, states)
            for fault in faults:
                say(f"WRONG: {fault}")
            if not faults:
                say(f"all {len(EXPECTED)} lines of the job are in the task log, once and in order")
            if keep:
                say(f"Airflow: {server.url}/dags/{DAG_ID}/runs/{run_id}/tasks/{TASK_ID}")
                say(f"agent:   {agent.url} with the header 'Authorization: {agent.token}'")
                say("Ctrl-C stops everything")
                signal.pause()
            say("stopping")
    return 1 if faults else 0


def follow(server: Airflow, run_id: str) -> list[str]:
    """Print the task log as it grows until the run is over; return its events."""
    shown = 0
    deadline = time.monotonic() + RUN_TIMEOUT
    while True:
        over = server.run(DAG_ID, run_id)["state"] in FINAL_RUN_STATES
        started = server.task_instance(DAG_ID, run_id, TASK_ID)["try_number"] > 0
        records = server.log(DAG_ID, run_id, TASK_ID) if started else []
        for record in records[shown:]:
            moment = (record.get("timestamp") or "")[11:19]
            print(f"    {moment:8} {record.get('level') or '':7} {record['event']}", flush=True)
        shown = max(shown, len(records))
        if over or time.monotonic() > deadline:
            return [record["event"] for record in records]
        time.sleep(1.0)


def found_faults(events: list[str], states: dict[str, str]) -> list[str]:
    """Return what is not as it should be."""
    faults = [
        f"the {name} is {states[name]}, not {wanted}"
        for name, wanted in (("job", "SUCCEEDED"), ("task", "success"), ("run", "success"))
        if states[name] != wanted
    ]
    came = [text for event in events for text in event.splitlines() if text in EXPECTED]
    if came != EXPECTED:
        missing = [text for text in EXPECTED if text not in came]
        doubled = sorted({text for text in came if came.count(text) > 1})
        faults.append(f"lines missing: {missing}; doubled: {doubled}; in this order: {came}")
    return faults


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """Unwind, which ends the servers; nothing may interrupt that."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    say("stopping")
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
