"""A lightweight Ray head that the agent starts on free loopback ports, and stops together with all its processes."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import shutil
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError, RayHeadError
from airflow_provider_rayagent.local.files import last_lines, write_private
from airflow_provider_rayagent.local.keeper import keeper_command, last_process_log_lines
from airflow_provider_rayagent.local.ports import free_ports
from airflow_provider_rayagent.local.ray_token import AUTH_VARIABLES, MODE, TOKEN_PATH, RayToken
from airflow_provider_rayagent.services.ray_responses import release_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import BinaryIO

    from airflow_provider_rayagent.local.ray_api import RayDashboard

ADDRESS = "127.0.0.1"
ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Environment of all processes, including drivers, of a cluster with loopback addresses.

Without it Ray replaces 127.0.0.1 with the machine's own address, and listens on all interfaces (`get_node_ip_address`
in Ray's `_private/services.py`). This is Ray's default on macOS.
"""
TOKEN_SINCE = (2, 52)
"""The first version of Ray that has tokens."""
PROTECTED_SINCE = (2, 58)
"""The first version of Ray all of whose parts require the token: before, the replicas of Serve applications do not
(``serve/_private/replica.py``), and before 2.54 neither does the node agent (``dashboard/http_server_agent.py``)."""
# Just above Ray's minimum of 75 MiB (OBJECT_STORE_MINIMUM_MEMORY_BYTES in `_private/ray_constants.py`).
OBJECT_STORE_BYTES = 80_000_000
# More than TERM_GRACE and KILL_TIMEOUT of the keeper together, which needs so long in the worst case.
STOP_TIMEOUT = 20.0
# The path of a socket is limited to 107 characters. Ray appends about 68 to /ra-XXXXXXXX/ray.
_MAX_TEMP_ROOT_CHARS = 22


@dataclass(frozen=True)
class HeadPorts:
    """The ports that the agent chooses; Ray chooses the others."""

    gcs: int
    dashboard: int
    client: int
    agent: int
    runtime_env: int


def free_head_ports() -> HeadPorts:
    """Return ports that are currently free.

    :raises LocalAgentError: if there are none.
    """
    return HeadPorts(*free_ports(len(fields(HeadPorts)), ADDRESS))


def start_command(ports: HeadPorts, temp_dir: Path, num_cpus: int) -> list[str]:
    """Return the ``ray start`` command of a lightweight head.

    :param temp_dir: directory for Ray's files. Ray makes it writable for all users, so its parent must be private.
    """
    options = {
        "node-ip-address": ADDRESS,
        "port": ports.gcs,
        "dashboard-host": ADDRESS,
        "dashboard-port": ports.dashboard,
        # With 0, Ray 2.50 to 2.53 records a wrong port, and logs cannot be read.
        "dashboard-agent-listen-port": ports.agent,
        # Otherwise 10001 in each head of a machine (`scripts.py`).
        "ray-client-server-port": ports.client,
        # With 0, Ray's client server waits 30 s for the raylet to say which port it is. On a busy machine that is not
        # enough, and the head exits with it (`get_node_with_retry` in Ray's `_private/services.py`).
        "runtime-env-agent-port": ports.runtime_env,
        # With 0 the system chooses; Ray's default range, from 10002 to 19999, is the same for all heads of a machine.
        "min-worker-port": 0,
        "max-worker-port": 0,
        "num-cpus": num_cpus,
        "object-store-memory": OBJECT_STORE_BYTES,
        # One process less; but what tasks and actors print is then not in the job's log.
        "include-log-monitor": "false",
        "temp-dir": temp_dir,
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    # Not the command `ray`, which may be that of another Python.
    return [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats", *flags]


def head_environment(environment: Mapping[str, str], token_file: Path, start_timeout: float) -> dict[str, str]:
    """Return the environment of a head, which its jobs inherit.

    The head is a separate cluster on loopback with its own token; ``python`` in a job is this Python.

    :param start_timeout: seconds for which each part of its dashboard may start.
    """
    variables = {name: value for name, value in environment.items() if name not in ("RAY_ADDRESS", *AUTH_VARIABLES)}
    # Otherwise a head that is stopped, or that lost a process, drains connections for 30 s.
    variables["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
    # Otherwise Ray starts a worker for each CPU for its first driver, which is its own dashboard. Jobs cannot use them,
    # since each job has a runtime environment (``RegisterDriver`` in ``raylet/worker_pool.cc``).
    variables["RAY_prestart_worker_first_driver"] = "0"
    # Otherwise Ray gives up after 30 s (``dashboard/consts.py``), which a busy machine can exceed.
    variables["RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT"] = str(start_timeout)
    # The same for the dashboard as a whole, which has 60 s (``_private/ray_constants.py``).
    variables["RAY_DASHBOARD_STARTUP_TIMEOUT_S"] = str(math.ceil(start_timeout))
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), variables.get("PATH", os.defpath)])
    # The path, not the token: a job that prints its environment must not print the token to its log.
    return {**variables, **ON_LOOPBACK, MODE: "token", TOKEN_PATH: str(token_file)}


