"""Limits of the local agent: bodies, streams and invalid responses of Ray, with a stub of Ray's dashboard."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import pytest
import requests
from starlette.responses import Response

from airflow_provider_rayagent.local.job_logs import MAX_STREAMS
from airflow_provider_rayagent.local.request_limits import MAX_UPLOADS, BodyLimits
from airflow_provider_rayagent.local.server import listen, make_server, raise_file_limit, url_of
from airflow_provider_rayagent.services.submission import MAX_BODY_BYTES
from tests.local.conftest import error_detail
from tests.local.stub_ray import stub_ray
from tests.stack.agent import local_agent
from tests.stack.watch import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Message, Receive, Scope, Send

    from tests.local.stub_ray import StubRay
    from tests.stack.agent import LocalAgent


@pytest.fixture(scope="module")
def ray() -> Iterator[StubRay]:
    with stub_ray() as ray:
        yield ray


@pytest.fixture(scope="module")
def agent(ray: StubRay) -> Iterator[LocalAgent]:
    with local_agent("--address", ray.url) as agent:
        yield agent


@pytest.mark.parametrize("path", ["jobs/", "plugin_releases/train/run/", "plugin_releases/run_debug/"])
@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_body_returns_413(agent: LocalAgent, path: str, chunked: bool) -> None:
    body = b'{"entrypoint": "' + b"x" * MAX_BODY_BYTES + b'"}'
    data: Any = iter([body[:70_000], body[70_000:]]) if chunked else body

    assert f"{MAX_BODY_BYTES:,} bytes" in error_detail(agent.request("POST", path, data=data), 413)


def test_very_large_body_is_not_stored_in_memory(agent: LocalAgent) -> None:
    process = psutil.Process(agent.pid)
    before = process.memory_info().rss
    pieces = (b"x" * 1_000_000 for _ in range(300))

    with contextlib.suppress(requests.ConnectionError):
        error_detail(agent.request("POST", "jobs/", data=pieces), 413)
    assert process.memory_info().rss - before < 50_000_000


def test_largest_body_that_ray_accepts_is_accepted(agent: LocalAgent, ray: StubRay) -> None:
    job_id = agent.submit("x" * (MAX_BODY_BYTES - 100), submission_id="long-body")
    assert job_id in ray.jobs


@pytest.mark.parametrize("path", ["jobs/", "plugin_releases/train/run/"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"NaN", "number"),
        (b"1e999", "number"),
        (b'"\\ud800"', "surrogate"),
        (b'"\xff"', "UTF-8"),
        (b"[" * 20_000 + b"]" * 20_000, "deeply"),
    ],
)
def test_invalid_json_values_return_400(agent: LocalAgent, path: str, value: bytes, words: str) -> None:
    for body in (b'{"entrypoint": "true", "action": "train", "params": {"a": %s}, "metadata": {"a": %s}}', b"[%s, %s]"):
        answer = agent.request("POST", path, data=body % (value, value), headers={"Content-Type": "application/json"})
        assert words in error_detail(answer, 400)


def test_body_of_client_that_disconnects_is_ignored() -> None:
    passed: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(await receive())

    def pass_on(*messages: Message) -> None:
        waiting = list(messages)

        async def receive() -> Message:
            return waiting.pop(0)

        async def send(message: Message) -> None:
            raise AssertionError(message)

        asyncio.run(BodyLimits(app)({"type": "http", "method": "POST", "path": "/jobs/", "headers": []}, receive, send))

    begin = {"type": "http.request", "body": b"{", "more_body": True}
    pass_on(begin, {"type": "http.disconnect"})
    assert passed == []
    pass_on(begin, {"type": "http.request", "body": b"}"})
    assert passed == [{"type": "http.request", "body": b"{}", "more_body": False}]


def test_packages_wait_before_their_bodies_are_read() -> None:
    async def play() -> None:
        reading: list[str] = []
        release = {name: asyncio.Event() for name in "abcd"}

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await release[scope["path"][-1]].wait()

        uploads = BodyLimits(app)

        def request(path: str, method: str = "PUT") -> asyncio.Future[None]:
            async def receive() -> Message:
                reading.append(path)
                return {"type": "http.request", "body": b"{}", "more_body": False}

            async def send(message: Message) -> None:
                pass

            return asyncio.ensure_future(
                uploads({"type": "http", "method": method, "path": path, "headers": []}, receive, send)
            )

        packages = [request(f"/packages/{name}") for name in "abc"]
        other = request("/jobs/d", "POST")
        release["d"].set()
        await other
        assert reading == ["/packages/a", "/packages/b", "/jobs/d"]
        release["b"].set()
        await packages[1]
        release["a"].set()
        release["c"].set()
        await asyncio.gather(*packages)
        assert reading == ["/packages/a", "/packages/b", "/jobs/d", "/packages/c"]

    assert MAX_UPLOADS == 2
    asyncio.run(play())


def test_invalid_values_of_a_job_do_not_break_list_of_jobs(agent: LocalAgent, ray: StubRay) -> None:
    deep: Any = "deep"
    for _ in range(300):
        deep = {"a": deep}
    odd = [{"submission_id": "odd", "metadata": {"a": "\ud800"}}, {"submission_id": "deep", "runtime_env": deep}]
    ray.answers["/api/jobs/"] = (200, json.dumps(odd).replace("deep", "dee\\u0070").encode())
    try:
        odd[0]["metadata"] = {"a": "\ufffd"}
        assert agent.request("GET", "jobs/").json() == odd
    finally:
        del ray.answers["/api/jobs/"]


def test_connections_beyond_limit_return_503_until_others_close() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("answer")(scope, receive, send)

    listener = listen("127.0.0.1", 0)
    url = url_of(listener)
    server = make_server(app, 3)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(socket.create_connection(listener.getsockname()))
            wait_until(lambda: requests.get(url, timeout=PATIENCE).status_code == 503 or None, "there is no limit")
        wait_until(lambda: requests.get(url, timeout=PATIENCE).text == "answer" or None, "closed connections count")
    finally:
        server.should_exit = True
        thread.join()


def test_no_documentation_pages_are_served(agent: LocalAgent) -> None:
    for path in ("docs", "redoc", "docs/oauth2-redirect"):
        assert requests.get(f"{agent.url}/{path}", timeout=PATIENCE).status_code == 401
        assert agent.request("GET", path).status_code == 404


def test_streams_beyond_limit_return_429_until_others_close(agent: LocalAgent, ray: StubRay) -> None:
    """Of a job each: Ray itself holds no more than 100 live logs."""
    for number in range(MAX_STREAMS + 50):
        ray.add_job(f"followed-{number}", "RUNNING")
    ray.log = b"line\n"

    async def statuses(count: int) -> list[int]:
        host, port = agent.url.removeprefix("http://").split(":")

        async def open_one(number: int) -> tuple[int, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection(host, int(port), limit=1_000)
            path = f"/jobs/followed-{number}/logs/stream/"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {agent.token}\r\n\r\n".encode())
            return int((await reader.readline()).split()[1]), writer

        opened = await asyncio.gather(*map(open_one, range(count)))
        for _, writer in opened:
            writer.transport.abort()
        return [status for status, _ in opened]

    raise_file_limit()

    def reaches_limit() -> bool | None:
        found = sorted(asyncio.run(statuses(MAX_STREAMS + 50)))
        assert found.count(200) <= MAX_STREAMS
        # Disconnects are noticed with a delay.
        return found == [200] * MAX_STREAMS + [429] * 50 or None

    wait_until(reaches_limit, "fewer streams than the limit can be open")
    wait_until(lambda: 429 not in asyncio.run(statuses(50)) or None, "closed streams still count")
    assert agent.job("followed-0")["status"] == "RUNNING"
    assert agent.request("GET", "health/").status_code == 200


def test_long_log_is_sent_in_constant_memory(agent: LocalAgent, ray: StubRay) -> None:
    ray.add_job("long", "SUCCEEDED")
    ray.log = b"%s\n" % (b"x" * 99) * 600_000
    process = psutil.Process(agent.pid)
    before = process.memory_info().rss
    most = 0
    lengths: list[int] = []
    all_have_begun = threading.Barrier(6)

    def read(path: str) -> None:
        with agent.request("GET", path, stream=True) as response:
            all_have_begun.wait(PATIENCE)
            lengths.append(sum(map(len, response.iter_content(1_000_000))))

    paths = ["jobs/long/logs/", "jobs/long/logs/stream/"] * 3
    readers = [threading.Thread(target=read, args=(path,)) for path in paths]
    for each in readers:
        each.start()
    while any(each.is_alive() for each in readers):
        most = max(most, process.memory_info().rss)
        time.sleep(0.05)

    assert sum(length == len(ray.log) for length in lengths) == 3
    assert sum(length > len(ray.log) for length in lengths) == 3
    assert most - before < len(ray.log) / 2
