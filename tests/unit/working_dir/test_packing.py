"""The package of a ``working_dir``: reproducible, named by its content, within Ray's limits."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import stat
import tempfile
import threading
import tracemalloc
import zipfile
from typing import IO, TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.working_dir import packing
from airflow_provider_rayagent.working_dir.folder_walk import Entry
from airflow_provider_rayagent.working_dir.packing import MAX_BYTES, pack
from tests.unit.working_dir.trees import contents_of, plant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TREE = {
    "main.py": "print(1)\n",
    "lib/a.py": "x" * 10_000,
    "lib/é b.txt": "é",
    "lib/empty/": "",
    "run.sh": "#!/bin/sh\n",
}


SWAPS = [("main.py", "other"), ("run.sh", "main.py"), ("other", "run.sh")]


def packed(path: Path) -> tuple[str, bytes]:
    """Return the name of a package, and its bytes."""
    with pack(path, root=path) as package:
        content = package.file.read()
        assert package.size == len(content)
        return package.name, content


def refusal(path: Path, excludes: object = None) -> str:
    with pytest.raises(RayAgentInputError) as raised, pack(path, root=path, excludes=excludes):
        pass
    assert raised.value.code is Code.WORKING_DIR
    return raised.value.detail


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plant(tmp_path / "x", TREE)
    (tmp_path / "x/run.sh").chmod(0o744)
    return tmp_path / "x"


def test_a_package_contains_the_files_without_a_top_folder(folder: Path) -> None:
    with pack(folder, root=folder) as package:
        assert contents_of(package.file) == {
            name: b"" if name.endswith("/") else (folder / name).read_bytes() for name in sorted(TREE)
        }
        assert package.files == 4
        assert re.fullmatch(r"rayagent_[0-9a-f]{64}\.zip", package.name)
        assert package.uri == f"gcs://{package.name}"


def test_ray_unpacks_a_package(folder: Path, tmp_path: Path) -> None:
    packaging = pytest.importorskip("ray._private.runtime_env.packaging")
    (tmp_path / "package.zip").write_bytes(packed(folder)[1])
    target = tmp_path / "y"
    packaging.unzip_package(
        str(tmp_path / "package.zip"), str(target), remove_top_level_directory=False, unlink_zip=True
    )
    assert (target / "run.sh").stat().st_mode & 0o777 == 0o755
    assert packed(target) == packed(folder)


def test_modes_are_normalized_and_times_are_fixed(folder: Path) -> None:
    (folder / "main.py").chmod(0o600)
    (folder / "lib/empty").chmod(0o700)
    with pack(folder, root=folder) as package, zipfile.ZipFile(package.file) as archive:
        modes = {info.filename: stat.filemode(info.external_attr >> 16) for info in archive.infolist()}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert modes == {
        "lib/a.py": "-rw-r--r--",
        "lib/empty/": "drwxr-xr-x",
        "lib/é b.txt": "-rw-r--r--",
        "main.py": "-rw-r--r--",
        "run.sh": "-rwxr-xr-x",
    }


def test_two_copies_of_a_folder_have_the_same_package(folder: Path, tmp_path: Path) -> None:
    other = plant(tmp_path / "y", dict(reversed(TREE.items())))
    (other / "run.sh").chmod(0o755)
    for path in other.rglob("*"):
        os.utime(path, (1_000_000, 1_000_000))
    assert packed(other) == packed(folder)
    # With every Python and zlib.
    assert packed(folder)[0] == "rayagent_8ba095664fec7a6a45ab4571e82c86e7fa32e7dfe68e175f685232c0b95d092a.zip"


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "main.py").write_text("print(2)\n"),
        lambda folder: (folder / "main.py").chmod(0o755),
        lambda folder: (folder / "main.py").rename(folder / "main.pyw"),
        lambda folder: (folder / "new").mkdir(),
        lambda folder: [(folder / old).rename(folder / new) for old, new in SWAPS],
    ],
    ids=["content", "mode", "name", "a new folder", "contents of two files"],
)
def test_another_content_has_another_name(folder: Path, change: Callable[[Path], object]) -> None:
    before = packed(folder)[0]
    change(folder)
    assert packed(folder)[0] != before


def test_a_package_can_be_read_several_times_and_leaves_nothing_behind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with pack(folder, root=folder) as package:
        first = package.file.read()
        package.file.seek(0)
        assert package.file.read() == first
        assert list(scratch.iterdir()) == []
    assert package.file.closed
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("tree", [{}, {".git/x": ""}, {"data/x": "", ".rayignore": "*\n"}])
def test_a_folder_without_files_is_refused(tmp_path: Path, tree: dict[str, str]) -> None:
    assert re.search(
        r"The working_dir /\S+/x has no files, or only ignored ones\.", refusal(plant(tmp_path / "x", tree))
    )


def test_a_file_that_grows_or_shrinks_has_the_name_of_what_was_packed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = packing._read
    sizes = iter([12_000, 3])

    def read_and_change(source: IO[bytes], most: int, name: str) -> bytes:
        if name == "lib/a.py":
            with (folder / name).open("r+b") as file:
                file.truncate(next(sizes, 3))
        return read(source, most, name)

    monkeypatch.setattr(packing, "_read", read_and_change)
    grown, content = packed(folder)
    assert contents_of(io.BytesIO(content))["lib/a.py"] == b"x" * 10_000
    (folder / "lib/a.py").write_text("x" * 10_000)
    shrunk, content = packed(folder)
    assert contents_of(io.BytesIO(content))["lib/a.py"] == b"xxx"
    monkeypatch.undo()
    assert packed(folder)[0] == shrunk
    (folder / "lib/a.py").write_text("x" * 10_000)
    assert packed(folder)[0] == grown


def test_a_file_that_disappears_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanishing(*_: Any, **__: Any) -> Iterator[Entry]:
        yield Entry("gone", folder / "gone")

    monkeypatch.setattr(packing, "walk", vanishing)
    assert refusal(folder).startswith("gone of the working_dir cannot be read: No such file or directory.")


def write_noise(path: Path, size: int) -> None:
    """Write a file that cannot be compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.Random(size).randbytes(size))


