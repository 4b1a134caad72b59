"""Plugins on a real Ray: the environment of their commands, and rejected runs."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.local.plugin_runs import MAX_PARAMS
from airflow_provider_rayagent.render.result import RESULT_MARKERS, ResultFinder
from tests.local.conftest import error_detail
from tests.stack.agent import EXAMPLE_PLUGINS
from tests.stack.job_logs import without_lines_of_ray

if TYPE_CHECKING:
    from pathlib import Path

    import requests

    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray

SHOWS = """name: shows
version: "2"
actions:
  show:
    command: python -c 'import json, os; print(json.dumps({**os.environ, "folder":os.getcwd()}))'
"""


def run(agent: LocalAgent, lookup: str = "train@1.0", **body: Any) -> requests.Response:
    return agent.request("POST", f"plugin_releases/{lookup}/run/", json={"action": "train", **body})


def log_of(agent: LocalAgent, job_id: str) -> str:
    return without_lines_of_ray(agent.request("GET", f"jobs/{job_id}/logs/").text, agent.job(job_id))


@pytest.fixture(scope="module")
def shows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin outside the plugin folder that prints the environment of its command."""
    folder = tmp_path_factory.mktemp("a plugin's folder")
    (folder / "plugin.yaml").write_text(SHOWS)
    return folder


def test_plugins_in_folder_are_listed(agent: LocalAgent) -> None:
    answer = agent.request("GET", "plugin_releases/").json()
    (train,) = answer["results"]

    assert (answer["count"], answer["next"]) == (1, None)
    assert (train["plugin"], train["version"], train["path"]) == ("train", "1.0", str(EXAMPLE_PLUGINS / "train"))
    assert set(train["actions"]) == {"train", "train_on_gpu"}
    for lookup in ("train@1.0/", "train/", "train@1.0", "train", "train%401.0/"):
        assert agent.request("GET", f"plugin_releases/{lookup}").json() == train
    for lookup in ("train@2/", "other", "train@/"):
        assert "There is no plugin" in error_detail(agent.request("GET", f"plugin_releases/{lookup}"), 404)


def test_example_plugin_succeeds_with_given_id(agent: LocalAgent) -> None:
    answer = agent.run("train@1.0", "train", {"epochs": 2, "seconds": 0.1}, job_id="plugin-train-1")

    names = {"plugin": "train", "version": "1.0", "action": "train"}
    assert answer == {"job_id": "plugin-train-1", "submission_id": "plugin-train-1", "status": "PENDING", **names}
    job = agent.wait("plugin-train-1")
    assert (job["status"], job["submission_id"]) == ("SUCCEEDED", "plugin-train-1")
    assert names.items() <= job["metadata"].items()
    lines = log_of(agent, "plugin-train-1").splitlines()
    assert {"train: 2 epochs, as job plugin-train-1", "epoch 1/2: loss 0.5000", "epoch 2/2: loss 0.2500"} <= set(lines)
    assert any("100%|####################| 20/20" in line for line in lines)
    finder = ResultFinder(RESULT_MARKERS)
    for line in lines:
        finder.feed(line)
    assert finder.value() == {"epochs": 2, "loss": 0.25}


def test_example_plugin_fails_on_request(agent: LocalAgent) -> None:
    job_id = agent.run("train", "train", {"fail_at": 2, "seconds": 0})["job_id"]

    assert agent.wait(job_id)["status"] == "FAILED"
    assert "ValueError: the loss is not a number in epoch 2" in log_of(agent, job_id)


def test_command_gets_environment_and_runs_in_plugin_folder(agent: LocalAgent, shows: Path) -> None:
    params: dict[str, Any] = {
        "text": "é 漢 😀 \n ' \" \\ $HOME ${PATH} $(id)",
        "none": None,
        "numbers": [1, 2.5],
        "n": {"a": {}},
    }
    long = {"x": "'\"\\" * ((MAX_PARAMS - 99) // 5)}
    bodies: list[dict[str, Any]] = [{}, {"params": params, "language": "ko"}, {"params": long}]
    for body in bodies:
        answer = agent.request(
            "POST", "plugin_releases/run_debug/", json={"action": "show", "plugin_path": str(shows), **body}
        )
        assert answer.status_code == 200, answer.text
        job = agent.wait(answer.json()["job_id"])
        assert job["status"] == "SUCCEEDED", job["message"]
        environment = json.loads(log_of(agent, job["submission_id"]))
        assert environment["folder"] == str(shows)
        assert json.loads(environment["RAYAGENT_PARAMS"]) == body.get("params", {})
        assert environment["RAYAGENT_ACTION"] == "show"
        assert environment["RAYAGENT_JOB_ID"] == job["submission_id"]
        assert environment.get("RAYAGENT_LANGUAGE") == body.get("language")


def test_missing_gpus_return_503(agent: LocalAgent) -> None:
    answer = run(agent, action="train_on_gpu", job_id="plugin-gpu-1")

    assert answer.status_code == 503
    body = answer.json()
    assert (body["error_type"], body["requested_gpus"], body["gpus_of_largest_node"]) == ("gpu_unavailable", 1, 0)
    assert "needs 1 GPUs" in body["message"]
    assert agent.request("GET", "jobs/plugin-gpu-1/").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status_code", "words"),
    [
        ("other/run/", {}, 404, "There is no plugin 'other'"),
        ("train@1.0/run/", {"action": "other"}, 400, "has no action 'other', only train, train_on_gpu"),
        ("train@1.0/run/", {"job_id": "a b"}, 400, "job id"),
        ("train@1.0/run/", {"job_id": ""}, 400, "job id"),
        ("train@1.0/run/", {"params": {"x": "x" * MAX_PARAMS}}, 413, f"the limit is {MAX_PARAMS}"),
        ("train@1.0/run/", {"requirements": ["torch"]}, 501, "requirements"),
        ("run_debug/", {}, 400, "is required"),
        ("run_debug/", {"plugin_path": "/nowhere"}, 400, "'/nowhere' has no plugin.yaml"),
        ("run_debug/", {"plugin_path": "train", "config": {}}, 501, "config"),
        ("run_debug/", {"plugin_path": "train", "modules": {"main": "x"}}, 501, "modules"),
    ],
)
def test_invalid_run_is_rejected(
    agent: LocalAgent, path: str, body: dict[str, Any], status_code: int, words: str
) -> None:
    answer = agent.request("POST", f"plugin_releases/{path}", json={"action": "train", **body})
    assert words in error_detail(answer, status_code)


@pytest.mark.parametrize("body", [{"action": 1}, {"params": []}, {"language": "a b"}, {"other": 1}])
def test_run_with_malformed_body_returns_422(agent: LocalAgent, body: dict[str, Any]) -> None:
    assert run(agent, **body).status_code == 422


def test_broken_manifest_is_reported_in_debug_run(agent: LocalAgent, shows: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(shows, folder)
    (folder / "plugin.yaml").write_text("name: broken\n")
    body = {"action": "show", "plugin_path": str(folder)}

    words = error_detail(agent.request("POST", "plugin_releases/run_debug/", json=body), 500)
    assert words.startswith(f"{folder}/plugin.yaml: version: Field required; actions: Field required")
