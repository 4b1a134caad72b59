"""Many followers of a job on a real Ray, and the connections of its job head."""

from __future__ import annotations

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]
import pytest

from tests.local.test_logs import Event, open_socket, socket_events, sse_events, text_of
from tests.stack.job_logs import without_lines_of_ray
from tests.stack.watch import PATIENCE, wait_until

if TYPE_CHECKING:
    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray

FOLLOWERS = 150


def tails_of(agent: LocalAgent, job_id: str) -> int:
    """Return the number of connections from Ray's job head to the agent of the job's node; one of them is for calls."""
    port = urlsplit(agent.job(job_id)["driver_agent_http_address"]).port
    for process in psutil.Process(agent.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "JobHead" in " ".join(process.cmdline()):
                return sum(bool(each.raddr) and each.raddr.port == port for each in process.net_connections())
    raise AssertionError("Ray has no job head")


def follow(agent: LocalAgent, job_id: str, number: int) -> tuple[str, Event]:
    """Follow a job to its end, over a WebSocket or server-sent events; return its log and the last event."""
    events = socket_events(agent, job_id)[0] if number % 2 else list(sse_events(agent, job_id))
    return text_of(events), events[-1]


def test_many_followers_receive_every_line_and_hold_no_tail(agent: LocalAgent) -> None:
    bystander = agent.wait(agent.submit("true"))["submission_id"]
    job_id = agent.submit("for i in $(seq 100); do echo line $i; done; sleep 3600")
    agent.wait(job_id, statuses=["RUNNING"])
    with ThreadPoolExecutor(FOLLOWERS) as pool:
        followed = [pool.submit(follow, agent, job_id, number) for number in range(FOLLOWERS)]
        for _ in range(20):
            assert agent.job(bystander)["status"] == "SUCCEEDED"
            assert tails_of(agent, job_id) <= 2
            time.sleep(0.2)
        agent.request("POST", f"jobs/{job_id}/stop/")
        results = [each.result(timeout=PATIENCE) for each in followed]

    whole = agent.request("GET", f"jobs/{job_id}/logs/").text
    assert without_lines_of_ray(whole, agent.job(job_id)) == "".join(f"line {number}\n" for number in range(1, 101))
    assert {text for text, _ in results} == {whole}
    assert [last for _, last in results] == [{"type": "complete"}] * FOLLOWERS


def test_reconnecting_clients_hold_no_tail_and_cause_no_error(agent: LocalAgent) -> None:
    before = agent.output.read_text().count("Traceback")
    job_id = agent.submit("echo up; sleep 3600")
    agent.wait(job_id, statuses=["RUNNING"])
    for _ in range(60):
        socket = open_socket(agent, job_id)
        assert json.loads(socket.recv())["type"] == "log"
        socket.shutdown()
        with agent.request("GET", f"jobs/{job_id}/logs/stream/", stream=True) as stream:
            assert next(stream.iter_lines())

    assert tails_of(agent, job_id) <= 2
    agent.request("POST", f"jobs/{job_id}/stop/")
    agent.wait(job_id)
    wait_until(lambda: tails_of(agent, job_id) <= 1 or None, "the tail of an ended job is still open")
    assert agent.output.read_text().count("Traceback") == before
