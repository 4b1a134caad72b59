"""What the plugin registers, and what it costs the components that do not serve the page."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys

import pytest

from airflow_provider_rayagent.decorators import ray_task
from airflow_provider_rayagent.get_provider_info import get_provider_info
from airflow_provider_rayagent.operators import rayagent as all_operators
from airflow_provider_rayagent.sensors import rayagent as all_sensors
from airflow_provider_rayagent.ui import TASK_CLASSES
from airflow_provider_rayagent.ui.plugin import PREFIX, RayAgentPlugin, external_views
from airflow_provider_rayagent.watch.asset_events import RayAgentWatcherPlugin
from tests.unit.test_provider import imported_by

AIRFLOWS_OWN = "from airflow.plugins_manager import AirflowPlugin"


def test_airflow_finds_the_plugins() -> None:
    entries = importlib.metadata.entry_points(group="airflow.plugins")
    ours = [each for each in entries if each.value.startswith("airflow_provider_rayagent")]
    assert {each.load() for each in ours} == {RayAgentPlugin, RayAgentWatcherPlugin}


def test_the_other_components_of_airflow_load_few_small_modules() -> None:
    code = f"{AIRFLOWS_OWN}\nimport airflow.listeners, airflow_provider_rayagent"
    plugins = "airflow_provider_rayagent.ui.plugin, airflow_provider_rayagent.watch.asset_events"
    loaded = imported_by(f"{code}\nimport {plugins}") - imported_by(code)
    names = {"ui", "ui.plugin", "watch", "watch.asset_events"}
    assert loaded == {f"airflow_provider_rayagent.{name}" for name in names}


@pytest.mark.parametrize(
    ("version", "has_tab"),
    [("3.2.0", False), ("3.3.2", False), ("3.4.0b2", True), ("3.4.0", True), ("4.0.1", True)],
)
def test_before_airflow_3_4_no_tab_is_shown_on_the_tasks_of_others(version: str, has_tab: bool) -> None:
    nav, *tabs = external_views(version)
    assert nav["destination"] == "nav"
    tab = ("task_instance", {"operator": list(TASK_CLASSES)})
    assert [(each["destination"], each["applies_to"]) for each in tabs] == [tab] * has_tab


def test_the_tab_is_on_every_class_with_a_job() -> None:
    found = {
        each.__name__
        for module in (all_operators, all_sensors, ray_task)
        for each in vars(module).values()
        if isinstance(each, type) and "job_id" in getattr(each, "template_fields", ())
        # The bases of several are those of another package.
        if each.__module__.split(".")[1] != "tasks"
    }
    assert found == set(TASK_CLASSES)


def test_all_addresses_are_relative() -> None:
    """So that they are below the path of Airflow's base URL."""
    text = json.dumps(external_views("3.4.0"))
    assert f'"{PREFIX}' not in text
    assert "http" not in text


REGISTERED = """
import json
from airflow.plugins_manager import get_plugin_info
plugins = {each["name"]: each for each in get_plugin_info()}
page, watcher = plugins["rayagent"], plugins["rayagent_watcher"]
print(json.dumps([len(page["fastapi_apps"]), len(page["external_views"]), len(watcher["listeners"])]))
"""


@pytest.mark.parametrize(
    ("option", "is_on"),
    [(None, True), ("True", True), ("1", True), ("False", False), ("0", False), ("off", False), ("", False)],
)
def test_an_option_turns_the_page_off_and_not_the_listener(option: str | None, is_on: bool) -> None:
    environment = {**os.environ, **({} if option is None else {"AIRFLOW__RAYAGENT__PAGE": option})}
    command = [sys.executable, "-c", REGISTERED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    apps, views, listeners = json.loads(done.stdout.splitlines()[-1])
    assert (apps, views > 0) == (int(is_on), is_on)
    assert listeners == len(RayAgentWatcherPlugin.listeners)
    said = (
        "RA-208: The Ray page is off, since Airflow's option [rayagent] page cannot be read: set it to True or False."
    )
    assert (said in done.stdout + done.stderr) is (option in ("off", ""))


def test_the_option_is_one_of_the_provider() -> None:
    option = get_provider_info()["config"]["rayagent"]["options"]["page"]
    assert (option["type"], option["default"]) == ("boolean", "True")
