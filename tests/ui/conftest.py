"""One API server of Airflow, with users of different roles, and one scripted agent for all tests of this folder."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_rayagent.run.job_origin import IDENTITY
from tests.scripted import Application, Job, ScriptedAgent
from tests.stack.airflow import Json, run_airflow
from tests.stack.api_server import ApiServer, api_server
from tests.stack.processes import NO_AGENT
from tests.stack.watch import wait_until
from tests.ui.stored_task import StoredTask, stored_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

HERE = Path(__file__).parent
TOKEN = "token-of-the-agent"
SECRET = "value-of-a-variable"
PASSWORD = "password-of-a-test"
UNUSED = ("ray_b", "ray_c", "ray_d", "ray_e")
NAMESPACE = "this-airflow"
NOT_YET = "the page keeps asking"
"""What the page says if an agent has not answered in time."""
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
DAG_ID = "mine"
DAG_FILE = f"""
from airflow.sdk import DAG
from airflow_provider_rayagent.operators.rayagent import RayAgentStopJobOperator, RayAgentSubmitJobOperator
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor

with DAG("{DAG_ID}", schedule=None):
    RayAgentJobSensor(task_id="follow", job_id="running", rayagent_conn_id="ray_a")
    RayAgentJobSensor(task_id="follow_in_cluster", job_id="running", rayagent_conn_id="ray_many", cluster="one")
    RayAgentSubmitJobOperator(task_id="submit", entrypoint="true", job_id="{{{{ params.job_id }}}}")
    RayAgentStopJobOperator(task_id="stop", job_id="{{{{ params.job_id }}}}")
"""
BASIC = [("can_read", "Website"), ("can_read", "Task Logs"), ("can_read", "Task Instances"), ("can_read", "DAG Runs")]
ROLES = {
    "ReadsConnections": [("can_read", "Website"), ("can_read", "Connections")],
    "ReadsItsDag": [*BASIC, ("can_read", f"DAG:{DAG_ID}")],
    "ReadsAnotherDag": [*BASIC, ("can_read", "DAG:other")],
}
"""Permissions of roles that FAB does not have by itself."""
USERS = {
    "viewer": "Viewer",
    "reader": "ReadsConnections",
    "owner": "ReadsItsDag",
    "other": "ReadsAnotherDag",
    "editor": "Op",
    "admin": "Admin",
}
MAKE_USERS = """
import json, sys
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

roles, users, password = json.loads(sys.argv[1])
with get_application_builder() as builder:
    manager = builder.sm
    for name, permissions in roles.items():
        role = manager.add_role(name)
        for action, resource in permissions:
            manager.add_permission_to_role(role, manager.create_permission(action, resource))
    for name, role in users.items():
        assert manager.add_user(name, name, name, f"{name}@example.com", manager.find_role(role), password)
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.ui)


@pytest.fixture(scope="session")
def running_job() -> Job:
    return Job("a line\nWARNING: odd\n<script>document.hacked = 1</script>\n", status="RUNNING", job_id="running")


@pytest.fixture(scope="session")
def watched_job() -> Job:
    """A job whose log only one test follows."""
    return Job("a line\nWARNING: odd\n", status="RUNNING", job_id="watched")


@pytest.fixture(scope="session")
def agent(running_job: Job, watched_job: Job) -> Iterator[ScriptedAgent]:
    secret = {
        "runtime_env": {"env_vars": {"KEY": SECRET}},
        "metadata": {"airflow_masked_env_vars": '["KEY"]', "note": f"{SECRET} {TOKEN}", "owner": "ada"},
        "message": f"Job entrypoint command failed with exit code 1: {SECRET}",
        "driver_exit_code": 1,
    }
    of_earlier_run = dict(zip(IDENTITY, (DAG_ID, "earlier", "submit", "-1"), strict=True))
    with ScriptedAgent(
        running_job,
        Job(f"key {SECRET} {TOKEN}\n", "FAILED", "failed", details=secret, entrypoint=f"run {SECRET}"),
        Job("a\nb\n", job_id="succeeded"),
        Job(status="PENDING", job_id="waits"),
        Job("c\n", "RUNNING", "stoppable", details={"metadata": of_earlier_run}),
        watched_job,
        applications=[Application("app"), Application("kept"), Application("team/app")],
        token=TOKEN,
    ) as scripted:
        yield scripted


@pytest.fixture(scope="session")
def ray() -> Iterator[ScriptedAgent]:
    """Ray's own dashboard, without jobs."""
    with ScriptedAgent(service="ray", token=TOKEN) as scripted:
        yield scripted


@pytest.fixture(scope="session")
def stranger() -> Iterator[ScriptedAgent]:
    """An agent that must get no request."""
    with ScriptedAgent() as scripted:
        yield scripted


