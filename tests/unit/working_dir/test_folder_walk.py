"""Which files of a ``working_dir`` are packed: symbolic links, special files, odd names; a comparison with Ray."""

from __future__ import annotations

import inspect
import os
import shutil
import socket
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.working_dir import packing
from airflow_provider_rayagent.working_dir.folder_walk import MAX_LINKED_FOLDERS, walk
from airflow_provider_rayagent.working_dir.packing import pack
from tests.unit.working_dir.trees import names_in, plant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def test_files_and_empty_folders_are_sorted(tmp_path: Path) -> None:
    tree = {"b": "", "a/b/c": "", "a/B": "", "é/": "", "c/d/": "", "a.b": "", "-x": "", ".hidden": ""}
    names = ["-x", ".hidden", "a/B", "a/b/c", "a.b", "b", "c/d/", "é/"]
    assert names_in(plant(tmp_path / "x", tree)) == names


def test_symbolic_links_in_the_bundle_are_packed_as_what_they_lead_to(tmp_path: Path) -> None:
    tree = {
        "shared/lib/a.py": "",
        "shared/one.py": "",
        "job/lib": "->../shared/lib",
        "job/main.py": "->../shared/one.py",
        "job/twice": "->lib",
        "job/absolute": f"->{tmp_path}/shared/lib",
    }
    folder = plant(tmp_path, tree) / "job"
    entries = {entry.name: entry.path for entry in walk(folder, root=tmp_path)}
    assert entries == {
        "absolute/a.py": tmp_path / "shared/lib/a.py",
        "lib/a.py": tmp_path / "shared/lib/a.py",
        "main.py": tmp_path / "shared/one.py",
        "twice/a.py": tmp_path / "shared/lib/a.py",
    }


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("a", "../../outside/file", r"a of the working_dir is a symbolic link that leads out of /\S+/bundle"),
        ("b/c", "/etc", r"b/c of the working_dir is a symbolic link that leads out of"),
        ("a", "../../outside/nothing", r"leads out of"),
        ("a", "../inside", r"leads out of"),
        ("a", "nothing", r"a of the working_dir is a symbolic link to a file that does not exist"),
        ("a", "a", r"a of the working_dir cannot be read: Too many levels of symbolic links"),
        ("b/c/d", "../..", r"b/c/d/ of the working_dir is a symbolic link to a folder that it is in"),
        ("b/c/d", "..", r"b/c/d/ of the working_dir is a symbolic link to a folder that it is in"),
        ("b", "../other", r"b/back/ of the working_dir is a symbolic link to a folder that it is in"),
    ],
)
def test_other_symbolic_links_are_refused(tmp_path: Path, name: str, target: str, words: str) -> None:
    tree = {"outside/file": "", "bundle/inside": "->../outside", "bundle/other/back": "->../job", "bundle/job/x": ""}
    bundle = plant(tmp_path, tree) / "bundle"
    plant(bundle / "job", {name: f"->{target}"})
    with pytest.raises(RayAgentInputError, match=words + r".*\. Change or ignore it \(\.rayignore\)\."):
        names_in(bundle / "job", root=bundle)


@pytest.mark.parametrize("target", ["/etc", "nothing", "link", "."])
def test_a_symbolic_link_that_is_ignored_may_lead_anywhere(tmp_path: Path, target: str) -> None:
    folder = plant(tmp_path / "x", {".rayignore": "link\n", "link": f"->{target}", "venv": f"->{target}"})
    assert names_in(folder) == [".rayignore"]
    # Without a bundle, each may.
    outside = plant(tmp_path, {"outside/file": "", "y/link": "->../outside"}) / "y"
    assert [entry.name for entry in walk(outside, root=None)] == ["link/file"]


def test_special_files_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plant(tmp_path / "x", {"a": "", "b/": "", "link": "->fifo"})
    os.mkfifo(folder / "fifo")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        assert names_in(folder) == ["a", "b/"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"a/\xff\n.py", r"a/\\udcff\\x0a\.py of the working_dir has a name that is not UTF-8"),
        (b"a\\b", r"a\\b of the working_dir has a name that Ray does not unpack"),
        (b"c:d/e", r"c:d of the working_dir has a name that Ray does not unpack"),
        (b"\x1b[2J\\", r"\\x1b\[2J\\ of the working_dir has a name"),
    ],
)
def test_names_that_ray_does_not_unpack_are_refused(tmp_path: Path, name: bytes, words: str) -> None:
    path = Path(os.fsdecode(bytes(tmp_path) + b"/x/" + name))
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(RayAgentInputError, match=words):
        names_in(tmp_path / "x")
    (tmp_path / "x/.rayignore").write_text("*\n")
    assert names_in(tmp_path / "x") == []


