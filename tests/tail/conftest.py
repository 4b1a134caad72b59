"""A separate Airflow home, short connect timeouts, and the cells of the table in parallel."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.level import load_profile
from tests.tail.figures import pytest_terminal_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.tail.drivers import Outcome
    from tests.tail.table import Cell

__all__ = ["pytest_terminal_summary"]

_HOME = tempfile.TemporaryDirectory(prefix="airflow-home-")
os.environ.setdefault("AIRFLOW_HOME", _HOME.name)
os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "True")
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
for _name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.lower(), None)

PLAYED_AT_ONCE = 24
"""A case spends most of its time waiting."""

load_profile()


@pytest.fixture(scope="session")
def outcome_of(request: pytest.FixtureRequest) -> Callable[[Cell], Outcome]:
    """Return a function that returns the outcome of a cell; the cells that this session needs run in parallel."""
    from tests.tail.columns import RAY_DRIVERS
    from tests.tail.stage import play

    # A log that is lost is waited for longest.
    asked = sorted(dict.fromkeys(_cells(request.session.items)), key=lambda cell: not cell.row.lost)
    futures: dict[Cell, Future[Any]] = {}
    with ThreadPoolExecutor(PLAYED_AT_ONCE) as pool:
        for cell in asked:
            futures[cell] = pool.submit(
                play, cell.row, RAY_DRIVERS[cell.driver], cell.protocol, is_cluster=cell.is_cluster
            )
    # Not while tests run: pytest changes the environment then, which the transports read.
    return lambda cell: futures[cell].result()


def _cells(items: list[pytest.Item]) -> Iterator[Cell]:
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if "cell" in params:
            yield params["cell"]
