"""Where in a job's log a trigger has come to, kept in an XCom for the next trigger of the same try."""

from __future__ import annotations

import asyncio
import socket
import uuid
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.render.records import as_position
from airflow_provider_rayagent.tail.cursor import Cursor
from airflow_provider_rayagent.task_instance.identity import TaskIdentity
from airflow_provider_rayagent.task_instance.log_files import LogStorage, log_folder_id, storage_of
from airflow_provider_rayagent.task_instance.state import is_from_archived_try
from airflow_provider_rayagent.text.showable import showable
from airflow_provider_rayagent.text.storable import storable
from airflow_provider_rayagent.triggers.gaps import TakeOver, take_over
from airflow_provider_rayagent.triggers.tasklog import Channel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from airflow_provider_rayagent.triggers.gaps import Gap

POSITION_KEY = "rayagent_log_position"
NOBODY = ""
SAVE_SECONDS = 1.0
"""How long after the position moved it is saved."""
MAX_ERROR = 500
"""Characters of an error of Airflow's in a sentence."""


class Position:
    """The position of one trigger.

    A triggerer that is killed leaves the lines behind that it wrote since the last save: they are written again. A
    position is saved only after all that it covers was read by the supervisor, so that no line is ever missing. Where
    the lines before it are in a file that is lost with the triggerer, they are forwarded again: see
    :mod:`airflow_provider_rayagent.triggers.gaps`.

    :param ti: the trigger's task instance; without one (``dag.test()``) nothing is kept.
    :param log: the trigger's logger.
    :param start: the position at which the first trigger of this try begins; ``None``: the first line.
    :param storage: where log files are kept.
    """

    def __init__(
        self, ti: Any, log: Any, *, start: Mapping[str, Any] | None = None, storage: LogStorage = "auto"
    ) -> None:
        from airflow.sdk.execution_time.xcom import XCom

        # Before Airflow 3.3 asyncio code has no XComs.
        self._ti: Any = ti if hasattr(XCom, "aset") else None
        self._log = log
        self._owner = uuid.uuid4().hex
        self._channel = Channel.of_loop()
        self._position: Mapping[str, Any] | None = None
        self._start = start
        self._began: Mapping[str, Any] = start or Cursor().to_json()
        self._storage = storage
        self._folder: str | None = None
        self.gaps: list[Gap] = []
        """What the worker that ends the task has to forward again."""
        self._moved = asyncio.Event()
        self._saved = self._failed = False

    async def load(self) -> TakeOver | None:
        """Take the place of an earlier trigger of this try, if there was one; return how to go on from it."""
        saved = await self._read()
        if self._ti is not None:
            self._folder = await asyncio.to_thread(log_folder_id)
        if read_position(saved, self._ti) is None:
            return None
        storage = await asyncio.to_thread(storage_of, self._storage, saved.get("folder"))
        found = take_over(saved, self._start, is_kept=storage == "shared")
        self._position = self._began = found.position
        self.gaps = found.gaps
        await self._write(self._position)
        return found

    def log_was_rewritten(self) -> list[Gap]:
        """Take note that the job's log begins anew; return the gaps that can't be filled any more."""
        self._began = Cursor().to_json()
        lost, self.gaps = self.gaps, []
        return lost

    def moved(self, position: dict[str, Any]) -> None:
        """Take note that all was written up to ``position`` (see :meth:`JobRecords.position`)."""
        if position != self._position:
            self._position = position
            self._moved.set()

    async def keep(self, replaced: Callable[[], Awaitable[bool]]) -> None:
        """Save the position whenever it has moved, until this is cancelled; not while ``replaced()``."""
        while self._ti is not None:
            await self._moved.wait()
            await asyncio.sleep(SAVE_SECONDS)
            async with self._channel.saving():
                if not await replaced():
                    await self.save()

    async def save(self, **more: Any) -> None:
        """Save the position, and more, once the lines that it covers are on disk."""
        async with self._channel.drained():
            self._moved.clear()
            position = self._position
        with self._channel.storing():
            await self._write(position, **more)

    async def is_ours(self) -> bool:
        """Whether no other trigger has taken this one's place since."""
        value = await self._read()
        if not isinstance(value, dict) or (not self._saved and value.get("try") != str(self._ti.id)):
            return True
        return value.get("owner") in (self._owner, NOBODY)

    async def _read(self) -> Any:
        from airflow.sdk.execution_time.xcom import XCom

        if self._ti is None:
            return None
        try:
            return await XCom.aget_one(key=POSITION_KEY, **TaskIdentity.of(self._ti).xcom)
        except Exception as error:  # noqa: BLE001 - whatever it is, the job is followed on
            self._say(error)
            return None

    async def _write(self, position: Mapping[str, Any] | None, **more: Any) -> None:
        from airflow.sdk.execution_time.xcom import XCom

        if self._ti is None:
            return
        value = {
            "try": str(self._ti.id),
            "owner": self._owner,
            "cursor": position,
            "began": self._began,
            "gaps": [gap.to_json() for gap in self.gaps],
            "folder": self._folder,
            "host": socket.gethostname(),
            **more,
        }
        try:
            await XCom.aset(POSITION_KEY, storable(value), **TaskIdentity.of(self._ti).xcom)
            self._saved = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the job is followed on
            self._say(error)

    def _say(self, error: Exception) -> None:
        if not self._failed and not is_from_archived_try(error):
            self._failed = True
            self._log.warning(
                "The position in the log could not be saved or read; where the triggerer is restarted, lines are "
                "repeated: %s",
                showable(str(error), length=MAX_ERROR),
            )


def first_position(ti: Any) -> dict[str, Any]:
    """Return the position before any trigger; without one Airflow logs an error when the first trigger looks for it."""
    return {"try": str(ti.id), "owner": NOBODY, "cursor": None}


def read_position(value: object, ti: Any) -> dict[str, Any] | None:
    """Return the position that was saved, ``None`` if there is none or it is of another try."""
    if not isinstance(value, dict) or value.get("try") != str(ti.id):
        return None
    return as_position(value.get("cursor"))
