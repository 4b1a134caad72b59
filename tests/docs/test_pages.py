"""The built pages: every link leads somewhere, every class and argument has its place."""

from __future__ import annotations

import importlib
import inspect
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from airflow_provider_rayagent.client.fields import EXTRA_FIELDS
from airflow_provider_rayagent.get_provider_info import get_provider_info
from tests.docs.conftest import PAGES, ROOT

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "airflow_provider_rayagent"
RETRY_POLICY = f"{PACKAGE}.policies.retry.RayAgentRetryPolicy"
KINDS = ("hooks", "operators", "sensors", "triggers")


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


def public_classes() -> dict[str, type]:
    """Return every class that a DAG author uses, by its full name."""
    info = get_provider_info()
    modules = [(kind, module) for kind in KINDS for entry in info.get(kind, ()) for module in entry["python-modules"]]
    found = {name: _object(name) for name in [*info["extra-links"], RETRY_POLICY]}
    for kind, name in modules:
        for attribute, value in vars(importlib.import_module(name)).items():
            if attribute.startswith("RayAgent") and inspect.isclass(value) and f"{PACKAGE}.{kind}." in value.__module__:
                found[f"{name}.{attribute}"] = value
    return found


def _object(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def arguments_of(cls: type) -> set[str]:
    """Return the names of the arguments that a class itself takes."""
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    constructor = vars(cls).get("__init__")
    parameters = inspect.signature(constructor).parameters.values() if constructor is not None else ()
    return {each.name for each in parameters if each.kind not in kinds} - {"self"}


def entry_of(name: str, site: Path) -> str:
    """Return the HTML of a class's entry, empty if it has none."""
    for page in site.glob("*.html"):
        _, found, rest = page.read_text(encoding="utf-8").partition(f'id="{name}"')
        if found:
            return re.split(r'<dl class="py (?:class|exception)"', rest)[0]
    return ""


CLASSES = public_classes()


def test_every_kind_of_class_is_looked_at() -> None:
    assert {name.split(".")[1] for name in CLASSES} == {*KINDS, "links", "policies"}


@pytest.mark.parametrize("name", CLASSES)
def test_every_argument_of_a_class_is_in_its_entry(name: str, site: Path) -> None:
    entries = ""
    for each in CLASSES[name].__mro__:
        if each.__module__.startswith(PACKAGE):
            full = name if each is CLASSES[name] else f"{each.__module__}.{each.__qualname__}"
            entries += entry_of(full, site)
            missing = {argument for argument in arguments_of(each) if f"<strong>{argument}</strong>" not in entries}
            # What a base that is not public takes stands in the class's own entry.
            assert missing == set(), f"{full} has no words for {missing}"
    assert entries, f"no page has {name}"


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


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("*.md")), *sorted(PAGES.glob("*.md"))], ids=lambda path: path.name)
def test_every_link_between_the_sources_leads_to_a_file(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [urlsplit(link) for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    files = [path.parent / link.path for link in links if link.path and not link.scheme]
    assert [str(file) for file in files if not file.exists()] == []


def test_the_connections_page_names_every_field() -> None:
    text = (PAGES / "connection.md").read_text(encoding="utf-8")
    fields = get_provider_info()["connection-types"][0]["conn-fields"]

    assert [name for name in EXTRA_FIELDS if f"`{name}`" not in text] == []
    assert [field["label"] for field in fields.values() if f"| {field['label']} |" not in text] == []


def test_the_supported_versions_are_the_ones_that_the_project_declares() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", (PAGES / "upgrading.md").read_text(encoding="utf-8"), re.MULTILINE)
    supported = {row.split(",")[0]: text for row, text in rows}
    for row, requirement in (("Airflow", "apache-airflow"), ("Ray", r"ray\[default,serve\]"), ("agent", "synapse-sdk")):
        (version,) = re.findall(rf'"{requirement}>=([\d.]+)', project)
        assert version.removesuffix(".0") in supported[row]
    assert supported["Python"].split(", ") == re.findall(r"Python :: (3\.\d+)", project)


def test_the_picture_and_the_local_agents_arguments_are_there(site: Path) -> None:
    assert "how-it-works.svg" in (site / "how-it-works.html").read_text(encoding="utf-8")
    assert "--token-file" in (site / "local-agent.html").read_text(encoding="utf-8")
