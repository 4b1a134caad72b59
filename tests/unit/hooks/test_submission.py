"""Both hooks upload a working_dir once, whatever breaks meanwhile, and submit jobs."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import RayAgentHTTPError, RayAgentInputError
from airflow_provider_rayagent.hooks import submission_methods
from airflow_provider_rayagent.working_dir.packing import pack
from tests.scripted import DEFAULT, Answer, Play, Reset, ray_dialect
from tests.unit.support import task_log
from tests.unit.working_dir.trees import contents_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scripted import ScriptedAgent
    from tests.unit.hooks.conftest import Ask
    from tests.unit.support import Serve

SIZE = 3_000_000
TAKEN = ray_dialect.taken("j1")


@pytest.fixture
def ray(serve: Serve) -> ScriptedAgent:
    return serve(service="ray", password="")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data.bin").write_bytes(os.urandom(SIZE))
    return tmp_path


def put(folder: Path) -> tuple[str, bytes]:
    """Return the route of a folder's upload, and its body."""
    with pack(folder, root=folder) as package:
        return f"PUT api/packages/gcs/{package.name}", package.file.read()


def test_a_package_is_sent_whole_and_once(ask: Ask, ray: ScriptedAgent, folder: Path) -> None:
    route, body = put(folder)
    uris = {ask("upload_working_dir", folder) for _ in range(2)}
    (sent,) = ray.of(route)
    assert sent.body == body
    assert sent.headers["content-length"] == str(len(body))
    assert "transfer-encoding" not in sent.headers
    assert uris == {f"gcs://{route.rpartition('/')[2]}"}


def test_what_is_excluded_is_not_sent(ask: Ask, ray: ScriptedAgent, folder: Path) -> None:
    (folder / "main.py").write_text("print(1)\n")
    ask("upload_working_dir", folder, excludes=["*.bin"])
    [package] = ray.packages.values()
    assert contents_of(io.BytesIO(package)) == {"main.py": b"print(1)\n"}


@pytest.mark.parametrize("failure", [Play(Reset()), Answer(503, "busy"), Answer(502, "<html>bad</html>")])
def test_a_broken_upload_is_sent_again_from_its_first_byte(
    failure: Any, ask: Ask, ray: ScriptedAgent, folder: Path
) -> None:
    route, body = put(folder)
    ray.answers[route] = [failure, DEFAULT]
    ask("upload_working_dir", folder)
    assert [sent.body for sent in ray.of(route)] == [body, body]
    assert list(ray.packages.values()) == [body]


def test_a_package_that_a_proxy_refuses_is_named(ask: Ask, ray: ScriptedAgent, folder: Path) -> None:
    route, _ = put(folder)
    ray.answers[route] = [Answer(413, "<html><title>413 Request Entity Too Large</title></html>")]
    with pytest.raises(RayAgentHTTPError, match=r"answered 413, but not in the form of the Ray dashboard") as caught:
        ask("upload_working_dir", folder)
    assert caught.value.status_code == 413


def test_a_long_upload_tells_its_progress(
    ask: Ask, ray: ScriptedAgent, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission_methods, "PROGRESS_SECONDS", 0.0)
    _, body = put(folder)
    with task_log() as log:
        uri = ask("upload_working_dir", folder)
    *progress, last = log.messages
    assert progress[-1] == f"Uploading: {len(body)} of {len(body)} bytes sent."
    assert last == f"Uploaded {folder} to the cluster (1 files, {len(body)} bytes): {uri}"


def test_a_random_id_is_taken_only_by_the_same_request(ask: Ask, ray: ScriptedAgent) -> None:
    ray.answers["POST jobs/"] = [Play(Reset()), TAKEN]
    job_id = ask("submit_job", "true")
    assert job_id.startswith("rayagent-")
    assert len({sent.body for sent in ray.of("POST jobs/")}) == 1


def test_an_id_that_is_taken_is_told(ask: Ask, ray: ScriptedAgent) -> None:
    ray.answers["POST jobs/"] = [TAKEN]
    with pytest.raises(RayAgentHTTPError, match="already exists") as caught:
        ask("submit_job", "true", job_id="j1")
    assert caught.value.status_code == 409


def test_an_empty_folder_is_refused_before_anything_is_sent(ask: Ask, ray: ScriptedAgent, tmp_path: Path) -> None:
    with pytest.raises(RayAgentInputError):
        ask("upload_working_dir", tmp_path)
    assert ray.requests == []


@pytest.mark.parametrize("name", ["path", "root"])
@pytest.mark.parametrize("value", ["", " ", 7, b"/tmp", "a\0b", "\ud800", []])
def test_a_path_that_is_none_is_refused(name: str, value: Any, ask: Ask, ray: ScriptedAgent, tmp_path: Path) -> None:
    with pytest.raises(RayAgentInputError, match=f"The {name} "):
        ask("upload_working_dir", **{"path": tmp_path, name: value})
    assert ray.requests == []


@pytest.mark.parametrize("files", [7, None, ["a.py"], {7: b"x"}, {"": b"x"}, {"a.py": "x"}, {"a.py": None}])
def test_files_that_are_no_bytes_by_path_are_refused(files: Any, ask: Ask, ray: ScriptedAgent) -> None:
    with pytest.raises(RayAgentInputError):
        ask("upload_files", files)
    assert ray.requests == []


@pytest.mark.parametrize("amount", [10**400, 10**5_000], ids=["400 digits", "5,000 digits"])
@pytest.mark.parametrize("name", ["entrypoint_num_cpus", "entrypoint_num_gpus", "entrypoint_memory"])
def test_an_amount_beyond_every_machine_is_refused(name: str, amount: int, ask: Ask, ray: ScriptedAgent) -> None:
    with pytest.raises(RayAgentInputError, match=f"{name} must be a"):
        ask("submit_job", "true", **{name: amount})
    assert "POST api/jobs/" not in [request.route for request in ray.requests]
