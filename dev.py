#!/usr/bin/env python3
"""Run development tasks from a clean clone; requires only Python and git.

    python3 dev.py demo        show a Ray job's log in an Airflow task log (--keep: leave it running;
                               --plain: without an agent)
    python3 dev.py test        all tests; arguments are passed to pytest (test tests/unit -k cursor)
    python3 dev.py lint        ruff, and deptry, which checks that all imports are declared
    python3 dev.py types       mypy
    python3 dev.py docs        build the documentation into build/docs
    python3 dev.py unit        unit tests, in an environment without Ray
    python3 dev.py floor       unit and some system tests with the oldest Python, Airflow and libraries
    python3 dev.py prerelease  the same tests with the newest Airflow, including pre-releases
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
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    Run = tuple[str, str, list[str]]
    """The name in the summary, a tox environment, and a command; that of pytest without its options for the report.

    Without a command, the run is that of the environment.
    """

ROOT = Path(__file__).resolve().parent
WORK = ROOT / ".tox"
TOOLS = WORK / ".tools"
REPORTS = WORK / "reports"
REQUIREMENTS = ("tox>=4.30", "tox-uv>=1.28")
OLDEST = (3, 10)
"""The oldest supported Python."""
FLOOR = ".".join(map(str, OLDEST))
INTERRUPTED = 130
LANES = 4
"""How many suites run at a time. Fewer do not use two cores; more only slow each other down."""
PARALLEL = ["-n", "4", "--dist", "worksteal"]
"""More than there are cores, since many of these tests wait most of the time."""
WITHOUT_RAY = [*PARALLEL, "tests/unit", "tests/scripted"]
SUITES = ("system", "local", "unit", "tail", "deployed", "ui", "docs", "contract", "stack", "packaging", "scripted")
ENVIRONMENTS = {"deployed": "deployed"}
"""The environments of suites that do not run in the environment ``test``."""
NO_AIRFLOW = [f"--ignore=tests/unit/{part}" for part in ("client", "render", "stream", "tail", "text")]
"""Leaves out the tests of those parts of the package that do not import Airflow."""
OTHER_AIRFLOWS = {"floor": WITHOUT_RAY, "prerelease": [*WITHOUT_RAY, *NO_AIRFLOW]}
"""The environments with another Airflow, and the arguments of pytest for the unit tests in them."""
IN_CI_ONLY: list[Run] = [
    ("lint", "lint", []),
    ("types", "types", []),
    ("bench", "bench", ["python", "-m", "benchmarks", "--short"]),
    ("demo", "demo", ["python", "-m", "tests.demo"]),
]
"""What CI also runs beside the suites. A benchmark fails only if it misses its target by far, noise or not."""
ORDER = (
    "system",
    "local",
    "unit",
    "tail",
    "floor",
    "deployed",
    "prerelease system",
    "bench",
    "prerelease",
    "floor system",
    "ui",
    "contract",
    "docs",
    "packaging",
    "stack",
    "demo",
    "types",
    "scripted",
    "lint",
)
"""Of all runs: long ones first, since one would run alone at the end."""
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
        current = ".".join(map(str, sys.version_info[:2]))
        sys.stderr.write(f"dev.py requires Python {FLOOR} or newer; {sys.executable} is {current}.\n")
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
    if command == "unit" and not rest:
        rest = WITHOUT_RAY
    if command in OTHER_AIRFLOWS and not rest:
        return run_all(runs_with_other_airflow(command))
    return tox(command, *rest)


def environment_for(arguments: list[str]) -> str:
    """Return the environment for pytest with these arguments: that of the suite if they name one of its tests."""
    suites = (suite for suite in ENVIRONMENTS if any(f"tests/{suite}" in each for each in arguments))
    return next((ENVIRONMENTS[suite] for suite in suites), "test")


def test_all() -> int:
    """Run every suite; return the exit code."""
    runs: list[Run] = [
        (suite, ENVIRONMENTS.get(suite, "test"), ["pytest", *(PARALLEL if suite == "unit" else ()), f"tests/{suite}"])
        for suite in SUITES
    ]
    if os.environ.get("CI"):
        runs += IN_CI_ONLY
    has_floor = os.environ.get("CI") or succeeds([str(TOOLS / "bin" / "uv"), "python", "find", FLOOR])
    for env in OTHER_AIRFLOWS:
        if has_floor or env != "floor":
            runs += runs_with_other_airflow(env)
    runs.sort(key=lambda each: ORDER.index(each[0]))
    return run_all(runs, [] if has_floor else [f"floor: not run, since there is no Python {FLOOR}"])


def runs_with_other_airflow(env: str) -> list[Run]:
    """Return the runs in an environment of ``OTHER_AIRFLOWS``."""
    system = ["pytest", "-m", "each_airflow", "tests/system"]
    return [(env, env, ["pytest", *OTHER_AIRFLOWS[env]]), (f"{env} system", env, system)]


def run_all(runs: list[Run], remarks: Sequence[str] = ()) -> int:
    """Run commands side by side and print the output of each when it ends, and a summary; return the exit code.

    :param remarks: further lines of the summary.
    """
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    codes, ended = run_side_by_side(runs)
    if INTERRUPTED in [*(codes.get(env, INTERRUPTED) for _, env, _ in runs), *(code for code, _ in ended.values())]:
        return INTERRUPTED
    total = {"passed": 0, "failed": 0, "skipped": 0}
    width = max(len(name) for name, *_ in runs)
    lines = []
    failures = []
    for name, env, command in runs:
        code, seconds = ended.get(name, (codes[env], 0.0))
        counts = read_report(report_file(name, ".xml"))
        failures += [f"{name}: {failure}" for failure in read_failures(report_file(name, ".xml"))]
        if "pytest" not in command and not code:
            counts["passed"] = 1
        if code and not counts["failed"]:
            counts["failed"] = 1
        remark = f"; the environment {env} could not be created" if codes[env] else ""
        lines.append(f"{name:<{width}}{seconds:>7.0f} s  {format_counts(counts)}{remark}")
        total = {each: total[each] + counts[each] for each in total}
    sys.stdout.write("\n" + "\n".join([*failures, *lines, *remarks, format_counts(total)]) + "\n")
    return 1 if total["failed"] or not total["passed"] else 0


def preparation(env: str, command: list[str]) -> list[str]:
    """Return the command that creates an environment and checks that ``command`` can be started in it."""
    if not command:
        return [*tox_command("run", env), "--notest"]
    return tox_command("run", env, "--version" if command[0] == "pytest" else "--help")


def command_of(name: str, env: str, command: list[str]) -> list[str]:
    """Return the command of a run in an environment that exists."""
    logs = report_file(name, ".tox")
    if not command:
        return [*tox_command("run", env, log_dir=logs), "--skip-pkg-install"]
    options = ["--durations=3", f"--junit-xml={report_file(name, '.xml')}"] if "pytest" in command else []
    return tox_command("exec", env, *command, *options, log_dir=logs)


def report_file(name: str, suffix: str) -> Path:
    """Return the path of a file about a run."""
    return REPORTS / (name.replace(" ", "-") + suffix)


def format_counts(counts: dict[str, int]) -> str:
    """Return counts of tests as a text, ``1 passed, 0 failed, 0 skipped``."""
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())


def read_report(report: Path) -> dict[str, int]:
    """Return the counts of a JUnit report; zeros if there is no report."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for suite in ET.parse(report).iter("testsuite") if report.is_file() else ():
        tests, failures, errors, skipped = (
            int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
        )
        counts["failed"] += failures + errors
        counts["skipped"] += skipped
        counts["passed"] += tests - failures - errors - skipped
    return counts


