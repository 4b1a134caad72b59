"""The live log in a browser: what it does when it is refused, ends, begins anew, or the page is hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.stack.browser import TWO_FRAMES, Page, browser_page
from tests.stack.watch import wait_until
from tests.ui.page_server import Failure, PageServer, Request, job, log_part
from tests.ui.scripts import HIDE, HURRY, SHOW, let_pass, run

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_SECONDS = 2
"""After which the page asks again; see ``log.js``."""
JOB = "connections/ray/jobs/j1"
LOG = f"{JOB}/log"
LONG = "x" * 400
WATCH_LINES = """
() => {
    const lines = document.querySelector(".lines");
    window.wasEmpty = false;
    const look = new MutationObserver(() => { window.wasEmpty ||= !lines.querySelector(".line"); });
    look.observe(lines, {childList: true, subtree: true});
}
"""
BELOW = """
() => {
    const lines = document.querySelector(".lines");
    return Math.round(lines.scrollHeight - lines.scrollTop - lines.clientHeight);
}
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser_page("about:blank", tmp_path_factory.mktemp("live_log"), size=(1280, 900)) as opened:
        opened.run_on_every_page(HURRY)
        yield opened


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer() as running:
        running.answers = {"connections": {"connections": ["ray"]}, JOB: job()}
        yield running


def open_job(browser: Page, server: PageServer) -> None:
    browser.open(f"{server.url}/#/ray/jobs/j1")


def lines(browser: Page) -> list[str]:
    return browser.look(".line")


def wait_for_lines(browser: Page, *expected: str) -> None:
    browser.wait_for(".line", list(expected))


def wait_for_state(browser: Page, expected: str) -> None:
    browser.wait_for(".log-status", [expected])


class Log:
    """The log of a job, of which each request gets what follows its place.

    :param lines: those that are there.
    """

    def __init__(self, *lines: str) -> None:
        self.name = "log"
        self.lines = list(lines)
        self.fields: dict[str, Any] = {}
        """More fields of the answers."""

    def write(self, *lines: str) -> None:
        self.lines.extend(lines)

    def begin_anew(self, *lines: str) -> None:
        """Become another log."""
        self.name, self.lines = f"{self.name}_", list(lines)

    def __call__(self, request: Request) -> Any:
        name, _, count = request.query.get("after", [""])[0].partition("-")
        start = int(count) if name == self.name else 0
        after = f"{self.name}-{len(self.lines)}"
        return log_part(*self.lines[start:], after=after, restart=name != self.name, **self.fields)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Failure(429, "You have 10 logs open, the maximum: close one of them."), "You have 10 logs open"),
        (Failure(502), "Airflow answered 502."),
        (Failure(401, "Invalid token"), "You are not signed in any more"),
    ],
)
def test_a_log_that_is_refused_says_why_and_is_requested_again(
    failure: Failure, words: str, browser: Page, server: PageServer
) -> None:
    server.answers[LOG] = failure
    open_job(browser, server)
    browser.wait_until(lambda text: f"Not available: {words}" in text and "Trying again…" in text)
    server.answers[LOG] = Log("a")
    wait_for_lines(browser, "a")
    wait_for_state(browser, "Live")


def test_a_log_that_cannot_be_read_before_the_job_ends_continues(browser: Page, server: PageServer) -> None:
    log = server.answers[LOG] = Log("a")
    log.fields["end"] = "The job's status cannot be read."
    open_job(browser, server)
    wait_for_state(browser, "Not available: The job's status cannot be read. Trying again…")
    log.fields.clear()
    log.write("b")
    wait_for_lines(browser, "a", "b")
    wait_for_state(browser, "Live")


@pytest.mark.parametrize(("reason", "state"), [("", "Complete"), ("It cannot be read.", "Ended: It cannot be read.")])
def test_the_log_of_an_ended_job_is_not_requested_again(
    reason: str, state: str, browser: Page, server: PageServer
) -> None:
    server.answers[JOB] = job("FAILED")
    log = server.answers[LOG] = Log("a")
    log.fields["end"] = reason
    open_job(browser, server)
    wait_for_state(browser, state)
    let_pass(browser, 3 * POLL_SECONDS)
    assert len(server.of(LOG)) == 1


def test_a_long_log_is_requested_in_parts_without_a_pause(browser: Page, server: PageServer) -> None:
    parts = {"": log_part("a", after="1", restart=True, more=True), "1": log_part("b", after="2", more=True)}
    server.answers[LOG] = lambda request: parts.get(request.query.get("after", [""])[0], log_part("c", end=""))
    open_job(browser, server)
    wait_for_lines(browser, "a", "b", "c")
    assert [request.query for request in server.of(LOG)] == [{}, {"after": ["1"]}, {"after": ["2"]}]


