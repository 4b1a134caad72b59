"""Resources that a tail uses (memory, sockets, threads, requests), and backpressure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.items import Notice, lines_in
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from airflow_provider_rayagent.transport.blocking_driver import BlockingFollower
from tests.level import by_level
from tests.scripted import Action, Bulk, Complete, Do, Follow, Hold, Job, Play, Refuse, ScriptedAgent, every
from tests.scripted.messages import log_payload
from tests.stack.watch import PATIENCE
from tests.tail.drivers import PROTOCOLS, config_of, follower_of, quick_hook
from tests.tail.figures import figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_rayagent.tail.items import Item
    from tests.scripted.exchange import Exchange

ROOT = Path(__file__).parents[2]
MANY_LINES = {"websocket": by_level(1_000_000, 10_000_000), "http": 1_000_000}
"""Lines by protocol. The code that holds text is the same for both, so one very long log is enough."""
BLOCK_LINES = 100
MEMORY_KB = 16 * 1024
UNAVAILABLE_SECONDS = by_level(12.0, 60.0)


@dataclass(frozen=True)
class Repeated(Action):
    """The same log message, repeated as fast as the client reads."""

    text: str
    times: int

    async def run(self, x: Exchange) -> None:
        payload = log_payload(self.text)
        await x.send_all(payload for _ in range(self.times))


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "rayagent" in thread.name}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_closing_a_generator_early_leaks_no_thread_and_no_socket(protocol: str) -> None:
    play = Play(Follow(), Hold())
    job = Job("".join(f"line {number}\n" for number in range(1000)), "RUNNING", ws=[play], sse=[play])
    with ScriptedAgent(job) as agent:
        with quick_hook(config_of(agent.url)) as hook:
            lines = hook.tail_job_logs("j1", protocol=protocol)  # type: ignore[arg-type]
            assert [next(lines) for _ in range(3)] == ["line 0", "line 1", "line 2"]
            assert agent.open_streams["j1"] == 1
            lines.close()  # type: ignore[attr-defined]
            agent.wait_until(lambda: agent.open_streams["j1"] == 0)
            assert threads() == set()
        agent.wait_until(lambda: agent.open_connections == 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_follower_stops_soon_on_a_silent_stream_and_leaks_nothing(protocol: str) -> None:
    job = Job("a\n", "RUNNING", ws=[Play(Follow(), Hold())], sse=[Play(Follow(), Hold())])
    stopped = threading.Event()
    with ScriptedAgent(job) as agent, BlockingServiceClient(config_of(agent.url)) as transport:
        settings = TailSettings(sources=PROTOCOLS[protocol], poll_interval=3600.0)
        follower = BlockingFollower(transport, JobId("j1"), settings, stopped=stopped)
        thread = threading.Thread(target=lambda: list(follower.blocking_items()))
        thread.start()
        agent.wait_until(lambda: follower.messages)
        stopped.set()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        agent.wait_until(lambda: agent.open_streams["j1"] == 0)
    assert threads() == set()


@pytest.mark.parametrize("protocol", ["websocket", "http"])
def test_a_slow_reader_applies_backpressure_and_loses_nothing(protocol: str) -> None:
    text = "".join(f"{number:07d} {'x' * 92}\n" for number in range(150_000))
    play = Play(Bulk(every(101 * 40)(text)), Complete())
    job = Job(text, "RUNNING", ws=[play, Hold()], sse=[play, Hold()])
    with ScriptedAgent(job, send_buffer=65_536) as agent:
        follower, transport = follower_of(agent.url, "j1", protocol, poll_interval=PATIENCE, silence_timeout=PATIENCE)
        with transport:
            lines = follower.blocking_items()
            got = _count(lines, 1000)
            sent = _settled(agent)
            assert sent < len(text) * 0.8
            got += _count(lines, 150_000 - got)
            assert got == 150_000
            lines.close()
    figure(f"bytes sent to a reader that sleeps ({protocol}): {sent / 1e6:.1f} of {len(text) / 1e6:.0f} MB")


def _count(lines: Iterator[list[Item]], wanted: int) -> int:
    got = 0
    while got < wanted:
        got += len(lines_in(next(lines)))
    return got


def _settled(agent: ScriptedAgent) -> int:
    """Return the number of bytes sent once the agent is held up and it no longer changes."""
    agent.wait_until(lambda: agent.is_held_up)
    sent = -1
    while sent != agent.bytes_sent:
        sent = agent.bytes_sent
        time.sleep(0.5)
    return sent


@pytest.mark.parametrize("protocol", ["websocket", "http"])
def test_memory_does_not_depend_on_the_length_of_the_log(protocol: str) -> None:
    count = MANY_LINES[protocol]
    block = "".join(f"line {number:05d} of a long log\n" for number in range(BLOCK_LINES))

    def text() -> Iterator[str]:
        return (block for _ in range(count // BLOCK_LINES))

    job = Job(text, "RUNNING")
    play = Play(Repeated(block, count // BLOCK_LINES), Do(lambda: job.set_status("SUCCEEDED")), Complete())
    job.ws = job.sse = [play]
    with ScriptedAgent(job) as agent:
        told = subprocess.run(
            [sys.executable, "-m", "tests.tail.count_lines", agent.url, "j1", protocol],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert agent.max_open_streams["j1"] == 1
        assert max(request.messages for request in agent.requests) >= count // BLOCK_LINES
    assert told.returncode == 0, told.stderr
    result = json.loads(told.stdout)
    assert (result["lines"], result["chars"]) == (count, len(block) * (count // BLOCK_LINES))
    assert result["grown"] < MEMORY_KB
    figure(
        f"memory over {count:,} lines ({protocol}): grew by {result['grown'] / 1024:.1f} MB after the first 200,000 "
        f"lines, to {result['peak'] / 1024:.0f} MB, in {result['seconds']:.0f} s"
    )


def test_a_permanent_503_causes_few_requests_per_minute() -> None:
    stopped = threading.Event()
    timer = threading.Timer(UNAVAILABLE_SECONDS, stopped.set)
    with (
        ScriptedAgent(Job("a\n"), answers={"*": [Refuse(503)]}) as agent,
        BlockingServiceClient(config_of(agent.url)) as transport,
    ):
        agent.jobs["j1"].ws = agent.jobs["j1"].sse = agent.jobs["j1"].full = [Refuse(503)]
        begun = time.monotonic()
        timer.start()
        follower = BlockingFollower(transport, JobId("j1"), TailSettings(), stopped=stopped)
        # With pauses of any length, a request after ten seconds may come too late to be one of these.
        items = [item for items in follower.blocking_items() for item in items]
        assert all("cannot be read" in item.text for item in items if isinstance(item, Notice))
        assert lines_in(items) == []
        requests = sum(request.time < begun + UNAVAILABLE_SECONDS for request in agent.requests)
    assert requests <= 45
    figure(f"requests in the first {UNAVAILABLE_SECONDS:g} s of a permanent 503 (real sockets): {requests}")
