"""An event that a signal handler can set."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue


class ReentrantEvent:
    """Like :class:`threading.Event`, but a signal handler may set it in the thread that is waiting for it.

    ``Event.set()`` takes a lock that ``Event.wait()`` holds for a moment: a handler that interrupts this moment waits
    for ever. ``SimpleQueue.put()`` is reentrant, as its documentation says.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._wakeups: SimpleQueue[None] = SimpleQueue()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it."""
        self._is_set = True
        self._wakeups.put(None)

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, for at most ``seconds``; return whether it is."""
        if not self._is_set:
            with suppress(Empty):
                self._wakeups.get(timeout=max(seconds, 0.0))
                # For other threads that wait.
                self._wakeups.put(None)
        return self._is_set