def read_failures(report: Path) -> list[str]:
    """Return each failed test of a JUnit report, with the first line of its error."""
    lines = []
    for test in ET.parse(report).iter("testcase") if report.is_file() else ():
        for outcome in test:
            if outcome.tag in ("failure", "error"):
                reason = outcome.get("message", "").partition("\n")[0]
                lines.append(f"{test.get('classname')}.{test.get('name')}: {reason[:200]}")
    return lines


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


def tox(env: str, *arguments: str) -> int:
    """Run the command of a tox environment; return its exit code, or INTERRUPTED as :func:`run` does."""
    return run(tox_command("run", env, *arguments), cwd=ROOT, env=environment())


def tox_command(subcommand: str, env: str, *arguments: str, log_dir: Path | None = None) -> list[str]:
    """Return the command line of tox for an environment; ``exec`` runs the arguments in one that exists.

    :param log_dir: folder for tox's own logs if several commands use the environment at the same time: each deletes
        what is there when it starts, and fails if another one did so first.
    """
    command = [str(TOOLS / "bin" / "python"), "-m", "tox", subcommand, "--conf", str(ROOT / "setup.cfg"), "-e", env]
    if log_dir is not None:
        command += ["--override", f"testenv:{env}.env_log_dir={log_dir}"]
    return [*command, "--", *arguments] if arguments else command


