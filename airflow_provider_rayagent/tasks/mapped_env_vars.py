"""The environment of the jobs of a mapped task, whose arguments Airflow stores when it parses the DAG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow.sdk.definitions._internal.mixins import ResolveMixin
from airflow.sdk.definitions.mappedoperator import MappedOperator, OperatorPartial
from airflow.sdk.definitions.xcom_arg import XComArg

from airflow_provider_rayagent.tasks.env_vars import EnvVars

FIELD = "runtime_env"


class HiddenRuntimeEnv(ResolveMixin, Mapping[str, Any]):
    """A runtime environment that Airflow stores with ``***`` for the values of its ``env_vars``.

    Airflow stores a dictionary with its content, and any other object as its ``str()``
    (``airflow/serialization/serialized_objects.py``). A task gets the argument from the DAG file.
    """

    def __init__(self, value: Mapping[str, Any]) -> None:
        self.hidden_runtime_env = value

    def __getitem__(self, key: str) -> Any:
        return self.hidden_runtime_env[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.hidden_runtime_env)

    def __len__(self) -> int:
        return len(self.hidden_runtime_env)

    def __repr__(self) -> str:
        return str(EnvVars().hide(self.hidden_runtime_env, rendered=False)[1])

    def iter_references(self) -> Iterable[tuple[Any, str]]:
        """Return the tasks whose outputs are in it, which must run before."""
        return XComArg.iter_xcom_references(self.hidden_runtime_env)

    def resolve(self, context: Mapping[str, Any]) -> Any:  # noqa: ARG002 - declared by the base class
        """Return the runtime environment, whose templates and references Airflow has yet to render."""
        return self.hidden_runtime_env


class HidingPartial(OperatorPartial):
    """What ``partial`` of the operator returns; it hides the environments that the task is mapped over."""

    @classmethod
    def of(cls, partial: OperatorPartial) -> HidingPartial:
        """Return a copy."""
        partial._expand_called = True  # Or it complains when it is deleted.
        return cls(operator_class=partial.operator_class, kwargs=hidden(partial.kwargs), params=partial.params)

    def expand(self, **mapped_kwargs: Any) -> MappedOperator:
        """Map the task over lists."""
        value = mapped_kwargs.get(FIELD)
        if isinstance(value, Sequence) and not isinstance(value, str):
            mapped_kwargs[FIELD] = [hidden({FIELD: each})[FIELD] for each in value]
        return super().expand(**mapped_kwargs)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> MappedOperator:
        """Map the task over a list of arguments."""
        # Otherwise it is the output of another task, whose values Airflow does not store with the DAG.
        if isinstance(kwargs, Sequence):
            kwargs = [hidden(each) if isinstance(each, Mapping) else each for each in kwargs]
        return super().expand_kwargs(kwargs, strict=strict)


def hidden(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of a mapped task with a :class:`HiddenRuntimeEnv` for the runtime environment."""
    value = arguments.get(FIELD)
    return {**arguments, FIELD: HiddenRuntimeEnv(value)} if isinstance(value, dict) else dict(arguments)
