"""The browser that tests control: what happens if it dies, and while it goes from page to page."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.stack import browser
from tests.stack.browser import Page, browser_page, save_open_pages
from tests.stack.devtools import BrowserDiedError, BrowserError
from tests.stack.watch import check_servers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# As a form that gets its stored values late.
FORGETFUL = """
<input><script>
const field = document.querySelector("input");
let forgets = 2;
field.addEventListener("input", () => {
    if (forgets) requestAnimationFrame(() => { forgets -= 1; field.value = "stored"; });
});
</script>
"""


def page_with(html: str) -> str:
    return f"data:text/html,{quote(html)}"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser_page("about:blank", tmp_path_factory.mktemp("browser")) as opened:
        opened.run_on_every_page("window.isMarked = true;")
        yield opened


@pytest.mark.parametrize("dies", ["browser", "page"])
def test_a_browser_that_dies_fails_one_test_and_is_started_again_at_the_same_address(page: Page, dies: str) -> None:
    page.open(page_with("<p>first</p>"))
    assert page.find("p") == ["first"]
    if dies == "browser":
        os.kill(page.pid, signal.SIGKILL)
        os.waitid(os.P_PID, page.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(BrowserDiedError):
        page.crash()
    check_servers()
    assert page.find("p") == ["first"]
    assert page.look("p", see="() => window.isMarked") == [True]


def test_the_page_of_a_failed_test_is_saved(page: Page, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(browser, "FAILED", tmp_path / "failed")
    page.open(page_with("<p>first</p>"))

    save_open_pages()

    (picture,) = (tmp_path / "failed").iterdir()
    assert "test_the_page_of_a_failed_test_is_saved" in picture.name
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_text_is_entered_until_the_field_keeps_it(page: Page) -> None:
    page.open(page_with(FORGETFUL))
    page.enter("input", "blue")
    page.wait_for("input", ["blue"], see="(each) => each.value")


def test_an_address_that_cannot_be_opened_is_an_error(page: Page) -> None:
    with pytest.raises(BrowserError, match="net::ERR_"):
        page.open("http://127.0.0.1:1/")
