"""The suites of the landing check and of the full check, and the lanes that they run in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Lane = Literal["many", "long"]
"""The two long suites with real servers wait most of the time; the many others run beside them, and take as long."""

PARALLEL = ("-n", "4", "--dist", "worksteal")
"""More processes than there are cores, since many of these tests wait most of the time."""
WITHOUT_RAY = (*PARALLEL, "tests/unit", "tests/scripted")
WITHOUT_AIRFLOW = ("connection", "errors", "render", "services", "stream", "tail", "text", "transport", "working_dir")
NO_AIRFLOW = tuple(f"--ignore=tests/unit/{part}" for part in WITHOUT_AIRFLOW)
"""Leaves out the tests of those parts of the package that do not import Airflow."""
EACH_AIRFLOW = ("-m", "each_airflow", "tests/system")


@dataclass(frozen=True)
class Suite:
    """A command in an environment of ``setup.cfg``.

    :param arguments: those of pytest; those of the environment's own command if ``pytest`` is false.
    :param lane: the suites of a lane run one after the other, beside those of the other lane.
    :param tried_twice: whether its tests that did not pass run once more, in a new process with new servers.
    :param pytest: whether it writes a JUnit report. Otherwise it counts as one test.
    :param needs: other environments, whose interpreters it runs.
    """

    name: str
    arguments: tuple[str, ...] = ()
    env: str = "test"
    lane: Lane = "many"
    tried_twice: bool = True
    pytest: bool = True
    needs: tuple[str, ...] = ()


def _command(env: str, *arguments: str, lane: Lane = "many") -> Suite:
    return Suite(env, arguments, env, lane, tried_twice=False, pytest=False)


def _folder(
    name: str, env: str = "test", lane: Lane = "many", *, tried_twice: bool = True, needs: tuple[str, ...] = ()
) -> Suite:
    return Suite(name, (f"tests/{name}",), env, lane, tried_twice, needs=needs)


UNIT = Suite("unit", (*PARALLEL, "tests/unit"), tried_twice=False)
LANDING = (
    _command("lint"),
    _command("types"),
    _command("collect"),
    UNIT,
    _folder("scripted", tried_twice=False),
    _folder("tail"),
    _folder("docs"),
    _folder("packaging", tried_twice=False),
    _folder("ui"),
    _folder("local", lane="long"),
    _folder("system", lane="long"),
    _folder("deployed", "deployed"),
    _folder("contract", needs=("synapse",)),
    _folder("stack"),
)
"""In the order in which each lane runs its own."""
FLOOR = (
    Suite("floor", WITHOUT_RAY, "floor", tried_twice=False),
    Suite("floor system", EACH_AIRFLOW, "floor", "long"),
)
"""With the oldest Python, Airflow and libraries."""
PRERELEASE = (
    Suite("prerelease", (*WITHOUT_RAY, *NO_AIRFLOW), "prerelease", tried_twice=False),
    Suite("prerelease system", EACH_AIRFLOW, "prerelease", "long"),
)
"""With the newest Airflow, including pre-releases."""
FULL = (
    *LANDING,
    *FLOOR,
    *PRERELEASE,
    _command("bench", "--short", lane="long"),
    _command("demo", lane="long"),
)
NEEDED_IN_FULL = {"local": ("oldest-ray",)}
"""Environments that suites of the full check need besides."""


def suite_of(arguments: list[str]) -> Suite:
    """Return the suite that the arguments of pytest name and that has requirements of its own; otherwise ``UNIT``."""
    named = [suite for suite in LANDING if any(f"tests/{suite.name}" in each for each in arguments)]
    return next((suite for suite in named if suite.env != "test" or suite.needs), UNIT)
