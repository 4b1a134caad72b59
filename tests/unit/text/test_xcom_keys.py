"""No key of an XCom changes the route of Airflow's API server that a request reaches."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
from airflow.sdk.api.client import Client
from hypothesis import given
from hypothesis import strategies as some

from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.task_instance.xcoms import push_xcom
from airflow_provider_rayagent.text.xcom_keys import MAX_KEY, key_problem, key_problem_of_job
from tests.unit.support import TaskInstance

HOSTILE = [
    "../../../../dag-runs/payroll/forged",
    "../../../other_dag/run/task/return_value",
    "..",
    ".",
    "a/b",
    "a..b",
    "%2e%2e%2fjob_id",
    "a?map_index=0",
    "a#b",
    "a b",
    "a\n",
    "a\\b",
    "\ud800",
    "\uff41",
    "",
    "a" * (MAX_KEY + 1),
]


def path_of(key: str) -> str:
    """Return the path of the request with which Airflow's own client sets an XCom."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(201, json={"message": "ok"})

    with Client(base_url="http://airflow/execution", token="t", transport=httpx.MockTransport(answer)) as client:
        client.xcoms.set("d", "r", "t", key, 1)
    return asked[0].url.raw_path.decode()


@given(some.text("az09AZ_.-/%?#", max_size=8) | some.text(max_size=4))
def test_a_key_that_can_be_used_is_the_last_part_of_the_path(key: str) -> None:
    if not key_problem(key):
        assert path_of(key) == f"/execution/xcoms/d/r/t/{key}"


@pytest.mark.parametrize("key", [*HOSTILE, 7, None, ["a"]], ids=ascii)
def test_no_other_key_is_pushed(key: Any) -> None:
    ti = TaskInstance(id=uuid4())
    with pytest.raises(RayAgentInputError, match=r"RA-310: The XCom is not pushed: the key of an XCom must be"):
        push_xcom(ti, key, 1)
    assert ti.xcoms == {}
    assert not isinstance(key, str) or key_problem_of_job(key).endswith(f"not {key}")


@pytest.mark.parametrize("key", ["loss", "val_loss", "val-loss", "loss.mean", "_own", "0", "a" * MAX_KEY])
def test_ordinary_keys_are_pushed(key: str) -> None:
    ti = TaskInstance()
    push_xcom(ti, key, {"a": "\0"})
    assert ti.xcoms == {key: {"a": "\ufffd"}}


@pytest.mark.parametrize("key", ["return_value", "job_id", "skipmixin_key", "_link_x", "rayagent_log_position"])
def test_jobs_set_no_xcom_that_has_a_meaning(key: str) -> None:
    assert key_problem(key) == ""
    assert key_problem_of_job(key) == f"Airflow or this provider uses the XCom {key} itself"
