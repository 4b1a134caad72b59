"""The driver that deletes a Serve application joins only a cluster whose processes can be trusted."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from airflow_provider_rayagent.local.serve_delete import gcs_address_of

SESSION = "session_2026-01-31_12-00-00_000000_7"
ME = 1000


def process(name: str | None, address: str, *, uid: int | None = ME, session: str = SESSION) -> Any:
    """Return a process as psutil describes it; details of a process that may not be read are ``None``."""
    uids = None if uid is None else SimpleNamespace(real=uid, effective=0, saved=0)
    words = [f"/ray/core/{name}", f"--session-name={session}", f"--gcs-address={address}"]
    return SimpleNamespace(info={"name": name, "uids": uids, "cmdline": words})


def address_in(monkeypatch: pytest.MonkeyPatch, *processes: Any) -> str | None:
    monkeypatch.setattr(os, "getuid", lambda: ME)
    monkeypatch.setattr(psutil, "process_iter", lambda _attributes: iter(processes))
    return gcs_address_of(SESSION)


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
@pytest.mark.parametrize("uid", [ME, 0])
def test_address_is_that_of_a_ray_process_of_this_user_or_root(
    monkeypatch: pytest.MonkeyPatch, name: str, uid: int
) -> None:
    other = process("raylet", "127.0.0.1:1", session="session_other")
    assert address_in(monkeypatch, other, process(name, "127.0.0.1:2", uid=uid)) == "127.0.0.1:2"


@pytest.mark.parametrize(
    "other",
    [
        process("raylet", "10.6.6.6:666", uid=ME + 1),
        process("gcs_server", "10.6.6.6:666", uid=None),
        process("sh", "10.6.6.6:666"),
        process("python", "10.6.6.6:666", uid=0),
        process(None, "10.6.6.6:666"),
        SimpleNamespace(info={"name": "raylet", "uids": SimpleNamespace(real=ME), "cmdline": None}),
    ],
)
def test_other_processes_are_ignored(monkeypatch: pytest.MonkeyPatch, other: Any) -> None:
    assert address_in(monkeypatch, other) is None
    assert address_in(monkeypatch, other, process("raylet", "127.0.0.1:2")) == "127.0.0.1:2"
