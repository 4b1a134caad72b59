"""However the local agent ends, nothing that it started keeps running."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import pytest
import websocket

from tests.stack.agent import LocalAgent, is_ready, start_agent, stop_agent
from tests.stack.processes import command_of
from tests.stack.watch import PATIENCE, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

pytestmark = pytest.mark.ray

# A process that ignores TERM; it is started in its own session and process group. What it prints is not in its code,
# which Ray writes to the log.
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('stub' + 'born', flush=True); "
    "time.sleep(3600)"
)


@dataclass
class Started:
    process: subprocess.Popen[bytes]
    info: Path
    output: Path

    def wait_ready(self) -> LocalAgent:
        while not is_ready(self.info, self.process, self.output):
            self.process = start(self.info, self.output)
        return LocalAgent(**json.loads(self.info.read_text()), output=self.output)

    def descendants(self) -> list[Any]:
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def text(self) -> str:
        return self.output.read_text()


def start(info: Path, output: Path) -> subprocess.Popen[bytes]:
    return start_agent("--info-file", str(info), output=output)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    info, output = tmp_path / "info.json", tmp_path / "output.log"
    running = Started(start(info, output), info, output)
    try:
        yield running
    finally:
        stop_agent(running.process)


def assert_all_end(processes: list[Any], within: float = PATIENCE) -> None:
    _, alive = psutil.wait_procs(processes, timeout=within)
    assert [command_of(process.pid) for process in alive] == []


def directories_of(processes: list[Any]) -> set[Path]:
    words = [word for process in processes for word in command_of(process.pid)]
    return {Path(word.partition("=")[2]).parent for word in words if word.startswith("--temp-dir=")}


def test_term_stops_streams_jobs_and_ray(started: Started) -> None:
    agent = started.wait_ready()
    job_id = agent.submit(f'setsid python -c "{STUBBORN}"')
    agent.wait(job_id, statuses=["RUNNING"])
    sse: list[bytes] = []
    response = agent.request("GET", f"jobs/{job_id}/logs/stream/", stream=True)
    reader = threading.Thread(target=lambda: sse.extend(response.iter_content(None)))
    reader.start()
    socket = websocket.create_connection(
        f"{agent.url.replace('http', 'ws')}/jobs/{job_id}/logs/",
        header=[f"Authorization: {agent.token}"],
        timeout=PATIENCE,
    )
    wait_until(lambda: b"stubborn" in b"".join(sse) or None, "the job's line does not arrive")
    processes, directories = started.descendants(), directories_of(started.descendants())
    commands = ["".join(command_of(process.pid)) for process in processes]
    assert any(STUBBORN in command for command in commands)
    # The name of a worker that no job uses.
    assert [command for command in commands if "ray::IDLE" in command] == []
    assert len(directories) == 1

    assert stop_agent(started.process) == 0

    assert_all_end(processes, within=0)
    assert not any(path.exists() for path in directories)
    assert not started.info.exists()
    reader.join(PATIENCE)
    assert not reader.is_alive()
    assert b"complete" not in b"".join(sse)
    opcode, data = websocket.ABNF.OPCODE_TEXT, b""
    while opcode == websocket.ABNF.OPCODE_TEXT:
        opcode, data = socket.recv_data()
        assert b"complete" not in data
    assert opcode == websocket.ABNF.OPCODE_CLOSE
    assert int.from_bytes(data[:2], "big") == 1012


@pytest.mark.parametrize(
    "after", [pytest.param(0.0, marks=pytest.mark.full), 2.0, pytest.param(4.0, marks=pytest.mark.full)]
)
def test_interrupt_during_startup_stops_everything(started: Started, after: float) -> None:
    wait_until(lambda: "Starting" in started.text() or None, "Ray is not started")
    time.sleep(after)
    processes, directories = started.descendants(), directories_of(started.descendants())

    assert stop_agent(started.process, signal.SIGINT) == 0

    assert_all_end(processes, within=0)
    assert not any(path.exists() for path in directories)
    assert not started.info.exists()


def test_ray_exits_if_agent_is_killed(started: Started) -> None:
    started.wait_ready()
    processes = started.descendants()
    assert len(processes) > 5

    started.process.kill()

    assert_all_end(processes)


@pytest.mark.parametrize(
    "is_late",
    [False, pytest.param(True, marks=pytest.mark.full)],
    ids=["", "noticed after the exit of ray start"],
)
def test_agent_exits_with_error_if_ray_exits(started: Started, is_late: bool) -> None:
    started.wait_ready()
    processes = started.descendants()
    [keeper] = [process for process in processes if "airflow_provider_rayagent.local.keeper" in command_of(process.pid)]
    [ray_start] = keeper.children()
    if is_late:
        keeper.suspend()
    next(process for process in processes if "gcs_server" in "".join(command_of(process.pid)[:1])).kill()
    if is_late:
        wait_until(lambda: ray_start.status() == psutil.STATUS_ZOMBIE or None, "ray start does not exit")
        keeper.resume()

    assert started.process.wait(PATIENCE) == 1

    assert "Ray head has exited" in started.text()
    assert "gcs_server has ended." in started.text()
    assert_all_end(processes, within=0)


def test_second_interrupt_has_no_effect(started: Started) -> None:
    started.wait_ready()
    processes = started.descendants()
    os.kill(started.process.pid, signal.SIGINT)
    time.sleep(0.3)

    assert stop_agent(started.process, signal.SIGINT) == 0
    assert_all_end(processes, within=0)
