"""Five readers find what they need on the built site: from page to page, by links that they can see.

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
    reader.opens("index.html", "have an agent")
    reader.follows("Which service", "AgentClient", "RayAgentRunPluginOperator")
    reader.follows("installation", "Which components need it", "pip install")
    reader.follows("Check", "airflow providers get", within=ON_THIS_PAGE)
    reader.follows("the connection", "An agent needs Service URL and Token", "Tenant")
    reader.follows("Test it", "The Test button in the UI", within=ON_THIS_PAGE)
    reader.follows("run a plugin", "import RayAgentRunPluginOperator", "Which job is the task's")
    reader.follows("How the task ends", "does not start within start_timeout", within=ON_THIS_PAGE)
    reader.follows("At night", "Whose fault is it?", "Safe to press?")


def test_an_engineer_with_plain_ray(reader: Reader) -> None:
    reader.opens("index.html", "have a Ray cluster")
    reader.follows("Which service", "a Ray cluster whose dashboard (port 8265)", "RayAgentSubmitJobOperator")
    reader.follows("installation", "A worker needs no Ray", "pip install")
    reader.follows("plain Ray", "my-cluster-head-svc", "the dashboard's URL", "With KubeRay")
    reader.follows("test it", "The Test button in the UI")
    reader.follows("submit a job", "import RayAgentSubmitJobOperator", "One job per task")
    reader.follows("The working directory", "it is packed and uploaded", within=ON_THIS_PAGE)
    reader.follows("One job per task", within=ON_THIS_PAGE)
    reader.follows("the end of the task", "was rejected because the cluster lacks GPUs")
    reader.follows("At night", "Whose fault is it?", "Safe to press?")


@pytest.mark.parametrize(
    ("query", "message", "remedy"),
    [
        ("RA-104", "the runtime environment could not be set up", "Check the packages"),
        ("RA-104: Platform failure: the runtime environment could not be set up.", "RA-104: ", "Check the packages"),
        ("RA-707", "within the timeout of", "check the name, and its deployment"),
    ],
    ids=["code", "sentence", "last"],
)
def test_an_operator_at_night(reader: Reader, query: str, message: str, remedy: str) -> None:
    reader.opens("index.html", "see a failed, silent or stuck task")
    reader.searches(query, f"at-night.html#{query[:6].lower()}", message, remedy)
    reader.follows("Safe to press?", "Mark failed or success", "A new try has its own log", within=ON_THIS_PAGE)


def test_a_contributor(reader: Reader) -> None:
    reader.opens("README.md", "Green means SUCCEEDED.")
    reader.opens("README.md#documentation", "The table of contents")
    reader.follows(
        "CONTRIBUTING.md", "You only need Python 3.10 or newer and git", "Your first change", "Write the test first."
    )
    reader.opens("CONTRIBUTING.md#your-first-change", "Make it pass", "open a pull request")
    reader.follows("suites", "No preparation is needed", "each part separately", "the documentation: it builds")


def test_a_security_engineer(reader: Reader) -> None:
    reader.opens("index.html", "review its security")
    reader.follows("Security", "Report a vulnerability", "masked (***)", "TLS")
    reader.follows("what is stored where", "May hold a secret", "Known secrets are masked or removed")
    reader.follows("Network policy", "All connections go from Airflow", "kind: NetworkPolicy", within=ON_THIS_PAGE)
    reader.opens("security.html", "What a job's text can do")
    reader.follows("security policy", "Report it privately", "Supported versions", "Check a release")
    reader.follows("versions of Airflow, Python and Ray", "3.2 and newer", "A patch release never drops a version")


def test_a_reader_does_not_follow_what_is_out_of_reach(reader: Reader) -> None:
    reader.opens("index.html")
    with pytest.raises(AssertionError, match="'No such page' is nowhere"):
        reader.follows("No such page")
    with pytest.raises(AssertionError, match="screens below the place of arrival"):
        reader.opens("at-night.html", "Whose fault is it?", "The job has ended, the task not")
