"""Results of requests that all viewers share for a short time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow_provider_rayagent.errors.service_errors import RayAgentTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

T = TypeVar("T")

FRESH_SECONDS = 2.0
"""How long a result is used by default."""
WAIT_SECONDS = 4.5
KEPT_SECONDS = 60.0
"""How old a result may be that takes the place of one which is not there within :data:`WAIT_SECONDS`."""


@dataclass
class _Result:
    task: asyncio.Task[Any]
    started: float
    fresh: Callable[[Any], float]
    expires: float | None = None


class SharedResults:
    """Get each result once for all who ask for it at about the same time. Errors are shared as well.

    :param clock: monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._results: dict[Hashable, _Result] = {}
        self._last: dict[Hashable, _Result] = {}
        """The last ones that were got without an error."""

    async def get(
        self,
        key: Hashable,
        fetch: Callable[[], Coroutine[Any, Any, T]],
        *,
        fresh: Callable[[T], float] = lambda _: FRESH_SECONDS,
    ) -> T:
        """Return the result of ``fetch``, or that of an earlier call with the same key.

        If the caller is cancelled, or does not get the result in time, ``fetch`` continues for the next one. Meanwhile
        the last result is returned.

        :param fresh: returns the seconds for which a result is used, if getting it did not take longer.
        :raises RayAgentTimeoutError: if there is no result within :data:`WAIT_SECONDS`, and none of before.
        """
        # At each call, since there is no timer: the keys of jobs that nobody views any more would stay.
        self._forget_expired()
        result = self._results.get(key)
        if result is None:
            task = asyncio.create_task(fetch())
            result = self._results[key] = _Result(task, self._clock(), fresh)
            task.add_done_callback(partial(self._finished, key, result))
        # Not `wait_for`, which would cancel the request that others wait for as well.
        await asyncio.wait((result.task,), timeout=WAIT_SECONDS)
        if not result.task.done() and key in self._last:
            result = self._last[key]
        if not result.task.done():
            raise RayAgentTimeoutError(f"No response within {WAIT_SECONDS:g} seconds; the page keeps asking.")
        return cast("T", result.task.result())

    def forget(self, *keys: Hashable) -> None:
        """Do not use these results any more: they have changed."""
        for key in keys:
            self._results.pop(key, None)
            self._last.pop(key, None)

    def _finished(self, key: Hashable, result: _Result, _: asyncio.Task[Any]) -> None:
        now = self._clock()
        # `exception` also marks an error as retrieved.
        is_error = result.task.cancelled() or result.task.exception() is not None
        seconds = FRESH_SECONDS if is_error else result.fresh(result.task.result())
        # A slow service is asked for at most half of the time.
        result.expires = now + max(seconds, now - result.started)
        # A result that was forgotten meanwhile is from before the change.
        if not is_error and self._results.get(key) is result:
            self._last[key] = result

    def _forget_expired(self) -> None:
        now = self._clock()
        for key, result in list(self._results.items()):
            if result.expires is not None and result.expires <= now:
                del self._results[key]
        for key, result in list(self._last.items()):
            if (result.expires or now) + KEPT_SECONDS <= now:
                del self._last[key]
