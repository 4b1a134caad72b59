"""The pictures of the documentation: each is used, described, and not too large."""

from __future__ import annotations

import re

from tests.docs.conftest import PAGES
from tests.stack.pictures import FOLDER

MAX_BYTES = 200_000
PICTURE = re.compile(r"!\[([^\]]+)\]\(pictures/([\w-]+)\.png\)")


def test_every_picture_is_used_and_described() -> None:
    used: dict[str, str] = {}
    for page in PAGES.glob("*.md"):
        used |= {name: text for text, name in PICTURE.findall(page.read_text(encoding="utf-8"))}
    assert {path.stem for path in FOLDER.glob("*.png")} == set(used)
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(used)
    assert all(len(text.split()) > 3 for text in used.values())


def test_pictures_are_small() -> None:
    assert {path.name for path in FOLDER.glob("*.png") if path.stat().st_size > MAX_BYTES} == set()
