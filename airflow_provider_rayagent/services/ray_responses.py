"""What the responses of Ray's dashboard mean. Pure.

Its jobs API answers errors as plain text, usually a traceback; its state API (``/api/v0``) as JSON. Sources are named
by their file in the ``ray`` package.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentNotFoundError,
    RayAgentResourcesError,
    RayAgentResponseError,
    RayAgentServerError,
)
from airflow_provider_rayagent.services.cluster_resources import amount_of, total_of, used_amount
from airflow_provider_rayagent.services.jobs import JobStatus, has_ended, milliseconds
from airflow_provider_rayagent.services.service import standard_phrase
from airflow_provider_rayagent.services.state_columns import attempt_of, pid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    Row: TypeAlias = dict[str, Any]

_EXCEPTION_LINE = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Timeout|Exit)\b.*", re.MULTILINE)


_MEMORY_FIGURES = 4
_UNKNOWN_USAGE = "Ray tells the usage of its nodes (api/cluster_status) in an unknown form"
MAX_SESSION_NAME = 200
"""Characters; Ray's own names have 46."""
_TRACEBACK = "Traceback (most recent call last)"
_MISSING = re.compile(r"(?:Job|Package) \S+ does not exist")
_PLAIN_ERRORS = re.compile(
    # ``dashboard/modules/job/job_head.py``
    r"Can only (?:stop|delete|get logs of) submission type jobs"
    r"|No available agent to submit job, please try again later\."
    # ``_private/authentication/http_token_authentication.py``
    r"|Unauthorized: Missing authentication token|Forbidden: Invalid authentication token"
    # ``dashboard/optional_utils.py``, the second one until Ray 2.51
    r"|(?:'[A-Z]+' m|M)ethod (?:n|N)ot (?:a|A)llowed for browser traffic\.|Browser requests not allowed\."
    # ``dashboard/modules/serve/serve_head.py``
    r"|Serve dependencies are not installed\. .*|Failed to get a response from the controller\. .*"
    # ``util/state/state_manager.py`` and ``dashboard/modules/log/log_agent.py``
    r"|Agent for node id: \w+ doesn't exist\.|Failed to query the data source\..*|A file is not found at: \S+"
    # ``web_protocol.py`` and ``web_exceptions.py`` of aiohttp, the dashboard's server
    r"|500 Internal Server Error\s+Server got itself in trouble|Maximum request body size \d+ exceeded\b.*",
    re.DOTALL,
)


def error_words(status: int, text: str) -> str | None:
    """Return what Ray says in the body of an error status; ``None`` if the body has none of Ray's forms."""
    if text.startswith(_TRACEBACK) and _EXCEPTION_LINE.search(text):
        return plain_words(text)
    if says_missing(text) or _PLAIN_ERRORS.fullmatch(text) or text == f"{status}: {standard_phrase(status)}":
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    # ``rest_response`` in ``dashboard/routes.py``
    is_own = isinstance(value, dict) and value.get("result") is False and isinstance(value.get("msg"), str)
    return value["msg"] if is_own else None


def says_missing(text: str) -> bool:
    """Return whether an error says that there is no such job or package (``dashboard/modules/job/job_head.py``)."""
    return _MISSING.fullmatch(text) is not None


def plain_words(text: str) -> str:
    """Return the relevant part of a text of Ray: of a traceback, the last exception."""
    text = text.strip()
    if _TRACEBACK in text:
        # The last one: before an exception, Python prints those that caused it.
        *_, last = [None, *_EXCEPTION_LINE.finditer(text)]
        text = text[last.start() :] if last else text.splitlines()[-1]
        # What the job head says of the job agent's traceback ends in a period (``dashboard/modules/job/job_head.py``).
        text = text.removesuffix("\n.")
    return text


def is_id_taken(text: str) -> bool:
    """Return whether Ray's error 500 says that the id of a submission is taken.

    See ``dashboard/modules/job/job_manager.py``.
    """
    return "already exists" in text


def is_starting(text: str) -> bool:
    """Return whether Ray's error 500 says that no node can take jobs yet (``dashboard/modules/job/job_head.py``)."""
    return text.startswith("No available agent to submit job")


def state_rows(body: Any) -> list[Row]:
    """Return the rows in a response of the state API."""
    for key in ("data", "result", "result"):
        body = body.get(key) if isinstance(body, dict) else None
    if not isinstance(body, list) or not all(isinstance(row, dict) for row in body):
        raise RayAgentResponseError("The response of Ray's state API has no list of rows.")
    return body


