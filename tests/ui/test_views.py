"""The views in a browser: what they keep, what advances, and what a failure leaves of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.stack.browser import Page, browser_page
from tests.stack.watch import wait_until
from tests.ui.page_server import UNFINISHED, Failure, PageServer, Request, job, log_part, page_of
from tests.ui.scripts import HIDE, HURRY, SHIFTS, SHOW, WATCH_SHIFTS, let_pass, run

if TYPE_CHECKING:
    from collections.abc import Iterator

RAY = "connections/ray"
JOB = f"{RAY}/jobs/j1"
TASK = "dags/d/runs/r/tasks/t/-1"
TAB = "task?dag_id=d&run_id=r&task_id=t&map_index=-1"
LIST = "#/ray/jobs"
REFRESH_SECONDS = 5
"""Of the list, see ``jobs.js``."""
DETAILS = "#/ray/jobs/j1"
RESOURCES = {"node_counts": {"alive": 1}, "nodes": []}
FOCUSED = "() => document.activeElement?.ariaLabel ?? document.activeElement?.innerText ?? null"
ABORT = """
() => {
    (async () => {
        const { call } = await import(new URL("static/api.js", document.baseURI));
        const left = new AbortController();
        const real = window.fetch;
        window.fetch = async (...all) => {
            const response = await real(...all);
            left.abort();
            return response;
        };
        const asked = call("api/unfinished", { signal: left.signal });
        window.outcome = await asked.then(() => "an answer", (error) => error.name);
        window.fetch = real;
    })();
}
"""
# Each combination of parts that the page has shown, even if it was never drawn.
RECORD_CLUSTER = """
() => {
    window.seen = [];
    const text = (selector) => document.querySelector(selector)?.innerText;
    const look = () => window.seen.push([text(".card p"), text(".cards + div h3")]);
    new MutationObserver(look).observe(document.querySelector("main"), {childList: true, subtree: true});
}
"""
STOP_POLLING = """
() => {
    (async () => {
        const { poll } = await import(new URL("static/api.js", document.baseURI));
        let calls = 0;
        const polling = poll(async () => { calls += 1; }, 0);
        polling.stop();
        polling.now();
        await new Promise((done) => setTimeout(done, 1000));
        window.outcome = calls;
    })();
}
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser_page("about:blank", tmp_path_factory.mktemp("views"), size=(1280, 900)) as opened:
        opened.run_on_every_page(HURRY)
        yield opened


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer() as running:
        running.answers = {
            "connections": {"connections": ["other", "ray"]},
            f"{RAY}/jobs": page_of(job()),
            JOB: job(),
            f"{JOB}/log": log_part(restart=True, end=""),
            f"{RAY}/cluster": cluster(),
            f"{RAY}/applications": {"applications": [application("app"), application("kept")]},
            f"{TASK}/job": {**job(), "connection_id": None},
            f"{TASK}/job/log": log_part(restart=True, end=""),
            f"{TASK}/cluster": RESOURCES,
        }
        yield running


def application(name: str) -> dict[str, Any]:
    return {"name": name, "status": "RUNNING", "message": "", "last_deployed_time_s": 1}


def cluster(**waiting: Any) -> dict[str, Any]:
    nothing = {"jobs": page_of(), "tasks": {"groups": [], "total": 0}, "error": None}
    return {"resources": RESOURCES, "waiting": {**nothing, **waiting}}


def wait_for_refreshes(server: PageServer, path: str) -> None:
    """Wait until the page has drawn an answer that the server sends from now on, and that of the next refresh."""
    server.wait_for_more(path, 3)


def wait_for_focus(browser: Page, expected: str) -> None:
    browser.wait_for("html", [expected], see=FOCUSED)


@pytest.mark.parametrize(
    ("address", "place", "asked"),
    [(LIST, "td.duration", f"{RAY}/jobs"), (DETAILS, "dd [data-since]", JOB), (TAB, "dd [data-since]", f"{TASK}/job")],
)
def test_the_duration_of_a_running_job_advances(
    address: str, place: str, asked: str, browser: Page, server: PageServer
) -> None:
    started = int(time.time() * 1000)
    running = job(start_time=started)
    server.answers[f"{RAY}/jobs"] = page_of(running)
    server.answers[JOB] = running
    server.answers[f"{TASK}/job"] = {**running, "connection_id": None}
    browser.open(f"{server.url}/{address}")
    browser.find(place)
    run(browser, f"() => {{ Date.now = () => {started} + (window.seconds ?? 50) * 1000; }}")
    browser.wait_for(place, ["50 s"])
    # Other parts come later, and move what is below them.
    wait_for_refreshes(server, asked)
    if address != LIST:
        browser.wait_for(".log-status", ["Complete"])
    run(browser, WATCH_SHIFTS)
    for seconds, shown in ((59, "59 s"), (61, "1 min 1 s"), (3_599, "59 min 59 s")):
        run(browser, f"() => {{ window.seconds = {seconds}; }}")
        browser.wait_for(place, [shown])
    assert run(browser, SHIFTS) == 0


