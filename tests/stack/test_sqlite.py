from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.stack.airflow import SQLITE_PATIENCE, sqlite_url

if TYPE_CHECKING:
    from pathlib import Path

BUSY_TIMEOUTS = """
import asyncio
from airflow.settings import async_engine, engine

QUERY = "PRAGMA busy_timeout"

async def other():
    async with async_engine.connect() as connection:
        print((await connection.exec_driver_sql(QUERY)).scalar())
    await async_engine.dispose()

with engine.connect() as connection:
    print(connection.exec_driver_sql(QUERY).scalar())
asyncio.run(other())
"""


def test_both_engines_of_airflow_wait_for_locked_database(tmp_path: Path) -> None:
    environment = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": sqlite_url(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", BUSY_TIMEOUTS],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(SQLITE_PATIENCE * 1_000)] * 2
