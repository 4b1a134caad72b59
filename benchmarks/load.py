"""Number of requests per hour for following a job.

An hour is simulated with the log tail, which decides when to send requests and has no clock of its own. A shorter
measurement over real sockets checks that the transports send exactly these requests. A quiet job has written some lines
and keeps running without further output. One that writes a line every ten seconds causes the most requests.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.stream.events import Event
from airflow_provider_rayagent.tail import commands
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.machine import Tail
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from airflow_provider_rayagent.transport.blocking_driver import BlockingFollower
from airflow_provider_rayagent.transport.log_responses import SLICE_SECONDS
from benchmarks.measure import Line, Target
from tests.scripted import Follow, Job, Play, Refuse, ScriptedAgent

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR = 3600.0
LINES_A_SECOND = 20
SETTINGS = TailSettings(unreachable_timeout=2 * HOUR)
"""The defaults, except that an unreachable agent is not given up after five minutes."""
QUIET, CHATTY, UNAVAILABLE = "quiet", f"{LINES_A_SECOND} lines per second", "permanent 503"
PAUSE_SECONDS = 10
PAUSING = f"a line every {PAUSE_SECONDS} seconds"
TARGETS = {
    QUIET: Target(maximum=900, of="figure"),
    CHATTY: Target(maximum=1_000, of="figure"),
    PAUSING: Target(maximum=1_000, of="figure"),
    UNAVAILABLE: None,
}
"""The cases, and the targets for the number of requests per hour."""
PEER_SECONDS = 5.0
PEER = f"status and whole log polled every {PEER_SECONDS:g} s"
SELDOM = "astro-provider-ray and the Databricks provider by default poll only the status every 30 s: 120 requests"


def measure(*, short: bool) -> Iterator[Line]:
    """Count requests in a simulated hour, and over real sockets."""
    seconds = 22.0 if short else 118.0
    with ThreadPoolExecutor(len(TARGETS)) as pool:
        counted = dict(zip(TARGETS, pool.map(lambda case: over_sockets(case, seconds), TARGETS), strict=True))
    for case, target in TARGETS.items():
        hour = Played(case).run(HOUR)
        yield Line(
            "load",
            f"requests per job and hour, {case}",
            "",
            [hour.total()],
            [2 * HOUR / PEER_SECONDS],
            PEER,
            target,
            note=f"{', '.join(f'{count} {kind}' for kind, count in hour.most_common())}; {SELDOM}",
        )
        yield Line(
            "load",
            f"requests in {seconds:g} s over real sockets, {case}",
            "",
            [counted[case]],
            [Played(case).run(seconds).total()],
            "simulated rules",
        )


class Played:
    """A simulated agent and driver for a log tail, with a simulated clock.

    :param case: one of :data:`TARGETS`.
    """

    def __init__(self, case: str) -> None:
        self.asked = Counter[str]()
        """The requests by kind."""
        self._refuses = case == UNAVAILABLE
        self._case = case
        self._tail = Tail(SETTINGS)
        self._now = 0.0
        self._seconds_sent = 0
        self._unread: str | None = None

    def run(self, seconds: float) -> Counter[str]:
        """Follow for a number of seconds; return the requests."""
        while self._now < seconds:
            command = self._tail.next(self._now)
            if isinstance(command, (commands.GetStatus, commands.OpenStream, commands.OpenWholeLog)):
                self._ask(command)
            elif isinstance(command, (commands.ReadStream, commands.Wait)):
                self._now += max(min(command.seconds, SLICE_SECONDS), 1e-3)
                if isinstance(command, commands.ReadStream):
                    self._read_stream()
            elif isinstance(command, commands.ReadWholeLog):
                self._read_text()
            self._tail.take()
        return self.asked

    def _ask(self, command: commands.Command) -> None:
        now, tail = self._now, self._tail
        if isinstance(command, commands.GetStatus):
            self.asked["status"] += 1
            tail.status.failed(now, permanent=False) if self._refuses else tail.status_received(
                now, "RUNNING", terminal=False
            )
        elif isinstance(command, commands.OpenStream):
            self.asked[command.source] += 1
            self._seconds_sent = 0
            tail.stream_failed(now) if self._refuses else tail.stream_opened(now)
        else:
            self.asked["whole log"] += 1
            self._unread = "".join(lines_of_second(self._case, second) for second in range(self._written))
            tail.whole_log_failed(now, "503") if self._refuses else tail.whole_log_opened(now)

    @property
    def _written(self) -> int:
        """The number of seconds whose lines are in the log."""
        return int(self._now) + 1

    def _read_stream(self) -> None:
        lines = [lines_of_second(self._case, second) for second in range(self._seconds_sent, self._written)]
        events = [Event("log", text) for text in lines if text]
        self._seconds_sent = self._written
        if events:
            self._tail.stream_received(self._now, events)
        else:
            self._tail.stream_idle(self._now, alive=True)

    def _read_text(self) -> None:
        text, self._unread = self._unread, None
        if text:
            self._tail.whole_log_received(self._now, text)
        else:
            self._tail.whole_log_ended(self._now)


def lines_of_second(case: str, second: int) -> str:
    """Return the lines that the job of a case writes in a second."""
    if second > 0 and case in (QUIET, UNAVAILABLE):
        return ""
    if case == PAUSING:
        return "" if second % PAUSE_SECONDS else f"line {second}\n"
    return "".join(f"line {second * LINES_A_SECOND + number}\n" for number in range(LINES_A_SECOND))


def over_sockets(case: str, seconds: float) -> int:
    """Return the number of requests that a scripted agent receives in a number of seconds."""
    job = Job(lines_of_second(case, 0), status="RUNNING", ws=[Play(Follow())], sse=[Play(Follow())])
    answers = {"*": [Refuse(503)]} if case == UNAVAILABLE else {}
    if case == UNAVAILABLE:
        job.ws = job.sse = job.full = [Refuse(503)]
    stopped = threading.Event()
    with (
        ScriptedAgent(job, answers=answers) as agent,
        BlockingServiceClient(read_config(host=agent.url)) as transport,
        ThreadPoolExecutor(1) as pool,
    ):
        follower = BlockingFollower(transport, JobId(job.job_id), SETTINGS, stopped=stopped)
        following = pool.submit(lambda: [None for _ in follower.blocking_items()])
        ends = time.monotonic() + seconds
        second = 1
        while time.monotonic() < ends:
            time.sleep(1.0)
            if text := lines_of_second(case, second):
                job.grow(text)
            second += 1
        stopped.set()
        following.result()
        return len(agent.requests)