@pytest.fixture
def unreadable() -> Iterator[Path]:
    """Return a folder that the test, which may run as root, reads as another user."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    user = os.geteuid()
    try:
        yield folder
    finally:
        os.seteuid(user)
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["folder", ".gitignore"])
def test_what_cannot_be_read_is_refused(unreadable: Path, name: str) -> None:
    plant(unreadable, {"folder/a": "", ".gitignore": ""})
    (unreadable / name).chmod(0)
    if os.geteuid() == 0:
        os.seteuid(65534)
    with pytest.raises(RayAgentInputError, match=rf"{name}/? of the working_dir cannot be read: Permission denied"):
        names_in(unreadable)


def test_folders_may_be_nested_deeper_than_calls(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    (folder / ("d/" * 200)).mkdir(parents=True)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        assert names_in(folder) == ["d/" * 200]
    finally:
        sys.setrecursionlimit(limit)


def packed_by_ray(folder: Path, target: Path, excludes: Sequence[str] = ()) -> set[str]:
    """Return the names in the package that Ray's client makes for ``ray job submit --working-dir``."""
    packaging = pytest.importorskip("ray._private.runtime_env.packaging")
    defaults = [".git", ".venv", "venv", "__pycache__"]
    packaging._zip_files(str(folder), [*defaults, *excludes], str(target), include_gitignore=True)
    with zipfile.ZipFile(target) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize(
    "tree",
    [
        {"a.py": "", "b/c.py": "", "b/d/e.txt": "", ".hidden": "", "b/.x": ""},
        {"a/": "", "b/c/": "", "d/e": "", "d/f/": ""},
        {
            ".git/config": "",
            "a/.git/config": "",
            ".venv/x": "",
            "a/venv/x": "",
            "a/__pycache__/b.pyc": "",
            "a/b.py": "",
        },
        {".gitignore": "*.bin\n/data\n", "a.bin": "", "b/c.bin": "", "data/x": "", "b/data/x": ""},
        {".rayignore": "data/\n!*.py\n", "data/x": "", "data/y.txt": "", "b/data": ""},
        {"a/.gitignore": "*.log\n/b\n", "a/x.log": "", "a/b/c": "", "a/c/b": "", "x.log": ""},
        {".gitignore": "data/*\n!data/keep\n", "data/x": "", "data/keep": ""},
        {".gitignore": "a\n", ".rayignore": "b\n", "a/x": "", "b/x": "", "c": ""},
        {".gitignore": "x\n", "a/x": "", "b": ""},
        {"a/b": "", "c": "->a/b", "d": "->a"},
    ],
)
def test_ray_s_client_packs_the_same_files(tmp_path: Path, tree: dict[str, Any]) -> None:
    folder = plant(tmp_path / "x", tree)
    assert set(names_in(folder)) == packed_by_ray(folder, tmp_path / "ray.zip")


@pytest.mark.parametrize(
    ("tree", "ours", "ray"),
    [
        # Ray leaves out fewer caches.
        ({"a": "", ".mypy_cache/x": ""}, {"a"}, {"a", ".mypy_cache/x"}),
        # Here as in git, and in Ray not: a later file includes again what an earlier one ignores, …
        ({".gitignore": "*.bin\n", ".rayignore": "!a.bin\n", "a.bin": ""}, {"a.bin"}, set()),
        ({".gitignore": "*.bin\n", "b/.gitignore": "!a.bin\n", "b/a.bin": ""}, {"b/a.bin"}, set()),
        # … nothing in an ignored folder can be included again, …
        ({".gitignore": "data/\n!data/keep\n", "data/keep": ""}, set(), {"data/keep"}),
        # … "data/" ignores an empty folder, …
        ({".gitignore": "data/\n", "data/": ""}, set(), {"data/"}),
        # … and "*" does not ignore the top folder itself.
        ({".gitignore": "*\n!*.py\n!.gitignore\n", "a.py": "", "b": ""}, {"a.py"}, set()),
        # Ray leaves out links that lead to nothing; here they are refused, if they are not ignored.
        ({".gitignore": "b\n", "b": "->nothing", "a": ""}, {"a"}, {"a"}),
    ],
)
def test_ray_s_client_packs_other_files(tmp_path: Path, tree: dict[str, Any], ours: set[str], ray: set[str]) -> None:
    folder = plant(tmp_path / "x", tree)
    ignore_files = {"b/.gitignore", ".gitignore", ".rayignore"}
    assert set(names_in(folder)) - ignore_files == ours
    assert packed_by_ray(folder, tmp_path / "ray.zip") - ignore_files == ray


