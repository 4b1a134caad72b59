"""Pictures of pages in the documentation.

A picture is stored together with the text that its page shows. A test compares this text with that of the current
page, so that no picture becomes outdated without a failing test. pytest's option ``--update-pictures`` stores both
again.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.stack.browser import Page

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
MARGIN = 16
"""Pixels below the content of a page."""
CONTENT_END = "(each) => Math.max(...[...each.querySelectorAll('*')].map((one) => one.getBoundingClientRect().bottom))"
_CHANGING = (
    (re.compile(r"\b[0-9a-f]{56}\b"), "ID"),
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

    def check(self, page: Page, name: str) -> None:
        """Compare the main part of a page with the stored picture of a name."""
        picture, description = (FOLDER / f"{name}.{suffix}" for suffix in ("png", "txt"))
        shown = without_changing_parts("".join(page.find("main")))
        if self.update:
            [height] = page.look("main", see=CONTENT_END)
            page.save_picture(picture, height=height + MARGIN)
            description.write_text(shown, encoding="utf-8")
        assert picture.exists(), f"{picture.name} is missing: run this test with --update-pictures"
        stored = description.read_text(encoding="utf-8")
        assert shown == stored, f"{picture.name} is outdated: run this test with --update-pictures, and look at it"


def without_changing_parts(text: str) -> str:
    """Return the text of a page without times, durations and numbers."""
    for pattern, name in _CHANGING:
        text = pattern.sub(name, text)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines() if line.strip())