def run(command: list[str], **options: Any) -> int:
    """Run a command; return its exit code, or INTERRUPTED if a signal arrived, which is forwarded once as SIGINT."""
    with forwarded_signals() as processes:
        code = processes.start(command, **options).wait()
    return INTERRUPTED if processes.interrupted else code


def run_side_by_side(runs: list[Run]) -> tuple[dict[str, int], dict[str, tuple[int, float]]]:
    """Run commands ``LANES`` at a time, in this order, while the environments of the later ones are being created.

    Return the exit codes of the creation of environments, and the exit code and the seconds of each run by its name.
    Environments are created one after the other; runs in one that could not be created are left out. The output of a
    command is printed when it ends; before, it is in a file. After a signal no more are started.
    """
    variables = environment()
    preparations = {f"environment {env}": env for _, env, _ in runs}
    samples = {env: command for _, env, command in runs}
    unprepared, waiting = list(preparations), list(runs)
    codes: dict[str, int] = {}
    running: dict[str, subprocess.Popen[bytes]] = {}
    began: dict[str, float] = {}
    ended: dict[str, tuple[int, float]] = {}
    with forwarded_signals() as processes:

        def start(name: str, command: list[str]) -> None:
            began[name] = time.monotonic()
            with report_file(name, ".log").open("wb") as log:
                running[name] = processes.start(command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT)
            sys.stdout.write(f"== {name} started\n")

        while running or (not processes.interrupted and (unprepared or waiting)):
            if not processes.interrupted:
                if unprepared and not preparations.keys() & running.keys():
                    name = unprepared.pop(0)
                    start(name, preparation(preparations[name], samples[preparations[name]]))
                ready = [each for each in waiting if codes.get(each[1]) == 0]
                for each in ready[: LANES - len(running.keys() - preparations.keys())]:
                    waiting.remove(each)
                    start(each[0], command_of(*each))
                waiting = [each for each in waiting if not codes.get(each[1])]
            for name in [name for name, process in running.items() if process.poll() is not None]:
                sys.stdout.write(f"== {name}\n{report_file(name, '.log').read_text(errors='replace')}\n")
                code = INTERRUPTED if processes.interrupted else running[name].returncode
                del running[name]
                if name in preparations:
                    codes[preparations[name]] = code
                else:
                    ended[name] = code, time.monotonic() - began[name]
            sys.stdout.flush()
            time.sleep(0.2)
    return codes, ended


class Processes:
    """Processes that one signal ends."""

    def __init__(self) -> None:
        self.interrupted = False
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process in its own session, so that Ctrl-C reaches it only once."""
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
        self._started.append(process)
        if self.interrupted:
            os.killpg(process.pid, signal.SIGINT)
        return process

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal: the first one is forwarded to each process, as SIGINT."""
        if not self.interrupted:
            self.interrupted = True
            for process in self._started:
                # The id of a process that has been waited for may be that of another one by now.
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGINT)


@contextlib.contextmanager
def forwarded_signals() -> Iterator[Processes]:
    """Forward signals to the processes that are started in the context."""
    processes = Processes()
    before = {each: signal.signal(each, processes.interrupt) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield processes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
