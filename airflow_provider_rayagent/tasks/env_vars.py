"""The environment of a job that a task submits, whose values may be secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class EnvVars:
    """Environment variables, kept apart from an operator's template fields, which Airflow stores and shows.

    :param variables: names of environment variables, each with the key of the Airflow variable for its value.
    :param connections: names of environment variables, each with the id of the Airflow connection whose URI is its
        value.
    :param templates: values with templates.
    :param rendered: values without.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    connections: Mapping[str, str] = field(default_factory=dict)
    # The values may be secrets, which the repr of this object must not show.
    templates: Mapping[str, str] = field(default_factory=dict, repr=False)
    rendered: Mapping[str, str] = field(default_factory=dict, repr=False)

    def hide(self, runtime_env: Any, *, rendered: bool) -> tuple[EnvVars, Any]:
        """Return these variables with the values of a runtime environment, which then has ``***`` for each.

        A value ``***`` is the one that was hidden before. A value that is not text, such as the output of another task,
        remains until Airflow has rendered it.

        :param rendered: whether Airflow has rendered the templates in it.
        """
        from airflow_provider_rayagent.text.redaction import REDACTED

        values = runtime_env.get("env_vars") if isinstance(runtime_env, Mapping) else None
        texts = {}
        if isinstance(values, Mapping):
            texts = {name: value for name, value in values.items() if isinstance(value, str)}
            runtime_env = {**runtime_env, "env_vars": {**values, **dict.fromkeys(texts, REDACTED)}}
        elif rendered and isinstance(runtime_env, str):
            runtime_env = REDACTED  # A template that became text instead of a mapping, perhaps with values in it.
        # Airflow assigns the field again when it has rendered it (``Templater._do_render_template_fields``). A variable
        # that was replaced or removed since must not keep its earlier value.
        hidden = {name for name, text in texts.items() if text == REDACTED}
        templates = {name: text for name, text in self.templates.items() if name in hidden}
        done = {name: text for name, text in self.rendered.items() if name in hidden}
        new = {name: text for name, text in texts.items() if name not in templates and name not in done}
        if rendered:
            return replace(self, templates=templates, rendered={**done, **new}), runtime_env
        return replace(self, templates={**templates, **new}, rendered=done), runtime_env

    def as_rendered(self) -> EnvVars:
        """Return the same variables, none of whose values is a template."""
        return replace(self, templates={}, rendered={**self.templates, **self.rendered})

    def values(self, runtime_env: Any, render: Callable[[str], str]) -> dict[str, str]:
        """Return the variables with their values.

        :param runtime_env: the runtime environment that :meth:`hide` returned.
        :param render: renders a template.
        :raises RayAgentInputError: if a variable or connection does not exist, or a name or value is invalid.
        """
        from airflow.sdk import BaseHook, Variable

        from airflow_provider_rayagent.services.submission import validate_env_vars

        hidden = runtime_env.get("env_vars") if isinstance(runtime_env, Mapping) else None
        # Those that are hidden get their values below; the others are not text, such as the output of another task.
        values = {**(hidden or {}), **self.rendered}
        values |= {name: render(template) for name, template in self.templates.items()}
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
    # A missing connection is an AirflowNotFoundException, a missing variable an AirflowRuntimeError, which is no
    # AirflowException (``airflow/sdk/execution_time/context.py``).
    except (AirflowException, AirflowRuntimeError, KeyError):
        raise RayAgentInputError(f"There is no Airflow {what} for the environment of the job.") from None
    # AirflowSecretsBackendAccessDenied of Airflow 3.3 (``airflow/sdk/execution_time/secrets/execution_api.py``).
    except PermissionError:
        raise RayAgentInputError(
            f"This task may not read the Airflow {what}, which the environment of the job needs."
        ) from None
