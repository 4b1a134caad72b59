"""Which tests a run leaves out: those of the full check only, and in a second try those that passed in the first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.level import FULL
from tests.runner.report import NODE_ID, read_report


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of a second try."""
    parser.addoption("--not-passed-in", type=Path, metavar="XML", help="run what did not pass in this JUnit report")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests, and give the others' node ids to the JUnit report."""
    first_try = config.getoption("--not-passed-in")
    outcomes = read_report(first_try) if first_try else {}
    done = {node_id for node_id, (outcome, _) in outcomes.items() if outcome != "failed"}
    chosen: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        item.user_properties.append((NODE_ID, item.nodeid))
        in_full_only = [*item.iter_markers("full"), *map(_checked, item.iter_markers("quarantined"))]
        is_left_out = item.nodeid in done or (in_full_only and not FULL)
        (left_out if is_left_out else chosen).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = chosen


def _checked(mark: pytest.Mark) -> pytest.Mark:
    if not mark.kwargs.get("reason") or not mark.kwargs.get("since"):
        raise pytest.UsageError("quarantined() needs a reason, and since when: quarantined(reason=…, since=…)")
    return mark
