"""Jobs that are followed while first the agent and then Ray's dashboard restart."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from airflow_provider_rayagent.client.blocking import BlockingAgent
from airflow_provider_rayagent.client.blocking_driver import Follower
from airflow_provider_rayagent.client.config import read_config
from airflow_provider_rayagent.client.validation import JobId
from airflow_provider_rayagent.local.ports import free_ports
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.items import lines_in
from tests.local.test_following import DRIVERS, OVER_RAY
from tests.stack.agent import start_agent, stop_agent, wait_for_file
from tests.stack.ray import Cluster, cluster
from tests.stack.watch import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.ray

TOKEN = "restarts"
SECONDS = 40
PROGRAM = f"""python -u -c "
import time
for number in range({SECONDS * 10}):
    print('tick', number)
    time.sleep(0.1)
" """


@pytest.fixture
def ray_cluster() -> Iterator[Cluster]:
    with cluster(token="ray-restarts") as running:
        yield running


def submit(url: str) -> str:
    answer = requests.post(
        f"{url}/jobs/", json={"entrypoint": PROGRAM}, headers={"Authorization": TOKEN}, timeout=PATIENCE
    )
    answer.raise_for_status()
    return str(answer.json()["submission_id"])


def test_no_line_is_lost_or_repeated_if_agent_and_dashboard_restart(ray_cluster: Cluster, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    info, output = tmp_path / "agent.json", tmp_path / "agent.log"
    arguments = ["--address", ray_cluster.dashboard_url, "--ray-token-file", str(ray_cluster.token_file)]
    arguments += ["--port", str(port), "--token", TOKEN, "--info-file", str(info)]
    agent = start_agent(*arguments, output=output)
    dashboard = None
    try:
        wait_for_file(info, agent, output)
        job_id = submit(url)
        with ThreadPoolExecutor(len(DRIVERS)) as pool:
            over_agent = read_config(host=url, token=TOKEN)
            ray_token = ray_cluster.token_file.read_text().strip()
            over_ray = read_config(host=ray_cluster.dashboard_url, token=ray_token, extra={"service": "ray"})
            futures = [
                pool.submit(driver.follow, over_ray if name in OVER_RAY else over_agent, job_id, driver.sources)
                for name, driver in DRIVERS.items()
            ]
            time.sleep(8)
            stop_agent(agent)
            time.sleep(3)
            agent = start_agent(*arguments, output=output)
            wait_for_file(info, agent, output)
            time.sleep(5)
            dashboard = ray_cluster.restart_dashboard(pause=3)
            ray_cluster.wait_for_dashboard()
            results = [future.result(timeout=PATIENCE) for future in futures]
    finally:
        stop_agent(agent)
        if dashboard is not None:
            dashboard.kill()
            dashboard.wait()

    for followed in results:
        assert followed.end is End.JOB_ENDED
        assert followed.job["status"] == "SUCCEEDED"
        assert followed.is_whole
        assert [line for line in followed.lines if line.startswith("tick")] == [
            f"tick {number}" for number in range(SECONDS * 10)
        ]
        assert followed.notices == []


def test_a_job_whose_head_was_killed_is_missing_once_another_head_answers(ray_cluster: Cluster) -> None:
    token = ray_cluster.token_file.read_text().strip()
    config = read_config(host=ray_cluster.dashboard_url, token=token, extra={"service": "ray"})
    job_id = ray_cluster.submit(PROGRAM)
    lines: list[str] = []

    def follow() -> Follower:
        with BlockingAgent(config) as client:
            follower = Follower(client, JobId(job_id), TailSettings(poll_interval=1.0, missing_timeout=3.0))
            for items in follower.items():
                lines.extend(line for line in lines_in(items) if line.startswith("tick"))
            return follower

    with ThreadPoolExecutor(1) as pool:
        followed = pool.submit(follow)
        wait_until(lambda: len(lines) > 10 or None, "no lines")
        ray_cluster.stop()
        ray_cluster.start()
        follower = followed.result(timeout=PATIENCE)

    assert follower.end is End.JOB_MISSING
    assert follower.job is not None
    assert follower.job["status"] == "RUNNING"
    assert lines == [f"tick {number}" for number in range(len(lines))]
