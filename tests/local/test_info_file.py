"""The info file, which contains the token: it is removed however its agent ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]
import pytest

from airflow_provider_rayagent.local.errors import LocalAgentError
from airflow_provider_rayagent.local.info_file import info_file, remove_if_stale
from airflow_provider_rayagent.local.keeper import remove_info_file
from tests.stack.agent import start_agent, stop_agent, wait_for_file
from tests.stack.processes import NO_AGENT
from tests.stack.watch import PATIENCE, wait_until

if TYPE_CHECKING:
    from pathlib import Path

NO_RAY = ("--address", NO_AGENT)


def test_info_file_is_private_and_removed_at_end(tmp_path: Path) -> None:
    path = tmp_path / "info.json"
    path.write_text("left")
    path.chmod(0o644)

    with info_file(path, "new"):
        assert path.read_text() == "new"
        assert path.stat().st_mode & 0o777 == 0o600
        assert list(tmp_path.iterdir()) == [path]
        with pytest.raises(LocalAgentError, match="of a running local agent"):
            remove_if_stale(path)
        with pytest.raises(LocalAgentError, match="of a running local agent"), info_file(path, "other"):
            pass
        assert path.read_text() == "new"
    assert not path.exists()


def test_replaced_info_file_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "info.json"
    with info_file(path, "ours"):
        (tmp_path / "other").write_text("theirs")
        (tmp_path / "other").replace(path)
    assert path.read_text() == "theirs"


def test_non_regular_files_are_not_removed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "none", tmp_path, tmp_path / "fifo"):
        remove_if_stale(path)
    assert list(tmp_path.iterdir()) == [tmp_path / "fifo"]


def test_info_file_is_removed_if_agent_is_killed(tmp_path: Path) -> None:
    info, output = tmp_path / "info.json", tmp_path / "output.log"
    process = start_agent(*NO_RAY, "--info-file", str(info), output=output)
    try:
        wait_for_file(info, process, output)
        (keeper,) = psutil.Process(process.pid).children()
    finally:
        process.kill()
        process.wait()

    wait_until(lambda: not info.exists() or None, "the info file is still there")
    keeper.wait(PATIENCE)


def test_stale_info_file_is_removed_at_next_start(tmp_path: Path) -> None:
    info, output = tmp_path / "info.json", tmp_path / "output.log"
    process = start_agent(*NO_RAY, "--info-file", str(info), output=output)
    wait_for_file(info, process, output)
    old = json.loads(info.read_text())
    (keeper,) = psutil.Process(process.pid).children()
    keeper.send_signal(signal.SIGSTOP)
    process.kill()
    process.wait()
    keeper.kill()
    assert info.exists()

    process = start_agent("--address", "nonsense", "--info-file", str(info), output=output)
    assert process.wait(PATIENCE) == 1
    assert not info.exists(), "it is removed first, so that it is not mistaken for the new agent's"

    process = start_agent(*NO_RAY, "--info-file", str(info), output=output)
    try:
        wait_for_file(info, process, output)
        assert json.loads(info.read_text())["token"] != old["token"]
    finally:
        stop_agent(process)
    assert not info.exists()


def test_keeper_waits_for_lock_of_exiting_agent(tmp_path: Path) -> None:
    path = tmp_path / "info.json"
    path.write_text("left")
    lock = path.open("rb")
    fcntl.flock(lock, fcntl.LOCK_EX)

    releasing = threading.Timer(0.5, lock.close)
    releasing.start()
    remove_info_file(path)
    assert not path.exists()
    releasing.join()


def test_keeper_does_not_remove_info_file_of_newer_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "info.json"
    with info_file(path, "of the next agent"):
        monkeypatch.setattr("airflow_provider_rayagent.local.keeper.UNLOCK_TIMEOUT", 0.1)
        remove_info_file(path)
        assert path.read_text() == "of the next agent"
