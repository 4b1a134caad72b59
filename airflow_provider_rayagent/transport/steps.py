"""Run operations, and coroutines that never suspend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_rayagent.errors.service_errors import RayAgentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from airflow_provider_rayagent.services.call import Call, Pause, Steps

ResultT = TypeVar("ResultT")


def finish(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Return the result of a coroutine that never suspends, as those of blocking code."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: ResultT = stop.value
        return result
    raise RuntimeError("The coroutine was suspended.")


async def run_steps(operation: Steps, do: Callable[[Call | Pause], Awaitable[Any]]) -> Any:
    """Carry out each step of an operation with ``do``, and return what the operation returns.

    The :class:`RayAgentError` of a step is thrown into the operation.
    """
    try:
        step = next(operation)
        while True:
            try:
                result = await do(step)
            except RayAgentError as error:  # noqa: PERF203 - the outcome of one step
                step = operation.throw(error)
            else:
                step = operation.send(result)
    except StopIteration as stop:
        return stop.value
