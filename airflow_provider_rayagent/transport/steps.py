"""Run a generator that yields what needs I/O: one loop for blocking and one for asyncio code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

StepT = TypeVar("StepT")
ResultT = TypeVar("ResultT")


def run_steps(
    steps: Generator[StepT, Any, ResultT], do: Callable[[StepT], Any], errors: tuple[type[Exception], ...]
) -> ResultT:
    """Carry out each step with ``do``, and return what the generator returns.

    :param errors: of a step, which are thrown into the generator.
    """
    try:
        step = next(steps)
        while True:
            try:
                result = do(step)
            except errors as error:  # noqa: PERF203 - the outcome of one step
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        value: ResultT = stop.value
        return value


async def run_steps_async(
    steps: Generator[StepT, Any, ResultT], do: Callable[[StepT], Awaitable[Any]], errors: tuple[type[Exception], ...]
) -> ResultT:
    """Do the same with a coroutine function."""
    try:
        step = next(steps)
        while True:
            try:
                result = await do(step)
            except errors as error:  # noqa: PERF203 - the outcome of one step
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        value: ResultT = stop.value
        return value
