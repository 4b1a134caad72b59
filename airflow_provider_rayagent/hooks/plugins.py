"""The hooks' methods that run plugins, blocking and asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.client.call import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_rayagent.client.call import Call
    from airflow_provider_rayagent.client.service import Service

Timeout = tuple[float, float]
"""Seconds to connect, and to wait for the answer."""


class PluginMethods:
    """What :class:`RayAgentHook` can do with plugins."""

    def list_plugin_releases(self) -> list[dict[str, Any]]:
        """Return the plugin releases that the agent has; of an agent that gives them page by page, the first page."""
        releases: list[dict[str, Any]] = self._send(lambda service: service.list_plugin_releases())
        return releases

    def get_plugin_release(self, lookup: str) -> dict[str, Any]:
        """Return one plugin release.

        :param lookup: the release's id, or ``plugin@version``.
        """
        release: dict[str, Any] = self._send(lambda service: service.get_plugin_release(lookup))
        return release

    def run_plugin_release(
        self,
        lookup: str,
        action: str,
        params: Mapping[str, Any] | None = None,
        *,
        requirements: Sequence[str] | None = None,
        job_id: str | None = None,
        language: str | None = None,
        timeout: Timeout | None = None,
    ) -> dict[str, Any]:
        """Start an action of a plugin as a job, and return the agent's answer.

        That the job was taken does not say that it runs: the agent may queue it, and until it is Ray's
        :meth:`get_job` does not know it. The request is not sent again once it may have been received; give a
        ``job_id`` of your own, so that the job can be found whatever came of the answer.
        :func:`airflow_provider_rayagent.client.plugins.job_id_in` reads the job's id from the answer.

        :param lookup: the release's id, or ``plugin@version``.
        :param action: the action's name.
        :param params: what the action takes: JSON.
        :param requirements: pip requirements to install besides the plugin's own.
        :param job_id: the job's id, 1 to 100 of ``A-Z a-z 0-9 _ -``; default: the agent makes one up.
        :param language: language code of the action's messages, such as ``en``.
        :param timeout: seconds to connect and to wait for the answer; default: the connection's.
        :return: a JSON object as it came; any other answer is under ``answer``.
        :raises RayAgentInputError: for an argument that can't be sent.
        :raises RayAgentGPUUnavailableError: if the cluster has not the GPUs that the action needs.
        """

        def make(service: Service) -> Call:
            return service.run_plugin_release(
                lookup, action, params, requirements=requirements, job_id=job_id, language=language
            )

        answer: dict[str, Any] = self._send(make, timeout)
        return answer

    def run_debug_plugin_release(
        self,
        action: str,
        params: Mapping[str, Any] | None = None,
        *,
        plugin_path: str | None = None,
        config: Mapping[str, Any] | None = None,
        modules: Mapping[str, str] | None = None,
        requirements: Sequence[str] | None = None,
        job_id: str | None = None,
        language: str | None = None,
        timeout: Timeout | None = None,
    ) -> dict[str, Any]:
        """Start an action of a plugin from its source; all else is as for :meth:`run_plugin_release`.

        :param plugin_path: folder with the plugin's source, where the agent can read it.
        :param config: plugin configuration in place of the plugin's own: JSON.
        :param modules: source code by module name.
        """

        def make(service: Service) -> Call:
            return service.run_debug_plugin_release(
                action,
                params,
                plugin_path=plugin_path,
                config=config,
                modules=modules,
                requirements=requirements,
                job_id=job_id,
                language=language,
            )

        answer: dict[str, Any] = self._send(make, timeout)
        return answer

    def _send(self, make: Callable[[Service], Call], timeout: Timeout | None = None) -> Any:
        raise NotImplementedError


class AsyncPluginMethods:
    """What :class:`RayAgentAsyncHook` can do with plugins; each method does what its namesake above does."""

    async def list_plugin_releases(self) -> list[dict[str, Any]]:
        """Return the plugin releases that the agent has."""
        releases: list[dict[str, Any]] = await self._send(lambda service: service.list_plugin_releases())
        return releases

    async def get_plugin_release(self, lookup: str) -> dict[str, Any]:
        """Return one plugin release."""
        release: dict[str, Any] = await self._send(lambda service: service.get_plugin_release(lookup))
        return release

    async def run_plugin_release(
        self,
        lookup: str,
        action: str,
        params: Mapping[str, Any] | None = None,
        *,
        requirements: Sequence[str] | None = None,
        job_id: str | None = None,
        language: str | None = None,
        timeout: Timeout | None = None,
    ) -> dict[str, Any]:
        """Start an action of a plugin as a job, and return the agent's answer."""

        def make(service: Service) -> Call:
            return service.run_plugin_release(
                lookup, action, params, requirements=requirements, job_id=job_id, language=language
            )

        answer: dict[str, Any] = await self._send(make, timeout)
        return answer

    async def run_debug_plugin_release(
        self,
        action: str,
        params: Mapping[str, Any] | None = None,
        *,
        plugin_path: str | None = None,
        config: Mapping[str, Any] | None = None,
        modules: Mapping[str, str] | None = None,
        requirements: Sequence[str] | None = None,
        job_id: str | None = None,
        language: str | None = None,
        timeout: Timeout | None = None,
    ) -> dict[str, Any]:
        """Start an action of a plugin from its source, and return the agent's answer."""

        def make(service: Service) -> Call:
            return service.run_debug_plugin_release(
                action,
                params,
                plugin_path=plugin_path,
                config=config,
                modules=modules,
                requirements=requirements,
                job_id=job_id,
                language=language,
            )

        answer: dict[str, Any] = await self._send(make, timeout)
        return answer

    async def _send(self, make: Callable[[Service], Call], timeout: Timeout | None = None) -> Any:
        raise NotImplementedError
