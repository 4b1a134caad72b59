"""The environment of a job that a task submits, whose values may be secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.client.errors import RayAgentInputError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class EnvVars:
    """Environment variables, kept apart from an operator's template fields, which Airflow stores and shows.

    :param variables: names of environment variables, each with the key of the Airflow variable for its value.
    :param connections: names of environment variables, each with the id of the Airflow connection whose URI is its
        value.
    :param templates: values with templates.
    :param rendered: values that Airflow has rendered.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    connections: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict, repr=False)
    rendered: Mapping[str, str] = field(default_factory=dict, repr=False)

    def hide(self, runtime_env: Any, *, rendered: bool) -> tuple[EnvVars, Any]:
        """Return these variables with the values of a runtime environment, which then has ``***`` for each.

        A value that is not text, such as the output of another task, remains until Airflow has rendered it.

        :param rendered: whether Airflow has rendered the templates in it.
        """
        values = runtime_env.get("env_vars") if isinstance(runtime_env, Mapping) else None
        if not isinstance(values, Mapping):
            return self, runtime_env
        from airflow_provider_rayagent.text.redaction import REDACTED

        texts = {name: value for name, value in values.items() if isinstance(value, str)}
        hidden = {**runtime_env, "env_vars": {**values, **dict.fromkeys(texts, REDACTED)}}
        if not rendered:
            return replace(self, templates=texts), hidden
        new = {name: text for name, text in texts.items() if text != REDACTED or name not in self.templates}
        return replace(self, rendered={**self.rendered, **new}), hidden

    def values(self, runtime_env: Any, render: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, str]:
        """Return the variables with their values.

        :param runtime_env: the runtime environment that :meth:`hide` returned.
        :param render: renders templates.
        :raises RayAgentInputError: if a variable or connection does not exist, or a name or value is invalid.
        """
        from airflow.sdk import BaseHook, Variable

        from airflow_provider_rayagent.client.submission import validate_env_vars

        hidden = runtime_env.get("env_vars") if isinstance(runtime_env, Mapping) else None
        values = {**(hidden or {}), **render(dict(self.templates)), **self.rendered}
        for name, key in self.variables.items():
            values[name] = _found(lambda key=key: Variable.get(key), f"variable {key!r}")  # type: ignore[misc]
        for name, conn_id in self.connections.items():
            values[name] = _found(
                lambda conn_id=conn_id: BaseHook.get_connection(conn_id).get_uri(),  # type: ignore[misc]
                f"connection {conn_id!r}",
            )
        return validate_env_vars(values)


def validate_names(value: Mapping[str, str] | None, argument: str) -> dict[str, str]:
    """Return names of environment variables with the names of their values in Airflow.

    :param argument: name of the operator's argument, for the message.
    :raises RayAgentInputError: if it is not a mapping of strings.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(part, str) for pair in value.items() for part in pair):
        raise RayAgentInputError(f"{argument} must map names of environment variables to names in Airflow.")
    return dict(value)


def _found(get: Callable[[], str], what: str) -> str:
    from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError

    try:
        return get()
    except (AirflowException, AirflowRuntimeError, KeyError):
        raise RayAgentInputError(f"There is no Airflow {what} for the environment of the job.") from None
