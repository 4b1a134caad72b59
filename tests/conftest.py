"""What holds for all suites: none goes on over servers that have died, and none leaves servers behind."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.runner.environments import CONSTRAINT_VARIABLES
from tests.stack.browser import save_open_pages
from tests.stack.pictures import Pictures
from tests.stack.watch import ServerDiedError, check_servers, end_servers

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

pytest_plugins = ["tests.selection"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-pictures", action="store_true", help="store the pictures of the documentation again")
    parser.addoption("--update-records", action="store_true", help="store again what Ray answers about failed jobs")


@pytest.fixture(scope="session")
def pictures(pytestconfig: pytest.Config) -> Pictures:
    return Pictures(update=pytestconfig.getoption("--update-pictures"))


# They are for the installation of environments. Their paths are relative, and the uv with which Ray installs what a job
# requires runs in another folder.
for _name in CONSTRAINT_VARIABLES:
    os.environ.pop(_name, None)


def pytest_configure() -> None:
    """Let TERM end the fixtures too, as Ctrl-C does: by default it ends this process, and its servers stay."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end)


def pytest_unconfigure() -> None:
    """End the servers that are left: if a signal interrupts the end of a fixture, pytest forgets the other fixtures."""
    end_servers()


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)
    pytest.exit(f"ended by {signal.Signals(number).name}", 128 + number)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Save the pages of a failed test, and end the run if it leaves a dead server: every later test would fail for it.

    A wait that ran out, or a dead server of this test only, which is not watched any more, says nothing of other tests.
    """
    report = yield
    if call.excinfo is None:
        return report
    if report.failed:
        save_open_pages()
    try:
        check_servers()
    except ServerDiedError as error:
        report.sections.append(("A server has died", str(error)))
        item.session.shouldfail = f"{item.nodeid} needs servers that are of no use any more; its error says why"
    return report
