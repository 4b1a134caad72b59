"""The alert rules, in a real Prometheus."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.docs.conftest import PAGES, ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.full
RULES = PAGES / "prometheus-alerts.yml"


@pytest.fixture(scope="module")
def promtool() -> str:
    """The path of Prometheus's own tool, which ``.ci/run --all`` fetches."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool of Prometheus is not in the PATH")
    return found


def test_prometheus_loads_the_rules(promtool: str) -> None:
    run(promtool, "check", "rules", RULES)


def test_the_rules_fire_when_they_should(promtool: str, tmp_path: Path) -> None:
    text = (ROOT / "tests" / "docs" / "alert_rules_test.yml").read_text(encoding="utf-8")
    path = tmp_path / "alert_rules_test.yml"
    path.write_text(text.replace("RULES", str(RULES)), encoding="utf-8")
    run(promtool, "test", "rules", path)
