"""Pictures of pages in the documentation.

A picture is stored together with the text that its page shows. A test compares this text with that of the current
page, so that no picture becomes outdated without a failing test. pytest's option ``--update-pictures`` stores both
again.
"""

from __future__ import annotations

import math
import re
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.stack.browser import Page

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
MARGIN = 16
"""Pixels below the content of a page."""
EDGES = """
(each) => {
    const visible = [...each.querySelectorAll('*')].filter((one) => one.checkVisibility());
    const boxes = visible.map((one) => one.getBoundingClientRect());
    const box = each.getBoundingClientRect();
    return [box.x, box.y, box.right, Math.max(...(boxes.length ? boxes : [box]).map((one) => one.bottom))];
}
"""
_CHANGING = (
    # What Ray itself writes into the log of a job.
    (re.compile(r"^.*(job_manager\.py:\d+ -- |Running entrypoint for job ).*\n", re.MULTILINE), ""),
    # Which statuses of its job a task sees, and when, depends on the machine.
    (re.compile(r"^(\d+\n\[.*\] INFO - )?Job \S+ is [A-Z]+( after .* s)?[.,].*\n", re.MULTILINE), ""),
    (re.compile(r"\btest__[0-9a-f]{12}\b"), "RUN"),
    (re.compile(r"\braysubmit_\w+"), "ID"),
    (re.compile(r"\b([0-9a-f]{16}|[0-9a-f]{56})\b"), "ID"),
    (re.compile(r"[A-Z][a-z]{2} \d+, \d{4}, [\d:]+ [AP]M"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d [\d:]+ UTC"), "TIME"),
    (re.compile(r"(\d[\d.]* (s|min|h)( |\b))+"), "DURATION"),
    (re.compile(r"\d[\d.,]*"), "N"),
)
"""What is different at each run, and what stands for it."""


class Pictures(NamedTuple):
    """Compares pages with the stored ones.

    :param update: whether to store them instead.
    """

    update: bool

    def check(
        self,
        page: Page,
        name: str,
        shows: Callable[[str], bool],
        parts: Sequence[str] = ("main",),
        *,
        alone: bool = False,
        ours: str = "",
    ) -> None:
        """Wait for parts of a page, and compare them with the stored picture of a name.

        :param shows: whether this text of the parts is the one to compare; before, the page may show another one.
        :param parts: CSS selectors of the elements whose text is compared; the picture ends below them.
        :param alone: whether the picture has nothing but these elements, instead of all from the top of the window.
        :param ours: pattern of the lines that are compared, in a page of Airflow, whose own words are not.
        """
        picture = FOLDER / f"{name}.png"
        description = FOLDER / f"{name}.txt"
        text = without_changing_parts(_text_of(page, parts, shows))
        shown = "".join(line for line in text.splitlines(keepends=True) if re.search(ours, line))
        if self.update:
            x, y, right, bottom = zip(*(page.look(part, see=EDGES)[-1] for part in parts), strict=True)
            box = (min(x), min(y), max(right), max(bottom)) if alone else (0, 0, math.inf, max(bottom) + MARGIN)
            page.save_picture(picture, box)
            description.write_text(shown, encoding="utf-8")
        assert picture.exists(), f"{picture.name} is missing: run this test with --update-pictures"
        stored = description.read_text(encoding="utf-8")
        changes = "\n".join(unified_diff(stored.splitlines(), shown.splitlines(), "stored", "shown", lineterm=""))
        assert shown == stored, (
            f"{picture.name} is outdated: run this test with --update-pictures, and look at it\n{changes}"
        )


def shows(*words: str) -> Callable[[str], bool]:
    """Return whether a text has all of these words."""
    return lambda text: all(word in text for word in words)


def _text_of(page: Page, parts: Sequence[str], shows: Callable[[str], bool]) -> str:
    def look() -> str | None:
        found = [each for each in page.texts(parts) if each is not None]
        text = "\n".join(found)
        return text if len(found) == len(parts) and shows(text) else None

    return wait_until(look, lambda: f"the page shows:\n{page.text()}\n")


def without_changing_parts(text: str) -> str:
    """Return the text of a page without times, durations and numbers."""
    for pattern, name in _CHANGING:
        text = pattern.sub(name, text)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines() if line.strip())
