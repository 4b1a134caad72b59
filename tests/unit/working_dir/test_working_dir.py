"""Which values of ``working_dir`` are accepted."""

from __future__ import annotations

import io
import os
import zipfile
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.services.package_uri import is_uri, validate_uri
from airflow_provider_rayagent.working_dir.source import find_working_dir
from tests.unit.working_dir.trees import plant

if TYPE_CHECKING:
    from pathlib import Path


def a_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("main.py", "print()")
    return file.getvalue()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    plant(tmp_path, {"outside/main.py": "", "outside.zip": a_zip()})
    return plant(
        tmp_path / "bundle",
        {
            "dags/dag.py": "",
            "dags/job/main.py": "",
            "dags/job.zip": a_zip(),
            "dags/text.zip": "no zip",
            "dags/zip.txt": a_zip(),
            "dags/inside": "->../shared",
            "dags/outside": "->../../outside",
            "dags/loop": "->loop",
            "shared/main.py": "",
        },
    )


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("job", "dags/job"),
        ("./job/", "dags/job"),
        (".", "dags"),
        ("..", ""),
        ("../shared", "shared"),
        ("inside", "shared"),
        ("job.zip", "dags/job.zip"),
    ],
)
def test_a_path_is_relative_to_the_folder_of_the_dag_file(bundle: Path, value: str, found: str) -> None:
    assert find_working_dir(value, dag_folder=bundle / "dags", root=bundle) == bundle / found


def test_an_absolute_path_a_link_to_the_bundle_and_any_path_without_one_are_accepted(bundle: Path) -> None:
    assert find_working_dir(str(bundle / "shared"), dag_folder=bundle / "dags", root=bundle) == bundle / "shared"
    link = bundle.parent / "link"
    link.symlink_to(bundle)
    assert find_working_dir("job", dag_folder=link / "dags", root=link) == bundle / "dags/job"
    assert find_working_dir("outside", dag_folder=bundle / "dags", root=None) == bundle.parent / "outside"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("missing", r"'missing' does not exist. A relative path is relative to the folder of the DAG file, /"),
        ("dag.py/job", r"cannot be read: Not a directory"),
        ("loop", r"cannot be read: (Too many levels|a loop) of symbolic links"),
        ("outside", r"'outside' is outside of the DAG bundle, /"),
        ("../../outside", r"is outside of the DAG bundle"),
        ("../../outside.zip", r"is outside of the DAG bundle"),
        ("/", r"is outside of the DAG bundle"),
        ("dag.py", r"must be a folder or a \.zip file"),
        ("text.zip", r"must be a folder or a \.zip file"),
        ("zip.txt", r"must be a folder or a \.zip file"),
        ("fifo", r"must be a folder or a \.zip file"),
        ("a" * 300, r"cannot be read: File name too long"),
        ("", r"must be a non-empty string"),
        (None, r"must be a non-empty string"),
        ("job\n", r"control character"),
    ],
)
def test_other_paths_are_refused(bundle: Path, value: str, words: str) -> None:
    os.mkfifo(bundle / "dags/fifo")
    with pytest.raises(RayAgentInputError, match=words):
        find_working_dir(value, dag_folder=bundle / "dags", root=bundle)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/project.zip",
        "gs://bucket/a/project.tar.gz",
        "https://host/project.tgz?token=x",
        "http://host/project.zip",
        "azure://container/project.tar.xz",
        "abfss://container@account.dfs.core.windows.net/project.zip",
        "file:///mnt/shared/project.zip",
        "gcs://rayagent_0a.zip",
        "S3://bucket/project.zip",
        "local:///srv/project",
    ],
)
def test_a_uri_that_ray_accepts_is_not_changed(uri: str) -> None:
    assert is_uri(uri)
    assert validate_uri(uri) == uri
    # An older Ray accepts fewer.
    pytest.importorskip("ray", minversion="2.60")
    validation = pytest.importorskip("ray._private.runtime_env.validation")
    assert validation.parse_and_validate_working_dir(uri) == uri


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (
            "ftp://host/project.zip",
            r"Ray cannot download the working_dir 'ftp://host/project.zip': use one of abfss://",
        ),
        ("pip://project.zip", r"Ray cannot download"),
        ("s3://bucket/project", r"must be an archive: \.zip, \.tar\.gz, \.tgz, \.tar\.xz\."),
        ("s3://bucket/project.whl", r"must be an archive"),
        ("https://host/?file=project.zip", r"must be an archive"),
        ("https://[host/project.zip", r"is not a valid 'https' URI"),
        ("local://srv/project", r"must be the absolute path of a folder on the cluster's nodes"),
        ("local:///srv/project.zip", r"must be the absolute path of a folder"),
        ("s3://bucket/\x1b.zip", r"control character"),
    ],
)
def test_other_uris_are_refused(uri: str, words: str) -> None:
    assert is_uri(uri)
    with pytest.raises(RayAgentInputError, match=words):
        validate_uri(uri)


def test_the_message_about_a_uri_has_no_secret() -> None:
    with pytest.raises(RayAgentInputError) as raised:
        validate_uri("https://user:s3cret@host/project?token=s3cret#s3cret")
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("value", ["job", "./job", "/srv/job", "job.zip", "C:/job", "a:b", "", "://x"])
def test_a_path_is_not_a_uri(value: str) -> None:
    assert not is_uri(value)
