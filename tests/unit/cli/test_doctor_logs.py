"""``doctor``: its checks of the log of one job."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.cli import log_checks
from airflow_provider_rayagent.transport.live_logs import open_stream
from tests.scripted import Complete, Hold, Html, Job, Log, Open, Play, Refuse, Silence
from tests.unit.cli.findings import TEXT, agent_with, examine, wrong
from tests.unit.proxies import Proxy

if TYPE_CHECKING:
    from airflow_provider_rayagent.services.service import OpenLiveLog
    from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
    from airflow_provider_rayagent.transport.live_logs import LogStream
    from tests.scripted import Step
    from tests.unit.cli.conftest import Airflow, Examined
    from tests.unit.support import Connect


def test_a_log_that_cannot_be_read(connect: Connect, airflow: Airflow) -> None:
    with agent_with(Job(TEXT, full=[Refuse(500, "no such file")])) as agent:
        connect(agent)
        found = examine(airflow)
        unknown = examine(airflow, "--job-id", "nobody")
    assert list(wrong(found)) == ["job log"]
    assert found["job log"][1].endswith("answered 500: no such file")
    assert "404" in wrong(unknown)["job log"]


def test_a_proxy_that_blocks_websocket(connect: Connect, airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    with agent_with() as agent, Proxy(upgrades=False) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        connect(agent)
        found = examine(airflow)
    assert list(wrong(found)) == ["WebSocket"]
    assert "not a WebSocket" in found["WebSocket"][1]
    assert "Let all proxies up to the service pass WebSocket" in found["WebSocket"][1]


def test_a_proxy_that_refuses_websocket(connect: Connect, airflow: Airflow) -> None:
    with agent_with(Job(TEXT, ws=[Html(403)])) as agent:
        connect(agent)
        assert list(wrong(examine(airflow))) == ["WebSocket"]


@pytest.mark.parametrize(
    ("step", "words", "exceeded"),
    [
        (Play(Silence()), "The stream cannot be opened: No response from ", "connect_timeout"),
        (Play(Open(), Hold()), "No line came within 0.3 seconds, although the log has lines.", "STREAM_SECONDS"),
        (Html(502), "The stream cannot be opened: ", None),
        (Play(Open(content_type="text/event-stream")), "The stream ended before the first line.", None),
    ],
    ids=["head held back", "events held back", "refused", "cut off"],
)
def test_server_sent_events_that_are_buffered_or_refused(
    step: Step, words: str, exceeded: str | None, examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_impatiently(client: BlockingServiceClient, opening: OpenLiveLog) -> LogStream:
        # Only here: the checks before must find everything right, however slow the machine is.
        if opening.source == "http" and exceeded == "connect_timeout":
            monkeypatch.setattr(client, "config", replace(client.config, connect_timeout=0.3))
        elif opening.source == "http" and exceeded == "STREAM_SECONDS":
            monkeypatch.setattr(log_checks, "STREAM_SECONDS", 0.3)
        return await open_stream(client, opening)

    monkeypatch.setattr(log_checks, "open_stream", open_impatiently)
    found = examined(agent_with(Job(TEXT, status="RUNNING", sse=[step])))
    assert list(wrong(found)) == ["SSE"]
    assert found["SSE"][1].startswith(words)
    assert "without buffering" in found["SSE"][1]


def test_a_stream_that_arrives_late_but_in_time(connect: Connect, airflow: Airflow) -> None:
    late = [Play(Open(), Hold(0.3), Log(TEXT), Complete())]
    with agent_with(Job(TEXT, ws=late, sse=late)) as agent:
        connect(agent)
        assert wrong(examine(airflow)) == {}
