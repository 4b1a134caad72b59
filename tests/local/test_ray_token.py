"""The token of a Ray cluster, without a Ray: where it is found, and its errors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.local import ray_token
from airflow_provider_rayagent.local.errors import RayTokenError
from airflow_provider_rayagent.local.ray_api import RayDashboard
from airflow_provider_rayagent.local.ray_token import RayToken, find_token
from tests.local.stub_ray import stub_ray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.local.stub_ray import StubRay

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


@pytest.fixture
def ray() -> Iterator[StubRay]:
    with stub_ray() as stub:
        stub.add_job("job")
        stub.token = SECRET
        yield stub


def ask(stub: StubRay, find: Callable[[], RayToken | None], renewed: Callable[[], None] | None = None) -> None:
    """Request something from the dashboard, and again after calling ``renewed``."""

    async def main() -> None:
        dashboard = RayDashboard(stub.url, find)
        try:
            await dashboard.get_job("job")
            if renewed:
                renewed()
                await dashboard.get_job("job")
        finally:
            await dashboard.close()

    asyncio.run(main())


def test_token_in_file_is_read_again_once_ray_rejects_it(ray: StubRay, file: Path) -> None:
    ray.token = "from-file"

    def renew() -> None:
        ray.token = "renewed"
        file.write_text("renewed")

    ask(ray, lambda: find_token(file, {}), renew)

    assert ray.authorizations[0] == "Bearer from-file"
    assert ray.authorizations[-1] == "Bearer renewed"


def test_missing_token_is_reported_with_places(ray: StubRay) -> None:
    with pytest.raises(RayTokenError, match=f"{ray.url} requires a token, but none was found: use") as error:
        ask(ray, lambda: None)

    assert error.value.status_code == 502
    assert len(str(error.value).splitlines()) == 1


def test_wrong_token_is_reported_by_source_only(ray: StubRay) -> None:
    ray.token = "another"

    with pytest.raises(RayTokenError) as error:
        ask(ray, lambda: RayToken(SECRET, "somewhere"))

    assert str(error.value) == f"Ray at {ray.url} rejects the token from somewhere."
    assert error.value.status_code == 502


def test_unreadable_file_is_reported_only_if_ray_requires_token(ray: StubRay) -> None:
    def find() -> RayToken | None:
        return find_token(None, {"RAY_AUTH_TOKEN_PATH": "/missing"})

    with pytest.raises(RayTokenError, match="RAY_AUTH_TOKEN_PATH=/missing: No such file"):
        ask(ray, find)

    ray.token = None
    ask(ray, find)
