from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from tests.stack.postgres import Postgres, postgres
from tests.stack.processes import command_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


def test_databases_are_separate(server: Postgres) -> None:
    first = sa.create_engine(server.create_database("first"))
    second = sa.create_engine(server.create_database("second"))
    with first.begin() as connection:
        connection.execute(sa.text("CREATE TABLE jobs (id integer)"))
        connection.execute(sa.text("INSERT INTO jobs VALUES (4711)"))
    assert sa.inspect(first).get_table_names() == ["jobs"]
    assert sa.inspect(second).get_table_names() == []
    assert ["4711" in server.dump(name) for name in ("first", "second")] == [True, False]
    first.dispose()
    second.dispose()


def test_asyncio_driver_connects(server: Postgres) -> None:
    async def fsync() -> str:
        engine = create_async_engine(server.url("postgres").replace("psycopg2", "asyncpg"))
        async with engine.connect() as connection:
            found: str = (await connection.execute(sa.text("SHOW fsync"))).scalar_one()
        await engine.dispose()
        return found

    assert asyncio.run(fsync()) == "off"


def test_wrong_password_is_rejected(server: Postgres) -> None:
    address = sa.make_url(server.url("postgres")).set(drivername="postgresql", password="wrong")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(address.render_as_string(hide_password=False))


def test_all_processes_stop_at_end_of_block() -> None:
    with postgres() as server:
        connection = psycopg2.connect(server.url("postgres").replace("+psycopg2", ""))
        backend = connection.info.backend_pid
        assert command_of(backend)
    assert not command_of(backend)
    assert not command_of(server.server.pid)
