"""A real Airflow (scheduler, DAG processor, triggerer, API server) in separate processes, and its client."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import requests

from airflow_provider_rayagent.local.ports import free_ports
from tests.stack.processes import Server, signals_held, stop_servers
from tests.stack.watch import PATIENCE, check_servers, check_servers_soon, ending, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Json = dict[str, Any]

FINAL_RUN_STATES = ("success", "failed")
FINAL_TASK_STATES = ("success", "failed", "skipped", "upstream_failed", "removed")
HEALTH = ("metadatabase", "scheduler", "dag_processor", "triggerer")
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
"""Names of the components on the command line."""
SQLITE_PATIENCE = 60
"""Seconds for which a writer waits for a lock; the default of 5 is too short on a busy machine."""
PATIENT = dict.fromkeys(
    (
        "CORE__DAGBAG_IMPORT_TIMEOUT",
        "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT",
        "DAG_PROCESSOR__STALE_DAG_THRESHOLD",
        "EXECUTION_API__JWT_EXPIRATION_TIME",
        "API__LOG_FETCH_TIMEOUT_SEC",
        "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT",
        "SCHEDULER__TASK_QUEUED_TIMEOUT",
        "TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD",
        "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD",
        "WORKERS__EXECUTION_API_TIMEOUT",
    ),
    f"{PATIENCE:.0f}",
)
"""Timeouts in seconds, increased so that Airflow does not consider slow components dead on a busy machine."""


class AirflowError(Exception):
    """Airflow did not start, or responded with an error."""


class Airflow:
    """Client of a running Airflow, in which every user is an admin, so it needs no token.

    Requests and waits raise :class:`tests.stack.watch.ServerDiedError` as soon as a component has died.

    :param components: its processes, by name in :data:`COMPONENTS`.
    :param env: their environment.
    """

    def __init__(self, url: str, home: Path, components: Mapping[str, Server], env: Mapping[str, str]) -> None:
        self.url = url
        self.home = home
        self.components = components
        self.env = env
        self._was_healthy = False
        self._http = requests.Session()
        self._http.trust_env = False

    def call(self, method: str, path: str, body: Json | None = None) -> Any:
        """Call the REST API with a JSON body; return the response, ``{}`` if it is empty."""
        return _checked(self._send(method, path, json=body))

    def trigger(self, dag_id: str, conf: Json | None = None) -> str:
        """Wait until the DAG is parsed, start a run and return its id."""
        run_id = f"test__{uuid.uuid4().hex[:12]}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf or {}}

        def post() -> str | None:
            answer = self._send("POST", f"dags/{_part(dag_id)}/dagRuns", json=body)
            if answer.status_code == 404:
                return None
            # 409: the run was created although the previous response was 500.
            return run_id if answer.status_code == 409 or _checked(answer) else None

        return wait_until(post, lambda: f"no DAG {dag_id!r}; import errors: {self.import_errors()};")

    def import_errors(self) -> list[str]:
        """Return the import errors of the DAG files."""
        return [each["stack_trace"] for each in self._get("importErrors")["import_errors"]]

    def run(self, dag_id: str, run_id: str) -> Json:
        """Return a DAG run as in the API."""
        return self._get(f"dags/{_part(dag_id)}/dagRuns/{_part(run_id)}")

    def wait_for_run(self, dag_id: str, run_id: str) -> str:
        """Wait until the run has ended; return ``success`` or ``failed``."""

        def state() -> str | None:
            found: str = self.run(dag_id, run_id)["state"]
            return found if found in FINAL_RUN_STATES else None

        return wait_until(state, f"run {run_id} of {dag_id} is not over")

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: tuple[str, ...] = FINAL_TASK_STATES,
        map_index: int = -1,
    ) -> str:
        """Wait until the task instance is in one of ``states``; return that state.

        :raises AirflowError: if it ended in another state.
        """

        complaint = f"{task_id} in run {run_id} of {dag_id} is in none of {states}"

        def state() -> str | None:
            found: str | None = self.task_instance(dag_id, run_id, task_id, map_index)["state"]
            if found in FINAL_TASK_STATES and found not in states:
                raise AirflowError(f"{complaint}, and stays {found}")
            return found if found in states else None

        return wait_until(state, complaint)

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Json:
        """Return a task instance as in the API (``state``, ``try_number``, ``trigger``, …)."""
        return self._get(_ti_path(dag_id, run_id, task_id, map_index))

    def task_instances(self, dag_id: str, run_id: str) -> list[Json]:
        """Return all task instances of a run, including each mapped one."""
        found: list[Json] = []
        while True:
            query = {"limit": 100, "offset": len(found)}
            page = self._get(f"{_run_path(dag_id, run_id)}/taskInstances", query)
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return found

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> list[Json]:
        """Return the current records of the task log, with ``timestamp``, ``level``, ``event`` and more.

        The header with the log's sources is omitted.
        """
        path = f"{_ti_path(dag_id, run_id, task_id)}/logs/{try_number}"
        query = {"map_index": map_index, "full_content": "true"}
        answer = self._send("GET", path, params=query, headers={"Accept": "application/x-ndjson"})
        _checked(answer)
        records = [json.loads(line) for line in answer.content.splitlines() if line.strip()]
        return _without_header(records)

    def lines(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> list[str]:
        """Return the events of :meth:`log`."""
        return [record["event"] for record in self.log(dag_id, run_id, task_id, try_number, map_index)]

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return an XCom's value, None if there is no such XCom."""
        path = f"{_ti_path(dag_id, run_id, task_id)}/xcomEntries/{_part(key)}"
        answer = self._send("GET", path, params={"map_index": map_index, "deserialize": "false"})
        if answer.status_code == 404:
            return None
        return _checked(answer)["value"]

    def extra_links(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int | None = None
    ) -> dict[str, str | None]:
        """Return the extra links of a try by name, by default of the newest one."""
        path = f"{_ti_path(dag_id, run_id, task_id)}/links"
        query = {"map_index": map_index, "try_number": try_number}
        links: dict[str, str | None] = self._get(path, query)["extra_links"]
        return links

    def audit_log(self, dag_id: str, run_id: str, task_id: str, event: str, map_index: int = -1) -> list[str]:
        """Return the texts of a task instance's entries with this event in the audit log."""
        query = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "event": event, "map_index": map_index}
        return [entry["extra"] for entry in self._get("eventLogs", query)["event_logs"]]

    def clear(self, dag_id: str, run_id: str, *task_ids: str) -> list[Json]:
        """Clear task instances in any state, by default all of the run, and keep their stored state; return them.

        When all tasks are over, wait for the run first: Airflow restarts only a run that is over
        (``clear_task_instances``), and a scheduler that ends it meanwhile leaves the cleared tasks without a state.
        """
        if all(instance["state"] in FINAL_TASK_STATES for instance in self.task_instances(dag_id, run_id)):
            self.wait_for_run(dag_id, run_id)
        body: Json = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "reset_dag_runs": True}
        from airflow.api_fastapi.core_api.datamodels.task_instances import ClearTaskInstancesBody

        if "keep_task_state" in ClearTaskInstancesBody.model_fields:
            # Before Airflow 3.4, it is always kept.
            body["keep_task_state"] = True
        if task_ids:
            body["task_ids"] = list(task_ids)
        cleared: list[Json] = self.call("POST", f"dags/{_part(dag_id)}/clearTaskInstances", body)["task_instances"]
        return cleared

    def set_state(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        state: Literal["success", "failed", "skipped"],
        map_index: int = -1,
    ) -> None:
        """Mark a task instance as the UI does."""
        self.call("PATCH", _ti_path(dag_id, run_id, task_id, map_index), {"new_state": state})

    @contextlib.contextmanager
    def paused(self, dag_ids: Iterable[str]) -> Iterator[None]:
        """Pause these DAGs: no tasks are scheduled, running ones continue."""
        paths = [f"dags/{dag_id}" for dag_id in dict.fromkeys(dag_ids)]
        for path in paths:
            self.call("PATCH", path, {"is_paused": True})
        try:
            yield
        finally:
            for path in paths:
                self.call("PATCH", path, {"is_paused": False})

    def live_jobs(self, kind: str) -> set[int]:
        """Return the ids of Airflow's internal jobs of a type (``TriggererJob``) that it considers alive."""
        found = self._get("jobs", {"job_type": kind, "limit": 100, "is_alive": True})["jobs"]
        return {job["id"] for job in found}

    def unhealthy(self) -> list[str]:
        """Return the names of the components that are not healthy."""
        health = self._get("monitor/health")
        return [name for name in HEALTH if (health.get(name) or {}).get("status") != "healthy"]

    def wait_until_healthy(self) -> None:
        """Wait for the first heartbeat of every component."""

        def healthy() -> bool | None:
            with contextlib.suppress(requests.RequestException, AirflowError):
                return not self.unhealthy() or None
            return None

        wait_until(healthy, "Airflow is not healthy")
        self._was_healthy = True

    def close(self) -> None:
        """Close the client's connections; Airflow keeps running."""
        self._http.close()

    def _get(self, path: str, query: Mapping[str, object] | None = None) -> Json:
        return _checked(self._send("GET", path, params=query))

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request; retry a 500, which Airflow returns if SQLite is locked."""
        for pause in (0.5, 1.0, 2.0, 4.0):
            check_servers()
            try:
                answer = self._http.request(method, f"{self.url}/api/v2/{path}", timeout=PATIENCE, **options)
            except requests.RequestException:
                # During startup, the API server may not be listening yet.
                if self._was_healthy:
                    check_servers_soon()
                raise
            if answer.status_code != 500:
                return answer
            time.sleep(pause)
        return answer


@contextlib.contextmanager
def airflow(
    dags: Path,
    *,
    database: str | None = None,
    connections: Mapping[str, Json] | None = None,
    settings: Mapping[str, str] | None = None,
    teams: Iterable[str] = (),
) -> Iterator[Airflow]:
    """Run the components of the installed Airflow until the block ends.

    :param dags: the DAGs folder.
    :param database: SQLAlchemy URL of an empty database; by default SQLite, which is sufficient for one user.
    :param connections: JSON of the connections by id, as in ``AIRFLOW_CONN_…``.
    :param settings: additional environment variables (``AIRFLOW__SECTION__KEY``), which override the defaults.
    :param teams: names of the teams of this Airflow, whose settings must allow teams.
    """
    with contextlib.ExitStack() as stack:
        with signals_held():
            home = Path(tempfile.mkdtemp(prefix="airflow-home-"))
            stack.callback(shutil.rmtree, home, ignore_errors=True)
        port, worker_logs, trigger_logs = free_ports(3)
        url = f"http://127.0.0.1:{port}"
        env = environment(home, dags, url, worker_logs, trigger_logs)
        env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = database or sqlite_url(home)
        env |= variables_of(connections, settings)
        migrate_database(env, teams)
        servers: dict[str, Server] = {}
        stack.callback(lambda: stop_servers(list(servers.values())))
        for name in COMPONENTS:
            command = [sys.executable, "-m", "airflow", name]
            with signals_held():
                servers[name] = Server(
                    command, name=f"Airflow's {name}", env=env, cwd=home, output=home / f"{name}.log"
                )
        client = Airflow(url, home, servers, env)
        stack.callback(client.close)
        client.wait_until_healthy()
        yield client


def variables_of(connections: Mapping[str, Json] | None, settings: Mapping[str, str] | None) -> dict[str, str]:
    """Return the environment variables of connections, by id, and of further settings."""
    variables = {f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(each) for conn_id, each in (connections or {}).items()}
    return variables | dict(settings or {})


def sqlite_url(home: Path) -> str:
    """Return the URL of a database file in Airflow's home."""
    return f"sqlite:///{home}/airflow.db?timeout={SQLITE_PATIENCE}"


