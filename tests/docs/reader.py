"""A reader of the documentation: sees what is on the screen, scrolls a little, and clicks what can be clicked."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tests.docs.conftest import ROOT
from tests.stack.http_servers import serving
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.browser import Page

BLOCKS = "h1, h2, h3, p, li, td, th, pre, dt"
ARTICLE = "article, main"
# The first element with a text that is within reach is marked. Of nested elements only the innermost one counts. Within
# reach is the screen to which the last link has led, and, of what scrolls with the page, the next one.
FIND_IN_REACH = """
(area) => {
    const plain = (each) => (each.innerText ?? "").replace(/\\s+/g, " ").trim();
    const has = (each) => whole ? plain(each) === text : plain(each).includes(text);
    const found = [...area.querySelectorAll(selector)].filter((each) => each.checkVisibility() && has(each));
    const inner = found.filter((each) => !found.some((other) => other !== each && each.contains(other)));
    const moved = area.matches(scrolled) ? scrollY - start : 0;
    const below = (each) => (each.getClientRects()[0].top + moved) / innerHeight;
    const near = inner.filter((each) => below(each) >= 0 && below(each) < (area.matches(scrolled) ? 2 : 1));
    document.querySelectorAll("[data-next]").forEach((each) => each.removeAttribute("data-next"));
    near[0]?.setAttribute("data-next", "");
    return inner.map(below);
}
"""
# A browser scrolls to the target of a link some time after the page is complete, and by whole pixels only.
POSITION = """
() => {
    const top = document.querySelector(":target")?.getBoundingClientRect().top ?? 0;
    return [location.href, document.readyState, top > -1 && top < innerHeight, scrollY];
}
"""
SCROLL_TO = """
(each) => {
    const box = each.getBoundingClientRect();
    const isHidden = box.top > innerHeight * 0.9 || box.top < 0;
    if (isHidden) window.scrollBy({top: box.top - innerHeight / 3, behavior: "instant"});
    return isHidden;
}
"""
MARKED = "[data-next]"


class Reader:
    """Goes from page to page; what the reader sees at each step is saved as a picture.

    :param root: URL of the folder with the site.
    :param folder: empty folder for the pictures.
    """

    def __init__(self, page: Page, root: str, folder: Path) -> None:
        self._page = page
        self._root = root
        self._folder = folder
        self._start = 0.0

    def opens(self, path: str, *needs: str) -> None:
        """Open a page of the site, or a Markdown file of the repository, and look for what the reader needs there."""
        self._page.open(f"{self._root}/{path}")
        self._arrive(f"{self._root}/{path}", needs)

    def follows(self, link: str, *needs: str, within: str = ARTICLE) -> None:
        """Click a link that is within reach, and look for what the reader needs where it leads.

        :param link: the text of the link.
        :param within: CSS selector of the part of the page that has it.
        """
        self._find("a[href]", link, within, whole=True)
        (url,) = self._page.look(MARKED, see="(each) => each.href")
        self._page.click(MARKED)
        self._arrive(url, needs)

    def searches(self, query: str, path: str, *needs: str) -> None:
        """Enter a query in the search field of the site, and look for what the reader needs on the page that opens.

        :param path: path and fragment of that page.
        """
        self._page.enter("input[name=q]", query)
        self._page.press_enter()
        self._arrive(f"{self._root}/{path}", needs)

    def _arrive(self, url: str, needs: tuple[str, ...]) -> None:
        """Wait until a page is there and has stopped moving; then look for what the reader needs."""
        seen: Any = None

        def look() -> bool | None:
            nonlocal seen
            before, seen = seen, self._page.look("html", see=POSITION)
            return (seen and seen == before and seen[0][:3] == [url, "complete", True]) or None

        wait_until(look, lambda: f"{url} is not there: {seen}")
        self._start = seen[0][3]
        self._save_picture()
        for need in needs:
            self._find(BLOCKS, need, ARTICLE)
            if self._page.look(MARKED, see=SCROLL_TO) == [True]:
                self._save_picture()

    def _find(self, selector: str, text: str, within: str, *, whole: bool = False) -> None:
        """Mark the first element with a text that is within reach; fail if there is none."""
        values = {"selector": selector, "text": text, "whole": whole, "scrolled": ARTICLE, "start": self._start}
        constants = " ".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
        found = self._page.look(within, see=f"(area) => {{ {constants} return ({FIND_IN_REACH})(area); }}")
        places = ", ".join(f"{place:.1f}" for area in found for place in area)
        where = f"{places} screens below the place of arrival" if places else "nowhere"
        assert self._page.look(MARKED), f"{text!r} is {where}"

    def _save_picture(self) -> None:
        number = len(list(self._folder.iterdir())) + 1
        (url,) = self._page.look("html", see="() => location.href")
        self._page.save_picture(self._folder / f"{number:02}-{Path(urlsplit(url).path).stem}.png")


class _Handler(SimpleHTTPRequestHandler):
    """Serves the site, and the Markdown files of the repository as a page each."""

    def do_GET(self) -> None:
        path = ROOT / unquote(urlsplit(self.path).path).lstrip("/")
        if path.suffix != ".md":
            super().do_GET()
            return
        page = _render(path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        pass


def _render(path: Path) -> bytes:
    """Return a Markdown file as HTML with the ids that GitHub gives to headings."""
    command = [sys.executable, "-c", "from myst_parser.parsers.docutils_ import cli_html5; cli_html5()"]
    options = ["--myst-gfm-only=yes", "--myst-heading-anchors=3", "--myst-all-links-external=yes"]
    return subprocess.run([*command, *options, str(path)], capture_output=True, check=True).stdout


@contextlib.contextmanager
def site_server(site: Path) -> Iterator[str]:
    """Serve the site and the Markdown files of the repository until the block ends; return the URL."""
    handler = functools.partial(_Handler, directory=str(site))
    with serving(handler) as url:
        yield url
