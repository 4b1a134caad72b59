"""What Airflow stores of a mapped task that submits jobs: none of the values in their environments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk.definitions.mappedoperator import MappedOperator

SECRET = "s3cret-of-the-environment"
partial = RayAgentSubmitJobOperator.partial


def environment() -> dict[str, Any]:
    return {"pip": ["emoji"], "env_vars": {"KEY": SECRET, "OUT": BaseOperator(task_id="before").output}}


def of_partial() -> tuple[MappedOperator, dict[str, Any]]:
    return partial(task_id="mapped", runtime_env=environment()).expand(entrypoint=["a", "b"]), {"entrypoint": "a"}


def of_expand() -> tuple[MappedOperator, dict[str, Any]]:
    mapped = partial(task_id="mapped", entrypoint="a").expand(runtime_env=[environment()])
    return mapped, {"runtime_env": mapped.expand_input.value["runtime_env"][0]}


def of_expand_kwargs() -> tuple[MappedOperator, dict[str, Any]]:
    mapped = partial(task_id="mapped").expand_kwargs([{"entrypoint": "a", "runtime_env": environment()}])
    return mapped, dict(mapped.expand_input.value[0])


@pytest.mark.parametrize("make", [of_partial, of_expand, of_expand_kwargs])
def test_values_in_a_dag_file_are_not_stored_and_the_task_has_them(
    make: Callable[[], tuple[MappedOperator, dict[str, Any]]],
) -> None:
    with DAG("night", schedule=None) as dag:
        mapped, arguments = make()
    stored = json.dumps(DagSerialization.to_dict(dag))
    assert SECRET not in stored
    assert "emoji" in stored
    if make is not of_expand_kwargs:  # In which Airflow looks for no outputs of tasks.
        assert mapped.upstream_task_ids == {"before"}
    operator: Any = mapped.unmap(arguments)
    assert operator.runtime_env["pip"] == ["emoji"]
    assert operator.runtime_env["env_vars"]["KEY"] == "***"
    assert operator._env_vars.templates == {"KEY": SECRET}


def test_other_values_are_mapped_as_ever() -> None:
    with DAG("night", schedule=None):
        output = BaseOperator(task_id="before").output
        assert partial(task_id="a", entrypoint="a").expand(runtime_env=output).upstream_task_ids == {"before"}
        assert partial(task_id="b").expand_kwargs(output).upstream_task_ids == {"before"}
        assert partial(task_id="c", runtime_env=None).expand(entrypoint=["a"]).partial_kwargs["runtime_env"] is None
