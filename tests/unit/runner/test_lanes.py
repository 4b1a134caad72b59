"""Suites side by side: what fails, what may pass at the second try, and what ends the run. With real processes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.runner import lanes
from tests.runner.lanes import MAX_SECOND_TRIES, Run
from tests.runner.processes import Processes
from tests.runner.suites import Suite

if TYPE_CHECKING:
    from pathlib import Path

PASSES = "def test_passes(): pass\n"
FAILS = "def test_fails(): assert 1 == 2, 'never'\n"
PASSES_LATER = """
from pathlib import Path
def test_passes_later():
    seen = Path(__file__).with_suffix(".seen")
    assert seen.exists() or seen.write_text("") is None and False, "not yet"
"""
CRASHES_ONCE = """
import os
from pathlib import Path
def test_crashes_once():
    seen = Path(__file__).with_suffix(".seen")
    if not seen.exists():
        seen.touch()
        os._exit(3)
"""
COUNTS = """
from pathlib import Path
def test_counts():
    with Path(__file__).with_suffix(".count").open("a") as file:
        file.write("x")
"""
WAITS = """
import time
def test_waits():
    time.sleep(3600)
"""


@pytest.fixture(autouse=True)
def _without_tox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run this Python's pytest in place of that of an environment, whose creation always succeeds."""

    def command(_subcommand: str, env: str, *options: str, **_: Any) -> list[str]:
        if "pytest" not in options:
            return [sys.executable, "-c", f"raise SystemExit({env == 'broken'})"]
        arguments = options[options.index("pytest") + 1 :]
        return [sys.executable, "-m", "pytest", "-p", "tests.selection", f"--rootdir={tmp_path}", *arguments]

    # They take longer to import than the tests.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr(lanes, "tox_command", command)
    monkeypatch.setattr(lanes, "REPORTS", tmp_path / "reports")
    (tmp_path / "reports").mkdir()


def suite(folder: Path, name: str, code: str, **options: Any) -> Suite:
    file = folder / f"test_{name}.py"
    file.write_text(code, encoding="utf-8")
    return Suite(name, (str(file),), **options)


def play(*suites: Suite, full: bool = False) -> Run:
    run = Run(suites, Processes(), full=full)
    run.play()
    return run


def test_a_test_that_passes_at_the_second_try_is_named_and_the_others_do_not_run_again(tmp_path: Path) -> None:
    run = play(suite(tmp_path, "servers", PASSES_LATER + COUNTS + PASSES))
    assert run.is_green()
    assert run.totals() == "3 passed, 0 failed, 0 skipped"
    assert (tmp_path / "test_servers.count").read_text() == "x"
    (line,) = [line for line in run.summary() if "second try" in line]
    assert line == "passed at the second try: test_servers.py::test_passes_later: AssertionError: not yet"


def test_a_suite_that_stays_red_ends_the_run(tmp_path: Path) -> None:
    run = play(
        suite(tmp_path, "red", FAILS + PASSES),
        suite(tmp_path, "other", WAITS, lane="long"),
        suite(tmp_path, "later", PASSES),
    )
    assert not run.is_green()
    assert set(run.results) == {"red", "other"}
    assert run.results["other"].remark
    assert run.summary()[-1] == "failed: test_red.py::test_fails: AssertionError: never"
    assert "later  not run" in run.summary()


def test_the_full_check_goes_on_after_a_red_suite(tmp_path: Path) -> None:
    run = play(suite(tmp_path, "red", FAILS), suite(tmp_path, "later", PASSES), full=True)
    assert not run.is_green()
    assert run.totals() == "1 passed, 1 failed, 0 skipped"


def test_a_suite_without_servers_is_not_tried_again(tmp_path: Path) -> None:
    run = play(suite(tmp_path, "unit", PASSES_LATER, tried_twice=False))
    assert not run.is_green()
    assert run.totals() == "0 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize("number", [MAX_SECOND_TRIES, MAX_SECOND_TRIES + 1])
def test_only_few_tests_may_pass_at_the_second_try(tmp_path: Path, number: int) -> None:
    suites = [suite(tmp_path, f"servers{n}", PASSES_LATER) for n in range(number)]
    assert play(*suites).is_green() is (number <= MAX_SECOND_TRIES)


def test_what_a_crash_left_out_runs_in_the_second_try(tmp_path: Path) -> None:
    run = play(suite(tmp_path, "servers", CRASHES_ONCE + PASSES))
    assert run.is_green()
    assert {"test_servers.py::test_crashes_once", "test_servers.py::test_passes"} <= set(
        run.results["servers"].outcomes
    )
    assert [line for line in run.summary() if "second try" in line] == [
        "passed at the second try: servers: exit code 3"
    ]


def test_an_environment_that_cannot_be_created_is_red(tmp_path: Path) -> None:
    run = play(suite(tmp_path, "servers", PASSES, env="broken"))
    assert not run.is_green()
    assert "the environment broken could not be created" in run.summary()[0]


def test_a_command_without_a_report_is_one_test() -> None:
    run = play(Suite("lint", env="lint", pytest=False))
    assert run.is_green()
    assert run.totals() == "1 passed, 0 failed, 0 skipped"
