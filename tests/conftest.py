"""What holds for all suites: none goes on over servers that have died."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stack.watch import ServerDiedError, StackError, check_servers

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """End the run after a test whose servers are of no use any more, rather than have every later one wait for them."""
    report = yield
    if call.excinfo is None:
        return report
    unusable = isinstance(call.excinfo.value, StackError)
    try:
        check_servers()
    except ServerDiedError as error:
        unusable = True
        report.sections.append(("A server has died", str(error)))
    if unusable:
        item.session.shouldfail = f"{item.nodeid} needs servers that are of no use any more; its error says why"
    return report
