"""A job's live log, by the agent's client and by our hook at the same time.

The client yields the agent's messages, which are chunks of the log; the hook yields lines. Joined, both are the log.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.conftest import LINES, submit
from tests.stack.job_logs import lines_of_program

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
    from tests.contract.client import Client
    from tests.stack.agent import LocalAgent

Jobs = dict[str, dict[str, Any]]
Call = tuple[str, dict[str, Any]]

# It goes on once both have received something.
LIVE = """
import os, time
print("step 0", flush=True)
while not all(map(os.path.exists, {})): time.sleep(0.1)
for number in range(1, 6): print("step", number, flush=True)
"""
CALLS: list[Call] = [
    ("websocket_tail_job_logs", {}),
    ("stream_tail_job_logs", {}),
    ("tail_job_logs", {}),
    ("tail_job_logs", {"protocol": "websocket"}),
    ("tail_job_logs", {"protocol": "http"}),
    ("tail_job_logs", {"protocol": "auto", "timeout": 300}),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: "-".join([call[0], *map(str, call[1].values())]))
def test_the_log_of_a_job_that_has_ended(client: Client, hook: RayAgentHook, jobs: Jobs, call: Call) -> None:
    method, arguments = call
    job_id = jobs["prints"]["submission_id"]
    text = hook.get_job_logs(job_id)

    ours = getattr(hook, method)(job_id, **arguments)
    with ThreadPoolExecutor(1) as pool:
        our_lines = pool.submit(lambda: list(ours))
        theirs, kind = client.call_for(method, job_id, **arguments)
        lines = our_lines.result()

    assert kind == type(ours).__name__ == "generator"
    assert "".join(theirs) == text
    # Ray's own line on the entrypoint, which ends with a newline, can be the last one on a busy machine.
    assert lines == text.removesuffix("\n").split("\n")
    assert lines_of_program(lines, jobs["prints"]) == LINES


@pytest.mark.parametrize("protocol", ["websocket", "http", "auto"])
def test_the_log_of_a_job_while_it_runs(
    client: Client, hook: RayAgentHook, agent: LocalAgent, protocol: Any, tmp_path: Path
) -> None:
    their_first, our_first = tmp_path / "theirs", tmp_path / "ours"
    job_id = submit(agent, LIVE.format([str(their_first), str(our_first)]))

    def follow() -> list[str]:
        found = []
        try:
            for line in hook.tail_job_logs(job_id, protocol=protocol):
                found.append(line)
                our_first.touch()
        finally:
            our_first.touch()
        return found

    agent.wait(job_id, statuses=("RUNNING",))
    with ThreadPoolExecutor(1) as pool:
        ours = pool.submit(follow)
        try:
            theirs = client.call("tail_job_logs", job_id, protocol=protocol, first=their_first)
        finally:
            their_first.touch()
        lines = ours.result()

    job = hook.get_job(job_id)
    assert len(theirs) > 1, "it came live, in more than one message"
    assert "".join(theirs) == "".join(f"{line}\n" for line in lines) == hook.get_job_logs(job_id)
    assert lines_of_program(lines, job) == [f"step {number}" for number in range(6)]
    assert job["status"] == "SUCCEEDED"