def test_a_refresh_moves_nothing_and_keeps_the_focus(browser: Page, server: PageServer) -> None:
    def listed(status: str) -> dict[str, Any]:
        page = page_of(job(status, job_id="j2"), job())
        page["counts"][status] += 1
        page["counts"]["RUNNING"] += 1
        return page

    server.answers[f"{RAY}/jobs"] = listed("PENDING")
    browser.open(f"{server.url}/{LIST}")
    browser.find("a", "j1")
    run(browser, "() => { document.querySelector('a[data-key=j1]').focus(); }")
    run(browser, WATCH_SHIFTS)
    for status, count in (("RUNNING", 2), ("PENDING", 1)):
        server.answers[f"{RAY}/jobs"] = listed(status)
        browser.find("button", f"Running {count}")
        browser.wait_for(".badge", [status, "RUNNING"])
    assert run(browser, "() => document.activeElement.dataset.key") == "j1"
    assert run(browser, SHIFTS) == 0
    # What does move is counted.
    run(browser, "() => { document.querySelector('.tools').prepend(document.createElement('hr')); }")
    run(browser, "() => { document.querySelector('.tools').style.paddingTop = '200px'; }")
    assert run(browser, SHIFTS) > 0


def test_a_hidden_page_asks_for_nothing(browser: Page, server: PageServer) -> None:
    browser.open(f"{server.url}/{LIST}")
    browser.find("a", "j1")
    run(browser, HIDE)
    # A request may have been under way.
    let_pass(browser, 2 * REFRESH_SECONDS)
    before = len(server.requests)
    let_pass(browser, 2 * REFRESH_SECONDS)
    assert len(server.requests) == before
    run(browser, SHOW)
    server.wait_for_more(f"{RAY}/jobs", 3)


def test_what_became_of_a_request_to_stop_a_job_stays_until_the_job_ends(browser: Page, server: PageServer) -> None:
    server.answers[f"{JOB}/stop"] = Failure(502, "The agent does not answer.")
    browser.open(f"{server.url}/{DETAILS}")
    browser.click("button", "Stop")
    browser.click("dialog button", "Stop job")
    browser.find(".message.error", "The job was not stopped. The agent does not answer.")
    wait_for_refreshes(server, JOB)
    assert browser.look(".message") == ["The job was not stopped. The agent does not answer."]
    server.answers[f"{JOB}/stop"] = {}
    browser.click("button", "Stop")
    browser.click("dialog button", "Stop job")
    browser.find(".message.info", "Stop requested.")
    wait_for_refreshes(server, JOB)
    assert browser.look(".message") == ["Stop requested."]
    server.answers[JOB] = job("STOPPED", reason="A user stopped it.")
    browser.find(".reason", "A user stopped it.")
    assert browser.look(".message") == []


def test_what_became_of_a_request_to_delete_an_application_stays_until_it_is_gone(
    browser: Page, server: PageServer
) -> None:
    applications = f"{RAY}/applications"
    server.answers[f"{applications}/app"] = Failure(502, "The agent does not answer.")
    browser.open(f"{server.url}/#/ray/serve")
    browser.click("button[data-key=app]")
    browser.click("dialog button", "Delete app")
    browser.find(".message.error", "app was not deleted. The agent does not answer.")
    server.answers[f"{applications}/app"] = {}
    browser.click("button[data-key=app]")
    browser.click("dialog button", "Delete app")
    browser.find(".message.info", "Deletion of app requested.")
    wait_for_refreshes(server, applications)
    assert browser.look(".message") == ["Deletion of app requested."]
    server.answers[applications] = {"applications": [application("kept")]}
    browser.wait_for(".message", [])


