"""Hints for the error types of the installed Ray."""

from __future__ import annotations

import pytest

from airflow_provider_rayagent.failures.explanation import explain

common = pytest.importorskip("ray.dashboard.modules.job.common")


@pytest.mark.parametrize("error_type", [error.value for error in common.JobErrorType])
def test_all_error_types_of_ray_have_hints(error_type: str) -> None:
    told = explain({"status": "FAILED", "error_type": error_type}, "j1", log_is_shown=True).text
    assert ("the program itself failed" in told) == (error_type == "JOB_ENTRYPOINT_COMMAND_ERROR")
