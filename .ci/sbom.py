"""A build hook of hatchling that adds a bill of materials to the wheel: ``.dist-info/sboms/`` (PEP 770)."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hatchling.metadata.core import ProjectMetadata


class SbomHook(BuildHookInterface[Any]):
    """Writes the bill of materials of the project's declared dependencies for the time of the build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Write the file and tell hatchling about it."""
        self._folder = Path(tempfile.mkdtemp())
        path = self._folder / f"{self.metadata.core.name}.cdx.json"
        path.write_text(json.dumps(bill_of_materials(self.metadata), indent=2) + "\n", encoding="utf-8")
        build_data["sbom_files"] = [str(path)]

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the file."""
        shutil.rmtree(self._folder)


def bill_of_materials(metadata: ProjectMetadata[Any]) -> dict[str, Any]:
    """Return the bill of materials, in CycloneDX 1.7.

    The wheel contains no third-party code, so it names what the environment must provide, by version range. Without a
    serial number and a time, which would differ between two builds.
    """
    core = metadata.core
    purl = f"pkg:pypi/{core.name}@{metadata.version}"
    # Each once, though two extras may have it.
    extras = dict.fromkeys(requirement for group in core.optional_dependencies.values() for requirement in group)
    components = [*_components(core.dependencies, "required"), *_components(extras, "optional")]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": purl,
                "name": core.name,
                "version": metadata.version,
                "licenses": [{"expression": core.license_expression}],
                "purl": purl,
            }
        },
        "components": components,
        "dependencies": [
            {"ref": purl, "dependsOn": sorted(each["bom-ref"] for each in components)},
            *({"ref": each["bom-ref"]} for each in components),
        ],
    }


def _components(requirements: Iterable[str], scope: str) -> list[dict[str, Any]]:
    found = []
    for requirement in sorted(map(Requirement, requirements), key=lambda each: each.name):
        purl = f"pkg:pypi/{canonicalize_name(requirement.name)}"
        bounds = sorted(f"{each.operator}{quote(each.version)}" for each in requirement.specifier)
        found.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": requirement.name,
                "versionRange": f"vers:pypi/{'|'.join(bounds) or '*'}",
                "isExternal": True,
                "scope": scope,
                "purl": purl,
            }
        )
    return found
