"""The templates in pages and example DAGs."""

from __future__ import annotations

import re

import pytest
from airflow.sdk import DAG
from jinja2 import meta

from tests.docs.conftest import PAGES, ROOT

FILES = [ROOT / "README.md", *PAGES.glob("*.md"), *(ROOT / "example_dags").glob("*.py")]
NEEDS_LOGICAL_DATE = {
    "logical_date",
    "ds",
    "ds_nodash",
    "ts",
    "ts_nodash",
    "ts_nodash_with_tz",
    "data_interval_start",
    "data_interval_end",
}
"""Variables that a run without a logical date does not have, such as one that an asset or a user starts
(``get_template_context`` in ``airflow/sdk/execution_time/task_runner.py``)."""
TEMPLATES = [
    pytest.param(found, id=f"{path.name}: {found}")
    for path in FILES
    for found in sorted(set(re.findall(r"\{\{.*?\}\}", path.read_text(encoding="utf-8"))))
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_is_defined_in_every_run(template: str) -> None:
    variables = meta.find_undeclared_variables(DAG("any", schedule=None).get_template_env().parse(template))
    assert not variables & NEEDS_LOGICAL_DATE
