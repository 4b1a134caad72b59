"""An API server of several processes, each of which follows a log by itself."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.scripted import Job, ScriptedAgent
from tests.stack.api_server import ApiServer, api_server

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG = "rayagent/api/connections/ray/jobs/running/log"
LINES = 2_000
MORE = 12
"""Lines that are printed one by one, each after the viewer has connected again."""


@pytest.fixture(scope="module")
def job() -> Job:
    return Job("".join(f"line {number}\n" for number in range(LINES)), status="RUNNING", job_id="running")


@pytest.fixture(scope="module")
def server(job: Job) -> Iterator[ApiServer]:
    with (
        ScriptedAgent(job) as agent,
        api_server(
            connections={"ray": {"conn_type": "rayagent", "host": agent.url}}, settings={"AIRFLOW__API__WORKERS": "2"}
        ) as running,
    ):
        yield running


def received(server: ApiServer, last: str, line: str) -> tuple[list[str], str]:
    """Return the names of events, and the lines, up to one line; and the id of the last event."""
    found, kind = [], ""
    with closing(server.request("GET", LOG, headers={"Last-Event-ID": last}, stream=True)) as answer:
        answer.raise_for_status()
        for text in answer.iter_lines(chunk_size=None, decode_unicode=True):
            name, _, value = text.partition(": ")
            if name == "id":
                last = value
            elif name == "event":
                kind = value
            elif name == "data" and kind == "records":
                found += [row[1] for row in json.loads(value) if row[2]]
            elif name == "data":
                found.append(kind)
            if line in found:
                break
    return found, last


def test_a_viewer_who_reaches_another_process_gets_each_line_once(server: ApiServer, job: Job) -> None:
    found, last = received(server, "", f"line {LINES - 1}")
    assert found == ["restart", *(f"line {number}" for number in range(LINES))]
    processes = {last.partition("-")[0]}
    number = LINES
    while number < LINES + MORE or len(processes) < 2:
        job.grow(f"line {number}\n")
        found, last = received(server, last, f"line {number}")
        assert found == [f"line {number}"]
        processes.add(last.partition("-")[0])
        number += 1
