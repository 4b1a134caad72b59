"""The token of a Ray cluster, without a Ray: where it is found, and its errors."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.local import ray_token
from airflow_provider_rayagent.local.errors import RayTokenError
from airflow_provider_rayagent.local.ray_api import RayDashboard
from airflow_provider_rayagent.local.ray_token import RayToken, find_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = "not-to-be-seen"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory with a Ray token."""
    path = tmp_path / "home"
    (path / ".ray").mkdir(parents=True)
    (path / ".ray" / "auth_token").write_text("from-home")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("  from-file \t\r\n")
    return path


def test_explicit_file_has_priority(home: Path, file: Path) -> None:
    token = find_token(file, {"HOME": str(home), "RAY_AUTH_TOKEN": "from-variable"})

    assert token == RayToken("from-file", f"--ray-token-file {file}", file)


def test_sources_have_order_of_ray(home: Path, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_home_without_token_has_none(home: Path, content: str | None) -> None:
    path = home / ".ray" / "auth_token"
    path.unlink() if content is None else path.write_text(content)

    assert find_token(None, {"HOME": str(home)}) is None


def test_unreadable_token_in_home_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".ray" / "auth_token").mkdir(parents=True)

    assert find_token(None, {"HOME": str(tmp_path)}) is None


def test_auth_mode_does_not_hide_token(home: Path) -> None:
    assert find_token(None, {"HOME": str(home), "RAY_AUTH_MODE": "disabled"}) is not None


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), ("", "is empty"), ("a b", "visible ASCII")])
@pytest.mark.parametrize("by_argument", [True, False])
def test_specified_file_must_contain_token(tmp_path: Path, content: str | None, words: str, by_argument: bool) -> None:
    path = tmp_path / "bad"
    if content is not None:
        path.write_text(content)

    with pytest.raises(RayTokenError, match=words) as error:
        find_token(path if by_argument else None, {"RAY_AUTH_TOKEN_PATH": str(path)})

    assert str(path) in str(error.value)
    assert content is None or not content or content not in str(error.value)


def test_repr_does_not_contain_token() -> None:
    assert SECRET not in repr(RayToken(SECRET, "somewhere"))


@dataclass
class Dashboard:
    """A stub of the dashboard with the headers that it received."""

    url: str
    token: str | None = SECRET
    received: list[str | None] = field(default_factory=list)

    def answer(self, authorization: str | None) -> tuple[int, str]:
        """Respond as Ray does."""
        self.received.append(authorization)
        if self.token is None or authorization == f"Bearer {self.token}":
            return 200, "{}"
        # A proxy may repeat the request's headers.
        return (403 if authorization else 401), f"Forbidden: {authorization}"


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = fake.answer(self.headers["Authorization"])
            self.send_response(status)
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


def ask(dashboard: Dashboard, find: Callable[[], RayToken | None], renewed: Callable[[], None] | None = None) -> None:
    """Request something from the dashboard, and again after calling ``renewed``."""

    async def main() -> None:
        ray = RayDashboard(dashboard.url, find)
        try:
            await ray.get_job("job")
            if renewed:
                renewed()
                await ray.get_job("job")
        finally:
            await ray.close()

    asyncio.run(main())


def test_token_in_file_is_read_again_once_ray_rejects_it(dashboard: Dashboard, file: Path) -> None:
    dashboard.token = "from-file"

    def renew() -> None:
        dashboard.token = "renewed"
        file.write_text("renewed")

    ask(dashboard, lambda: find_token(file, {}), renew)

    assert dashboard.received[0] == "Bearer from-file"
    assert dashboard.received[-1] == "Bearer renewed"


def test_missing_token_is_reported_with_places(dashboard: Dashboard) -> None:
    with pytest.raises(RayTokenError, match=f"{dashboard.url} requires a token, but none was found: use") as error:
        ask(dashboard, lambda: None)

    assert error.value.status_code == 502
    assert len(str(error.value).splitlines()) == 1


def test_wrong_token_is_reported_by_source_only(dashboard: Dashboard) -> None:
    dashboard.token = "another"

    with pytest.raises(RayTokenError) as error:
        ask(dashboard, lambda: RayToken(SECRET, "somewhere"))

    assert str(error.value) == f"Ray at {dashboard.url} rejects the token from somewhere."
    assert error.value.status_code == 502


def test_unreadable_file_is_reported_only_if_ray_requires_token(dashboard: Dashboard) -> None:
    def find() -> RayToken | None:
        return find_token(None, {"RAY_AUTH_TOKEN_PATH": "/missing"})

    with pytest.raises(RayTokenError, match="RAY_AUTH_TOKEN_PATH=/missing: No such file"):
        ask(dashboard, find)

    dashboard.token = None
    ask(dashboard, find)
