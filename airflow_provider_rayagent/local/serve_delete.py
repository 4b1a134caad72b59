"""Delete one Serve application with a short-lived driver, since Ray's REST API can only delete all of them.

Run as ``python -m airflow_provider_rayagent.local.serve_delete`` with ``{"name", "gcs_address", "session_name",
"environment"}`` as JSON on standard input, where other processes cannot read the token in the environment. The driver
must run on a machine of the cluster, as Ray requires for all drivers.
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

from airflow_provider_rayagent.local.errors import RayAnswerError
from airflow_provider_rayagent.local.head import ON_LOOPBACK
from airflow_provider_rayagent.local.keeper import VITAL_NAMES, die_with_parent
from airflow_provider_rayagent.local.ray_api import MAX_WORDS
from airflow_provider_rayagent.local.ray_token import AUTH_VARIABLES
from airflow_provider_rayagent.services.application_wait import ServeStatus
from airflow_provider_rayagent.services.ray_answers import plain_words

if TYPE_CHECKING:
    from airflow_provider_rayagent.local.ray_api import RayDashboard, Row
    from airflow_provider_rayagent.local.ray_token import RayCredentials

TIMEOUT = 60.0
"""Seconds for the driver to connect and request the deletion."""
SETTLE = 10.0
"""Seconds until the application must be DELETING or gone."""

LOOPBACK = ("127.0.0.1", "::1")
"""Addresses that Ray treats as loopback (`is_localhost` in Ray's `network_util.cc`)."""

# Ray omits drivers in its internal namespaces from its list of jobs.
_NAMESPACE = "_ray_internal_rayagent_local"


class ServeDeleter:
    """Deletes applications; concurrent requests for the same application share one driver.

    :param gcs_address: the cluster's GCS address, ``host:port``; ``None``: that of a Ray process on this machine.
    """

    def __init__(self, ray: RayDashboard, gcs_address: str | None) -> None:
        self._ray = ray
        self._gcs_address = gcs_address
        self._running: dict[str, asyncio.Task[None]] = {}

    async def delete(self, name: str) -> None:
        """Return once the application is gone or DELETING; Ray may need a few more seconds to stop it.

        :raises RayAnswerError: 404 if there is no such application, 500 if Ray did not delete it.
        """
        if name not in self._running:
            task = asyncio.ensure_future(self._delete(name))
            self._running[name] = task
            task.add_done_callback(lambda _: self._running.pop(name, None))
        await asyncio.shield(self._running[name])

    async def close(self) -> None:
        """Stop the drivers that are still running."""
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
                raise RayAnswerError(f"Ray Serve accepted the deletion of {name!r} but did not start it.", 500)
            await asyncio.sleep(0.3)


def driver_environment(nodes: list[Row], credentials: RayCredentials) -> dict[str, str]:
    """Return the environment variables with which a driver joins the cluster of these nodes.

    :raises RayTokenError: if the cluster requires a token and the token cannot be used.
    """
    on_loopback = any(node.get("state") == "ALIVE" and node.get("node_ip") in LOOPBACK for node in nodes)
    return {**(ON_LOOPBACK if on_loopback else {}), **credentials.environment()}


def gcs_address_of(session_name: str) -> str | None:
    """Return the GCS address of the cluster with this session, ``None`` if none of its raylets runs on this machine.

    Processes of other users than root and the one of this process are ignored: anyone could start one with another
    address, to which the driver would send the token.
    """
    for process in psutil.process_iter(["cmdline", "name", "uids"]):
        uids, words = process.info["uids"], process.info["cmdline"] or []
        if process.info["name"] not in VITAL_NAMES or uids is None or uids.real not in (0, os.getuid()):
            continue
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
        sys.stderr.write("this Ray cluster has no process of yours or of root on this machine: use --gcs-address\n")
        return 1

    for variable in AUTH_VARIABLES:
        os.environ.pop(variable, None)
    os.environ.update(order["environment"])
    # Ray reads the variables on import.
    import ray
    from ray import serve

    ray.init(address=address, namespace=_NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    serve.delete(order["name"], _blocking=False)
    # The controller handles calls in order, so it has accepted the deletion once it responds to this one.
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
        raise RayAnswerError(f"Ray Serve did not accept the deletion within {TIMEOUT:g} s.", 500) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise RayAnswerError(f"Ray Serve failed: {plain_words(errors.decode('utf-8', 'replace'), MAX_WORDS)}", 500)


if __name__ == "__main__":
    sys.exit(main())
