"""The thread in which the page sends requests to the services, follows logs, and computes what it shows.

On the event loop of Airflow's API server, each of these would delay all requests to Airflow. A thread delays them as
well, since the interpreter lets it compute for 5 ms at a time (``sys.getswitchinterval``). Therefore the thread rests
for as long as it has computed: see :func:`rest`.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_rayagent.transport.aio_items import TaskItems

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
    from concurrent.futures import Future

T = TypeVar("T")

# Less than the 5 ms after which the interpreter would interrupt it, so others seldom wait that long.
COMPUTING_SECONDS = 0.002
"""How long the thread computes before it rests, at least."""
MAX_REST_SECONDS = 0.05


class PageThread:
    """A thread with an event loop, which starts when it is first used: Airflow may fork its API server before."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, running."""
        # Requests come from the event loop and from the threads of FastAPI's pool.
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A daemon, since the loop never ends: otherwise the interpreter would wait for this thread at its exit.
                threading.Thread(target=self._run, args=(self._loop,), name="rayagent-page", daemon=True).start()
            return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        _computing.since = time.thread_time()
        # The many objects of a long list cause full garbage collections, which look at all that Airflow has loaded:
        # without this, requests to Airflow's own API take half a second meanwhile (``benchmarks/page.py``). What is
        # loaded is never garbage: exempt it, as Airflow's LocalExecutor does before it forks
        # (airflow/executors/local_executor.py).
        gc.freeze()
        loop.run_forever()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine; if the caller is cancelled, so is the coroutine."""
        return await asyncio.wrap_future(self.start(coroutine))

    async def compute(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return the result of a function."""

        async def call() -> T:
            return function(*args, **kwargs)

        return await self.run(call())

    async def iterate(self, source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """Yield the items of a generator, and close it at the end."""
        items = TaskItems(source)
        try:
            with suppress(StopAsyncIteration):
                while True:
                    yield await self.run(items.__anext__())
        finally:
            # Not awaited: Starlette cancels whatever a stream awaits after its viewer has left.
            self.start(items.aclose())


class _Computing(threading.local):
    since: float | None = None
    """CPU time of the thread at the end of its last rest; ``None`` in another thread than that of the page."""


_computing = _Computing()
page_thread = PageThread()


def rest() -> None:
    """Let other threads compute, if this is the thread of the page and it has computed for a while."""
    if _computing.since is None:
        return
    # CPU time: while the thread waits for the interpreter lock or a socket, others compute anyway.
    used = time.thread_time() - _computing.since
    if used >= COMPUTING_SECONDS:
        # Not `asyncio.sleep`: it is called in the middle of functions, and blocks only the loop of this thread.
        time.sleep(min(used, MAX_REST_SECONDS))
        _computing.since = time.thread_time()


def resting(items: Iterable[T], size: int) -> Iterator[T]:
    """Yield the items; :func:`rest` after each ``size`` of them."""
    for number, item in enumerate(items, 1):
        yield item
        if not number % size:
            rest()
