"""The token of a Ray cluster, without a Ray: where it is found, when it is sent, what is said of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.local import ray_token
from airflow_provider_rayagent.local.errors import RayAnswerError, RayTokenError, RayUnavailableError
from airflow_provider_rayagent.local.ray_api import RayDashboard
from airflow_provider_rayagent.local.ray_token import RayCredentials, RayToken, find_token
from airflow_provider_rayagent.local.serve_delete import driver_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = "not-to-be-seen"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a token of Ray's."""
    path = tmp_path / "home"
    (path / ".ray").mkdir(parents=True)
    (path / ".ray" / "auth_token").write_text("from-home")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("  from-file \t\r\nanother line")
    return path


def test_a_file_that_is_given_comes_before_all(home: Path, file: Path) -> None:
    token = find_token(file, {"HOME": str(home), "RAY_AUTH_TOKEN": "from-variable"})

    assert token == RayToken("from-file", f"--ray-token-file {file}")


def test_ray_s_own_order(home: Path, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kubernetes = tmp_path / "kubernetes"
    kubernetes.write_text("from-kubernetes")
    monkeypatch.setattr(ray_token, "_KUBERNETES_FILE", kubernetes)
    environment = {
        "HOME": str(home),
        "RAY_AUTH_TOKEN": " from-variable\n",
        "RAY_AUTH_TOKEN_PATH": str(file),
        "RAY_ENABLE_K8S_TOKEN_AUTH": "true",
    }

    found = []
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_K8S_TOKEN_AUTH", "HOME"):
        token = find_token(None, environment)
        assert token is not None
        found.append((token.value, token.source))
        environment[name] = ""

    assert found == [
        ("from-variable", "RAY_AUTH_TOKEN"),
        ("from-file", f"RAY_AUTH_TOKEN_PATH={file}"),
        ("from-kubernetes", str(kubernetes)),
        ("from-home", str(home / ".ray" / "auth_token")),
    ]


@pytest.mark.parametrize("content", [None, "", " \n", "\nsecond line"])
def test_a_home_without_a_token_has_none(home: Path, content: str | None) -> None:
    path = home / ".ray" / "auth_token"
    path.unlink() if content is None else path.write_text(content)

    assert find_token(None, {"HOME": str(home)}) is None


def test_a_home_whose_token_cannot_be_read_has_none(tmp_path: Path) -> None:
    (tmp_path / ".ray" / "auth_token").mkdir(parents=True)

    assert find_token(None, {"HOME": str(tmp_path)}) is None


def test_a_mode_in_the_environment_hides_no_token(home: Path) -> None:
    assert find_token(None, {"HOME": str(home), "RAY_AUTH_MODE": "disabled"}) is not None


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), ("", "is empty"), ("a b", "visible ASCII")])
@pytest.mark.parametrize("by_argument", [True, False])
def test_a_file_that_was_named_must_hold_a_token(
    tmp_path: Path, content: str | None, words: str, by_argument: bool
) -> None:
    path = tmp_path / "bad"
    if content is not None:
        path.write_text(content)

    with pytest.raises(RayTokenError, match=words) as error:
        find_token(path if by_argument else None, {"RAY_AUTH_TOKEN_PATH": str(path)})

    assert str(path) in str(error.value)
    assert content is None or not content or content not in str(error.value)


def test_a_token_is_in_no_representation() -> None:
    assert SECRET not in repr(RayToken(SECRET, "somewhere"))


