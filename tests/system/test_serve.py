"""The example DAG that deletes a Serve application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.stack.serve import Serve
    from tests.system.support import System


@pytest.mark.full
def test_one_application_is_deleted_the_other_serves_on_and_a_second_run_is_harmless(
    system: System, serve: Serve
) -> None:
    serve.deploy("retired", "kept")
    assert serve.answer("retired") == (200, "this is retired")

    task = system.delete_application("retired")

    task.assert_ends("success")
    assert task.xcom() == {"name": "retired", "status": "RUNNING", "deleted": True}
    assert "The Serve application 'retired' is gone." in task.text()
    statuses = serve.statuses()
    assert "retired" not in statuses
    assert statuses["kept"] == "RUNNING"
    assert serve.answer("kept") == (200, "this is kept")
    assert serve.answer("retired")[0] == 404

    again = system.delete_application("retired")
    again.assert_ends("success")
    assert again.xcom() == {"name": "retired", "status": None, "deleted": False}
    assert serve.answer("kept") == (200, "this is kept")