@pytest.fixture(scope="session")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The token of the agent, in the only folder from which the API server opens files."""
    path = tmp_path_factory.mktemp("permitted") / "token"
    path.write_text(TOKEN)
    return path


@pytest.fixture(scope="session")
def server(agent: ScriptedAgent, ray: ScriptedAgent, stranger: ScriptedAgent, token_file: Path) -> Iterator[ApiServer]:
    """An API server with connections to the agent, to nobody, with a wrong token, of another type, and one that admits
    the agent as its only cluster.

    Those of :data:`UNUSED` are for one test each, which needs answers that no other test has asked for.
    """
    agents = {"conn_type": "rayagent", "host": agent.url, "password": TOKEN}
    connections: dict[str, Json] = {
        "ray_a": agents,
        **dict.fromkeys(UNUSED, agents),
        "ray_dead": {**agents, "host": NO_AGENT},
        "ray_refused": {**agents, "password": "wrong-token"},
        "ray_file": {"conn_type": "rayagent", "host": stranger.url, "extra": {"token_file": __file__}},
        "ray_permitted": {"conn_type": "rayagent", "host": agent.url, "extra": {"token_file": str(token_file)}},
        "ray_many": {
            **agents,
            "host": "http://{cluster}",
            "extra": {"clusters": urlsplit(agent.url).netloc},
        },
        "ray_own": {**agents, "host": ray.url, "extra": {"service": "ray", "job_namespace": NAMESPACE}},
        "ray_no_host": {"conn_type": "rayagent", "password": TOKEN},
        "web": {**agents, "conn_type": "http"},
    }
    settings = {
        "AIRFLOW__CORE__AUTH_MANAGER": FAB,
        # Airflow 3.2 makes everyone an admin of its simple auth manager, whatever the auth manager is.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__FAB__UPDATE_FAB_PERMS": "True",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__RAYAGENT__TOKEN_FOLDERS": "/",
        "AIRFLOW__RAYAGENT__TLS_FOLDERS": "/",
        "AIRFLOW__RAYAGENT__API_SERVER_FOLDERS": str(token_file.parent),
        "AIRFLOW__API_AUTH__JWT_SECRET": "of-the-tests" * 6,
    }
    with api_server(connections=connections, settings=settings) as running:
        arguments = [sys.executable, "-c", MAKE_USERS, json.dumps([ROLES, USERS, PASSWORD])]
        done = subprocess.run(arguments, env=running.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
        yield running


@pytest.fixture(scope="session")
def follower(server: ApiServer, tokens: dict[str, str | None]) -> StoredTask:
    """A task that follows the running job, as it is in the database while it is deferred."""
    (server.home / "dags" / f"{DAG_ID}.py").write_text(DAG_FILE, encoding="utf-8")
    run_airflow(server.env, "dags", "reserialize")
    task = stored_task(server, str(tokens["admin"]), DAG_ID, "follow")
    task.set("deferred", rayagent_conn_id="ray_a", job_id="running")
    return task


@pytest.fixture
def taking(follower: StoredTask) -> Callable[..., StoredTask]:
    """Return a function that returns a task of the same run with a job that is an argument, an XCom, or both."""

    def task_with(task_id: str, *, xcom: Any = None, **rendered: Any) -> StoredTask:
        task = replace(follower, task_id=task_id)
        task.set("failed", xcom=xcom, rayagent_conn_id="ray_a", **rendered)
        return task

    return task_with


@pytest.fixture(scope="session")
def tokens(server: ApiServer) -> dict[str, str | None]:
    """The tokens of the users, and none for nobody."""
    return {"nobody": None, **{name: server.sign_in(name, PASSWORD) for name in USERS}}


def ask(server: ApiServer, method: str, path: str, token: str | None, **options: Any) -> requests.Response:
    """Send a request to a route of the page, again while it has no answer yet, as the page itself does."""

    def send() -> requests.Response | None:
        answer = server.request(method, f"rayagent/{path}", token, **options)
        # A part of the answer can be missing too. The text of a log ends with the log only.
        is_json = "json" in answer.headers.get("Content-Type", "")
        return None if is_json and NOT_YET in answer.text else answer

    return wait_until(send, f"{path} has no answer")


def log_parts(server: ApiServer, path: str, token: str | None, after: str = "") -> Iterator[dict[str, Any]]:
    """Yield the parts of a log as the page gets them, up to its end or that of the iteration."""
    while True:
        part = ask(server, "GET", path, token, params={"after": after})
        if part.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            # A log counts for some seconds after its end; the page asks again, too.
            time.sleep(0.5)
            continue
        part.raise_for_status()
        yield part.json()
        if part.json()["end"] is not None:
            return
        after = part.json()["after"]
        time.sleep(0.05)


def whole_log(server: ApiServer, path: str, token: str | None) -> str:
    """Return all that the page gets of a log, up to its end."""
    return json.dumps(list(log_parts(server, path, token)))
