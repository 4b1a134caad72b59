"""The pages in a browser: nothing is cut, and code needs no scrolling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stack.browser import browser_page
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stack.browser import Page

LOADED = "each => each.ownerDocument.readyState === 'complete' ? each.ownerDocument.URL : ''"
TOO_WIDE = "each => each.scrollWidth > each.clientWidth + 1 ? each.innerText.slice(0, 80) : ''"
GENERATED = {"genindex.html", "py-modindex.html", "search.html"}


def too_wide(page: Page, url: str, selector: str) -> list[str]:
    """Return the beginning of each matching element of a page that is wider than its place."""
    page.open(url)
    wait_until(lambda: page.look("html", see=LOADED) == [url] or None, f"{url} is not loaded")
    return [text for text in page.look(selector, see=TOO_WIDE) if text]


@pytest.mark.parametrize(("width", "selector"), [(1280, "html, pre, .table-wrapper"), (500, "html, pre")])
def test_nothing_is_wider_than_its_place(width: int, selector: str, site: Path, tmp_path: Path) -> None:
    urls = [path.as_uri() for path in sorted(site.glob("*.html")) if path.name not in GENERATED]
    with browser_page(urls[0], tmp_path, (width, 900)) as page:
        found = {url: too_wide(page, url, selector) for url in urls}
    assert {url: texts for url, texts in found.items() if texts} == {}
