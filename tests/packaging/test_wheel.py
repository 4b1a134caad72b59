"""The wheel: the same bytes from the same source, and the package alone."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import pytest
import yaml  # type: ignore[import-untyped]

from tests.packaging.conftest import ROOT, build_wheel, metadata_of
from tests.runner.environments import LOCKED_PYTHON

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("options", [("--wheel",), ()], ids=["from the checkout", "from the source distribution"])
def test_is_built_reproducibly(wheel: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    again = build_wheel(tmp_path, *options)
    assert again.name == wheel.name
    # pytest would compare long bytes for minutes.
    assert contents_of(again) == contents_of(wheel)
    assert sha256(again.read_bytes()).hexdigest() == sha256(wheel.read_bytes()).hexdigest()


def contents_of(wheel: Path) -> dict[str, str]:
    """Return the digest of each file in a wheel."""
    with ZipFile(wheel) as archive:
        return {name: sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


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
    metadata = metadata_of(wheel)
    assert metadata["Name"] == "airflow-provider-rayagent"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"


def test_the_description_is_the_readme_without_links_that_lead_nowhere_on_the_package_index(wheel: Path) -> None:
    description = str(metadata_of(wheel).get_payload())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]*)\)", description)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
    assert text_of(description) == text_of(readme)


def text_of(markdown: str) -> str:
    """Return a text without its pictures, and with the text of its links only."""
    without_pictures = re.sub(r"!\[[^\]]+\]\([^)]+\)\n\n", "", markdown)
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", without_pictures).strip()


def jobs_of(workflow: str) -> dict[str, Any]:
    """Return the jobs of one of the project's workflows."""
    jobs: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows" / workflow).read_text(encoding="utf-8"))["jobs"]
    return jobs


def pythons_of(job: dict[str, Any]) -> list[str]:
    """Return the versions of Python that a job sets up; the last one is its default."""
    (setup,) = (step["with"] for step in job["steps"] if "setup-python" in step.get("uses", ""))
    versions: str = setup["python-version"]
    return versions.split()


def test_a_release_is_built_with_the_python_for_which_the_tools_have_fixed_versions() -> None:
    assert pythons_of(jobs_of("release.yml")["build"])[-1] == ".".join(map(str, LOCKED_PYTHON))


def test_claims_the_python_versions_that_ci_tests(wheel: Path) -> None:
    jobs = jobs_of("ci.yml")
    tested = {*pythons_of(jobs["landing"]), *jobs["unit"]["strategy"]["matrix"]["python-version"]}
    prefix = "Programming Language :: Python :: 3."
    classifiers = metadata_of(wheel).get_all("Classifier", [])
    assert {each.rpartition(" ")[2] for each in classifiers if each.startswith(prefix)} == tested
