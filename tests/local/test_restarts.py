"""Jobs that are followed while the agent, and then Ray's dashboard, go away and come back."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]
import pytest
import requests

from airflow_provider_rayagent.agent.config import read_config
from airflow_provider_rayagent.local.head import free_ports, head_environment, start_command
from airflow_provider_rayagent.logs.end import End
from tests.local.test_following import DRIVERS
from tests.stack.agent import start_agent, stop_agent, wait_for_file

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.ray

TOKEN = "restarts"
SECONDS = 40
PROGRAM = f"""python -u -c "
import time
for number in range({SECONDS * 10}):
    print('tick', number)
    time.sleep(0.1)
" """


class Cluster:
    """A Ray head that outlives the death of its dashboard."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = free_ports()
        self.dashboard_url = f"http://127.0.0.1:{self._ports.dashboard}"
        self.gcs_address = f"127.0.0.2:{self._ports.gcs}"

    def start(self) -> None:
        command = start_command(self._ports, self._directory, 4)
        command.remove("--block")
        subprocess.run(command, env=head_environment({}), check=True, timeout=120, capture_output=True)
        self.wait_for_dashboard()

    def wait_for_dashboard(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.dashboard_url}/api/version", timeout=2).ok:
                    return
            time.sleep(0.3)
        raise AssertionError("Ray's dashboard does not answer")

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self._directory) in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def restart_dashboard(self, pause: float) -> subprocess.Popen[bytes]:
        dashboard = next(
            process for process in self.processes() if "dashboard/dashboard.py" in " ".join(process.cmdline()[:3])
        )
        command, environment = dashboard.cmdline(), dashboard.environ()
        dashboard.kill()
        time.sleep(pause)
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        for _ in range(3):
            processes = self.processes()
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(processes, timeout=10)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    directory = Path(tempfile.mkdtemp(prefix="rr-", dir="/tmp"))
    cluster = Cluster(directory)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


def submit(url: str) -> str:
    answer = requests.post(f"{url}/jobs/", json={"entrypoint": PROGRAM}, headers={"Authorization": TOKEN}, timeout=30)
    answer.raise_for_status()
    return str(answer.json()["submission_id"])


@pytest.mark.timeout(300)
def test_no_line_is_lost_or_repeated_when_agent_and_dashboard_are_restarted(cluster: Cluster, tmp_path: Path) -> None:
    port = free_ports().client
    url = f"http://127.0.0.1:{port}"
    info, output = tmp_path / "agent.json", tmp_path / "agent.log"
    arguments = ["--address", cluster.dashboard_url, "--gcs-address", cluster.gcs_address, "--port", str(port)]
    arguments += ["--token", TOKEN, "--info-file", str(info)]
    agent = start_agent(*arguments, output=output)
    dashboard = None
    try:
        wait_for_file(info, agent, output)
        job_id = submit(url)
        with ThreadPoolExecutor(len(DRIVERS)) as pool:
            config = read_config(host=url, token=TOKEN)
            futures = [pool.submit(follow, config, job_id, source) for follow, source in DRIVERS.values()]
            time.sleep(8)
            stop_agent(agent)
            time.sleep(3)
            agent = start_agent(*arguments, output=output)
            wait_for_file(info, agent, output)
            time.sleep(5)
            dashboard = cluster.restart_dashboard(pause=3)
            cluster.wait_for_dashboard()
            results = [future.result(timeout=120) for future in futures]
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