def test_a_list_that_becomes_shorter_shows_its_last_page(browser: Page, server: PageServer) -> None:
    length = [120]

    def answer(request: Request) -> dict[str, Any]:
        offset = int(request.query["offset"][0])
        rows = [job(job_id=f"j{number}") for number in range(length[0])][offset : offset + 50]
        return page_of(*rows, total=length[0])

    server.answers[f"{RAY}/jobs"] = answer
    browser.open(f"{server.url}/{LIST}")
    for shown in ("51\N{EN DASH}100 of 120", "101\N{EN DASH}120 of 120"):
        browser.click("button", "Older")
        browser.find(".pages span", shown)
    length[0] = 70
    browser.find(".pages span", "51\N{EN DASH}70 of 70")
    assert browser.look("td.id")[-1] == "j69"
    browser.click("button", "Newer")
    browser.find(".pages span", "1\N{EN DASH}50 of 70")
    browser.click("button", "Older")
    browser.find(".pages span", "51\N{EN DASH}70 of 70")
    length[0] = 0
    browser.find(".message", "The cluster has no jobs.")


@pytest.mark.parametrize(
    ("missing", "shown"),
    [
        ({"jobs": None, "tasks": None}, "What waits is not shown. The list is too long."),
        ({"tasks": None}, "Tasks and actors that wait are not shown. The list is too long."),
    ],
)
def test_a_failure_of_what_waits_leaves_the_rest_of_the_cluster(
    missing: dict[str, None], shown: str, browser: Page, server: PageServer
) -> None:
    server.answers[f"{RAY}/cluster"] = cluster(**missing, error="The list is too long.")
    browser.open(f"{server.url}/#/ray/cluster")
    browser.wait_for(".message.error, .card p", ["1 alive", "none", "none", "none", shown])


def test_a_refresh_of_the_cluster_is_one_request_and_shows_all_at_once(browser: Page, server: PageServer) -> None:
    browser.open(f"{server.url}/#/ray/cluster")
    browser.find("h3", "Waiting for resources: 0 jobs")
    run(browser, RECORD_CLUSTER)
    group = {"kind": "task", "name": "train", "resources": {"CPU": 1}, "job_id": "j1", "count": 2}
    busy = cluster(jobs=page_of(job()), tasks={"groups": [group], "total": 2})
    busy["resources"] = {**RESOURCES, "node_counts": {"alive": 3}}
    server.answers[f"{RAY}/cluster"] = busy
    browser.find(".card p", "3 alive")
    assert run(browser, "() => window.seen") == [["3 alive", "Waiting for resources: 1 job, 2 tasks and actors"]]
    assert {each.path for each in server.requests} == {"connections", f"{RAY}/cluster"}


def test_every_accelerator_of_a_node_is_shown(browser: Page, server: PageServer) -> None:
    shown = cluster()
    nodes = [
        {"node_id": "a", "state": "ALIVE", "accelerator_type": "A10", "accelerator_types": ["A10", "T4"]},
        {"node_id": "b", "state": "ALIVE", "accelerator_type": "L4"},
        {"node_id": "c", "state": "ALIVE", "accelerator_type": None},
    ]
    shown["resources"] = {**RESOURCES, "nodes": nodes}
    server.answers[f"{RAY}/cluster"] = shown
    browser.open(f"{server.url}/#/ray/cluster")
    browser.wait_for("td .type", ["A10, T4", "L4"])


def test_a_cluster_that_cannot_be_read_shows_nothing_else(browser: Page, server: PageServer) -> None:
    browser.open(f"{server.url}/#/ray/cluster")
    browser.find("h3", "Waiting for resources: 0 jobs")
    server.answers[f"{RAY}/cluster"] = Failure(502, "The agent does not answer.")
    browser.wait_for(".message, .card, h3", ["The agent does not answer."])


def test_an_answer_that_is_cut_off_because_its_view_was_left_is_no_answer(browser: Page, server: PageServer) -> None:
    server.answers["unfinished"] = UNFINISHED
    browser.open(f"{server.url}/#/ray/serve")
    browser.find("td", "app")
    run(browser, ABORT)
    assert wait_until(lambda: run(browser, "() => window.outcome ?? null"), "there is no outcome") == "AbortError"


def test_a_polling_that_has_stopped_does_not_start_again(browser: Page, server: PageServer) -> None:
    browser.open(f"{server.url}/#/ray/serve")
    browser.find("td", "app")
    run(browser, STOP_POLLING)
    assert wait_until(lambda: run(browser, "() => window.outcome ?? null"), "there is no outcome") == 1


