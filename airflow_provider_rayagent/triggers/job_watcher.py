"""Trigger for an ``AssetWatcher``: an event of an asset for each Ray job that ends.

Airflow stores an event and whatever a trigger saves in two transactions, and no request of a trigger tells which events
are stored (``ToTriggerSupervisor`` in ``airflow/jobs/triggerer_job_runner.py``; the acknowledgments of a shared stream
are lost with the triggerer). A trigger alone would lose or repeat events if its triggerer is killed between both. So it
is a listener of this package, and not the trigger, that moves the position, in the transaction that stores the event
(:mod:`.asset_events`): the next triggerer finds in the position exactly the events that Airflow has.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.run.started_by_watchers import is_started_by
from airflow_provider_rayagent.services.validation import (
    MIN_POLL_SECONDS,
    validate_choice,
    validate_duration,
    validate_text,
)
from airflow_provider_rayagent.watch.ended_jobs import event_of, validated_filter, watch_id_of
from airflow_provider_rayagent.watch.kept_position import KeptPosition

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Iterable, Mapping, Sequence
    from datetime import timedelta

    from airflow_provider_rayagent.text.redaction import Redactor
    from airflow_provider_rayagent.watch.ended_jobs import JobEnd, JobEndEvent
    from airflow_provider_rayagent.watch.job_lists import EndedJobs

__all__ = ["RayAgentJobWatcher"]

BATCH = 100
"""Events after which the trigger waits until Airflow has stored them: its supervisor stores all that it has received
before it sends its next heartbeat (``run_once`` in ``airflow/jobs/triggerer_job_runner.py``)."""


# Of a TypeError, Airflow makes a failed trigger; any other exception in a trigger's constructor ends the triggerer
# (``TriggerRunner.create_triggers`` in ``airflow/jobs/triggerer_job_runner.py``). A stored watcher may be of another
# version of this package.
class _WatcherArgumentError(RayAgentInputError, TypeError):
    """An argument of a watcher is invalid."""


class RayAgentJobWatcher(BaseEventTrigger):
    """Fire one event for each Ray job that ends, whoever has submitted it; for an ``AssetWatcher``.

    The payload of an event has ``event_id``, ``rayagent_conn_id``, ``job_id``, ``status``, ``message``, ``error_type``,
    ``entrypoint``, ``metadata``, ``start_time`` and ``end_time`` (ms since the epoch), and ``duration`` (seconds). Jobs
    that ended before the watcher was created are no events. The triggerer lists the jobs once for all watchers with the
    same connection and interval.

    None of the arguments is a secret.

    .. code-block:: python

        from airflow.sdk import DAG, Asset, AssetWatcher

        from airflow_provider_rayagent.triggers.job_watcher import RayAgentJobWatcher

        watcher = RayAgentJobWatcher(name="train-*", statuses=["SUCCEEDED"])
        trained = Asset("trained", watchers=[AssetWatcher(name="ray", trigger=watcher)])

        with DAG("deploy", schedule=[trained]):
            ...

    :param rayagent_conn_id: the Airflow connection of the service.
    :param name: pattern with ``*``, ``?`` and ``[…]`` that the submission id of the job, or ``job_name`` in its
        metadata, must match as a whole, case included; ``None``: all jobs.
    :param metadata: entries that the job's metadata must have, Ray's being strings; or the same as JSON text.
    :param exclude_metadata: entries of which the job's metadata must have none, in the same forms.
    :param include_own: whether jobs are events that tasks of this package have started in a run that this watcher has
        started, directly or by the events of other runs. Without it, a DAG whose jobs match does not start itself.
    :param statuses: final statuses, of ``SUCCEEDED``, ``FAILED`` and ``STOPPED``; ``None``: all.
    :param poll_interval: seconds between two requests for the list of jobs, at least 0.5.
    :param asset_name: the name of the watched asset. It only makes this watcher another one than that of another asset
        with the same arguments.
    :param queue: run only in a triggerer with ``--queues`` that names this queue (Airflow 3.4 and newer).
    :raises RayAgentInputError: if an argument is invalid.
    """

    def __init__(
        self,
        *,
        rayagent_conn_id: str = "rayagent_default",
        name: str | None = None,
        metadata: Mapping[str, str] | str | None = None,
        exclude_metadata: Mapping[str, str] | str | None = None,
        include_own: bool = False,
        statuses: Sequence[str] | None = None,
        poll_interval: float | timedelta = 15.0,
        asset_name: str | None = None,
        queue: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if queue is not None and not hasattr(self, "queue"):
            raise _WatcherArgumentError("queue needs Airflow 3.4 or newer: leave it out.")
        try:
            if queue is not None:
                # Not in `serialize`: Airflow stores it beside the arguments (``airflow/serialization/encoders.py``).
                self.queue = validate_text(queue, "queue")
            self.rayagent_conn_id = validate_text(rayagent_conn_id, "connection id")
            self._filter = validated_filter(name, metadata, statuses, exclude_metadata)
            self.include_own = validate_choice(include_own, "include_own", (False, True))
            self._watch_id = watch_id_of(self.rayagent_conn_id, self._filter)
            self.poll_interval = max(validate_duration(poll_interval, "poll_interval"), MIN_POLL_SECONDS)
            self.asset_name = None if asset_name is None else validate_text(asset_name, "asset name")
        except RayAgentInputError as error:
            raise _WatcherArgumentError(error.detail) from None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        # Airflow identifies a watcher by these: equal ones must be equal as JSON, too. Metadata is a text, since an
        # object comes to the constructor in its serialized form in Airflow 3.2 (``create_triggers`` in
        # ``airflow/jobs/triggerer_job_runner.py``).
        return f"{type(self).__module__}.{type(self).__name__}", {
            "rayagent_conn_id": self.rayagent_conn_id,
            "name": self._filter.name,
            "metadata": _as_text(self._filter.metadata),
            "exclude_metadata": _as_text(self._filter.excluded),
            "include_own": self.include_own,
            "statuses": None if self._filter.statuses is None else list(self._filter.statuses),
            "poll_interval": self.poll_interval,
            "asset_name": self.asset_name,
        }

    def shared_stream_key(self) -> Hashable:
        """Return what the watchers have in common that share their requests (Airflow 3.3)."""
        return ("airflow_provider_rayagent", "jobs", self.rayagent_conn_id, self.poll_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncGenerator[EndedJobs, None]:
        """Yield the ends of all jobs, again and again."""
        # Not with this module, which DAG files import.
        from airflow_provider_rayagent.watch.job_lists import ended_job_lists

        async with aclosing(ended_job_lists(kwargs["rayagent_conn_id"], kwargs["poll_interval"])) as lists:
            async for found in lists:
                yield found

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Fire the events, with requests of its own (Airflow 3.2)."""
        async with (
            aclosing(self.open_shared_stream(self.serialize()[1])) as lists,
            aclosing(self.filter_shared_stream(lists)) as events,
        ):
            async for event in events:
                yield event

    async def filter_shared_stream(self, shared_stream: AsyncIterator[EndedJobs]) -> AsyncGenerator[TriggerEvent, None]:
        """Fire an event for each end that was none yet."""
        kept = KeptPosition(getattr(self, "asset_state_store", None), self._watch_id, self.log)
        await kept.refresh()
        # Of the list before, whose ends were events by now, or never will be.
        done: Mapping[str, JobEnd] = {}
        async for found in shared_stream:
            if not kept.is_current:
                await kept.refresh()
            unseen = [end for digest, end in found.ends.items() if digest not in done]
            watched = await asyncio.to_thread(self._watched, unseen) if unseen else []
            if not kept.position.has_begun:
                # Even if nothing can be stored at present, since no later list tells as well what is old.
                kept.begin(watched, found.ahead)
            # Read again before each event: if this triggerer was taken for dead, another one has fired events.
            if (not kept.is_current or kept.new(watched)) and not await kept.refresh():
                continue
            if not kept.position.has_begun:
                continue
            new = kept.new(watched)
            for start in range(0, len(new), BATCH):
                batch = new[start : start + BATCH]
                for end, event in zip(batch, await self._events(batch, found.redact), strict=True):
                    yield TriggerEvent(cast("Any", event))  # type: ignore[no-untyped-call]
                    kept.note(end)
                await kept.confirm(batch)
            done = found.ends

    def _watched(self, ends: Iterable[JobEnd]) -> list[JobEnd]:
        """Return those that are watched; slow, since the first list may have 10,000."""
        found = (end for end in ends if self._filter.matches(end.job))
        return [end for end in found if self.include_own or not is_started_by(end.job, self._watch_id)]

    async def _events(self, ends: Sequence[JobEnd], redact: Redactor) -> list[JobEndEvent]:
        # In a thread: a job's environment may contain many secrets, each of which is looked for.
        return await asyncio.to_thread(
            lambda: [event_of(end, self._watch_id, self.rayagent_conn_id, redact) for end in ends]
        )


def _as_text(metadata: Mapping[str, str]) -> str | None:
    return json.dumps(metadata, sort_keys=True) if metadata else None
