"""Errors of a Ray head that does not start, or exits, with Python programs in place of Ray."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.local import head
from airflow_provider_rayagent.local.errors import RayHeadError
from airflow_provider_rayagent.local.head import RayHead
from airflow_provider_rayagent.local.keeper import describe_end, last_process_log_lines
from airflow_provider_rayagent.local.ray_api import RayDashboard
from tests.local.stub_ray import stub_ray
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.local.stub_ray import StubRay

NODES = "/api/v0/nodes"
WAITS = "print('Ray runtime started.', flush=True); import time; time.sleep(3600)"


@pytest.fixture
def ray() -> Iterator[StubRay]:
    with stub_ray() as ray:
        yield ray


def start(
    monkeypatch: pytest.MonkeyPatch, ray: StubRay, program: str, timeout: float = PATIENCE, better: bytes = b""
) -> None:
    """Start a head with a Python program as its command; after a second, use ``better`` as the list of nodes."""
    monkeypatch.setattr(head, "start_command", lambda *_: [sys.executable, "-c", program])

    async def play() -> None:
        dashboard, running = RayDashboard(ray.url), RayHead(1)
        if better:
            asyncio.get_running_loop().call_later(1, ray.answers.update, {NODES: (200, better)})
        try:
            await running.start(timeout)
            await running.wait_ready(dashboard, timeout)
        finally:
            await running.stop()
            await dashboard.close()

    asyncio.run(play())


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_errors_during_startup_are_ignored(monkeypatch: pytest.MonkeyPatch, ray: StubRay, status: int) -> None:
    ray.answers[NODES] = (status, b"")
    nodes = {"data": {"result": {"result": [{"state": "ALIVE"}]}}}

    start(monkeypatch, ray, WAITS, better=json.dumps(nodes).encode())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, b""), r"Ray failed: GET /api/v0/nodes answered 500\."),
        ((200, b'{"data": {"result": {"result": []}}}'), "none of its nodes is alive"),
        ((200, b"no JSON"), "got invalid JSON"),
    ],
)
def test_startup_timeout_is_reported_with_last_response_and_lines(
    monkeypatch: pytest.MonkeyPatch, ray: StubRay, answer: tuple[int, bytes], words: str
) -> None:
    ray.answers[NODES] = answer

    # On a busy machine, neither may be there after 2 s.
    for timeout in (2, 20, PATIENCE):
        with pytest.raises(RayHeadError, match=rf"not ready after {timeout:g} s: ") as caught:
            start(monkeypatch, ray, WAITS, timeout=timeout)
        if "has not responded" not in str(caught.value) and "(none)" not in str(caught.value):
            break
    assert re.search(rf"{words}.*\n  Ray runtime started", str(caught.value))
    assert str(caught.value).count("Its last lines") == 1


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        ("", ["ray start (exit code 0) has ended."]),
        ("import os; os.kill(os.getpid(), 9)", ["ray start (exit code -9) has ended."]),
        ("print('bad flag'); raise SystemExit(3)", ["bad flag", "ray start (exit code 3) has ended."]),
    ],
)
def test_exit_during_startup_is_reported_with_exit_code_and_lines(
    monkeypatch: pytest.MonkeyPatch, ray: StubRay, program: str, lines: list[str]
) -> None:
    ray.answers[NODES] = (500, b"")

    with pytest.raises(RayHeadError) as caught:
        start(monkeypatch, ray, program)
    assert str(caught.value).splitlines() == [
        "Ray exited during startup. Its last lines:",
        *(f"  {line}" for line in lines),
    ]


def test_last_lines_are_from_log_files_of_process(tmp_path: Path) -> None:
    logs = tmp_path / "ray" / "session_latest" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.out").write_text("".join(f"line {number}\n" for number in range(10_000)) + "x" * 90_000)
    (logs / "raylet.err").write_bytes(b"reason \xff\n")
    (logs / "gcs_server.out").write_text("other\n")

    lines = last_process_log_lines(tmp_path, "raylet")
    assert lines[0] == "raylet.err: reason \ufffd"
    assert len(lines) < 20
    assert lines[-1].startswith("raylet.out: xxx")
    assert max(map(len, lines)) < 600
    assert last_process_log_lines(tmp_path, "dashboard") == []


def test_last_lines_of_ray_start_are_those_of_the_processes_that_ended_it(tmp_path: Path) -> None:
    logs = tmp_path / "ray" / "session_latest" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.err").write_text("other\n")
    (logs / "ray_client_server.err").write_text("RuntimeError: Failed to bind\n")
    assert describe_end("ray start (exit code 1)", tmp_path) == ["ray start (exit code 1) has ended."]

    (logs / "ray_process_exit.log").write_text(
        "2026-05-04 10:00:00 ERROR Some Ray subprocesses exited unexpectedly:\n"
        "  ray_client_server [exit code=1]\n  gcs_server [exit code=-9]\n"
    )
    assert describe_end("ray start (exit code 1)", tmp_path) == [
        "ray_client_server.err: RuntimeError: Failed to bind",
        "ray_client_server has ended.",
        "gcs_server has ended.",
        "ray start (exit code 1) has ended.",
    ]
