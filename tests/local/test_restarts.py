"""Jobs that are followed while first the agent and then Ray's dashboard restart."""

from __future__ import annotations

import shlex
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.local.ports import free_ports
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.items import lines_in
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from airflow_provider_rayagent.transport.blocking_driver import BlockingFollower
from tests.local.test_following import DRIVERS, OVER_RAY, Followed
from tests.stack.agent import local_agent
from tests.stack.job_logs import lines_of_program
from tests.stack.ray import Cluster, cluster
from tests.stack.watch import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

pytestmark = pytest.mark.ray

MORE = 20
"""Lines that everyone has received before a restart, and that are printed while the agent is away."""
PROGRAM = """
import itertools, os, sys, time
for number in itertools.count():
    if os.path.exists(sys.argv[1]):
        break
    sys.stdout.write(f"tick {number}\\n")
    sys.stdout.flush()
    time.sleep(0.1)
"""


@pytest.fixture
def ray_cluster() -> Iterator[Cluster]:
    with cluster(token="ray-restarts") as running:
        yield running


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The file at which the program ends."""
    return tmp_path / "release"


def entrypoint(release: Path) -> str:
    return shlex.join(["python", "-c", PROGRAM, str(release)])


@dataclass
class Progress:
    """What a job has printed, and what its followers have received."""

    file: Path
    followers: list[Followed]
    futures: list[Future[Followed]] = field(default_factory=list)

    def printed(self) -> int:
        return self.file.read_bytes().count(b"\ntick ") if self.file.exists() else 0

    def wait_until_printed(self, count: int) -> None:
        wait_until(lambda: self.printed() >= count or None, f"the job does not print {count} lines")

    def wait_until_received(self, count: int) -> None:
        """Wait until each follower has that many lines, or until one has ended."""
        wait_until(
            lambda: (
                all(len(each.lines) >= count for each in self.followers)
                or any(future.done() for future in self.futures)
                or None
            ),
            lambda: f"not everyone has {count} lines: {[len(each.lines) for each in self.followers]}",
        )


def test_no_line_is_lost_or_repeated_if_agent_and_dashboard_restart(ray_cluster: Cluster, release: Path) -> None:
    options = ["--address", ray_cluster.dashboard_url, "--ray-token-file", str(ray_cluster.token_file)]
    options += ["--port", str(free_ports(1)[0]), "--token", "restarts"]
    with ExitStack() as agents, ThreadPoolExecutor(len(DRIVERS)) as pool:
        agent = agents.enter_context(local_agent(*options))
        job_id = agent.submit(entrypoint(release))
        progress = Progress(ray_cluster.log_file(job_id), [Followed() for _ in DRIVERS])
        try:
            over_agent = read_config(host=agent.url, token=agent.token)
            ray_token = ray_cluster.token_file.read_text().strip()
            over_ray = read_config(host=ray_cluster.dashboard_url, token=ray_token, extra={"service": "ray"})
            progress.futures += [
                pool.submit(driver.follow, over_ray if name in OVER_RAY else over_agent, job_id, driver.sources, each)
                for (name, driver), each in zip(DRIVERS.items(), progress.followers, strict=True)
            ]
            progress.wait_until_received(MORE)
            agents.close()
            progress.wait_until_printed(progress.printed() + MORE)
            agents.enter_context(local_agent(*options))
            progress.wait_until_received(progress.printed() + MORE)
            dashboard = ray_cluster.restart_dashboard()
            ray_cluster.wait_for_dashboard()
            progress.wait_until_received(progress.printed() + MORE)
        finally:
            release.touch()
        results = [future.result(timeout=PATIENCE) for future in progress.futures]
    dashboard.kill()
    dashboard.wait()

    ticks = [f"tick {number}" for number in range(progress.printed())]
    assert len(ticks) > 4 * MORE
    for followed in results:
        assert followed.end is End.JOB_ENDED
        assert followed.job["status"] == "SUCCEEDED"
        assert followed.is_whole
        assert lines_of_program(followed.lines, followed.job) == ticks
        assert followed.notices == []


@pytest.mark.full
def test_a_job_whose_head_was_killed_is_missing_once_another_head_answers(ray_cluster: Cluster, release: Path) -> None:
    token = ray_cluster.token_file.read_text().strip()
    config = read_config(host=ray_cluster.dashboard_url, token=token, extra={"service": "ray"})
    job_id = ray_cluster.submit(entrypoint(release))
    lines: list[str] = []

    def follow() -> BlockingFollower:
        with BlockingServiceClient(config) as client:
            follower = BlockingFollower(client, JobId(job_id), TailSettings(poll_interval=1.0, missing_timeout=3.0))
            for items in follower.blocking_items():
                lines.extend(lines_in(items))
            return follower

    with ThreadPoolExecutor(1) as pool:
        followed = pool.submit(follow)
        wait_until(lambda: len(lines) > MORE or followed.done() or None, "no lines")
        ray_cluster.stop()
        ray_cluster.start()
        follower = followed.result(timeout=PATIENCE)

    assert follower.end is End.JOB_MISSING
    assert follower.job is not None
    assert follower.job["status"] == "RUNNING"
    ticks = lines_of_program(lines, follower.job)
    assert ticks == [f"tick {number}" for number in range(len(ticks))]
