"""PostgreSQL ends with its block, although its clients are still connected."""

from __future__ import annotations

import psycopg2

from tests.stack.postgres import postgres
from tests.stack.processes import command_of


def test_all_processes_stop_at_end_of_block() -> None:
    with postgres() as server:
        connection = psycopg2.connect(server.url("postgres").replace("+psycopg2", ""))
        backend = connection.info.backend_pid
        assert command_of(backend)
    assert not command_of(backend)
    assert not command_of(server.server.pid)
