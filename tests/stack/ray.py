"""A Ray head that is not started by an agent, and the environments in which Ray's own tools connect to a head."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import requests

from airflow_provider_rayagent.local.head import ON_LOOPBACK, free_head_ports, head_environment, start_command
from airflow_provider_rayagent.local.ray_token import AUTH_VARIABLES
from tests.stack.processes import command_of
from tests.stack.watch import PATIENCE, ending, tail, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NODE = """
import json, signal, sys, time, ray, psutil
from ray._private import services
from ray._private.node import Node
from ray._private.parameter import RayParams
address, directory, resources, patience = sys.argv[1:]
deadline = time.monotonic() + float(patience)
get_node = services.get_node
def get_node_patiently(*arguments):
    while True:
        try:
            return get_node(*arguments)
        except RuntimeError:
            runs = any(each.name() == "raylet" for each in psutil.Process().children(recursive=True))
            if time.monotonic() > deadline or not runs:
                raise
            time.sleep(1)
services.get_node = get_node_patiently
parameters = RayParams(
    gcs_address=address, temp_dir=directory, node_ip_address="127.0.0.1", num_cpus=0, num_gpus=0,
    resources=json.loads(resources), object_store_memory=80_000_000, min_worker_port=0, max_worker_port=0,
    node_manager_port=0, include_log_monitor=False,
)
node = Node(parameters, head=False, shutdown_at_exit=True, spawn_reaper=False)
print("raylet", node.all_processes["raylet"][0].process.pid, flush=True)
signal.pause()
"""
"""A further node. ``ray start --address`` refuses loopback addresses (:data:`ON_LOOPBACK`), this does not.

``Node`` gives up if the GCS does not know the node after 30 s, as on a busy machine.
"""

IMPATIENT = "Timed out waiting for file"
"""Last words of a raylet whose agent has not started within 15 s, as on a busy machine; nothing can change the time.

