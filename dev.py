#!/usr/bin/env python3
"""Run development tasks from a clean clone; requires only Python and git.

    python3 dev.py demo        show a Ray job's log in an Airflow task log (--keep: leave it running;
                               --plain: without an agent)
    python3 dev.py test        all tests; arguments are passed to pytest (test tests/unit -k cursor)
    python3 dev.py lint        ruff, and deptry, which checks that all imports are declared
    python3 dev.py types       mypy
    python3 dev.py docs        build the documentation into build/docs
    python3 dev.py unit        unit tests, in an environment without Ray
    python3 dev.py floor       unit tests with the oldest Python, Airflow and libraries
    python3 dev.py prerelease  unit and system tests with the newest Airflow, including pre-releases
    python3 dev.py bench       the benchmarks (--short: a short version of each)
    python3 dev.py build       the wheel and the source distribution, into dist

The environments are defined in setup.cfg and created in .tox/; nothing is installed elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    Run = tuple[str, str, list[str]]
    """The name in the summary, a tox environment, and the arguments of pytest."""

ROOT = Path(__file__).resolve().parent
WORK = ROOT / ".tox"
TOOLS = WORK / ".tools"
REPORTS = WORK / "reports"
REQUIREMENTS = ("tox>=4.30", "tox-uv>=1.28")
OLDEST = (3, 10)
FLOOR = "3.10"
INTERRUPTED = 130
PARALLEL = ["-n", "4", "--dist", "worksteal"]
"""More processes than cores, since unit tests mostly wait."""
SUITES = ("unit", "scripted", "tail", "stack", "local", "contract", "ui", "system", "deployed", "docs", "packaging")
ENVIRONMENTS = {"deployed": "deployed"}
"""The environments of suites that do not run in the environment ``test``."""
PRERELEASE = {
    "prerelease": [*PARALLEL, "tests/unit", "tests/scripted"],
    "prerelease system": ["-m", "prerelease", "tests/system"],
}
"""Arguments of the runs with the newest Airflow, by name in the summary."""
# tox installs packages with uv, which has other names for pip's settings.
UV_NAMES = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_DEFAULT_TIMEOUT": "UV_HTTP_TIMEOUT",
    "PIP_CERT": "SSL_CERT_FILE",
}


def main(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    if sys.version_info < OLDEST:
        required, current = (".".join(map(str, version[:2])) for version in (OLDEST, sys.version_info))
        sys.stderr.write(f"dev.py requires Python {required} or newer; {sys.executable} is {current}.\n")
        return 2
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(__doc__ or "")
        return 0 if arguments else 2
    command, rest = arguments[0], arguments[1:]
    set_up_tools()
    if command == "test" and not rest:
        return test_all()
    if command == "test":
        command = environment_for(rest)
    if command == "prerelease" and not rest:
        return run_all(prerelease_runs())
    return tox(command, *rest)


def environment_for(arguments: list[str]) -> str:
    """Return the environment for pytest with these arguments: that of the suite if they name one of its tests."""
    suites = (suite for suite in ENVIRONMENTS if any(f"tests/{suite}" in each for each in arguments))
    return next((ENVIRONMENTS[suite] for suite in suites), "test")


def test_all() -> int:
    """Run every suite; return the exit code."""
    runs = [
        (suite, ENVIRONMENTS.get(suite, "test"), [*(PARALLEL if suite == "unit" else ()), f"tests/{suite}"])
        for suite in SUITES
    ]
    has_floor = os.environ.get("CI") or succeeds([str(TOOLS / "bin" / "uv"), "python", "find", FLOOR])
    if has_floor:
        runs.append(("floor", "floor", []))
    remarks = [] if has_floor else [f"floor       not run: Python {FLOOR} not found"]
    return run_all([*runs, *prerelease_runs()], remarks)


def prerelease_runs() -> list[Run]:
    """Return the runs with the newest Airflow, including pre-releases."""
    return [(name, "prerelease", arguments) for name, arguments in PRERELEASE.items()]


def run_all(runs: list[Run], remarks: Sequence[str] = ()) -> int:
    """Run suites one by one and print a summary; return the exit code.

    :param remarks: further lines of the summary.
    """
    shutil.rmtree(REPORTS, ignore_errors=True)
    total = {"passed": 0, "failed": 0, "skipped": 0}
    width = max(len(name) for name, *_ in runs)
    lines = []
    for name, env, arguments in runs:
        report = REPORTS / f"{name.replace(' ', '-')}.xml"
        code = tox(env, *arguments, PYTEST_ADDOPTS=f"--durations=3 --junit-xml='{report}'")
        counts, seconds = read_report(report)
        if code and not counts["failed"]:
            counts["failed"] = 1
        lines.append(f"{name:<{width}}{seconds:>7.1f} s  " + ", ".join(f"{counts[each]} {each}" for each in counts))
        total = {each: total[each] + counts[each] for each in total}
        if code == INTERRUPTED:
            return code
    lines += remarks
    sys.stdout.write("\n" + "\n".join([*lines, ", ".join(f"{total[each]} {each}" for each in total)]) + "\n")
    return 1 if total["failed"] or not total["passed"] else 0


def read_report(report: Path) -> tuple[dict[str, int], float]:
    """Return the counts and the seconds of a JUnit report; zeros if there is no report."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    seconds = 0.0
    for suite in ET.parse(report).iter("testsuite") if report.is_file() else ():
        tests, failures, errors, skipped = (
            int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
        )
        counts["failed"] += failures + errors
        counts["skipped"] += skipped
        counts["passed"] += tests - failures - errors - skipped
        seconds += float(suite.get("time", 0))
    return counts, seconds


