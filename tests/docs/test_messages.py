"""Troubleshooting quotes what the code says, and leaves out nothing that a task log can say of the job's log."""

from __future__ import annotations

import ast
import itertools
import re
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.client.fields import field_name
from airflow_provider_rayagent.render import reasons
from tests.docs.conftest import PAGES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = ROOT / "airflow_provider_rayagent"
_MARK = r" *(?:\d+\. )?> "
TEXT = (PAGES / "troubleshooting.md").read_text(encoding="utf-8")


def quotes() -> list[str]:
    """Return the sentences that the page quotes: in quotation blocks, and in the first column of its tables."""
    blocks = re.findall(rf"(?:^{_MARK}.*\n)+", TEXT, flags=re.MULTILINE)
    cells = re.findall(r"^\| `([^`]+)` \|", TEXT, flags=re.MULTILINE)
    return [_plain(re.sub(rf"^{_MARK}", "", block, flags=re.MULTILINE)) for block in blocks] + cells


def messages_of(path: Path) -> Iterator[str]:
    """Yield the texts in a module, each with ``…`` for what it fills in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Constant, ast.JoinedStr, ast.BinOp)):
            for text in _texts(node):
                yield _plain(re.sub(r"…+", "…", text))


def _texts(node: ast.AST) -> list[str]:
    """Return what an expression can be as a text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [re.sub(r"%[.0-9]*[a-z]", "…", node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(_texts(part)[0] for part in node.values)]
    if isinstance(node, ast.FormattedValue) and ast.unparse(node.value).startswith("field_name('"):
        return [field_name(ast.unparse(node.value).split("'")[1])]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return ["".join(pair) for pair in itertools.product(_texts(node.left), _texts(node.right))]
    if isinstance(node, ast.IfExp):
        return _texts(node.body) + _texts(node.orelse)
    return ["…"]


def _plain(text: str) -> str:
    return " ".join(text.split())


MESSAGES = {text for path in PACKAGE.rglob("*.py") for text in messages_of(path)}


@pytest.mark.parametrize("quote", quotes())
def test_a_quoted_sentence_is_in_the_code(quote: str) -> None:
    assert any(quote in message for message in MESSAGES)


def test_there_are_many_quotes() -> None:
    assert len(quotes()) > 50


def test_all_that_the_log_tail_says_is_explained() -> None:
    module = ast.parse((PACKAGE / "tail" / "output.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    said = [_plain(text) for call in calls if call.func.attr == "_add_notice" for text in _texts(call.args[0])]  # type: ignore[attr-defined]
    assert len(said) >= 5
    assert [text for text in said if text not in quotes()] == []


def test_every_hint_at_a_failed_job_is_explained() -> None:
    hints = {
        reasons._PROGRAM_FAILED,
        *reasons._HINTS.values(),
        *reasons._SIGNAL_HINTS.values(),
        *reasons._HINTS_BY_KIND.values(),
    }
    assert [hint for hint in hints if not any(quote in hint for quote in quotes())] == []
