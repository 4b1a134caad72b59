"""A private Redis without persistence; on Debian, install the package ``redis-server``."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.ports import free_ports
from tests.stack.processes import Server, signals_held
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("redis-server", "valkey-server")
SETTINGS = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no")


class RedisError(Exception):
    """Redis is not installed."""


def find_redis() -> str | None:
    """Return the path of a Redis server, None if none is installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Run a Redis on a free port of 127.0.0.1 until the block ends; yield its URL.

    :raises RedisError: if Redis is not installed.
    """
    program = find_redis()
    if program is None:
        raise RedisError(f"none of {', '.join(PROGRAMS)} is installed")
    [port] = free_ports(1)
    with contextlib.ExitStack() as stack:
        with signals_held():
            folder = Path(tempfile.mkdtemp(prefix="redis-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            command = [program, "--port", str(port), *SETTINGS, "--dir", str(folder)]
            server = Server(command, name="Redis", env=os.environ, cwd=folder, output=folder / "redis.log")
            stack.callback(server.stop)
        wait_until(lambda: _answers(port) or None, lambda: f"Redis is not ready:\n{server.tail()}")
        yield f"redis://127.0.0.1:{port}/0"


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"PING\r\n")
        return client.recv(64).startswith(b"+PONG")
    return False
