"""What ``doctor`` finds, and the good agent of its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.cli.doctor import CHECKS
from tests.scripted import Answer, Job, ScriptedAgent
from tests.unit.support import TOKEN

if TYPE_CHECKING:
    from tests.scripted import Step
    from tests.unit.cli.conftest import Airflow, Done

TEXT = "one\ntwo\n"
HEALTH = {"status": "ok", "version": "2026.2", "ray": {"status": "ok", "version": "2.60.0"}}


HEALTHY = Answer(200, HEALTH)


def agent_with(*jobs: Job, **answers: Step) -> ScriptedAgent:
    scripts: dict[str, list[Step]] = {
        "GET health/": [HEALTHY],
        **{f"GET {path}/": [step] for path, step in answers.items()},
    }
    return ScriptedAgent(*(jobs or (Job(TEXT),)), answers=scripts, token=TOKEN)


def findings(done: Done) -> dict[str, tuple[str, str]]:
    """Return result and text by check."""
    rows = [line.split(None, 1) for line in done.lines]
    found = {}
    for result, rest in rows:
        check = next(each for each in CHECKS if rest.startswith(f"{each} "))
        assert check not in found
        found[check] = result, rest.removeprefix(check).strip()
    assert sorted(found) == sorted(CHECKS)
    assert TOKEN not in done.out
    return found


def examine(airflow: Airflow, *arguments: str) -> dict[str, tuple[str, str]]:
    done = airflow("doctor", *arguments)
    found = findings(done)
    assert done.err == ""
    assert done.code == (1 if any(result == "WRONG" for result, _ in found.values()) else 0)
    return found


def wrong(found: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {check: text for check, (result, text) in found.items() if result == "WRONG"}


def skipped(found: dict[str, tuple[str, str]]) -> set[str]:
    return {check for check, (result, _) in found.items() if result == "skipped"}


def after(check: str, *but: str) -> set[str]:
    """Return the checks after this one, which depend on it."""
    return set(CHECKS[CHECKS.index(check) + 1 :]) - set(but)
