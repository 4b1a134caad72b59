"""The page about errors says what the code does after each of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_rayagent import exceptions
from airflow_provider_rayagent.client import transience
from airflow_provider_rayagent.client.errors import RayAgentError, RayAgentHTTPError, for_status
from airflow_provider_rayagent.client.retry import FIRST_PAUSE, MAX_RETRY_AFTER, MAX_TRIES
from tests.docs.conftest import PAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = (PAGES / "errors.md").read_text(encoding="utf-8")
COLUMNS = {
    "Transient": transience.is_transient,
    "Permanent": transience.is_permanent,
    "May have been received": transience.may_have_been_received,
    "Outcome unknown": transience.is_outcome_unknown,
    "Log unreadable": transience.is_log_unreadable,
}
STATUSES = range(400, 600)


def table() -> list[tuple[list[RayAgentError], list[str]]]:
    """Return the errors that each row of the table is about, and its other cells."""
    lines = TEXT.partition("| Failure |")[2].splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == list(COLUMNS)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:] if line.startswith("|")]
    named = {status for cell, *_ in rows for status in statuses_in(cell)}
    return [(list(errors_in(cell, named)), cells) for cell, *cells in rows]


def statuses_in(cell: str) -> list[int]:
    return [int(status) for status in re.findall(r"`(\d{3})`", cell)]


def errors_in(cell: str, named: set[int]) -> Iterator[RayAgentError]:
    """Yield an error of each class and status that a cell names.

    :param named: the statuses that have a row of their own.
    """
    for name in re.findall(r"\{class\}`\.(\w+)`", cell):
        kind = getattr(exceptions, name)
        if not issubclass(kind, RayAgentHTTPError) or kind is exceptions.RayAgentGPUUnavailableError:
            yield kind("x")
    for status in statuses_in(cell):
        yield for_status(status, "x")
        for name in re.findall(rf"`{status}` \(\{{class\}}`\.(\w+)`", cell):
            assert type(for_status(status, "x")).__name__ == name
    for hundred in re.findall(r"`(\d)xx`", cell):
        for status in STATUSES:
            if status // 100 == int(hundred) and status not in named:
                yield for_status(status, "x")


def test_every_row_says_what_the_code_does() -> None:
    wrong = []
    for errors, cells in table():
        assert errors
        for error in errors:
            does = ["yes" if ask(error) else "no" for ask in COLUMNS.values()]
            if does != cells:
                wrong.append(f"{type(error).__name__} {error.status_code}: {cells} but {does}")
    assert wrong == []


def test_every_status_and_every_class_with_a_row_in_the_code_is_in_the_table() -> None:
    errors = [error for errors, _ in table() for error in errors]
    statuses = [error.status_code for error in errors if isinstance(error, RayAgentHTTPError)]
    assert sorted(status for status in statuses if status is not None) == list(STATUSES)
    kinds = {type(error) for error in errors}
    assert {kind for kind in transience.ERRORS if kind is not RayAgentError} <= kinds


def test_the_numbers_are_the_codes() -> None:
    pauses = [f"{FIRST_PAUSE * 2**tries:g}" for tries in range(MAX_TRIES - 1)]
    words = " ".join(TEXT.split())
    assert f"sent up to {MAX_TRIES} times" in words
    assert f"at most {', '.join(pauses[:-1])} and {pauses[-1]} seconds" in words
    assert f"up to {MAX_RETRY_AFTER:g} seconds" in words
