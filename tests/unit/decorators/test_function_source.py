"""What of a DAG file a function may use: found when the file is parsed."""

from __future__ import annotations

import functools
import importlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.decorators.function_source import check_function, source_of
from airflow_provider_rayagent.decorators.ray_task import ray_task
from airflow_provider_rayagent.exceptions import RayAgentInputError

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 3
COUNTER = 0
path = "s3://bucket"


def uses_nothing(rows: list[int], limit: int = LIMIT) -> Any:
    import json
    from pathlib import PurePath as path  # noqa: N813 - hides a name of this module

    class Row:
        LIMIT = 4
        both = LIMIT + len(rows)

        def path(self) -> Any:
            return path("a").name

    def again(n: int) -> Any:
        return uses_nothing(rows, n) if n else json.dumps([Row().path() for _ in rows])

    return again(limit)


def writes_a_global() -> Any:
    global COUNTER  # noqa: PLW0603
    COUNTER = 1
    return COUNTER


@pytest.mark.parametrize("function", [uses_nothing, writes_a_global])
def test_what_is_in_the_function_is_allowed(function: Any) -> None:
    check_function(function)


def uses_a_module() -> Any:
    return json.dumps(1)


def uses_values() -> Any:
    return [each for each in path if json.dumps(LIMIT)]


def uses_a_class_of_another_module() -> Any:
    return RayAgentInputError(str(LIMIT))


def uses_in_a_class() -> Any:
    class Row:
        limit = LIMIT

    return Row.limit


def sum(rows: list[int]) -> int:  # noqa: A001 - as of a package whose names hide those of Python
    return len(rows)


def uses_a_hidden_builtin() -> Any:
    return sum([1])


def import_around_it() -> Any:
    import csv

    def uses_an_import() -> Any:
        return csv.reader

    return uses_an_import


def nested(bucket: str) -> Any:
    def uses_a_closure() -> Any:
        return bucket

    return uses_a_closure


def yields() -> Any:
    yield 1


@functools.wraps(uses_nothing)
def wrapped(*arguments: Any) -> Any: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (uses_a_module, "uses_a_module of @task.ray uses json of the DAG file, .* not have: import it in the function"),
        (import_around_it(), "uses csv of the DAG file, .* not have: import it in the function"),
        (
            uses_values,
            "uses LIMIT, json, path of .*: import json in the function; define LIMIT, path in the function, or pass",
        ),
        (uses_a_class_of_another_module, "import RayAgentInputError in the function; define LIMIT in the"),
        (uses_in_a_class, "uses LIMIT of"),
        (uses_a_hidden_builtin, "uses sum of the DAG file"),
        (nested("b"), "uses bucket of the DAG file"),
        (yields, "yields values; return a list"),
        (lambda: 1, "needs a function that is defined with def"),
        (wrapped, "must be the decorator next to the function uses_nothing"),
    ],
)
def test_what_the_cluster_does_not_have_is_an_error_of_the_dag_file(function: Any, words: str) -> None:
    with pytest.raises(RayAgentInputError, match=words):
        ray_task(task_id="follow")(function)


@pytest.mark.parametrize("count", [10, 100, 1000, 100_000])
def test_a_name_among_many_is_found(count: int) -> None:
    names: dict[str, Any] = {"LIMIT": LIMIT, f"a{count // 2}": LIMIT}
    exec("def many(o):\n" + "".join(f"    o.a{n}\n" for n in range(count)) + "    return LIMIT\n", names)
    with pytest.raises(RayAgentInputError, match=r"The function many of .* uses LIMIT of the DAG file"):
        check_function(names["many"])


@pytest.mark.parametrize("function", [functools.partial(uses_nothing, [1]), print, "text"])
def test_what_is_no_function_is_named(function: Any) -> None:
    with pytest.raises(RayAgentInputError, match="needs a function that is defined with def, not"):
        ray_task(function)


def test_the_source_is_that_which_was_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "parsed_dag.py"
    file.write_text("def first():\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    function = importlib.import_module("parsed_dag").first
    check_function(function)
    # As a DAG bundle is updated between the parsing and the submission.
    file.write_text("# new\n\ndef other():\n    return 2\n")
    assert source_of(function)[:4] == ("first", "def first():\n    return 1\n", str(file), 1)


def test_a_function_without_a_file_has_no_source() -> None:
    names: dict[str, Any] = {}
    exec("def made(): pass", names)
    with pytest.raises(RayAgentInputError, match=r"The source of the function made .* is not available"):
        source_of(names["made"])
