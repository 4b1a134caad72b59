"""Requests that a watched job costs the agent, by the hour.

An hour is played to the log tail with a clock of its own: the rules that say when to ask know no other. That the
transports send what the rules say, and nothing else, is measured over real sockets for a shorter time.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_rayagent.agent.blocking import BlockingAgent
from airflow_provider_rayagent.agent.config import read_config
from airflow_provider_rayagent.agent.follow import Follower
from airflow_provider_rayagent.logs import commands as do
from airflow_provider_rayagent.logs.commands import TailSettings
from airflow_provider_rayagent.logs.events import Event
from airflow_provider_rayagent.logs.tail import Tail
from benchmarks.measure import Line
from tests.scripted import Follow, Job, Play, Refuse, ScriptedAgent

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR = 3600.0
LINES_A_SECOND = 20
SETTINGS = TailSettings(unreachable_timeout=2 * HOUR)
"""The defaults, but for an agent that is never given up."""
QUIET, CHATTY, UNAVAILABLE = "quiet", "20 lines a second", "permanent 503"
CASES = (QUIET, CHATTY, UNAVAILABLE)
POLLED_SECONDS = 10.0
PEER = f"status and log polled every {POLLED_SECONDS:g} s"


def measure(*, short: bool) -> Iterator[Line]:
    """Count requests in an hour that is played, and over real sockets."""
    seconds = 20.0 if short else 120.0
    with ThreadPoolExecutor(len(CASES)) as pool:
        counted = dict(zip(CASES, pool.map(lambda case: over_sockets(case, seconds), CASES), strict=True))
    for case in CASES:
        hour = played(case, HOUR)
        yield Line(
            "load",
            f"requests per job and hour, {case}",
            "",
            [hour.total()],
            [2 * HOUR / POLLED_SECONDS],
            PEER,
            note=", ".join(f"{count} {kind}" for kind, count in hour.most_common()),
        )
        yield Line(
            "load",
            f"requests in {seconds:g} s over real sockets, {case}",
            "",
            [counted[case]],
            [played(case, seconds).total()],
            "the rules played",
        )


def played(case: str, seconds: float) -> Counter[str]:
    """Return the requests by kind that the tail asks for in so many seconds of a virtual clock."""
    tail, asked, now, lines = Tail(SETTINGS), Counter[str](), 0.0, 0
    log = ""
    text_read = True
    while now < seconds:
        command = tail.next(now)
        refused = case == UNAVAILABLE
        if isinstance(command, do.AskStatus):
            asked["status"] += 1
            if refused:
                tail.status_failed(now)
            else:
                tail.status(now, "RUNNING", terminal=False)
        elif isinstance(command, do.OpenStream):
            asked[command.source] += 1
            if refused:
                tail.stream_failed(now)
            else:
                tail.stream_opened(now)
        elif isinstance(command, do.OpenText):
            asked["whole log"] += 1
            text_read = False
            if refused:
                tail.text_failed(now, "503")
            else:
                tail.text_opened(now)
        elif isinstance(command, do.ReadText):
            if text_read or not log:
                tail.text_ended(now)
            else:
                tail.text_chunk(now, log)
            text_read = True
        elif isinstance(command, do.ReadStream):
            now += max(min(command.seconds, 1.0), 1e-6)
            if case == CHATTY and int(now) * LINES_A_SECOND > lines:
                more = "".join(f"line {lines + number}\n" for number in range(LINES_A_SECOND))
                lines += LINES_A_SECOND
                log += more
                tail.stream_events(now, [Event("log", more)])
            else:
                tail.stream_silent(now, alive=True)
        elif isinstance(command, do.Wait):
            now += max(min(command.seconds, 1.0), 1e-6)
        tail.take()
    return asked


def over_sockets(case: str, seconds: float) -> int:
    """Return how many requests a scripted agent got in so many seconds."""
    job = Job(status="RUNNING", ws=[Play(Follow())], sse=[Play(Follow())])
    answers = {"*": [Refuse(503)]} if case == UNAVAILABLE else {}
    if case == UNAVAILABLE:
        job.ws = job.sse = job.full = [Refuse(503)]
    stopped = threading.Event()
    with (
        ScriptedAgent(job, answers=answers) as agent,
        BlockingAgent(read_config(host=agent.url)) as transport,
        ThreadPoolExecutor(1) as pool,
    ):
        follower = Follower(transport, job.job_id, replace(SETTINGS), stopped=stopped)
        following = pool.submit(lambda: [None for _ in follower.items()])
        ends = time.monotonic() + seconds
        second = 0
        while time.monotonic() < ends:
            if case == CHATTY:
                job.grow("".join(f"line {second * LINES_A_SECOND + n}\n" for n in range(LINES_A_SECOND)))
            second += 1
            time.sleep(1.0)
        stopped.set()
        following.result()
        return len(agent.requests)
