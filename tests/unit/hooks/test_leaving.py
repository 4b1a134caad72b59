"""An asyncio tail that is left early leaves nothing behind, and nothing complains, whoever closes it or doesn't."""

from __future__ import annotations

import asyncio
import gc
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook
from tests.scripted import Follow, Hold, Job, Play, Refuse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.unit.support import Serve


LAST = "line 2999"
TEXT = "".join(f"line {number}\n" for number in range(3_000))
QUIET = Play(Follow(), Hold())
JOBS: dict[str, tuple[Callable[[], Job], Any]] = {
    "websocket": (lambda: Job(TEXT, "RUNNING", ws=[QUIET], sse=[QUIET]), "websocket"),
    "http": (lambda: Job(TEXT, "RUNNING", ws=[QUIET], sse=[QUIET]), "http"),
    "whole log": (lambda: Job(TEXT, "RUNNING", ws=[Refuse(404)], sse=[Refuse(404)]), "auto"),
}


async def leave(lines: Any) -> Any:
    """Leave the loop, and at once the event loop."""
    async for _ in lines:
        break


async def leave_and_keep(lines: Any) -> Any:
    """Hold the iterator longer than the event loop."""
    await leave(lines)
    return lines


async def leave_and_go_on(lines: Any) -> Any:
    """Drop the iterator, and do other things."""
    await leave(lines)
    del lines
    await asyncio.sleep(0.1)


async def close(lines: Any) -> Any:
    """Close it as it should be."""
    async with aclosing(lines):
        await leave(lines)


async def fail(lines: Any) -> Any:
    """Leave the loop by an exception, which holds the iterator."""
    async for _ in lines:
        raise ZeroDivisionError


async def give_up_next(lines: Any) -> None:
    waiting = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.wait((waiting,))


async def give_up(lines: Any) -> Any:
    """Stop waiting for a line."""
    while await anext(lines) != LAST:
        pass
    await give_up_next(lines)


@pytest.mark.parametrize("end", [leave, leave_and_keep, leave_and_go_on, close, fail, give_up])
@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("hook_is_closed", [True, False])
def test_leaving_early_is_silent_and_leaves_no_stream(
    job: str,
    end: Callable[[Any], Awaitable[Any]],
    hook_is_closed: bool,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    make, protocol = JOBS[job]

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        hook = RayAgentAsyncHook()
        try:
            return await end(hook.tail_job_logs("j1", protocol=protocol))
        finally:
            if hook_is_closed:
                await hook.close()

    agent = serve(make())
    kept = None
    try:
        kept = asyncio.run(main())
    except ZeroDivisionError:
        assert end is fail
    agent.wait_until(lambda: agent.open_streams["j1"] == 0)
    if hook_is_closed:
        agent.wait_until(lambda: agent.open_connections == 0)
    del kept
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("protocol", ["websocket", "http"])
def test_a_line_that_comes_when_nobody_waits_any_more_is_the_next_one(protocol: Any, serve: Serve) -> None:
    job = Job("first\n", "RUNNING")

    async def main() -> list[str]:
        async with RayAgentAsyncHook() as hook, aclosing(hook.tail_job_logs("j1", protocol=protocol)) as lines:
            found = [await anext(lines)]
            for word in ("second", "third"):
                await give_up_next(lines)
                job.grow(f"{word}\n")
                await asyncio.sleep(0.05)
                found.append(await anext(lines))
            job.set_status("SUCCEEDED")
            return found + [line async for line in lines]

    serve(job)
    assert asyncio.run(main()) == ["first", "second", "third"]


def test_what_was_closed_gives_nothing_more(serve: Serve) -> None:
    async def main() -> None:
        async with RayAgentAsyncHook() as hook:
            lines = hook.tail_job_logs("j1")
            assert await anext(lines) == "line 0"
            await lines.aclose()
            await lines.aclose()
            assert [line async for line in lines] == []
            unused = hook.tail_job_logs("j1")
            await unused.aclose()
            assert [line async for line in unused] == []
            with pytest.raises(ZeroDivisionError):
                await hook.tail_job_logs("j1").athrow(ZeroDivisionError())

    agent = serve(Job(TEXT))
    asyncio.run(main())
    assert {request.route for request in agent.requests} <= {"GET jobs/j1/", "WS jobs/j1/logs/", "GET jobs/j1/logs/"}