def number_of_rows(body: Any) -> int | None:
    """Return how many rows a response of the state API would have without its limit; ``None``: unknown."""
    # With those that Ray has dropped, so that the number grows when Ray keeps no more.
    number = amount_of(_part(_part(_part(body, "data"), "result"), "total"))
    return None if number is None else int(number)


def one_row(what: str) -> Callable[[Any], Row]:
    """Return a function that returns the last attempt among the rows of one node or task.

    :param what: what is looked for, as the error says it.
    """

    def convert(body: Any) -> Row:
        rows = state_rows(body)
        if not rows:
            raise RayAgentNotFoundError(f"{what} does not exist.", 404)
        return max(rows, key=attempt_of)

    return convert


class ClusterStatus(NamedTuple):
    """What Ray's autoscaler says of its cluster; nothing if it is the second one, which does not report here.

    :param usage: ``{node_id or IP address: {resource: [used, total]}}``; ``None``: not reported.
    :param starting_nodes: number of nodes that it adds.
    :param group_demand: for placement groups that are pending ``[{"bundles": …, "strategy": …}, count]``.
    :param written_at: when it said so, in seconds since the epoch.
    """

    usage: dict[str, Row] | None = None
    starting_nodes: int = 0
    group_demand: Sequence[Any] = ()
    written_at: float | None = None


def cluster_status(body: Any) -> ClusterStatus:
    """Return what Ray's autoscaler says of its cluster.

    :raises RayAgentResponseError: if Ray reports the usage in another form.
    """
    status: Any = body
    for key in ("data", "clusterStatus"):
        status = _part(status, key)
    report = _part(status, "autoscalerReport")
    nodes, launches = _part(report, "pendingNodes"), _part(report, "pendingLaunches")
    demand = _part(_part(status, "loadMetricsReport"), "pgDemand")
    launched = sum(amount_of(count) or 0.0 for count in launches.values()) if isinstance(launches, dict) else 0.0
    starting = int(launched) + (len(nodes) if isinstance(nodes, list) else 0)
    groups = demand if isinstance(demand, list) else ()
    return ClusterStatus(resource_usage(body), starting, groups, amount_of(_part(status, "time")))


