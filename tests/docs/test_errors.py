"""The page about errors says what the code does after each of them."""

from __future__ import annotations

import re

from airflow_provider_rayagent import exceptions
from airflow_provider_rayagent.errors import transience
from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentHTTPError, for_status
from airflow_provider_rayagent.transport.request_retry import FIRST_PAUSE, MAX_RETRY_AFTER, MAX_TRIES
from tests.docs.conftest import PAGES

TEXT = (PAGES / "retries-and-errors.md").read_text(encoding="utf-8")
STATUSES = range(300, 600)


def table() -> dict[str, str]:
    """Return the errors of each row of the table."""
    return dict(re.findall(r"^\| (transient|permanent|neither) \| (.*) \|$", TEXT, re.MULTILINE))


def kind_of(error: RayAgentError) -> str:
    if transience.is_transient(error):
        return "transient"
    return "permanent" if transience.is_permanent(error) else "neither"


def classification_of(status: int, rows: dict[str, str]) -> str:
    """Return the row that names a status, or else its hundred."""
    for name in (f"`{status}`", f"`{status // 100}xx`"):
        found = [row for row, text in rows.items() if name in text]
        if found:
            assert len(found) == 1
            return found[0]
    raise AssertionError(f"no row for {status}")


def test_every_status_is_in_the_row_of_its_kind() -> None:
    rows = table()
    assert {status: classification_of(status, rows) for status in STATUSES} == {
        status: kind_of(for_status(status, "x")) for status in STATUSES
    }


def test_every_class_is_in_the_row_of_its_kind() -> None:
    rows = table()
    named = {name: row for row, text in rows.items() for name in re.findall(r"\{class\}`\.(\w+)`", text)}
    kinds = {name: getattr(exceptions, name) for name in named}
    assert {name: kind_of(kind("x")) for name, kind in kinds.items()} == named
    # Of the classes with a row in the code, all or their base.
    for kind in transience.ERRORS:
        if kind is not RayAgentError and not issubclass(kind, RayAgentHTTPError):
            assert any(issubclass(kind, each) for each in kinds.values()), kind


def test_the_numbers_are_the_codes() -> None:
    pauses = [f"{FIRST_PAUSE * 2**tries:g}" for tries in range(MAX_TRIES - 1)]
    words = " ".join(TEXT.split())
    assert f"sent up to {MAX_TRIES} times" in words
    assert f"at most {', '.join(pauses[:-1])} and {pauses[-1]} seconds" in words
    assert f"up to {MAX_RETRY_AFTER:g} seconds" in words
