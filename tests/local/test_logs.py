"""Whole and live logs of real jobs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import websocket

from tests.local.conftest import LINES, LONG_LINE
from tests.stack.job_logs import without_lines_of_ray
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray

Event = dict[str, str]


def sse_events(agent: LocalAgent, job_id: str) -> Iterator[Event]:
    with agent.request("GET", f"jobs/{job_id}/logs/stream/", stream=True, timeout=PATIENCE) as response:
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        for line in response.iter_lines():
            if line:
                assert line.startswith(b"data: ")
                yield json.loads(line[6:])


def open_socket(agent: LocalAgent, job_id: str) -> websocket.WebSocket:
    url = f"{agent.url.replace('http', 'ws')}/jobs/{job_id}/logs/"
    return websocket.create_connection(url, header=[f"Authorization: {agent.token}"], timeout=PATIENCE)


def socket_events(agent: LocalAgent, job_id: str) -> tuple[list[Event], int]:
    events: list[Event] = []
    socket = open_socket(agent, job_id)
    while True:
        opcode, data = socket.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            socket.shutdown()
            return events, int.from_bytes(data[:2], "big")
        events.append(json.loads(data))


def text_of(events: list[Event]) -> str:
    return "".join(event["message"] for event in events if event["type"] == "log")


def whole_log(agent: LocalAgent, job_id: str) -> str:
    response = agent.request("GET", f"jobs/{job_id}/logs/")
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    return response.content.decode("utf-8")


def test_whole_log_contains_job_output(agent: LocalAgent, finished_job: dict[str, Any]) -> None:
    printed = "\n".join([*LINES, LONG_LINE, "  indented\ttab", "", "last", ""])

    assert without_lines_of_ray(whole_log(agent, "finished_job"), finished_job) == printed


def test_streams_contain_whole_log_and_complete(agent: LocalAgent, finished_job: dict[str, Any]) -> None:
    whole = whole_log(agent, "finished_job")

    by_sse = list(sse_events(agent, "finished_job"))
    by_socket, code = socket_events(agent, "finished_job")

    for events in (by_sse, by_socket):
        assert text_of(events) == whole
        assert [event for event in events if event["type"] != "log"] == [{"type": "complete"}]
        assert events[-1] == {"type": "complete"}
        assert max(len(json.dumps(event, ensure_ascii=False)) for event in events) <= 10_000
    assert code == 1000
