"""An API server of several processes, each of which reads a log by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scripted import Job, ScriptedAgent
from tests.stack.api_server import ApiServer, api_server
from tests.ui.conftest import log_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG = "api/connections/ray/jobs/running/log"
LINES = 2_000
MORE = 30
"""Lines that are printed one by one, each after the one before was received."""


@pytest.fixture(scope="module")
def job() -> Job:
    return Job("".join(f"line {number}\n" for number in range(LINES)), status="RUNNING", job_id="running")


@pytest.fixture(scope="module")
def agent(job: Job) -> Iterator[ScriptedAgent]:
    with ScriptedAgent(job) as running:
        yield running


@pytest.fixture(scope="module")
def server(agent: ScriptedAgent) -> Iterator[ApiServer]:
    connections = {"ray": {"conn_type": "rayagent", "host": agent.url}}
    with api_server(connections=connections, settings={"AIRFLOW__API__WORKERS": "2"}) as running:
        yield running


def test_a_browser_that_reaches_another_process_gets_each_line_once(
    server: ApiServer, agent: ScriptedAgent, job: Job
) -> None:
    parts = log_parts(server, LOG, None)
    restarts, lines = 0, []
    number = LINES
    # At the end, both processes read the log.
    while number < LINES + MORE or agent.max_open_streams["running"] < 2:
        while f"line {number - 1}" not in lines:
            part = next(parts)
            restarts += part["restart"]
            lines += [text for _, text, from_job in part["rows"] if from_job]
        job.grow(f"line {number}\n")
        number += 1
    assert lines == [f"line {each}" for each in range(len(lines))]
    assert restarts == 1
