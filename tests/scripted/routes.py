"""What an agent without faults answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.scripted.actions import Drop, Follow, FullText, Play
from tests.scripted.answers import Answer, Redirect, Refuse
from tests.scripted.exchange import Open
from tests.scripted.messages import Complete

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted.job import Application, Job
    from tests.scripted.link import Request
    from tests.scripted.server import ScriptedAgent

WELL_WS = Play(Follow(), Complete(), Drop())
"""The whole log, ``complete``, and the end of the connection without a close frame, as FastAPI does it."""

WELL_SSE = Play(Follow(), Complete())

POLICY = {"max_concurrent_jobs": 3, "gatekeeping_enabled": True, "cpu_max_utilization_percent": 90.0}
GPU_LOAD = {"utilization_gpu": 43.0, "memory_used": 20_480, "memory_total": 81_920}
"""Of each GPU, in percent and MB."""
_NOT_FOUND = Refuse(404)


def usual(agent: ScriptedAgent, request: Request) -> Answer | Play:
    """Return what the request meets where the script says nothing else."""
    if agent.token is not None and request.headers.get("authorization") != agent.token:
        return Refuse(403 if request.method == "WS" else 401, "Invalid token")
    if not request.path.endswith("/"):
        return Refuse(403) if request.method == "WS" else Redirect(f"{agent.url}{request.path}/")
    first, *rest = request.parts
    answer = _ROUTES.get(first)
    return answer(agent, request, rest) if answer is not None else _NOT_FOUND


def _jobs(agent: ScriptedAgent, request: Request, rest: list[str]) -> Answer | Play:
    if not rest:
        return _get(request, [job.as_details() for job in agent.jobs.values()])
    job = agent.jobs.get(rest[0])
    if job is None:
        return Answer(404, f"Job {rest[0]} does not exist") if rest[1:] == ["stop"] else _NOT_FOUND
    if rest[1:] == ["stop"]:
        return _stop(agent, request, job)
    if rest[1:] == ["logs"]:
        return _logs(request, job, Play(FullText()) if request.method == "GET" else WELL_WS)
    if rest[1:] == ["logs", "stream"]:
        return _logs(request, job, WELL_SSE)
    if rest[1:]:
        return _NOT_FOUND
    if request.method == "GET":
        job.poll()
    return _get(request, job.as_details())


def _logs(request: Request, job: Job, play: Play) -> Answer | Play:
    if request.method not in ("GET", "WS"):
        return Refuse(405)
    if job.type == "DRIVER":
        return Refuse(400, "Can only get logs of submission type jobs")
    if job.text_as_json and request.method == "GET" and request.parts[-1] == "logs":
        return Play(Open(content_type="application/json"), FullText(as_json=True))
    return play


def _stop(agent: ScriptedAgent, request: Request, job: Job) -> Answer | Play:
    if request.method != "POST":
        return Refuse(405)
    if job.type == "DRIVER":
        return Refuse(400, "Can only stop submission type jobs")
    return Answer(200, {"stopped": agent.stop(job)})


def _applications(agent: ScriptedAgent, request: Request, rest: list[str]) -> Answer | Play:
    present: dict[str, Application] = {name: app for name, app in agent.applications.items() if not app.is_gone}
    if not rest:
        return _get(request, [app.as_details() for app in present.values()])
    app = present.get("/".join(rest))
    if request.method == "DELETE":
        if app is not None:
            app.delete()
        return Answer(204, None)
    return _get(request, app.as_details()) if app is not None else _NOT_FOUND


def _items(name: str, key: str) -> Callable[[ScriptedAgent, Request, list[str]], Answer | Play]:
    def answer(agent: ScriptedAgent, request: Request, rest: list[str]) -> Answer | Play:
        items: list[dict[str, Any]] = getattr(agent, name)
        if not rest:
            return _get(request, items)
        found = [item for item in items if item[key] == "/".join(rest)]
        return _get(request, found[0]) if found else _NOT_FOUND

    return answer


def _fixed(value: object) -> Callable[[ScriptedAgent, Request, list[str]], Answer | Play]:
    return lambda agent, request, rest: _NOT_FOUND if rest else _get(request, value)


def _resources(agent: ScriptedAgent, request: Request, rest: list[str]) -> Answer | Play:
    match request.method, rest:
        case "GET", ["cluster"]:
            return Answer(200, snapshot(agent))
        case "GET", ["policy"]:
            return Answer(200, POLICY)
        case "POST", ["feasibility"]:
            return Answer(200, {"allowed": True, "asked": json.loads(request.body)})
    return _NOT_FOUND


def snapshot(agent: ScriptedAgent) -> dict[str, Any]:
    """Return the resources of the cluster, with the fields that the agent's client knows."""

    def counter(nodes: list[dict[str, Any]], name: str) -> dict[str, float]:
        total = sum(node.get("resources_total", {}).get(name, 0) for node in nodes)
        used = sum(agent.used.get(node["node_id"], {}).get(name, 0) for node in nodes)
        return {"total": total, "used": used, "available": total - used}

    def row(node: dict[str, Any]) -> dict[str, Any]:
        types = [name.partition(":")[2] for name in node.get("resources_total", {}) if "accelerator_type:" in name]
        gpus = int(node.get("resources_total", {}).get("GPU", 0))
        return {
            "node_id": node["node_id"],
            "host_name": None,
            "ip": node.get("node_ip"),
            "is_head_node": False,
            "state": node["state"],
            "accelerator_type": types[0] if types else None,
            "cpu": counter([node], "CPU"),
            "memory": counter([node], "memory"),
            "gpus": [{"index": index, "name": "GPU", "uuid": f"GPU-{index}", **GPU_LOAD} for index in range(gpus)],
        }

    alive = [node for node in agent.nodes if node["state"] == "ALIVE"]
    gpu = counter(alive, "GPU")
    return {
        "collected_at": "2026-01-31T00:00:00Z",
        "stale": False,
        "cpu": counter(alive, "CPU"),
        "memory": counter(alive, "memory"),
        "gpu": {"total_gpus": int(gpu["total"]), "available_gpus": int(gpu["available"]), "avg_utilization": 0.0},
        "object_store": None,
        "running_jobs": sum(job.status == "RUNNING" for job in agent.jobs.values()),
        "total_serve_replicas": 0,
        "node_counts": {"total": len(agent.nodes), "alive": len(alive), "dead": len(agent.nodes) - len(alive)},
        "nodes": [row(node) for node in agent.nodes],
    }


def _get(request: Request, value: object) -> Answer:
    return Answer(200, value) if request.method == "GET" else Refuse(405, "Method Not Allowed")


_ROUTES: dict[str, Callable[[ScriptedAgent, Request, list[str]], Answer | Play]] = {
    "jobs": _jobs,
    "nodes": _items("nodes", "node_id"),
    "tasks": _items("tasks", "task_id"),
    "serve_applications": _applications,
    "gpu_status": _fixed({"available": False, "gpus": []}),
    "resources": _resources,
    "health": _fixed({"status": "ok"}),
}
