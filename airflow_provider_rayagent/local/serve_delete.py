"""Delete one Serve application. Ray's REST interface deletes only all of them, so a short-lived driver does it.

Run as ``python -m airflow_provider_rayagent.local.serve_delete``; standard input has ``{"name", "gcs_address",
"session_name", "environment"}`` as JSON, where no other process can read the token that the environment holds. The
driver must run on a machine of the cluster, as Ray demands of every driver.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from airflow_provider_rayagent.client.applications import ServeStatus
from airflow_provider_rayagent.client.ray_answers import plain_words
from airflow_provider_rayagent.local.errors import RayAnswerError
from airflow_provider_rayagent.local.head import ON_LOOPBACK
from airflow_provider_rayagent.local.keeper import die_with_parent
from airflow_provider_rayagent.local.ray_api import MAX_WORDS
from airflow_provider_rayagent.local.ray_token import AUTH_VARIABLES

if TYPE_CHECKING:
    from airflow_provider_rayagent.local.ray_api import RayDashboard, Row
    from airflow_provider_rayagent.local.ray_token import RayCredentials

TIMEOUT = 60.0
"""Seconds for the driver to connect and pass the deletion on."""
SETTLE = 10.0
"""Seconds for the application to show that it is being deleted."""

LOOPBACK = ("127.0.0.1", "::1")
"""What Ray takes for loopback addresses (`is_localhost` in Ray's `network_util.cc`)."""

# Ray leaves drivers of its own namespaces out of its list of jobs.
_NAMESPACE = "_ray_internal_rayagent_local"


class ServeDeleter:
    """Deletes applications, each once at a time.

    :param gcs_address: the cluster's own address, ``host:port``; ``None``: that of a Ray process on this machine.
    """

    def __init__(self, ray: RayDashboard, gcs_address: str | None) -> None:
        self._ray = ray
        self._gcs_address = gcs_address
        self._running: dict[str, asyncio.Task[None]] = {}

    async def delete(self, name: str) -> None:
        """Return once the application is gone or DELETING; it may take Ray some seconds more to end it.

        :raises RayAnswerError: 404 if there is no such application, 500 if Ray did not delete it.
        """
        if name not in self._running:
            task = asyncio.ensure_future(self._delete(name))
            self._running[name] = task
            task.add_done_callback(lambda _: self._running.pop(name, None))
        await asyncio.shield(self._running[name])

    async def close(self) -> None:
        """End the drivers that still run."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _delete(self, name: str) -> None:
        application = await self._ray.get_serve_application(name)
        if application is None:
            raise RayAnswerError(f"There is no Serve application {name!r}.", 404)
        if _going(application):
            return
        version, nodes = await asyncio.gather(self._ray.version(), self._ray.list_nodes())
        await _run_driver(
            {
                "name": name,
                "gcs_address": self._gcs_address,
                "session_name": version.get("session_name"),
                "environment": driver_environment(nodes, self._ray.credentials),
            }
        )
        deadline = asyncio.get_running_loop().time() + SETTLE
        while not _going(await self._ray.get_serve_application(name)):
            if asyncio.get_running_loop().time() > deadline:
                raise RayAnswerError(f"Ray Serve took the deletion of {name!r} but did not begin it.", 500)
            await asyncio.sleep(0.3)


def driver_environment(nodes: list[Row], credentials: RayCredentials) -> dict[str, str]:
    """Return what a driver needs in its environment to join the cluster of these nodes.

    :raises RayTokenError: if the cluster asks for a token and the one that is found cannot be used.
    """
    on_loopback = any(node.get("state") == "ALIVE" and node.get("node_ip") in LOOPBACK for node in nodes)
    return {**(ON_LOOPBACK if on_loopback else {}), **credentials.environment()}


def gcs_address_of(session_name: str) -> str | None:
    """Return the address of the cluster with this session, if a raylet of it runs on this machine."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(session_name in word for word in words):
            for word in words:
                if found := re.fullmatch(r"--gcs-address=(\S+:\d+)", word):
                    return found.group(1)
    return None


def main() -> int:
    """Delete the application named on standard input; return the exit code."""
    die_with_parent(signal.SIGKILL)
    order = json.load(sys.stdin)
    address = order["gcs_address"] or gcs_address_of(order["session_name"])
    if address is None:
        sys.stderr.write("no process of this Ray cluster runs on this machine, so no driver can join it\n")
        return 1

    for variable in AUTH_VARIABLES:
        os.environ.pop(variable, None)
    os.environ.update(order["environment"])
    # Ray reads them when it is imported.
    import ray
    from ray import serve

    ray.init(address=address, namespace=_NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    serve.delete(order["name"], _blocking=False)
    # The controller answers in order, so with this answer it has taken the deletion.
    serve.status()
    ray.shutdown()
    return 0


def _going(application: Row | None) -> bool:
    return application is None or application.get("status") == ServeStatus.DELETING.value


async def _run_driver(order: dict[str, Any]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "airflow_provider_rayagent.local.serve_delete",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, errors = await asyncio.wait_for(process.communicate(json.dumps(order).encode()), TIMEOUT)
    except asyncio.TimeoutError as error:
        raise RayAnswerError(f"Ray Serve did not take the deletion within {TIMEOUT:g} s.", 500) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise RayAnswerError(f"Ray Serve failed: {plain_words(errors.decode('utf-8', 'replace'), MAX_WORDS)}", 500)


if __name__ == "__main__":
    sys.exit(main())
