"""The parts of the local agent that need neither Ray nor a socket."""

from __future__ import annotations

import json
import socket
from dataclasses import astuple
from pathlib import Path

import pytest

from airflow_provider_rayagent.local import ports
from airflow_provider_rayagent.local.errors import LocalAgentError
from airflow_provider_rayagent.local.files import private_file, write_private
from airflow_provider_rayagent.local.head import (
    HeadPorts,
    describe_unprotected_parts,
    free_head_ports,
    head_environment,
    start_command,
)
from airflow_provider_rayagent.local.log_events import MAX_EVENT_CHARS, log_events
from airflow_provider_rayagent.local.ports import free_ports
from airflow_provider_rayagent.local.ray_api import RayDashboard
from airflow_provider_rayagent.local.server import listen, url_of
from airflow_provider_rayagent.local.token_check import check_token
from airflow_provider_rayagent.services.cluster_resources import gpu_status


@pytest.mark.parametrize(
    "text",
    ["", "a", "a\n" * 20_000, "x" * 50_000, "\x1b[1m" * 9_000, "漢字\n\n" * 9_000, "😀" * 15_000, "\n" * 30_000],
)
def test_events_contain_unchanged_text_within_limit(text: str) -> None:
    sent = list(log_events(text))

    events = [json.loads(each) for each in sent]
    assert "".join(event["message"] for event in events) == text
    assert all(event["type"] == "log" and event["message"] for event in events)
    assert all(len(each) <= MAX_EVENT_CHARS for each in sent)


def test_text_is_split_after_newlines() -> None:
    events = [json.loads(each) for each in log_events("line with a newline\n" * 5_000)]

    assert len(events) > 1
    assert all(event["message"].endswith("\n") for event in events)


def test_short_text_is_one_event_without_line_separators() -> None:
    text = "a\u2028b\x85c\x1cd\r\ne\n\nf"
    (event,) = log_events(text)

    assert event.splitlines() == [event]
    assert json.loads(event) == {"type": "log", "message": text}


def test_gpus_of_live_nodes_are_summed() -> None:
    nodes = [
        {"node_id": "a", "node_ip": "1", "state": "ALIVE", "resources_total": {"GPU": 4.0, "accelerator_type:H100": 1}},
        {"node_id": "b", "node_ip": "2", "state": "ALIVE", "resources_total": {"CPU": 4.0}},
        {"node_id": "c", "node_ip": "3", "state": "DEAD", "resources_total": {"GPU": 8.0}},
    ]

    status = gpu_status(nodes, {"a": {"GPU": [1.5, 4.0]}, "b": {}})

    assert (status["total_gpus"], status["used_gpus"], status["available_gpus"]) == (4.0, 1.5, 2.5)
    assert [node["node_id"] for node in status["nodes"]] == ["a", "b"]
    assert status["nodes"][0]["types"] == ["H100"]


def test_cluster_without_gpus_uses_zero() -> None:
    status = gpu_status([{"node_id": "a", "state": "ALIVE", "resources_total": {}}], None)

    assert (status["total_gpus"], status["used_gpus"], status["available_gpus"]) == (0, 0, 0)


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "é", "a\x00"])
def test_token_invalid_in_header_is_rejected(token: str) -> None:
    with pytest.raises(LocalAgentError, match="visible ASCII"):
        check_token(token)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8265",
        "ftp://h",
        "http://",
        "http://h:x",
        "http://h:0",
        "http://h:99999",
        "http://u:p@h",
        "http://h?a",
    ],
)
def test_invalid_dashboard_address_is_rejected(url: str) -> None:
    with pytest.raises(LocalAgentError, match="Not the address"):
        RayDashboard(url)


def test_dashboard_address_may_have_path() -> None:
    assert RayDashboard("https://h:8265/ray/").url == "https://h:8265/ray"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "8.8.8.8", "example.com", "", "127.0.0.1:80"])
def test_non_loopback_address_is_rejected(host: str) -> None:
    with pytest.raises(LocalAgentError, match="loopback"):
        listen(host, 0)


def test_port_in_use_is_reported() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert url_of(first) == f"http://127.0.0.1:{port}"
        with pytest.raises(LocalAgentError, match=f"port {port}"):
            listen("localhost", port)


def test_info_file_is_private_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "info.json"
    path.write_text("left")
    path.chmod(0o644)

    with private_file(path, "new"):
        assert path.read_text() == "new"
        assert path.stat().st_mode & 0o777 == 0o600
        assert list(tmp_path.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == []


def test_unwritable_info_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(LocalAgentError, match="Cannot write"):
        write_private(tmp_path / "missing" / "info.json", "x")


def test_start_command_options() -> None:
    command = start_command(HeadPorts(gcs=1, dashboard=2, client=3, agent=4, runtime_env=5), Path("t"), num_cpus=3)

    assert {"--head", "--block", "--disable-usage-stats", "--temp-dir=t", "--num-cpus=3"} <= set(command)
    assert {"--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--port=1", "--dashboard-port=2"} <= set(
        command
    )
    assert "--runtime-env-agent-port=5" in command, "with port 0, Ray waits 30 s for it, which can be too short"


def test_free_ports_are_distinct() -> None:
    found = astuple(free_head_ports())

    assert len(set(found)) == len(found) == 5
    assert 0 not in found, "with port 0 for its node agent, Ray 2.50 to 2.53 can read no log"


def test_a_port_in_use_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        port = used.getsockname()[1]
        monkeypatch.setattr(ports, "CANDIDATES", range(port, port + 1))
        with pytest.raises(LocalAgentError, match=f"There are no 1 free ports from {port} to {port} at 127.0.0.1"):
            free_ports(1)


def test_head_ignores_ray_address_in_environment() -> None:
    environment = head_environment({"RAY_ADDRESS": "elsewhere:1", "PATH": "/usr/bin", "HOME": "/h"}, Path("/t"), 90.0)

    assert "RAY_ADDRESS" not in environment
    assert environment["PATH"].endswith(":/usr/bin")
    assert environment["HOME"] == "/h"


def test_head_has_its_own_token_regardless_of_environment() -> None:
    hostile = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_AUTH_TOKEN": "theirs",
        "RAY_AUTH_TOKEN_PATH": "/theirs",
        "RAY_ENABLE_K8S_TOKEN_AUTH": "1",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
    }

    environment = head_environment(hostile, Path("/ours/token"), 90.0)

    del environment["PATH"]
    assert environment == {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": "/ours/token",
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "90",
        "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "90.0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_prestart_worker_first_driver": "0",
    }


@pytest.mark.parametrize("version", ["2.50.1", "2.53.0", "2.57.3", "unknown"])
def test_older_ray_has_unprotected_parts(version: str) -> None:
    line = describe_unprotected_parts(version)

    assert line is not None
    assert line.startswith(f"Ray {version} does not require a token everywhere")
    assert "Ray 2.58 and newer" in line
    assert "\n" not in line


@pytest.mark.parametrize("version", ["2.58.0", "2.60.0", "3.0.0.dev0"])
def test_newer_ray_has_no_unprotected_parts(version: str) -> None:
    assert describe_unprotected_parts(version) is None
