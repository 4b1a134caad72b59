"""A Ray that requires a token: the agent's own, regardless of the user's home and environment, and an existing one."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc  # type: ignore[import-untyped]
import psutil  # type: ignore[import-untyped]
import pytest
import requests

from tests.local.test_logs import sse_events, text_of
from tests.stack.agent import LocalAgent, local_agent, start_agent, stop_agent
from tests.stack.job_logs import without_lines_of_ray
from tests.stack.ray import Cluster, cluster, driver_environment
from tests.stack.watch import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.ray

THEIRS = "the-user-s-own-token"
SECRET = "the-token-of-a-cluster"
PROGRAM = "import ray; ray.init(); print('the answer is', ray.get(ray.remote(lambda: 42).remote()))"
DRIVER = "import sys, ray; ray.init(sys.argv[1]); print('the answer is', ray.get(ray.remote(lambda: 42).remote()))"
# One call of each service of a head's processes, by the names in Ray's protocol files.
CALLS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.ReporterService/GetTraceback",
    "/ray.rpc.LogService/ListLogs",
    "/ray.rpc.RayletDriver/ClusterInfo",
)


def run_on_ray(agent: LocalAgent) -> None:
    """Run a job that uses Ray itself, and read its whole and live log."""
    job = agent.wait(agent.submit(f'python -c "{PROGRAM}"'))
    whole = agent.request("GET", f"jobs/{job['submission_id']}/logs/").text
    live = text_of(list(sse_events(agent, job["submission_id"])))
    assert job["status"] == "SUCCEEDED", whole
    for log in (whole, live):
        assert "the answer is 42" in without_lines_of_ray(log, job)


def shown_by(agent: LocalAgent) -> str:
    return agent.output.read_text() + agent.output.with_name("agent.json").read_text()


def driver(address: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", DRIVER, address], env=environment, capture_output=True, text=True)


def contents(home: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in home.rglob("*") if path.is_file()}


@dataclass
class Own:
    """An agent with its own head, its user's home directory, and the contents of that directory before the start."""

    agent: LocalAgent
    home: Path
    before: dict[Path, str]

    def processes(self) -> list[Any]:
        return list(psutil.Process(self.agent.pid).children(recursive=True))

    def listening(self) -> set[tuple[str, int]]:
        addresses = set()
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                connections = process.net_connections("tcp")
                addresses |= {each.laddr for each in connections if each.status == psutil.CONN_LISTEN}
        return {(host.removeprefix("::ffff:"), port) for host, port in addresses}

    def tokens_in_home(self) -> dict[Path, str]:
        return {path: text for path, text in contents(self.home).items() if ".ray" in path.parts}

    @property
    def token(self) -> str:
        return Path(str(self.agent.ray_token_file)).read_text()


@contextlib.contextmanager
def own_head(home: Path, variables: Mapping[str, str] | None = None) -> Iterator[Own]:
    """Start an agent with its own head, and run a job on it."""
    before = contents(home)
    with local_agent("--verbose", environment=driver_environment(home, variables)) as agent:
        run_on_ray(agent)
        yield Own(agent, home, before)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """A head that was started with a home directory and an environment that could mislead Ray."""
    home = tmp_path_factory.mktemp("home")
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text(THEIRS)
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": THEIRS,
        "RAY_AUTH_TOKEN_PATH": "/missing",
        "RAY_ENABLE_K8S_TOKEN_AUTH": "1",
    }
    with own_head(home, variables) as running:
        yield running


def test_own_head_works_regardless_of_home_and_environment(own: Own) -> None:
    assert own.tokens_in_home() == own.before
    assert list(own.before.values()) == [THEIRS]


