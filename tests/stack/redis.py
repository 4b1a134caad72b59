"""A private Redis without persistence; on Debian, install the package ``redis-server``."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.stack.processes import Server, free_ports, signals_held

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("redis-server", "valkey-server")
SETTINGS = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no")


class RedisError(Exception):
    """Redis did not start."""


def find_redis() -> str | None:
    """Return the path of a Redis server, None if none is installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextlib.contextmanager
def redis(timeout: float = 60.0) -> Iterator[str]:
    """Run a Redis on a free port of 127.0.0.1 until the block ends; yield its URL.

    :param timeout: seconds within which it must respond.
    :raises RedisError: if Redis is not installed, or does not start.
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
            server = Server(command, env=os.environ, cwd=folder, output=folder / "redis.log")
            stack.callback(server.stop)
        _wait_until_ready(server, port, timeout)
        yield f"redis://127.0.0.1:{port}/0"


def _wait_until_ready(server: Server, port: int, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not _answers(port):
        if (code := server.returncode()) is not None:
            raise RedisError(f"Redis ended with {code}:\n{server.tail()}")
        if time.monotonic() > deadline:
            raise RedisError(f"Redis is not ready after {timeout:g} s:\n{server.tail()}")
        time.sleep(0.05)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"PING\r\n")
        return client.recv(64).startswith(b"+PONG")
    return False