def test_a_large_folder_is_refused_with_its_largest_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_BYTES", MAX_BYTES // 100)
    folder = plant(tmp_path / "x", {"main.py": "", "zeros": b"\0" * 10_000, "a\n/b": b"x" * 5_000, "c/": ""})
    write_noise(folder / "data/1", 600_000)
    write_noise(folder / "data/2", 500_000)
    with (folder / "huge").open("wb") as file:
        file.truncate(10**13)  # Sparse. To read it would take hours.
    message = refusal(folder)
    assert message == (
        f"The package of the working_dir {folder} is too large: Ray's dashboard accepts at most 104,857,600 bytes "
        "(100 MiB). The 6 files have 10,000,001,115,000 bytes before compression; the largest are:\n"
        "  10,000,000,000,000 bytes  huge\n"
        "          600,000 bytes  data/1\n"
        "          500,000 bytes  data/2\n"
        "           10,000 bytes  zeros\n"
        "            5,000 bytes  a\\x0a/b\n"
        "Exclude files that the job does not need (.rayignore), or upload a .zip file to where the cluster can download"
        " it, and give its URI, such as s3://bucket/project.zip."
    )


def test_a_large_file_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_BYTES", 1_000_000)
    write_noise(tmp_path / "x/a", 20_000_000)
    read, sizes = packing._read, []

    def counted(source: IO[bytes], most: int, name: str) -> bytes:
        chunk = read(source, most, name)
        sizes.append(len(chunk))
        return chunk

    monkeypatch.setattr(packing, "_read", counted)
    assert "is too large" in refusal(tmp_path / "x")
    assert sum(sizes) < 2_000_000


