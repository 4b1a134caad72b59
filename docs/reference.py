"""Sphinx extension: the entry of a class has all arguments that the class takes, including those of its bases."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.operators.rayagent import IfDone
from airflow_provider_rayagent.position.log_files import LogStorage
from airflow_provider_rayagent.run.job_finder import IfSucceeded
from airflow_provider_rayagent.services.service import ResourceKind
from airflow_provider_rayagent.services.validation import Protocol
from airflow_provider_rayagent.waits.application_wait import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "airflow_provider_rayagent"
PUBLIC_NAMES = Path(__file__).parents[1] / "tests" / "public_names.txt"
CHOICES = {
    "IfDone": IfDone,
    "IfSucceeded": IfSucceeded,
    "LogStorage": LogStorage,
    "Protocol": Protocol,
    "ResourceKind": ResourceKind,
    "Target": Target,
    "Timeout": "tuple[float, float]",
}
"""Names of types that the reference replaces by their values."""
BASES = {
    "run-a-job": "tasks.starting.JobStartingOperator",
    "follow-a-job": "tasks.following.JobFollowingOperator",
}
"""Base classes to which the docstrings refer, by the page at whose end they have an entry of their own."""
_FIELD = re.compile(r":param (\w+):")


def setup(app: Any) -> None:
    """Complete the signatures and docstrings of the public classes."""
    for cls in (*_public_classes(), *map(_class_of, BASES.values())):
        for function in _functions(cls):
            function.__annotations__ = {
                name: _spell_out(annotation) for name, annotation in function.__annotations__.items()
            }
        if not issubclass(cls, BaseException):
            cls.__signature__ = _signature(cls)
    app.connect("source-read", _add_base)
    app.connect("autodoc-process-docstring", _describe_arguments)


def _add_base(app: Any, page: str, source: list[str]) -> None:  # noqa: ARG001
    if page in BASES:
        source[0] += f"\n```{{eval-rst}}\n.. autoclass:: {PACKAGE}.{BASES[page]}\n```\n"


def _class_of(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"{PACKAGE}.{module}"), name)


def _public_classes() -> Iterator[Any]:
    for name in re.findall(rf"^{PACKAGE}\.[\w.]+$", PUBLIC_NAMES.read_text(encoding="utf-8"), re.MULTILINE):
        module = importlib.import_module(name)
        yield from (value for each in module.__all__ if inspect.isclass(value := getattr(module, each)))


def _own_classes(cls: type) -> list[type]:
    return [each for each in cls.__mro__ if each.__module__.startswith(PACKAGE)]


def _functions(cls: type) -> Iterator[Any]:
    for each in _own_classes(cls):
        yield from (inspect.unwrap(value) for value in vars(each).values() if inspect.isfunction(value))


def _spell_out(annotation: Any) -> Any:
    if not isinstance(annotation, str):
        return annotation
    return re.sub(r"\w+", lambda name: str(CHOICES.get(name[0], name[0])).removeprefix("typing."), annotation)


def _signature(cls: type) -> inspect.Signature:
    parameters: dict[str, inspect.Parameter] = {}
    for each in _own_classes(cls):
        if "__init__" in vars(each):
            for parameter in list(inspect.signature(vars(each)["__init__"]).parameters.values())[1:]:
                parameters.setdefault(parameter.name, parameter)
    return inspect.Signature(sorted(parameters.values(), key=lambda parameter: parameter.kind))


def _describe_arguments(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    """Insert the descriptions of the arguments that bases define after those of the class's own."""
    if what != "class" or not obj.__module__.startswith(PACKAGE):
        return
    fields = dict(_fields(lines))
    end = max((last for _, last in fields.values()), default=len(lines))
    inherited: list[str] = []
    for base in _own_classes(obj)[1:]:
        text = inspect.getdoc(base) if "__doc__" in vars(base) else None
        base_lines = (text or "").splitlines()
        for argument, (start, last) in _fields(base_lines):
            if argument not in fields:
                fields[argument] = (start, last)
                inherited += base_lines[start:last]
    lines[end:end] = inherited


def _fields(lines: list[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield each argument that a docstring describes, with the range of its lines."""
    for start, line in enumerate(lines):
        if found := _FIELD.match(line):
            end = start + 1
            while end < len(lines) and lines[end].startswith(" "):
                end += 1
            yield found[1], (start, end)
