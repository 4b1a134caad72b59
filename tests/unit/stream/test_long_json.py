"""Long JSON that is parsed in steps."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.stream import long_json
from airflow_provider_rayagent.stream.long_json import LONG, loads

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)
NOT_JSON = ("", "[", "[1,]", "[1 2]", '{"a"}', '{"a": [1, nul]}', "[1] 2", '{"a": 1}}', '"' + "a" * LONG, "[1," * 10)


@given(VALUES, st.sampled_from([None, 1]))
def test_it_is_what_json_loads_returns(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(long_json, "LONG", 0)
        assert loads(text) == value


@pytest.mark.parametrize("wrap", [lambda jobs: jobs, lambda jobs: {"data": {"result": {"result": jobs}}, "total": 9}])
def test_a_list_that_is_long_is_parsed_element_by_element(wrap: Any) -> None:
    jobs = [{"job_id": f"job-{number}", "metadata": {"a": ["b"]}} for number in range(5_000)]
    assert loads(json.dumps(wrap(jobs))) == wrap(jobs)
    assert loads(json.dumps(wrap(jobs)), lambda job: job["job_id"]) == wrap([job["job_id"] for job in jobs])


@pytest.mark.parametrize("text", NOT_JSON)
def test_what_is_not_json_is_an_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_json, "LONG", 0)
    with pytest.raises(ValueError):  # noqa: PT011 - that of json.loads
        loads(text)
