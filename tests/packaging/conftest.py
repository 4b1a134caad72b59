"""The built wheel, and an environment that holds Airflow and the wheel only."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from email.parser import Parser
from importlib.metadata import requires, version
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.runner.environments import locked_versions

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).parents[2]
UV = (sys.executable, "-m", "uv")
# The moment that the files in a wheel are dated with: any will do, as long as it is the same.
EPOCH = "1767225600"


def run(*command: str | Path, **variables: str) -> str:
    """Run a command in an environment with more variables; return what it prints."""
    env = {**os.environ, **locked_versions("test"), **variables}
    done = subprocess.run(list(map(str, command)), env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_wheel(folder: Path, *options: str) -> Path:
    """Build the wheel into a folder.

    :param options: what ``uv build`` builds; without ``--wheel``, the wheel comes from the source distribution.
    """
    run(*UV, "build", "--quiet", "--out-dir", folder, *options, SOURCE_DATE_EPOCH=EPOCH)
    (wheel,) = folder.glob("*.whl")
    return wheel


def metadata_of(wheel: Path) -> Message:
    """Return what a wheel says of itself."""
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def supported_airflows() -> list[str]:
    """Return each supported minor version of Airflow, up to the one used here: ``3.2``."""
    declared = map(Requirement, requires("airflow-provider-rayagent") or ())
    (bound,) = (bound for each in declared if each.name == "apache-airflow" for bound in each.specifier)
    oldest, newest = Version(bound.version), Version(version("apache-airflow"))
    return [f"{newest.major}.{minor}" for minor in range(oldest.minor, newest.minor + 1)]


@dataclass(frozen=True)
class BareAirflow:
    """An environment into which Airflow was installed, then the wheel."""

    folder: Path
    home: Path
    before: frozenset[str]
    after: frozenset[str]
    is_locked: bool

    def pip(self, *arguments: str | Path) -> frozenset[str]:
        """Run pip; return what is installed then."""
        # The versions of the landing check, which is what uv otherwise chooses from here, are those of one Airflow.
        variables = {} if self.is_locked else {"UV_CONSTRAINT": ""}
        run(*UV, "pip", *arguments, "--quiet", "--python", self.folder, **variables)
        return frozenset(run(*UV, "pip", "freeze", "--quiet", "--python", self.folder).splitlines())

    def python(self, code: str) -> str:
        """Run code in this environment's interpreter; return what it prints."""
        return run(self.folder / "bin" / "python", "-c", code, AIRFLOW_HOME=str(self.home))

    def airflow(self, *arguments: str) -> str:
        """Run the command ``airflow``; return what it prints."""
        return run(self.folder / "bin" / "airflow", *arguments, AIRFLOW_HOME=str(self.home), COLUMNS="250")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build_wheel(tmp_path_factory.mktemp("wheel"), "--wheel")


# The older ones only in the full check: what the package index has of them does not depend on this checkout.
@pytest.fixture(
    scope="session",
    params=[
        *(pytest.param(each, marks=pytest.mark.full) for each in supported_airflows()[:-1]),
        supported_airflows()[-1],
    ],
)
def bare(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> BareAirflow:
    """The wheel in an environment that has the newest release of a minor version of Airflow, and nothing else.

    The wheel is installed with every other version fixed, as by Airflow's constraints, which the package index lacks.
    """
    folder = tmp_path_factory.mktemp("bare")
    run(*UV, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    is_locked = request.param == supported_airflows()[-1]
    bare = BareAirflow(folder / "venv", folder / "home", frozenset(), frozenset(), is_locked)
    before = bare.pip("install", f"apache-airflow=={request.param}.*")
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(before), encoding="utf-8")
    after = bare.pip("install", wheel, "--constraint", constraints)
    return replace(bare, before=before, after=after)
