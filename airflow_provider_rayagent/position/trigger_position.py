"""Save a trigger's position in the job's log to an XCom, for the next trigger of the same try.

Not to the task state store, whose requests hang in a trigger. And not in the trigger's ``cleanup()``, which cannot
write XComs when the triggerer shuts down.
"""

from __future__ import annotations

import asyncio
import socket
import uuid
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.position.gaps import TakeOver, take_over
from airflow_provider_rayagent.position.log_files import LogStorage, log_folder_id, storage_of
from airflow_provider_rayagent.tail.cursor import Cursor, LogPosition, as_position
from airflow_provider_rayagent.task_instance.current_state import is_from_archived_try
from airflow_provider_rayagent.task_instance.identity import TaskIdentity
from airflow_provider_rayagent.task_instance.supervisor_channel import Channel
from airflow_provider_rayagent.task_instance.xcoms import push_xcom_from_trigger
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.sanitization import shown_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_provider_rayagent.position.gaps import Gap

POSITION_KEY = "rayagent_log_position"
NO_OWNER = ""
SAVE_SECONDS = 1.0
"""Delay before a changed position is saved."""


class PositionStore:
    """Keep the position of one trigger.

    A position is saved only after the supervisor has read all lines before it, so no line is ever lost. If the
    triggerer is killed, the lines since the last save are written again. Lines in a file that is lost with the
    triggerer are forwarded again: see :mod:`airflow_provider_rayagent.position.gaps`.

    :param ti: the trigger's task instance; without one (``dag.test()``) nothing is saved.
    :param log: the trigger's logger.
    :param start: the position at which the first trigger of this try starts; ``None``: the first line.
    :param storage: where log files are stored.
    """

    def __init__(self, ti: Any, log: Any, *, start: LogPosition | None = None, storage: LogStorage = "auto") -> None:
        from airflow.sdk.execution_time.xcom import XCom

        # Before Airflow 3.3 there is no asyncio API for XComs.
        self._ti: Any = ti if hasattr(XCom, "aset") else None
        self._log = log
        self._owner = uuid.uuid4().hex
        self._channel = Channel.of_loop()
        self._position: LogPosition | None = None
        self._position_on_disk: LogPosition | None = None
        self._start = start
        self._began: LogPosition = start or Cursor().to_json()
        self._storage = storage
        self._folder: str | None = None
        self.gaps: list[Gap] = []
        """The gaps that the worker that completes the task has to forward."""
        self._changed = asyncio.Event()
        self._saved = self._failed = False

    async def load(self) -> TakeOver | None:
        """Take over from an earlier trigger of this try; return how to continue, ``None`` if there was none."""
        saved = await self._read()
        if self._ti is not None:
            self._folder = await asyncio.to_thread(log_folder_id)
        if read_position(saved, self._ti) is None:
            return None
        storage = await asyncio.to_thread(storage_of, self._storage, saved.get("folder"))
        found = take_over(saved, self._start, is_kept=storage == "shared")
        self._position = self._position_on_disk = self._began = found.position
        self.gaps = found.gaps
        # At once, so that the other trigger, if it is still alive, learns that it was replaced (is_current_owner).
        await self._write(self._position)
        return found

    def log_was_rewritten(self) -> list[Gap]:
        """Reset to the start of a rewritten log; return the gaps that cannot be filled any more."""
        # Positions in the old text do not apply to the new one.
        self._began = Cursor().to_json()
        lost, self.gaps = self.gaps, []
        return lost

    def update(self, position: LogPosition) -> None:
        """Set the position (:meth:`JobRecords.position`) up to which all lines are written."""
        if position != self._position:
            self._position = position
            self._changed.set()

    async def save_changes(self, replaced: Callable[[], Awaitable[bool]], push: Callable[[], Awaitable[bool]]) -> None:
        """Save the position after each change, unless ``replaced()``; runs until it is cancelled.

        :param push: pushes what else is new; returns whether that was all.
        """
        has_pushed_all = True
        while self._ti is not None:
            if has_pushed_all:
                await self._changed.wait()
            await asyncio.sleep(SAVE_SECONDS)
            async with self._channel.save_slot():
                if not await replaced():
                    if self._changed.is_set():
                        await self.save()
                    has_pushed_all = await push()

    async def save(self, **more: Any) -> None:
        """Save the position, and more values, once the lines before it are on disk.

        If the supervisor does not read them in time, an earlier position is saved, and only together with ``more``.
        """
        async with self._channel.drained() as is_drained:
            # While nobody can write: a position that is ahead of the log file would lose lines.
            if is_drained:
                self._changed.clear()
                self._position_on_disk = self._position
        if more and not is_drained:
            text = "Airflow has not read all lines of this log in time; the last ones may be missing."
            self._log.warning(coded(Code.LINES_LOST, text))
        if is_drained or more:
            with self._channel.store_in_progress():
                await self._write(self._position_on_disk, **more)

    async def is_current_owner(self) -> bool:
        """Whether no other trigger has taken over from this one."""
        value = await self._read()
        # Nothing, or the value of an earlier try, does not mean that another trigger has taken over.
        if not isinstance(value, dict) or (not self._saved and value.get("try") != str(self._ti.id)):
            return True
        return value.get("owner") in (self._owner, NO_OWNER)

    async def _read(self) -> Any:
        from airflow.sdk.execution_time.xcom import XCom

        if self._ti is None:
            return None
        try:
            return await XCom.aget_one(key=POSITION_KEY, **TaskIdentity.of(self._ti).xcom)
        except Exception as error:  # noqa: BLE001 - no error here may end the task
            self._warn_once(error)
            return None

    async def _write(self, position: LogPosition | None, **more: Any) -> None:
        if self._ti is None:
            return
        value = {
            "try": str(self._ti.id),
            "owner": self._owner,
            "position": position,
            "began": self._began,
            "gaps": [gap.to_json() for gap in self.gaps],
            "folder": self._folder,
            # For people who look at the XCom; no code reads it.
            "host": socket.gethostname(),
            **more,
        }
        try:
            await push_xcom_from_trigger(self._ti, POSITION_KEY, value)
            self._saved = True
        except Exception as error:  # noqa: BLE001 - no error here may end the task
            self._warn_once(error)

    def _warn_once(self, error: Exception) -> None:
        # After a clear, Airflow rejects what the trigger of the old try reads and saves; that is no failure.
        if not self._failed and not is_from_archived_try(error):
            self._failed = True
            self._log.warning(
                coded(
                    Code.POSITION_NOT_SAVED,
                    "Failed to save or read the position in the job's log; lines will be repeated if the triggerer "
                    "restarts: %s",
                ),
                shown_error(error),
            )


def initial_position(ti: Any) -> dict[str, Any]:
    """Return the value before the first trigger; without it, Airflow logs an error when the trigger reads the XCom."""
    return {"try": str(ti.id), "owner": NO_OWNER, "position": None}


def read_position(value: object, ti: Any) -> LogPosition | None:
    """Return the saved position, ``None`` if there is none or it belongs to another try."""
    # After a clear, the trigger of the old try can still save its position.
    if not isinstance(value, dict) or value.get("try") != str(ti.id):
        return None
    return as_position(value.get("position"))
