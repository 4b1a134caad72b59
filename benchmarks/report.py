"""Results of the benchmarks as a table and as charts for the documentation.

    python -m benchmarks.report

reads ``results/benchmarks.json``, which ``python3 dev.py bench --json benchmarks/results/benchmarks.json`` writes, and
writes ``results/benchmarks.md`` and ``docs/charts``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measure import format_number, table
from benchmarks.svg import BLUE, GRAY, MARGIN, WIDTH, Drawing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measure import Result

RESULTS = Path(__file__).parent / "results"
FIGURES = RESULTS / "benchmarks.json"
TABLE = RESULTS / "benchmarks.md"
CHARTS_FOLDER = Path(__file__).parents[1] / "docs" / "charts"
LABELS, VALUES, BAR, GAP, TOP = 262, 180, 17, 12, 54
"""Pixels: the labels and the values beside the bars, a bar, the space between groups of bars, the title."""


class Chart(NamedTuple):
    """A chart with a group of bars for each measurement: this provider's, and those of the baselines.

    :param groups: label and key of each measurement, :attr:`Result.case` and :attr:`Result.measurement`.
    """

    title: str
    groups: Sequence[tuple[str, tuple[str, str]]]


READING = [
    (f"{hook}, {protocol}, {lines}", ("tails", f"{hook}, {protocol}, {lines} per message"))
    for hook in ("hook", "async hook")
    for protocol in ("WebSocket", "SSE")
    for lines in ("1 line", "10 lines")
]
CHARTS = {
    "reading-a-log": Chart("Reading a log with 1 or 10 lines per message: lines per second", READING),
    "into-the-task-log": Chart(
        "From the job into the task log: lines per second",
        [
            ("worker, one record per line", ("worker", "sensor, one record per line")),
            ("worker, lines joined under load", ("worker", "sensor, joined under load")),
            ("triggerer", ("triggerer", "deferred sensor")),
        ],
    ),
    "importing": Chart(
        "Parsing a DAG file: CPU time of the imports in milliseconds",
        [("operators and sensors", ("imports", "importing operators and sensors, CPU time"))],
    ),
}
"""The charts of the documentation, by file name."""


def store(path: Path, machine: str, results: Sequence[Result]) -> None:
    """Write results to a JSON file, one per line; keep those of other benchmarks that it already contains."""
    measured = {each["case"] for each in results}
    old = load(path)[1] if path.exists() else []
    kept = [each for each in old if each["case"] not in measured]
    lines = ",\n".join(json.dumps(each, ensure_ascii=False) for each in [*kept, *results])
    path.write_text(f'{{"machine": {json.dumps(machine)}, "results": [\n{lines}\n]}}\n', encoding="utf-8")


def load(path: Path = FIGURES) -> tuple[str, list[Result]]:
    """Return the description of the machine and the results in a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["machine"], content["results"]


def bars(key: tuple[str, str], results: Sequence[Result]) -> list[tuple[str, float]]:
    """Return name and figure of each bar of a group, this provider's first."""
    found = [each for each in results if (each["case"], each["measurement"]) == key]
    theirs = [(each["baseline"], each["theirs"]["median"]) for each in found if "theirs" in each]
    return [("", found[0]["ours"]["median"]), *theirs]


def draw(chart: Chart, results: Sequence[Result]) -> str:
    """Return a chart as SVG."""
    groups = [(label, bars(key, results)) for label, key in chart.groups]
    longest = max(figure for _, each in groups for _, figure in each)
    drawing = Drawing(chart.title, TOP + sum(len(each) * BAR + GAP for _, each in groups))
    y = TOP - GAP
    for label, each in groups:
        drawing.text(MARGIN, y + BAR * len(each) / 2 + 4, label)
        for name, figure in each:
            width = max(figure / longest * (WIDTH - LABELS - VALUES), 1)
            drawing.box(LABELS, y + 1, width, BAR - 2, GRAY if name else BLUE)
            drawing.text(LABELS + width + 6, y + BAR - 3.5, f"{format_number(figure)} {name}".strip(), size=12)
            y += BAR
        y += GAP
    return drawing.svg()


def files() -> dict[Path, str]:
    """Return the content of each file that this module writes, by path."""
    machine, results = load()
    drawn = {CHARTS_FOLDER / f"{name}.svg": draw(chart, results) for name, chart in CHARTS.items()}
    return {TABLE: f"# Results of the benchmarks\n\n{machine}\n\n{table(results)}", **drawn}


if __name__ == "__main__":
    for path, content in files().items():
        path.write_text(content, encoding="utf-8")
