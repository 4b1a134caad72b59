"""A job's live log, by the agent's client and by our hook at the same time.

The client yields the agent's messages, which are chunks of the log; the hook yields lines. Joined, both are the log.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.conftest import LINES, SLOW, submit

if TYPE_CHECKING:
    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
    from tests.contract.client import Client
    from tests.stack.agent import LocalAgent

Jobs = dict[str, dict[str, Any]]
Call = tuple[str, dict[str, Any]]

CALLS: list[Call] = [
    ("websocket_tail_job_logs", {}),
    ("stream_tail_job_logs", {}),
    ("tail_job_logs", {}),
    ("tail_job_logs", {"protocol": "websocket"}),
    ("tail_job_logs", {"protocol": "http"}),
    ("tail_job_logs", {"protocol": "auto", "timeout": 20}),
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
    assert lines == text.split("\n")
    assert lines[-len(LINES) :] == LINES


@pytest.mark.parametrize("protocol", ["websocket", "http", "auto"])
def test_the_log_of_a_job_while_it_runs(client: Client, hook: RayAgentHook, agent: LocalAgent, protocol: Any) -> None:
    # On a busy machine the job can be over before the client begins.
    for _ in range(10):
        job_id = submit(agent, SLOW)
        agent.wait(job_id, statuses=("RUNNING",))
        with ThreadPoolExecutor(1) as pool:
            ours = pool.submit(lambda: list(hook.tail_job_logs(job_id, protocol=protocol)))  # noqa: B023
            theirs = client.call("tail_job_logs", job_id, protocol=protocol)
            lines = ours.result()
        if len(theirs) > 1:
            break

    assert len(theirs) > 1, "it came live, in more than one message"
    assert "".join(theirs) == "".join(f"{line}\n" for line in lines) == hook.get_job_logs(job_id)
    assert lines[-6:] == [f"step {number}" for number in range(6)]
    assert hook.get_job(job_id)["status"] == "SUCCEEDED"