def set_up_tools() -> None:
    """Create the private environment with tox and uv if it does not exist."""
    python = TOOLS / "bin" / "python"
    stamp = TOOLS / "stamp"
    # Environments contain absolute paths, so create it again after a move or an upgrade.
    expected = f"{TOOLS} {sys.executable} {sys.version} {REQUIREMENTS}"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == expected:
        return
    sys.stderr.write(f"dev.py: setting up tox in {TOOLS.relative_to(ROOT)} (once)\n")
    shutil.rmtree(WORK, ignore_errors=True)
    if run([sys.executable, "-m", "venv", str(TOOLS)]):
        raise SystemExit(
            f"dev.py: {sys.executable} cannot create a virtual environment; on Debian install python3-venv."
        )
    if run([str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *REQUIREMENTS]):
        raise SystemExit(f"dev.py: could not install {' and '.join(REQUIREMENTS)}.")
    stamp.write_text(expected, encoding="utf-8")


def succeeds(command: list[str]) -> bool:
    """Return whether a command exits with 0; its output is discarded."""
    done = subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def tox(env: str, *arguments: str, **variables: str) -> int:
    """Run a tox environment; return its exit code, or INTERRUPTED as :func:`run` does."""
    command = [str(TOOLS / "bin" / "python"), "-m", "tox", "run", "--conf", str(ROOT / "setup.cfg"), "-e", env]
    if arguments:
        command += ["--", *arguments]
    return run(command, cwd=ROOT, env=environment() | variables)


def run(command: list[str], **options: Any) -> int:
    """Run a command; return its exit code, or INTERRUPTED if a signal arrived, which is forwarded once as SIGINT."""
    interrupted = False
    child: subprocess.Popen[bytes] | None = None

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        if child and not interrupted:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGINT)
        interrupted = True

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    # In its own session, so that Ctrl-C reaches each process only once.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
    if interrupted:
        os.killpg(child.pid, signal.SIGINT)
    code = child.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    return INTERRUPTED if interrupted else code


def environment() -> dict[str, str]:
    """Return the environment for tox, with pip's settings for uv, and with all Python versions of pyenv."""
    env = dict(os.environ)
    env["PATH"] = os.pathsep.join([str(TOOLS / "bin"), env.get("PATH", os.defpath)])
    env["UV_PYTHON_DOWNLOADS"] = "never"
    for pip_name, uv_name in UV_NAMES.items():
        if pip_name in env:
            env.setdefault(uv_name, env[pip_name])
    if shutil.which("pyenv"):
        chosen = pyenv("version-name").replace(":", " ").split()
        others = [name for name in pyenv("versions", "--bare").split() if re.match(r"3\.\d\d\.", name)]
        env["PYENV_VERSION"] = ":".join(dict.fromkeys(chosen + others))
    return env


def pyenv(*arguments: str) -> str:
    """Return the output of pyenv, empty if it fails."""
    done = subprocess.run(["pyenv", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