@pytest.mark.parametrize(
    ("excludes", "packed"),
    [
        (["*.csv"], {"a.py", "data/x", "data/keep", "lib/data/x", "secret/key"}),
        (["/data/*", "!/data/keep"], {"a.py", "b.csv", "data/keep", "lib/c.csv", "lib/data/x", "secret/key"}),
        (["data/*"], {"a.py", "b.csv", "lib/c.csv", "lib/data/x", "secret/key"}),
        (["data", "secret/key", "*.csv", "!b.csv"], {"a.py", "b.csv"}),
        (["!*.log", "!ignored"], {"a.py", "b.csv", "data/x", "data/keep", "lib/c.csv", "lib/data/x", "secret/key"}),
        (["secret/", "lib/"], {"a.py", "b.csv", "data/x", "data/keep"}),
    ],
)
def test_excludes_leave_out_more_as_in_ray(tmp_path: Path, excludes: list[str], packed: set[str]) -> None:
    names = ["a.py", "b.csv", "data/x", "data/keep", "lib/c.csv", "lib/data/x", "secret/key", "d.log", "lib/ignored"]
    tree = {**dict.fromkeys(names, ""), ".gitignore": "*.log\n!b.csv\n!secret/\n", "lib/.rayignore": "ignored\n"}
    folder = plant(tmp_path / "x", tree)
    found = {name for name in names_in(folder, excludes=excludes) if not name.endswith("ignore")}
    assert found == packed
    by_ray = packed_by_ray(folder, tmp_path / "ray.zip", excludes)
    assert {name for name in by_ray if not name.endswith(("ignore", "/"))} == packed


def test_two_links_to_folders_in_each_folder_are_soon_refused(tmp_path: Path) -> None:
    tree = {f"{level}/{name}": f"->../{level + 1}" for level in range(40) for name in "ab"}
    folder = plant(tmp_path, {**tree, "40/": ""})
    with pytest.raises(
        RayAgentInputError, match=f"is one of more than {MAX_LINKED_FOLDERS:,} symbolic links to folders"
    ):
        names_in(folder / "0", root=folder)


@pytest.mark.parametrize("swapped", ["x/a/secret", "x/a", "x"])
def test_what_becomes_a_link_while_it_is_packed_is_not_read(
    tmp_path: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = plant(tmp_path / "outside", {"x/a/secret": "s3cret"})
    root = plant(tmp_path / "bundle", {"x/a/secret": "public"})

    def swap(*arguments: Any, **options: Any) -> Any:
        for entry in walk(*arguments, **options):
            (root / swapped).rename(tmp_path / "before")
            (root / swapped).symlink_to(outside / swapped)
            yield entry

    monkeypatch.setattr(packing, "walk", swap)
    with (
        pytest.raises(RayAgentInputError, match="a/secret of the working_dir cannot be read"),
        pack(root / "x", root=root),
    ):
        pass


@pytest.mark.parametrize("swapped", ["x/a", "x"])
def test_a_folder_that_becomes_a_link_is_not_listed(tmp_path: Path, swapped: str) -> None:
    outside = plant(tmp_path / "outside", {"x/a/secret": ""})
    root = plant(tmp_path / "bundle", {"x/0": "", "x/a/b": ""})
    entries = walk(root / "x", root=root)
    assert next(entries).name == "0"
    (root / swapped).rename(tmp_path / "before")
    (root / swapped).symlink_to(outside / swapped)
    with pytest.raises(RayAgentInputError, match="a/ of the working_dir cannot be read"):
        next(entries)
