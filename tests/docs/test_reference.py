"""The reference on the built pages has every public name, method and argument, with its type, and no other."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING, NamedTuple

import pytest

from airflow_provider_rayagent.get_provider_info import get_provider_info
from tests.docs.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "airflow_provider_rayagent"
SETTINGS = f"{PACKAGE}.render.record_builder.DisplaySettings"
"""Its fields are the keys of a trigger's argument ``display``."""

BASES = {
    f"{PACKAGE}.tasks.following.JobFollowingOperator": "RayAgentJobSensor",
    f"{PACKAGE}.tasks.starting.JobStartingOperator": "RayAgentSubmitJobOperator",
}
"""Base classes to which the docstrings refer, each with a class that has all arguments of it."""

SHARED = {"job_id", "name"}
"""Arguments of methods that the description of the class explains once."""

_ENTRY = r'<dl class="py (?:class|exception|function|method)">\s*<dt class="sig sig-object py" id="([\w.]+)">'
_PARAMETER = r'<em class="sig-param"><span class="n"><span class="pre">(\w+)(.*?)</em>'


class Entry(NamedTuple):
    """What the reference has of a class or a method.

    :param arguments: the arguments of its signature.
    :param untyped: those without a type.
    :param described: the arguments that its description names.
    :param words: the text of its description.
    """

    arguments: set[str]
    untyped: set[str]
    described: set[str]
    words: str


def listed_names() -> dict[str, set[str]]:
    """Return what ``public_names.txt`` lists: each class and method, with its arguments. Of errors it lists bases."""
    listed = (ROOT / "tests" / "public_names.txt").read_text(encoding="utf-8").partition("\nconnection")[0]
    found: dict[str, set[str]] = {}
    module = owner = ""
    for indent, name, arguments in re.findall(r"^( *)([\w.]+)(?:\((.*)\))?$", listed, re.MULTILINE):
        if not indent:
            module = name
            continue
        owner = name if len(indent) == 4 else owner
        full = f"{module}.{owner}" if len(indent) == 4 else f"{module}.{owner}.{name}"
        found[full] = set(re.findall(r"\w+", arguments)) if not module.endswith(".exceptions") else set()
    return found


def entries_of(site: Path) -> dict[str, Entry]:
    """Return the entries of all pages, by name; not those of attributes."""
    found: dict[str, Entry] = {}
    for page in site.glob("*.html"):
        pieces = re.split(_ENTRY, page.read_text(encoding="utf-8"))
        for name, text in zip(pieces[1::2], pieces[2::2], strict=True):
            signature, _, description = text.partition("</dt>")
            parameters = re.findall(_PARAMETER, signature)
            found[name] = Entry(
                {argument for argument, _ in parameters},
                {argument for argument, rest in parameters if '<span class="pre">:</span>' not in rest},
                set(re.findall(r"<strong>(\w+)</strong> \((?:<a [^>]*>)?<em>", description)),
                unescape(re.sub(r"<[^>]+>", "", description)).strip(),
            )
    return found


NAMES = listed_names()
ERRORS = {name for name in NAMES if ".exceptions." in name}
METHODS = {name for name in NAMES if ".hooks." in name and name.count(".") == 4}
CLASSES = NAMES.keys() - ERRORS - METHODS


@pytest.fixture(scope="module")
def entries(site: Path) -> dict[str, Entry]:
    return entries_of(site)


def test_the_list_has_every_kind_of_class_that_airflow_is_told_of() -> None:
    info = get_provider_info()
    modules = {
        module
        for kind in ("hooks", "operators", "sensors", "triggers")
        for entry in info[kind]
        for module in entry["python-modules"]
    }
    assert modules <= {name.rpartition(".")[0] for name in CLASSES}
    assert {*info["extra-links"], *(each["class-name"] for each in info["task-decorators"])} <= CLASSES
    assert len(METHODS) > 50


def test_the_reference_has_every_public_name_and_no_other(entries: dict[str, Entry]) -> None:
    assert entries.keys() - {SETTINGS, *BASES} == NAMES.keys()


@pytest.mark.parametrize("base", BASES)
def test_a_base_has_arguments_of_the_class_and_describes_them(base: str, entries: dict[str, Entry]) -> None:
    [whole] = [entry for name, entry in entries.items() if name.endswith(f".{BASES[base]}")]
    assert {"rayagent_conn_id", "deferrable"} <= entries[base].described == entries[base].arguments < whole.arguments
    assert entries[base].untyped == set()


def test_every_sentence_about_other_arguments_leads_to_an_entry_or_to_airflow(entries: dict[str, Entry]) -> None:
    found = [
        (name, sentence)
        for name, entry in entries.items()
        for sentence in re.findall(r"\bother arguments\b[^.]*\.", entry.words)
    ]
    names = {name.rpartition(".")[2] for name in entries} | {"BaseOperator", "BaseSensorOperator"}
    assert len(found) > 10
    assert [each for each in found if not names & set(re.findall(r"\w+", each[1]))] == []


@pytest.mark.parametrize("name", sorted(CLASSES | METHODS))
def test_the_signature_has_every_argument_with_its_type(name: str, entries: dict[str, Entry]) -> None:
    assert entries[name].arguments == NAMES[name]
    assert entries[name].untyped == set()


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_argument_of_a_class_is_described(name: str, entries: dict[str, Entry]) -> None:
    assert entries[name].described == NAMES[name]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_argument_of_a_method_is_described_there_or_where_it_says(name: str, entries: dict[str, Entry]) -> None:
    entry = entries[name]
    refers = re.search(r"^Call \w+|arguments[\w, ]* are those of", " ".join(entry.words.split()))
    assert refers or entry.arguments - entry.described <= SHARED


def test_every_class_that_sends_requests_takes_the_id_of_a_connection() -> None:
    senders = {name for name in CLASSES if re.search(r"\.(hooks|operators|sensors|triggers)\.", name)}
    assert [name for name in senders if "rayagent_conn_id" not in NAMES[name] and ".RayAgent" in name] == []


@pytest.mark.parametrize("name", sorted(ERRORS | METHODS))
def test_every_error_and_method_is_described(name: str, entries: dict[str, Entry]) -> None:
    assert entries[name].words
