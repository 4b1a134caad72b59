"""Runs of plugins: from a request to a job in the queue."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_rayagent.client.answers import GPU_UNAVAILABLE
from airflow_provider_rayagent.client.validation import validate_id
from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError

if TYPE_CHECKING:
    from airflow_provider_rayagent.local.jobqueue import JobQueue
    from airflow_provider_rayagent.local.plugins import Plugin, PluginFolder
    from airflow_provider_rayagent.local.ray_api import RayDashboard, Row

PARAMS, ACTION, JOB_ID, LANGUAGE = "RAYAGENT_PARAMS", "RAYAGENT_ACTION", "RAYAGENT_JOB_ID", "RAYAGENT_LANGUAGE"
"""Environment variables of a plugin's command."""
MAX_PARAMS = 30_000
"""Longest params in bytes of JSON: Ray hands the environment over in one argument of a command line."""


class GpuUnavailableError(LocalAgentError):
    """The cluster has not the GPUs that an action needs.

    :param facts: what the answer tells besides the message.
    """

    def __init__(self, message: str, facts: Row) -> None:
        super().__init__(message)
        self.answer: Row = {"message": message, "error_type": GPU_UNAVAILABLE, **facts}


class RunRequest(BaseModel):
    """A run of a plugin."""

    model_config = ConfigDict(extra="forbid")

    action: str
    params: dict[str, Any] = Field(default={}, description=f"Reaches the command as JSON in {PARAMS}.")
    requirements: list[str] = Field(default=[], description="pip requirements; not in the local agent.")
    job_id: str | None = Field(default=None, description="Id of the caller's choosing; one is made up otherwise.")
    language: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_-]{1,20}$", description=f"Reaches the command in {LANGUAGE}."
    )


class DebugRequest(RunRequest):
    """A run of a plugin from its source."""

    plugin_path: str | None = Field(default=None, description="Folder with a manifest, on the agent's machine.")
    config: dict[str, Any] | None = Field(default=None, description="Not in the local agent.")
    modules: dict[str, str] | None = Field(default=None, description="Not in the local agent.")


class PluginRuns:
    """Runs the plugins of a folder.

    :param folder: has the plugins.
    :param queue: takes the jobs.
    """

    def __init__(self, folder: PluginFolder, queue: JobQueue, ray: RayDashboard) -> None:
        self.folder = folder
        self._queue = queue
        self._ray = ray

    async def run(self, lookup: str, order: RunRequest) -> Row:
        """Start an action of a plugin of the folder; return which job it is, and whether it waits.

        :raises LocalAgentError: if that can't be done.
        """
        return await self._start(await asyncio.to_thread(self.folder.find, lookup), order)

    async def run_debug(self, order: DebugRequest) -> Row:
        """Start an action of a plugin in any folder of this machine, as :meth:`run` does.

        :raises LocalAgentError: if that can't be done.
        """
        for name in ("config", "modules"):
            if getattr(order, name) is not None:
                raise RayAnswerError(f"{name}: the local agent runs a plugin as it is in its folder.", 501)
        if order.plugin_path is None:
            raise RayAnswerError("plugin_path: the local agent needs the path of the plugin's folder.", 400)
        return await self._start(await asyncio.to_thread(self.folder.at, order.plugin_path), order)

    async def _start(self, plugin: Plugin, order: RunRequest) -> Row:
        if order.requirements:
            raise RayAnswerError("requirements: the local agent installs nothing; Ray's own Python runs the job.", 501)
        request = submission(plugin, order)
        await self._demand_gpus(plugin, order.action)
        waits = await self._queue.add(request)
        job_id = request["submission_id"]
        status = "QUEUED" if waits else "PENDING"
        return {"job_id": job_id, "submission_id": job_id, "status": status, **request["metadata"]}

    async def _demand_gpus(self, plugin: Plugin, action: str) -> None:
        wanted = plugin.action(action).num_gpus or 0
        if not wanted:
            return
        nodes = [node for node in await self._ray.list_nodes() if node.get("state") == "ALIVE"]
        most = max((float((node.get("resources_total") or {}).get("GPU", 0)) for node in nodes), default=0.0)
        if wanted > most:
            raise GpuUnavailableError(
                f"{plugin.lookup} {action} needs {wanted:g} GPUs on one node; the most that a node has is {most:g}.",
                {"requested_gpus": wanted, "gpus_of_largest_node": most},
            )


def submission(plugin: Plugin, order: RunRequest) -> Row:
    """Return the fields of Ray's submit call for a run.

    :raises RayAnswerError: if there is no such action, or the params are too long.
    :raises RayAgentInputError: for a bad job id.
    """
    action = plugin.action(order.action)
    name = plugin.manifest.name
    job_id = f"{name}-{secrets.token_hex(8)}" if order.job_id is None else validate_id(order.job_id, "job")
    # Ray expands $NAME in the values of environment variables.
    params = json.dumps(order.params).replace("$", "\\u0024")
    if len(params) > MAX_PARAMS:
        raise RayAnswerError(f"params: {len(params)} bytes of JSON; the local agent carries up to {MAX_PARAMS}.", 413)
    env_vars = {PARAMS: params, ACTION: order.action, JOB_ID: job_id}
    if order.language is not None:
        env_vars[LANGUAGE] = order.language
    request: Row = {
        "submission_id": job_id,
        "entrypoint": plugin.entrypoint(order.action),
        "metadata": {"plugin": name, "version": plugin.manifest.version, "action": order.action},
        "runtime_env": {"env_vars": env_vars},
        "entrypoint_num_cpus": action.num_cpus,
        "entrypoint_num_gpus": action.num_gpus,
    }
    return {key: value for key, value in request.items() if value is not None}
