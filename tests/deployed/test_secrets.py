"""The connection's token is in nothing that the tests before these have made Airflow write."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.deployed.support import Deployed


def test_the_token_is_in_no_object_of_the_store(deployed: Deployed) -> None:
    task = deployed.follow(deployed.submit("print('quiet')"))
    task.assert_ends("success")
    store = deployed.deployment.store
    contents = {key: store.read(key) for key in store.keys()}  # noqa: SIM118 - no mapping
    assert any(task.path() in key for key in contents)
    assert [key for key, content in contents.items() if deployed.agent.token.encode() in content] == []


def test_the_token_is_in_no_file_of_any_machine_and_in_no_output(deployed: Deployed) -> None:
    files = [path for path in deployed.deployment.folder.rglob("*") if path.is_file()]
    assert any(path.name == "triggerer1.out" for path in files)
    assert [str(path) for path in files if deployed.agent.token.encode() in path.read_bytes()] == []
