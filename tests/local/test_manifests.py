"""Plugin manifests: valid ones, and errors with file and field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.local.errors import RayResponseError
from airflow_provider_rayagent.local.plugin_folder import PluginError, PluginFolder, read_plugin
from airflow_provider_rayagent.local.plugin_runs import RunRequest, build_submission
from tests.stack.agent import EXAMPLE_PLUGINS

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "name: train\nversion: '1'\nactions: {run: {command: python run.py}}\n"


def write(folder: Path, manifest: str = GOOD) -> Path:
    folder.mkdir(parents=True)
    (folder / "plugin.yaml").write_text(manifest, encoding="utf-8")
    return folder


def test_manifest_is_read(tmp_path: Path) -> None:
    manifest = GOOD.replace("run.py", "run.py --fast, num_cpus: 0.5, num_gpus: 2, description: Runs") + "description: A"
    (plugin,) = PluginFolder(write(tmp_path / "any name", manifest).parent).read()

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
        ("a: [", "ParserError"),
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
def test_malformed_manifest_is_reported_with_file_and_field(manifest: str, words: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "plugins" / "train", manifest)
    with pytest.raises(PluginError) as caught:
        read_plugin(folder)
    assert str(caught.value).startswith(f"{folder}/plugin.yaml: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff", "UnicodeDecodeError"),
        (b'a: !!int "abc"', "ValueError"),
        (b'a: !!bool "x"', "KeyError"),
        (b"[" * 20_000, "RecursionError"),
        (GOOD.encode() + b'description: "\\ud800"', "unicode string"),
    ],
)
def test_unreadable_manifest_is_reported_with_file(content: bytes, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "odd") / "plugin.yaml"
    path.write_bytes(content)
    folder = PluginFolder(tmp_path)

    with pytest.raises(PluginError, match=words) as caught:
        folder.find("odd")
    assert str(caught.value).startswith(f"{path}: ")

    path.write_text(GOOD.replace("train", "odd"))
    assert folder.find("odd").lookup == "odd@1", "it is read again once it has changed"


def test_folder_must_be_readable(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="Cannot read the plugin folder"):
        PluginFolder(tmp_path / "missing").read()


def test_release_in_several_folders_is_an_error(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name)

    with pytest.raises(PluginError, match="train@1 is in several folders"):
        PluginFolder(tmp_path).find("train@1")


def test_plugin_is_found_by_release_and_unique_name(tmp_path: Path) -> None:
    folder = PluginFolder(tmp_path)
    write(tmp_path / "one")
    (tmp_path / "no plugin").mkdir()
    assert folder.find("train").lookup == folder.find("train@1").lookup == "train@1"

    write(tmp_path / "two", GOOD.replace("'1'", "'2+gpu'"))
    assert folder.find("train@2+gpu").folder == tmp_path / "two"
    with pytest.raises(RayResponseError, match=r"train@1, train@2\+gpu") as caught:
        folder.find("train")
    assert caught.value.status_code == 400
    with pytest.raises(RayResponseError, match="no plugin 'other'") as caught:
        folder.find("other")
    assert caught.value.status_code == 404


def test_plugin_is_found_by_path(tmp_path: Path) -> None:
    folder = PluginFolder(tmp_path / "plugins")
    inside, outside = write(tmp_path / "plugins" / "a"), write(tmp_path / "b")
    assert [folder.find_by_path(path).folder for path in ("a", str(inside), str(outside), "../b")] == [inside] * 2 + [
        outside
    ] * 2
    for path in ("none", "", "/", "a\0b"):
        with pytest.raises(RayResponseError, match=r"has no plugin\.yaml"):
            folder.find_by_path(path)


def test_submission_of_a_run() -> None:
    plugin = PluginFolder(EXAMPLE_PLUGINS).find("train")
    order = RunRequest(action="train", params={"a": "é $HOME ${PATH}"}, job_id="j-1", language="ko")

    assert build_submission(plugin, order) == {
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


def test_run_without_id_gets_unique_id() -> None:
    plugin = PluginFolder(EXAMPLE_PLUGINS).find("train")
    ids = {build_submission(plugin, RunRequest(action="train"))["submission_id"] for _ in range(9)}
    assert len(ids) == 9
    assert all(each.startswith("train-") for each in ids)
