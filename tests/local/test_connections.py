"""Connections without a request, and more connections than a process can have."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest
import requests
import websocket

from airflow_provider_rayagent.local import connection_limits
from airflow_provider_rayagent.local.server import listen, make_server, url_of
from tests.local.stub_ray import stub_ray
from tests.stack.agent import LocalAgent, stop_agent, wait_for_file
from tests.stack.watch import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send


TIMEOUT = 0.3
"""Seconds for the headers of a request, in these tests."""
LATE = b"HTTP/1.1 408 "
"""The beginning of the answer to a request whose headers came late. On a busy machine, any can, and
is to be sent again."""


async def slow_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond, or close a WebSocket, after a time that is longer than the one for the headers."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await asyncio.sleep(3 * TIMEOUT)
        await send({"type": "websocket.close", "code": 1000})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"sl", "more_body": True})
    await asyncio.sleep(3 * TIMEOUT)
    await send({"type": "http.response.body", "body": b"ow"})


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(connection_limits, "HEADERS_TIMEOUT", TIMEOUT)
    listener = listen("127.0.0.1", 0)
    address = url_of(listener)
    server = make_server(slow_app)  # type: ignore[arg-type]
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    yield address
    server.should_exit = True
    thread.join()


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def read_to_end(connection: socket.socket) -> bytes:
    data = b""
    while piece := connection.recv(65_536):
        data += piece
    return data


@pytest.mark.parametrize("begin", [b"", b"GET / HTTP/1.1\r\nHost: a\r\nX-", b"GET / HTTP/1.1\r\n"])
def test_connection_is_closed_if_headers_do_not_arrive(url: str, begin: bytes) -> None:
    with connect(url) as connection:
        connection.sendall(begin)
        answer = read_to_end(connection)

    assert answer.startswith(LATE)
    assert "headers" in json.loads(answer.partition(b"\r\n\r\n")[2])["detail"]


def test_connection_is_closed_if_headers_never_end(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        connection.settimeout(0.05)

        def more() -> bytes | None:
            connection.sendall(b"X-Y: z\r\n")
            with suppress(TimeoutError):
                return connection.recv(65_536)
            return None

        answer = wait_until(more, "the headers may take any time")
    assert answer.startswith(LATE)


def test_connection_is_closed_if_headers_of_next_request_do_not_arrive(url: str) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    def send_one_and_a_half() -> bytes | None:
        with connect(url) as connection:
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"slow"):
                answer += connection.recv(65_536)
                if answer.startswith(LATE):
                    return None
            with suppress(ConnectionError):
                connection.sendall(request[:-2])
            return read_to_end(connection)

    assert wait_until(send_one_and_a_half, "the headers always come late").startswith(LATE)


def test_header_timeout_does_not_apply_to_responses_and_websockets(url: str) -> None:
    with requests.Session() as session:
        session.trust_env = False

        def get() -> str | None:
            # An idle connection is closed as well.
            with suppress(requests.ConnectionError):
                answer = session.get(url, timeout=PATIENCE)
                return answer.text if answer.status_code != 408 else None
            return None

        assert [wait_until(get, "the headers always come late") for _ in range(2)] == ["slow", "slow"]

    def open_websocket() -> websocket.WebSocket | None:
        with suppress(websocket.WebSocketBadStatusException):
            return websocket.create_connection(url.replace("http", "ws"), timeout=PATIENCE)
        return None

    ws = wait_until(open_websocket, "the headers always come late")
    opcode, data = ws.recv_data()
    assert (opcode, data[:2]) == (websocket.ABNF.OPCODE_CLOSE, (1000).to_bytes(2, "big"))
    ws.close()


# However long the test takes, the connections stay open, and there is one warning.
LIMITED = f"""
import resource, sys
from airflow_provider_rayagent.local import connection_limits
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
connection_limits.HEADERS_TIMEOUT = connection_limits.WARNING_INTERVAL = {PATIENCE}
"""


@pytest.fixture
def agent_with_low_file_limit(tmp_path: Path) -> Iterator[LocalAgent]:
    """An agent with a limit of 200 open files, and therefore of 50 connections."""
    info, output = tmp_path / "info.json", tmp_path / "output.log"
    code = f"{LIMITED}from airflow_provider_rayagent.local.cli import main; sys.exit(main(sys.argv[1:]))"
    with stub_ray() as ray, output.open("wb") as stream:
        ray.add_job("job")
        command = [sys.executable, "-c", code, "--address", ray.url, "--info-file", str(info)]
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        try:
            wait_for_file(info, process, output)
            yield LocalAgent(**json.loads(info.read_text()), output=output)
        finally:
            stop_agent(process)


def test_connections_beyond_limit_return_503_with_one_warning_until_others_close(
    agent_with_low_file_limit: LocalAgent,
) -> None:
    agent = agent_with_low_file_limit
    printed = agent.output.stat().st_size
    with ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(connect(agent.url))

        def ask() -> bytes | None:
            # Some of many simultaneous rejected connections are reset.
            with suppress(ConnectionError), connect(agent.url) as connection:
                connection.sendall(b"GET /health/ HTTP/1.1\r\nHost: a\r\n\r\n")
                return read_to_end(connection) or None
            return None

        answer = wait_until(ask, "all connections are reset")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert "limit of open connections" in json.loads(answer.partition(b"\r\n\r\n")[2])["detail"]
    text = agent.output.read_text()[printed:]
    assert text.count("\n") == 1, text
    assert "50 connections are open" in text

    def status() -> str | None:
        with suppress(requests.RequestException):
            return str(agent.job("job")["status"])
        return None

    assert wait_until(status, "closed connections still count") == "SUCCEEDED"


OUT_OF_FILES = """
import asyncio, logging, resource, sys
from airflow_provider_rayagent.local import connection_limits
from airflow_provider_rayagent.local.connection_limits import ignore_out_of_files
from airflow_provider_rayagent.local.server import listen, url_of

async def main():
    connection_limits.WARNING_INTERVAL = 3600
    errors = []
    def handle(loop, context):
        errors.append(context)
        ignore_out_of_files(loop, context)
    logging.basicConfig(level=logging.WARNING)
    asyncio.get_running_loop().set_exception_handler(handle)
    resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
    listener = listen("127.0.0.1", 0)
    async def answer(reader, writer):
        await reader.readline()
        writer.write(b"answer")
        writer.close()
    server = await asyncio.start_server(answer, sock=listener, backlog=BACKLOG)
    print(url_of(listener), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print(len(errors))

BACKLOG = int(sys.argv[1])
asyncio.run(main())
"""
UVICORN_BACKLOG = 2048
"""Number of times that asyncio tries to accept a connection before it pauses for a second."""


def test_lack_of_files_is_reported_once_and_listener_recovers(tmp_path: Path) -> None:
    output = tmp_path / "errors"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", OUT_OF_FILES, str(UVICORN_BACKLOG)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        with ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(connect(url))
            wait_until(lambda: output.read_text() or None, "no warning")
            # Time for more tries and warnings, of which there must not be many.
            time.sleep(3)
        with connect(url) as connection:
            connection.sendall(b"\n")
            assert read_to_end(connection) == b"answer"
        tries, _ = process.communicate("\n", timeout=PATIENCE)
    finally:
        process.kill()

    errors = output.read_text()
    assert 0 < int(tries) < UVICORN_BACKLOG
    assert errors.count("\n") == 1, errors
    assert "cannot accept connections: Too many open files" in errors