def test_a_list_is_as_it_was_left_when_the_user_comes_back_from_a_job(browser: Page, server: PageServer) -> None:
    server.answers[f"{RAY}/jobs"] = page_of(job(), total=200)
    browser.open(f"{server.url}/{LIST}")
    browser.enter("input[type=search]", "train")
    browser.click("button", "Running 0")
    browser.click("button", "Older")
    browser.find(".pages span", "51\N{EN DASH}100 of 200")
    browser.click("a", "j1")
    browser.click("a", "← All jobs")
    browser.find(".pages span", "51\N{EN DASH}100 of 200")
    assert browser.look("input[type=search]", see="(each) => each.value") == ["train"]
    assert browser.look("button[aria-pressed=true]") == ["Running 0"]
    last = server.of(f"{RAY}/jobs")[-1].query
    assert (last["text"], last["status"], last["offset"]) == (["train"], ["RUNNING"], ["50"])


def test_the_filter_of_one_connection_is_not_that_of_another(browser: Page, server: PageServer) -> None:
    server.answers["connections/other/jobs"] = page_of(job(job_id="elsewhere"))
    browser.open(f"{server.url}/{LIST}")
    browser.enter("input[type=search]", "train")
    run(browser, "() => { location.hash = '#/other/jobs'; }")
    browser.find("a", "elsewhere")
    assert browser.look("input[type=search]", see="(each) => each.value") == [""]


def test_a_new_view_has_the_focus_on_its_heading(browser: Page, server: PageServer) -> None:
    browser.open(f"{server.url}/{LIST}")
    browser.find("a", "j1")
    run(browser, "() => { document.querySelector('td.id a').focus(); }")
    browser.press_enter()
    wait_for_focus(browser, "j1")
    browser.find(".badge", "RUNNING")
    wait_for_refreshes(server, JOB)
    assert run(browser, "() => document.activeElement.tagName") == "H2"
    run(browser, "() => { document.querySelector('a.back').focus(); }")
    browser.press_enter()
    wait_for_focus(browser, "Jobs")
    assert run(browser, "() => document.activeElement.tagName") == "H2"


def test_the_navigation_keeps_the_focus(browser: Page, server: PageServer) -> None:
    browser.open(f"{server.url}/{LIST}")
    browser.find("a", "j1")
    run(browser, "() => { document.querySelectorAll('nav a')[1].focus(); }")
    browser.press_enter()
    browser.find(".card p", "1 alive")
    assert run(browser, FOCUSED) == "Cluster"
    assert browser.look("nav a[aria-current=page]") == ["Cluster"]


def test_a_dialog_returns_the_focus(browser: Page, server: PageServer) -> None:
    browser.open(f"{server.url}/#/ray/serve")
    for refreshed in (False, True):
        browser.find("button[data-key=app]")
        run(browser, "() => { document.querySelector('button[data-key=app]').focus(); }")
        browser.press_enter()
        browser.find("dialog p", "Delete Serve application app?")
        if refreshed:
            server.answers[f"{RAY}/applications"] = {"applications": [application("app"), application("new")]}
            browser.find("td", "new")
        browser.press_enter()
        browser.wait_for("dialog", [])
        assert run(browser, "() => document.activeElement.dataset.key") == "app"


def test_the_focus_goes_to_the_heading_if_its_element_is_gone(browser: Page, server: PageServer) -> None:
    browser.open(f"{server.url}/{DETAILS}")
    browser.find("button", "Stop")
    run(browser, "() => { document.querySelector('button[data-key=stop]').focus(); }")
    server.answers[JOB] = job("STOPPED")
    wait_for_focus(browser, "j1")


@pytest.mark.parametrize("view", ["jobs", "cluster", "applications"])
def test_old_data_are_shown_with_their_age(view: str, browser: Page, server: PageServer) -> None:
    route = f"{RAY}/{view}"
    shown = "Ray answers slowly: as of 12 seconds ago."
    server.answers[route] = {**server.answers[route], "age": 12.3}
    browser.open(f"{server.url}/#/ray/{'serve' if view == 'applications' else view}")
    browser.wait_for("p.message", [shown], shown)
    server.answers[route] = {**server.answers[route], "age": 9.0}
    browser.wait_for("p.message", [], shown)


def test_an_address_that_cannot_be_decoded_shows_the_jobs(browser: Page, server: PageServer) -> None:
    browser.open("about:blank")
    browser.open(f"{server.url}/#/ray/%zz")
    browser.find("td.duration")
