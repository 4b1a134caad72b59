"""The page in a browser, below the path of Airflow's base URL, with a scripted agent.

Pictures of it are in pytest's folder ``page``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.scripted import Application, Job, ScriptedAgent
from tests.stack.api_server import ApiServer, api_server
from tests.stack.browser import IN_FRAME, Page, browser_page
from tests.stack.pictures import shows
from tests.stack.processes import NO_AGENT
from tests.stack.watch import wait_until
from tests.ui.scripts import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stack.airflow import Json
    from tests.stack.pictures import Pictures

HOSTILE = "<img src=x onerror='document.hacked = true'>"
STATUSES = ("PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED")
GPU_NODE_ID = "ef" * 28
GPU_NODE = {
    "node_id": GPU_NODE_ID,
    "node_ip": "10.0.0.2",
    "state": "ALIVE",
    "resources_total": {"CPU": 16, "GPU": 8, "memory": 2**36, "accelerator_type:A100": 1},
}
TASK: dict[str, Any] = {"state": "PENDING_NODE_ASSIGNMENT", "type": "NORMAL_TASK", "job_id": "04000000"}
WAITING: list[dict[str, Any]] = [
    *({**TASK, "name": "train_shard", "required_resources": {"CPU": 8.0, "GPU": 1.0}} for _ in range(3)),
    {**TASK, "name": "Model.__init__", "type": "ACTOR_CREATION_TASK", "required_resources": {"memory": 2.0**34}},
    {**TASK, "name": "at_work", "state": "RUNNING"},
]
LOG = "  indented\n\n\x1b[31mred\x1b[0m\n" + "é" * 30_000 + "\nlast\n"
DEAD_NODE = {"node_id": "ab" * 28, "node_ip": "10.0.0.3", "state": "DEAD"}
MANY = 10_000
WAITING_ROWS = [
    ["Job", "pending", "\N{EN DASH}", "\N{EN DASH}", "1"],
    ["Task", "train_shard", "CPU 8, GPU 1", "\N{EN DASH}", "3"],
    ["Actor", "Model.__init__", "memory 16 GiB", "\N{EN DASH}", "1"],
]
NO_SUCH_AGENT = "check Service URL (host) and port; is the agent running?"
CELLS = "(row) => [...row.cells].map((cell) => cell.innerText)"
IN_VIEW = "(document.querySelector('iframe')?.contentDocument ?? document)"
LINKS = f"() => [...{IN_VIEW}.querySelectorAll('.job-head a')].map((each) => [each.innerText, each.href])"
CENTER_OF_LINK = """
() => {
    const frame = document.querySelector("iframe");
    const link = (frame?.contentDocument ?? document).querySelector(".job-head a");
    const [box, around] = [link.getBoundingClientRect(), frame?.getBoundingClientRect() ?? {x: 0, y: 0}];
    return [around.x + box.x + box.width / 2, around.y + box.y + box.height / 2];
}
"""
"""Where the first link is in the window."""
IS_WHOLE = """
(each) => each.getBoundingClientRect().right <= each.closest("td, main").getBoundingClientRect().right
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page", numbered=False)


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedAgent]:
    jobs = [Job("a line\n", status, status.lower()) for status in STATUSES]
    hostile = Job(HOSTILE + "\n", "FAILED", "hostile", entrypoint=HOSTILE, details={"metadata": {"owner": HOSTILE}})
    unnamed = Job(job_id=HOSTILE, entrypoint="echo")
    logged = Job(LOG, job_id="logged")
    applications = [Application("model"), Application(HOSTILE, "DEPLOY_FAILED", details={"message": HOSTILE})]
    used = {GPU_NODE_ID: {"CPU": 4.0, "GPU": 6.0, "memory": float(2**35)}}
    with ScriptedAgent(
        *jobs,
        hostile,
        unnamed,
        logged,
        applications=applications,
        nodes=[GPU_NODE, DEAD_NODE],
        tasks=WAITING,
        used=used,
    ) as agent:
        yield agent


