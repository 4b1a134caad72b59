"""What tells a task instance apart from all others, and what is done where that is not known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID, uuid4

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_rayagent.exceptions import RayAgentUnsupportedError
from airflow_provider_rayagent.task_instance.identity import TaskIdentity, job_key, unknown_dimensions
from tests.unit.support import LoopTaskInstance, TaskInstance, make_context

if TYPE_CHECKING:
    from collections.abc import Iterable

REGION, ANOTHER = uuid4(), uuid4()
IN_LOOP = {"loop": object()}
PLAIN = ("night", "run-7", "follow", "-1")


def key(ti: TaskInstance, **context: Any) -> tuple[str, ...]:
    return job_key(make_context(ti, **context))


def keys(tis: Iterable[TaskInstance]) -> set[tuple[str, ...]]:
    return {key(ti, **IN_LOOP) for ti in tis}


@pytest.mark.parametrize(
    "ti",
    [
        TaskInstance(),
        TaskInstance(map_index=None),  # type: ignore[arg-type]
        # As Airflow 3.4 fills them in outside of any region.
        TaskInstance(region_id=UUID(int=0), region_index=-1),
        TaskInstance(try_number=2),
    ],
)
def test_outside_of_loops_the_key_is_what_it_has_always_been(ti: TaskInstance) -> None:
    assert key(ti) == PLAIN
    assert TaskIdentity.of(ti) == TaskIdentity("night", "run-7", "follow", -1)


def test_a_mapped_task_has_the_same_key_with_and_without_regions() -> None:
    ti = TaskInstance(map_index=3)
    assert key(ti) == key(replace(ti, region_id=REGION, region_index=3)) == (*PLAIN[:3], "3")


def test_iterations_of_a_loop_differ_and_tries_of_one_do_not() -> None:
    first = LoopTaskInstance(region_id=REGION, region_index=0)
    others = [replace(first, region_index=1), replace(first, region_index=2), replace(first, region_id=ANOTHER)]
    assert len({PLAIN} | keys([first, *others])) == 5
    assert key(replace(first, try_number=2, id=uuid4()), **IN_LOOP) == key(first, **IN_LOOP)


def test_a_mapped_task_in_a_loop_differs_from_itself_in_another_iteration() -> None:
    """Both its indexes are the same there: Airflow gives each iteration's expansion a region of its own."""
    first = LoopTaskInstance(map_index=0, region_id=REGION, region_index=0)
    others = [replace(first, region_id=ANOTHER), replace(first, map_index=1, region_index=1)]
    assert len({(*PLAIN[:3], "0")} | keys([first, *others])) == 4


@dataclass
class Sharded(TaskInstance):
    """A task instance of an Airflow that is still to come."""

    shard_index: int | None = None
    model_fields: ClassVar[dict[str, Any]] = {"task_id": None, "shard_index": None, "rendered_map_index": None}


@pytest.mark.parametrize(
    ("ti", "context", "name"),
    [
        (TaskInstance(region_id=REGION, region_index=0), {}, "region_index"),
        (TaskInstance(map_index=1, region_id=REGION, region_index=0), {}, "region_index"),
        (TaskInstance(), IN_LOOP, "loop"),
        (TaskInstance(region_id=REGION), IN_LOOP, "loop"),
        (Sharded(shard_index=0), {}, "shard_index"),
        (Sharded(shard_index=0, region_id=REGION, region_index=1), IN_LOOP, "shard_index"),
    ],
)
def test_what_is_not_known_is_refused_by_name(ti: TaskInstance, context: dict[str, Any], name: str) -> None:
    with pytest.raises(RayAgentUnsupportedError, match=f"instances by {name}, which this version"):
        key(ti, **context)


@pytest.mark.parametrize("unset", [None, -1])
def test_what_is_not_known_and_not_set_is_no_matter(unset: int | None) -> None:
    assert key(Sharded(shard_index=unset)) == PLAIN


def test_the_key_of_airflows_own_task_state_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    state = pytest.importorskip("airflow.sdk.state")

    @dataclass
    class Scope:
        dag_id: str
        shard: str

    @dataclass
    class Instance(TaskInstance):
        shard: str = "east"

    monkeypatch.setattr(state, "TaskScope", Scope)
    with pytest.raises(RayAgentUnsupportedError, match="instances by shard, which"):
        key(Instance())
    assert key(Instance(shard="")) == PLAIN


def test_this_airflow_tells_task_instances_apart_by_nothing_that_is_not_known() -> None:
    assert unknown_dimensions(RuntimeTaskInstance) == []
