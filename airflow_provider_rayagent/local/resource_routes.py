"""The agent's routes for the cluster's resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_rayagent.services.cluster_resources import replicas_that_fit
from airflow_provider_rayagent.services.ray_service import RAY
from airflow_provider_rayagent.services.service import ResourceKind  # noqa: TC001 - pydantic needs it at runtime

if TYPE_CHECKING:
    from airflow_provider_rayagent.local.jobqueue import JobQueue
    from airflow_provider_rayagent.local.ray_api import RayDashboard


class FeasibilityRequest(BaseModel):
    """What a job, or each replica of a Serve application, requires."""

    model_config = ConfigDict(extra="forbid")

    kind: ResourceKind
    num_cpus: float = Field(ge=0, allow_inf_nan=False)
    num_gpus: float = Field(0.0, ge=0, allow_inf_nan=False)
    memory_bytes: int | None = Field(None, ge=0)
    replicas: int = Field(1, ge=1)
    metadata: dict[str, Any] = {}


def resource_routes(ray: RayDashboard, queue: JobQueue) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/resources")

    # The agent's ``use_cache`` is accepted and has no effect: there is no cache.
    @routes.get("/cluster/", summary="Resources of the cluster in total and by node")
    async def get_cluster_resources() -> JSONResponse:
        return JSONResponse(await ray.run(RAY.get_cluster_resources()))

    @routes.post("/feasibility/", summary="Whether the replicas would fit on the nodes now, each on one node")
    async def check_feasibility(request: FeasibilityRequest) -> JSONResponse:
        nodes = (await ray.run(RAY.get_capacity()))["nodes"]
        required = {"cpu": request.num_cpus, "gpu": request.num_gpus, "memory": float(request.memory_bytes or 0)}
        now, idle = (replicas_that_fit(nodes, required, request.replicas, part) for part in ("available", "total"))
        reason = f"Of {request.replicas} replicas, {now} fit now and {idle} if the cluster is idle."
        return JSONResponse({"feasible": now == request.replicas, "reason": reason})

    @routes.get("/policy/", summary="The limits of this agent, which has no gatekeeper")
    async def get_gatekeeping_policy() -> JSONResponse:
        # ``0``: the agent has no such limit.
        return JSONResponse(
            {
                "max_concurrent_jobs": queue.limit,
                "max_concurrent_ray_jobs": 0,
                "gatekeeping_enabled": False,
                "resource_cache_ttl_seconds": 0.0,
            }
        )

    return routes
