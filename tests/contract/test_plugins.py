"""Plugins, run by the agent's client and by our hook through the local agent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import (
    RayAgentHTTPError,
    RayAgentNotFoundError,
    RayAgentResourcesError,
)
from airflow_provider_rayagent.services.plugins import job_id_in
from tests.contract.client import TheirError
from tests.contract.conftest import same_answer

if TYPE_CHECKING:
    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
    from tests.contract.client import Client
    from tests.stack.agent import LocalAgent

PARAMS = {"epochs": 1, "seconds": 0, "text": "é 漢 $HOME"}


def test_the_releases(client: Client, hook: RayAgentHook) -> None:
    ours = hook.list_plugin_releases()
    assert [release["plugin"] for release in ours] == ["train"]
    assert client.call("list_plugin_releases")["results"] == ours
    assert same_answer(client, hook, "get_plugin_release", "train@1.0") == ours[0]


@pytest.mark.parametrize(
    ("method", "arguments", "more"),
    [
        ("run_plugin_release", ("train@1.0", "train", PARAMS), {"language": "en"}),
        ("run_debug_plugin_release", ("train", PARAMS), {"plugin_path": "train"}),
    ],
)
def test_a_run(
    client: Client, hook: RayAgentHook, agent: LocalAgent, method: str, arguments: tuple[Any, ...], more: dict[str, Any]
) -> None:
    """The same answer, but for the job's id; and the same job on Ray."""
    theirs, kind = client.call_for(method, *arguments, job_id=f"{method}-by-them", **more)
    ours = getattr(hook, method)(*arguments, job_id=f"{method}-by-us", **more)
    assert type(ours).__name__ == kind
    assert json.loads(json.dumps(ours).replace("by-us", "by-them")) == theirs
    assert job_id_in(ours) == f"{method}-by-us"
    assert job_id_in(theirs) == f"{method}-by-them"

    jobs = [agent.wait(f"{method}-{who}") for who in ("by-them", "by-us")]
    assert [job["status"] for job in jobs] == ["SUCCEEDED", "SUCCEEDED"]
    environments = [job["runtime_env"]["env_vars"] for job in jobs]
    assert [json.loads(each["RAYAGENT_PARAMS"]) for each in environments] == [PARAMS, PARAMS]
    assert jobs[0]["entrypoint"] == jobs[1]["entrypoint"]


@pytest.mark.parametrize(
    ("method", "arguments", "more", "names", "ours_is"),
    [
        ("run_plugin_release", ("nobody", "train"), {}, ("NotFoundError", 404), RayAgentNotFoundError),
        ("get_plugin_release", ("nobody",), {}, ("NotFoundError", 404), RayAgentNotFoundError),
        ("run_plugin_release", ("train", "nothing"), {}, ("ValidationError", 400), RayAgentHTTPError),
        ("run_debug_plugin_release", ("train",), {}, ("ValidationError", 400), RayAgentHTTPError),
        ("run_debug_plugin_release", ("train",), {"modules": {"m": "1"}}, ("ServerError", 501), RayAgentHTTPError),
    ],
)
def test_what_is_refused_is_refused_by_a_named_error_in_both(
    client: Client,
    hook: RayAgentHook,
    method: str,
    arguments: tuple[str, ...],
    more: dict[str, Any],
    names: tuple[str, int],
    ours_is: type[RayAgentHTTPError],
) -> None:
    with pytest.raises(TheirError) as theirs:
        client.call(method, *arguments, **more)
    with pytest.raises(ours_is) as ours:
        getattr(hook, method)(*arguments, **more)
    assert (theirs.value.names[0], theirs.value.status_code) == names
    assert ours.value.status_code == names[1]


def test_missing_gpus_are_told_by_a_named_error(client: Client, hook: RayAgentHook) -> None:
    """The client tries a 503 again and then says that only; the hook says what it is."""
    with pytest.raises(TheirError) as theirs:
        client.call("run_plugin_release", "train", "train_on_gpu")
    with pytest.raises(RayAgentResourcesError, match="needs 1 GPUs") as ours:
        hook.run_plugin_release("train", "train_on_gpu")
    assert theirs.value.status_code == ours.value.status_code == 503


def test_an_id_that_is_taken_is_409(client: Client, hook: RayAgentHook, agent: LocalAgent) -> None:
    hook.run_plugin_release("train", "train", PARAMS, job_id="taken-by-us")
    with pytest.raises(TheirError) as theirs:
        client.call("run_plugin_release", "train", "train", job_id="taken-by-us")
    with pytest.raises(RayAgentHTTPError, match="already exists") as ours:
        hook.run_plugin_release("train", "train", job_id="taken-by-us")
    assert theirs.value.status_code == ours.value.status_code == 409
