"""Every import is declared, and a declaration that is missing is noticed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.packaging.dependencies import PYPROJECT, issues

if TYPE_CHECKING:
    from pathlib import Path

TEXT = PYPROJECT.read_text(encoding="utf-8")


def declared(name: str) -> list[str]:
    """Return the lines of a list of dependencies."""
    (block,) = re.findall(rf"^{name} = \[\n(.*?)^\]", TEXT, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r'^ +".*\n', block, flags=re.MULTILINE)


BASE = declared("dependencies")
NOT_IMPORTED = ("ray[", "websockets")
EXTRA = [line for line in declared("local") if not any(f'"{name}' in line for name in NOT_IMPORTED)]
"""Those that the package itself imports."""


def issues_with(text: str, folder: Path) -> list[str]:
    config = folder / "pyproject.toml"
    config.write_text(text, encoding="utf-8")
    return issues(config)


def test_every_import_is_declared_and_every_dependency_imported() -> None:
    assert issues() == []


@pytest.mark.parametrize("line", [*BASE, *EXTRA], ids=str.strip)
def test_a_dependency_that_is_not_declared_is_noticed(line: str, tmp_path: Path) -> None:
    assert any("imported but" in issue for issue in issues_with(TEXT.replace(line, ""), tmp_path))


@pytest.mark.parametrize("line", BASE, ids=str.strip)
def test_what_only_the_extra_declares_is_not_for_the_rest_of_the_package(line: str, tmp_path: Path) -> None:
    text = TEXT.replace(line, "").replace("local = [\n", f"local = [\n{line}")
    assert any("imported but" in issue for issue in issues_with(text, tmp_path))


def test_a_dependency_that_is_not_imported_is_noticed(tmp_path: Path) -> None:
    text = TEXT.replace("dependencies = [\n", 'dependencies = [\n    "colorama",\n')
    assert any("'colorama'" in issue for issue in issues_with(text, tmp_path))
