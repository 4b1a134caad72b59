"""Jobs as the page shows them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.services.job_secrets import masked_names
from airflow_provider_rayagent.services.jobs import newest_first
from airflow_provider_rayagent.text.sanitization import sanitized
from airflow_provider_rayagent.ui.job_rows import details_of, page_of

TOKEN, SECRET = "token-of-the-agent", "value-of-a-variable"
CONFIG = read_config(host="agent", token=TOKEN)
REDACT = CONFIG.redact


def job(number: int = 1, status: str = "SUCCEEDED", **fields: Any) -> dict[str, Any]:
    return {
        "type": "SUBMISSION",
        "submission_id": f"job-{number}",
        "job_id": f"0{number}000000",
        "status": status,
        "entrypoint": f"python train.py {number}",
        "metadata": {"owner": "ada"},
        "start_time": 1_000_000 + number,
        "end_time": 1_005_000 + number,
        "runtime_env": {"env_vars": {"KEY": SECRET}},
        **fields,
    }


def ids(page: Any) -> list[str]:
    return [each["job_id"] for each in page["jobs"]]


def page(jobs: list[dict[str, Any]], **filters: Any) -> Any:
    return page_of(newest_first(jobs), REDACT, **{"offset": 0, "limit": 50, **filters})


def test_the_newest_come_first_and_before_them_those_that_have_not_started() -> None:
    assert ids(page([job(1), job(3, start_time=None), job(2)])) == ["job-3", "job-2", "job-1"]


def test_a_page_is_a_part_of_those_that_match() -> None:
    found = page([job(number) for number in range(1, 8)], offset=2, limit=3)
    assert (ids(found), found["total"]) == (["job-5", "job-4", "job-3"], 7)


def test_the_counts_are_those_before_the_filter_by_status() -> None:
    jobs = [job(1, "FAILED"), job(2, "RUNNING"), job(3, "RUNNING"), job(4, "UNHEARD_OF")]
    found = page(jobs, statuses=["RUNNING"])
    assert (ids(found), found["total"]) == (["job-3", "job-2"], 2)
    assert {name: count for name, count in found["counts"].items() if count} == {"FAILED": 1, "RUNNING": 2, "OTHER": 1}
    assert ids(page(jobs, statuses=["OTHER", "FAILED"])) == ["job-4", "job-1"]


def test_a_text_is_searched_in_the_id_the_entrypoint_and_the_metadata() -> None:
    jobs = [job(1, entrypoint="python Evaluate.py"), job(2, metadata={"team": "evaluation"}), job(3)]
    assert ids(page(jobs, text=" EVALUA ")) == ["job-2", "job-1"]
    assert ids(page(jobs, text="job-3")) == ["job-3"]


@pytest.mark.parametrize("names", [masked_names({"KEY": SECRET}), {}])
def test_no_secret_is_shown_or_found(names: dict[str, str]) -> None:
    metadata = {"note": f"{TOKEN} {SECRET}", **names}
    secret = job(1, "FAILED", entrypoint=f"run --key {SECRET} {TOKEN}", metadata=metadata, message=f"{SECRET} {TOKEN}")
    shown = json.dumps([page([secret]), details_of(secret, "job-1", CONFIG)])
    assert TOKEN not in shown
    assert SECRET not in shown
    assert "runtime_env" not in shown
    assert "airflow_masked_env_vars" not in shown
    assert page([secret], text=SECRET[:9])["total"] == 0
    assert page([secret], text=TOKEN[:9])["total"] == 0
    assert page([secret], text="run --key")["total"] == 1


def test_a_variable_that_is_not_secret_stays_on_the_server_as_well() -> None:
    assert SECRET not in json.dumps([page([job()]), details_of(job(), "job-1", CONFIG)])


def test_the_details_of_a_failed_job_say_why_in_the_words_of_the_task_log() -> None:
    failed = job(1, "FAILED", driver_exit_code=3, error_type="JOB_ENTRYPOINT_COMMAND_ERROR", message="it broke")
    reason = details_of(failed, "job-1", CONFIG)["reason"]
    assert reason.startswith("The program failed: exit code 3. Job job-1 ended as FAILED after 5.0 s.")
    assert "Ray's message: it broke" in reason
    assert details_of(job(), "job-1", CONFIG)["reason"] is None


def test_the_details_have_the_links_that_are_known() -> None:
    templates = {
        "job_url": "https://ray.example.com/{job_id}",
        "metrics_url": "https://grafana.example.com/?from={start}&to={end}",
        "logs_url": "https://logs.example.com/{node_id}",
        "history_url": "https://history.example.com/{node}",
    }
    config = read_config(host="agent", extra=templates)
    metrics = {"name": "Metrics", "url": "https://grafana.example.com/?from=1000001&to=1005001"}
    logs = {"name": "Logs", "url": "https://logs.example.com/n1"}
    assert details_of(job(), "job-1", config)["links"] == [metrics]
    assert details_of(job(driver_node_id="n1"), "job-1", config)["links"] == [metrics, logs]
    assert details_of(job(driver_node_id="../n1"), "job-1", config)["links"] == [metrics]
    assert details_of(job(), "job-1", CONFIG)["links"] == []


def test_a_job_without_a_valid_submission_id_is_shown_but_cannot_be_opened() -> None:
    jobs = [job(1, submission_id=None, type="DRIVER"), job(2, submission_id="<b>"), job(3)]
    found = page(jobs)["jobs"]
    assert [(each["job_id"], each["openable"]) for each in found] == [
        ("job-3", True),
        ("<b>", False),
        ("01000000", False),
    ]


def test_characters_that_deceive_are_shown_as_escapes() -> None:
    assert sanitized({"a\x1b[2J": ["\u202eb", 1, None]}) == {"a\\x1b[2J": ["\\u202eb", 1, None]}
    assert sanitized(TOKEN, REDACT) == "***"
