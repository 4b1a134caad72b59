"""Ray's own dashboard: its requests as those of the agent that they stand for, and its answers where they differ.

A request of Ray's is given the agent's path right after it was read, so that scripts are keyed by the same routes and
jobs serve the same plays. Routes that the agent does not have keep Ray's path (``GET api/version``).

Texts of errors are those of Ray 2.60.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from tests.scripted.actions import FullText, Play
from tests.scripted.answers import Answer
from tests.scripted.exchange import Open
from tests.scripted.job import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.scripted.link import Request
    from tests.scripted.server import ScriptedAgent

TRACEBACK = """Traceback (most recent call last):
  File "/opt/ray/dashboard/modules/job/job_head.py", line 419, in submit_job
    resp = await job_agent_client.submit_job_internal(submit_request)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/opt/ray/dashboard/modules/job/job_head.py", line 134, in _raise_error
    raise RuntimeError(f"Request failed with status code {{status}}: {{error_text}}.")
RuntimeError: Request failed with status code 400: Traceback (most recent call last):
  File "/opt/ray/dashboard/modules/job/job_manager.py", line 553, in submit_job
    raise ValueError(
{error}
.
"""
"""The job head's, around the job agent's."""
SHORT_TRACEBACK = """Traceback (most recent call last):
  File "/opt/ray/dashboard/modules/job/job_head.py", line 410, in submit_job
    submit_request = parse_and_validate_request(req, JobSubmitRequest)
{error}
"""
LOG_QUERY = {"node_id", "filename", "lines", "timeout"}
MIN_LOG_SECONDS = 60
"""Ray's default of 30 seconds ends the transfer of a long log."""
MAX_LOG_SECONDS = 300
MAX_ROWS = 10_000

_NOT_FOUND = Answer(404, "404: Not Found")
_OPEN = ("api/gcs_healthz", "api/authentication_mode")
"""Routes that take no token."""
_ROUTES = ("api/", "nodes", "worker/")
_BROWSER_HEADERS = {"origin", "referer"}
_PATHS = {
    "api/jobs/": "jobs/",
    "api/v0/nodes": "nodes/",
    "api/v0/tasks": "tasks/",
    "api/serve/applications/": "serve_applications/",
}
_PACKAGES = "api/packages/gcs/"
_LOG_FILE = "api/v0/logs/file"
_JOB = re.compile(r"api/(jobs/[^/]+)(/stop)?")
_LOG_NAME = re.compile(r"job-driver-(.+)\.log")
_HEX = re.compile(r"[0-9a-f]+", re.IGNORECASE)
_STATE = re.compile(r"[A-Z_]+")


def error(status: int = 500, words: str | None = None) -> Answer:
    """Return how Ray says that something failed: a traceback as plain text, 401, 403 and 404 in one line."""
    short = {
        401: "Unauthorized: Missing authentication token",
        403: "Forbidden: Invalid authentication token",
        404: "Job j1 does not exist",
    }
    return Answer(status, words or short.get(status) or TRACEBACK.format(error="RuntimeError: Refused"))


def taken(job_id: str) -> Answer:
    """Return how Ray says that the id of a submission is taken."""
    return error(500, TRACEBACK.format(error=f"ValueError: Job with submission_id {job_id} already exists."))


def state_error(status: int, words: str) -> Answer:
    """Return how the state API says that something failed."""
    return Answer(status, {"result": False, "msg": words, "data": {}})


def version(release: str = "2.60.0", session: str = "session_1") -> Answer:
    """Return the answer of ``api/version``."""
    return Answer(200, {"version": "4", "ray_version": release, "ray_commit": "b7f4259", "session_name": session})


def translate(request: Request) -> None:
    """Give a request of Ray's the path of the agent's that it stands for, if there is one."""
    path = request.path
    query = parse_qs(request.query)
    job = _JOB.fullmatch(path)
    if path == _LOG_FILE:
        name = _LOG_NAME.fullmatch(query.get("filename", [""])[0])
        request.path = f"jobs/{name[1]}/logs/" if name else path
    elif job is not None:
        request.path = f"{job[1]}{job[2] or ''}/"
    else:
        request.path = _PATHS.get(path, path)


def refuse(agent: ScriptedAgent, request: Request) -> Answer | None:
    """Return the answer to a request that is wrong in itself, and does not even come to a script."""
    if not request.sent_path.startswith(_ROUTES):
        return _refuse_token(agent, request) or _NOT_FOUND
    if "user-agent" not in request.headers:
        return error(500, "500 Internal Server Error\n\nServer got itself in trouble")
    browser = request.headers["user-agent"].startswith("Mozilla") or _BROWSER_HEADERS & request.headers.keys()
    if request.method != "GET" and browser:
        return Answer(405, "Method Not Allowed for browser traffic.")
    return _refuse_log(agent, request) if request.method == "GET" and request.parts[2:] == ["logs"] else None


def usual(agent: ScriptedAgent, request: Request) -> Answer | Play:
    """Return what the request meets where the script says nothing else."""
    refused = _refuse_token(agent, request)
    if refused is not None:
        return refused
    first, *rest = request.parts
    if first == "jobs":
        return _jobs(agent, request, rest)
    if request.path.startswith(_PACKAGES):
        return _packages(agent, request, request.path.removeprefix(_PACKAGES))
    answer = _GETS.get(request.path)
    return answer(agent, request) if answer is not None and request.method == "GET" else _NOT_FOUND


def details_of(job: Job) -> dict[str, Any]:
    """Return a job's details; one that has not started is on no node."""
    details = job.as_details()
    if job.status == "PENDING":
        details |= {"driver_node_id": None, "driver_agent_http_address": None, "driver_info": None}
    return details


def _refuse_token(agent: ScriptedAgent, request: Request) -> Answer | None:
    authorization = request.headers.get("authorization")
    if agent.token is None or request.path in _OPEN or authorization == f"Bearer {agent.token}":
        return None
    return error(403 if authorization else 401)


def _refuse_log(agent: ScriptedAgent, request: Request) -> Answer | None:
    """Refuse a log that would come incomplete: by default Ray gives the last 1,000 lines, for 30 seconds."""
    query = parse_qs(request.query)
    job = agent.jobs.get(request.parts[1])
    node_id = details_of(job)["driver_node_id"] if job is not None else None
    timeout = query.get("timeout", [""])[0]
    good = (
        query.keys() == LOG_QUERY
        and (query["lines"] == ["-1"] or (query["lines"][0].isdecimal() and query["lines"] != ["0"]))
        and timeout.isdecimal()
        and MIN_LOG_SECONDS <= int(timeout) < MAX_LOG_SECONDS
    )
    if not good:
        return error(500, f"This log may be incomplete: {request.query}")
    if job is None:
        return error(500, f"A file is not found at: /tmp/ray/session_1/logs/{query['filename'][0]}")
    if node_id is None or query["node_id"] != [node_id]:
        return error(500, f"Agent for node id: {query['node_id'][0]} doesn't exist.")
    return None


def _jobs(agent: ScriptedAgent, request: Request, rest: list[str]) -> Answer | Play:
    if not rest:
        if request.method == "POST":
            return _submit(agent, request)
        return Answer(200, [details_of(job) for job in agent.jobs.values()])
    job = agent.jobs.get(rest[0])
    if job is None:
        return error(404, f"Job {rest[0]} does not exist")
    match request.method, rest[1:]:
        case "GET", []:
            job.poll()
            return Answer(200, details_of(job))
        case "POST", ["stop"]:
            return _stop(agent, job)
        case "DELETE", []:
            return _delete(agent, job)
        case "GET", ["logs"]:
            headers = {"Content-Disposition": 'attachment; filename="file.txt"'}
            lines = int(parse_qs(request.query)["lines"][0])
            return Play(Open(content_type="text/plain", headers=headers), FullText(last=lines if lines > 0 else None))
    return _NOT_FOUND


def _stop(agent: ScriptedAgent, job: Job) -> Answer:
    if job.type == "DRIVER":
        return Answer(400, "Can only stop submission type jobs")
    return Answer(200, {"stopped": agent.stop(job)})


def _delete(agent: ScriptedAgent, job: Job) -> Answer:
    if not job.is_over:
        words = f"RuntimeError: Attempted to delete job '{job.job_id}', but it is in a non-terminal state {job.status}."
        return error(500, TRACEBACK.format(error=words))
    del agent.jobs[job.job_id]
    return Answer(200, {"deleted": True})


def _submit(agent: ScriptedAgent, request: Request) -> Answer:
    """Add the job. One that deletes a Serve application does so, as soon as it is there."""
    try:
        body = json.loads(request.body)
        entrypoint = body["entrypoint"]
        job_id = body.get("submission_id") or f"raysubmit_{len(agent.jobs)}"
    except (ValueError, TypeError, KeyError) as wrong:
        return error(400, SHORT_TRACEBACK.format(error=f"TypeError: {wrong}"))
    if job_id in agent.jobs:
        return taken(job_id)
    agent.jobs[job_id] = Job(
        status="PENDING",
        job_id=job_id,
        polls=("PENDING", "RUNNING", "SUCCEEDED"),
        entrypoint=entrypoint,
        details={"metadata": body.get("metadata") or {}, "runtime_env": body.get("runtime_env") or {}},
    )
    application = agent.applications.get(shlex.split(entrypoint)[-1])
    if "serve.delete" in entrypoint and application is not None:
        application.delete()
    return Answer(200, {"job_id": job_id, "submission_id": job_id})


def _packages(agent: ScriptedAgent, request: Request, name: str) -> Answer:
    if request.method == "PUT":
        agent.packages[name] = request.body
    elif name not in agent.packages:
        return error(404, f"Package gcs://{name} does not exist")
    return Answer(200)


def _serve_applications(agent: ScriptedAgent, request: Request) -> Answer:
    present = {name: app.as_details() for name, app in agent.applications.items() if not app.is_gone}
    return Answer(200, {"controller_info": {}, "proxies": {}, "applications": present, "target_capacity": None})


def _authentication_mode(agent: ScriptedAgent, request: Request) -> Answer:
    return Answer(200, {"authentication_mode": "disabled" if agent.token is None else "token"})


def _rows(items: list[dict[str, Any]], request: Request, key: str) -> Answer:
    query = {name: values[0] for name, values in parse_qs(request.query).items()}
    limit, timeout = query.get("limit", "100"), query.get("timeout", "30")
    if not (timeout.isdecimal() and limit.isdecimal() and int(limit) <= MAX_ROWS):
        return state_error(400, f"limit {limit} or timeout {timeout} is not valid")
    filters = [parse_qs(request.query).get(f"filter_{part}", []) for part in ("keys", "predicates", "values")]
    found = items
    for column, predicate, value in zip(*filters, strict=True):
        form = _STATE if column == "state" else _HEX if column in (key, "job_id") else None
        if predicate != "=" or form is None or not form.fullmatch(value):
            return state_error(400, f"Invalid filter {unquote(request.query)}")
        found = [item for item in found if str(item.get(column)).lower() == value.lower()]
    if query.get("detail") != "1":
        found = [{name: value for name, value in item.items() if name != "resources_total"} for item in found]
    return _listed(found[: int(limit)], total=len(items), filtered=len(found))


def _listed(rows: list[dict[str, Any]], *, total: int, filtered: int) -> Answer:
    result = {
        "total": total,
        "num_after_truncation": total,
        "num_filtered": filtered,
        "result": rows,
        "partial_failure_warning": "",
    }
    return Answer(200, {"result": True, "msg": "", "data": {"result": result}})


def _cluster_status(agent: ScriptedAgent, request: Request) -> Answer:
    """Return the resources of every node."""
    totals: Mapping[str, Mapping[str, float]] = {
        node["node_id"]: node.get("resources_total", {}) for node in agent.nodes
    }
    usage = {
        node: {_camel_case(name): [agent.used.get(node, {}).get(name, 0.0), total] for name, total in each.items()}
        for node, each in totals.items()
    }
    status = {"loadMetricsReport": {"usageByNode": usage}}
    return Answer(200, {"result": True, "msg": "Got cluster status.", "data": {"clusterStatus": status}})


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each[:1].upper() + each[1:] for each in others)


_GETS: dict[str, Callable[[ScriptedAgent, Request], Answer]] = {
    "nodes/": lambda agent, request: _rows(agent.nodes, request, "node_id"),
    "tasks/": lambda agent, request: _rows(agent.tasks, request, "task_id"),
    "api/v0/actors": lambda agent, request: _rows(agent.actors, request, "actor_id"),
    "api/v0/workers": lambda agent, request: _rows(agent.workers, request, "worker_id"),
    "serve_applications/": _serve_applications,
    "api/version": lambda agent, request: version(),
    "api/gcs_healthz": lambda agent, request: Answer(200, "success"),
    "api/authentication_mode": _authentication_mode,
    "api/cluster_status": _cluster_status,
}
