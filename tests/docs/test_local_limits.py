"""The limits on the local agent's page are those in the code."""

from __future__ import annotations

import pytest

from airflow_provider_rayagent.client.packing import MAX_BYTES
from airflow_provider_rayagent.client.submission import MAX_BODY_BYTES
from airflow_provider_rayagent.local import connections, job_logs, jobqueue, limits, plugins, ray_api, spool
from tests.docs.conftest import PAGES

TEXT = (PAGES / "local-agent.md").read_text(encoding="utf-8")
ROWS = {
    "open connections": (connections.MAX_CONNECTIONS, connections.MAX_CONNECTIONS + connections.RESERVED_FILES),
    "open streams": (job_logs.MAX_FOLLOWERS,),
    "running jobs being followed": (job_logs.MAX_TAILS,),
    "open logs (live and whole logs each)": (job_logs.MAX_LOGS,),
    "whole logs read from Ray at a time": (ray_api.MAX_LOG_READS,),
    "requests to Ray at a time": (ray_api.MAX_REQUESTS, ray_api.READ_TIMEOUT),
    "time for the headers of a request": (connections.HEADERS_TIMEOUT,),
    "time for the body of a request": (limits.BODY_TIMEOUT,),
    "body of a request": (MAX_BODY_BYTES,),
    "package of a `working_dir`": (MAX_BYTES,),
    "packages being uploaded at a time": (limits.MAX_UPLOADS,),
    "jobs waiting in the queue": (jobqueue.MAX_WAITING,),
    "jobs remembered that ended in the queue": (jobqueue.MAX_ENDED,),
}


@pytest.mark.parametrize("what", ROWS)
def test_limit_matches_code(what: str) -> None:
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| {what} |")]
    for number in ROWS[what]:
        assert f"{number:,.0f}" in row


def test_all_limits_in_table_are_checked() -> None:
    table = TEXT.split("| Limit | Maximum |")[1].split("\n\n")[0]
    assert table.count("\n") - 1 == len(ROWS)


def test_limits_in_text_match_code() -> None:
    assert f"longer than {plugins.MAX_MANIFEST:,} bytes" in TEXT
    assert f"turns of {spool.BLOCK_BYTES // 1024} KB" in TEXT
    assert f"about {jobqueue.MAX_FAILURES * jobqueue.POLL_SECONDS:.0f} seconds if Ray fails" in TEXT
