"""The command line, without a Ray."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests
import websocket

from airflow_provider_rayagent.local import server
from airflow_provider_rayagent.local.cli import main
from tests.stack.agent import LocalAgent, local_agent
from tests.stack.processes import NO_AGENT
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "not-to-be-seen"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "not a loopback address"),
        (["--host", "example.com"], "must be a loopback address"),
        (["--address", "nonsense"], "Not the address of a Ray dashboard, such as http://127.0.0.1:8265"),
        (["--ray-token-file", "/nowhere/token"], "requires --address"),
        (["--address", NO_AGENT, "--ray-token-file", "/nowhere/token"], "Cannot read the Ray token from"),
        (["--token", ""], "visible ASCII"),
        (["--token", "two words"], "visible ASCII"),
        (["--token-file", "/nowhere/token"], "Cannot read the token file"),
        (["--plugins", "/nowhere/plugins"], "Cannot read the plugin folder /nowhere/plugins"),
    ],
)
def test_invalid_options_are_rejected_before_startup(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert words in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "x"],
        ["--port", "65536"],
        ["--port", "-1"],
        ["--num-cpus", "0"],
        ["--max-running-jobs", "0"],
        ["--tok", "a"],
        ["--token", "a", "--token-file", "b"],
    ],
)
def test_invalid_arguments_print_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_empty_token_file_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "token"
    path.write_text("\n")

    assert main(["--token-file", str(path)]) == 1
    assert "visible ASCII" in capsys.readouterr().err


def test_a_generated_token_can_be_given_as_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens: list[str] = []

    async def run(options: server.Options) -> int:
        tokens.append(options.token)
        return 0

    monkeypatch.setattr(server, "run", run)
    for _ in range(20):
        assert main([]) == 0
    assert all(token.isalnum() for token in tokens)
    assert len(set(tokens)) == 20
    assert main(["--token", tokens[0]]) == 0
    assert tokens[-1] == tokens[0]


@pytest.mark.parametrize("is_ignored", [True, False])
def test_hang_up_stops_the_agent_unless_nohup_has_it_ignored(is_ignored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr(server, "print_line", printed.append)

    async def play() -> tuple[bool, int]:
        running = asyncio.ensure_future(server.run(server.Options("token", address=NO_AGENT)))
        while not any("is listening on" in line for line in printed):
            assert not running.done(), await running
            await asyncio.sleep(0.01)
        still_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGTERM if still_ignored else signal.SIGHUP)
        return still_ignored, await running

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    try:
        assert asyncio.run(play()) == (is_ignored, 0)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_missing_ray_is_reported_with_install_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))

    assert main([]) == 1
    assert "pip install 'airflow-provider-rayagent[local]'" in capsys.readouterr().err


def test_modules_import_neither_airflow_nor_ray() -> None:
    code = (
        "import sys; import airflow_provider_rayagent.local.asgi, airflow_provider_rayagent.local.server;"
        "print([name for name in ('airflow', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def without_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAgent]:
    token = tmp_path_factory.mktemp("without_ray") / "token"
    token.write_text(f"{SECRET}\n")
    with local_agent("--address", NO_AGENT, "--token-file", str(token), "--verbose", plugins=None) as agent:
        yield agent


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "health/", {}),
        ("GET", "jobs/", {}),
        ("POST", "jobs/", {"json": {"entrypoint": "true"}}),
        ("GET", "jobs/a/", {}),
        ("GET", "jobs/a/logs/", {}),
        ("GET", "jobs/a/logs/stream/", {}),
        ("POST", "jobs/a/stop/", {}),
        ("GET", "nodes/", {}),
        ("GET", f"nodes/{'ab' * 28}/", {}),
        ("GET", "tasks/", {}),
        ("GET", f"tasks/{'ab' * 24}/", {}),
        ("GET", "serve_applications/", {}),
        ("GET", "serve_applications/a/", {}),
        ("DELETE", "serve_applications/a/", {}),
        ("GET", "gpu_status/", {}),
        ("GET", "resources/cluster/", {}),
    ],
)
def test_requests_return_503_while_ray_is_down(
    without_ray: LocalAgent, method: str, path: str, options: dict[str, Any]
) -> None:
    response = without_ray.request(method, path, **options)

    assert response.status_code == 503
    assert f"Ray does not respond at {NO_AGENT}" in response.json()["detail"]


def test_websocket_is_rejected_with_503_while_ray_is_down(without_ray: LocalAgent) -> None:
    url = f"{without_ray.url.replace('http', 'ws')}/jobs/a/logs/"
    with pytest.raises(websocket.WebSocketBadStatusException) as error:
        websocket.create_connection(url, header=[f"Authorization: {without_ray.token}"], timeout=PATIENCE)
    assert error.value.status_code == 503


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "plugin_releases/"),
        ("GET", "plugin_releases/a"),
        ("GET", "plugin_releases/a/"),
        ("POST", "plugin_releases/a/run/"),
        ("POST", "plugin_releases/run_debug/"),
    ],
)
def test_plugin_routes_return_501_without_plugin_folder(without_ray: LocalAgent, method: str, path: str) -> None:
    response = without_ray.request(method, path, json={"action": "train"})

    assert response.status_code == 501
    assert "rayagent-local --plugins DIR" in response.json()["detail"]


def test_token_from_file_is_not_printed(without_ray: LocalAgent) -> None:
    without_ray.request("GET", "health/")
    requests.get(f"{without_ray.url}/health/", headers={"Authorization": f"{SECRET}x"}, timeout=PATIENCE)

    text = without_ray.output.read_text()
    assert without_ray.token == SECRET
    assert without_ray.url in text
    assert SECRET not in text