See https://github.com/ray-project/ray/issues/65983. A node is then started again.
"""
METRICS_AGENT_SECONDS = 45.0
"""Longer than the half minute for which the GCS of Ray 2.50 tries to connect to the metrics agent."""


def driver_environment(home: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a Ray user on this machine: this process's, with another home and more variables."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", *AUTH_VARIABLES)}
    return {**inherited, **ON_LOOPBACK, "HOME": str(home), **(variables or {})}


class Cluster:
    """A Ray head that keeps running if its dashboard dies.

    :param directory: directory for all of its files.
    :param token: the token that it requires; ``None``: it requires none.
    :param log_monitor: whether drivers print the logs of their workers.
    :param python: an interpreter with Ray, for the head and its jobs.
    :param labels: those of its node, such as ``zone=a``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        token: str | None = None,
        log_monitor: bool = False,
        python: str = sys.executable,
        labels: str = "",
    ) -> None:
        self.directory = directory
        self._ports = free_head_ports()
        self._log_monitor = log_monitor
        self._python = python
        self._labels = labels
        self._token = token
        self.token_file = directory / "token"
        self.dashboard_url = f"http://127.0.0.1:{self._ports.dashboard}"
        self.gcs_address = f"127.0.0.1:{self._ports.gcs}"

    def start(self) -> None:
        """Start it, and wait until its dashboard responds."""
        command = [self._python, *start_command(self._ports, self.directory / "ray", 4)[1:]]
        command.remove("--block")
        if self._labels:
            command.append(f"--labels={self._labels}")
        if self._log_monitor:
            command.remove("--include-log-monitor=false")
        if self._token is not None:
            self.token_file.write_text(self._token, encoding="utf-8")

        def starts() -> bool | None:
            done = subprocess.run(
                command, env=self._environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            if done.returncode == 0:
                return True
            if not self._impatient_raylets():
                raise AssertionError(f"Ray did not start: {ending(done.returncode)}:\n{done.stdout}")
            self.stop()
            return None

        wait_until(starts, "Ray's raylet always gives up")
        self.wait_for_dashboard()

    def _impatient_raylets(self) -> int:
        """Return how many raylets of the last session have given up."""
        logs = (self.directory / "ray" / "session_latest" / "logs").glob("raylet*.err")
        return sum(IMPATIENT in log.read_text(errors="replace") for log in logs)

    def _environment(self) -> dict[str, str]:
        environment = head_environment(os.environ, self.token_file, PATIENCE)
        environment["PATH"] = os.pathsep.join([str(Path(self._python).parent), environment["PATH"]])
        if self._token is None:
            environment["RAY_AUTH_MODE"] = "disabled"
        return environment

    def add_node(self, resources: Mapping[str, float], variables: Mapping[str, str] | None = None) -> psutil.Process:
        """Start a further node without CPUs, and return its raylet; :meth:`stop` kills it, too.

        :param variables: environment variables of the node.
        """
        arguments = [self.gcs_address, str(self.directory / "ray"), json.dumps(dict(resources)), str(PATIENCE)]
        command = [self._python, "-c", NODE, *arguments]
        environment = {**self._environment(), **(variables or {})}
        output = self.directory / f"node-{'-'.join(resources)}.log"
        given_up = self._impatient_raylets()

        def start() -> subprocess.Popen[bytes]:
            with output.open("wb") as stream:
                return subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)

        node = start()

        def started() -> psutil.Process | None:
            nonlocal node, given_up
            for line in output.read_text(errors="replace").splitlines():
                if line.startswith("raylet "):
                    return psutil.Process(int(line.split()[1]))
            if (code := node.poll()) is not None:
                before, given_up = given_up, self._impatient_raylets()
                if given_up > before:
                    node = start()
                    return None
                raise AssertionError(f"a node with {resources} {ending(code)}; its last lines:\n{tail(output)}")
            return None

        return wait_until(started, lambda: f"a node with {resources} did not start:\n{tail(output)}\n")

    def wait_for_dashboard(self) -> None:
        """Wait until the dashboard responds to a request for jobs."""

        def responds() -> bool | None:
            if not self._runs():
                raise AssertionError("Ray's GCS does not run")
            with contextlib.suppress(requests.RequestException):
                return requests.get(f"{self.dashboard_url}/api/jobs/", headers=self._headers, timeout=60).ok or None
            return None

        wait_until(responds, "Ray's dashboard does not respond")

    def survives_its_start(self) -> bool:
        """Return whether the GCS runs until it has connected to the metrics agent, or has stopped trying.

        The GCS of Ray 2.50 may crash if that takes half a minute, as it does on a busy machine
        (https://github.com/ray-project/ray/pull/57917).
        """
        output = self.directory / "ray" / "session_latest" / "logs" / "gcs_server.out"
        deadline = time.monotonic() + METRICS_AGENT_SECONDS
        while "Exporter initialized" not in output.read_text(errors="replace") and time.monotonic() < deadline:
            if not self._runs():
                return False
            time.sleep(0.5)
        return True

    def _runs(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._ports.gcs)).close()
        except ConnectionRefusedError:
            return False
        return True

    def submit(self, entrypoint: str, **fields: Any) -> str:
        """Submit a job and return its id; ``fields`` are those of Ray's submit call."""
        body = {"entrypoint": entrypoint, **fields}
        response = requests.post(f"{self.dashboard_url}/api/jobs/", json=body, headers=self._headers, timeout=PATIENCE)
        if not response.ok:
            raise AssertionError(f"submit: {response.status_code} {response.text}")
        return str(response.json()["submission_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """Return the details of a job."""
        response = requests.get(f"{self.dashboard_url}/api/jobs/{job_id}", headers=self._headers, timeout=PATIENCE)
        response.raise_for_status()
        details: dict[str, Any] = response.json()
        return details

    def log_file(self, job_id: str) -> Path:
        """Return the file to which Ray writes a job's log."""
        return self.directory / "ray" / "session_latest" / "logs" / f"job-driver-{job_id}.log"

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def restart_dashboard(self) -> subprocess.Popen[bytes]:
        """Kill the dashboard and start another one; return its process."""
        dashboard = next(
            process for process in self.processes() if "dashboard/dashboard.py" in " ".join(command_of(process.pid)[:3])
        )
        command, environment = dashboard.cmdline(), dashboard.environ()
        dashboard.kill()
        # Nobody may reap it.
        wait_until(lambda: not command_of(dashboard.pid) or None, "the dashboard does not end")
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def processes(self) -> list[psutil.Process]:
        """Return the processes with the directory on their command line, and all that these have started."""
        found = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.directory) in " ".join(command_of(process.pid)):
                    # Ray's agents and workers rename themselves, and a job has a command line of its own.
                    found.update(dict.fromkeys([process, *process.children(recursive=True)]))
        return list(found)

    def stop(self) -> None:
        """Kill it, including what it starts meanwhile."""

        def is_gone() -> bool | None:
            processes = self.processes()
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            return not processes or None

        wait_until(is_gone, lambda: f"processes of Ray do not end: {self.processes()}")


@contextlib.contextmanager
def cluster(**options: Any) -> Iterator[Cluster]:
    """Run a :class:`Cluster`, which has the options, until the block ends, and delete its files."""
    # It contains Ray's sockets, and their paths must be short.
    directory = Path(tempfile.mkdtemp(prefix="rr-", dir="/tmp"))
    running = Cluster(directory, **options)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(directory, ignore_errors=True)
