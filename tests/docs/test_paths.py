"""Seven readers find what they need on the built site: from page to page, by links that they can see.

What they see at each step is saved below ``.tox/reports/paths``.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.docs.reader import Reader, site_server
from tests.runner.environments import WORK
from tests.stack.browser import Page, browser_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PICTURES = WORK / "reports" / "paths"
ON_THIS_PAGE = ".toc-tree"
ALL_PAGES = ".sidebar-tree"


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    with site_server(site) as root:
        yield root


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser_page("about:blank", tmp_path_factory.mktemp("reader"), size=(1440, 900)) as opened:
        yield opened


@pytest.fixture
def reader(request: pytest.FixtureRequest, page: Page, url: str) -> Reader:
    folder = PICTURES / request.node.name.removeprefix("test_")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Reader(page, url, folder)


def test_an_engineer_with_an_agent(reader: Reader) -> None:
    reader.opens("index.html", "have a Ray cluster or an agent")
    reader.follows("Installation", "the tasks fail when they defer", "pip install")
    reader.follows("Check", "airflow providers get", within=ON_THIS_PAGE)
    reader.follows("the connection", "an agent in front of a Ray cluster, with its token")
    reader.follows("The fields", "Tenant", within=ON_THIS_PAGE)
    reader.follows("Test it", "The Test button of the form", within=ON_THIS_PAGE)
    reader.opens("connection.html", "RayAgentRunPluginOperator")
    reader.follows("RayAgentRunPluginOperator", "import RayAgentRunPluginOperator", "A plugin is code")
    reader.follows("How the task ends", "does not start within start_timeout", within=ON_THIS_PAGE)


def test_an_engineer_with_a_ray_cluster(reader: Reader) -> None:
    reader.opens("index.html", "have a Ray cluster or an agent")
    reader.follows("Installation", "A worker needs no Ray", "pip install")
    reader.opens("connection.html", "a Ray cluster whose dashboard (port 8265) Airflow reaches")
    reader.follows("plain Ray", "A cluster with a token", "kind: RayCluster")
    reader.opens("connection.html#test-it", "The Test button of the form")
    reader.opens("run-a-job.html", "import RayAgentSubmitJobOperator", "train_model.py")
    reader.follows("The working directory", "it is packed and uploaded", within=ON_THIS_PAGE)
    reader.follows("How the task ends", "was rejected for lack of GPUs", within=ON_THIS_PAGE)


def test_a_newcomer(reader: Reader) -> None:
    reader.opens("index.html", "want to try it")
    reader.follows("Quick start", "pip install", "airflow db migrate", "ray start --head", "Tell Airflow where it is")
    reader.follows("5. Run it", "airflow dags test rayagent_first_job", within=ON_THIS_PAGE)


@pytest.mark.parametrize(
    ("query", "message", "remedy"),
    [
        ("RA-104", "the runtime environment could not be set up", "Check the packages"),
        ("RA-104: Platform failure: the runtime environment could not be set up.", "RA-104: ", "Check the packages"),
        ("RA-707", "RA-707", "check the name, and its deployment"),
    ],
    ids=["code", "sentence", "last"],
)
def test_an_operator_at_night(reader: Reader, query: str, message: str, remedy: str) -> None:
    reader.opens("index.html", "see a failed, silent or stuck task")
    reader.searches(query, f"error-codes.html#{query[:6].lower()}", message, remedy)
    texts = ("May I clear it?", "Mark failed or success", "A SUCCEEDED job is not")
    reader.follows("Troubleshooting", *texts, within=ALL_PAGES)


def test_a_platform_engineer(reader: Reader) -> None:
    reader.opens("index.html", "run it for many teams")
    reader.follows("Monitoring and sizing", "jobs of a triggerer", "at least two")
    reader.follows("Pools, and teams", "For each team", within=ON_THIS_PAGE)
    reader.follows("Metrics", "jobs that a triggerer follows now", within=ON_THIS_PAGE)
    reader.opens("operations.html#secrets-backends", "airflow/connections/rayagent_default")


def test_a_contributor(reader: Reader) -> None:
    reader.opens("README.md", "Green means SUCCEEDED")
    reader.opens("README.md#documentation", "All pages")
    reader.follows(
        "contributing", "You only need Python 3.10 or newer and git", "Your first change", "Write the test first"
    )
    reader.opens("CONTRIBUTING.md#your-first-change", "Make it pass", "open a pull request")
    reader.follows("suites", "No preparation is needed", "each part separately", "the documentation: it builds")


def test_a_security_engineer(reader: Reader) -> None:
    reader.opens("index.html", "review its security")
    reader.follows("Security", "Report a vulnerability", "All connections go from Airflow", "May hold a secret")
    reader.follows("Tokens", "masked (***)", "Who may do what", within=ON_THIS_PAGE)
    reader.follows("What a job's text can do", "A job's log is untrusted", within=ON_THIS_PAGE)
    reader.opens("README.md#documentation", "vulnerabilities")
    reader.follows("vulnerabilities", "Report it privately", "Supported versions", "Check a release")


def test_a_reader_does_not_follow_what_is_out_of_reach(reader: Reader) -> None:
    reader.opens("index.html")
    with pytest.raises(AssertionError, match="'No such page' is nowhere"):
        reader.follows("No such page")
    with pytest.raises(AssertionError, match="screens below the place of arrival"):
        reader.opens("error-codes.html", "where to look", "Check which jobs use what is missing")
