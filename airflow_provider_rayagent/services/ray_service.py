"""Ray's own dashboard as a service. Pure.

Measured with Ray 2.50 and 2.60. Sources are named by their file in the ``ray`` package.
"""

from __future__ import annotations

import contextlib
import shlex
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlencode

from airflow_provider_rayagent.errors.service_errors import (
    CONFLICT,
    RayAgentHTTPError,
    RayAgentNotFoundError,
    RayAgentServerError,
    RayAgentTimeoutError,
    RayAgentUnsupportedError,
    preparation,
)
from airflow_provider_rayagent.services import ray_responses
from airflow_provider_rayagent.services.call import Call, Pause
from airflow_provider_rayagent.services.cluster_resources import cluster_resources, gpu_status, workload
from airflow_provider_rayagent.services.jobs import ended_before, has_ended
from airflow_provider_rayagent.services.service import REJECTED, WAITING_STATE, Credential, ErrorResponse
from airflow_provider_rayagent.services.state_api import RayActivityRecords, RayFailureRecords, row_of, rows_of
from airflow_provider_rayagent.services.submission import check_release, submission_steps, upload_steps
from airflow_provider_rayagent.services.validation import validate_text
from airflow_provider_rayagent.stream.bodies import LogBodyDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.services.call import FileContent, Steps
    from airflow_provider_rayagent.services.service import ServiceName
    from airflow_provider_rayagent.services.validation import JobId

MIN_RELEASE = (2, 50)
"""Oldest supported release of Ray."""
WHOLE_LOG_SECONDS = 290
"""Deadline for the transfer of a log. The dashboard ends every request after 300 s, and by default after 30 s."""
LOG_INTERVAL = 1.5
"""Seconds between two readings of the log of a job that runs."""

# As measured, the application is DELETING 3 to 4 seconds after the submission. The rest is for a cluster that is busy.
DELETE_SECONDS = 60.0
DELETE_POLL_SECONDS = 0.5
# The driver finds its cluster by RAY_ADDRESS, which Ray's job supervisor sets. The name is an argument of the program,
# so that no name can change the program.
_DELETE = "import sys, ray; from ray import serve; ray.init(log_to_driver=False); serve.delete(sys.argv[1])"


