"""Texts of others, followed by a sentence of ours."""

from __future__ import annotations

import pytest

from airflow_provider_rayagent.text.sentences import sentence


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("It broke", "It broke."),
        ("It broke.", "It broke."),
        ("Is this its URL?", "Is this its URL?"),
        ("answered 503: busy!", "answered 503: busy!"),
    ],
)
def test_a_text_ends_as_a_sentence(text: str, whole: str) -> None:
    assert sentence(text) == whole
