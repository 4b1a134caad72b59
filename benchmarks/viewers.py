"""Requests that the Ray page sends to an agent, with one viewer and with ten at the same time.

A viewer does what the page does in a browser: it has each view open, and a running job with its live log. Each view is
refreshed at the page's interval, and at another moment than those of the other viewers.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measure import Line, Target, run_alternately
from tests.scripted import Job, ScriptedAgent
from tests.stack.api_server import ApiServer, api_server

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTION = "rayagent_default"
LOG = "jobs/running/log"
VIEWS = (
    (5.0, "jobs"),
    (5.0, "cluster"),
    (5.0, "applications"),
    (3.0, "jobs/running"),
    (2.0, LOG),
)
"""The views that are open at the same time: the interval in seconds, and the route of each refresh (``ui/static``)."""
MANY = 10
MOST = 2.5
"""With many viewers, results that are used for two seconds are requested every two seconds instead of every five."""


class Load(NamedTuple):
    """What the agent has had to do.

    :param requests: per minute.
    :param streams: the most that were open at the same time.
    """

    requests: float
    streams: int


def measure(*, short: bool) -> Iterator[Line]:
    """Compare ten viewers with one."""
    rounds, seconds = (1, 20.0) if short else (3, 60.0)
    with ScriptedAgent(Job("a line\n", "RUNNING", "running")) as agent:
        connections = {CONNECTION: {"conn_type": "rayagent", "host": agent.url}}
        with api_server(connections=connections) as server:
            one, many = run_alternately(
                rounds, lambda: watch(agent, server, 1, seconds), lambda: watch(agent, server, MANY, seconds)
            )
    yield Line(
        "viewers",
        f"requests to the agent per minute, {MANY} viewers of all views",
        "",
        [each.requests for each in many],
        [each.requests for each in one],
        "1 viewer",
        Target(maximum=MOST),
    )
    yield Line(
        "viewers",
        f"live logs that the agent sends at the same time, {MANY} viewers of one log",
        "",
        [each.streams for each in many],
        [each.streams for each in one],
        "1 viewer",
        Target(maximum=1.0),
    )


def watch(agent: ScriptedAgent, server: ApiServer, viewers: int, seconds: float) -> Load:
    """Let some viewers watch."""
    while agent.open_streams["running"]:
        time.sleep(0.1)
    agent.max_open_streams["running"] = 0
    before = len(agent.requests)
    ended = threading.Event()
    with ExitStack() as stack:
        threads = [
            threading.Thread(target=refresh, args=(server, route, interval, ended))
            for _ in range(viewers)
            for interval, route in VIEWS
        ]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(ended.set)
        time.sleep(seconds)
        sent = len(agent.requests) - before
    return Load(60.0 * sent / seconds, agent.max_open_streams["running"])


def refresh(server: ApiServer, route: str, interval: float, ended: threading.Event) -> None:
    """Request the route of a view now and then."""
    pause = random.uniform(0.0, interval)
    after = ""
    while not ended.wait(pause):
        query = {"after": after} if route == LOG else {}
        answer = server.request("GET", f"rayagent/api/connections/{CONNECTION}/{route}", params=query)
        answer.raise_for_status()
        after = answer.json().get("after", "")
        pause = interval
