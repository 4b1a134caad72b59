"""Push what the messages of a job state to XCom, from a worker or a trigger."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.task_instance.current_state import is_from_archived_try
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.sanitization import shown_error
from airflow_provider_rayagent.text.xcom_keys import key_of_printed_link

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from airflow_provider_rayagent.render.messages import MessageFinder

PUSH_SECONDS = 1.0
"""Between two looks for what has changed."""
MAX_PUSHES = 5
"""XComs that are pushed at a time while the job runs: each is a request to Airflow's API server."""


class MessageXComs:
    """The XComs of a task that its job's messages set: those with a key, and the links that are buttons.

    While the job runs, they are pushed as soon as possible; at its end, the worker pushes what is missing.

    :param push_xcom: pushes an XCom by its key and value; Airflow, or a backend for XComs, may raise any error. In a
        worker, its coroutine never suspends.
    :param log: the task's logger.
    :param links: names of the links that are buttons of the task.
    """

    def __init__(
        self, push_xcom: Callable[[str, Any], Awaitable[None]], log: Any, job_id: str, links: Sequence[str]
    ) -> None:
        self._push_xcom = push_xcom
        self._log = log
        self._job_id = job_id
        self._links = links
        # As JSON, in which ``1`` and ``True`` differ.
        self._pushed: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._due = 0.0
        self._failed = False

    async def push_all(self, messages: MessageFinder) -> None:
        """Push what is new, and what was refused while the job ran, which may be possible now."""
        self._refused.clear()
        while not await self.push_some(messages):
            pass

    async def push_soon(self, messages: MessageFinder) -> None:
        """Push a few of those that are new, if it is time. Call it again and again."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + PUSH_SECONDS
            await self.push_some(messages)

    async def push_some(self, messages: MessageFinder) -> bool:
        """Push a few of those that are new; return whether that was all. No error is raised."""
        changed = self._changed(messages)
        for key, value in list(changed.items())[:MAX_PUSHES]:
            kept = self._pushed
            try:
                await self._push_xcom(key, value)
            except Exception as error:  # noqa: BLE001 - the job's status alone decides the outcome of the task
                self._report(error)
                kept = self._refused
            kept[key] = json.dumps(value)
        return len(changed) <= MAX_PUSHES

    def _changed(self, messages: MessageFinder) -> dict[str, Any]:
        links = {key_of_printed_link(name): messages.links[name] for name in self._links if name in messages.links}
        return {
            key: value
            for key, value in (messages.xcoms | links).items()
            if json.dumps(value) not in (self._pushed.get(key), self._refused.get(key))
        }

    def _report(self, error: Exception) -> None:
        if not self._failed and not is_from_archived_try(error):
            self._failed = True
            self._log.warning(
                coded(Code.INVALID_MESSAGE, "Failed to push what job %s has printed for XCom: %s"),
                self._job_id,
                shown_error(error),
            )
