"""A light Ray head of the agent's own: started on free loopback ports, ended with everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError, RayHeadError
from airflow_provider_rayagent.local.files import last_lines, write_private
from airflow_provider_rayagent.local.keeper import keeper_command, process_log_lines
from airflow_provider_rayagent.local.ray_token import AUTH_VARIABLES, MODE, TOKEN_PATH, RayToken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import BinaryIO

    from airflow_provider_rayagent.local.ray_api import RayDashboard

ADDRESS = "127.0.0.1"
ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Environment of every process of a cluster whose nodes have loopback addresses, drivers included.

Without it Ray replaces 127.0.0.1 by the machine's own address, and listens on all interfaces (`get_node_ip_address` in
Ray's `_private/services.py`). It is how Ray runs on macOS.
"""
STANDS_OPEN = (
    ((2, 52), "anywhere: every user of this machine can run commands as you"),
    ((2, 54), "at its node agent: every user of this machine can run commands as you"),
    (
        (2, 58),
        "at the replicas of Serve applications, which listen on all interfaces: while one is deployed, whoever can "
        "reach this machine can run commands as you",
    ),
)
"""What a head with a token leaves open in versions of Ray before these.

Ray's `dashboard/http_server_agent.py` checks tokens from 2.54 on; its `serve/_private/replica.py` listens from 2.54 on
and checks tokens from 2.58 on.
"""
OBJECT_STORE_BYTES = 80_000_000
STOP_PATIENCE = 20.0
# A socket's path may have 107 characters. The longest is /ra-XXXXXXXX/ray with some 68 of Ray's own below it.
_LONGEST_TEMP_ROOT = 22


@dataclass(frozen=True)
class HeadPorts:
    """Ports that the agent chooses; Ray chooses the others."""

    gcs: int
    dashboard: int
    client: int
    agent: int


def free_ports() -> HeadPorts:
    """Return ports that nobody listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in fields(HeadPorts)]
        for each in sockets:
            each.bind((ADDRESS, 0))
        return HeadPorts(*(each.getsockname()[1] for each in sockets))


def start_command(ports: HeadPorts, temp_dir: Path, num_cpus: int) -> list[str]:
    """Return the ``ray start`` command of a light head.

    :param temp_dir: for Ray's files. Ray lets every user write there: its parent must keep them out.
    """
    options = {
        "node-ip-address": ADDRESS,
        "port": ports.gcs,
        "dashboard-host": ADDRESS,
        "dashboard-port": ports.dashboard,
        # With 0, Ray 2.50 to 2.53 records a wrong port, and no log can be read.
        "dashboard-agent-listen-port": ports.agent,
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


def head_environment(environment: Mapping[str, str], token_file: Path) -> dict[str, str]:
    """Return the environment of a head, which its jobs inherit.

    It is a cluster of its own, on loopback, with its own token, and this Python is the first for jobs that say
    ``python``.
    """
    kept = {name: value for name, value in environment.items() if name not in ("RAY_ADDRESS", *AUTH_VARIABLES)}
    # Else a head whose parts died, or that is told to end, waits 30 s for traffic to go elsewhere.
    kept["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    # A path, not the token: whoever prints the environment in a job's log must not print the token.
    return {**kept, **ON_LOOPBACK, MODE: "token", TOKEN_PATH: str(token_file)}


def what_stands_open(ray_version: str) -> str | None:
    """Return one line on what anybody can use of a head, though it has a token; ``None`` if that is nothing."""
    found = re.match(r"(\d+)\.(\d+)", ray_version)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    where = next((where for before, where in STANDS_OPEN if version < before), None)
    newest = ".".join(map(str, STANDS_OPEN[-1][0]))
    return where and f"Ray {ray_version} asks for no token {where}. Ray {newest} and newer ask for it everywhere."


class RayHead:
    """A Ray head process and all that descends from it.

    :param num_cpus: CPUs that the head offers to jobs, tasks and actors; it need not be what the machine has.
    :param info_file: the agent's, which is removed with the head if the agent is killed.
    """

    def __init__(self, num_cpus: int, info_file: Path | None = None) -> None:
        self._num_cpus = num_cpus
        self._info_file = info_file
        self._ports = free_ports()
        self._keeper: asyncio.subprocess.Process | None = None
        self._directory: Path | None = None
        self._printed: BinaryIO | None = None
        self.token = RayToken(secrets.token_hex(32), "the local agent")
        self.dashboard_url = f"http://{ADDRESS}:{self._ports.dashboard}"
        self.gcs_address = f"{ADDRESS}:{self._ports.gcs}"

    async def start(self) -> None:
        """Start the process; it is not ready before :meth:`wait_ready` returns."""
        root = tempfile.gettempdir()
        # Only its owner may enter a directory of mkdtemp.
        self._directory = Path(
            tempfile.mkdtemp(prefix="ra-", dir=root if len(root) <= _LONGEST_TEMP_ROOT else "/tmp")  # noqa: S108
        )
        write_private(self.token_file, self.token.value)
        command = start_command(self._ports, self._directory / "ray", self._num_cpus)
        printed = self._in_directory("head.log")
        with printed.open("wb") as output:
            # Its last lines are asked for when the keeper has removed it.
            self._printed = printed.open("rb")
            self._keeper = await asyncio.create_subprocess_exec(
                *keeper_command(self._info_file, self._directory, command),
                env=head_environment(os.environ, self.token_file),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def wait_ready(self, ray: RayDashboard, timeout: float) -> None:
        """Wait until Ray answers and its node is alive.

        :param timeout: seconds.
        :raises RayHeadError: with what Ray has said last, if it ended or did not answer in time.
        """
        ended = asyncio.ensure_future(self.wait_ended())
        answering = _Answering(ray)
        ready = asyncio.ensure_future(answering.wait())
        try:
            await asyncio.wait({ended, ready}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if ready.done() and not ended.done():
                return ready.result()
            if ended.done():
                raise RayHeadError(f"Ray ended while it started. {self.last_words()}")
            dashboard = process_log_lines(self._in_directory(""), "dashboard")
            raise RayHeadError(f"Ray was not ready after {timeout:g} s: {answering.fault} {self.last_words(dashboard)}")
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
        if self._printed is not None:
            self._printed.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def last_words(self, more: Sequence[str] = ()) -> str:
        """Return a sentence with the last lines that Ray has printed, and ``more`` after them."""
        printed = last_lines(self._printed, 20) if self._printed else []
        return "\n  ".join(["Its last lines:", *([*printed, *more] or ["(none)"])])

    @property
    def token_file(self) -> Path:
        """The file with the token, which only its owner may read; it is there until the head is stopped."""
        return self._in_directory("token")

    def _in_directory(self, name: str) -> Path:
        if self._directory is None:
            raise RayHeadError("The Ray head was not started.")
        return self._directory / name


class _Answering:
    """Asks a Ray that starts until it answers.

    :ivar fault: what is wrong with its last answer.
    """

    def __init__(self, ray: RayDashboard) -> None:
        self._ray = ray
        self.fault = "it has not answered."

    async def wait(self) -> None:
        """Wait until Ray answers and a node is alive.

        An error is no answer: while it starts, Ray says 500 and 404 for parts of its dashboard that are not there yet.
        """
        while True:
            try:
                await self._ray.health()
                if any(node.get("state") == "ALIVE" for node in await self._ray.list_nodes()):
                    return
                self.fault = "it has no node that is alive."
            except LocalAgentError as error:
                self.fault = str(error)
            await asyncio.sleep(0.3)
