"""What the operators that wait share."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferralError

from airflow_provider_rayagent.exceptions import RayAgentWaitTimeoutError
from tests.unit.operators import test_delete_application, test_stop_job
from tests.unit.support import make_context


@pytest.mark.parametrize(
    "make_operator", [test_stop_job.make_operator, test_delete_application.make_operator], ids=["stop", "delete"]
)
@pytest.mark.parametrize(
    ("why", "error"), [("Trigger timeout", RayAgentWaitTimeoutError), ("Trigger failure", TaskDeferralError)]
)
def test_a_deferral_that_no_triggerer_ended_is_a_named_error(
    make_operator: Any, why: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        make_operator(deferrable=True).resume_execution("__fail__", {"error": why}, make_context())
