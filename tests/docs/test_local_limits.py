"""The limits on the local agent's page are those in the code."""

from __future__ import annotations

from airflow_provider_rayagent.local.job_logs import MAX_STREAMS
from airflow_provider_rayagent.services.submission import MAX_BODY_BYTES
from airflow_provider_rayagent.working_dir.packing import MAX_BYTES
from tests.docs.conftest import PAGES

MIB = 1024 * 1024


def test_the_limits_are_those_of_the_code() -> None:
    text = " ".join((PAGES / "local-agent.md").read_text(encoding="utf-8").split())
    assert f"sends at most {MAX_STREAMS} logs at a time" in text
    assert f"at most {MAX_BODY_BYTES // MIB} MiB, the package of a `working_dir` {MAX_BYTES // MIB} MiB" in text
