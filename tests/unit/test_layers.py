"""Which package of ours may import which: CONTRIBUTING has the picture."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import airflow_provider_rayagent

ROOT = Path(airflow_provider_rayagent.__file__).parent
NAME = ROOT.name
WITHOUT_AIRFLOW = (
    "text",
    "stream",
    "tail",
    "errors",
    "services",
    "connection",
    "working_dir",
    "transport",
    "render",
    "failures",
    "waits",
    "activity",
)
LAYERS = (
    *WITHOUT_AIRFLOW,
    "exceptions",
    "kuberay",
    "metrics",
    "task_instance",
    "lineage",
    "policies",
    "position",
    "run",
    "hooks",
    "links",
    "watch",
    "triggers",
    "tasks",
    "operators",
    "decorators",
    "sensors",
    "ui",
    "cli",
)
"""From the lowest to the highest; a module imports from its own layer and from lower ones."""
MODULES = sorted(ROOT.rglob("*.py"))


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def layers_imported_by(path: Path) -> set[str]:
    """Return the layers that a module imports from, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    layers = {name.split(".")[1] for name in names if name.startswith(f"{NAME}.")}
    return layers - {"__version__"}


def test_every_package_has_its_layer() -> None:
    assert {layer_of(path) for path in MODULES} == {*LAYERS, "local", "get_provider_info", "__init__"}


def test_no_two_modules_have_the_same_name() -> None:
    """Except those that DAG files import from: ``rayagent``."""
    names = Counter(path.stem for path in MODULES if path.stem not in {"__init__", "rayagent"})
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("layer", LAYERS)
def test_nothing_imports_from_a_higher_layer(layer: str) -> None:
    allowed = set(LAYERS[: LAYERS.index(layer) + 1])
    found = {str(path.relative_to(ROOT)): layers_imported_by(path) for path in MODULES if layer_of(path) == layer}
    assert {path: layers - allowed for path, layers in found.items() if layers - allowed} == {}


def test_the_local_agent_imports_nothing_that_belongs_to_airflow() -> None:
    found = set().union(*(layers_imported_by(path) for path in MODULES if layer_of(path) == "local"))
    assert found <= {"local", *WITHOUT_AIRFLOW}


@pytest.mark.parametrize("layer", WITHOUT_AIRFLOW)
def test_the_lower_layers_load_no_airflow(layer: str) -> None:
    names = [f"{NAME}.{layer}.{path.stem}" for path in sorted((ROOT / layer).glob("*.py")) if path.stem != "__init__"]
    program = f"import sys, {', '.join(names)}\nprint('airflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
