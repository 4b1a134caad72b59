"""The triggerers of a running Airflow: start more, and stop, kill or freeze each by process id.

with triggerers_of(airflow) as triggerers:
    second = triggerers.start()
    triggerers.holding(airflow.task_instance(dag_id, run_id, task_id)).kill()
"""

from __future__ import annotations

import contextlib
import signal
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, text

from tests.stack.processes import Server, command_of, parent_of, signals_held, stop_servers
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection

    from tests.stack.airflow import Airflow, Json

KIND = "TriggererJob"
# All triggerers write to one folder, so the log server of the first one serves all logs.
COMMAND = (sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs")


@dataclass(frozen=True)
class Triggerer:
    """A triggerer: a supervisor, which accesses the database, and its child process, which runs the triggers.

    :param job_id: id of its job in Airflow.
    :param server: the server with its processes.
    """

    airflow: Airflow
    job_id: int
    server: Server
    supervisor: int
    runner: int

    def terminate(self) -> None:
        """Send TERM, as in a rolling restart."""
        self.server.send(signal.SIGTERM, self.supervisor)

    def kill(self) -> None:
        """Kill the supervisor; the runner exits when it notices."""
        with self._falls_silent():
            self.server.send(signal.SIGKILL, self.supervisor)

    def kill_runner(self) -> None:
        """Kill the process that runs the triggers; the supervisor exits when it notices."""
        self.server.expect_end()
        self.server.send(signal.SIGKILL, self.runner)

    def freeze(self) -> None:
        """Suspend both processes, as on a suspended machine."""
        with self._falls_silent():
            for pid in (self.supervisor, self.runner):
                self.server.send(signal.SIGSTOP, pid)

    def thaw(self) -> None:
        """Resume both processes."""
        for pid in (self.supervisor, self.runner):
            self.server.send(signal.SIGCONT, pid)

    @contextlib.contextmanager
    def _falls_silent(self) -> Iterator[None]:
        """Backdate its last heartbeat, before or in this block, so that others take over its triggers.

        Waiting instead would take too long: Airflow's timeout is long, so that it does not consider a live triggerer
        dead on a busy machine (see :data:`tests.stack.airflow.PATIENT`).
        """
        engine = create_engine(self.airflow.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
        with engine.begin() as connection:
            # Acquiring the lock waits for a heartbeat in progress, and prevents later ones from being committed.
            connection.execute(text("SELECT id FROM job WHERE id = :id FOR UPDATE"), {"id": self.job_id})
            yield
            _set_heartbeat_back(connection, self.job_id)
        engine.dispose()


def forget_heartbeat(env: Mapping[str, str], job_id: int) -> None:
    """Make Airflow consider a triggerer that has ended dead immediately.

    :param env: environment of Airflow's components, which specifies the database.
    """
    engine = create_engine(env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    with engine.begin() as connection:
        _set_heartbeat_back(connection, job_id)
    engine.dispose()


def _set_heartbeat_back(connection: Connection, job_id: int) -> None:
    values = {"id": job_id, "long_ago": datetime.fromtimestamp(0, timezone.utc)}
    connection.execute(text("UPDATE job SET latest_heartbeat = :long_ago WHERE id = :id"), values)


class Triggerers:
    """All triggerers of an Airflow, by the ids of their jobs."""

    def __init__(self, airflow: Airflow) -> None:
        self.airflow = airflow
        self._started: list[Server] = []
        self._all: dict[int, Triggerer] = {}
        self._find(airflow.components["triggerer"])

    def start(self, *options: str) -> Triggerer:
        """Start another triggerer with these options, and wait until it is running."""
        name = f"triggerer{len(self._started) + 1}"
        output = self.airflow.home / f"{name}.log"
        with signals_held():
            server = Server(
                [*COMMAND, *options], name=f"the {name}", env=self.airflow.env, cwd=self.airflow.home, output=output
            )
            self._started.append(server)
        return self._find(server)

    def holding(self, task_instance: Json) -> Triggerer:
        """Return the triggerer that runs the trigger of a deferred task instance."""
        return self._all[task_instance["trigger"]["triggerer_id"]]

    def only(self) -> Triggerer:
        """Return the only triggerer."""
        (found,) = self._all.values()
        return found

    def stop(self) -> None:
        """Stop the triggerers that were started here."""
        stop_servers(self._started)

    def _find(self, server: Server) -> Triggerer:
        """Wait for the only triggerer of a server, and register it."""

        def look() -> Triggerer | None:
            new = self.airflow.live_jobs(KIND) - self._all.keys()
            processes = _processes(server)
            return Triggerer(self.airflow, new.pop(), server, *processes) if new and processes else None

        found = wait_until(look, "no new triggerer")
        self._all[found.job_id] = found
        return found


def _processes(server: Server) -> tuple[int, int] | None:
    """Return the process ids of the triggerer's supervisor and of its child, the runner, once both exist."""
    parents = {pid: parent_of(pid) for pid in server.members() if "triggerer" in command_of(pid)}
    return next(((parent, pid) for pid, parent in parents.items() if parent in parents), None)


@contextlib.contextmanager
def triggerers_of(airflow: Airflow) -> Iterator[Triggerers]:
    """Yield an Airflow's triggerers; at the end of the block, stop those that were started in it."""
    triggerers = Triggerers(airflow)
    try:
        yield triggerers
    finally:
        triggerers.stop()
