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
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from tests.stack.airflow import Airflow, AirflowError, environment
from tests.stack.postgres import postgres
from tests.stack.processes import Server, free_ports, signals_held
from tests.stack.redis import redis
from tests.stack.s3 import ObjectStore, object_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.stack.airflow import Json

AIRFLOW = (sys.executable, "-m", "airflow")
COMPONENTS = {
    "api-server": ("api-server", "--workers", "1"),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
}
TRIGGERER_JOB = "TriggererJob"
TASKS_AT_ONCE = 16
"""Of one worker."""
PATIENCE_SECONDS = 240.0
"""How long a machine has to start, and to end by itself when it is shut down; a Celery worker waits for its tasks."""


class Machine:
    """A machine, or a pod, that runs one component of Airflow. Its disk is empty at first.

    :param folder: where its disk is to be.
    :ivar disk: holds all that the component writes, its ``base_log_folder`` among it; gone after the machine's end.
    :ivar output: what it printed; stays.
    """

    def __init__(self, name: str, *command: str, env: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.disk = folder / name
        self.disk.mkdir()
        self.output = folder / f"{name}.out"
        own = {"AIRFLOW_HOME": str(self.disk), "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.disk / "logs")}
        self.server = Server([*AIRFLOW, *command], env={**env, **own}, cwd=self.disk, output=self.output)

    @property
    def is_up(self) -> bool:
        """Whether there is still a disk."""
        return self.disk.exists()

    def log_files(self, path: str) -> list[Path]:
        """Return the files that hold a part of a task log, a try's worker and trigger, by its path in the store."""
        return sorted((self.disk / "logs").glob(f"{path}*"))

    def terminate(self, *, all_processes: bool = False) -> None:
        """Send TERM, wait until every process has ended, and remove the disk, as where a pod is deleted.

        :param all_processes: send it not to the first process alone, but to all of them, as ``dumb-init`` does.
        :raises AirflowError: if that takes too long.
        """
        if all_processes:
            self.server.send_to_all(signal.SIGTERM)
        else:
            self.server.send(signal.SIGTERM, self.server.pid)
        self._wait_for_the_end()

    def kill(self) -> None:
        """Kill every process at once, and remove the disk, as where a node is lost."""
        self.server.send_to_all(signal.SIGKILL)
        self._wait_for_the_end()

    def wait_for_output(self, text: str, timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until it has printed a text.

        :raises AirflowError: if it has not within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while text not in self.output.read_text(encoding="utf-8", errors="replace"):
            if time.monotonic() > deadline:
                raise AirflowError(f"{self.name} has not printed {text!r}:\n{self.server.tail()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Kill what still runs."""
        self.server.stop(grace=0.0)

    def _wait_for_the_end(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.server.returncode() is None or self.server.members():
            if time.monotonic() > deadline:
                raise AirflowError(f"{self.name} runs on:\n{self.server.tail()}")
            time.sleep(0.1)
        shutil.rmtree(self.disk)


class Deployment:
    """An Airflow of many machines.

    :ivar airflow: a client of its REST API.
    :ivar store: the object store that holds the task logs.
    :ivar machines: all that were ever started, in that order.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], store: ObjectStore) -> None:
        self.folder = folder
        self.store = store
        self.machines: list[Machine] = []
        self._env = env
        self._triggerer_jobs: set[int] = set()
        [api_server, *_] = [self._start(name, *command) for name, command in COMPONENTS.items()]
        self.airflow = Airflow(env["AIRFLOW__API__BASE_URL"], folder, api_server.server, env)

    @property
    def triggerers(self) -> list[Machine]:
        """The triggerers that are up, the oldest one first."""
        return [machine for machine in self.machines if machine.name.startswith("triggerer") and machine.is_up]

    @property
    def workers(self) -> list[Machine]:
        """The workers that are up, the oldest one first."""
        return [machine for machine in self.machines if machine.name.startswith("worker") and machine.is_up]

    def start_triggerer(self, *, wait: bool = True) -> Machine:
        """Start another triggerer.

        :param wait: until Airflow takes it to be alive.
        """
        machine = self._start(self._name("triggerer"), "triggerer", "--skip-serve-logs")
        if wait:
            self.wait_for_triggerer(machine)
        return machine

    def wait_for_triggerer(self, machine: Machine) -> None:
        """Wait until Airflow takes the triggerer that was started last to be alive."""

        def look() -> int | None:
            new = self.airflow.live_jobs(TRIGGERER_JOB) - self._triggerer_jobs
            return new.pop() if new else None

        found = self.airflow.until(look, PATIENCE_SECONDS, f"no new triggerer, see {machine.output},")
        self._triggerer_jobs.add(found)

    def wait_until_healthy(self, timeout: float) -> None:
        """Wait until every component reports to be healthy.

        :raises AirflowError: if one of them ends, or ``timeout`` seconds were not enough.
        """
        deadline = time.monotonic() + timeout
        unhealthy = ["api-server"]
        while True:
            self.check()
            with contextlib.suppress(requests.RequestException, AirflowError):
                if not (unhealthy := self.airflow.unhealthy()):
                    return
            if time.monotonic() > deadline:
                raise AirflowError(f"{unhealthy} not healthy after {timeout:g} s\n{self.last_words()}")
            time.sleep(0.3)

    def check(self) -> None:
        """Fail with its last words if a machine has ended by itself.

        :raises AirflowError: then.
        """
        for machine in self.machines:
            if machine.is_up and (code := machine.server.returncode()) is not None:
                raise AirflowError(f"{machine.name} ended with {code}:\n{machine.server.tail()}")

    def last_words(self) -> str:
        """Return the last lines of every machine's output."""
        return "\n".join(f"{each.name}:\n{each.server.tail(15)}" for each in self.machines)

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

    def _start(self, name: str, *command: str) -> Machine:
        with signals_held():
            machine = Machine(name, *command, env=self._env, folder=self.folder)
            self.machines.append(machine)
        return machine


@contextlib.contextmanager
def deployment(
    dags: Path,
    *,
    connections: Mapping[str, Json] | None = None,
    settings: Mapping[str, str] | None = None,
    timeout: float = PATIENCE_SECONDS,
) -> Iterator[Deployment]:
    """Run a deployment, with one triggerer and a worker for the queue ``default``, until the block ends.

    :param dags: the folder with the DAG files, which every machine has.
    :param connections: connection id to its JSON form, as in ``AIRFLOW_CONN_…``.
    :param settings: more environment variables (``AIRFLOW__SECTION__KEY``), over the defaults.
    :param timeout: seconds until every component has to be healthy.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="deployment-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        broker = stack.enter_context(redis())
        store = stack.enter_context(object_store())
        database = stack.enter_context(postgres()).create_database("airflow")
        env = _environment(folder, dags, broker, store, database)
        for conn_id, connection in (connections or {}).items():
            env[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(connection)
        env.update(settings or {})
        _migrate(folder, env)
        running = Deployment(folder, env, store)
        stack.callback(running.stop)
        running.start_worker("default")
        first = running.start_triggerer(wait=False)
        running.wait_until_healthy(timeout)
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


def _migrate(folder: Path, env: Mapping[str, str]) -> None:
    command = [*AIRFLOW, "db", "migrate"]
    done = subprocess.run(command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise AirflowError(f"airflow db migrate ended with {done.returncode}:\n{done.stdout}")
