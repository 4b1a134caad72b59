"""The names that a DAG author may use, as ``tests/public_names.txt`` lists them.

    python -m tests.unit.public_names

prints the list; to be put into the page when a name is added on purpose.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from airflow_provider_rayagent.connection.fields import EXTRA_FIELDS

PACKAGE = "airflow_provider_rayagent"
MODULES = (
    "hooks.rayagent",
    "operators.rayagent",
    "decorators.ray_task",
    "sensors.rayagent",
    "triggers.rayagent",
    "triggers.applications",
    "triggers.capacity",
    "triggers.job_watcher",
    "links.rayagent",
    "policies.retry",
    "exceptions",
)
INTERNAL = {"follow_job"}
"""Methods of the hooks that take or return internal objects, for the tasks and triggers of the provider."""


def public_names() -> str:
    """Return the list: each module, its names and, of classes, the arguments and public methods."""
    lines: list[str] = []
    for module_name in MODULES:
        module = importlib.import_module(f"{PACKAGE}.{module_name}")
        lines.append(f"{PACKAGE}.{module_name}")
        lines += [line for name in module.__all__ for line in _of(name, getattr(module, name))]
        lines.append("")
    return "\n".join([*lines, "connection type rayagent", *(f"    {name}" for name in EXTRA_FIELDS)])


def _of(name: str, value: Any) -> list[str]:
    if not inspect.isclass(value):
        return [f"    {name}{_arguments([value])}"]
    own = [kind for kind in value.__mro__ if kind.__module__.startswith(PACKAGE)]
    if issubclass(value, BaseException):
        return [f"    {name}({', '.join(kind.__name__ for kind in own[1:2])})"]
    makers = [kind.__init__ for kind in own if "__init__" in vars(kind)]  # type: ignore[misc]
    lines = [f"    {name}{_arguments(makers)}"]
    if ".hooks." in value.__module__:
        methods = {each: method for kind in reversed(own) for each, method in vars(kind).items() if callable(method)}
        public = [name for name in methods if name[0] != "_" and name not in INTERNAL]
        lines += [f"        {each}{_arguments([methods[each]])}" for each in public]
    return lines


def _arguments(functions: list[Any]) -> str:
    names = {
        name: None
        for function in functions
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    }
    return f"({', '.join(names)})"


if __name__ == "__main__":
    print(public_names())