def requires_token(ray_version: str) -> bool:
    """Whether any part of a head requires its token."""
    return release_of(ray_version) >= TOKEN_SINCE


def describe_unprotected_parts(ray_version: str) -> str | None:
    """Return one line about a Ray with parts that do not require its token; ``None`` if all parts do."""
    if release_of(ray_version) >= PROTECTED_SINCE:
        return None
    newest = ".".join(map(str, PROTECTED_SINCE))
    return (
        f"Ray {ray_version} does not require a token everywhere: other users of this machine, or anyone who can reach "
        f"it while a Serve application is deployed, can run commands as you. Ray {newest} and newer require it."
    )


class RayHead:
    """A Ray head process and all of its descendants.

    :param num_cpus: CPUs that the head offers to jobs, tasks and actors, regardless of the machine.
    """

    def __init__(self, num_cpus: int) -> None:
        self._num_cpus = num_cpus
        self._ports = free_head_ports()
        self._keeper: asyncio.subprocess.Process | None = None
        self._directory: Path | None = None
        self._output: BinaryIO | None = None
        self.token = RayToken(secrets.token_hex(32), "the local agent")
        self.dashboard_url = f"http://{ADDRESS}:{self._ports.dashboard}"
        self.gcs_address = f"{ADDRESS}:{self._ports.gcs}"

    async def start(self, timeout: float) -> None:
        """Start the process; :meth:`wait_ready` waits until it is ready.

        :param timeout: seconds for which each part of its dashboard may start.
        """
        root = tempfile.gettempdir()
        # Only its owner can enter a directory created by mkdtemp.
        self._directory = Path(
            tempfile.mkdtemp(prefix="ra-", dir=root if len(root) <= _MAX_TEMP_ROOT_CHARS else "/tmp")  # noqa: S108
        )
        write_private(self.token_file, self.token.value)
        command = start_command(self._ports, self._directory / "ray", self._num_cpus)
        output_file = self._in_directory("head.log")
        with output_file.open("wb") as output:
            # Kept open: the last lines are read after the keeper has removed the file.
            self._output = output_file.open("rb")
            self._keeper = await asyncio.create_subprocess_exec(
                *keeper_command(self._directory, command),
                env=head_environment(os.environ, self.token_file, timeout),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                # Signals of a terminal, such as HUP at its end, must reach only the agent, which stops Ray.
                start_new_session=True,
            )

    async def wait_ready(self, ray: RayDashboard, timeout: float) -> None:
        """Wait until Ray responds and its node is alive.

        :param timeout: seconds.
        :raises RayHeadError: with the last lines of Ray's output, if Ray exited or was not ready in time.
        """
        problem = "it has not responded."

        async def become_ready() -> None:
            nonlocal problem
            while True:
                # During startup, Ray responds with 500 or 404 for parts of its dashboard that are not ready.
                try:
                    await ray.health()
                    if any(node.get("state") == "ALIVE" for node in await ray.list_nodes()):
                        return
                    problem = "none of its nodes is alive."
                except LocalAgentError as error:
                    problem = str(error)
                await asyncio.sleep(0.3)

        ended, ready = asyncio.ensure_future(self.wait_ended()), asyncio.ensure_future(become_ready())
        try:
            await asyncio.wait({ended, ready}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            # A head that responded may have exited since, and the other error has its last lines.
            if ready.done() and not ended.done():
                return ready.result()
            if ended.done():
                raise RayHeadError(f"Ray exited during startup. {self.format_last_lines()}")
            lines = self.format_last_lines(last_process_log_lines(self._in_directory(""), "dashboard"))
            raise RayHeadError(f"Ray was not ready after {timeout:g} s: {problem} {lines}")
        finally:
            ended.cancel()
            ready.cancel()

    async def wait_ended(self) -> None:
        """Wait until the head has exited for any reason."""
        if self._keeper is not None:
            await self._keeper.wait()

    async def stop(self) -> None:
        """Stop the head and all of its descendants, and remove its files."""
        if self._keeper is not None:
            if self._keeper.stdin is not None:
                # The keeper stops Ray when its input closes.
                self._keeper.stdin.close()
            try:
                await asyncio.wait_for(self._keeper.wait(), STOP_TIMEOUT)
            except asyncio.TimeoutError:
                self._keeper.kill()
                await self._keeper.wait()
        if self._output is not None:
            self._output.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def format_last_lines(self, more: Sequence[str] = ()) -> str:
        """Return the last lines of Ray's output, followed by ``more``, as text for an error message."""
        lines = last_lines(self._output, 20) if self._output else []
        return "\n  ".join(["Its last lines:", *([*lines, *more] or ["(none)"])])

    @property
    def token_file(self) -> Path:
        """The file with the token, which only its owner can read; it exists until the head is stopped."""
        return self._in_directory("token")

    def _in_directory(self, name: str) -> Path:
        if self._directory is None:
            raise RayHeadError("The Ray head was not started.")
        return self._directory / name
