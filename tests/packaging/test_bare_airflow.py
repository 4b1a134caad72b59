"""What the wheel does to an Airflow that has nothing else: little is added, and Airflow knows it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_rayagent.get_provider_info import get_provider_info

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packaging.conftest import BareAirflow

NAME = "airflow-provider-rayagent"
ADDED = "websocket-client"
"""The only dependency that Airflow does not bring."""
INFO = get_provider_info()


def registered_classes() -> list[str]:
    """Return the full names of the classes that the metadata names, and of the decorator."""
    hooks = [each["hook-class-name"] for each in INFO.get("connection-types", [])]
    decorators = [each["class-name"] for each in INFO.get("task-decorators", [])]
    return [*hooks, *decorators, *INFO.get("extra-links", [])]


def registered_modules() -> list[str]:
    """Return the names of the modules that the metadata names."""
    kinds = ("operators", "sensors", "hooks", "triggers")
    return [name for kind in kinds for group in INFO.get(kind, []) for name in group["python-modules"]]


def test_installing_adds_the_provider_and_one_package(bare: BareAirflow) -> None:
    added = {re.split(r"==| @ ", line)[0] for line in bare.after - bare.before}
    assert added == {NAME, ADDED}
    assert bare.before <= bare.after


def test_airflow_lists_the_provider(bare: BareAirflow) -> None:
    assert NAME in bare.airflow("providers", "list")


def test_airflow_shows_the_metadata(bare: BareAirflow) -> None:
    shown = bare.airflow("providers", "get", NAME, "--full", "--output", "json")
    assert f'"{NAME}"' in shown
    for name in (*registered_classes(), *registered_modules()):
        assert name in shown


def test_airflow_lists_the_hook(bare: BareAirflow) -> None:
    shown = bare.airflow("providers", "hooks", "--output", "json")
    for each in INFO.get("connection-types", []):
        assert each["connection-type"] in shown
        assert each["hook-class-name"] in shown


def test_airflow_lists_the_links(bare: BareAirflow) -> None:
    shown = bare.airflow("providers", "links", "--output", "json")
    for name in INFO.get("extra-links", []):
        assert name in shown


def test_the_metadata_registers_each_kind() -> None:
    assert INFO["connection-types"]
    assert INFO["operators"]
    assert INFO["sensors"]
    assert INFO["task-decorators"]
    assert INFO["extra-links"]


def test_everything_registered_imports(bare: BareAirflow) -> None:
    classes = [name.rpartition(".")[::2] for name in registered_classes()]
    imports = [
        *(f"from {module} import {name}" for module, name in classes),
        *map("import {}".format, registered_modules()),
    ]
    bare.python("\n".join(imports))


def test_removing_it_leaves_airflow_as_it_was(bare: BareAirflow, wheel: Path) -> None:
    try:
        assert bare.pip("uninstall", NAME, ADDED) == bare.before
        assert NAME not in bare.airflow("providers", "list")
    finally:
        bare.pip("install", wheel)
