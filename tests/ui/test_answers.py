"""What the routes answer: nothing secret, one clear sentence for each failure, bounded logs."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.ui.shared import FRESH_SECONDS
from airflow_provider_rayagent.ui.viewed_logs import MAX_LOGS_PER_USER
from tests.scripted import Job, Refuse
from tests.stack.watch import wait_until
from tests.ui.conftest import SECRET, TOKEN, ask, log_parts, whole_log

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

    from tests.scripted import ScriptedAgent
    from tests.stack.api_server import ApiServer

VIEWERS = 10


def get(server: ApiServer, path: str, token: str | None, **options: Any) -> requests.Response:
    return ask(server, "GET", f"api/connections/{path}", token, **options)


def lines_until(parts: Iterator[dict[str, Any]], last: str) -> list[Any]:
    """Return the lines of a job in the next parts of a log, up to this one."""
    lines: list[Any] = []
    while last not in [text for _, text in lines]:
        lines += [(level, text) for level, text, from_job in next(parts)["rows"] if from_job]
    return lines


def log_of(job_id: str) -> str:
    return f"api/connections/ray_a/jobs/{job_id}/log"


@pytest.fixture
def admin(tokens: dict[str, str | None]) -> str:
    return str(tokens["admin"])


def test_every_answer_forbids_inline_code_and_frames_of_others(server: ApiServer, admin: str) -> None:
    for path in ("", "task", "static/page.js", "api/connections", "api/connections/web/jobs", "nothing"):
        headers = server.request("GET", f"rayagent/{path}", admin).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'self'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_no_answer_has_anything_secret(server: ApiServer, admin: str) -> None:
    paths = (
        "ray_a/jobs",
        "ray_a/jobs/failed",
        "ray_a/jobs/failed/log/download",
        "ray_a/cluster",
        "ray_a/applications",
        "ray_refused/jobs",
    )
    answers = [get(server, path, admin).text for path in paths]
    answers.append(whole_log(server, log_of("failed"), admin))
    answers.append(server.request("GET", "rayagent/api/connections", admin).text)
    shown = "\n".join(answers)
    assert [secret for secret in (TOKEN, SECRET, "wrong-token", "runtime_env", "env_vars") if secret in shown] == []
    assert answers[2] == "key *** ***\n"
    assert "key *** ***" in answers[len(paths)]
    assert get(server, f"ray_a/jobs?text={SECRET[:8]}", admin).json()["total"] == 0


def test_jobs_are_filtered_and_counted(server: ApiServer, admin: str) -> None:
    found = get(server, "ray_a/jobs?status=FAILED&status=SUCCEEDED&limit=1", admin).json()
    assert (len(found["jobs"]), found["total"]) == (1, 2)
    assert found["counts"]["PENDING"] == 1
    assert get(server, "ray_a/jobs?limit=100000", admin).status_code == 422


def test_a_failed_job_says_why(server: ApiServer, admin: str) -> None:
    reason = get(server, "ray_a/jobs/failed", admin).json()["reason"]
    assert reason.startswith("The program failed: exit code 1. Job failed ended as FAILED")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("ray_dead/jobs", 502, "check Service URL (host) and port; is the agent running?"),
        ("ray_refused/jobs", 502, "The agent rejected the token (401): check the Token (password)."),
        ("ray_no_host/cluster", 502, "The connection has no Service URL (host)"),
        ("unknown/jobs", 404, "There is no connection 'unknown' of type Ray agent"),
        ("ray_a/jobs/unknown", 404, "404"),
        ("ray_a/jobs/a.b", 400, "The job id 'a.b' is not valid"),
    ],
)
def test_a_failure_is_one_sentence_with_what_to_correct(
    path: str, status: int, words: str, server: ApiServer, admin: str
) -> None:
    answer = get(server, path, admin)
    assert answer.status_code == status
    assert words in answer.json()["detail"]


def test_a_log_has_levels_and_is_read_to_its_end(server: ApiServer, admin: str) -> None:
    *_, last = parts = list(log_parts(server, log_of("succeeded"), admin))
    assert [part["restart"] for part in parts] == [True, *[False] * (len(parts) - 1)]
    assert last["end"] == ""
    assert [text for part in parts for _, text, from_job in part["rows"] if from_job] == ["a", "b"]


def test_a_live_log_has_what_the_job_writes_and_is_not_read_when_nobody_asks(
    server: ApiServer, agent: ScriptedAgent, watched_job: Job, admin: str
) -> None:
    """However many do, the agent has one stream."""
    viewers = [log_parts(server, log_of("watched"), admin) for _ in range(VIEWERS)]
    for parts in viewers:
        assert lines_until(parts, "WARNING: odd") == [("info", "a line"), ("warning", "WARNING: odd")]
    watched_job.grow("one more\n")
    for parts in viewers:
        assert lines_until(parts, "one more") == [("info", "one more")]
    assert agent.max_open_streams["watched"] == 1
    wait_until(lambda: not agent.open_streams["watched"] or None, "the log is still read though nobody asks")


def test_a_user_has_a_limited_number_of_logs(
    server: ApiServer, agent: ScriptedAgent, tokens: dict[str, str | None]
) -> None:
    def open_log(number: int, user: str) -> requests.Response:
        return ask(server, "GET", log_of(f"many-{number}"), tokens[user])

    # Those that other tests have read may be open still.
    jobs = {f"many-{number}": Job(status="RUNNING", job_id=f"many-{number}") for number in range(MAX_LOGS_PER_USER + 1)}
    agent.jobs.update(jobs)
    answers = [open_log(number, "reader") for number in range(MAX_LOGS_PER_USER + 1)]
    refused = answers[-1]
    assert answers[0].ok
    assert refused.status_code == 429
    assert "close one of them" in refused.json()["detail"]
    assert open_log(MAX_LOGS_PER_USER, "editor").ok
    wait_until(lambda: open_log(MAX_LOGS_PER_USER - 1, "reader").ok or None, "logs that nobody reads are still counted")
    for name in jobs:
        agent.jobs[name].set_status("SUCCEEDED")


@pytest.mark.parametrize(
    ("path", "request_lines"),
    [
        ("jobs", ["GET jobs/"]),
        ("jobs/waits", ["GET jobs/waits/"]),
        ("cluster", ["GET resources/cluster/", "GET tasks/"]),
        ("applications", ["GET serve_applications/"]),
    ],
)
def test_ten_viewers_do_not_multiply_the_requests(
    path: str, request_lines: list[str], server: ApiServer, agent: ScriptedAgent, admin: str
) -> None:
    def watch(rounds: int) -> None:
        for _ in range(rounds):
            assert get(server, f"ray_b/{path}", admin).ok

    before, start = Counter(each.route for each in agent.requests), time.monotonic()
    with ThreadPoolExecutor(VIEWERS) as pool:
        list(pool.map(watch, [10] * VIEWERS))
    sent, seconds = Counter(each.route for each in agent.requests) - before, time.monotonic() - start
    for line in request_lines:
        assert 1 <= sent[line] <= seconds / FRESH_SECONDS + 2


def test_a_refresh_of_the_cluster_sends_one_request_for_each_thing_that_it_shows(
    server: ApiServer, agent: ScriptedAgent, admin: str
) -> None:
    before = len(agent.requests)
    answer = get(server, "ray_c/cluster", admin).json()
    # The logs of these jobs may still be read.
    followed = ("jobs/running/", "jobs/watched/", "jobs/many-")
    routes = [each.route for each in agent.requests[before:] if not any(job in each.route for job in followed)]
    assert sorted(routes) == ["GET jobs/", "GET resources/cluster/", "GET tasks/"]
    assert answer["resources"]["node_counts"]["alive"] == 1
    assert [job["job_id"] for job in answer["waiting"]["jobs"]["jobs"]] == ["waits"]
    assert (answer["waiting"]["tasks"]["total"], answer["waiting"]["error"]) == (0, None)


@pytest.mark.parametrize(
    ("connection", "route", "unknown"),
    [("ray_d", "GET jobs/", {"jobs", "tasks"}), ("ray_e", "GET tasks/", {"tasks"})],
)
def test_a_failure_of_what_waits_leaves_the_rest_of_the_cluster(
    connection: str,
    route: str,
    unknown: set[str],
    server: ApiServer,
    agent: ScriptedAgent,
    admin: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(agent.answers, route, [Refuse(500, "the list is too long")])
    answer = get(server, f"{connection}/cluster", admin).json()
    assert answer["resources"]["node_counts"]["alive"] == 1
    assert "the list is too long" in answer["waiting"].pop("error")
    assert {name for name, found in answer["waiting"].items() if found is None} == unknown
