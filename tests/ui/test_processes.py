"""An API server of several processes, each of which follows a log by itself."""

from __future__ import annotations

import json
import signal
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.ui.streams import STREAM_SECONDS
from tests.scripted import Job, ScriptedAgent
from tests.stack.api_server import ApiServer, api_server
from tests.stack.watch import wait_until

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


def test_viewers_do_not_delay_the_end_of_the_server(server: ApiServer) -> None:
    with ExitStack() as stack:
        opened = time.monotonic()
        for _ in range(4):
            answer = stack.enter_context(closing(server.request("GET", LOG, stream=True)))
            answer.raise_for_status()
        server.server.expect_end()
        server.server.send_all(signal.SIGTERM)
        wait_until(lambda: not server.server.is_up() or None, "the API server does not end")
        assert time.monotonic() - opened < STREAM_SECONDS
