"""Both hooks, for the tests that expect the same of each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call one method of either hook."""

    def blocking(method: str, *args: Any, **kwargs: Any) -> Any:
        with RayAgentHook() as hook:
            answer = getattr(hook, method)(*args, **kwargs)
            return list(answer) if "tail" in method else answer

    async def asynchronous(method: str, *args: Any, **kwargs: Any) -> Any:
        async with RayAgentAsyncHook() as hook:
            answer = getattr(hook, method)(*args, **kwargs)
            return [line async for line in answer] if "tail" in method else await answer

    if request.param == "blocking":
        return blocking
    return lambda *args, **kwargs: asyncio.run(asynchronous(*args, **kwargs))
