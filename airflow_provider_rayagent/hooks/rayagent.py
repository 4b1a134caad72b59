"""Hooks for a Ray agent, blocking and asyncio."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_provider_rayagent.connection.config import UNENCRYPTED
from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError
from airflow_provider_rayagent.hooks.async_hook import RayAgentAsyncHook
from airflow_provider_rayagent.hooks.connection import config_from_connection, config_with_timeout
from airflow_provider_rayagent.hooks.log_lines import LimitedLines, StreamLimits, hook_tail_settings
from airflow_provider_rayagent.hooks.plugin_methods import PluginMethods
from airflow_provider_rayagent.hooks.submission_methods import SubmissionMethods
from airflow_provider_rayagent.services.validation import validate_job_id
from airflow_provider_rayagent.text.codes import Code, coded

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from typing_extensions import Self

    from airflow_provider_rayagent.connection.config import AgentConfig
    from airflow_provider_rayagent.hooks.plugin_methods import Timeout
    from airflow_provider_rayagent.services.call import Operation
    from airflow_provider_rayagent.services.service import ResourceKind, Service
    from airflow_provider_rayagent.services.validation import Protocol
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.transport.blocking import BlockingAgent
    from airflow_provider_rayagent.transport.blocking_driver import Follower

__all__ = ["RayAgentAsyncHook", "RayAgentHook", "StreamLimits"]


class RayAgentHook(PluginMethods, SubmissionMethods, BaseHook):
    """Call a Ray agent or Ray's own dashboard: jobs and their logs, nodes, tasks, Serve applications, plugins.

    The methods that the agent's own client also has (``synapse_sdk.clients.agent.AgentClient``) have its names,
    arguments and results. Use the hook as a context manager, or call :meth:`close`.

    :param rayagent_conn_id: the Airflow connection of type ``rayagent``.

    All methods raise errors of :mod:`airflow_provider_rayagent.exceptions`: :class:`RayAgentConfigError` for an invalid
    connection, :class:`RayAgentInputError` for an invalid argument (before anything is sent),
    :class:`RayAgentConnectionError` if the agent did not answer, and :class:`RayAgentHTTPError` if it answered with an
    error status.
    """

    conn_name_attr = "rayagent_conn_id"
    default_conn_name = "rayagent_default"
    conn_type = "rayagent"
    hook_name = "Ray agent"

    def __init__(self, rayagent_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rayagent_conn_id = rayagent_conn_id
        self._stream_limits = StreamLimits()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def config(self) -> AgentConfig:
        """The configuration from the connection, read once."""
        config = config_from_connection(self.get_connection(self.rayagent_conn_id))
        if config.verify is False:
            text = coded(
                Code.CONNECTION_SETTING, "TLS certificate verification is off for %s ('verify' in the connection)."
            )
            self.log.warning(text, config.base_url)
        if config.exposes_token:
            self.log.warning(coded(Code.CONNECTION_SETTING, f"The URL %s is not https. {UNENCRYPTED}"), config.base_url)
        return config

    @cached_property
    def _agent(self) -> BlockingAgent:
        from airflow_provider_rayagent.transport.blocking import BlockingAgent

        return BlockingAgent(self.config)

    def get_conn(self) -> BlockingAgent:
        """Return the transport with its connection pool, created at the first use."""
        return self._agent

    def close(self) -> None:
        """Close all connections. The hook can be used again; it then opens new ones."""
        agent = self.__dict__.pop("_agent", None)
        if agent is not None:
            agent.close()

    @property
    def stream_limits(self) -> StreamLimits:
        """The limits of each log stream."""
        return self._stream_limits

    @stream_limits.setter
    def stream_limits(self, value: StreamLimits) -> None:
        self._stream_limits = value

    # Jobs

    def list_jobs(self) -> list[dict[str, Any]]:
        """Return all jobs that the agent knows, each in the form of :meth:`get_job`."""
        jobs: list[dict[str, Any]] = self._send(lambda service: service.list_jobs())
        return jobs

    def get_job(self, job_id: str) -> dict[str, Any]:
        """Return a job's details: Ray's ``JobDetails``, with times in ms since the epoch.

        ``runtime_env`` may contain secrets of the job.

        :raises RayAgentNotFoundError: if the agent does not know the job; this includes jobs in the agent's queue.
        """
        valid_id = validate_job_id(job_id)
        job: dict[str, Any] = self._send(lambda service: service.get_job(valid_id))
        return job

    def get_job_logs(self, job_id: str) -> str:
        """Return the current log of a job as a whole; for long logs prefer :meth:`tail_job_logs`."""
        from airflow_provider_rayagent.transport.blocking_logs import read_whole_log

        return read_whole_log(self._agent, validate_job_id(job_id))

    def list_job_logs(self, job_id: str) -> str:
        """Return the same as :meth:`get_job_logs`; the agent's client has both names."""
        return self.get_job_logs(job_id)

    def stop_job(self, job_id: str) -> dict[str, Any]:
        """Request the stop of a job; return the agent's answer, such as ``{"stopped": true}``.

        The answer does not mean that the job has ended: poll :meth:`get_job` until its status is terminal. The request
        is not retried once the agent may have received it.
        """
        valid_id = validate_job_id(job_id)
        answer: dict[str, Any] = self._send(lambda service: service.stop_job(valid_id))
        return answer

    # Job logs

    def websocket_tail_job_logs(self, job_id: str, timeout: float = 30.0) -> Iterator[str]:
        """Yield a job's lines over WebSocket; see :meth:`tail_job_logs`."""
        return self.tail_job_logs(job_id, timeout, protocol="websocket")

    def stream_tail_job_logs(self, job_id: str, timeout: float = 30.0) -> Iterator[str]:
        """Yield a job's lines over server-sent events; see :meth:`tail_job_logs`."""
        return self.tail_job_logs(job_id, timeout, protocol="http")

    def tail_job_logs(self, job_id: str, timeout: float = 30.0, *, protocol: Protocol = "auto") -> Iterator[str]:
        """Yield every line of a job's log, once and in order, without its newline, until the job has ended.

        The end of a stream is not the end of the job: while the status is not terminal, the stream is reopened at the
        right line. Lines missing from the streams are read from the whole log. Use :meth:`get_job` to find out whether
        the job succeeded.

        :param timeout: seconds of silence after which the status is checked and the stream reopened, up to 300.
        :param protocol: ``websocket``, ``http`` (server-sent events), or ``auto``: WebSocket with a fallback to
            server-sent events. If neither works, the whole log is polled.
        :raises RayAgentInputError: immediately, if the id, timeout or protocol is invalid.
        :raises RayAgentNotFoundError: if the agent does not know the job for a minute.
        :raises RayAgentConnectionError: or the agent's last error, if the status cannot be read for five minutes.
        :raises RayAgentLogsUnavailableError: after the last readable line, if the end of the log cannot be read.
        :raises RayAgentStreamLimitError: if a limit of :attr:`stream_limits` is exceeded.
        """
        return self._lines(self.follow_job(job_id, hook_tail_settings(self.stream_limits, timeout, protocol)))

    def follow_job(
        self,
        job_id: str,
        settings: TailSettings,
        *,
        cursor: Cursor | None = None,
        deadline: float | None = None,
        stopped: threading.Event | None = None,
    ) -> Follower:
        """Return a follower that yields a job's lines, notices and status changes; see :class:`Follower`."""
        from airflow_provider_rayagent.transport.blocking_driver import Follower

        return Follower(
            self._agent, validate_job_id(job_id), settings, cursor=cursor, deadline=deadline, stopped=stopped
        )

    def _lines(self, follower: Follower) -> Iterator[str]:
        lines = LimitedLines(follower, self.stream_limits, self.log)
        for items in follower.items():
            yield from lines.lines_in(items)
        lines.raise_if_incomplete()

    # Cluster

    def list_nodes(self) -> list[dict[str, Any]]:
        """Return the nodes of the Ray cluster."""
        nodes: list[dict[str, Any]] = self._send(lambda service: service.list_nodes())
        return nodes

    def get_node(self, node_id: str) -> dict[str, Any]:
        """Return one node."""
        node: dict[str, Any] = self._send(lambda service: service.get_node(node_id))
        return node

    def list_tasks(self) -> list[dict[str, Any]]:
        """Return the Ray tasks on record in the cluster."""
        tasks: list[dict[str, Any]] = self._send(lambda service: service.list_tasks())
        return tasks

    def get_task(self, task_id: str) -> dict[str, Any]:
        """Return one Ray task."""
        task: dict[str, Any] = self._send(lambda service: service.get_task(task_id))
        return task

    def get_gpu_status(self) -> dict[str, Any]:
        """Return the GPUs of the cluster, summed over its nodes."""
        status: dict[str, Any] = self._send(lambda service: service.get_gpu_status())
        return status

    def get_cluster_resources(self, use_cache: bool = True) -> dict[str, Any]:
        """Return the resources of the cluster: in total, in use and free, for the cluster and for each node.

        The keys are those of the agent's ``ClusterResourceSnapshot``: ``collected_at`` (ISO 8601), ``stale``, ``cpu``,
        ``memory`` and ``object_store`` (bytes), each with ``total``, ``used`` and ``available``; ``gpu`` with
        ``total_gpus``, ``available_gpus`` and others; ``running_jobs``, ``total_serve_replicas``, ``node_counts`` and
        ``nodes``. What the service does not know is missing. Over plain Ray and the local agent, each node also has
        ``gpu`` with ``total``, ``used`` and ``available``.

        :param use_cache: whether the agent may answer from its cache. Over plain Ray, the usage is up to 5 seconds old.
        """
        resources: dict[str, Any] = self._send(lambda service: service.get_cluster_resources(use_cache))
        return resources

    def check_feasibility(
        self,
        kind: ResourceKind,
        num_cpus: float,
        num_gpus: float = 0.0,
        memory_bytes: int | None = None,
        replicas: int = 1,
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Ask the agent whether it would admit a workload now; nothing is started or reserved.

        :param kind: ``job``, ``serve``, ``container`` or ``task``.
        :param num_cpus: CPUs of each replica.
        :param num_gpus: GPUs of each replica.
        :param memory_bytes: bytes of memory of each replica; ``None``: not considered.
        :param replicas: number of replicas.
        :param metadata: JSON for the agent.
        :return: the agent's answer, whose form depends on the agent; the local agent's has ``feasible`` and ``reason``.
        :raises RayAgentInputError: if an argument is invalid.
        :raises RayAgentUnsupportedError: over plain Ray, which has no such check.
        """
        answer: dict[str, Any] = self._send(
            lambda service: service.check_feasibility(
                kind, num_cpus, num_gpus=num_gpus, memory_bytes=memory_bytes, replicas=replicas, metadata=metadata
            )
        )
        return answer

    def get_gatekeeping_policy(self) -> dict[str, Any]:
        """Return the limits by which the agent admits workloads, such as ``max_concurrent_jobs`` (0: no limit).

        :raises RayAgentUnsupportedError: over plain Ray, which has no such policy.
        """
        policy: dict[str, Any] = self._send(lambda service: service.get_gatekeeping_policy())
        return policy

    def health_check(self) -> dict[str, Any]:
        """Return the health that the agent reports; this also checks the token."""
        health: dict[str, Any] = self._send(lambda service: service.health_check())
        return health

    # Serve

    def list_serve_applications(self) -> list[dict[str, Any]]:
        """Return the Serve applications, each with ``name`` and ``status``."""
        applications: list[dict[str, Any]] = self._send(lambda service: service.list_serve_applications())
        return applications

    def get_serve_application(self, name: str) -> dict[str, Any]:
        """Return one Serve application."""
        application: dict[str, Any] = self._send(lambda service: service.get_serve_application(name))
        return application

    def delete_serve_application(self, name: str) -> None:
        """Request the deletion of one Serve application; others are not affected."""
        self._send(lambda service: service.delete_serve_application(name))

    def _send(self, make: Callable[[Service], Operation], timeout: Timeout | None = None) -> Any:
        operation = make(self.config.service)
        if timeout is None:
            return self._agent.send(operation)
        from airflow_provider_rayagent.transport.blocking import BlockingAgent

        with BlockingAgent(config_with_timeout(self.config, timeout)) as agent:
            return agent.send(operation)

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the connection works, and a message: the service's version, or what to correct."""
        from airflow_provider_rayagent.hooks.connection_check import check_connection

        try:
            return check_connection(self._agent)
        except RayAgentConfigError as error:
            return False, error.detail
