"""The built pages: every link leads somewhere, and what they say of fields and versions matches the project."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from airflow_provider_rayagent import __version__
from airflow_provider_rayagent.connection.fields import EXTRA_FIELDS
from airflow_provider_rayagent.get_provider_info import get_provider_info
from tests.docs.conftest import PAGES, ROOT
from tests.runner.environments import CONSTRAINTS, LOCKED_PYTHON

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = [*sorted(ROOT.glob("*.md")), ROOT / "tests" / "README.md"]
"""What is not among the built pages."""


class Page(HTMLParser):
    """What a page has: addresses that it leads to, and places that can be led to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name == "id" and value:
                self.places.add(value)


def test_every_link_leads_to_a_page_and_a_place_of_it(site: Path) -> None:
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.glob("*.html")}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = target.is_file() and (
                not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].places
            )
            if not known:
                broken.append(f"{path.name}: {link}")
    assert len(pages) > 15
    assert broken == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_between_the_sources_leads_to_a_file_and_a_place_of_it(path: Path) -> None:
    links = [urlsplit(link) for link in re.findall(r"\]\(([^)\s]+)\)", without_code(path))]
    targets = [(path.parent / link.path if link.path else path, link.fragment) for link in links if not link.scheme]
    broken = [
        f"{file}#{place}" for file, place in targets if not file.exists() or (place and place not in places_of(file))
    ]
    assert broken == []


def without_code(path: Path) -> str:
    return re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def places_of(path: Path) -> set[str]:
    """Return the fragments of a file: its labels, and the headings as GitHub and Sphinx name them."""
    labels = re.findall(r"^\(([\w-]+)\)=$", without_code(path), re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", without_code(path), re.MULTILINE)
    return {*labels, *(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)}


def test_every_page_says_the_version(site: Path) -> None:
    pages = [page for page in site.glob("*.html") if page.name not in ("genindex.html", "search.html")]
    line = f'<p class="site-version">airflow-provider-rayagent {__version__}</p>'
    assert [page.name for page in pages if line not in page.read_text(encoding="utf-8")] == []


def test_the_connections_page_names_every_field() -> None:
    text = (PAGES / "connection.md").read_text(encoding="utf-8")
    fields = get_provider_info()["connection-types"][0]["conn-fields"]

    assert [name for name in EXTRA_FIELDS if f"`{name}`" not in text] == []
    assert [field["label"] for field in fields.values() if f"| {field['label']} |" not in text] == []


def test_the_supported_and_tested_versions_are_those_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / CONSTRAINTS / "landing.txt").read_text(), re.MULTILINE))
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| ([^|]*)\|", (PAGES / "upgrading.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    supported = {row.split(",")[0]: text for row, text, _ in rows}
    tested = {row.split(",")[0]: text for row, _, text in rows}
    for row, requirement in (("Airflow", "apache-airflow"), ("Ray", r"ray\[default,serve\]"), ("agent", "synapse-sdk")):
        # What users install comes before what the tests install.
        version = re.findall(rf'"{requirement}>=([\d.]+)', project)[0]
        assert version.removesuffix(".0") in supported[row]
    assert supported["Python"].split(", ") == re.findall(r"Python :: (3\.\d+)", project)
    assert f"all suites with {locked['apache-airflow']};" in tested["Airflow"]
    assert f"all suites with {locked['ray'].removesuffix('.0')};" in tested["Ray"]
    assert f"all suites with {'.'.join(map(str, LOCKED_PYTHON))};" in tested["Python"]


def test_the_local_agents_arguments_are_there(site: Path) -> None:
    assert "--token-file" in (site / "local-agent.html").read_text(encoding="utf-8")
