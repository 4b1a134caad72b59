"""A light Ray head of the agent's own: started on free loopback ports, ended with everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import RayHeadError, RayUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_rayagent.local.ray_api import RayDashboard

# Ray silently replaces 127.0.0.1 as a node's address by the machine's own.
NODE_ADDRESS = "127.0.0.2"
DASHBOARD_HOST = "127.0.0.1"
OBJECT_STORE_BYTES = 80_000_000
STOP_PATIENCE = 20.0
# Ray's sockets lie some 70 characters below the directory and may have a path of 107.
_LONGEST_TEMP_ROOT = 25


@dataclass(frozen=True)
class HeadPorts:
    """Ports that the agent chooses; Ray chooses the others."""

    gcs: int
    dashboard: int
    client: int


def free_ports() -> HeadPorts:
    """Return ports that nobody listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind((NODE_ADDRESS, 0))
        return HeadPorts(*(each.getsockname()[1] for each in sockets))


def start_command(ports: HeadPorts, temp_dir: Path, num_cpus: int) -> list[str]:
    """Return the ``ray start`` command of a light head."""
    options = {
        "node-ip-address": NODE_ADDRESS,
        "port": ports.gcs,
        "dashboard-host": DASHBOARD_HOST,
        "dashboard-port": ports.dashboard,
        "dashboard-agent-listen-port": 0,
        "ray-client-server-port": ports.client,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "num-cpus": num_cpus,
        "object-store-memory": OBJECT_STORE_BYTES,
        "include-log-monitor": "false",
        "temp-dir": temp_dir,
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats", *flags]


def head_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the head: its own cluster, and this Python first, for jobs that say ``python``."""
    kept = {name: value for name, value in environment.items() if name not in ("RAY_ADDRESS", "RAY_AUTH_MODE")}
    # Else a head whose parts died, or that is told to end, waits 30 s for traffic to go elsewhere.
    kept["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return kept


class RayHead:
    """A Ray head process and all that descends from it.

    :param num_cpus: CPUs that the head offers to jobs, tasks and actors; it need not be what the machine has.
    """

    def __init__(self, num_cpus: int) -> None:
        self._num_cpus = num_cpus
        self._ports = free_ports()
        self._keeper: asyncio.subprocess.Process | None = None
        self._temp_dir: Path | None = None
        self.dashboard_url = f"http://{DASHBOARD_HOST}:{self._ports.dashboard}"
        self.gcs_address = f"{NODE_ADDRESS}:{self._ports.gcs}"

    async def start(self) -> None:
        """Start the process; it is not ready before :meth:`wait_ready` returns."""
        root = tempfile.gettempdir()
        self._temp_dir = Path(
            tempfile.mkdtemp(prefix="ra-", dir=root if len(root) <= _LONGEST_TEMP_ROOT else "/tmp")  # noqa: S108
        )
        command = start_command(self._ports, self._temp_dir, self._num_cpus)
        with self._output.open("wb") as output:
            self._keeper = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "airflow_provider_rayagent.local.keeper",
                str(self._temp_dir),
                *command,
                env=head_environment(os.environ),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def wait_ready(self, ray: RayDashboard, timeout: float) -> None:
        """Wait until Ray answers and its node is alive.

        :param timeout: seconds.
        :raises RayHeadError: with Ray's last lines, if Ray ended or did not answer in time.
        """
        with self._output.open("rb") as output:
            ended = asyncio.ensure_future(self.wait_ended())
            ready = asyncio.ensure_future(_answering(ray))
            try:
                await asyncio.wait({ended, ready}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if ready.done() and not ended.done():
                    return
                what = "ended while it started" if ended.done() else f"was not ready after {timeout:g} s"
                raise RayHeadError(f"Ray {what}. Its last lines:\n{_last_lines(output.read())}")
            finally:
                ended.cancel()
                ready.cancel()

    async def wait_ended(self) -> None:
        """Wait until the head has ended, for whatever reason."""
        if self._keeper is not None:
            await self._keeper.wait()

    async def stop(self) -> None:
        """End the head and everything that descends from it, and remove its files."""
        if self._keeper is not None:
            if self._keeper.stdin is not None:
                self._keeper.stdin.close()
            try:
                await asyncio.wait_for(self._keeper.wait(), STOP_PATIENCE)
            except asyncio.TimeoutError:
                self._keeper.kill()
                await self._keeper.wait()
        if self._temp_dir is not None:
            shutil.rmtree(self._temp_dir, ignore_errors=True)

    @property
    def _output(self) -> Path:
        if self._temp_dir is None:
            raise RayHeadError("The Ray head was not started.")
        return self._temp_dir / "head.log"


async def _answering(ray: RayDashboard) -> None:
    while True:
        with contextlib.suppress(RayUnavailableError):
            await ray.health()
            if any(node.get("state") == "ALIVE" for node in await ray.list_nodes()):
                return
        await asyncio.sleep(0.3)


def _last_lines(output: bytes, count: int = 15) -> str:
    lines = output.decode("utf-8", "replace").splitlines()[-count:]
    return "\n".join(f"  {line}" for line in lines) or "  (none)"
