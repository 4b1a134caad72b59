"""A distributed Airflow: every component has its own machine, and a machine's files are deleted with it.

PostgreSQL, Celery with Redis, task logs in an object store, as in Kubernetes without volumes::

    with deployment(dags) as running:
        successor = running.start_triggerer()
        running.triggerers[0].kill()            # deletes its log files
        running.airflow.log(dag_id, run_id, task_id)
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.ports import free_ports
from tests.stack.airflow import Airflow, environment, migrate_database, variables_of
from tests.stack.commands import AIRFLOW
from tests.stack.postgres import postgres
from tests.stack.processes import Server, signals_held, stop_servers
from tests.stack.redis import redis
from tests.stack.s3 import ObjectStore, object_store
from tests.stack.triggerers import KIND, forget_heartbeat
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.stack.airflow import Json
    from tests.stack.postgres import Postgres

COMPONENTS = {
    "api-server": ("api-server", "--workers", "1"),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
}
QUEUE, OTHER_QUEUE = "default", "other"
"""The queues of tasks. The first one is that of a task that names none."""
TRIGGERER_QUEUES = "AIRFLOW__TRIGGERER__QUEUES_ENABLED"
"""The setting whether a triggerer runs the triggers of some queues only, and then none of ``start_from_trigger``."""
TASKS_AT_ONCE = 16
"""Number of tasks that one worker runs concurrently."""


class Machine:
    """A machine, or a pod, that runs one component of Airflow.

    :param folder: folder for its output and its disk.
    :param disk: disk of an earlier machine, like a volume; by default a new, empty one.
    :ivar disk: folder with the component's files, including its ``base_log_folder``; deleted when the machine ends.
    :ivar output: file with its output, which is not deleted.
    :ivar is_up: whether it is running.
    :ivar job_id: id of a triggerer's job in Airflow, which is part of the names of its log files.
    """

    def __init__(
        self, name: str, *command: str, env: Mapping[str, str], folder: Path, disk: Path | None = None
    ) -> None:
        self.name = name
        self.env = env
        self.disk = disk or folder / name
        self.disk.mkdir(exist_ok=True)
        self.output = folder / f"{name}.out"
        self.is_up = True
        self.job_id: int | None = None
        own = {"AIRFLOW_HOME": str(self.disk), "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.disk / "logs")}
        self.server = Server([*AIRFLOW, *command], name=name, env={**env, **own}, cwd=self.disk, output=self.output)

    def log_files(self, path: str) -> list[Path]:
        """Return the files with its part of a task log, by the beginning of their path in the log folder."""
        own = "" if self.job_id is None else f".trigger.{self.job_id}.log"
        return sorted((self.disk / "logs").glob(f"{path}*{own}")) if self.is_up else []

    def terminate(self, *, all_processes: bool = False, keep_disk: bool = False) -> None:
        """Send TERM, wait until all processes have ended, and delete the disk, as when a pod is deleted.

        :param all_processes: send TERM to all processes, as ``dumb-init`` does, instead of the first one only.
        :param keep_disk: keep the disk for a successor, like a volume.
        """
        self.server.expect_end()
        if all_processes:
            self.server.send_all(signal.SIGTERM)
        else:
            self.server.send(signal.SIGTERM, self.server.pid)
        self._wait_for_the_end(keep_disk)

    def kill(self) -> None:
        """Kill all processes, and delete the disk, as when a node is lost; Airflow notices immediately."""
        self.server.expect_end()
        self.server.send_all(signal.SIGKILL)
        self._wait_for_the_end()
        if self.job_id is not None:
            forget_heartbeat(self.env, self.job_id)

    def wait_for_output(self, text: str) -> None:
        """Wait until its output contains a text."""
        wait_until(
            lambda: text in self.output.read_text(encoding="utf-8", errors="replace") or None,
            lambda: f"{self.name} has not printed {text!r}:\n{self.server.tail()}\n",
        )

    def stop(self) -> None:
        """Kill all processes that are still running."""
        stop_servers([self.server], grace=0.0)

    def _wait_for_the_end(self, keep_disk: bool = False) -> None:
        wait_until(
            lambda: not self.server.is_up() or None, lambda: f"{self.name} is still running:\n{self.server.tail()}\n"
        )
        self.is_up = False
        if not keep_disk:
            shutil.rmtree(self.disk)


class Deployment:
    """A distributed Airflow.

    :ivar airflow: client of its REST API.
    :ivar database: server of Airflow's database.
    :ivar store: object store with the task logs.
    :ivar machines: all machines that were started, in order.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], store: ObjectStore, database: Postgres) -> None:
        self.folder = folder
        self.database = database
        self.store = store
        self.machines: list[Machine] = []
        self._env = env
        components = {name: self._start(name, *command).server for name, command in COMPONENTS.items()}
        self.airflow = Airflow(env["AIRFLOW__API__BASE_URL"], folder, components, env)

    @property
    def triggerers(self) -> list[Machine]:
        """The running triggerers, the oldest first."""
        return [machine for machine in self.machines if machine.name.startswith("triggerer") and machine.is_up]

    @property
    def workers(self) -> list[Machine]:
        """The running workers, the oldest first."""
        return [machine for machine in self.machines if machine.name.startswith("worker") and machine.is_up]

    def start_triggerer(self, *, queue: str = QUEUE, disk: Path | None = None, wait: bool = True) -> Machine:
        """Start another triggerer.

        :param queue: queue of the tasks whose triggers it runs, if triggerers have queues.
        :param disk: disk of an earlier triggerer, if it was kept.
        :param wait: whether to wait until Airflow considers it alive.
        """
        queues = ("--queues", queue) if self._env[TRIGGERER_QUEUES] == "True" else ()
        machine = self._start(self._name("triggerer"), "triggerer", "--skip-serve-logs", *queues, disk=disk)
        if wait:
            self.wait_for_triggerer(machine)
        return machine

    def wait_for_triggerer(self, machine: Machine) -> None:
        """Wait until Airflow considers the newest triggerer alive."""

        def look() -> int | None:
            new = self.airflow.live_jobs(KIND) - {each.job_id for each in self.machines}
            return new.pop() if new else None

        machine.job_id = wait_until(look, f"no new triggerer, see {machine.output},")

    def start_worker(self, *queues: str) -> Machine:
        """Start another Celery worker for the tasks of these queues, without waiting until it is ready."""
        name = self._name("worker")
        options = {
            "--concurrency": str(TASKS_AT_ONCE),
            "--celery-hostname": f"{name}@localhost",
            "--queues": ",".join(queues),
        }
        # Synchronization between workers takes seconds at their start and end, and no task depends on it.
        flags = ("--skip-serve-logs", "--without-mingle", "--without-gossip")
        return self._start(name, "celery", "worker", *(word for option in options.items() for word in option), *flags)

    def stop(self) -> None:
        """Stop all machines."""
        self.airflow.close()
        for machine in self.machines:
            machine.stop()

    def _name(self, kind: str) -> str:
        return f"{kind}{sum(machine.name.startswith(kind) for machine in self.machines) + 1}"

    def _start(self, name: str, *command: str, disk: Path | None = None) -> Machine:
        with signals_held():
            machine = Machine(name, *command, env=self._env, folder=self.folder, disk=disk)
            self.machines.append(machine)
        return machine


