"""What the routes answer: nothing secret, one clear sentence for each failure, bounded streams."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.ui.shared import FRESH_SECONDS
from airflow_provider_rayagent.ui.streams import MAX_STREAMS_PER_USER
from tests.scripted import Refuse
from tests.stack.watch import wait_until
from tests.ui.conftest import SECRET, TOKEN, ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

    from tests.scripted import Job, ScriptedAgent
    from tests.stack.api_server import ApiServer

VIEWERS = 10


def get(server: ApiServer, path: str, token: str | None, **options: Any) -> requests.Response:
    return ask(server, "GET", f"api/connections/{path}", token, **options)


def events_of(answer: requests.Response) -> Iterator[tuple[str, Any]]:
    kind = ""
    for line in answer.iter_lines(chunk_size=None, decode_unicode=True):
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


def lines_until(stream: Iterator[tuple[str, Any]], last: str) -> list[Any]:
    """Return the lines of a job that a stream sends next, up to this one, in whatever events they come."""
    lines: list[Any] = []
    while last not in [text for _, text in lines]:
        kind, data = next(stream)
        lines += [(level, text) for level, text, from_job in data if from_job] if kind == "records" else []
    return lines


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
        "ray_a/jobs/failed/log",
        "ray_a/jobs/failed/log/download",
        "ray_a/cluster",
        "ray_a/applications",
        "ray_refused/jobs",
    )
    answers = [get(server, path, admin).text for path in paths]
    answers.append(server.request("GET", "rayagent/api/connections", admin).text)
    shown = "\n".join(answers)
    assert [secret for secret in (TOKEN, SECRET, "wrong-token", "runtime_env", "env_vars") if secret in shown] == []
    assert "key *** ***" in answers[2]
    assert answers[3] == "key *** ***\n"
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


def test_a_log_has_levels_and_is_followed_to_its_end(server: ApiServer, admin: str) -> None:
    with closing(get(server, "ray_a/jobs/succeeded/log", admin, stream=True)) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        found = list(events_of(answer))
    assert found[0] == ("restart", "")
    assert found[-1] == ("end", "")
    lines = [text for kind, data in found if kind == "records" for _, text, from_job in data if from_job]
    assert lines == ["a", "b"]


def test_a_live_log_has_what_the_job_writes_and_ends_when_its_viewers_leave(
    server: ApiServer, agent: ScriptedAgent, watched_job: Job, admin: str
) -> None:
    """However many there are, the agent has one stream."""
    with ExitStack() as stack:
        viewers = [
            stack.enter_context(closing(get(server, "ray_a/jobs/watched/log", admin, stream=True)))
            for _ in range(VIEWERS)
        ]
        streams = [events_of(viewer) for viewer in viewers]
        for stream in streams:
            assert lines_until(stream, "WARNING: odd") == [("info", "a line"), ("warning", "WARNING: odd")]
        watched_job.grow("one more\n")
        for stream in streams:
            assert lines_until(stream, "one more") == [("info", "one more")]
        assert agent.max_open_streams["watched"] == 1
    wait_until(lambda: not agent.open_streams["watched"] or None, "the log is still followed without viewers")


def test_a_new_stream_continues_after_the_last_event_of_an_earlier_one(
    server: ApiServer, running_job: Job, admin: str
) -> None:
    """A browser can send the id as a header only if it reconnects by itself."""
    with closing(get(server, "ray_a/jobs/running/log", admin, stream=True)) as earlier:
        running_job.grow("seen\n")
        last = ""
        for line in earlier.iter_lines(chunk_size=None, decode_unicode=True):
            name, _, value = line.partition(": ")
            last = value if name == "id" else last
            if name == "data" and '"seen"' in value:
                break
        running_job.grow("not seen\n")
        queries: list[dict[str, Any]] = [
            {"params": {"after": last}},
            {"params": {"after": "older-1"}, "headers": {"Last-Event-ID": last}},
        ]
        for query in queries:
            with closing(get(server, "ray_a/jobs/running/log", admin, stream=True, **query)) as later:
                assert next(events_of(later)) == ("records", [["info", "not seen", True]])


def test_a_viewer_that_reads_nothing_holds_up_no_other(
    server: ApiServer, running_job: Job, tokens: dict[str, str | None]
) -> None:
    with (
        closing(get(server, "ray_a/jobs/running/log", tokens["editor"], stream=True)),
        closing(get(server, "ray_a/jobs/running/log", tokens["reader"], stream=True)) as reading,
    ):
        stream = events_of(reading)
        running_job.grow("x" * 1_000 + "\n" + ("y" * 1_000 + "\n") * 5_000)
        running_job.grow("the last one\n")
        assert any(kind == "records" and data[-1][1] == "the last one" for kind, data in stream)


def test_a_user_has_a_limited_number_of_streams(server: ApiServer, tokens: dict[str, str | None]) -> None:
    def opened() -> requests.Response | None:
        answer = get(server, "ray_a/jobs/running/log", tokens["reader"], stream=True)
        if answer.ok:
            return stack.enter_context(closing(answer))
        answer.close()
        return None

    # A stream whose iterator is no longer referenced is closed.
    streams: list[Iterator[tuple[str, Any]]] = []
    with ExitStack() as stack:
        for _ in range(MAX_STREAMS_PER_USER):
            # Those of other tests are counted until the server has noticed their end.
            streams.append(events_of(wait_until(opened, "the user has no stream left")))
            next(streams[-1])
        refused = get(server, "ray_a/jobs/running/log", tokens["reader"])
        assert refused.status_code == 429
        assert "close one of them" in refused.json()["detail"]
        other = stack.enter_context(closing(get(server, "ray_a/jobs/running/log", tokens["editor"], stream=True)))
        assert other.ok
    with ExitStack() as stack:
        wait_until(opened, "the streams of viewers that left are still counted")


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
    # The logs of these jobs may still be followed.
    followed = ("jobs/running/", "jobs/watched/")
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