@pytest.fixture(scope="module")
def many() -> Iterator[ScriptedAgent]:
    with ScriptedAgent(*(Job(job_id=f"job-{number}", started=1_000 + number) for number in range(MANY))) as agent:
        yield agent


@pytest.fixture(scope="module")
def gpu_cluster() -> Iterator[ScriptedAgent]:
    """A cluster for the pictures of the documentation."""
    failure = {"message": "The deployment failed to start 3 times: OutOfMemoryError"}
    applications = [
        Application("ranking"),
        Application("search", "DEPLOYING"),
        Application("forecast", "DEPLOY_FAILED", details=failure),
    ]
    used = {GPU_NODE_ID: {"CPU": 4.0, "GPU": 6.0, "memory": float(2**35)}}
    waits = Job(status="PENDING", job_id="nightly-tuning")
    trains = Job("epoch 1\n", "RUNNING", "nightly-training", details={"job_id": TASK["job_id"]})
    with ScriptedAgent(
        waits, trains, applications=applications, nodes=[GPU_NODE, DEAD_NODE], tasks=WAITING, used=used
    ) as agent:
        yield agent


@pytest.fixture(scope="module")
def airflow(scripted: ScriptedAgent, many: ScriptedAgent, gpu_cluster: ScriptedAgent) -> Iterator[ApiServer]:
    """An API server whose base URL has a path, and where everyone is an admin."""
    hosts = {
        "rayagent_default": scripted.url,
        "ray_many": many.url,
        "gpu_cluster": gpu_cluster.url,
        "ray_dead": NO_AGENT,
        "ray_links": scripted.url,
    }
    connections: dict[str, Json] = {name: {"conn_type": "rayagent", "host": host} for name, host in hosts.items()}
    connections["ray_links"]["extra"] = {
        "metrics_url": f"{scripted.url}metrics/?job={{job_id}}&from={{start}}&to={{end}}",
        "logs_url": f"{scripted.url}logs/{{node_id}}",
        "history_url": f"{scripted.url}{{unknown}}",
    }
    with api_server(base_path="/team/airflow", connections=connections) as running:
        yield running


@pytest.fixture(scope="module")
def page(airflow: ApiServer, folder: Path) -> Iterator[Page]:
    with browser_page(f"{airflow.url}/rayagent/", folder, size=(1280, 900)) as opened:
        yield opened


def show(page: Page, airflow: ApiServer, fragment: str) -> None:
    page.open("about:blank")
    page.open(f"{airflow.url}/rayagent/#/{fragment}")


def test_the_page_opens_inside_airflow_below_the_path_of_its_base_url(airflow: ApiServer, folder: Path) -> None:
    directory = folder / "airflow"
    directory.mkdir()
    with browser_page(f"{airflow.url}/plugin/ray", directory, size=(1280, 900)) as host:
        wait_until(
            lambda: any("succeeded" in text for text in host.look("iframe", see=IN_FRAME)) or None,
            lambda: f"Airflow does not show the jobs: {host.look('iframe', see=IN_FRAME)}",
        )
        host.save_picture(folder / "airflow.png")


def test_jobs_of_every_status_are_listed_and_can_be_filtered(page: Page, airflow: ApiServer, folder: Path) -> None:
    show(page, airflow, "rayagent_default/jobs")
    page.wait_until(lambda text: all(status in text for status in STATUSES))
    page.save_picture(folder / "jobs.png")
    page.click("button", "Running 1")
    page.wait_for("td.id", ["running"])
    page.find(".pages span", "1 job")
    page.click("button", "Running 1")
    page.enter("input[type=search]", "STOPPED")
    page.wait_for("td.id", ["stopped"])
    page.find(".pages span", "1 job")


