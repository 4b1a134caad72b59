"""Figures that tests measure, printed below the test report, and the thoroughness of random tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from typing import Any

IN_CI = bool(os.environ.get("CI"))

_figures: list[str] = []


def figure(text: str) -> None:
    """Print a line below the report."""
    _figures.append(text)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the figures to the controller, in a worker of pytest-xdist."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = _figures


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Receive the figures of a worker of pytest-xdist."""
    _figures.extend(getattr(node, "workeroutput", {}).get("figures", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures, once."""
    if _figures:
        terminalreporter.section("figures of the log tail")
        for text in _figures:
            terminalreporter.write_line(text)
        _figures.clear()


def load_profile() -> None:
    """Make Hypothesis deterministic and thorough in CI."""
    common = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    settings.register_profile("rayagent", common, max_examples=100)
    settings.register_profile("rayagent-ci", common, max_examples=300, derandomize=True, database=None)
    settings.load_profile("rayagent-ci" if IN_CI else "rayagent")
