#!/usr/bin/env python3
"""Run development tasks from a clean clone; requires only Python and git.

    python3 dev.py demo        show a Ray job's log in an Airflow task log (--keep: leave it running;
                               --plain: without an agent)
    python3 dev.py test        the landing check: lint, types and all suites that decide whether a change lands;
                               other arguments are passed to pytest (test tests/unit -k cursor)
    python3 dev.py test --all  the full check: further tests, other versions of Python, Airflow and Ray, the demo and
                               the short benchmarks (test --all tests/local: the tests of one suite, in full)
    python3 dev.py lint        ruff, and deptry, which checks that all imports are declared
    python3 dev.py types       mypy
    python3 dev.py docs        build the documentation into build/docs
    python3 dev.py unit        unit tests, in an environment without Ray
    python3 dev.py floor       unit and some system tests with the oldest Python, Airflow and libraries
    python3 dev.py prerelease  the same tests with the newest Airflow, including pre-releases
    python3 dev.py bench       the benchmarks (--short: a short version of each)
    python3 dev.py build       the wheel and the source distribution, into dist
    python3 dev.py lock        choose the versions of the landing check anew, in .ci/constraints

The environments are defined in setup.cfg and created in .tox/; nothing is installed elsewhere.
"""

from __future__ import annotations

import os
import sys

OLDEST = (3, 10)
"""The oldest supported Python."""
FLOOR = ".".join(map(str, OLDEST))
if sys.version_info < OLDEST:
    sys.exit(
        f"dev.py requires Python {FLOOR} or newer; {sys.executable} is {'.'.join(map(str, sys.version_info[:2]))}."
    )

from tests.runner import environments, lanes, suites
from tests.runner.processes import INTERRUPTED


def main(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(__doc__ or "")
        return 0 if arguments else 2
    command, *rest = arguments
    environments.set_up_tools()
    if command == "lock":
        return environments.lock()
    if command == "test":
        full = "--all" in rest
        rest = [each for each in rest if each != "--all"]
        return run_tests(rest, full=full) if rest else run_check(full=full)
    groups = {"floor": suites.FLOOR, "prerelease": suites.PRERELEASE}
    if command in groups and not rest:
        return lanes.run_all(groups[command], full=True)
    if command == "demo":
        return environments.run_module("demo", "tests.demo", *rest)
    if command == "unit" and not rest:
        rest = list(suites.WITHOUT_RAY)
    return environments.tox(command, *rest)


def run_tests(arguments: list[str], *, full: bool) -> int:
    """Run pytest in the environment of the suite that the arguments name; return the exit code."""
    suite = suites.suite_of(arguments)
    for env in lanes.environments_needed(suite, full=full):
        # Without it, the tests that need it are skipped, or fail if CI is set.
        environments.tox(env)
    return environments.tox(suite.env, *arguments, full=full)


def run_check(*, full: bool) -> int:
    """Run the landing check or the full check; return the exit code."""
    chosen = list(suites.FULL if full else suites.LANDING)
    remarks = []
    if full and not os.environ.get("CI") and not environments.has_python(FLOOR):
        chosen = [suite for suite in chosen if suite not in suites.FLOOR]
        remarks.append(f"floor: not run, since there is no Python {FLOOR}")
    if not environments.is_locked():
        locked = ".".join(map(str, environments.LOCKED_PYTHON))
        remarks.append(
            f"The newest versions were installed; those in {environments.CONSTRAINTS} are for Python {locked}"
        )
    return lanes.run_all(chosen, full=full, remarks=remarks)


if __name__ == "__main__":
    try:
        with environments.temporary_folder():
            code = main(sys.argv[1:])
        sys.exit(code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
