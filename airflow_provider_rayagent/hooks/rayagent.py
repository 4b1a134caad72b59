"""Hooks for a Ray agent, blocking and asyncio."""

from __future__ import annotations

from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from airflow_provider_rayagent.connection.config import UNENCRYPTED
from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError
from airflow_provider_rayagent.hooks.async_hook import RayAgentAsyncHook
from airflow_provider_rayagent.hooks.connection import (
    config_from_connection,
    config_with_timeout,
    missing_as_config_error,
)
from airflow_provider_rayagent.hooks.log_lines import LimitedLines, StreamLimits, hook_tail_settings
from airflow_provider_rayagent.hooks.service_hook import ServiceHook
from airflow_provider_rayagent.services.call import finish
from airflow_provider_rayagent.services.validation import validate_job_id
from airflow_provider_rayagent.text.codes import Code, coded

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Coroutine, Iterator

    from typing_extensions import Self

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.hooks.service_hook import ResultT, Timeout
    from airflow_provider_rayagent.services.call import Operation
    from airflow_provider_rayagent.services.service import Service
    from airflow_provider_rayagent.services.validation import Protocol
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
    from airflow_provider_rayagent.transport.blocking_driver import BlockingFollower
    from airflow_provider_rayagent.transport.reentrant_event import ReentrantEvent

__all__ = ["RayAgentAsyncHook", "RayAgentHook", "StreamLimits"]

MethodP = ParamSpec("MethodP")


def _blocking(
    method: Callable[Concatenate[Any, MethodP], Coroutine[Any, Any, ResultT]],
) -> Callable[Concatenate[Any, MethodP], ResultT]:
    """Return the method of the blocking hook that runs the text of one of the asyncio hook.

    All that such a text awaits are coroutines of :class:`ServiceHook`, and those of the blocking hook never suspend.
    """

    @wraps(method)
    def run(hook: Any, /, *args: MethodP.args, **kwargs: MethodP.kwargs) -> ResultT:
        return finish(method(hook, *args, **kwargs))

    # Otherwise help() and the documentation would call it a method of the asyncio hook, as wraps() does.
    run.__module__ = __name__
    run.__qualname__ = f"RayAgentHook.{method.__name__}"
    return run