def migrate_database(env: Mapping[str, str], teams: Iterable[str] = ()) -> None:
    """Create Airflow's tables in the database that the environment specifies, and teams.

    :raises AirflowError: with Airflow's output, if it failed.
    """
    run_airflow(env, "db", "migrate")
    for team in teams:
        run_airflow(env, "teams", "create", team)


def run_airflow(env: Mapping[str, str], *arguments: str) -> None:
    """Run a command of Airflow.

    :raises AirflowError: with its output, if it failed.
    """
    command = [sys.executable, "-m", "airflow", *arguments]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise AirflowError(f"{' '.join(command)} {ending(done.returncode)}:\n{done.stdout}")


def environment(home: Path, dags: Path, url: str, worker_logs: int, trigger_logs: int) -> dict[str, str]:
    """Return the environment of the components of an Airflow with its API server at ``url``."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    env["AIRFLOW_HOME"] = str(home)
    values = {
        "API__BASE_URL": url,
        # So that no line of a log is cut in the pictures of the documentation.
        "API__DEFAULT_WRAP": "True",
        "API__HOST": "127.0.0.1",
        "API__PORT": url.rpartition(":")[2],
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__DAGS_FOLDER": str(dags.resolve()),
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__PARALLELISM": "2",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        # Unchanged files are not parsed again during the tests: that took a quarter of a core.
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": f"{PATIENCE:.0f}",
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_logs),
        "LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
        "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
        # How soon a worker notices that a user has ended its task, and a deferred task can resume.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }
    return env | {f"AIRFLOW__{name}": value for name, value in (PATIENT | values).items()}


def _without_header(records: list[Json]) -> list[Json]:
    """Remove the records without a timestamp up to the first end of a group, which list the log's sources."""
    undated = list(itertools.takewhile(lambda record: not record.get("timestamp"), records))
    events = [record["event"] for record in undated]
    return records[events.index("::endgroup::") + 1 :] if "::endgroup::" in events else records


def _checked(answer: requests.Response) -> Json:
    if not answer.ok:
        raise AirflowError(f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:500]}")
    # Some answers without content (204) are also declared as JSON.
    if answer.content and answer.headers.get("Content-Type", "").startswith("application/json"):
        found: Json = answer.json()
        return found
    return {}


def _part(name: str) -> str:
    return quote(name, safe="")


def _run_path(dag_id: str, run_id: str) -> str:
    return f"dags/{_part(dag_id)}/dagRuns/{_part(run_id)}"


def _ti_path(dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
    path = f"{_run_path(dag_id, run_id)}/taskInstances/{_part(task_id)}"
    return path if map_index == -1 else f"{path}/{map_index}"
