"""The asyncio hook; its public name is in ``hooks.rayagent``."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentStreamLimitError
from airflow_provider_rayagent.hooks.connection import (
    config_from_connection,
    config_with_timeout,
    missing_as_config_error,
)
from airflow_provider_rayagent.hooks.log_lines import LimitedLines, hook_tail_settings
from airflow_provider_rayagent.hooks.plugin_methods import PluginMethods
from airflow_provider_rayagent.hooks.service_hook import ServiceHook
from airflow_provider_rayagent.hooks.submission_methods import SubmissionMethods
from airflow_provider_rayagent.services.validation import Protocol, validate_duration, validate_job_id
from airflow_provider_rayagent.transport.aio_items import Items

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
    from datetime import timedelta
    from types import ModuleType

    from typing_extensions import Self

    from airflow_provider_rayagent.hooks.service_hook import ResultT, Timeout
    from airflow_provider_rayagent.services.call import Operation
    from airflow_provider_rayagent.services.service import ResourceKind, Service
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.transport.aio import AsyncServiceClient
    from airflow_provider_rayagent.transport.aio_driver import AsyncFollower


class RayAgentAsyncHook(PluginMethods, SubmissionMethods):
    """Call a Ray agent or Ray's own dashboard from asyncio code.

    The methods are those of :class:`.RayAgentHook`, as coroutines, with the same arguments, results and errors. Those
    that yield the lines of a log are async generators.

    Use the hook as an async context manager, or await :meth:`close`.

    .. code-block:: python

        import asyncio

        from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook


        async def statuses(job_ids):
            async with RayAgentAsyncHook("rayagent_default") as hook:
                jobs = await asyncio.gather(*(hook.get_job(job_id) for job_id in job_ids))
            return [job["status"] for job in jobs]

    :param rayagent_conn_id: the Airflow connection of type ``rayagent``.
    :param cluster: the value for the placeholder ``{cluster}`` in the URL of the connection; ``None``: there is none.
    """

    def __init__(
        self, rayagent_conn_id: str = ServiceHook.default_conn_name, *, cluster: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(rayagent_conn_id, cluster=cluster, **kwargs)
        self._client: AsyncServiceClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def get_async_conn(self) -> AsyncServiceClient:
        """Return the transport with its connection pool, which all hooks for the same agent in this event loop share.

        :raises RayAgentConfigError: if the connection cannot be used.
        """
        if self._client is None:
            from asgiref.sync import sync_to_async

            with missing_as_config_error(self.rayagent_conn_id):
                connection = await self.aget_connection(self.rayagent_conn_id)
            # In a thread: on the event loop mask_secret() may silently fail to reach the supervisor, which masks logs.
            config = await sync_to_async(config_from_connection)(connection, self.cluster)
            pool = await asyncio.to_thread(_load_transport)
            # Asked again: another coroutine may have leased one meanwhile, and only one is returned.
            if self._client is None:
                self._client = pool.lease(config)
        return self._client

    async def close(self) -> None:
        """Release the transport; the last hook closes its connections. The hook can be used again."""
        # Before the await, so that two calls at a time do not return the same lease twice.
        client, self._client = self._client, None
        if client is not None:
            await _load_transport().release(client)

    async def list_jobs(self) -> list[dict[str, Any]]:
        """Return all jobs that the service knows, unsorted, each in the form of :meth:`get_job`.

        Over plain Ray, drivers that were not submitted as jobs are among them: their ``submission_id`` is ``None``.
        """
        return await self._list(lambda service: service.list_jobs())

    async def get_job(self, job_id: str) -> dict[str, Any]:
        """Return a job's details.

        ``runtime_env`` may contain secrets of the job.

        :return: Ray's ``JobDetails``: ``submission_id``, ``job_id`` (of the driver), ``status`` (``PENDING``,
            ``RUNNING``, ``STOPPED``, ``SUCCEEDED`` or ``FAILED``), ``message``, ``entrypoint``, ``start_time`` and
            ``end_time`` (ms since the epoch), ``metadata``, ``runtime_env``, ``driver_exit_code`` and others.
        :raises RayAgentNotFoundError: if the service does not know the job. An agent knows no job in its queue.
        """
        valid_id = validate_job_id(job_id)
        return await self._object(lambda service: service.get_job(valid_id))

    async def get_job_logs(self, job_id: str) -> str:
        """Return the log of a job so far, as one text."""
        from airflow_provider_rayagent.transport.log_responses import read_whole_log

        valid_id = validate_job_id(job_id)
        return await read_whole_log(await self.get_async_conn(), valid_id)

    async def list_job_logs(self, job_id: str) -> str:
        """Return the same as :meth:`get_job_logs`."""
        return await self.get_job_logs(job_id)

    async def stop_job(self, job_id: str) -> dict[str, Any]:
        """Request the stop of a job.

        The response does not mean that the job has ended: poll :meth:`get_job` until its status is terminal. The
        request is not retried once the service may have received it.

        :return: the response of the service: of Ray ``{"stopped": true}``, or ``false`` for a job that had ended.
        :raises RayAgentNotFoundError: if the service does not know the job.
        """
        valid_id = validate_job_id(job_id)
        return await self._object(lambda service: service.stop_job(valid_id))

    async def delete_job(self, job_id: str) -> dict[str, Any]:
        """Delete Ray's record of a job that has ended; its log file stays on the disk of its node.

        :return: Ray's response, ``{"deleted": true}``.
        :raises RayAgentNotFoundError: if there is no such job.
        :raises RayAgentServerError: if the job has not ended.
        :raises RayAgentUnsupportedError: if the connection is to an agent.
        """
        valid_id = validate_job_id(job_id)
        return await self._object(lambda service: service.delete_job(valid_id))

    async def delete_ended_jobs(self, older_than: timedelta | float) -> list[str]:
        """Delete Ray's records of all jobs that ended so long ago, whoever submitted them.

        A task that is tried again later does not find its job any more, and starts another one.

        :param older_than: the least time since the end of a job, as a ``timedelta`` or in seconds.
        :return: the ids of the jobs.
        :raises RayAgentUnsupportedError: if the connection is to an agent.
        """
        before = (time.time() - validate_duration(older_than, "older_than")) * 1000
        deleted: list[str] = await self._send(lambda service: service.delete_ended_jobs(before))
        return deleted

    def websocket_tail_job_logs(self, job_id: str, timeout: float = 30.0) -> AsyncGenerator[str, None]:
        """Call :meth:`tail_job_logs` with ``protocol="websocket"``."""
        return self.tail_job_logs(job_id, timeout, protocol="websocket")

    def stream_tail_job_logs(self, job_id: str, timeout: float = 30.0) -> AsyncGenerator[str, None]:
        """Call :meth:`tail_job_logs` with ``protocol="http"``."""
        return self.tail_job_logs(job_id, timeout, protocol="http")

    def tail_job_logs(
        self, job_id: str, timeout: float = 30.0, *, protocol: Protocol = "auto"
    ) -> AsyncGenerator[str, None]:
        """Yield every line of a job's log, once and in order, without its newline, until the job has ended.

        The arguments and errors are those of :meth:`.RayAgentHook.tail_job_logs`.
        """
        return _Lines(self, validate_job_id(job_id), hook_tail_settings(self.stream_limits, timeout, protocol))

    async def follow_job(
        self,
        job_id: str,
        settings: TailSettings,
        *,
        cursor: Cursor | None = None,
        deadline: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> AsyncFollower:
        """Return a follower that yields a job's lines, notices and status changes; see :class:`AsyncFollower`."""
        valid_id = validate_job_id(job_id)
        client = await self.get_async_conn()
        # After get_async_conn(), which has loaded it in a thread: to load it here would block the event loop.
        from airflow_provider_rayagent.transport.aio_driver import AsyncFollower

        return AsyncFollower(client, valid_id, settings, cursor=cursor, deadline=deadline, clock=clock)

    async def list_nodes(self) -> list[dict[str, Any]]:
        """Return the nodes of the Ray cluster, up to 10,000, dead ones included.

        :return: Ray's ``NodeState`` of each: ``node_id``, ``node_ip``, ``node_name``, ``is_head_node``, ``state``
            (``ALIVE`` or ``DEAD``), ``resources_total`` (by resource, memory in bytes), ``labels`` and others.
        """
        return await self._list(lambda service: service.list_nodes())

    async def get_node(self, node_id: str) -> dict[str, Any]:
        """Return one node, in the form of :meth:`list_nodes`.

        :param node_id: Ray's id of the node, in hexadecimal digits.
        :raises RayAgentNotFoundError: if there is no such node.
        """
        return await self._object(lambda service: service.get_node(node_id))

    async def list_tasks(self) -> list[dict[str, Any]]:
        """Return the Ray tasks on record in the cluster, up to 10,000 attempts of tasks.

        :return: Ray's ``TaskState`` of each, without its details: ``task_id``, ``attempt_number``, ``name``, ``state``,
            ``job_id`` (of the driver), ``node_id`` and others.
        """
        return await self._list(lambda service: service.list_tasks())

    async def get_task(self, task_id: str) -> dict[str, Any]:
        """Return the last attempt of one Ray task.

        :param task_id: Ray's id of the task, in hexadecimal digits.
        :return: as in :meth:`list_tasks`, with details such as ``start_time_ms``, ``end_time_ms``,
            ``required_resources`` and ``error_message``.
        :raises RayAgentNotFoundError: if there is no such task.
        """
        return await self._object(lambda service: service.get_task(task_id))

    async def get_gpu_status(self) -> dict[str, Any]:
        """Return the GPUs of the cluster, summed over its live nodes.

        :return: ``total_gpus``, ``used_gpus`` and ``available_gpus`` (the last two are ``None`` if unknown), and
            ``nodes``, each with ``node_id``, ``node_ip``, ``total``, ``used``, ``available`` and ``types``.
        """
        return await self._object(lambda service: service.get_gpu_status())

    async def get_cluster_resources(self, use_cache: bool = True) -> dict[str, Any]:
        """Return the resources of the cluster: in total, in use and free, for the cluster and for each node.

        The keys are those of the agent's ``ClusterResourceSnapshot``: ``collected_at`` (ISO 8601), ``stale``, ``cpu``,
        ``memory`` and ``object_store`` (bytes), each with ``total``, ``used`` and ``available``; ``gpu`` with
        ``total_gpus``, ``available_gpus`` and others; ``running_jobs``, ``total_serve_replicas``, ``node_counts`` and
        ``nodes``. What the service does not know is missing. Over plain Ray and the local agent, each node also has
        ``gpu`` with ``total``, ``used`` and ``available``.

        :param use_cache: whether an agent may answer from its cache. Over plain Ray, whose usage is up to 5 seconds
            old, it has no effect.
        """
        return await self._object(lambda service: service.get_cluster_resources(use_cache))

    async def check_feasibility(
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
        :return: the agent's response, whose form depends on the agent; that of the local agent has ``feasible`` and
            ``reason``.
        :raises RayAgentInputError: if an argument is invalid.
        :raises RayAgentUnsupportedError: over plain Ray, which has no such check.
        """
        return await self._object(
            lambda service: service.check_feasibility(
                kind, num_cpus, num_gpus=num_gpus, memory_bytes=memory_bytes, replicas=replicas, metadata=metadata
            )
        )

    async def get_gatekeeping_policy(self) -> dict[str, Any]:
        """Return the limits by which the agent admits workloads, such as ``max_concurrent_jobs`` (0: no limit).

        :raises RayAgentUnsupportedError: over plain Ray, which has no such policy.
        """
        return await self._object(lambda service: service.get_gatekeeping_policy())

    async def health_check(self) -> dict[str, Any]:
        """Return the health that the service reports; this also checks the token.

        :return: ``status`` (``ok`` or ``down``) and ``ray``, with ``status``, ``version`` and ``session_name``.
        """
        return await self._object(lambda service: service.health_check())

    async def list_serve_applications(self) -> list[dict[str, Any]]:
        """Return the Serve applications; none if Serve is not running.

        :return: Ray's ``ApplicationDetails`` of each: ``name``, ``status``, ``message``, ``route_prefix``,
            ``last_deployed_time_s`` (seconds since the epoch), ``deployments`` and others.
        """
        return await self._list(lambda service: service.list_serve_applications())

    async def get_serve_application(self, name: str) -> dict[str, Any]:
        """Return one Serve application, in the form of :meth:`list_serve_applications`.

        :raises RayAgentNotFoundError: if there is no such application.
        """
        return await self._object(lambda service: service.get_serve_application(name))

    async def delete_serve_application(self, name: str) -> None:
        """Request the deletion of one Serve application; others are not affected.

        Poll :meth:`get_serve_application` to find out when it is gone. Over plain Ray, a Ray job deletes it, and this
        method waits up to a minute until the deletion has begun.

        :raises RayAgentNotFoundError: if there is no such application.
        :raises RayAgentServerError: over plain Ray, if that Ray job has failed.
        :raises RayAgentTimeoutError: over plain Ray, if the deletion has not begun by then.
        """
        await self._send(lambda service: service.delete_serve_application(name))

    async def _send(self, make: Callable[[Service], Operation], timeout: Timeout | None = None) -> Any:
        client = await self.get_async_conn()
        operation = make(client.config.service)
        if timeout is None:
            return await client.send(operation)
        # Not the shared client, whose timeouts are for all who use it.
        async with type(client)(config_with_timeout(client.config, timeout)) as custom:
            return await custom.send(operation)

    async def _compute(self, function: Callable[[], ResultT]) -> ResultT:
        return await asyncio.to_thread(function)


# No generator function, for the reasons in ``transport/aio_items.py``: a caller may leave at any line.
class _Lines(Items[str]):
    """The lines of a job's log, as a hook's log methods yield them."""

    def __init__(self, hook: RayAgentAsyncHook, job_id: str, settings: TailSettings) -> None:
        self._hook = hook
        self._job_id = job_id
        self._settings = settings
        self._lines: LimitedLines | None = None
        self._lists: Items[list[Item]] | None = None
        self._ready: Iterator[str] = iter(())
        self._closed = False

    async def __anext__(self) -> str:
        """Return the next line."""
        while True:
            try:
                for line in self._ready:
                    return line
            except RayAgentStreamLimitError:
                # Nobody may ask for more, so the stream is closed here; the hook stays open.
                await self.aclose()
                raise
            self._ready = await self._next_lines()

    async def aclose(self) -> None:
        """Close what it holds."""
        self._closed = True
        self._ready = iter(())
        if self._lists is not None:
            await self._lists.aclose()

    async def _next_lines(self) -> Iterator[str]:
        if self._closed:
            raise StopAsyncIteration
        if self._lines is None or self._lists is None:
            follower = await self._hook.follow_job(self._job_id, self._settings)
            self._lines = LimitedLines(follower, self._hook.stream_limits, self._hook.log)
            self._lists = follower.items()
        try:
            return self._lines.lines_in(await anext(self._lists))
        except StopAsyncIteration:
            self._closed = True
            self._lines.raise_if_incomplete()
            raise
        except Exception:
            # Exhausted like a generator that has raised an exception. A cancellation, which is none, loses no line: the
            # next call goes on.
            self._closed = True
            raise


def _load_transport() -> ModuleType:
    """Import the transport; too slow for the event loop."""
    from airflow_provider_rayagent.transport import (
        # For :meth:`RayAgentAsyncHook.follow_job`.
        aio_driver,  # noqa: F401
        pool,
    )

    return pool