def test_text_of_jobs_and_applications_is_never_markup(page: Page, airflow: ApiServer) -> None:
    for fragment in ("jobs", "jobs/hostile", "serve"):
        show(page, airflow, f"rayagent_default/{fragment}")
        page.wait_until(lambda text: HOSTILE in text)
        assert page.look("main img") == []
        assert run(page, "() => document.hacked === undefined")
    show(page, airflow, "rayagent_default/jobs/hostile")
    wait_until(lambda: HOSTILE in "".join(page.look(".lines")) or None, "the log does not show its line")
    assert page.look("main img") == []


def test_the_cluster_shows_its_gpus_and_dead_nodes(page: Page, airflow: ApiServer) -> None:
    show(page, airflow, "rayagent_default/cluster")
    text = page.wait_until(lambda text: "6 of 8 used" in text)
    assert "1 alive, 1 dead" in text
    assert "DEAD" in text
    assert "A100" in text
    assert "32 GiB of 64 GiB used" in text
    assert "43 % busy, memory 160 GiB of 640 GiB" in text
    assert "Waiting for resources: 1 job, 4 tasks and actors" in text
    page.wait_for("table[aria-label='Waiting for resources'] tbody tr", WAITING_ROWS, see=CELLS)


def test_a_task_that_waits_links_to_its_job(page: Page, airflow: ApiServer) -> None:
    show(page, airflow, "gpu_cluster/cluster")
    page.click("a[data-key='waiting 0']", "nightly-training")
    page.wait_until(lambda text: "epoch 1" in text)


@pytest.mark.parametrize("view", ["page", "frame"])
def test_a_download_is_the_log(view: str, airflow: ApiServer, folder: Path) -> None:
    """Also from the frame in Airflow, which may not download anything before Airflow 3.3."""
    directory = folder / f"download-{view}"
    directory.mkdir()
    address = {"page": "rayagent/", "frame": "plugin/ray"}[view]
    with browser_page(f"{airflow.url}/{address}", directory, size=(1280, 900)) as page:
        page.save_downloads(directory)
        document = {"page": "document", "frame": "document.querySelector('iframe')?.contentDocument"}[view]
        job = f"({document}).defaultView.location.hash = '#/rayagent_default/jobs/logged'"
        buttons = f"[...({document}?.querySelectorAll('button') ?? [])].filter((each) => each.innerText === 'Download')"
        wait_until(lambda: run(page, f"() => !!{document}?.querySelector('nav a')") or None, "no page")
        run(page, f"() => {{ {job}; }}")
        wait_until(lambda: run(page, f"() => {buttons}.length") or None, "no button to download the log")
        run(page, f"() => {{ {buttons}[0].click(); }}")
        saved = directory / "logged.log"
        wait_until(lambda: saved.exists() or None, lambda: f"nothing is saved: {list(directory.iterdir())}")
        assert saved.read_bytes().decode() == LOG


@pytest.mark.parametrize("view", ["page", "frame"])
def test_a_button_opens_a_page_about_the_job_in_a_new_tab(
    view: str, scripted: ScriptedAgent, airflow: ApiServer, folder: Path
) -> None:
    directory = folder / f"links_{view}"
    directory.mkdir()
    job = scripted.jobs["running"]
    address = {"page": "rayagent/#/ray_links/jobs/running", "frame": "plugin/ray"}[view]
    with browser_page(f"{airflow.url}/{address}", directory, size=(1280, 900)) as page:
        if view == "frame":
            wait_until(lambda: run(page, f"() => !!{IN_VIEW}.querySelector('nav a')") or None, "no page")
            run(
                page,
                "() => { document.querySelector('iframe').contentWindow.location.hash = '#/ray_links/jobs/running'; }",
            )
        wait_until(lambda: run(page, LINKS) or None, "no button")
        assert run(page, LINKS) == [
            ["Metrics", f"{scripted.url}metrics/?job=running&from={job.started}&to=now"],
            ["Logs", f"{scripted.url}logs/{'ab' * 28}"],
        ]
        page.save_picture(folder / f"links_{view}.png")
        before = len(scripted.of("GET metrics/"))
        page.click_at(*run(page, CENTER_OF_LINK))
        opened = wait_until(lambda: scripted.of("GET metrics/")[before:] or None, "no page is opened")
        assert opened[0].query == f"job=running&from={job.started}&to=now"
        assert "referer" not in opened[0].headers
        # The tab is a new one.
        assert run(page, LINKS)


