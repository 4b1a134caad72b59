"""Poll the jobs of a service for as long as somebody watches them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.errors.transience import is_permanent
from airflow_provider_rayagent.hooks.async_hook import RayAgentAsyncHook
from airflow_provider_rayagent.tail.backoff import pause_after
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.sanitization import shown_error
from airflow_provider_rayagent.watch.ended_jobs import JobEnd, details_of_end, ends_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from airflow_provider_rayagent.connection.service_clock import ServiceClock
    from airflow_provider_rayagent.text.redaction import Redactor
    from airflow_provider_rayagent.transport.aio import AsyncServiceClient

log = logging.getLogger(__name__)

FIRST_PAUSE = 2.0
"""Nominal seconds after a failed poll; doubled for each further one, and jittered."""
MAX_PAUSE = 60.0
MIN_PERMANENT_PAUSE = 30.0
"""After an error that lasts until somebody changes the connection or the service."""


class EndedJobs(NamedTuple):
    """The ends that one poll has found.

    :param ends: by their digests, the earliest first.
    :param redact: redacts the secrets of the connection.
    :param ahead: seconds by which the clock of the service is ahead of that of this machine, at least; ``None`` if that
        is unknown.
    """

    ends: Mapping[str, JobEnd]
    redact: Redactor
    ahead: float | None


async def ended_job_lists(rayagent_conn_id: str, poll_interval: float) -> AsyncGenerator[EndedJobs, None]:
    """Yield the ends of all jobs that the service knows, again and again. No error ends it.

    Airflow starts an event trigger that has raised an error again within seconds, for ever: it stays assigned to its
    triggerer (``update_triggers`` in ``airflow/jobs/triggerer_job_runner.py``).

    :param poll_interval: seconds between two requests.
    """
    outage = _Outage(rayagent_conn_id)
    ends: Mapping[str, JobEnd] = {}
    while True:
        try:
            # Opened again after each error, so that a change of the connection becomes effective.
            async with RayAgentAsyncHook(rayagent_conn_id) as hook:
                client = await hook.get_async_conn()
                while True:
                    ends = await _ends(client, ends)
                    outage.end()
                    yield EndedJobs(ends, client.config.redact, _seconds_ahead(client.config.clock))
                    await asyncio.sleep(poll_interval)
        except Exception as error:  # noqa: BLE001 - see above
            pause = outage.note(error)
        await asyncio.sleep(pause)


async def _ends(client: AsyncServiceClient, known: Mapping[str, JobEnd]) -> Mapping[str, JobEnd]:
    call = replace(client.config.service.list_jobs(), substitute=partial(details_of_end, known=known))
    return await asyncio.to_thread(ends_of, await client.send(call), known)


def _seconds_ahead(clock: ServiceClock) -> float | None:
    now = clock.seconds_since(0.0)
    return None if now is None else now - time.time()


class _Outage:
    """A series of failed polls, which is reported once."""

    def __init__(self, rayagent_conn_id: str) -> None:
        self._conn_id = rayagent_conn_id
        self._failures = 0
        self._reported: str | None = None

    def note(self, error: Exception) -> float:
        """Count a failed poll; return the seconds to wait before the next one."""
        self._failures += 1
        code = error.code if isinstance(error, RayAgentError) else Code.CONNECTION_SETTING
        permanent = is_permanent(error)
        # Another kind of error is news: a service that has come back may refuse the token.
        if self._reported != code:
            self._reported = code
            detail = error.detail if isinstance(error, RayAgentError) else shown_error(error)
            message = f"The jobs of the connection {self._conn_id!r} cannot be listed, so no end of a job is noticed."
            remedy = " This lasts until somebody changes the connection or the service." if permanent else ""
            level = logging.ERROR if permanent else logging.WARNING
            log.log(level, "%s", coded(code, f"{message}{remedy} Trying again, without further messages. {detail}"))
        pause = pause_after(self._failures, FIRST_PAUSE, MAX_PAUSE, random.random())  # noqa: S311
        return max(pause, MIN_PERMANENT_PAUSE) if permanent else pause

    def end(self) -> None:
        """Note a poll that has succeeded."""
        if self._reported is not None:
            log.info("The jobs of the connection %r can be listed again.", self._conn_id)
        self._failures, self._reported = 0, None
