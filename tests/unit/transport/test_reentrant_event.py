"""An event that a signal handler sets."""

from __future__ import annotations

import signal
import threading

import pytest

from airflow_provider_rayagent.transport.reentrant_event import ReentrantEvent
from tests.stack.watch import PATIENCE

SIGNALS = 2_000


@pytest.mark.timeout(PATIENCE)
def test_a_handler_may_set_it_in_the_middle_of_waiting() -> None:
    """``threading.Event`` hangs here within a few signals."""
    event = ReentrantEvent()
    before = signal.signal(signal.SIGALRM, lambda *_: event.set())
    try:
        for number in range(SIGNALS):
            event = ReentrantEvent()
            signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 50))
            # Python runs a handler only after a wait that begins between the signal and the handler.
            while not event.wait(0.01):
                pass
    finally:
        signal.signal(signal.SIGALRM, before)


def test_all_threads_that_wait_are_woken() -> None:
    event, woken = ReentrantEvent(), list[bool]()
    threads = [threading.Thread(target=lambda: woken.append(event.wait(PATIENCE))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert not event.wait(0.01)
    event.set()
    for thread in threads:
        thread.join()
    assert woken == [True] * 3
    assert event.is_set()
    assert event.wait(0)
