"""What a client knows of the service that it talks to: one object, the same for blocking and asyncio code. Pure.

Transports, drivers, hooks and tasks ask it for requests and hand it what came; which service answers they do not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_rayagent.client.call import Call
    from airflow_provider_rayagent.client.validation import JobId
    from airflow_provider_rayagent.stream.bodies import LogBodyDecoder
    from airflow_provider_rayagent.stream.events import Event
    from airflow_provider_rayagent.tail.commands import StreamSource


class Credential(NamedTuple):
    """How a field of the connection is sent.

    :param header: in which header.
    :param field: the field's name.
    :param prefix: what stands before its value.
    :param is_secret: whether its value must not appear in any message.
    """

    header: str
    field: str
    prefix: str = ""
    is_secret: bool = True


class Service(Protocol):
    """A service in front of a Ray cluster.

    A method that takes a job's id takes a checked one; every other argument is checked by the method, which raises
    :class:`RayAgentInputError`.
    """

    @property
    def credentials(self) -> Sequence[Credential]:
        """How requests say who sends them; the first one is the token."""

    def list_jobs(self) -> Call: ...
    def get_job(self, job_id: JobId) -> Call: ...
    def stop_job(self, job_id: JobId) -> Call: ...
    def list_nodes(self) -> Call: ...
    def get_node(self, node_id: str) -> Call: ...
    def list_tasks(self) -> Call: ...
    def get_task(self, task_id: str) -> Call: ...
    def list_serve_applications(self) -> Call: ...
    def get_serve_application(self, name: str) -> Call: ...
    def delete_serve_application(self, name: str) -> Call: ...
    def get_gpu_status(self) -> Call: ...
    def health_check(self) -> Call: ...
    def list_plugin_releases(self) -> Call: ...
    def get_plugin_release(self, lookup: str) -> Call: ...
    def run_plugin_release(
        self, lookup: str, action: str, params: Mapping[str, Any] | None = None, **body: Any
    ) -> Call:
        """Return the request of the hook's method of this name, which has the other arguments."""

    def run_debug_plugin_release(self, action: str, params: Mapping[str, Any] | None = None, **body: Any) -> Call:
        """Return the request of the hook's method of this name, which has the other arguments."""

    def stream_job_logs(self, job_id: JobId, source: StreamSource) -> Call:
        """Return the request that opens a live log stream."""

    def decode_event(self, data: str | bytes, name: str = "") -> Event:
        """Return the event in one WebSocket message, or in the data of one server-sent event of this name."""

    def get_job_logs(self, job_id: JobId) -> Call:
        """Return the request for the whole log."""

    def log_decoder(self, content_type: str) -> LogBodyDecoder:
        """Return what decodes the body of the whole log."""