def test_a_driver_gets_the_token_only_where_ray_asks_for_one() -> None:
    credentials = RayCredentials(lambda: RayToken(SECRET, "somewhere"))

    assert credentials.environment() == {"RAY_AUTH_MODE": "disabled"}
    credentials.asked = True
    assert credentials.environment() == {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": SECRET}


@pytest.mark.parametrize(
    ("nodes", "on_loopback"),
    [
        ([{"node_ip": "127.0.0.1", "state": "ALIVE"}], True),
        ([{"node_ip": "10.0.0.1", "state": "ALIVE"}, {"node_ip": "127.0.0.1", "state": "DEAD"}], False),
        ([], False),
    ],
)
def test_a_driver_joins_on_loopback_where_the_cluster_is_there(nodes: list[dict[str, Any]], on_loopback: bool) -> None:
    environment = driver_environment(nodes, RayCredentials(lambda: None))

    assert (environment.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") == "0") is on_loopback


@dataclass
class Dashboard:
    """What a dashboard answers, and what it was sent."""

    url: str
    token: str | None = SECRET
    redirect: str | None = None
    received: list[str | None] = field(default_factory=list)

    def answer(self, authorization: str | None) -> tuple[int, str, dict[str, str]]:
        """Answer as Ray does, or with a redirect."""
        self.received.append(authorization)
        if self.redirect:
            return 307, "", {"Location": self.redirect}
        if self.token is None or authorization == f"Bearer {self.token}":
            return 200, "{}", {}
        # A proxy may well repeat what it was sent.
        return (403 if authorization else 401), f"Forbidden: {authorization}", {}


@contextlib.contextmanager
def serving() -> Iterator[Dashboard]:
    class Handler(BaseHTTPRequestHandler):
        # websockets speaks no 1.0.
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, text, headers = fake.answer(self.headers["Authorization"])
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake = Dashboard(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    with serving() as running:
        yield running


def ask(dashboard: Dashboard, find: Callable[[], RayToken | None], times: int = 1) -> None:
    """Ask the dashboard for its version."""

    async def main() -> None:
        ray = RayDashboard(dashboard.url, RayCredentials(find))
        try:
            for _ in range(times):
                await ray.version()
        finally:
            await ray.close()

    asyncio.run(main())


def test_the_token_is_sent_once_ray_has_asked_for_it(dashboard: Dashboard) -> None:
    ask(dashboard, lambda: RayToken(SECRET, "somewhere"), times=2)

    assert dashboard.received == [None, f"Bearer {SECRET}", f"Bearer {SECRET}"]


def test_a_ray_without_tokens_is_sent_none(dashboard: Dashboard) -> None:
    dashboard.token = None

    ask(dashboard, lambda: RayToken(SECRET, "somewhere"), times=2)

    assert dashboard.received == [None, None]


def test_requests_at_the_same_time_are_all_answered(dashboard: Dashboard) -> None:
    async def main() -> None:
        ray = RayDashboard(dashboard.url, RayCredentials(lambda: RayToken(SECRET, "somewhere")))
        await asyncio.gather(*(ray.version() for _ in range(5)))
        await ray.close()

    asyncio.run(main())

    assert dashboard.received.count(f"Bearer {SECRET}") == 5


def test_a_token_that_was_replaced_is_used_from_the_next_request_on(dashboard: Dashboard) -> None:
    tokens = iter([SECRET, "renewed"])

    async def main() -> None:
        credentials = RayCredentials(lambda: RayToken(next(tokens), "somewhere"))
        ray = RayDashboard(dashboard.url, credentials)
        await ray.version()
        dashboard.token = "renewed"
        await ray.version()
        await ray.close()

    asyncio.run(main())

    assert dashboard.received == [None, f"Bearer {SECRET}", "Bearer renewed"]


def test_without_a_token_it_says_where_to_put_one(dashboard: Dashboard) -> None:
    with pytest.raises(RayTokenError, match=f"{dashboard.url} requires a token, but none was found: use") as error:
        ask(dashboard, lambda: None)

    assert error.value.status_code == 502
    assert len(str(error.value).splitlines()) == 1


def test_a_wrong_token_is_named_by_its_source_and_not_shown(dashboard: Dashboard) -> None:
    dashboard.token = "another"

    with pytest.raises(RayTokenError) as error:
        ask(dashboard, lambda: RayToken(SECRET, "somewhere"))

    assert str(error.value) == f"Ray at {dashboard.url} rejects the token from somewhere."
    assert error.value.status_code == 502


def test_a_file_that_cannot_be_read_is_told_only_where_ray_asks_for_a_token(dashboard: Dashboard) -> None:
    def find() -> RayToken | None:
        return find_token(None, {"RAY_AUTH_TOKEN_PATH": "/missing"})

    with pytest.raises(RayTokenError, match="RAY_AUTH_TOKEN_PATH=/missing: No such file"):
        ask(dashboard, find)

    dashboard.token = None
    ask(dashboard, find)


def tail(dashboard: Dashboard) -> None:
    async def main() -> None:
        ray = RayDashboard(dashboard.url, RayCredentials(lambda: RayToken(SECRET, "somewhere")))
        ray.credentials.asked = True
        try:
            async with ray.tail_job_logs("a"):
                pass
        finally:
            await ray.close()

    asyncio.run(main())


def test_a_live_log_is_asked_for_with_the_token(dashboard: Dashboard) -> None:
    dashboard.token = "another"

    with pytest.raises(RayTokenError, match="rejects the token from somewhere") as error:
        tail(dashboard)

    assert dashboard.received == [f"Bearer {SECRET}"]
    assert SECRET not in str(error.value)


def test_the_token_goes_nowhere_else_by_a_redirect(dashboard: Dashboard) -> None:
    with serving() as elsewhere:
        dashboard.redirect = f"{elsewhere.url}/api/version"
        with pytest.raises(RayAnswerError):
            ask(dashboard, lambda: RayToken(SECRET, "somewhere"))
        dashboard.redirect = f"{elsewhere.url.replace('http', 'ws')}/"
        with pytest.raises(RayUnavailableError):
            tail(dashboard)

    assert dashboard.received[-1] == f"Bearer {SECRET}"
    assert elsewhere.received == []
