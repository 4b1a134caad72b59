"""The page about production: its snippets are well-formed, and what can be run is run."""

from __future__ import annotations

import asyncio
import configparser
import json
import logging
import pkgutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped]
from airflow.sdk import DAG
from airflow.secrets.local_filesystem import LocalFilesystemBackend

from airflow_provider_rayagent.exceptions import RayAgentConnectionRefusedError
from tests.docs.conftest import PAGES, code_blocks

if TYPE_CHECKING:
    from pathlib import Path

TEXT = (PAGES / "in-production.md").read_text(encoding="utf-8")
ALERTS, DAG_WITH_ALERTS = (code for code in code_blocks(TEXT, "python") if "tell" in code)


def run(code: str) -> dict[str, Any]:
    """Run a snippet in a DAG file; return its names."""
    names = {"__name__": __name__}
    with DAG("snippet", schedule=None):
        exec(compile(code, "in-production.md", "exec"), names)
    return names


@pytest.mark.parametrize(
    "code", [code for code in code_blocks(TEXT, "python") if code not in (ALERTS, DAG_WITH_ALERTS)]
)
def test_an_example_runs_with_its_own_imports(code: str) -> None:
    assert run(code)


def test_the_triggerer_can_import_the_callback_of_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "alerts.py").write_text(ALERTS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    callback = run(DAG_WITH_ALERTS)["late"].callback
    asyncio.run(pkgutil.resolve_name(callback.path)(**callback.kwargs, context={}))

    assert callback.path == "alerts.tell"
    assert ("alerts", logging.ERROR, "The training is late.") in caplog.record_tuples


def test_the_callback_reports_the_code_and_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    (report,) = (run(code)["report"] for code in code_blocks(TEXT, "python") if "def report" in code)
    task = SimpleNamespace(task_id="follow")

    with caplog.at_level(logging.ERROR, "airflow.task"):
        logging.getLogger("airflow.task").addHandler(caplog.handler)
        report({"exception": RayAgentConnectionRefusedError("Nothing listens."), "task_instance": task})
        report({"task_instance": task})
        logging.getLogger("airflow.task").removeHandler(caplog.handler)

    assert "Task follow: RA-201, cause: unknown" in caplog.messages
    assert "Task follow: no code, cause: unknown" in caplog.messages


def test_every_setting_can_be_read() -> None:
    found = [configparser.ConfigParser(interpolation=None) for _ in code_blocks(TEXT, "ini")]
    for parser, text in zip(found, code_blocks(TEXT, "ini"), strict=True):
        parser.read_string(text)
    backends = [parser["secrets"] for parser in found if parser.has_section("secrets")]
    assert len(backends) == 5
    for backend in backends:
        assert backend["backend"].startswith("airflow.")
        assert isinstance(json.loads(backend["backend_kwargs"]), dict)


def test_the_file_of_the_secrets_backend_is_a_connection(tmp_path: Path) -> None:
    value, file = (json.loads(text) for text in code_blocks(TEXT, "json"))
    path = tmp_path / "connections.json"
    path.write_text(json.dumps({**file, "other": value}), encoding="utf-8")
    backend = LocalFilesystemBackend(connections_file_path=str(path))

    for conn_id in ("rayagent_default", "other"):
        connection = backend.get_connection(conn_id)
        assert (connection.conn_type, connection.password) == ("rayagent", "TOKEN")  # type: ignore[union-attr]


def test_the_network_policy_is_one() -> None:
    (policy,) = (yaml.safe_load(text) for text in code_blocks(TEXT, "yaml"))
    assert policy["kind"] == "NetworkPolicy"
    assert {"podSelector", "ingress"} <= set(policy["spec"])
