"""Whether the package declares what it imports: ``python -m tests.packaging.dependencies``.

``local/`` may import what its extra declares, the rest only what every installation has. deptry looks at the package
twice, since it knows no extra of a part.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_rayagent"
PYPROJECT = ROOT / "pyproject.toml"
LOOKS = (
    (),
    # As if the extra were of a developer's tools, which the code must not import.
    ("--extend-exclude", f"{PACKAGE}/local/", "--optional-dependencies-dev-groups", "local"),
)


def issues(config: Path = PYPROJECT) -> list[str]:
    """Return what is wrong, a sentence for each import or dependency.

    :param config: the ``pyproject.toml`` that declares the dependencies.
    """
    return [issue for look in LOOKS for issue in _deptry(config, *look)]


def _deptry(config: Path, *arguments: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "deptry", PACKAGE, "--config", config, "--json-output", report, *arguments]
        done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
        if not report.is_file():
            raise RuntimeError(f"deptry failed:\n{done.stdout}\n{done.stderr}")
        found = json.loads(report.read_text(encoding="utf-8"))
    return [f"{each['location']['file']}:{each['location']['line'] or 1}: {each['error']['message']}" for each in found]


if __name__ == "__main__":
    wrong = issues()
    sys.stdout.write("".join(f"{issue}\n" for issue in wrong) or "Every import is declared.\n")
    sys.exit(bool(wrong))