class RayAgentHook(ServiceHook):
    """Call a Ray agent or Ray's own dashboard: jobs and their logs, nodes, tasks, Serve applications, plugins.

    The methods that the agent's own client also has (``synapse_sdk.clients.agent.AgentClient``) have its names,
    arguments and results. Use the hook as a context manager, or call :meth:`close`.

    .. code-block:: python

        from airflow.sdk import task

        from airflow_provider_rayagent.hooks.rayagent import RayAgentHook


        @task
        def running_jobs():
            with RayAgentHook("rayagent_default") as hook:
                jobs = hook.list_jobs()
            return [job["submission_id"] for job in jobs if job["status"] == "RUNNING"]

    :param rayagent_conn_id: the Airflow connection of type ``rayagent``.
    :param cluster: the value for the placeholder ``{cluster}`` in the URL of the connection; ``None``: there is none.

    A ``job_id`` is Ray's submission id of the job: 1 to 100 characters of ``A-Z a-z 0-9 _ -``. A ``name`` is that of a
    Serve application. The keys of results are those of plain Ray; results of an agent may have others.

    All methods raise errors of :mod:`airflow_provider_rayagent.exceptions`. A method lists an error only if it has a
    particular meaning there.

    - :class:`RayAgentConfigError`: the Airflow connection does not exist or is invalid.
    - :class:`RayAgentInputError`: an argument is invalid; no request was sent.
    - :class:`RayAgentConnectionError`: the service cannot be reached, or did not answer completely or in time.
    - :class:`RayAgentHTTPError`: the service answered with an error status: :class:`RayAgentNotFoundError` for 404,
      :class:`RayAgentServerError` for 5xx.
    - :class:`RayAgentResponseError`: the response is not one of the service, as at a wrong URL.
    - :class:`RayAgentUnsupportedError`: the service of the connection does not have this function.
    """

    conn_name_attr = "rayagent_conn_id"
    conn_type = "rayagent"
    hook_name = "Ray agent"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def config(self) -> ServiceConfig:
        """The configuration from the connection, read once."""
        return self._read_config()

    def _read_config(self, *, is_test: bool = False) -> ServiceConfig:
        with missing_as_config_error(self.rayagent_conn_id):
            connection = self.get_connection(self.rayagent_conn_id)
        config = config_from_connection(connection, self.cluster, is_test=is_test)
        if config.verify is False:
            text = coded(
                Code.CONNECTION_SETTING, "TLS certificate verification is off for %s ('verify' in the connection)."
            )
            self.log.warning(text, config.base_url)
        if config.exposes_token:
            self.log.warning(coded(Code.CONNECTION_SETTING, f"The URL %s is not https. {UNENCRYPTED}"), config.base_url)
        return config

    @cached_property
    def _client(self) -> BlockingServiceClient:
        # Loaded when it is used, since DAG files import this module.
        from airflow_provider_rayagent.transport.blocking import BlockingServiceClient

        return BlockingServiceClient(self.config)

    def get_conn(self) -> BlockingServiceClient:
        """Return the transport with its connection pool, created at the first use.

        :raises RayAgentConfigError: if the connection cannot be used.
        """
        return self._client

    def close(self) -> None:
        """Close all connections. The hook can be used again; it then opens new ones."""
        # Not ``self._client``, which would create one in order to close it.
        client = self.__dict__.pop("_client", None)
        if client is not None:
            client.close()

    # Jobs

    list_jobs = _blocking(RayAgentAsyncHook.list_jobs)
    get_job = _blocking(RayAgentAsyncHook.get_job)
    stop_job = _blocking(RayAgentAsyncHook.stop_job)
    delete_job = _blocking(RayAgentAsyncHook.delete_job)
    delete_ended_jobs = _blocking(RayAgentAsyncHook.delete_ended_jobs)
    submit_job = _blocking(RayAgentAsyncHook.submit_job)
    upload_working_dir = _blocking(RayAgentAsyncHook.upload_working_dir)
    upload_files = _blocking(RayAgentAsyncHook.upload_files)

    def get_job_logs(self, job_id: str) -> str:
        """Return the log of a job so far, as one text; for long logs prefer :meth:`tail_job_logs`.

        :return: the text with its newlines; empty if nothing is logged yet.
        :raises RayAgentNotFoundError: if the service does not know the job.
        :raises RayAgentResponseError: if the log has more than 250,000,000 characters.
        """
        from airflow_provider_rayagent.transport.log_responses import read_whole_log

        return finish(read_whole_log(self._client, validate_job_id(job_id)))

    def list_job_logs(self, job_id: str) -> str:
        """Return the same as :meth:`get_job_logs`: the agent's client has both names."""
        return self.get_job_logs(job_id)

    # Job logs

    def websocket_tail_job_logs(self, job_id: str, timeout: float = 30.0) -> Iterator[str]:
        """Call :meth:`tail_job_logs` with ``protocol="websocket"``."""
        return self.tail_job_logs(job_id, timeout, protocol="websocket")

    def stream_tail_job_logs(self, job_id: str, timeout: float = 30.0) -> Iterator[str]:
        """Call :meth:`tail_job_logs` with ``protocol="http"``."""
        return self.tail_job_logs(job_id, timeout, protocol="http")

    def tail_job_logs(self, job_id: str, timeout: float = 30.0, *, protocol: Protocol = "auto") -> Iterator[str]:
        """Yield every line of a job's log, once and in order, without its newline, until the job has ended.

        The end of a stream is not the end of the job: while the status is not terminal, the stream is reopened at the
        right line. Lines missing from the streams are read from the whole log. Use :meth:`get_job` to find out whether
        the job succeeded.

        :param timeout: seconds of silence after which the status is checked and the stream reopened, up to 300.
        :param protocol: ``websocket``, ``http`` (server-sent events), or ``auto``: WebSocket with a fallback to
            server-sent events. If neither works, the whole log is polled.
        :raises RayAgentInputError: immediately, if the id, timeout, protocol or a limit is invalid.
        :raises RayAgentNotFoundError: if the agent does not know the job for a minute.
        :raises RayAgentConnectionError: or the agent's last error, if the status cannot be read for five minutes.
        :raises RayAgentLogsUnavailableError: after the last readable line, if the end of the log cannot be read.
        :raises RayAgentStreamLimitError: if a limit of :attr:`stream_limits` is exceeded.
        """
        # Not a generator itself, so that an invalid argument is refused by this call and not by the first next().
        return self._lines(self.follow_job(job_id, hook_tail_settings(self.stream_limits, timeout, protocol)))

    def follow_job(
        self,
        job_id: str,
        settings: TailSettings,
        *,
        cursor: Cursor | None = None,
        deadline: float | None = None,
        stopped: threading.Event | ReentrantEvent | None = None,
    ) -> BlockingFollower:
        """Return a follower that yields a job's lines, notices and status changes; see :class:`BlockingFollower`."""
        from airflow_provider_rayagent.transport.blocking_driver import BlockingFollower

        return BlockingFollower(
            self._client, validate_job_id(job_id), settings, cursor=cursor, deadline=deadline, stopped=stopped
        )

    def _lines(self, follower: BlockingFollower) -> Iterator[str]:
        lines = LimitedLines(follower, self.stream_limits, self.log)
        for items in follower.blocking_items():
            yield from lines.lines_in(items)
        lines.raise_if_incomplete()

    # Cluster

    list_nodes = _blocking(RayAgentAsyncHook.list_nodes)
    get_node = _blocking(RayAgentAsyncHook.get_node)
    list_tasks = _blocking(RayAgentAsyncHook.list_tasks)
    get_task = _blocking(RayAgentAsyncHook.get_task)
    get_gpu_status = _blocking(RayAgentAsyncHook.get_gpu_status)
    get_cluster_resources = _blocking(RayAgentAsyncHook.get_cluster_resources)
    check_feasibility = _blocking(RayAgentAsyncHook.check_feasibility)
    get_gatekeeping_policy = _blocking(RayAgentAsyncHook.get_gatekeeping_policy)
    health_check = _blocking(RayAgentAsyncHook.health_check)

    # Serve

    list_serve_applications = _blocking(RayAgentAsyncHook.list_serve_applications)
    get_serve_application = _blocking(RayAgentAsyncHook.get_serve_application)
    delete_serve_application = _blocking(RayAgentAsyncHook.delete_serve_application)

    # Plugins

    list_plugin_releases = _blocking(RayAgentAsyncHook.list_plugin_releases)
    get_plugin_release = _blocking(RayAgentAsyncHook.get_plugin_release)
    run_plugin_release = _blocking(RayAgentAsyncHook.run_plugin_release)
    run_debug_plugin_release = _blocking(RayAgentAsyncHook.run_debug_plugin_release)

    async def _send(self, make: Callable[[Service], Operation], timeout: Timeout | None = None) -> Any:
        operation = make(self.config.service)
        if timeout is None:
            return self._client.send(operation)
        from airflow_provider_rayagent.transport.blocking import BlockingServiceClient

        # A transport of its own, since timeouts are part of its configuration.
        with BlockingServiceClient(config_with_timeout(self.config, timeout)) as client:
            return client.send(operation)

    async def _compute(self, function: Callable[[], ResultT]) -> ResultT:
        return function()

    def test_connection(self) -> tuple[bool, str]:
        """Test the connection, as the button *Test* of Airflow does. No error is raised.

        :return: whether the connection works, and a message: the service's version, or what to correct.
        """
        from airflow_provider_rayagent.hooks.connection_check import Result, check_connection

        try:
            # Airflow makes this hook for the connection alone.
            self.config = self._read_config(is_test=True)
            # An invalid connection is an error of ``self._client``, before there is anything to check.
            findings = list(check_connection(self._client))
        except RayAgentConfigError as error:
            return False, error.detail
        works = all(finding.result is not Result.PROBLEM for finding in findings)
        first, *links = findings
        return works, " ".join([first.text, *(each.text for each in links if each.result is Result.PROBLEM)])