def _part(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def resource_usage(body: Any) -> dict[str, Row] | None:
    """Return ``{node_id or IP address: {resource: [used, total]}}``, or ``None`` where Ray does not report it.

    :raises RayAgentResponseError: if Ray reports it in another form.
    """
    for key in ("data", "clusterStatus", "loadMetricsReport", "usageByNode"):
        body = body.get(key)
        if body is None:
            return None
        if not isinstance(body, dict):
            raise RayAgentResponseError(f"{_UNKNOWN_USAGE}: {key} is no JSON object.")
    pairs = [pair for each in body.values() for pair in (each.values() if isinstance(each, dict) else (each,))]
    # One odd value of many is an unknown usage of that node only.
    if pairs and all(used_amount(pair) is None for pair in pairs):
        raise RayAgentResponseError(f"{_UNKNOWN_USAGE}: usageByNode has no [used, total].")
    usage: dict[str, Row] = body
    return usage


class NodeUsage(NamedTuple):
    """What a node and its processes use, as the node has last measured it.

    :param address: the node's IP address; empty: unknown.
    :param cpu: how much of a CPU each process has used in the last seconds, in percent, by its pid.
    :param memory: how much of the node's memory is in use, and how much it has, in bytes; ``None``: unknown.
    :param measured_at: in ms since the epoch, by the node's clock; ``None``: unknown.
    """

    address: str = ""
    cpu: Mapping[int, float] = {}
    memory: tuple[float, float] | None = None
    measured_at: float | None = None


def node_usage(body: Any) -> NodeUsage:
    """Return what the details of a node tell (``dashboard/modules/reporter/reporter_agent.py``)."""
    details = _part(_part(body, "data"), "detail")
    workers, address = _part(details, "workers"), _part(details, "ip")
    rows = [row for row in workers if isinstance(row, dict)] if isinstance(workers, list) else []
    found = ((pid_of(row), amount_of(row.get("cpuPercent"))) for row in rows)
    cpu = {pid: percent for pid, percent in found if pid is not None and percent is not None}
    now = amount_of(_part(details, "now"))
    return NodeUsage(
        address if isinstance(address, str) else "",
        cpu,
        _memory(_part(details, "mem")),
        None if now is None else milliseconds(1000 * now),
    )


def _memory(value: Any) -> tuple[float, float] | None:
    """Return how much memory is in use, and how much there is.

    :param value: ``[total, available, percent, used]``.
    """
    if not isinstance(value, list) or len(value) != _MEMORY_FIGURES:
        return None
    total, _, _, used = map(amount_of, value)
    return (used, total) if used is not None and total else None


def executed_tasks(body: Any) -> dict[str, dict[str, int]]:
    """Return how many tasks each worker has executed, by the driver's job and the worker.

    :raises RayAgentResponseError: if the response has no nodes.
    """
    nodes = _part(_part(body, "data"), "summary")
    if not isinstance(nodes, list):
        raise RayAgentResponseError("Ray's response has no summary of its nodes.")
    found: dict[str, dict[str, int]] = {}
    for node in nodes:
        workers = _part(_part(node, "raylet"), "coreWorkersStats")
        for worker in workers if isinstance(workers, list) else ():
            count = amount_of(_part(worker, "numExecutedTasks"))
            if count:
                found.setdefault(str(worker.get("jobId")), {})[str(worker.get("workerId"))] = int(count)
    return found


def profiling_is_enabled(body: Any) -> bool:
    """Return whether Ray's dashboard gives the stacks of processes."""
    return _part(_part(body, "data"), "profilingEnabled") is True


def check_resources(nodes: Sequence[Row], required: Mapping[str, float]) -> None:
    """Check that a live node has all the resources of an entrypoint, which runs on one node.

    :param nodes: rows of the state API.
    :param required: amounts by Ray's names of resources.
    :raises RayAgentResourcesError: if no node has them in total, whether free or in use.
    """
    # Ray accepts a job that fits on no node: it is PENDING, and fails after 15 minutes.
    totals = [{name: total_of(node, name) for name in required} for node in nodes if node.get("state") == "ALIVE"]
    # Just after the start of a cluster, no node is listed. An unknown total may be enough.
    if not totals or any(
        all((have := total[name]) is None or have >= amount for name, amount in required.items()) for total in totals
    ):
        return
    needed = ", ".join(f"{name} {amount:g}" for name, amount in required.items())
    most = ", ".join(f"{name} {max(total[name] or 0.0 for total in totals):g}" for name in required)
    raise RayAgentResourcesError(
        f"No node of the cluster has what the job's entrypoint requires: {needed}. The most that any node has: {most}. "
        "Nothing was submitted. If the cluster adds larger nodes on demand, set wait_for_scale_up."
    )


def serve_applications(body: Mapping[str, Any]) -> list[Row]:
    """Return Serve's applications; none if Serve is not running."""
    applications = body.get("applications")
    if not isinstance(applications, dict):
        raise RayAgentResponseError("Ray's response has no Serve applications.")
    return [{"name": name, **details} for name, details in applications.items() if isinstance(details, dict)]


def serve_application(name: str) -> Callable[[Any], Row]:
    """Return a function that returns the application of this name."""

    def convert(body: Any) -> Row:
        for application in serve_applications(body):
            if application["name"] == name:
                return application
        raise RayAgentNotFoundError(f"Serve application {name!r} does not exist.", 404)

    return convert


def successful_job(failure: str) -> Callable[[Any], Row]:
    """Return a function that returns the details of a job, and raises an error if it has failed.

    :param failure: what the error says before the job's own message.
    """

    def convert(body: Any) -> Row:
        job: Row = body
        if has_ended(job) and job.get("status") != JobStatus.SUCCEEDED.value:
            raise RayAgentServerError(f"{failure}: {plain_words(str(job.get('message')))}", 500)
        return job

    return convert


def ray_version(body: Mapping[str, Any]) -> str:
    """Return the version of Ray in the response of ``/api/version``.

    :raises RayAgentResponseError: if it has none, so that something else than Ray's dashboard has answered.
    """
    version = body.get("ray_version")
    if not isinstance(version, str):
        raise RayAgentResponseError("The response names no version of Ray.")
    return version


def session_name(body: Mapping[str, Any]) -> str | None:
    """Return the name of Ray's session, which is new after each start of a head without external storage."""
    name = body.get("session_name")
    return name if isinstance(name, str) and len(name) <= MAX_SESSION_NAME else None


def release_of(version: str) -> tuple[int, ...]:
    """Return the major and minor number of a version, ``()`` if it has none."""
    # The rest of a version need not be a number: a nightly build is ``3.0.0.dev0``.
    found = re.match(r"(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else ()
