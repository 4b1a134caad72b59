"""Airflow's API server alone, with users who sign in, and its client."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_rayagent.local.ports import free_ports
from tests.stack.airflow import Json, environment, migrate_database, sqlite_url, variables_of
from tests.stack.processes import Server, signals_held
from tests.stack.watch import PATIENCE, check_servers, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

COOKIE = "_token"


class ApiServer:
    """A running API server.

    :param url: its base URL, without a trailing slash.
    :param env: environment for commands of this Airflow.
    """

    def __init__(self, url: str, home: Path, env: Mapping[str, str], server: Server) -> None:
        self.url = url
        self.home = home
        self.env = env
        self.server = server

    def sign_in(self, name: str, password: str) -> str:
        """Return a token for a user."""
        answer = self.request("POST", "auth/token", json={"username": name, "password": password})
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def request(self, method: str, path: str, token: str | None = None, **options: Any) -> requests.Response:
        """Send a request as a user, as a browser does, or as nobody; ``options`` are those of ``requests``."""
        check_servers()
        cookies = {COOKIE: token} if token else {}
        options.setdefault("timeout", PATIENCE)
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, f"{self.url}/{path}", cookies=cookies, **options)

    def is_healthy(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(requests.RequestException):
            return self.request("GET", "api/v2/version").ok
        return False


def settings_of_users(folder: Path, roles: Mapping[str, str], password: str) -> dict[str, str]:
    """Return the settings of an API server with these users of the simple auth manager.

    :param folder: where to write the file with their passwords.
    :param roles: the role of each user, by name.
    """
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps(dict.fromkeys(roles, password)), encoding="utf-8")
    return {
        "AIRFLOW__API_AUTH__JWT_SECRET": "of-the-tests" * 6,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in roles.items()),
    }


@contextlib.contextmanager
def api_server(
    *,
    base_path: str = "",
    connections: Mapping[str, Json] | None = None,
    settings: Mapping[str, str] | None = None,
    teams: Iterable[str] = (),
) -> Iterator[ApiServer]:
    """Run the API server of the installed Airflow, with a database of SQLite, until the block ends.

    :param base_path: path of its base URL, such as ``/airflow``.
    :param connections: JSON of the connections by id, in the environment.
    :param settings: additional environment variables.
    :param teams: names of the teams of this Airflow, whose settings must allow teams.
    """
    with contextlib.ExitStack() as stack:
        with signals_held():
            home = Path(tempfile.mkdtemp(prefix="airflow-api-"))
            stack.callback(shutil.rmtree, home, ignore_errors=True)
        port, worker_logs, trigger_logs = free_ports(3)
        dags = home / "dags"
        dags.mkdir()
        url = f"http://127.0.0.1:{port}{base_path}"
        env = environment(home, dags, url, worker_logs, trigger_logs)
        env["AIRFLOW__API__PORT"] = str(port)
        env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = sqlite_url(home)
        env |= variables_of(connections, settings)
        migrate_database(env, teams)
        with signals_held():
            server = Server(
                [sys.executable, "-m", "airflow", "api-server"],
                name="Airflow's API server",
                env=env,
                cwd=home,
                output=home / "api-server.log",
            )
            stack.callback(server.stop)
        running = ApiServer(url, home, env, server)
        wait_until(lambda: running.is_healthy() or None, lambda: f"the API server is not healthy:\n{server.tail()}\n")
        yield running
