"""What is said about failures of a real Ray, whose answers ``tests/local/test_failure_kinds.py`` has recorded."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest

from airflow_provider_rayagent.failures.explanation import explain
from tests.failure_records import FOLDER, look_with, replayed

NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def test_there_are_records() -> None:
    assert len(NAMES) >= 20


@pytest.mark.parametrize("name", NAMES)
def test_the_text_is_as_it_was_read_by_a_human(name: str, pytestconfig: pytest.Config) -> None:
    job, look = replayed(name)
    told = explain(job, name, look, log_is_shown=True)
    text = f"{told.code.value}: {told.text}\n\nkind: {told.kind and told.kind.value}\n"
    stored = FOLDER / f"{name}.txt"
    if pytestconfig.getoption("--update-records"):
        stored.write_text(text, encoding="utf-8")
    assert text == stored.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_record_of_any_other_type_does_no_harm(name: str) -> None:
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    for odd in (None, [], {}, "x", -1, 10**400, float("nan"), True, [[None]], {"": {"": 0}}):
        answers = {key: _with_odd_columns(answer, odd) for key, answer in stored["answers"].items()}
        told = explain(stored["job"], name, look_with(stored["job"], defaultdict(list, answers)), log_is_shown=True)
        assert told.text
        json.dumps(list(told.causes), allow_nan=False)


def _with_odd_columns(answer: Any, odd: Any) -> Any:
    """Return rows, each with another column replaced."""
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        return answer
    columns = sorted({column for row in answer for column in row})
    return [*({**answer[0], column: odd} for column in columns), *answer] if answer else answer
