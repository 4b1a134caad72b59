"""Push what the messages of a job state to XCom, from a worker or a trigger."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.task_instance.state import is_from_archived_try
from airflow_provider_rayagent.task_instance.xcoms import push_xcom
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.sanitization import shown_error
from airflow_provider_rayagent.text.xcom_keys import key_of_printed_link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_rayagent.render.messages import MessageFinder
    from airflow_provider_rayagent.task_instance.xcoms import TriggerXComs

PUSH_SECONDS = 1.0
"""Between two looks for what has changed."""
MAX_PUSHES = 5
"""XComs that are pushed at a time while the job runs: each is a request to Airflow's API server."""


class MessageXComs:
    """The XComs of a task that its job's messages set: those with a key, and the links that are buttons.

    While the job runs, they are pushed as soon as possible; at its end, the worker pushes what is missing.

    :param ti: the task instance.
    :param log: the task's logger.
    :param links: names of the links that are buttons of the task.
    """

    def __init__(self, ti: Any, log: Any, job_id: str, links: Sequence[str]) -> None:
        self._ti = ti
        self._log = log
        self._job_id = job_id
        self._links = links
        # As JSON, in which ``1`` and ``True`` differ.
        self._pushed: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._due = 0.0
        self._failed = False

    def push(self, messages: MessageFinder, most: int | None = None) -> None:
        """Push what is new. No error of Airflow's, or of a backend for XComs, is raised.

        :param most: number of XComs; ``None``: all.
        """
        if most is None:
            # What was refused while the job ran may be possible now.
            self._refused.clear()
        for key, value in list(self._changed(messages).items())[:most]:
            kept = self._pushed
            try:
                push_xcom(self._ti, key, value)
            except Exception as error:  # noqa: BLE001 - the job's status alone decides the outcome of the task
                self._report(error)
                kept = self._refused
            kept[key] = json.dumps(value)

    def push_some(self, messages: MessageFinder) -> None:
        """Push a few of those that are new, if it is time. Call it again and again."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + PUSH_SECONDS
            self.push(messages, MAX_PUSHES)

    async def push_some_from_trigger(self, xcoms: TriggerXComs, messages: MessageFinder) -> bool:
        """Push a few of those that are new; return whether that was all."""
        changed = self._changed(messages)
        if not changed or not xcoms.can_be_set:
            return True
        if not xcoms.is_due:
            return False
        for key, value in list(changed.items())[:MAX_PUSHES]:
            kept = self._pushed
            try:
                await xcoms.set(key, value)
            except Exception as error:  # noqa: BLE001 - no error here may end the task
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
