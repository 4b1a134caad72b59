"""Whatever an agent or a job says, Airflow can store it and its log view has nothing to obey; no secret is in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import airflow_provider_rayagent
from tests.unit.foreign import WAYS, Scene, texts_in, through_airflow
from tests.unit.support import shorten_job_checks

if TYPE_CHECKING:
    from tests.unit.support import Connect

HOSTILE = (
    "\ud800 nul\x00 \x1b]0;title\x07\x1b[2J\x1b[1A \rover \x9b2J \u202egnp.exe\u2066 ::group::x::endgroup:: \udfff"
)
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]|::(?:end)?group::"
)
LONG, FOUR, THREE = "Qz7+Kd93vXw1/Lp5tYb8", "q#7K", "z%9"


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_job_checks(monkeypatch)


@pytest.mark.parametrize("name", WAYS)
def test_whatever_is_said_can_be_stored_and_does_nothing(
    name: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(HOSTILE, connect, monkeypatch)
    WAYS[name](scene)
    assert scene.told
    for value in scene.stored:
        assert through_airflow(value) == value
    for text in scene.told:
        assert OBEYED.search(text) is None, ascii(text)


def test_there_is_no_way_beside_these_to_give_airflow_something_to_keep() -> None:
    kept: list[str] = []
    for path in Path(airflow_provider_rayagent.__file__).parent.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        calls = [ast.unparse(node) for node in nodes if isinstance(node, ast.Call)]
        kept += [call for call in calls if re.match(r".*(\.xcom_push|XCom\.a?set|store\.set)\(", call)]
    assert len(kept) >= 3
    assert [call for call in kept if "storable(" not in call] == []


@pytest.mark.parametrize("name", WAYS)
def test_no_secret_and_no_piece_of_one_is_in_what_is_said(
    name: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is cut is cut within one of them: the agent and the job say nothing else."""
    connection = {"password": f"Bearer {LONG}", "extra": {"user_token": f"Token {FOUR}", "headers": {"X-Key": THREE}}}
    scene = Scene(f"{LONG}/{FOUR}/{THREE} " * 400, connect, monkeypatch, key="loss", **connection)
    WAYS[name](scene)
    pieces = {THREE, FOUR, *(LONG[at : at + 6] for at in range(len(LONG) - 5))}
    for text in [*scene.told, *texts_in(scene.stored)]:
        assert [piece for piece in pieces if piece in text] == [], text[:3_000]
