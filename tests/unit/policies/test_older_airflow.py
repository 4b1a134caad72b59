"""The retry policy without Airflow's retry policies, which are new in 3.3."""

from __future__ import annotations

import subprocess
import sys

from airflow_provider_rayagent.exceptions import RayAgentUnsupportedError


def test_an_older_airflow_is_named_when_the_dag_is_parsed() -> None:
    program = (
        "import sys\n"
        "sys.modules['airflow.sdk.definitions.retry_policy'] = None\n"
        "from airflow_provider_rayagent.policies.retry import RayAgentRetryPolicy\n"
        "RayAgentRetryPolicy()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert RayAgentUnsupportedError.__name__ in done.stderr
    assert "requires Airflow 3.3 or newer" in done.stderr