def test_a_hidden_page_asks_for_nothing_and_continues_where_it_was(browser: Page, server: PageServer) -> None:
    log = server.answers[LOG] = Log("a")
    open_job(browser, server)
    wait_for_lines(browser, "a")
    run(browser, HIDE)
    # A request may have been under way.
    let_pass(browser, 2 * POLL_SECONDS)
    before = len(server.of(LOG))
    log.write("b")
    let_pass(browser, 3 * POLL_SECONDS)
    assert len(server.of(LOG)) == before
    run(browser, SHOW)
    wait_for_lines(browser, "a", "b")
    assert server.of(LOG)[before].query == {"after": ["log-1"]}


def test_a_log_that_begins_anew_replaces_the_lines_at_once(browser: Page, server: PageServer) -> None:
    log = server.answers[LOG] = Log("a", "b")
    log.fields["skipped"] = 5
    open_job(browser, server)
    wait_for_lines(browser, "a", "b")
    log.fields.clear()
    dropped = browser.look(".log", see="(each) => parseInt(each.dataset.dropped)")
    assert dropped[0] >= 5
    run(browser, WATCH_LINES)
    log.begin_anew("c")
    wait_for_lines(browser, "c")
    assert run(browser, "() => window.wasEmpty") is False
    assert browser.look(".log", see="(each) => each.dataset.dropped ?? ''") == [""]


def test_a_paused_log_that_begins_anew_keeps_its_lines_until_it_is_resumed(browser: Page, server: PageServer) -> None:
    log = server.answers[LOG] = Log("a", "b")
    open_job(browser, server)
    wait_for_lines(browser, "a", "b")
    browser.click("button", "Pause")
    log.write("c")
    browser.find("button", "Resume (1 new)")
    log.begin_anew("a", "b", "c")
    browser.find("button", "Resume (3 new)")
    assert lines(browser) == ["a", "b"]
    browser.click("button", "Resume (3 new)")
    wait_for_lines(browser, "a", "b", "c")


def test_a_complete_log_cannot_be_paused_but_resumed(browser: Page, server: PageServer) -> None:
    log = server.answers[LOG] = Log("a")
    open_job(browser, server)
    wait_for_lines(browser, "a")
    browser.click("button", "Pause")
    log.write("b")
    browser.find("button", "Resume (1 new)")
    log.fields["end"] = ""
    wait_for_state(browser, "Complete")
    browser.click("button", "Resume (1 new)")
    wait_for_lines(browser, "a", "b")
    assert browser.look(".tools button") == ["Download"]


def test_an_empty_log_that_begins_anew_is_not_the_old_one(browser: Page, server: PageServer) -> None:
    log = server.answers[LOG] = Log("a")
    open_job(browser, server)
    wait_for_lines(browser, "a")
    log.fields["end"] = ""
    log.begin_anew()
    wait_for_lines(browser, "The log is empty.")
    wait_for_state(browser, "Complete")


def test_a_log_stays_at_its_end_while_long_lines_are_added(browser: Page, server: PageServer) -> None:
    log = server.answers[LOG] = Log()
    open_job(browser, server)
    browser.find(".lines")
    for number in range(1, 4):
        log.write(*[LONG] * 499, f"last of {number}")
        browser.find(".line", f"last of {number}")
        wait_until(lambda: run(browser, BELOW) == 0 or None, lambda: f"{run(browser, BELOW)} pixels are below")
    # The page is told in the next frame.
    run(browser, f"() => {{ document.querySelector('.lines').scrollTop -= 500; return {TWO_FRAMES}; }}")
    assert run(browser, BELOW) > 0
    log.write("not followed")
    browser.find(".line", "not followed", see="() => true")
    assert run(browser, BELOW) > 100


def test_progress_and_links_that_the_job_has_printed_are_above_its_log(browser: Page, server: PageServer) -> None:
    progress = {"fraction": 0.25, "text": "25% (1 of 4): epoch 1"}
    links = [{"name": "Board", "url": "http://board.example/?run=1&x=%22"}]
    log = server.answers[LOG] = Log()
    log.fields["reported"] = {"progress": progress, "links": links}
    open_job(browser, server)
    browser.wait_for(".reported .bar", ["25% (1 of 4): epoch 1"])
    assert browser.look(".reported progress", see="(each) => [each.value, each.max]") == [[0.25, 1]]
    assert browser.look(".reported a", see="(each) => [each.href, each.target, each.rel, each.textContent]") == [
        [links[0]["url"], "_blank", "noopener noreferrer", "Board"]
    ]
    log.fields["reported"] = {"progress": {"fraction": None, "text": "7: <b>"}, "links": []}
    browser.wait_for(".reported .bar", ["7: <b>"])
    assert browser.look(".reported progress", see="(each) => each.hasAttribute('value')") == [False]
    log.fields.clear()
    browser.wait_for(".reported .bar", [])
