"""Manifests of plugins: what is taken, and what is refused by file and field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.agent.errors import RayAgentInputError
from airflow_provider_rayagent.local.cli import main
from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError
from airflow_provider_rayagent.local.plugin_runs import MAX_PARAMS, RunRequest, submission
from airflow_provider_rayagent.local.plugins import PluginError, PluginFolder, read_plugin
from tests.stack.agent import EXAMPLE_PLUGINS

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "name: train\nversion: '1'\nactions: {run: {command: python run.py}}\n"


def write(folder: Path, manifest: str = GOOD) -> Path:
    folder.mkdir(parents=True)
    (folder / "plugin.yaml").write_text(manifest, encoding="utf-8")
    return folder


def test_a_manifest_is_read(tmp_path: Path) -> None:
    manifest = GOOD.replace("run.py", "run.py --fast, num_cpus: 0.5, num_gpus: 2, description: Runs") + "description: A"
    (plugin,) = PluginFolder(write(tmp_path / "any name", manifest).parent).all()

    assert plugin.lookup == "train@1"
    assert plugin.entrypoint("run") == f"cd '{tmp_path}/any name' && python run.py --fast"
    assert plugin.as_row() == {
        "id": "train@1",
        "plugin": "train",
        "version": "1",
        "description": "A",
        "path": f"{tmp_path}/any name",
        "actions": {
            "run": {"command": "python run.py --fast", "description": "Runs", "num_cpus": 0.5, "num_gpus": 2.0}
        },
    }


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("", "the manifest: Input should be"),
        ("- a", "the manifest: Input should be"),
        ("a: [", "not YAML"),
        (GOOD.replace("name: train", "title: train"), "name: Field required; title: Extra inputs"),
        (GOOD.replace("train", "a/b"), "name: String should match"),
        (GOOD.replace("train", "x" * 61), "name: String should have at most 60"),
        (GOOD.replace("'1'", "1.0"), "version: Input should be a valid string"),
        (GOOD.replace("'1'", "a@b"), "version: String should match"),
        ("name: a\nversion: '1'\n", "actions: Field required"),
        ("name: a\nversion: '1'\nactions: {}\n", "actions: Dictionary should have at least 1"),
        (GOOD.replace("run: {", "'a b': {"), "actions.a b"),
        (GOOD.replace("{command: python run.py}", "python run.py"), "actions.run: Input should be"),
        (GOOD.replace("command: python run.py", ""), "actions.run.command: Field required"),
        (GOOD.replace("python run.py", "' '"), "actions.run.command: String should match"),
        (GOOD.replace("python run.py", '"a\\nb"'), "actions.run.command: String should match"),
        (GOOD.replace("run.py", "run.py, num_gpus: -1"), "actions.run.num_gpus: Input should be greater"),
        (GOOD.replace("run.py", "run.py, num_cpus: two"), "actions.run.num_cpus: Input should be"),
        (GOOD.replace("run.py", "run.py, num_cpus: .inf"), "actions.run.num_cpus: Input should be"),
        (GOOD.replace("run.py", "run.py, gpus: 1"), "actions.run.gpus: Extra inputs"),
    ],
)
def test_a_malformed_manifest_is_refused_by_file_and_field(
    manifest: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "plugins" / "train", manifest)
    with pytest.raises(PluginError) as caught:
        read_plugin(folder)
    assert str(caught.value).startswith(f"{folder}/plugin.yaml: ")
    assert words in str(caught.value)

    assert main(["--plugins", str(folder.parent)]) == 1
    assert f"{folder}/plugin.yaml: " in capsys.readouterr().err


def test_a_manifest_that_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    (folder / "plugin.yaml").write_bytes(b"\xff")
    with pytest.raises(PluginError, match="not UTF-8"):
        read_plugin(folder)
    (folder / "plugin.yaml").unlink()
    (folder / "plugin.yaml").mkdir()
    with pytest.raises(PluginError, match="directory"):
        PluginFolder(tmp_path).all()


def test_two_folders_for_one_release_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    with pytest.raises(PluginError, match=r"b/plugin.yaml: train@1 is in .*/a already"):
        PluginFolder(tmp_path).all()


def test_a_plugin_is_found_by_its_release_and_by_its_name_if_that_says_which(tmp_path: Path) -> None:
    folder = PluginFolder(tmp_path)
    write(tmp_path / "one")
    (tmp_path / "no plugin").mkdir()
    assert folder.find("train").lookup == folder.find("train@1").lookup == "train@1"

    write(tmp_path / "two", GOOD.replace("'1'", "'2+gpu'"))
    assert folder.find("train@2+gpu").folder == tmp_path / "two"
    with pytest.raises(RayAnswerError, match=r"train@1, train@2\+gpu") as caught:
        folder.find("train")
    assert caught.value.status_code == 400
    with pytest.raises(RayAnswerError, match="no plugin 'other'") as caught:
        folder.find("other")
    assert caught.value.status_code == 404


def test_a_plugin_is_found_by_its_path(tmp_path: Path) -> None:
    folder = PluginFolder(tmp_path / "plugins")
    inside, outside = write(tmp_path / "plugins" / "a"), write(tmp_path / "b")
    assert [folder.at(path).folder for path in ("a", str(inside), str(outside), "../b")] == [inside] * 2 + [outside] * 2
    for path in ("none", "", "/"):
        with pytest.raises(RayAnswerError, match=r"has no plugin\.yaml"):
            folder.at(path)


def test_a_run_becomes_rays_submit_call() -> None:
    plugin = PluginFolder(EXAMPLE_PLUGINS).find("train")
    order = RunRequest(action="train", params={"a": "é $HOME ${PATH}"}, job_id="j-1", language="ko")

    assert submission(plugin, order) == {
        "submission_id": "j-1",
        "entrypoint": f"cd {EXAMPLE_PLUGINS / 'train'} && python train.py",
        "metadata": {"plugin": "train", "version": "1.0", "action": "train"},
        "runtime_env": {
            "env_vars": {
                "RAYAGENT_PARAMS": '{"a": "\\u00e9 \\u0024HOME \\u0024{PATH}"}',
                "RAYAGENT_ACTION": "train",
                "RAYAGENT_JOB_ID": "j-1",
                "RAYAGENT_LANGUAGE": "ko",
            }
        },
        "entrypoint_num_cpus": 0.1,
    }


def test_a_run_without_an_id_gets_one_of_its_own() -> None:
    plugin = PluginFolder(EXAMPLE_PLUGINS).find("train")
    ids = {submission(plugin, RunRequest(action="train"))["submission_id"] for _ in range(9)}
    assert len(ids) == 9
    assert all(each.startswith("train-") for each in ids)


@pytest.mark.parametrize(
    ("order", "error", "words"),
    [
        ({"action": "x"}, RayAnswerError, "has no action 'x'; it has train, train_on_gpu"),
        ({"action": "train", "params": {"a": "x" * MAX_PARAMS}}, RayAnswerError, f"carries up to {MAX_PARAMS}"),
        ({"action": "train", "job_id": "a b"}, RayAgentInputError, "job id"),
    ],
)
def test_a_run_that_cannot_be_one_is_refused(order: dict[str, Any], error: type[Exception], words: str) -> None:
    assert issubclass(error, (LocalAgentError, RayAgentInputError))
    with pytest.raises(error, match=words):
        submission(PluginFolder(EXAMPLE_PLUGINS).find("train"), RunRequest(**order))
