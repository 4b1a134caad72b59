"""An Airflow as people deploy it: every component on a machine of its own, and what a machine wrote is gone with it.

PostgreSQL, Celery over Redis, task logs in an object store, as in Kubernetes without volumes::

    with deployment(dags) as running:
        successor = running.start_triggerer()
        running.triggerers[0].kill()            # its log files are gone
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
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.stack.airflow import Airflow, environment, migrate_database
from tests.stack.postgres import postgres
from tests.stack.processes import Server, free_ports, signals_held, stop_servers
from tests.stack.redis import redis
from tests.stack.s3 import ObjectStore, object_store
from tests.stack.triggerers import KIND, forget_heartbeat
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.stack.airflow import Json
    from tests.stack.postgres import Postgres

AIRFLOW = (sys.executable, "-m", "airflow")
COMPONENTS = {
    "api-server": ("api-server", "--workers", "1"),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
}
TASKS_AT_ONCE = 16
"""Of one worker."""


class Machine:
    """A machine, or a pod, that runs one component of Airflow.

    :param folder: where its output is to be, and its disk, which is empty at first.
    :param disk: one that another machine has left, as a volume; default: its own.
    :ivar disk: holds all that the component writes, its ``base_log_folder`` among it; gone after the machine's end.
    :ivar output: what it printed; stays.
    :ivar is_up: whether it has not been ended here.
    :ivar job_id: of a triggerer, the id of its job in Airflow, which is in the names of its log files.
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
        """Return the files to which it writes a part of a task log, whose path below the log folder begins so."""
        own = "" if self.job_id is None else f".trigger.{self.job_id}.log"
        return sorted((self.disk / "logs").glob(f"{path}*{own}")) if self.is_up else []

    def terminate(self, *, all_processes: bool = False, keep_disk: bool = False) -> None:
        """Send TERM, wait until every process has ended, and remove the disk, as where a pod is deleted.

        :param all_processes: send it not to the first process alone, but to all of them, as ``dumb-init`` does.
        :param keep_disk: leave the disk to a successor, as where it is a volume.
        """
        self.server.expect_end()
        if all_processes:
            self.server.send_all(signal.SIGTERM)
        else:
            self.server.send(signal.SIGTERM, self.server.pid)
        self._wait_for_the_end(keep_disk)

    def kill(self) -> None:
        """Kill every process at once, and remove the disk, as where a node is lost; Airflow notices at once."""
        self.server.expect_end()
        self.server.send_all(signal.SIGKILL)
        self._wait_for_the_end()
        if self.job_id is not None:
            forget_heartbeat(self.env, self.job_id)

    def wait_for_output(self, text: str) -> None:
        """Wait until it has printed a text."""
        wait_until(
            lambda: text in self.output.read_text(encoding="utf-8", errors="replace") or None,
            lambda: f"{self.name} has not printed {text!r}:\n{self.server.tail()}\n",
        )

    def stop(self) -> None:
        """Kill what still runs."""
        stop_servers([self.server], grace=0.0)

    def _wait_for_the_end(self, keep_disk: bool = False) -> None:
        wait_until(lambda: not self.server.is_up() or None, lambda: f"{self.name} runs on:\n{self.server.tail()}\n")
        self.is_up = False
        if not keep_disk:
            shutil.rmtree(self.disk)


class Deployment:
    """An Airflow of many machines.

    :ivar airflow: a client of its REST API.
    :ivar database: the server that has Airflow's database.
    :ivar store: the object store that holds the task logs.
    :ivar machines: all that were ever started, in that order.
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
        """The triggerers that are up, the oldest one first."""
        return [machine for machine in self.machines if machine.name.startswith("triggerer") and machine.is_up]

    @property
    def workers(self) -> list[Machine]:
        """The workers that are up, the oldest one first."""
        return [machine for machine in self.machines if machine.name.startswith("worker") and machine.is_up]

    def start_triggerer(self, *, disk: Path | None = None, wait: bool = True) -> Machine:
        """Start another triggerer.

        :param disk: that of an earlier one, if it was kept.
        :param wait: until Airflow takes it to be alive.
        """
        machine = self._start(self._name("triggerer"), "triggerer", "--skip-serve-logs", disk=disk)
        if wait:
            self.wait_for_triggerer(machine)
        return machine

    def wait_for_triggerer(self, machine: Machine) -> None:
        """Wait until Airflow takes the triggerer that was started last to be alive."""

        def look() -> int | None:
            new = self.airflow.live_jobs(KIND) - {each.job_id for each in self.machines}
            return new.pop() if new else None

        machine.job_id = wait_until(look, f"no new triggerer, see {machine.output},")

    def start_worker(self, *queues: str) -> Machine:
        """Start another Celery worker, for the tasks of these queues; which may come before it is ready."""
        name = self._name("worker")
        options = {
            "--concurrency": str(TASKS_AT_ONCE),
            "--celery-hostname": f"{name}@localhost",
            "--queues": ",".join(queues),
        }
        # What a worker says to others at its start and end takes seconds, and no task depends on it.
        flags = ("--skip-serve-logs", "--without-mingle", "--without-gossip")
        return self._start(name, "celery", "worker", *(word for option in options.items() for word in option), *flags)

    def stop(self) -> None:
        """End every machine."""
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
    """Run a deployment, with one triggerer and a worker for the queue ``default``, until the block ends.

    :param dags: the folder with the DAG files, which every machine has.
    :param connections: connection id to its JSON form, as in ``AIRFLOW_CONN_…``.
    :param settings: more environment variables (``AIRFLOW__SECTION__KEY``), over the defaults.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="deployment-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        broker = stack.enter_context(redis())
        store = stack.enter_context(object_store())
        database = stack.enter_context(postgres())
        env = _environment(folder, dags, broker, store, database.create_database("airflow"))
        for conn_id, connection in (connections or {}).items():
            env[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(connection)
        env.update(settings or {})
        migrate_database(env)
        running = Deployment(folder, env, store, database)
        stack.callback(running.stop)
        running.start_worker("default")
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
    env["AIRFLOW_CONN_OBJECT_STORE"] = json.dumps(store.connection())
    return env | {f"AIRFLOW__{name}": value for name, value in values.items()}