@contextlib.contextmanager
def deployment(
    dags: Path,
    *,
    connections: Mapping[str, Json] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Deployment]:
    """Run a deployment, with one triggerer for :data:`QUEUE` and one worker for both queues, until the block ends.

    :param dags: the DAGs folder, shared by all machines.
    :param connections: JSON of the connections by id, as in ``AIRFLOW_CONN_…``.
    :param settings: additional environment variables (``AIRFLOW__SECTION__KEY``), which override the defaults.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="deployment-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        broker = stack.enter_context(redis())
        store = stack.enter_context(object_store())
        database = stack.enter_context(postgres())
        env = _environment(folder, dags, broker, store, database.create_database("airflow"))
        env |= variables_of(connections, settings)
        migrate_database(env)
        running = Deployment(folder, env, store, database)
        stack.callback(running.stop)
        running.start_worker(QUEUE, OTHER_QUEUE)
        first = running.start_triggerer(wait=False)
        running.airflow.wait_until_healthy()
        running.wait_for_triggerer(first)
        yield running


def _environment(folder: Path, dags: Path, broker: str, store: ObjectStore, database: str) -> dict[str, str]:
    [port, worker_logs, trigger_logs] = free_ports(3)
    secret = secrets.token_hex(16)
    values = {
        "API__SECRET_KEY": secret,
        "API_AUTH__JWT_SECRET": secret * 2,
        "CELERY__BROKER_URL": broker,
        "CELERY__RESULT_BACKEND": f"db+{database}",
        "CELERY__SYNC_PARALLELISM": "1",
        "CORE__EXECUTOR": "CeleryExecutor",
        "CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "CORE__PARALLELISM": "64",
        "DATABASE__SQL_ALCHEMY_CONN": database,
        "LOGGING__REMOTE_BASE_LOG_FOLDER": f"s3://{store.bucket}",
        "LOGGING__REMOTE_LOGGING": "True",
        "LOGGING__REMOTE_LOG_CONN_ID": "object_store",
    }
    env = environment(folder, dags, f"http://127.0.0.1:{port}", worker_logs, trigger_logs)
    env[TRIGGERER_QUEUES] = "True"
    env["AIRFLOW_CONN_OBJECT_STORE"] = json.dumps(store.connection())
    return env | {f"AIRFLOW__{name}": value for name, value in values.items()}
