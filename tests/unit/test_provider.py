"""What Airflow learns of the provider, and what a DAG file pays for importing it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import airflow
import jsonschema  # type: ignore[import-untyped]
import pytest
from airflow.sdk import task

from airflow_provider_rayagent import exceptions
from airflow_provider_rayagent.decorators.ray_task import ray_task
from airflow_provider_rayagent.get_provider_info import get_provider_info
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.operators.rayagent import (
    RayAgentDeleteServeApplicationOperator,
    RayAgentRunPluginOperator,
    RayAgentStopJobOperator,
)
from airflow_provider_rayagent.sensors.rayagent import (
    RayAgentCapacitySensor,
    RayAgentJobSensor,
    RayAgentServeApplicationSensor,
)
from airflow_provider_rayagent.text.codes import Code

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "example_dags").glob("rayagent_*.py"))
HEAVY = ("requests", "httpx", "websocket", "websockets", "ray", "uvicorn", "fastapi", "tenacity", "urllib3")


def classes_of(info: dict[str, Any]) -> list[str]:
    """Return every class that the metadata names."""
    return [
        *(connection["hook-class-name"] for connection in info.get("connection-types", ())),
        *info.get("extra-links", ()),
        *(trigger for entry in info.get("triggers", ()) for trigger in entry.get("class-names", ())),
    ]


def modules_of(info: dict[str, Any]) -> list[str]:
    kinds = ("hooks", "operators", "sensors", "triggers")
    return [module for kind in kinds for entry in info.get(kind, ()) for module in entry["python-modules"]]


def test_the_metadata_fits_airflows_schema() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_the_metadata_is_found_under_the_distributions_name() -> None:
    [entry] = [
        entry
        for entry in importlib.metadata.entry_points(group="apache_airflow_provider")
        if entry.value.startswith("airflow_provider_rayagent")
    ]
    assert entry.name == "provider_info"
    assert entry.load()() == get_provider_info()
    assert entry.dist is not None
    assert entry.dist.name == get_provider_info()["package-name"] == "airflow-provider-rayagent"


def test_every_class_and_module_that_the_metadata_names_can_be_imported() -> None:
    info = get_provider_info()
    assert classes_of(info)
    assert {module.split(".")[1] for module in modules_of(info)} >= {"hooks", "operators", "sensors"}
    for name in classes_of(info):
        module, _, attribute = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), attribute), type)
    for name in modules_of(info):
        importlib.import_module(name)


def test_the_decorator_is_found_as_task_ray() -> None:
    [decorator] = get_provider_info()["task-decorators"]
    module, _, attribute = decorator["class-name"].rpartition(".")
    assert decorator["name"] == "ray"
    assert getattr(importlib.import_module(module), attribute) is ray_task
    # The property of ``task`` returns what Airflow imports by the name of the class.
    assert task.ray is ray_task


def test_every_module_belongs_to_an_integration_that_is_described() -> None:
    info = get_provider_info()
    described = {each["integration-name"] for each in info["integrations"]}
    modules = [entry for kind in ("hooks", "operators", "sensors", "triggers") for entry in info[kind]]
    assert {entry["integration-name"] for entry in modules} == described == {"Ray"}


def test_the_connection_type_belongs_to_its_hook() -> None:
    [connection] = get_provider_info()["connection-types"]
    assert connection["hook-class-name"] == f"{RayAgentHook.__module__}.{RayAgentHook.__qualname__}"
    assert connection["connection-type"] == RayAgentHook.conn_type == "rayagent"
    assert connection["hook-name"] == RayAgentHook.hook_name
    assert (RayAgentHook.conn_name_attr, RayAgentHook.default_conn_name) == ("rayagent_conn_id", "rayagent_default")


def test_every_error_of_the_package_is_in_one_tree() -> None:
    for name in exceptions.__all__:
        error = getattr(exceptions, name)("so it is")
        assert isinstance(error, exceptions.RayAgentError)
        assert str(error) == f"{error.code}: so it is"
        assert error.detail == "so it is"
        assert type(error).code in Code


def test_the_readmes_dag_can_be_read() -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["hello"].dag.tasks == [names["hello"]]


def imported_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after some code."""
    program = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


