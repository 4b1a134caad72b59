"""JavaScript that tests run in the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.stack.browser import TWO_FRAMES
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from tests.stack.browser import Page

# What was drawn before is reported in the frame in which it is drawn.
WATCH_SHIFTS = f"""
async () => {{
    await {TWO_FRAMES};
    window.shifts = 0;
    window.watchesShifts = new PerformanceObserver((list) => {{ window.shifts += list.getEntries().length; }});
    window.watchesShifts.observe({{type: "layout-shift"}});
}}
"""
SHIFTS = f"""
async () => {{
    await {TWO_FRAMES};
    window.shifts += window.watchesShifts.takeRecords().length;
    return window.shifts;
}}
"""
"""Returns how often something has moved since :data:`WATCH_SHIFTS`, up to what is drawn now."""
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
    """Return the result of a JavaScript function, or of its promise."""
    [value] = page.find("html", see=function)
    return value


def let_pass(page: Page, seconds: float) -> None:
    """Wait until a timer of the page has run for so long: all that were set before for a shorter time have as well.

    Without a server that answers, only this shows that the page does *not* do something.
    """
    run(page, f"() => {{ window.passed = false; setTimeout(() => {{ window.passed = true; }}, {1000 * seconds}); }}")
    wait_until(lambda: run(page, "() => window.passed") or None, "the time does not pass")
