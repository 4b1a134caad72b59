"""The pages about benchmarks and the client comparison show what is stored beside the code."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from benchmarks.compare_clients import COLUMNS, counts, read_verdicts
from benchmarks.measure import format_number
from benchmarks.report import CHARTS, CHARTS_FOLDER, FIGURES, LABELS, bars, draw, files, load
from tests.docs.conftest import PAGES
from tests.system import kill_chart
from tests.tail.faults import FAULTS

if TYPE_CHECKING:
    from pathlib import Path

BENCHMARKS = (PAGES / "benchmarks.md").read_text(encoding="utf-8")
COMPARISON = (PAGES / "client-comparison.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_tables_and_charts_are_those_of_the_stored_figures(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == files()[path], "run python -m benchmarks.report"


@pytest.mark.parametrize("name", CHARTS)
def test_a_bar_is_as_long_as_its_figure(name: str) -> None:
    _, results = load()
    figures = [figure for _, key in CHARTS[name].groups for _, figure in bars(key, results)]
    drawn = draw(CHARTS[name], results)
    widths = [float(width) for width in re.findall(rf'<rect x="{LABELS}" y="[\d.]+" width="([\d.]+)"', drawn)]
    assert len(widths) == len(figures)
    for width, figure in zip(widths, figures, strict=True):
        assert width == pytest.approx(figure / max(figures) * max(widths), abs=1)
        assert f">{format_number(figure)}" in drawn


def test_the_chart_of_kills_is_what_the_system_tests_expect() -> None:
    assert kill_chart.PATH.read_text(encoding="utf-8") == kill_chart.draw(), "run python -m tests.system.kill_chart"


def test_every_chart_is_on_a_page() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in PAGES.glob("*.md"))
    shown = re.findall(r"\]\(charts/([\w-]+\.svg)\)", pages)
    assert sorted(shown) == sorted(path.name for path in CHARTS_FOLDER.iterdir())
    assert {f"{name}.svg" for name in CHARTS} < set(shown)


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
        assert version in BENCHMARKS.partition("##")[0]


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
