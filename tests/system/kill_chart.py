"""What the end of a task does to its job, as a chart for the documentation.

    python -m tests.system.kill_chart

writes ``docs/charts/kills.svg``. It shows what the tests of this folder expect of each kill in a real Airflow.
"""

from __future__ import annotations

from benchmarks.report import CHARTS_FOLDER
from benchmarks.svg import BLUE, GRAY, MARGIN, RED, WIDTH, Drawing
from tests.system.test_kills import EXECUTION_TIMEOUT, TIMEOUT
from tests.system.test_triggerer_kills import KILLS
from tests.system.user_acts import (
    CLEARED,
    DEFERRED,
    DEFERRED_STOPS,
    FAILED,
    SUCCESS,
    WORKER,
    WORKER_STOPS,
    Cell,
    stops_job,
)

PATH = CHARTS_FOLDER / "kills.svg"
ENDS: dict[str, tuple[list[str], list[tuple[str, str]]]] = {
    "marked failed or successful": ([FAILED, SUCCESS], [(WORKER, WORKER_STOPS), (DEFERRED, DEFERRED_STOPS)]),
    "cleared, in a worker": ([CLEARED], [(WORKER, WORKER_STOPS)]),
    "cleared, deferred": ([CLEARED], [(DEFERRED, DEFERRED_STOPS)]),
    "timeout, execution_timeout": ([TIMEOUT, EXECUTION_TIMEOUT], [(WORKER, WORKER_STOPS), (DEFERRED, DEFERRED_STOPS)]),
    "triggerer stops, dies, freezes": (list(KILLS), [(DEFERRED, DEFERRED_STOPS)]),
}
"""Label: what happens, and to which sensors, by default and with ``stop_job_on_kill``."""
SETTINGS = ("default", "stop_job_on_kill")
LEFT, EVENT, RIGHT = 340, 470, WIDTH - 110
BAR, GAP, TOP = 15, 14, 70


def is_stopped(cell: Cell) -> bool:
    """Tell whether the job is stopped; it never is if only a triggerer ends."""
    return cell[0] not in KILLS and stops_job(cell)


def draw() -> str:
    """Return the chart as SVG."""
    height = TOP + len(ENDS) * (len(SETTINGS) * BAR + GAP)
    drawing = Drawing("What happens to the job", height)
    drawing.text(EVENT + 4, TOP - 20, "event", size=12)
    y = TOP - GAP // 2
    for label, (events, sensors) in ENDS.items():
        drawing.text(MARGIN, y + BAR * 1.25, label)
        for setting, name in enumerate(SETTINGS):
            [stopped] = {is_stopped((event, sensor[setting])) for event in events for sensor in sensors}
            drawing.text(LEFT - 110, y + BAR - 3.5, name, size=12)
            drawing.box(LEFT, y + 1, (EVENT if stopped else RIGHT) - LEFT, BAR - 2, BLUE)
            end, color = ("stopped", RED) if stopped else ("keeps running", BLUE)
            drawing.text((EVENT if stopped else RIGHT) + 6, y + BAR - 3.5, end, size=12, color=color)
            y += BAR
        y += GAP
    drawing.box(EVENT - 1, TOP - 32, 2, height - TOP + 24, GRAY, round_by=0)
    return drawing.svg()


if __name__ == "__main__":
    PATH.write_text(draw(), encoding="utf-8")
