"""The live log in a browser: what it does when its stream is refused, ends, begins anew, or the page is hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stack.browser import TWO_FRAMES, Page, browser_page
from tests.stack.watch import wait_until
from tests.ui.page_server import Failure, PageServer, Request, Stream, event, job, records
from tests.ui.scripts import HIDE, HURRY, SHOW, let_pass, run

if TYPE_CHECKING:
    from collections.abc import Iterator

AGAIN_SECONDS, HIDDEN_SECONDS = 7, 30
"""After which the page requests a log again, and has no stream if it is hidden; see ``log_stream.js``."""
JOB = "connections/ray/jobs/j1"
LOG = f"{JOB}/log"
RESTART = event("restart", "")
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
    server.answers[LOG] = Stream(RESTART, records("log-1", "a"))
    wait_for_lines(browser, "a")
    wait_for_state(browser, "Live")


def test_a_stream_that_ends_before_the_job_continues(browser: Page, server: PageServer) -> None:
    server.answers[LOG] = Stream(
        RESTART, records("log-1", "a"), event("end", "The job's status cannot be read."), ends=True
    )
    open_job(browser, server)
    wait_for_state(browser, "Not available: The job's status cannot be read. Trying again…")
    server.answers[LOG] = Stream(records("log-2", "b"))
    wait_for_lines(browser, "a", "b")
    wait_for_state(browser, "Live")
    assert server.of(LOG)[-1].query == {"after": ["log-1"]}


def test_the_log_of_an_ended_job_is_not_requested_again(browser: Page, server: PageServer) -> None:
    reason = "The end of the log cannot be read."
    server.answers[JOB] = job("FAILED")
    server.answers[LOG] = Stream(RESTART, records("log-1", "a"), event("end", reason), ends=True)
    open_job(browser, server)
    wait_for_state(browser, f"Ended: {reason}")
    let_pass(browser, 2 * AGAIN_SECONDS)
    assert len(server.of(LOG)) == 1


def test_a_hidden_page_has_no_stream_and_continues_where_it_was(browser: Page, server: PageServer) -> None:
    stream = server.answers[LOG] = Stream(RESTART, records("log-1", "a"))
    open_job(browser, server)
    wait_for_lines(browser, "a")
    run(browser, HIDE)
    wait_until(lambda: stream.viewers == 0 or None, "a hidden page reads the log")
    server.answers[LOG] = Stream(records("log-2", "b"))
    run(browser, SHOW)
    wait_for_lines(browser, "a", "b")
    assert [request.query for request in server.of(LOG)] == [{}, {"after": ["log-1"]}]


def test_a_page_that_is_hidden_for_a_moment_keeps_its_stream(browser: Page, server: PageServer) -> None:
    stream = server.answers[LOG] = Stream(RESTART, records("log-1", "a"))
    open_job(browser, server)
    wait_for_lines(browser, "a")
    run(browser, f"() => {{ ({HIDE})(); ({SHOW})(); }}")
    let_pass(browser, 2 * HIDDEN_SECONDS)
    assert (stream.viewers, len(server.of(LOG))) == (1, 1)


def test_a_refused_log_is_not_requested_while_the_page_is_hidden(browser: Page, server: PageServer) -> None:
    server.answers[LOG] = Failure(502)
    open_job(browser, server)
    browser.wait_until(lambda text: "Airflow answered 502." in text)
    run(browser, HIDE)
    # A request may have been under way.
    let_pass(browser, 2 * AGAIN_SECONDS)
    before = len(server.of(LOG))
    server.answers[LOG] = Stream(RESTART, records("log-1", "a"))
    let_pass(browser, 2 * AGAIN_SECONDS)
    assert len(server.of(LOG)) == before
    run(browser, SHOW)
    wait_for_lines(browser, "a")


def test_a_log_that_begins_anew_replaces_the_lines_at_once(browser: Page, server: PageServer) -> None:
    stream = server.answers[LOG] = Stream(RESTART, event("skipped", 5), records("log-1", "a", "b"))
    open_job(browser, server)
    wait_for_lines(browser, "a", "b")
    assert browser.look(".log", see="(each) => each.dataset.dropped") == [
        "5 earlier lines are not shown here; the download has them."
    ]
    run(browser, WATCH_LINES)
    stream.send(RESTART)
    stream.send(records("other-1", "c"))
    wait_for_lines(browser, "c")
    assert run(browser, "() => window.wasEmpty") is False
    assert browser.look(".log", see="(each) => each.dataset.dropped ?? ''") == [""]


def test_a_paused_log_that_begins_anew_keeps_its_lines_until_it_is_resumed(browser: Page, server: PageServer) -> None:
    stream = server.answers[LOG] = Stream(RESTART, records("log-1", "a", "b"))
    open_job(browser, server)
    wait_for_lines(browser, "a", "b")
    browser.click("button", "Pause")
    stream.send(records("log-2", "c"), RESTART, records("other-3", "a", "b", "c"))
    browser.find("button", "Resume (3 new)")
    assert lines(browser) == ["a", "b"]
    browser.click("button", "Resume (3 new)")
    wait_for_lines(browser, "a", "b", "c")


def test_an_empty_log_that_begins_anew_is_not_the_old_one(browser: Page, server: PageServer) -> None:
    stream = server.answers[LOG] = Stream(RESTART, records("log-1", "a"))
    open_job(browser, server)
    wait_for_lines(browser, "a")
    stream.send(RESTART, event("end", ""))
    wait_for_lines(browser, "The log is empty.")
    wait_for_state(browser, "Complete")


def test_a_log_stays_at_its_end_while_long_lines_are_added(browser: Page, server: PageServer) -> None:
    stream = server.answers[LOG] = Stream(RESTART)
    open_job(browser, server)
    browser.find(".lines")
    for number in range(1, 4):
        stream.send(records(f"log-{number * 500}", *[LONG] * 499, f"last of {number}"))
        browser.find(".line", f"last of {number}")
        wait_until(lambda: run(browser, BELOW) == 0 or None, lambda: f"{run(browser, BELOW)} pixels are below")
    # The page is told in the next frame.
    run(browser, f"() => {{ document.querySelector('.lines').scrollTop -= 500; return {TWO_FRAMES}; }}")
    assert run(browser, BELOW) > 0
    stream.send(records("log-2000", "not followed"))
    browser.find(".line", "not followed", see="() => true")
    assert run(browser, BELOW) > 100


def test_progress_and_links_that_the_job_has_printed_are_above_its_log(browser: Page, server: PageServer) -> None:
    progress = {"fraction": 0.25, "text": "25% (1 of 4): epoch 1"}
    links = [{"name": "Board", "url": "http://board.example/?run=1&x=%22"}]
    stream = server.answers[LOG] = Stream(event("reported", {"progress": progress, "links": links}), RESTART)
    open_job(browser, server)
    browser.wait_for(".reported .bar", ["25% (1 of 4): epoch 1"])
    assert browser.look(".reported progress", see="(each) => [each.value, each.max]") == [[0.25, 1]]
    assert browser.look(".reported a", see="(each) => [each.href, each.target, each.rel, each.textContent]") == [
        [links[0]["url"], "_blank", "noopener noreferrer", "Board"]
    ]
    stream.send(event("reported", {"progress": {"fraction": None, "text": "7: <b>"}, "links": []}))
    browser.wait_for(".reported .bar", ["7: <b>"])
    assert browser.look(".reported progress", see="(each) => each.hasAttribute('value')") == [False]
    stream.send(event("reported", None))
    browser.wait_for(".reported .bar", [])


def answer_by_position(stream: Stream, rest: Stream) -> object:
    def answer(request: Request) -> Stream:
        return rest if request.last_event_id or request.query else stream

    return answer


def test_a_stream_that_reconnects_by_itself_sends_its_newest_position(browser: Page, server: PageServer) -> None:
    rest = Stream(records("log-2", "b"))
    first = Stream("retry: 10\n\n", RESTART, records("log-1", "a"), ends=True)
    server.answers[LOG] = answer_by_position(first, rest)
    open_job(browser, server)
    wait_for_lines(browser, "a", "b")
    assert server.of(LOG)[-1].last_event_id == "log-1"
