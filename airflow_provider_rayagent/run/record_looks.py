"""Look at a service's records in a thread of its own, one look at a time for all jobs of a process that wait there."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_rayagent.activity.shared_records import KEPT_SECONDS, SharedRecords
from airflow_provider_rayagent.errors.service_errors import RayAgentConnectionError, RayAgentError
from airflow_provider_rayagent.stream import long_json
from airflow_provider_rayagent.transport import daemon_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.services.call import Steps
    from airflow_provider_rayagent.transport.blocking import BlockingServiceClient

    Look: TypeAlias = Callable[[SharedRecords], Steps]

IDLE_SECONDS = 1.0
"""After this time without a look, the connection is closed."""
MAX_LOADS = 2_000_000
"""Characters of JSON that are parsed at once."""
PAUSE_FACTOR, MAX_PAUSE_SECONDS = 3.0, 1.0
"""How long the thread pauses after a look, compared with the look: Ray's dashboard reads logs in the process that
answers looks, and those of 1,000 jobs can be due at the same time."""
SLOW_SECONDS = 10.0
"""A look that takes longer is one at a service in trouble."""
REST_SECONDS = 30.0
"""How long a service in trouble is left alone. Otherwise looks would take so long that those of other jobs wait."""


class _Looker:
    """The looks at one service. It exists while its thread runs."""

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config
        self.looks: deque[tuple[Look, Future[Any]]] = deque()
        self.has_looks = threading.Condition(_lock)
        self._shared = SharedRecords(config.service, time.monotonic, config.clock.seconds_since)
        self._rests_until = 0.0

    def run(self) -> None:
        found: tuple[Look, Future[Any]] | None = None
        try:
            # Here, since DAG files must not load a transport library.
            from airflow_provider_rayagent.transport.blocking import BlockingServiceClient

            # Without a connection, since the records are kept for longer than a service keeps one open.
            while (found := self._next(KEPT_SECONDS, is_last=True)) is not None:
                with BlockingServiceClient(self.config) as client:
                    client.loads = _loads
                    while found is not None:
                        self._carry_out(client, *found)
                        found = self._next(IDLE_SECONDS)
        except BaseException as error:  # noqa: BLE001 - such as a client that cannot be made
            with _lock:
                _lookers.remove(self)
                if found is not None and not found[1].done():
                    found[1].set_exception(error)
                for _, result in self.looks:
                    if result.set_running_or_notify_cancel():
                        result.set_exception(error)

    def _next(self, seconds: float, *, is_last: bool = False) -> tuple[Look, Future[Any]] | None:
        """Return the next look that somebody waits for; ``None`` if there is none for some seconds.

        :param is_last: whether the thread ends then.
        """
        with _lock:
            until = time.monotonic() + seconds
            while True:
                while self.looks:
                    found = self.looks.popleft()
                    if found[1].set_running_or_notify_cancel():
                        return found
                left = until - time.monotonic()
                if left <= 0:
                    if is_last:
                        # Under the lock, so that no look is added to a thread that ends.
                        _lookers.remove(self)
                    return None
                self.has_looks.wait(left)

    def _carry_out(self, client: BlockingServiceClient, look: Look, result: Future[Any]) -> None:
        began = time.monotonic()
        if began < self._rests_until:
            result.set_exception(RayAgentError("The service did not answer shortly before."))
            return
        try:
            result.set_result(client.send(look(self._shared), tries=1))
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            result.set_exception(error)
        took = time.monotonic() - began
        if took > SLOW_SECONDS or isinstance(result.exception(), RayAgentConnectionError):
            self._rests_until = time.monotonic() + REST_SECONDS
        time.sleep(min(PAUSE_FACTOR * took, MAX_PAUSE_SECONDS))


def _loads(text: str) -> Any:
    """Parse JSON in short turns of the interpreter lock, without which the event loop of a triggerer waits.

    `json.loads` has it for some milliseconds per MB. The parser in Python takes many times as long, and meanwhile takes
    the lock again as soon as it has given it up, so it is only for what would be a pause.
    """
    return long_json.loads(text) if len(text) > MAX_LOADS else json.loads(text)


_lock = threading.Lock()
_lookers: list[_Looker] = []


def start_look(config: ServiceConfig, look: Look) -> Future[Any]:
    """Start a look at the records of a service. Return at once what gets its result, or the exception that it raises.

    :param look: returns the operation.
    """
    result: Future[Any] = Future()
    with _lock:
        # Not a dict: a config has dicts, and so no hash.
        looker = next((each for each in _lookers if each.config == config), None)
        if looker is None:
            looker = _Looker(config)
            try:
                daemon_threads.start(looker.run)
            except RuntimeError as error:
                # There are too many threads, which must not end a task.
                result.set_exception(error)
                return result
            _lookers.append(looker)
        looker.looks.append((look, result))
        looker.has_looks.notify()
    return result