def test_own_head_listens_on_loopback_only(own: Own) -> None:
    listening = own.listening()

    assert len(listening) > 5
    assert {host for host, _ in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("authorization", [None, f"Bearer {THEIRS}"])
def test_dashboard_and_node_agent_require_token_to_submit(own: Own, authorization: str | None) -> None:
    job_id = own.agent.submit("true")
    node = own.agent.wait(job_id)["driver_agent_http_address"]
    headers = {"Authorization": authorization} if authorization else {}
    job = {"entrypoint": "true", "submission_id": "a_stranger"}

    for url in (f"{own.agent.ray_address}/api/jobs/", f"{node}/api/job_agent/jobs/"):
        assert requests.post(url, json=job, headers=headers).status_code in (401, 403)
    assert own.agent.request("GET", "jobs/a_stranger/").status_code == 404


@pytest.mark.parametrize("metadata", [None, [("authorization", f"Bearer {THEIRS}")]])
def test_grpc_services_require_token(own: Own, metadata: Any) -> None:
    refused = set()
    for host, port in own.listening():
        with grpc.insecure_channel(f"{host}:{port}") as channel:
            for call in CALLS:
                with pytest.raises(grpc.RpcError) as error:
                    channel.unary_unary(call)(b"", metadata=metadata)
                code = error.value.code()
                # The other two codes: the port does not offer the service, or does not use gRPC.
                assert code in (
                    grpc.StatusCode.UNAUTHENTICATED,
                    grpc.StatusCode.UNIMPLEMENTED,
                    grpc.StatusCode.UNAVAILABLE,
                ), (call, code)
                if code is grpc.StatusCode.UNAUTHENTICATED:
                    refused.add(call)

    assert refused == set(CALLS)


def test_ray_tools_require_token(own: Own, tmp_path: Path) -> None:
    stranger = driver_environment(tmp_path)
    submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", own.agent.ray_address]
    submit += ["--", "echo", "stranger"]
    refused = subprocess.run(submit, env=stranger, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "authentication" in refused.stderr.lower()
    refused = driver(str(own.agent.gcs_address), stranger)
    assert refused.returncode != 0
    assert "the answer" not in refused.stdout

    friend = stranger | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(own.agent.ray_token_file)}
    assert subprocess.run(submit, env=friend, capture_output=True).returncode == 0
    done = driver(str(own.agent.gcs_address), friend)
    assert "the answer is 42" in done.stdout, done.stderr


def test_token_is_private_and_not_exposed(own: Own) -> None:
    file = Path(str(own.agent.ray_token_file))
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    own.agent.wait(own.agent.submit("env"))

    shown = shown_by(own.agent)
    shown += "".join(own.agent.request("GET", path).text for path in ("jobs/", "nodes/", "tasks/", "health/"))
    for process in own.processes():
        with contextlib.suppress(psutil.Error):
            shown += " ".join(process.cmdline())
    for path in file.parent.rglob("*"):
        if path.is_file() and path != file:
            shown += path.read_text(errors="replace")
    assert "RAY_AUTH_TOKEN_PATH" in shown, "the job's environment is included"
    assert own.token not in shown


@pytest.fixture(scope="module")
def existing() -> Iterator[Cluster]:
    with cluster(token=SECRET) as running:
        yield running


def test_existing_ray_gets_token_from_home(existing: Cluster, tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(f"{SECRET}\n")

    environment = driver_environment(tmp_path)
    with local_agent("--address", existing.dashboard_url, "--verbose", environment=environment) as agent:
        run_on_ray(agent)
        assert SECRET not in shown_by(agent)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, r"requires a token, but none was found: use --ray-token-file, .*"),
        ({"RAY_AUTH_TOKEN": THEIRS}, r"rejects the token from RAY_AUTH_TOKEN\."),
        ({"RAY_AUTH_TOKEN_PATH": "/missing"}, r"from RAY_AUTH_TOKEN_PATH=/missing: No such file or directory\."),
    ],
)
def test_agent_does_not_start_without_right_token(
    existing: Cluster, tmp_path: Path, variables: dict[str, str], words: str
) -> None:
    output = tmp_path / "output"
    process = start_agent(
        "--address", existing.dashboard_url, output=output, environment=driver_environment(tmp_path, variables)
    )

    try:
        assert process.wait(PATIENCE) == 1
    finally:
        stop_agent(process)
    (line,) = output.read_text().splitlines()
    assert re.fullmatch(f"rayagent-local: .*{words}", line)
    assert THEIRS not in line


def test_invalid_token_is_reported_to_every_request_until_renewed(existing: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    arguments = ("--address", existing.dashboard_url, "--ray-token-file", str(file))
    with local_agent(*arguments, environment=driver_environment(tmp_path)) as agent:
        job_id = agent.submit("true")

        file.write_text(THEIRS)
        # The file is read at most once in a second.
        wait_until(lambda: not agent.request("GET", "health/").ok or None, "the file is not read again")
        for method, path in (("GET", "health/"), ("GET", f"jobs/{job_id}/logs/stream/"), ("POST", "jobs/")):
            answer = agent.request(method, path, json={"entrypoint": "true"})
            assert answer.status_code == 502
            assert answer.json()["detail"] == (
                f"Ray at {existing.dashboard_url} rejects the token from --ray-token-file {file}."
            )
        file.unlink()
        answer = agent.request("GET", "health/")
        assert (answer.status_code, "No such file" in answer.json()["detail"]) == (502, True)

        file.write_text(SECRET)
        assert agent.wait(job_id)["status"] == "SUCCEEDED"
        assert SECRET not in shown_by(agent)


def test_ray_without_tokens_works_regardless_of_environment(tmp_path: Path) -> None:
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/missing"}
    with (
        cluster() as open_to_all,
        local_agent(
            "--address", open_to_all.dashboard_url, environment=driver_environment(tmp_path, variables)
        ) as agent,
    ):
        run_on_ray(agent)
