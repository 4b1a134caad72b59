"""Suites side by side, one in each lane, and once more what did not pass."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from tests.runner.environments import ROOT, WORK, tox_command, variables
from tests.runner.processes import INTERRUPTED, Processes, forwarded_signals
from tests.runner.report import Outcome, count, failures, format_counts, read_report
from tests.runner.suites import NEEDED_IN_FULL, Lane, Suite

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

REPORTS = WORK / "reports"
LANES: tuple[Lane, ...] = get_args(Lane)
MAX_SECOND_TRIES = 3
"""Tests that may pass only the second time, in all suites together. More are a defect of the tests or the machine."""


@dataclass
class Result:
    """What a suite has come to.

    :param outcomes: of its tests, by node id.
    :param at_second_try: the tests that passed only then, with the first line of the error of the first try.
    """

    seconds: float
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    at_second_try: dict[str, str] = field(default_factory=dict)
    remark: str = ""

    @property
    def is_red(self) -> bool:
        """Whether a test failed, or the suite did not run to its end."""
        return bool(self.remark or failures(self.outcomes))


@dataclass(frozen=True)
class Running:
    """A process of a suite, or one that creates an environment."""

    process: subprocess.Popen[bytes]
    log: Path
    began: float


def run_all(suites: Sequence[Suite], *, full: bool = False, remarks: Iterable[str] = ()) -> int:
    """Run suites, print the output of each when it ends, and a summary; return the exit code.

    The first suite that stays red ends the run, except in the full check, whose table is wanted whole.

    :param remarks: further lines of the summary.
    """
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    with forwarded_signals() as processes:
        run = Run(suites, processes, full=full)
        run.play()
    sys.stdout.write("\n" + "\n".join([*run.summary(), *remarks, run.totals()]) + "\n")
    if processes.interrupted:
        return INTERRUPTED
    return 0 if run.is_green() else 1


def environments_needed(suite: Suite, *, full: bool) -> tuple[str, ...]:
    """Return the environments whose interpreters a suite runs, beside its own."""
    return (*suite.needs, *(NEEDED_IN_FULL.get(suite.name, ()) if full else ()))


class Run:
    """One run of suites. Environments are created one after the other, while the suites of the earlier ones run."""

    def __init__(self, suites: Sequence[Suite], processes: Processes, *, full: bool) -> None:
        self.results: dict[str, Result] = {}
        self._suites = suites
        self._processes = processes
        self._full = full
        self._waiting = list(suites)
        self._unprepared = list(dict.fromkeys(env for suite in suites for env in (*self._needs(suite), suite.env)))
        self._codes: dict[str, int] = {}
        """The exit codes of the creation of environments."""
        self._preparing: tuple[str, Running] | None = None
        self._lanes: dict[Lane, tuple[Suite, Running]] = {}
        self._first: dict[str, Result] = {}
        """The first tries of suites that are tried again."""
        self._is_stopped = False

    def play(self) -> None:
        """Run the suites to the end, or until a signal arrives or one stays red."""
        while self._preparing or self._lanes or self._unprepared or self._waiting:
            if self._processes.interrupted:
                self._start_no_more()
            self._prepare()
            for lane in LANES:
                self._play_lane(lane)
            sys.stdout.flush()
            time.sleep(0.2)

    def is_green(self) -> bool:
        """Return whether all suites ran and all tests passed, few of them at the second try only."""
        results = [self.results.get(suite.name) for suite in self._suites]
        return all(result and not result.is_red for result in results) and self._second_tries() <= MAX_SECOND_TRIES

    def summary(self) -> list[str]:
        """Return a line for each suite, each test that passed at the second try, and each failed test."""
        lines = []
        width = max(len(suite.name) for suite in self._suites)
        for suite in self._suites:
            if result := self.results.get(suite.name):
                counts = format_counts(count(result.outcomes.values()))
                lines.append(f"{suite.name:<{width}}{result.seconds:>7.0f} s  {counts}{result.remark}")
            else:
                lines.append(f"{suite.name:<{width}}  not run")
        for result in self.results.values():
            lines += [f"passed at the second try: {test}: {why}" for test, why in result.at_second_try.items()]
        if self._second_tries() > MAX_SECOND_TRIES:
            lines.append(f"failed: more than {MAX_SECOND_TRIES} tests passed only at the second try")
        for result in self.results.values():
            lines += [f"failed: {test}: {why}" for test, why in failures(result.outcomes).items()]
        return lines

    def totals(self) -> str:
        """Return the counts of all tests."""
        return format_counts(count(outcome for result in self.results.values() for outcome in result.outcomes.values()))

    def _second_tries(self) -> int:
        return sum(len(result.at_second_try) for result in self.results.values())

    def _needs(self, suite: Suite) -> tuple[str, ...]:
        return environments_needed(suite, full=self._full)

    def _prepare(self) -> None:
        if self._preparing and self._preparing[1].process.poll() is not None:
            env, running = self._preparing
            self._preparing = None
            self._codes[env] = _print_output(f"environment {env}", running)
        if self._unprepared and not self._preparing:
            env = self._unprepared.pop(0)
            runs_pytest = any(suite.env == env and suite.pytest for suite in self._suites)
            # Unlike --notest, this runs what setup.cfg has to run before the command.
            options = ("--", "--version") if runs_pytest else ("--notest",)
            self._preparing = env, self._start(f"environment {env}", env, tox_command("run", env, *options))

    def _play_lane(self, lane: Lane) -> None:
        if lane in self._lanes and self._lanes[lane][1].process.poll() is not None:
            self._handle_end(*self._lanes.pop(lane))
        if lane in self._lanes:
            return
        suite = next((each for each in self._waiting if each.lane == lane and self._is_prepared(each)), None)
        if suite is None:
            return
        self._waiting.remove(suite)
        if self._codes[suite.env]:
            self._finish(suite, Result(0.0, remark=f"failed: the environment {suite.env} could not be created"))
        else:
            self._lanes[lane] = suite, self._start_suite(suite)

    def _is_prepared(self, suite: Suite) -> bool:
        """Return whether the creation of all environments has ended. One that is only needed may have failed."""
        return all(env in self._codes for env in (*self._needs(suite), suite.env))

    def _start_suite(self, suite: Suite) -> Running:
        name = self._name_of_try(suite)
        logs = _file(name, "tox")
        if not suite.pytest:
            command = tox_command("run", suite.env, "--skip-pkg-install", "--", *suite.arguments, log_dir=logs)
            return self._start(name, suite.env, command)
        options = ["--durations=3", f"--junit-xml={_file(name, 'xml')}"]
        if suite.name in self._first:
            options.append(f"--not-passed-in={_file(suite.name, 'xml')}")
        command = tox_command("exec", suite.env, "--", "pytest", *suite.arguments, *options, log_dir=logs)
        return self._start(name, suite.env, command)

    def _name_of_try(self, suite: Suite) -> str:
        return f"{suite.name} second try" if suite.name in self._first else suite.name

    def _start(self, name: str, env: str, command: list[str]) -> Running:
        sys.stdout.write(f"== {name} started\n")
        log = _file(name, "log")
        with log.open("wb") as output:
            process = self._processes.start(
                command, cwd=ROOT, env=variables(env, full=self._full), stdout=output, stderr=subprocess.STDOUT
            )
        return Running(process, log, time.monotonic())

    def _handle_end(self, suite: Suite, running: Running) -> None:
        name = self._name_of_try(suite)
        code = _print_output(name, running)
        outcomes = read_report(_file(name, "xml"))
        result = Result(time.monotonic() - running.began, outcomes)
        if self._is_stopped:
            result.remark = "; not run to its end"
        elif code and not failures(outcomes):
            # The report of a process that crashed is missing.
            outcomes[suite.name] = "failed", f"exit code {code}"
        elif not suite.pytest:
            outcomes[suite.name] = "passed", ""
        if first := self._first.get(suite.name):
            self._finish(suite, _result_of_both(suite, first, result))
        elif self._may_be_tried_again(suite, result):
            self._first[suite.name] = result
            self._lanes[suite.lane] = suite, self._start_suite(suite)
        else:
            self._finish(suite, result)

    def _may_be_tried_again(self, suite: Suite, result: Result) -> bool:
        failed = len(failures(result.outcomes))
        few = self._second_tries() + failed <= MAX_SECOND_TRIES
        return bool(failed) and few and suite.tried_twice and not result.remark

    def _finish(self, suite: Suite, result: Result) -> None:
        self.results[suite.name] = result
        if result.is_red and not self._full:
            self._start_no_more()
            self._processes.end()

    def _start_no_more(self) -> None:
        self._is_stopped = True
        self._waiting, self._unprepared = [], []


def _result_of_both(suite: Suite, first: Result, second: Result) -> Result:
    """Return the result of both tries: that of the second one for what did not pass in the first one."""
    outcomes = {**first.outcomes, **second.outcomes}
    if suite.name not in second.outcomes:
        outcomes.pop(suite.name, None)
    failed = failures(outcomes)
    passed = {test: why for test, why in failures(first.outcomes).items() if test not in failed}
    return Result(first.seconds + second.seconds, outcomes, passed, second.remark)


def _print_output(name: str, running: Running) -> int:
    """Print what a process has written; return its exit code."""
    sys.stdout.write(f"== {name}\n{running.log.read_text(errors='replace')}\n")
    return running.process.returncode


def _file(name: str, suffix: str) -> Path:
    """Return the path of a file about a process."""
    return REPORTS / f"{name.replace(' ', '-')}.{suffix}"
