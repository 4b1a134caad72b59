"""Ignore files apply to a ``working_dir`` as git applies ``.gitignore``, and ``excludes`` in addition."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.working_dir.ignore_files import ALWAYS_IGNORED, parse_excludes
from tests.unit.working_dir.trees import names_in, plant

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("tree", "packed"),
    [
        ({".rayignore": "*.bin\n", "a.bin": "", "b/c.bin": "", "b/d": ""}, {"b/d"}),
        ({".gitignore": "/a\n", "a": "", "b/a": ""}, {"b/a"}),
        ({".gitignore": "data/\n", "data/x": "", "b/data": ""}, {"b/data"}),
        ({".gitignore": "data/*\n!data/keep\n", "data/x": "", "data/keep": ""}, {"data/keep"}),
        ({".gitignore": "data/\n!data/keep\n", "data/keep": "", "a": ""}, {"a"}),
        ({".gitignore": "*\n!*/\n!*.py\n", "a.py": "", "b/c/d.py": "", "b/c/d.txt": ""}, {"a.py", "b/c/d.py"}),
        ({".gitignore": "# a\n\\#b\n\n", "a": "", "#b": ""}, {"a"}),
        ({".gitignore": "\ufeffa\r\nb  \r\n", "a": "", "b": "", "c": ""}, {"c"}),
        ({".gitignore": "!\n/\n", "a": "", "b/c": ""}, {"a", "b/c"}),
        ({".gitignore": "\u2028a\n", "a": "", "\u2028a": ""}, {"a"}),
        ({".gitignore": "a[!x]b\n", "a/b": "", "a-b": ""}, {"a/b"}),
        ({".gitignore": "b\n", "a\nc/b": "", "c": ""}, {"c"}),
        ({".gitignore/x": "", ".rayignore/y": ""}, {".gitignore/x", ".rayignore/y"}),
    ],
)
def test_patterns_select_files(tmp_path: Path, tree: dict[str, str], packed: set[str]) -> None:
    names = names_in(plant(tmp_path / "x", tree))
    assert {name for name in names if not name.endswith("ignore")} == packed


@pytest.mark.parametrize("folder", ["b", "b*[x]?", "é b "])
def test_the_patterns_of_a_folder_apply_in_it_and_take_precedence(tmp_path: Path, folder: str) -> None:
    tree = {
        ".gitignore": "*.log\n.env\n",
        f"{folder}/.gitignore": "!keep\n/top\nin/side\n!in/side\nin/out\n",
        f"{folder}/.rayignore": "!ray.log\n",
        f"{folder}/top": "",
        f"{folder}/c/top": "",
        f"{folder}/in/side": "",
        f"{folder}/in/out": "",
        f"{folder}/c/ray.log": "",
        f"{folder}/keep/x.log": "",
        f"{folder}/keep/.env": "",
        "top": "",
        "ray.log": "",
    }
    names = names_in(plant(tmp_path / "x", tree))
    inside = [".gitignore", ".rayignore", "c/ray.log", "c/top", "in/side"]
    assert names == sorted([".gitignore", *(f"{folder}/{name}" for name in inside), "top"])


def test_the_patterns_of_rayignore_take_precedence_over_those_of_gitignore(tmp_path: Path) -> None:
    tree = {".gitignore": "*.bin\n!b.bin\n", ".rayignore": "!a.bin\nb.bin\n", "a.bin": "", "b.bin": "", "c.bin": ""}
    assert names_in(plant(tmp_path / "x", tree)) == [".gitignore", ".rayignore", "a.bin"]


def test_repositories_environments_and_caches_cannot_be_included_again(tmp_path: Path) -> None:
    tree = {f"{where}{name}/x": "" for name in ALWAYS_IGNORED for where in ("", "a/")}
    tree |= {".rayignore": "".join(f"!{name}\n!{name}/x\n" for name in ALWAYS_IGNORED), "a/.git_": "", "a/b/.git": ""}
    assert names_in(plant(tmp_path / "x", tree)) == [".rayignore", "a/.git_"]


TREE = {".gitignore": "a\n/dags/job/b\n/c\n", ".rayignore": "d\n", "dags/.gitignore": "!a\n/job/e/\n"}
FILES = {f"dags/job/{name}": "" for name in ("a", "b", "c", "d", "e/f", "g/a")}


@pytest.mark.parametrize("top", ["repository", "bundle"])
def test_the_gitignore_files_above_the_working_dir_apply(tmp_path: Path, top: str) -> None:
    """Up to the top of the repository, or of the bundle if that is none."""
    plant(tmp_path, {".gitignore": "*\n"})
    folder = plant(tmp_path / "x", TREE | FILES | ({".git/config": ""} if top == "repository" else {}))
    root = folder if top == "bundle" else folder / "dags"
    assert names_in(folder / "dags/job", root=root) == ["a", "c", "d", "g/a"]
    expected = {"repository": ["b", "c", "d", "e/f"], "bundle": ["a", "b", "c", "d", "e/f", "g/a"]}[top]
    (folder / "dags/.gitignore").write_text("")
    (folder / ".gitignore").write_text("a\n" if top == "repository" else "")
    assert names_in(folder / "dags/job", root=root) == expected


def test_a_working_dir_that_is_a_repository_has_the_patterns_of_its_own(tmp_path: Path) -> None:
    folder = plant(tmp_path, {".gitignore": "*\n", ".git/config": "", "x/.git": "gitdir: elsewhere", "x/a": ""}) / "x"
    assert names_in(folder, root=tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("line", "words"), [("[z-a]", "bad character range"), ("[[:alpha:]]", "character classes are not supported")]
)
def test_a_pattern_that_is_not_valid_is_refused(tmp_path: Path, line: str, words: str) -> None:
    folder = plant(tmp_path / "x", {"a/.rayignore": f"b\n{line}\n"})
    with pytest.raises(
        RayAgentInputError, match=r"A pattern in a/\.rayignore of the working_dir is not valid: .*" + words
    ):
        names_in(folder)
    (tmp_path / ".gitignore").write_text(f"{line}\n")
    with pytest.raises(RayAgentInputError, match=rf"A pattern in {tmp_path}/\.gitignore is not valid: .*{words}"):
        names_in(folder, root=tmp_path)


@pytest.mark.parametrize("excludes", [None, [], (), ["", "# *"]])
def test_without_excludes_everything_is_packed(tmp_path: Path, excludes: object) -> None:
    assert names_in(plant(tmp_path / "x", {"a": "", "b/c": ""}), excludes=excludes) == ["a", "b/c"]


def test_a_folder_that_is_excluded_is_not_read(tmp_path: Path) -> None:
    folder = plant(tmp_path / "x", {"a": "", "b/link": "->nothing", "b/.rayignore": "[z-a]\n"})
    assert names_in(folder, excludes=["b/"]) == ["a"]


@pytest.mark.parametrize(
    ("excludes", "words"),
    [
        ("*.csv", r"excludes must be a list of patterns, such as \['\*\.csv', 'data/'\], not '\*\.csv'\."),
        ({"*.csv": True}, r"must be a list of patterns, .*, not \{'\*\.csv': True\}\."),
        (["a", 7], r"must be a list of patterns, .*, not \['a', 7\]\."),
        (7, r"must be a list of patterns, .*, not 7\."),
        (["a", "[z-a]"], r"A pattern in excludes is not valid: \[z-a\]: bad character range"),
        (["[[:alpha:]]"], r"A pattern in excludes is not valid: .*character classes are not supported\."),
    ],
)
def test_excludes_that_are_not_valid_are_refused(excludes: object, words: str) -> None:
    with pytest.raises(RayAgentInputError, match=words):
        parse_excludes(excludes)


NAMES = ("a", "b", "c.py", "d.txt", "data", "x y")
PATTERNS = (
    *("a", "b/", "/a", "*.py", "!*.py", "data/*", "!data/a", "**/b", "a/**", "*", "!*/", "!c.py", "/data/", "d.*"),
    *("a/b", "!a/b/c.py", "[ab]", "?", "# x", "!data/", "b/**/a", "x y", "x\\ y", "*/a", "**/a/", "/*", "a  ", "!/a"),
    *(
        "data/**/",
        "!data/**/",
        "a**",
        "[!a]",
        "[]a]",
        "[a-c]*",
        "\\[ab]",
        "[b\\-d]",
        "**/data/**",
        "**",
        "!**/",
        "***/a",
    ),
)


def grow(folder: Path, rng: random.Random, depth: int) -> None:
    folder.mkdir()
    for name in rng.sample(NAMES, rng.randint(1, 4)):
        if depth and "." not in name and rng.random() < 0.5:
            grow(folder / name, rng, depth - 1)
        else:
            (folder / name).write_text(name)
    if rng.random() < 0.5:
        (folder / ".gitignore").write_text("\n".join(rng.choices(PATTERNS, k=rng.randint(1, 4))))


@pytest.mark.parametrize("seed", range(40))
def test_random_folders_are_read_as_by_git(tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "x"
    grow(folder, random.Random(seed), 3)
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-per-directory=.gitignore"]
    # A folder that is ignored itself can be a working_dir, but git lists nothing in it.
    below = [each for each in folder.rglob("*/") if each.is_dir() and ".git" not in each.parts]
    inner = [each for each in below if subprocess.run(["git", "check-ignore", "-q", each], cwd=folder).returncode]
    for each in (folder, *inner[:2]):
        done = subprocess.run(command, cwd=each, capture_output=True, check=True)
        expected = {name for name in done.stdout.decode().split("\0") if name}
        assert {name for name in names_in(each, root=folder) if not name.endswith("/")} == expected
