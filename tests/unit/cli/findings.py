"""What ``doctor`` finds, and the good agent of its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.cli.doctor import CHECKS
from tests.scripted import Answer, Job, ScriptedAgent
from tests.unit.support import TOKEN

if TYPE_CHECKING:
    from tests.scripted import Step
    from tests.unit.cli.conftest import Airflow

TEXT = "one\ntwo\n"
HEALTH = {"status": "ok", "version": "2026.2", "ray": {"status": "ok", "version": "2.60.0"}}


HEALTHY = Answer(200, HEALTH)


def agent_with(*jobs: Job, **answers: Step) -> ScriptedAgent:
    scripts: dict[str, list[Step]] = {
        "GET health/": [HEALTHY],
        **{f"GET {path}/": [step] for path, step in answers.items()},
    }
    return ScriptedAgent(*(jobs or (Job(TEXT),)), answers=scripts, token=TOKEN)


def examine(airflow: Airflow, *arguments: str) -> dict[str, tuple[str, str]]:
    """Return result and text of each check that was made, by check."""
    done = airflow("doctor", *arguments)
    assert done.err == ""
    assert TOKEN not in done.out
    found = {}
    for result, rest in (line.split(None, 1) for line in done.lines):
        check = next(each for each in CHECKS if rest.startswith(f"{each} "))
        assert check not in found
        found[check] = result, rest.removeprefix(check).strip()
    assert list(found) == [check for check in CHECKS if check in found]
    assert done.code == (1 if wrong(found) else 0)
    return found


def wrong(found: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {check: text for check, (result, text) in found.items() if result == "WRONG"}