class RayService:
    """See :class:`Service`."""

    name: ServiceName = "ray"
    label = "the Ray dashboard"
    description = "Ray's own dashboard"
    credentials = (Credential("Authorization", "password", "Bearer "),)
    streams = None
    """Ray has a live log over WebSocket, but keeps such a tail open until its job ends, even when the client has left,
    and it has 100 connections for tails and all other calls of the jobs API together
    (``dashboard/subprocesses/handle.py``): with 100 tails no client of the cluster can submit or list jobs."""
    log_interval = LOG_INTERVAL
    can_read_last_lines = True
    failure_records = RayFailureRecords()
    activity_records = RayActivityRecords()

    def list_jobs(self) -> Call:
        # All jobs at once, unsorted; drivers that are no submitted jobs are among them, without a submission_id.
        return Call("GET", "api/jobs/", "list")

    def get_job(self, job_id: JobId) -> Call:
        # Ray's routes have no slash after an id: with one, the answer is 404.
        return Call("GET", f"api/jobs/{job_id}")

    def stop_job(self, job_id: JobId) -> Call:
        return Call("POST", f"api/jobs/{job_id}/stop")

    def delete_job(self, job_id: JobId) -> Call:
        return Call("DELETE", f"api/jobs/{job_id}")

    def delete_ended_jobs(self, before: float) -> Steps:
        deleted = []
        for job_id in ended_before((yield self.list_jobs()), before):
            # Somebody else may have deleted it meanwhile.
            with contextlib.suppress(RayAgentNotFoundError):
                yield self.delete_job(job_id)
                deleted.append(job_id)
        return deleted

    def submit_job(self, entrypoint: str, **submission: Any) -> Steps:
        with preparation():
            check_release((yield from self._check_version()), submission)
        return (yield from submission_steps("api/jobs/", self.list_nodes(), entrypoint, **submission))

    def upload_package(self, name: str, content: FileContent) -> Steps:
        # Ray stores uploads under no other protocol.
        return upload_steps(f"api/packages/gcs/{name}", content)

    def list_nodes(self) -> Call:
        return rows_of("nodes", detail=True)

    def get_node(self, node_id: str) -> Call:
        return row_of("node", node_id)

    def list_tasks(self) -> Call:
        return rows_of("tasks")

    def list_waiting_tasks(self) -> Call:
        # Only with the details are there the required resources.
        return rows_of("tasks", detail=True, equals={"state": WAITING_STATE})

    def get_task(self, task_id: str) -> Call:
        return row_of("task", task_id)

    def list_serve_applications(self) -> Call:
        return Call("GET", "api/serve/applications/", convert=ray_responses.serve_applications)

    def get_serve_application(self, name: str) -> Call:
        name = validate_text(name, "application name")
        # Ray has no route for one application.
        return Call("GET", "api/serve/applications/", convert=ray_responses.serve_application(name))

    def delete_serve_application(self, name: str) -> Steps:
        # Ray's REST API deletes all applications, or replaces all that were deployed from a configuration. A driver
        # deletes exactly one, of either kind.
        # Here and not in the generator, so that an invalid name is refused by the call, before a step is taken.
        application = self.get_serve_application(name)
        return self._delete_serve_application(name, application)

    def _delete_serve_application(self, name: str, application: Call) -> Steps:
        # This request raises an error for an unknown name; the job would succeed and do nothing (``serve.delete``).
        if _is_deleting((yield application)):
            return
        entrypoint = f"python -c {shlex.quote(_DELETE)} {shlex.quote(name)}"
        job_id = yield from submission_steps(
            "api/jobs/", self.list_nodes(), entrypoint, random_id_prefix="rayagent-delete-application"
        )
        # A pause tells the time, which this code cannot.
        until = (yield Pause(0.0)) + DELETE_SECONDS
        while True:
            now = yield Pause(DELETE_POLL_SECONDS)
            try:
                # The application before the job: a job that fails after the deletion does no harm.
                if _is_deleting((yield application)):
                    return
            except RayAgentNotFoundError:
                return
            failure = f"Ray job {job_id} did not delete Serve application {name!r}"
            yield Call("GET", f"api/jobs/{job_id}", convert=ray_responses.successful_job(failure))
            # The time before these requests, so that there is one look after the limit.
            if now >= until:
                raise RayAgentTimeoutError(
                    f"Serve application {name!r} is still not being deleted {DELETE_SECONDS:g} s after Ray job "
                    f"{job_id} was submitted for that: see this job in the dashboard."
                )

    def get_gpu_status(self) -> Steps:
        return gpu_status(*(yield from self._nodes_and_usage()))

    def get_cluster_resources(self, use_cache: bool = True) -> Steps:  # noqa: ARG002 - Ray's usage has a fixed age
        resources = yield from self.get_capacity()
        return resources | workload((yield self.list_jobs()), (yield self.list_serve_applications()))

    def get_capacity(self) -> Steps:
        nodes, usage = yield from self._nodes_and_usage()
        return cluster_resources(nodes, usage, datetime.now(tz=timezone.utc))

    def _nodes_and_usage(self) -> Steps:
        nodes = yield self.list_nodes()
        status = yield self.activity_records.cluster_status()
        return nodes, status.usage

    def check_feasibility(self, kind: str, num_cpus: float, **request: Any) -> NoReturn:  # noqa: ARG002
        raise RayAgentUnsupportedError(
            "Ray's dashboard has no gatekeeper to ask: compare the amounts with get_cluster_resources, "
            "or wait for them with RayAgentCapacitySensor."
        )

    def get_gatekeeping_policy(self) -> NoReturn:
        raise RayAgentUnsupportedError(
            "Ray's dashboard has no gatekeeping policy: Ray starts a job once a node has what its entrypoint requires. "
            "See get_cluster_resources for what is free."
        )

    def health_check(self) -> Steps:
        # The GCS check takes no token and the version does.
        body = yield Call("GET", "api/version")
        ray = {"version": ray_responses.ray_version(body), "session_name": ray_responses.session_name(body)}
        status = "ok"
        try:
            yield Call("GET", "api/gcs_healthz", "any")
        except RayAgentServerError:
            status = "down"
        return {"status": status, "ray": {"status": status, **ray}}

    def check_usable(self) -> Steps:
        yield from self._check_version()
        # 404 is the good answer: Ray checks the token before it looks for a job.
        with contextlib.suppress(RayAgentNotFoundError):
            yield Call("GET", "api/jobs/rayagent-connection-test")

    def _check_version(self) -> Steps:
        version = yield Call("GET", "api/version", convert=ray_responses.ray_version)
        if ray_responses.release_of(version) < MIN_RELEASE:
            least = ".".join(map(str, MIN_RELEASE))
            raise RayAgentUnsupportedError(f"Ray {version} is too old: {least} or newer is required.")
        return version

    def identify(self) -> Steps:
        try:
            version = yield Call("GET", "api/version", convert=ray_responses.ray_version)
        except RayAgentHTTPError as error:
            if error.status_code not in REJECTED:
                raise
            # Open to everyone. It came with tokens, in Ray 2.52.
            mode = yield Call("GET", "api/authentication_mode")
            return self.description if "authentication_mode" in mode else None
        return f"{self.description} ({version})"

    def identity(self, health: Mapping[str, Any]) -> str:
        return f"{self.description} ({health['ray']['version']})"

    def run_plugin_release(self, *_: Any, **__: Any) -> NoReturn:
        raise RayAgentUnsupportedError(
            "Ray's dashboard has no plugins: use a connection to an agent, or run the code as a Ray job."
        )

    list_plugin_releases = get_plugin_release = run_debug_plugin_release = run_plugin_release

    def locate_log(
        self,
        job_id: JobId,
        job: Mapping[str, Any] | None = None,
        lines: int | None = None,
        on_details: Callable[[Mapping[str, Any]], object] = bool,
    ) -> Steps:
        # Without a node, the details are older than the start of the driver, unless they are final.
        if job is None or not (job.get("driver_node_id") or has_ended(job)):
            job = yield self.get_job(job_id)
            on_details(job)
        return self.log_of(job_id, job, lines)

    def log_of(self, job_id: JobId, job: Mapping[str, Any], lines: int | None = None) -> Call | None:
        """Return the request for the log of a job with these details, ``None`` if nothing was logged.

        :param lines: number of lines at the end of the log; ``None``: all.
        """
        node_id = job.get("driver_node_id")
        if not node_id:
            # The driver has not been started, or never was. Why a runtime environment failed is in the job's message.
            return None
        # Of Ray's ways to the log this is the only one that gives its bytes as they are, and in constant memory. An id
        # in the query instead of node and file would have Ray search all its jobs for each reading.
        query = {
            "node_id": node_id,
            "filename": f"job-driver-{job_id}.log",
            "lines": -1 if lines is None else lines,
            "timeout": WHOLE_LOG_SECONDS,
        }
        return Call("GET", f"api/v0/logs/file?{urlencode(query)}", "text")

    def log_decoder(self, content_type: str) -> LogBodyDecoder:
        return LogBodyDecoder(content_type)

    def read_error(self, status: int, text: str) -> ErrorResponse:
        words = ray_responses.error_words(status, text) if text else ""
        # For a path without a route, aiohttp answers 404 in words of its own.
        if words is None or (status == 404 and not ray_responses.says_missing(text)):
            return ErrorResponse(status, is_own=False)
        # Ray has no status of its own for it.
        if status == 500 and ray_responses.is_id_taken(words):
            return ErrorResponse(CONFLICT, words)
        if status == 500 and ray_responses.is_starting(words):
            return ErrorResponse(503, words)
        return ErrorResponse(status, words)

    def job_page(self, base_url: str) -> str:
        return f"{base_url}#/jobs/{{job_id}}"


def _is_deleting(application: Mapping[str, Any]) -> bool:
    return application.get("status") == "DELETING"


RAY = RayService()
