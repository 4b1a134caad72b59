"""Calls that may block for longer than anyone waits for them, each in a thread of its own."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

ResultT = TypeVar("ResultT")


def start(function: Callable[[], ResultT]) -> Future[ResultT]:
    """Call a function in a new thread. Return what gets its result, or the exception that it raises."""
    result: Future[ResultT] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            result.set_exception(error)

    # A daemon thread: unlike the threads of an executor, it does not delay the exit of the process.
    threading.Thread(target=run, daemon=True).start()
    return result


def is_done_within(seconds: float, result: Future[ResultT]) -> bool:
    """Wait until there is a result, for some seconds at most. Return whether there is one."""
    # Not ``result(timeout)``, whose TimeoutError may be that of the function.
    return bool(wait((result,), seconds).done)
