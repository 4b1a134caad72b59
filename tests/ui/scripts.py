"""JavaScript that tests run in the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.stack.browser import Page

WATCH_SHIFTS = """
() => {
    window.shifts = 0;
    new PerformanceObserver((list) => { window.shifts += list.getEntries().length; }).observe({type: "layout-shift"});
}
"""
HURRY = "{ const later = setTimeout; window.setTimeout = (call, delay, ...rest) => later(call, delay / 10, ...rest); }"
"""Makes the page wait a tenth of its time, when it runs at the start of the page."""
HIDE = """
() => {
    Object.defineProperty(document, "hidden", {value: true, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}
"""
SHOW = "() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); }"


def run(page: Page, function: str) -> Any:
    """Return the result of a JavaScript function."""
    [value] = page.find("html", see=function)
    return value
