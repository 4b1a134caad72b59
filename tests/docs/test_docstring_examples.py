"""Each public class has an example in its docstring, which runs as it stands."""

from __future__ import annotations

import importlib
import inspect
import re
from textwrap import dedent

import pytest

from tests.docs.conftest import run_block
from tests.docs.test_reference import CLASSES, SETTINGS

USED_AS = {"ray_task": "@task.ray", "DisplaySettings": "display="}
"""How a DAG file writes what it does not import by its name."""
_BLOCK = r"^\.\. code-block:: python\n\n((?:(?: {4}.*)?\n)+)"


def examples_of(name: str) -> list[str]:
    """Return the examples in the docstring of a public name."""
    module, _, last = name.rpartition(".")
    text = inspect.getdoc(getattr(importlib.import_module(module), last)) or ""
    return [dedent(block).strip() + "\n" for block in re.findall(_BLOCK, f"{text}\n", re.MULTILINE)]


def test_the_examples_are_found() -> None:
    [block] = examples_of("airflow_provider_rayagent.triggers.capacity.RayAgentCapacityTrigger")
    assert block.startswith("from airflow.sdk import BaseOperator\n")
    assert block.endswith('{event}")\n')


@pytest.mark.parametrize("name", sorted({*CLASSES, SETTINGS}))
def test_the_example_of_a_class_uses_it_and_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, last = name.rpartition(".")
    [block] = examples_of(name)
    if last in USED_AS:
        assert USED_AS[last] in block
    else:
        assert re.search(rf"^from {re.escape(module)} import (?:\w+, )*{last}\b", block, re.MULTILINE)
        assert re.search(rf"\b{last}\(", block)
    run_block(block, name, monkeypatch)
