"""Levels found in the logs of real jobs on a real Ray: none wrong, and few missed."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from airflow_provider_rayagent.render.levels import LevelFinder
from tests.tail.figures import figure
from tests.unit.render.corpus import LETTERS

LOGS = sorted((Path(__file__).parent / "corpus").glob("*.txt"))
LEVELS = {letter: level for level, letter in LETTERS.items()}
LEAST_DISTINCT = 1_000
LEAST_RECALL = 0.96


def test_no_level_is_wrong_and_few_are_missed() -> None:
    wrong: list[str] = []
    count: Counter[str] = Counter()
    distinct = set()
    for path in LOGS:
        levels = LevelFinder()
        for number, entry in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
            line = entry[2:]
            true, found = LEVELS[entry[0]], levels.level_of(line)
            distinct.add(line)
            count["lines"] += 1
            if (true or logging.INFO) != logging.INFO:
                count["marked"] += 1
                count["found"] += found == true
            if found is not None and found != (true or logging.INFO):
                wrong.append(f"{path.name}:{number}: {logging.getLevelName(found)}: {line}")
    recall = count["found"] / count["marked"]
    figure(
        f"levels in {count['lines']:,} lines ({len(distinct):,} different) of real jobs: {len(wrong)} wrong; "
        f"of {count['marked']:,} that are not INFO {recall:.1%} found"
    )
    assert wrong == []
    assert len(distinct) >= LEAST_DISTINCT
    assert recall >= LEAST_RECALL
