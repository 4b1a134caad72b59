"""The wheel: the same bytes from the same source, and the package alone."""

from __future__ import annotations

from email.parser import Parser
from typing import TYPE_CHECKING
from zipfile import ZipFile

from tests.packaging.conftest import ROOT, build_wheel

if TYPE_CHECKING:
    from pathlib import Path


def test_is_built_reproducibly(wheel: Path, tmp_path: Path) -> None:
    again = build_wheel(tmp_path)
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_holds_the_package_alone(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"airflow_provider_rayagent", next(top for top in tops if top.endswith(".dist-info"))}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_holds_every_module_of_the_checkout_and_every_file_of_the_page(wheel: Path) -> None:
    package = ROOT / "airflow_provider_rayagent"
    expected = {str(path.relative_to(ROOT)) for path in package.rglob("*.py")}
    expected |= {str(path.relative_to(ROOT)) for path in (package / "ui" / "static").iterdir()}
    assert expected <= set(ZipFile(wheel).namelist())


def test_is_marked_as_typed_and_carries_its_license(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        assert "airflow_provider_rayagent/py.typed" in names
        (license_file,) = (name for name in names if name.endswith(".dist-info/licenses/LICENSE"))
        assert archive.read(license_file) == (ROOT / "LICENSE").read_bytes()


def test_describes_itself(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (metadata_file,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(metadata_file).decode())
    assert metadata["Name"] == "airflow-provider-rayagent"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
