"""Where a watcher is, in the state store of its asset: see :mod:`.job_watcher`."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.services.validation import shown
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.sanitization import shown_error
from airflow_provider_rayagent.watch.ended_jobs import WatchPosition, position_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_rayagent.watch.ended_jobs import JobEnd


CONFIRM_SECONDS = 300.0
"""How long to wait until events are in the stored position; Airflow may store a thousand others before."""
UNRECORDED_CONFIRM_SECONDS = 10.0
"""The same if the last ones never were."""
CONFIRM_POLL_SECONDS = 1.0
"""About as often a triggerer sends the events of its triggers to its supervisor (``arun`` in
``airflow/jobs/triggerer_job_runner.py``)."""
MAX_SHOWN_ASSETS = 5


class KeptPosition:
    """The position of one watcher, in memory and, if Airflow has a place for it, in its database.

    :param store: the state store of the watched assets, as Airflow gives it to the trigger; ``None``: there is none.
    """

    def __init__(self, store: Any, watch_id: str, log: Any) -> None:
        self._store: Any = store if _has_coroutines(store) and not _is_of_several_assets(store) else None
        self._given_store = store
        self._key = position_key(watch_id)
        self._log = log
        self._confirm_seconds = CONFIRM_SECONDS
        self._failed = False
        self._is_unknown = True
        self.position = WatchPosition(int(time.time() * 1000), has_begun=False)
        self.is_current = False
        """Whether the stored position was read, and it is that of a watcher that has begun if this one is."""

    async def refresh(self) -> bool:
        """Read what is stored; store where to begin if nothing is. Return whether that succeeded."""
        if self._store is None:
            if self._is_unknown:
                level = logging.WARNING if _is_of_several_assets(self._given_store) else logging.INFO
                self._log.log(level, "%s", _why_unusable(self._given_store))
            self._is_unknown, self.is_current = False, True
            return True
        try:
            stored = await self._load()
            has_begun = self.position.has_begun and not self._is_unknown
            if stored is None or (has_begun and not stored.has_begun):
                await self._save()
                position = self.position
            elif self.is_current:
                position = self.position.merged(stored)
            else:
                # Not that with which this triggerer has begun: another one has fired events since, or was to do so.
                position = stored
        except Exception as error:  # noqa: BLE001 - an event trigger that raises is started again at once
            if not self._failed:
                self._failed = True
                self._warn(
                    f"Until Airflow can read the position of this watcher, it fires no events: {shown_error(error)}"
                )
            return False
        if self._is_unknown:
            self._log.info("Watching the ends of jobs, %s.", "from now on" if stored is None else "as before")
        self.position = position
        self._is_unknown = self._failed = False
        self.is_current = True
        return True

    def begin(self, ends: Iterable[JobEnd], ahead: float | None) -> None:
        """Begin after the first list of jobs, which :meth:`refresh` then stores; see :meth:`.WatchPosition.begun`."""
        self.position = self.position.begun(ends, time.time(), ahead)
        self.is_current = False

    def new(self, ends: Iterable[JobEnd]) -> list[JobEnd]:
        """Return the ends that were no events yet."""
        return [end for end in ends if not self.position.has(end)]

    def note(self, end: JobEnd) -> None:
        """Note an event that was fired."""
        self.position = self.position.after(end.digest, end.time, time.time())

    async def confirm(self, ends: Sequence[JobEnd]) -> None:
        """Wait until Airflow has stored the events of these ends."""
        if self._store is None:
            await asyncio.sleep(CONFIRM_POLL_SECONDS)
            return
        until = time.monotonic() + self._confirm_seconds
        stored: WatchPosition | None = None
        while time.monotonic() < until:
            await asyncio.sleep(CONFIRM_POLL_SECONDS)
            with suppress(Exception):  # The next attempt may succeed.
                stored = await self._load()
            if stored is not None and all(stored.has(end) for end in ends):
                self._confirm_seconds = CONFIRM_SECONDS
                return
        # The listener may not be loaded, or Airflow keeps states elsewhere than in its database.
        if self._confirm_seconds != UNRECORDED_CONFIRM_SECONDS:
            self._confirm_seconds = UNRECORDED_CONFIRM_SECONDS
            self._warn("Airflow has not recorded events with their position: after a crash, some may come twice.")
        with suppress(Exception):
            await self._save()

    async def _load(self) -> WatchPosition | None:
        return WatchPosition.from_json(await self._store.aget(self._key))

    async def _save(self) -> None:
        await self._store.aset(self._key, self.position.to_json())

    def _warn(self, text: str) -> None:
        self._log.warning("%s", coded(Code.POSITION_NOT_SAVED, text))


NO_POSITION = (
    "Watching the ends of jobs from now on, without a stored position: ends while no triggerer runs this watcher are "
    "lost."
)


def _has_coroutines(store: Any) -> bool:
    # Without them, as in Airflow 3.3.0 and 3.3.1, a store would block the event loop.
    return hasattr(store, "aget")


# Airflow gives a trigger of several assets one object for their stores, which has no default (``_single_accessor`` in
# ``airflow/sdk/execution_time/context.py``) and no public list of the assets.
def _is_of_several_assets(store: Any) -> bool:
    return _has_coroutines(store) and getattr(store, "_total", 1) > 1


def _why_unusable(store: Any) -> str:
    if not _is_of_several_assets(store):
        return f"{NO_POSITION} A stored position requires Airflow 3.3.2 or newer."
    names = ", ".join(shown(name) for name in sorted(getattr(store, "_by_name", ()))[:MAX_SHOWN_ASSETS])
    problem = f"{NO_POSITION} Several assets ({names}) have a watcher with these arguments, which Airflow runs as one."
    return coded(Code.SHARED_WATCHER, f"{problem} Give each watcher the name of its asset as asset_name.")
