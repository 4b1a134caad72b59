"""Lengths of text in the task log."""

from __future__ import annotations

import pytest

from airflow_provider_rayagent.text.bounds import utf8_length


@pytest.mark.parametrize(("text", "length"), [("", 0), ("plain", 5), ("é漢😀", 9), ("a\ud800", 2)])
def test_the_utf8_length_of_any_text(text: str, length: int) -> None:
    assert utf8_length(text) == length