def test_a_package_of_exactly_the_limit_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plant(tmp_path / "x", {"a": "x" * 1000, "b": "y", "c/": ""})
    size = len(packed(folder)[1])
    monkeypatch.setattr(packing, "MAX_BYTES", size)
    assert len(packed(folder)[1]) == size
    monkeypatch.setattr(packing, "MAX_BYTES", size - 1)
    assert "is too large" in refusal(folder)


def test_what_is_excluded_does_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = packed(folder)
    monkeypatch.setattr(packing, "MAX_BYTES", len(expected[1]))
    write_noise(folder / "data/noise", 10_000)
    with pack(folder, root=folder, excludes=["data/"]) as package:
        assert (package.name, package.file.read()) == expected
    message = refusal(folder, ["main.py"])
    assert "  10,000 bytes  data/noise" in message
    assert "main.py" not in message
    assert refusal(folder, ["*"]).endswith(" has no files, or only ignored ones.")


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plant(tmp_path / "x", {"a": "", "b": "", "c/": ""})
    monkeypatch.setattr(packing, "MAX_FILES", 3)
    assert packed(folder)
    (folder / "d").touch()
    assert "has more than 3 files. Exclude files that the job does not need (.rayignore)" in refusal(folder)


def test_a_large_folder_of_many_files_lists_the_first_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plant(tmp_path / "x", {"a": "", "b": "bb", "c": "c"})
    monkeypatch.setattr(packing, "MAX_FILES", 2)
    monkeypatch.setattr(packing, "MAX_BYTES", 10)
    assert "The first 2 files have 2 bytes" in refusal(folder)


def test_memory_does_not_depend_on_the_size(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    write_noise(folder / "a", 20_000_000)
    tracemalloc.start()
    try:
        with pack(folder, root=folder):
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def zip_file(path: Path, tree: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in tree.items():
            archive.writestr(name, content)
    return path


def test_a_zip_file_is_sent_as_it_is(tmp_path: Path) -> None:
    path = zip_file(tmp_path / "x.zip", {"a/": "", "a/main.py": "x", "b": ""})
    with pack(path, root=tmp_path) as package:
        content = package.file.read()
        assert content == path.read_bytes()
        assert package.size == len(content)
        assert package.files == 2
        assert package.name == f"rayagent_{hashlib.sha256(content).hexdigest()}.zip"
        path.write_bytes(b"changed meanwhile")
        package.file.seek(0)
        assert package.file.read() == content


def test_a_zip_file_with_excludes_is_refused(tmp_path: Path) -> None:
    path = zip_file(tmp_path / "x.zip", {"main.py": "", "secret": ""})
    assert refusal(path, ["secret"]) == (
        f"The working_dir {path} is a .zip file, of which excludes can leave out nothing: give the folder, or a .zip "
        "file without these files."
    )
    with pack(path, root=None, excludes=[]) as package:
        assert package.files == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"The working_dir /\S+/x\.zip is not a valid \.zip file: File is not a zip file\."),
        (b"PK\x05\x06" + bytes(18), r"The working_dir /\S+/x\.zip has no files\."),
        (b"PK\x05\x06" + bytes(8) + b"\xff" * 10, r"is not a valid \.zip file: .*\."),
    ],
)
def test_an_empty_or_damaged_zip_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    assert re.search(words, refusal(tmp_path / "x.zip"))


def test_a_large_zip_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = zip_file(tmp_path / "x.zip", {"a": ""})
    os.truncate(path, 10**13)
    assert refusal(path) == (
        f"The working_dir {path} has 10,000,000,000,000 bytes; Ray's dashboard accepts at most 104,857,600 bytes "
        "(100 MiB). Upload it to where the cluster can download it, and give its URI, such as s3://bucket/project.zip."
    )


def test_a_zip_file_of_the_limit_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", bytes(MAX_BYTES - 100))
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"x" * (MAX_BYTES - path.stat().st_size)
    assert path.stat().st_size == MAX_BYTES
    with pack(path, root=None) as package:
        assert package.size == MAX_BYTES


def test_several_threads_can_pack_one_folder(folder: Path) -> None:
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(packed(folder)[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 8
    assert len(set(names)) == 1
