"""Whoever knows the agent's client knows our hook: the same names, arguments and results."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook, StreamLimits
from airflow_provider_rayagent.services.validation import PROTOCOLS

if TYPE_CHECKING:
    from tests.contract.client import Client

# The hook changes no policy, and has one form of it.
NO_METHODS = {"update_gatekeeping_policy", "get_runtime_policy", "update_runtime_policy"}
# The hook returns the agent's JSON object.
MODELS = {"ClusterResourceSnapshot": "dict"}
# What the hook has in another way: it lists without paging, and takes no body that is made by hand.
NOT_OURS = {"list_plugin_releases": ["params", "list_all"], "run_plugin_release": ["data"]}


def parameters_of(method: Any) -> list[list[str | None]]:
    """Return the name, kind and default of each parameter, as ``driver.py`` does."""
    return [
        [each.name, each.kind.name, None if each.default is each.empty else repr(each.default)]
        for each in inspect.signature(method).parameters.values()
        if each.name != "self"
    ]


@pytest.fixture(scope="module")
def theirs(client: Client) -> dict[str, Any]:
    described = client.describe()
    for name in NO_METHODS:
        del described["methods"][name]
    return described


def test_every_method_of_the_client_is_a_method_of_the_hook(theirs: dict[str, Any]) -> None:
    assert len(theirs["methods"]) >= 20
    missing = [
        name for name in theirs["methods"] if not inspect.isfunction(inspect.getattr_static(RayAgentHook, name, None))
    ]
    assert missing == []


def test_every_parameter_has_the_same_name_place_and_default(theirs: dict[str, Any]) -> None:
    ours = {name: parameters_of(getattr(RayAgentHook, name)) for name in theirs["methods"]}
    assert ours == {name: signature["parameters"] for name, signature in theirs["methods"].items()}


@pytest.mark.parametrize("hook", [RayAgentHook, RayAgentAsyncHook])
@pytest.mark.parametrize(
    "method", ["run_plugin_release", "run_debug_plugin_release", "get_plugin_release", "list_plugin_releases"]
)
def test_plugins_are_run_with_the_clients_arguments(theirs: dict[str, Any], hook: type, method: str) -> None:
    """Same names, places, kinds; the same defaults, but that an action must be named."""
    expected = [
        [name, kind, None if name == "action" else default]
        for name, kind, default in theirs["plugins"][method]["parameters"]
        if name not in NOT_OURS.get(method, [])
    ]
    assert parameters_of(getattr(hook, method)) == expected


def test_every_method_returns_the_same_type(theirs: dict[str, Any]) -> None:
    def returns(name: str) -> str:
        annotation = str(inspect.signature(getattr(RayAgentHook, name)).return_annotation)
        return annotation.replace("dict[str, Any]", "dict").replace("Iterator[str]", "Generator[str, None, None]")

    assert {name: returns(name) for name in theirs["methods"]} == {
        name: MODELS.get(signature["returns"], signature["returns"]) for name, signature in theirs["methods"].items()
    }


def test_the_stream_limits_are_a_property_with_the_same_fields(theirs: dict[str, Any]) -> None:
    assert theirs["properties"] == ["stream_limits"]
    ours = inspect.getattr_static(RayAgentHook, "stream_limits")
    assert isinstance(ours, property)
    assert ours.fset
    assert [field.name for field in dataclasses.fields(StreamLimits)] == theirs["limits"]


def test_the_protocols_are_the_same(theirs: dict[str, Any]) -> None:
    assert sorted(PROTOCOLS) == sorted(theirs["protocols"])
