"""The bill of materials in the wheel: what the project declares, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from tests.packaging.conftest import metadata_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def sbom(wheel: Path) -> Any:
    """The wheel's bill of materials."""
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if ".dist-info/sboms/" in name)
        return json.loads(archive.read(name))


def declared(wheel: Path) -> set[tuple[str, str, str]]:
    """Return the name, version range and scope of each declared dependency."""
    requirements = map(Requirement, metadata_of(wheel).get_all("Requires-Dist", []))
    return {
        (
            each.name,
            "vers:pypi/" + "|".join(sorted(map(str, each.specifier))),
            "optional" if "extra ==" in str(each.marker) else "required",
        )
        for each in requirements
    }


def test_names_every_declared_dependency_with_its_versions(sbom: Any, wheel: Path) -> None:
    found = [(each["name"], each["versionRange"], each["scope"]) for each in sbom["components"]]
    assert sorted(found) == sorted(declared(wheel))
    assert {scope for *_, scope in found} == {"required", "optional"}


def test_describes_the_wheel(sbom: Any, wheel: Path) -> None:
    metadata, component = metadata_of(wheel), sbom["metadata"]["component"]
    assert component["purl"] == f"pkg:pypi/{metadata['Name']}@{metadata['Version']}"
    assert component["licenses"] == [{"expression": metadata["License-Expression"]}]


def test_every_reference_leads_to_one_component(sbom: Any) -> None:
    components = [sbom["metadata"]["component"], *sbom["components"]]
    references = [each["bom-ref"] for each in components]
    assert sorted(each["ref"] for each in sbom["dependencies"]) == sorted(set(references)) == sorted(references)
    (own,) = (each for each in sbom["dependencies"] if each.get("dependsOn"))
    assert own["ref"] == references[0]
    assert sorted(own["dependsOn"]) == sorted(references[1:])
