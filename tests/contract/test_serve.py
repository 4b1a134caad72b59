"""Serve applications, by the agent's client and by our hook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.conftest import same_answer
from tests.stack.serve import Serve

if TYPE_CHECKING:
    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
    from tests.contract.client import Client
    from tests.stack.agent import LocalAgent

FOR_THEM, FOR_US, KEPT = "for-them", "for-us", "kept"


@pytest.fixture(scope="module")
def serve(agent: LocalAgent, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    deployed = Serve(agent, tmp_path_factory.mktemp("serve"))
    deployed.deploy(FOR_THEM, FOR_US, KEPT)
    return deployed


def test_the_applications_are_listed_shown_and_deleted_one_by_one(
    client: Client, hook: RayAgentHook, serve: Serve
) -> None:
    names = {application["name"] for application in same_answer(client, hook, "list_serve_applications")}
    assert names == {FOR_THEM, FOR_US, KEPT}
    application = same_answer(client, hook, "get_serve_application", FOR_US)
    assert (application["name"], application["status"]) == (FOR_US, "RUNNING")

    assert client.call("delete_serve_application", FOR_THEM) is None
    serve.wait_for({FOR_US: "RUNNING", KEPT: "RUNNING"})
    hook.delete_serve_application(FOR_US)
    serve.wait_for({KEPT: "RUNNING"})
    assert serve.answer(KEPT) == (200, f"this is {KEPT}")
