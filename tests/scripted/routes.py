"""What an agent without faults answers."""

from __future__ import annotations

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
    job.stop_calls += 1
    running = not job.is_over
    if running:
        agent.stop(job)
    return Answer(200, {"stopped": running})


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


def _get(request: Request, value: object) -> Answer:
    return Answer(200, value) if request.method == "GET" else Refuse(405, "Method Not Allowed")


_ROUTES: dict[str, Callable[[ScriptedAgent, Request, list[str]], Answer | Play]] = {
    "jobs": _jobs,
    "nodes": _items("nodes", "node_id"),
    "tasks": _items("tasks", "task_id"),
    "serve_applications": _applications,
    "gpu_status": _fixed({"available": False, "gpus": []}),
    "health": _fixed({"status": "ok"}),
}
