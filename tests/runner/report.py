"""The outcomes of tests, from JUnit reports."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NODE_ID = "node id"
"""The property of a test in the report; its name and class alone do not identify it."""

Word = Literal["passed", "failed", "skipped"]
Outcome = tuple[Word, str]
"""Of a test, with the first line of the error."""
_TAGS: dict[str, Word] = {"failure": "failed", "error": "failed", "skipped": "skipped"}


def read_report(report: Path) -> dict[str, Outcome]:
    """Return the outcomes of the tests of a report by their node ids; none if there is no report."""
    outcomes: dict[str, Outcome] = {}
    for test in ET.parse(report).iter("testcase") if report.is_file() else ():
        ids = [each.get("value") for each in test.iter("property") if each.get("name") == NODE_ID]
        # A module that cannot be collected has no node id.
        node_id = ids[0] if ids and ids[0] else f"{test.get('classname')} {test.get('name')}".strip()
        outcome: Outcome = "passed", ""
        for element in test:
            if element.tag in _TAGS:
                outcome = _TAGS[element.tag], element.get("message", "").partition("\n")[0][:200]
        # An error of a fixture's end is a test case of its own.
        if outcomes.get(node_id, ("passed", ""))[0] != "failed":
            outcomes[node_id] = outcome
    return outcomes


def failures(outcomes: dict[str, Outcome]) -> dict[str, str]:
    """Return the first line of the error of each failed test."""
    return {node_id: reason for node_id, (outcome, reason) in outcomes.items() if outcome == "failed"}


def count(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Return the number of tests of each outcome."""
    found = [outcome for outcome, _ in outcomes]
    return {outcome: found.count(outcome) for outcome in get_args(Word)}


def format_counts(counts: dict[str, int]) -> str:
    """Return counts of tests as a text, ``1 passed, 0 failed, 0 skipped``."""
    return ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
