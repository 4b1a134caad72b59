"""The triggerers of a running Airflow: its own and more, each to be ended, killed or frozen by process id.

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
# The log server of Airflow's own triggerer serves for all: they write to one folder.
COMMAND = (sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs")


@dataclass(frozen=True)
class Triggerer:
    """A triggerer: a supervisor, which speaks to the database, and its child, which runs the triggers.

    :param job_id: the id of its job in Airflow.
    :param server: the server whose session its processes are in.
    """

    airflow: Airflow
    job_id: int
    server: Server
    supervisor: int
    runner: int

    def terminate(self) -> None:
        """Ask it to end, as a rolling restart does."""
        self.server.send(signal.SIGTERM, self.supervisor)

    def kill(self) -> None:
        """Kill the supervisor; the runner ends by itself when it notices."""
        with self._falls_silent():
            self.server.send(signal.SIGKILL, self.supervisor)

    def kill_runner(self) -> None:
        """Kill the process that runs the triggers; the supervisor ends by itself when it notices."""
        self.server.expect_end()
        self.server.send(signal.SIGKILL, self.runner)

    def freeze(self) -> None:
        """Stop both processes where they are, as a suspended machine does."""
        with self._falls_silent():
            for pid in (self.supervisor, self.runner):
                self.server.send(signal.SIGSTOP, pid)

    def thaw(self) -> None:
        """Let both processes go on."""
        for pid in (self.supervisor, self.runner):
            self.server.send(signal.SIGCONT, pid)

    @contextlib.contextmanager
    def _falls_silent(self) -> Iterator[None]:
        """Let its last heartbeat, before or in this block, be so old that others take its triggers over.

        Rather than wait until it is: the time after which Airflow takes a triggerer for dead is far from what one
        that lives takes on a busy machine (see :data:`tests.stack.airflow.PATIENT`).
        """
        engine = create_engine(self.airflow.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
        with engine.begin() as connection:
            # The lock is there only after a heartbeat that is under way; none that comes later is committed any more.
            connection.execute(text("SELECT id FROM job WHERE id = :id FOR UPDATE"), {"id": self.job_id})
            yield
            _set_heartbeat_back(connection, self.job_id)
        engine.dispose()


def forget_heartbeat(env: Mapping[str, str], job_id: int) -> None:
    """Let Airflow take a triggerer that has ended for dead at once.

    :param env: the environment of Airflow's components, which names the database.
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

    def start(self) -> Triggerer:
        """Start one more, and wait until it runs."""
        name = f"triggerer{len(self._started) + 1}"
        output = self.airflow.home / f"{name}.log"
        with signals_held():
            server = Server(COMMAND, name=f"the {name}", env=self.airflow.env, cwd=self.airflow.home, output=output)
            self._started.append(server)
        return self._find(server)

    def holding(self, task_instance: Json) -> Triggerer:
        """Return the one that runs the trigger of a deferred task instance."""
        return self._all[task_instance["trigger"]["triggerer_id"]]

    def only(self) -> Triggerer:
        """Return the one that there is."""
        (found,) = self._all.values()
        return found

    def stop(self) -> None:
        """End those that were started here."""
        stop_servers(self._started)

    def _find(self, server: Server) -> Triggerer:
        """Wait for the only triggerer of a server, and take it in."""

        def look() -> Triggerer | None:
            new = self.airflow.live_jobs(KIND) - self._all.keys()
            processes = _processes(server)
            return Triggerer(self.airflow, new.pop(), server, *processes) if new and processes else None

        found = wait_until(look, "no new triggerer")
        self._all[found.job_id] = found
        return found


def _processes(server: Server) -> tuple[int, int] | None:
    """Return the triggerer's supervisor and its child, the runner, as soon as there are both."""
    parents = {pid: parent_of(pid) for pid in server.members() if "triggerer" in command_of(pid)}
    return next(((parent, pid) for pid, parent in parents.items() if parent in parents), None)


@contextlib.contextmanager
def triggerers_of(airflow: Airflow) -> Iterator[Triggerers]:
    """Yield an Airflow's triggerers; at the end of the block, end those that were started in it."""
    triggerers = Triggerers(airflow)
    try:
        yield triggerers
    finally:
        triggerers.stop()
