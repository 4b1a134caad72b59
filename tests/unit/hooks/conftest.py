"""Both hooks, for the tests that expect the same of each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook, StreamLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[..., Any]


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Call one method of either hook; ``limits`` are those of a log stream, whose lines are added to ``lines``."""

    def blocking(
        method: str, *args: Any, limits: StreamLimits | None = None, lines: list[str] | None = None, **kwargs: Any
    ) -> Any:
        with RayAgentHook() as hook:
            hook.stream_limits = limits or hook.stream_limits
            answer = getattr(hook, method)(*args, **kwargs)
            if "tail" not in method:
                return answer
            found = [] if lines is None else lines
            found.extend(answer)
            return found

    async def asynchronous(
        method: str, *args: Any, limits: StreamLimits | None = None, lines: list[str] | None = None, **kwargs: Any
    ) -> Any:
        async with RayAgentAsyncHook() as hook:
            hook.stream_limits = limits or hook.stream_limits
            answer = getattr(hook, method)(*args, **kwargs)
            if "tail" not in method:
                return await answer
            found = [] if lines is None else lines
            async for line in answer:
                found.append(line)
            return found

    if request.param == "blocking":
        return blocking
    return lambda *args, **kwargs: asyncio.run(asynchronous(*args, **kwargs))
