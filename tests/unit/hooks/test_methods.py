"""The methods of both hooks, as DAG authors find them: documented, with the same arguments, and easy to replace."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from typing import Any
from unittest import mock

import pytest
from typing_extensions import assert_type

from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook

HOOKS: list[type[Any]] = [RayAgentHook, RayAgentAsyncHook]
METHODS = sorted(
    name
    for name, _ in inspect.getmembers(RayAgentAsyncHook, inspect.iscoroutinefunction)
    if name in vars(RayAgentHook) and name[0] != "_" and name not in ("close", "follow_job")
)
"""Methods that the blocking hook has, too."""


def result(hook: Any, value: Any) -> Any:
    """Return what a method returns, or what its coroutine does."""

    async def awaited() -> Any:
        return await value

    return value if isinstance(hook, RayAgentHook) else asyncio.run(awaited())


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_the_same_arguments_and_description_in_both_hooks(name: str) -> None:
    blocking, coroutine = getattr(RayAgentHook, name), getattr(RayAgentAsyncHook, name)
    assert inspect.signature(blocking) == inspect.signature(coroutine)
    for hook, method in ((RayAgentHook, blocking), (RayAgentAsyncHook, coroutine)):
        first, *others = inspect.signature(method).parameters
        assert first == "self"
        assert list(inspect.signature(getattr(hook(), name)).parameters) == others
    assert blocking.__doc__.startswith(coroutine.__doc__.rstrip("."))
    assert inspect.isfunction(blocking)
    assert (blocking.__name__, blocking.__qualname__) == (name, f"RayAgentHook.{name}")
    assert pickle.loads(pickle.dumps(blocking)) is blocking
    assert not inspect.iscoroutinefunction(blocking)


@pytest.mark.parametrize("cls", HOOKS)
def test_a_method_can_be_replaced_in_a_test(cls: type[Any]) -> None:
    hook = cls()
    with mock.patch.object(cls, "get_job", autospec=True, return_value={"status": "RUNNING"}) as replaced:
        assert result(hook, hook.get_job("j1")) == {"status": "RUNNING"}
        with pytest.raises(TypeError):
            hook.get_job("j1", unknown=True)
    replaced.assert_called_once_with(hook, "j1")
    double = mock.create_autospec(cls, instance=True)
    with pytest.raises(TypeError):
        double.get_job()
    assert isinstance(double.get_job, mock.AsyncMock) is (cls is RayAgentAsyncHook)


def test_a_subclass_can_extend_a_method() -> None:
    class Strict(RayAgentHook):
        def get_job(self, job_id: str) -> dict[str, Any]:
            return super().get_job(job_id.strip())

    class AsyncStrict(RayAgentAsyncHook):
        async def get_job(self, job_id: str) -> dict[str, Any]:
            return await super().get_job(job_id.strip())

    for hook in (Strict(), AsyncStrict()):
        with pytest.raises(RayAgentInputError, match="'a/b'"):
            result(hook, hook.get_job(" a/b "))


def test_the_methods_are_found_and_check_an_argument_at_the_call_or_when_it_is_awaited() -> None:
    assert {"get_job", "list_nodes", "submit_job", "upload_working_dir", "run_plugin_release"} < set(METHODS)
    with pytest.raises(RayAgentInputError):
        RayAgentHook().get_job("a/b")
    waiting = RayAgentAsyncHook().get_job("a/b")
    with pytest.raises(RayAgentInputError):
        asyncio.run(waiting)


async def check_types(hook: RayAgentHook, async_hook: RayAgentAsyncHook) -> None:
    """Is never called: mypy checks the types, and that the calls marked as errors are some."""
    assert_type(hook.get_job("j1"), dict[str, Any])
    assert_type(hook.list_nodes(), list[dict[str, Any]])
    assert_type(hook.submit_job("true", job_id="j1", entrypoint_num_cpus=1), str)
    assert_type(hook.run_plugin_release("train@1.0", "train", {"a": 1}, timeout=(1.0, 2.0)), dict[str, Any])
    assert_type(hook.upload_working_dir("folder"), str)
    assert_type(RayAgentHook.get_job(hook, job_id="j1"), dict[str, Any])
    hook.get_job(1)  # type: ignore[arg-type]
    hook.get_job()  # type: ignore[call-arg]
    hook.get_job("j1", "j2")  # type: ignore[call-arg]
    hook.submit_job("true", "j1")  # type: ignore[call-arg]
    hook.check_feasibility("pod", 1)  # type: ignore[arg-type]
    assert_type(await async_hook.get_job("j1"), dict[str, Any])
    assert_type(await asyncio.create_task(async_hook.get_job("j1")), dict[str, Any])
    assert_type(await async_hook.submit_job("true", job_id="j1"), str)
    await async_hook.get_job(1)  # type: ignore[arg-type]
