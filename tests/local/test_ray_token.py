"""The token of a Ray cluster, without a Ray: where it is found, when it is sent, and its errors."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.local import ray_token
from airflow_provider_rayagent.local.errors import RayAnswerError, RayTokenError
from airflow_provider_rayagent.local.ray_api import RayDashboard
from airflow_provider_rayagent.local.ray_token import RayCredentials, RayToken, find_token

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
    path.write_text("  from-file \t\r\nanother line")
    return path


def test_explicit_file_has_priority(home: Path, file: Path) -> None:
    token = find_token(file, {"HOME": str(home), "RAY_AUTH_TOKEN": "from-variable"})

    assert token == RayToken("from-file", f"--ray-token-file {file}")


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


@pytest.mark.parametrize("content", [None, "", " \n", "\nsecond line"])
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
    redirect: str | None = None
    received: list[str | None] = field(default_factory=list)

    def answer(self, authorization: str | None) -> tuple[int, str, dict[str, str]]:
        """Respond as Ray does, or with a redirect."""
        self.received.append(authorization)
        if self.redirect:
            return 307, "", {"Location": self.redirect}
        if self.token is None or authorization == f"Bearer {self.token}":
            return 200, "{}", {}
        # A proxy may repeat the request's headers.
        return (403 if authorization else 401), f"Forbidden: {authorization}", {}


@contextlib.contextmanager
def serving() -> Iterator[Dashboard]:
    class Handler(BaseHTTPRequestHandler):
        # websockets does not support HTTP/1.0.
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


def ask(
    dashboard: Dashboard, find: Callable[[], RayToken | None], times: int = 1, *, is_required: bool = False
) -> None:
    """Request the dashboard's version.

    :param is_required: whether Ray has required a token before.
    """

    async def main() -> None:
        ray = RayDashboard(dashboard.url, RayCredentials(find))
        ray.credentials.asked = is_required
        try:
            for _ in range(times):
                await ray.version()
        finally:
            await ray.close()

    asyncio.run(main())


def test_token_is_sent_once_ray_has_required_it(dashboard: Dashboard) -> None:
    ask(dashboard, lambda: RayToken(SECRET, "somewhere"), times=2)

    assert dashboard.received == [None, f"Bearer {SECRET}", f"Bearer {SECRET}"]


def test_token_is_not_sent_to_ray_without_tokens(dashboard: Dashboard) -> None:
    dashboard.token = None

    ask(dashboard, lambda: RayToken(SECRET, "somewhere"), times=2)

    assert dashboard.received == [None, None]


def test_concurrent_requests_succeed(dashboard: Dashboard) -> None:
    async def main() -> None:
        ray = RayDashboard(dashboard.url, RayCredentials(lambda: RayToken(SECRET, "somewhere")))
        await asyncio.gather(*(ray.version() for _ in range(5)))
        await ray.close()

    asyncio.run(main())

    assert dashboard.received.count(f"Bearer {SECRET}") == 5


def test_replaced_token_is_used_for_next_request(dashboard: Dashboard) -> None:
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


def test_token_is_not_sent_to_redirect_target(dashboard: Dashboard) -> None:
    with serving() as elsewhere:
        dashboard.redirect = f"{elsewhere.url}/api/version"
        with pytest.raises(RayAnswerError):
            ask(dashboard, lambda: RayToken(SECRET, "somewhere"), is_required=True)

    assert dashboard.received == [f"Bearer {SECRET}"]
    assert elsewhere.received == []
