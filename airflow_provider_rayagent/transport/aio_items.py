"""Async iterators that close their connections even if the caller does not.

``break`` leaves an async generator suspended. When it is garbage-collected, ``asyncio`` closes it in a task that the
end of ``asyncio.run`` cancels midway ("coroutine ignored GeneratorExit"). While it is still referenced,
``loop.shutdown_asyncgens`` closes it at the same time as the generators that it uses ("asynchronous generator is
already running"). Therefore a generator with connections to close runs in a task, which ``asyncio.run`` cancels once
and then awaits.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

ItemT = TypeVar("ItemT")


class Items(AsyncGenerator[ItemT, None]):
    """An async iterator that can be used like a generator."""

    @abstractmethod
    async def __anext__(self) -> ItemT:
        """Return the next item."""

    @abstractmethod
    async def aclose(self) -> None:
        """Release all resources; the iterator is exhausted then."""

    async def asend(self, value: None) -> ItemT:  # noqa: ARG002 - defined by the interface
        """Return the next item; the value is ignored."""
        return await self.__anext__()

    async def athrow(self, typ: Any, val: object = None, tb: TracebackType | None = None, /) -> ItemT:  # noqa: ARG002
        """Close the iterator, and raise the exception."""
        await self.aclose()
        error: Any = typ if val is None else val
        raise error


class _Exchange(Generic[ItemT]):
    """State that a generator's task shares with the iterator.

    The task does not reference the iterator itself, which cancels the task when it is garbage-collected.
    """

    def __init__(self) -> None:
        self.items: list[ItemT] = []
        self.error: Exception | None = None
        self.is_closed = False
        self.ready = asyncio.Event()
        self.wanted = asyncio.Event()


class TaskItems(Items[ItemT]):
    """The items of a generator that runs in a separate task, and only while an item is awaited.

    If the consumer is cancelled while it awaits an item, the item is not lost: it is returned next.

    :param source: the generator, not yet started; it is always closed.
    """

    def __init__(self, source: AsyncGenerator[ItemT, None]) -> None:
        self._source = source
        self._exchange: _Exchange[ItemT] = _Exchange()
        self._task: asyncio.Task[None] | None = None
        self._is_asked = False

    async def __anext__(self) -> ItemT:
        """Return the next item."""
        exchange = self._exchange
        if self._task is None:
            self._task = asyncio.create_task(_run(self._source, exchange))
        elif not self._is_asked:
            # Not after a cancelled call, which has asked: the task would run ahead, and pop() reverse two items.
            exchange.wanted.set()
        self._is_asked = True
        await exchange.ready.wait()
        if exchange.items:
            self._is_asked = False
            exchange.ready.clear()
            return exchange.items.pop()
        # Not ``await self._task``, which would raise the CancelledError of a task that aclose() has cancelled.
        await asyncio.wait((self._task,))
        error, exchange.error = exchange.error, None
        if error is not None:
            raise error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the generator."""
        # A task that has ended makes __anext__() raise StopAsyncIteration.
        if self._task is None:
            self._task = asyncio.create_task(_run(self._source, self._exchange))
        self._exchange.is_closed = True
        self._task.cancel()
        await asyncio.wait((self._task,))
        # A task that is cancelled before its first step does not run its ``finally`` block.
        self._exchange.ready.set()

    def __del__(self) -> None:
        if self._task is not None and not self._task.done():
            self._exchange.is_closed = True
            # The garbage collector may run in any thread.
            with suppress(RuntimeError):  # the event loop is closed
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)


async def _run(source: AsyncGenerator[ItemT, None], exchange: _Exchange[ItemT]) -> None:
    """Iterate over the generator, one item per request."""
    try:
        async with aclosing(source):
            async for item in source:
                # Before Python 3.11, anyio cannot tell a cancellation from a timeout that occurs at the same time
                # (its ``CancelScope.__exit__``): the generator then goes on.
                if exchange.is_closed:
                    break
                exchange.items.append(item)
                exchange.ready.set()
                await exchange.wanted.wait()
                exchange.wanted.clear()
    except Exception as error:  # noqa: BLE001 - raised where the item is awaited
        exchange.error = error
    finally:
        exchange.items.clear()
        exchange.ready.set()
