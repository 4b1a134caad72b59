"""What is written about the benchmarks is what is stored beside them."""

from __future__ import annotations

import json
import re

from benchmarks.compare_clients import COLUMNS, counts, read_verdicts
from benchmarks.measure import format_number
from benchmarks.report import FIGURES, TABLE, content, load
from tests.docs.conftest import ROOT
from tests.tail.faults import FAULTS

TEXT = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
BENCHMARKS, COMPARISON = TEXT.split("\n## The same faults")
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


def test_the_table_is_that_of_the_stored_figures() -> None:
    assert TABLE.read_text(encoding="utf-8") == content(), "run python -m benchmarks.report"


def test_every_figure_of_the_page_was_measured() -> None:
    measured = {text for each in load()[1] for text in NUMBER.findall(json.dumps(each))}
    measured |= {format_number(float(text.replace(",", ""))) for text in measured}
    cells = re.findall(r"^\| [^|]+ \| ([^|]*\d[^|]*) \|", BENCHMARKS.partition("| What |")[2], re.MULTILINE)
    assert len(cells) > 10
    assert [number for cell in cells for number in NUMBER.findall(cell) if number not in measured] == []


def test_the_description_of_the_machine_is_that_of_the_stored_figures() -> None:
    machine = json.loads(FIGURES.read_text(encoding="utf-8"))["machine"]
    for package in ("apache-airflow", "ray", "synapse-sdk"):
        [version] = re.findall(rf"{package} ([\d.]*\d)", machine)
        assert version in BENCHMARKS.partition("```")[0]


def test_every_fault_has_a_verdict_on_each_client() -> None:
    assert list(read_verdicts()) == list(FAULTS)
    assert {len(cells) for cells in read_verdicts().values()} == {len(COLUMNS)}


def test_the_comparison_shows_the_stored_verdicts() -> None:
    verdicts = read_verdicts()
    assert counts(verdicts) in COMPARISON
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", COMPARISON, re.MULTILINE)
    shown = {name: cells for name, *cells in rows if name in verdicts}
    assert len(shown) == 8
    for name, cells in shown.items():
        kinds = [cell.partition(":")[0] for cell in verdicts[name]]
        assert kinds[::2] == ["right"] * 3
        assert kinds[1::2] == cells
