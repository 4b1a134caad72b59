"""The page about monitoring and sizing: its snippets are well-formed, and what can be run is run."""

from __future__ import annotations

import configparser
import json

import pytest
from airflow.sdk import DAG

from tests.docs.conftest import PAGES, code_blocks, run_block

TEXT = (PAGES / "operations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", code_blocks(TEXT, "python"))
def test_an_example_runs_in_a_dag_with_its_own_imports(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with DAG("snippet", schedule=None):
        assert run_block(code, "operations.md", monkeypatch)


def test_every_setting_can_be_read() -> None:
    found = [configparser.ConfigParser(interpolation=None) for _ in code_blocks(TEXT, "ini")]
    for parser, text in zip(found, code_blocks(TEXT, "ini"), strict=True):
        parser.read_string(text)
    backends = [parser["secrets"] for parser in found if parser.has_section("secrets")]
    assert len(backends) == 2
    for backend in backends:
        assert backend["backend"].startswith("airflow.")
        assert isinstance(json.loads(backend["backend_kwargs"]), dict)