AIRFLOWS_OWN = "from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, Context"
DAG_FILES = """
from airflow_provider_rayagent.decorators.ray_task import ray_task
from airflow_provider_rayagent.exceptions import RayAgentJobFailedError
from airflow_provider_rayagent.operators.rayagent import (
    RayAgentDeleteServeApplicationOperator, RayAgentRunPluginOperator, RayAgentStopJobOperator,
)
from airflow_provider_rayagent.sensors.rayagent import (
    RayAgentCapacitySensor,
    RayAgentJobSensor,
    RayAgentServeApplicationSensor,
)
from airflow_provider_rayagent.triggers.job_watcher import RayAgentJobWatcher
"""
ONE_OF_EACH = """
def train(rows: int) -> dict[str, int]: ...
RayAgentJobWatcher(name="train-*").serialize()
with DAG("d"):
    RayAgentJobSensor(task_id="a", job_id="j")
    RayAgentServeApplicationSensor(task_id="b", name="s")
    RayAgentCapacitySensor(task_id="f", num_gpus=1)
    RayAgentRunPluginOperator(task_id="c", lookup="l", action="a", deferrable=True)
    RayAgentStopJobOperator(task_id="d", job_id="j")
    RayAgentDeleteServeApplicationOperator(task_id="e", name="s")
    ray_task(num_cpus=1, deferrable=True)(train)(1)
"""
WHEN_IT_RUNS = (
    "hooks",
    "local",
    "position.trigger_position",
    "tail.commands",
    "tail.machine",
    "run.job_run",
    "run.observer",
    "transport",
    "triggers.applications",
    "triggers.capacity",
    "transport",
    "triggers.rayagent",
    "triggers.trigger_sink",
    "triggers.waiting_trigger",
    "watch.job_lists",
)
"""Modules of ours, and folders of them, that a task loads when it runs."""


@pytest.mark.parametrize("code", [DAG_FILES, DAG_FILES + ONE_OF_EACH], ids=["imported", "one of each made"])
def test_a_dag_file_loads_no_transport_and_nothing_that_only_a_running_task_needs(code: str) -> None:
    loaded = imported_by(AIRFLOWS_OWN + code) - imported_by(AIRFLOWS_OWN)
    assert "airflow_provider_rayagent.operators.rayagent" in loaded
    assert {name for name in loaded if name.split(".")[0] in HEAVY} == set()
    late = [f"airflow_provider_rayagent.{name}" for name in WHEN_IT_RUNS]
    assert [name for name in late if importlib.util.find_spec(name) is None] == []
    assert {name for name in loaded for module in late if f"{name}.".startswith(f"{module}.")} == set()


def test_importing_the_hooks_and_triggers_loads_no_transport() -> None:
    loaded = imported_by(
        "import airflow_provider_rayagent.hooks.rayagent\n"
        "import airflow_provider_rayagent.triggers.rayagent, airflow_provider_rayagent.triggers.applications"
    )
    airflows_own = imported_by("from airflow.sdk import BaseHook\nimport airflow.triggers.base")
    assert {name for name in loaded - airflows_own if name.split(".")[0] in HEAVY} == set()


def test_every_airflow_command_loads_only_the_definitions_of_ours() -> None:
    airflows_own = (
        "import airflow.cli.cli_config\nfrom airflow_provider_rayagent.get_provider_info import get_provider_info\n"
    )
    [function] = get_provider_info()["cli"]
    module, _, name = function.rpartition(".")
    loaded = imported_by(f"{airflows_own}get_provider_info()\nfrom {module} import {name}\n{name}()") - imported_by(
        f"{airflows_own}get_provider_info()"
    )
    assert loaded == {"airflow_provider_rayagent.cli", module}
    from airflow.cli.cli_parser import ALL_COMMANDS_DICT

    assert "rayagent" in ALL_COMMANDS_DICT


def test_every_task_takes_the_hooks_connection_by_default() -> None:
    def train() -> None: ...

    decorated: Any = ray_task(train)
    tasks: list[Any] = [
        RayAgentCapacitySensor(task_id="capacity", num_gpus=1),
        RayAgentDeleteServeApplicationOperator(task_id="delete", name="s"),
        RayAgentJobSensor(task_id="follow", job_id="j"),
        RayAgentRunPluginOperator(task_id="run", lookup="l", action="a"),
        RayAgentServeApplicationSensor(task_id="wait", name="s"),
        RayAgentStopJobOperator(task_id="stop", job_id="j"),
        decorated().operator,
    ]
    assert {each.rayagent_conn_id for each in tasks} == {RayAgentHook.default_conn_name}


@pytest.mark.parametrize("safe_mode", [True, False])
def test_airflow_takes_the_example_dags_for_dags_and_their_plugins_for_none(
    safe_mode: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    bag = DagBag(ROOT / "example_dags", safe_mode=safe_mode)
    assert bag.import_errors == {}
    assert sorted(Path(each.file).name for each in bag.dagbag_stats) == [path.name for path in EXAMPLES]
    assert sorted(bag.dags) == [path.stem for path in EXAMPLES]
    assert all(dag.tasks for dag in bag.dags.values())
    assert list((ROOT / "example_dags" / "plugins").rglob("*.py"))
