"""Figures that tests measure, printed below the test report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing import Any

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