def test_an_application_is_deleted_after_a_question_that_names_it(
    page: Page, airflow: ApiServer, scripted: ScriptedAgent, folder: Path
) -> None:
    show(page, airflow, "rayagent_default/serve")
    page.wait_until(lambda text: "model" in text)
    page.save_picture(folder / "serve.png")
    delete = "button[data-key=model]"
    page.click(delete)
    assert page.find("dialog p") == ["Delete Serve application model?"]
    page.click("dialog button", "Cancel")
    page.wait_for("dialog", [])
    assert scripted.applications["model"].deleted is None
    page.click(delete)
    page.click("dialog button", "Delete model")
    page.wait_for("td.id", [HOSTILE])
    assert scripted.applications["model"].is_gone


@pytest.mark.parametrize(("view", "word"), [("cluster", "train_shard"), ("serve", "OutOfMemoryError")])
def test_pictures_of_a_cluster_and_its_applications(
    view: str, word: str, page: Page, airflow: ApiServer, pictures: Pictures
) -> None:
    show(page, airflow, f"gpu_cluster/{view}")
    pictures.check(page, f"ray-page-{view}", shows(word))


def test_an_agent_that_does_not_answer_is_one_sentence_and_the_page_stays_usable(
    page: Page, airflow: ApiServer, pictures: Pictures
) -> None:
    def sentences() -> list[str] | None:
        found = page.look(".message")
        return found if any(NO_SUCH_AGENT in each for each in found) else None

    for view in ("jobs", "cluster", "serve"):
        show(page, airflow, f"ray_dead/{view}")
        assert len(wait_until(sentences, "the page does not say what to correct")) == 1
    pictures.check(page, "ray-page-unreachable", shows(NO_SUCH_AGENT))
    page.click("nav a", "Jobs")
    page.find("input[type=search]")
    wait_until(sentences, "the list does not say what to correct")


def test_a_list_of_ten_thousand_jobs_is_shown_in_pages(page: Page, airflow: ApiServer) -> None:
    show(page, airflow, "ray_many/jobs")
    page.wait_until(lambda text: "of 10,000" in text and f"job-{MANY - 1}" in text)
    page.click("button", "Older")
    page.wait_until(lambda text: f"job-{MANY - 51}" in text)
    page.enter("input[type=search]", "job-777")
    page.find(".pages span", "11 jobs")


def test_the_page_has_the_theme_that_was_chosen_in_airflow(page: Page, airflow: ApiServer, folder: Path) -> None:
    colors = {}
    for theme in ("dark", "light"):
        run(page, f"() => {{ localStorage.setItem('theme', '{theme}'); }}")
        show(page, airflow, "rayagent_default/jobs")
        page.find("a", "running")
        page.save_picture(folder / f"jobs-{theme}.png")
        colors[theme] = run(page, "() => getComputedStyle(document.body).backgroundColor")
    run(page, "() => { localStorage.removeItem('theme'); }")
    assert colors == {"dark": "rgb(0, 0, 0)", "light": "rgb(255, 255, 255)"}


def test_a_narrow_window_needs_no_scrolling_to_the_side(page: Page, airflow: ApiServer, folder: Path) -> None:
    with page.resized(600, 900):
        for view, word in (("jobs", "running"), ("jobs/running", "a line"), ("cluster", "A100"), ("serve", HOSTILE)):
            show(page, airflow, f"rayagent_default/{view}")
            page.wait_until(lambda text, word=word: word in text)  # type: ignore[misc]
            assert run(page, "(each) => each.scrollWidth <= window.innerWidth"), view
            assert all(page.look(".badge", see=IS_WHOLE)), view
            page.save_picture(folder / f"narrow-{view.replace('/', '-')}.png")
