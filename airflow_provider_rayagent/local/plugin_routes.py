"""The agent's routes for plugins, over a folder of them."""

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

    # The agent's client leaves the slash out.
    @routes.get("/plugin_releases/{lookup}", include_in_schema=False)
    @routes.get("/plugin_releases/{lookup}/", summary="One plugin, by name@version or by its name")
    async def get_plugin_release(lookup: str) -> Row:
        return (await asyncio.to_thread(runs.folder.find, lookup)).as_row()

    @routes.post("/plugin_releases/run_debug/", summary="Run an action of a plugin in any folder of this machine")
    async def run_debug_plugin_release(order: DebugRequest) -> Row:
        return await runs.run_debug(order)

    @routes.post("/plugin_releases/{lookup}/run/", summary="Run an action of a plugin as a job, at once or queued")
    async def run_plugin_release(lookup: str, order: RunRequest) -> Row:
        return await runs.run(lookup, order)

    return routes


async def answer_missing_gpus(_request: Request, error: Exception) -> JSONResponse:
    """Answer 503 in the words that clients know missing GPUs by."""
    answer = error.answer if isinstance(error, GpuUnavailableError) else {}
    return JSONResponse(answer, 503)
