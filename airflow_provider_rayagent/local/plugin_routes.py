"""The agent's routes for plugins."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from airflow_provider_rayagent.local.plugin_runs import DebugRequest, GpuUnavailableError, PluginRuns, RunRequest

if TYPE_CHECKING:
    from fastapi import Request

Row = dict[str, Any]


def plugin_routes(runs: PluginRuns) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/plugin_releases/", summary="The plugins of the folder")
    async def list_plugin_releases() -> Row:
        plugins = await asyncio.to_thread(runs.folder.read)
        rows = [plugin.as_row() for plugin in plugins.usable]
        faults = [{"name": name, "detail": fault} for name, fault in plugins.faults.items()]
        listed = {"count": len(rows), "next": None, "previous": None, "results": rows}
        return {**listed, "faults": faults} if faults else listed

    # The agent's client omits the slash.
    @routes.get("/plugin_releases/{lookup}", include_in_schema=False)
    @routes.get("/plugin_releases/{lookup}/", summary="One plugin, by name@version or name")
    async def get_plugin_release(lookup: str) -> Row:
        return (await asyncio.to_thread(runs.folder.find, lookup)).as_row()

    @routes.post("/plugin_releases/run_debug/", summary="Run an action of a plugin in any folder on this machine")
    async def run_debug_plugin_release(run_request: DebugRequest) -> Row:
        return await runs.run_debug(run_request)

    @routes.post(
        "/plugin_releases/{lookup}/run/",
        summary="Run an action of a plugin as a job, which may have to wait in the queue",
    )
    async def run_plugin_release(lookup: str, run_request: RunRequest) -> Row:
        return await runs.run(lookup, run_request)

    return routes


async def missing_gpus_response(_request: Request, error: Exception) -> JSONResponse:
    """Respond with 503 and the body by which clients recognize missing GPUs."""
    body = error.body if isinstance(error, GpuUnavailableError) else {}
    return JSONResponse(body, 503)
