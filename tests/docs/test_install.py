"""The page about installation: its snippets are well-formed, and name this version."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml  # type: ignore[import-untyped]

from airflow_provider_rayagent import __version__
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from tests.docs.conftest import PAGES, code_blocks

TEXT = (PAGES / "install.md").read_text(encoding="utf-8")
DOCUMENTS = [yaml.safe_load(block) for block in code_blocks(TEXT, "yaml")]


def document_with(key: str) -> Any:
    """Return the one YAML snippet that has a key."""
    (found,) = (document for document in DOCUMENTS if key in document)
    return found


def test_the_secret_that_the_chart_refers_to_is_a_connection() -> None:
    secret = document_with("stringData")
    (reference,) = document_with("secret")["secret"]

    assert reference["secretName"] == secret["metadata"]["name"]
    assert json.loads(secret["stringData"][reference["secretKey"]])["conn_type"] == RayAgentHook.conn_type
    assert reference["envName"] == f"AIRFLOW_CONN_{RayAgentHook.default_conn_name.upper()}"


def test_every_pinned_version_is_this_one() -> None:
    pinned = re.findall(r"airflow-provider-rayagent==([\w.]+)", TEXT)
    assert len(pinned) >= 3
    assert set(pinned) == {__version__}


def test_no_command_installs_the_extra_for_tests() -> None:
    assert "rayagent[local]" not in TEXT
