from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.stack import watch
from tests.stack.processes import Server, command_of
from tests.stack.watch import ServerDiedError, WaitError, check_servers, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
RUNS = "import time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Server]]:
    """Start a Python program as a server, and wait for its first line."""
    started: list[Server] = []

    def start(program: str) -> Server:
        output = tmp_path / f"{len(started)}.log"
        server = Server([sys.executable, "-c", program], name="the server", env={}, cwd=tmp_path, output=output)
        started.append(server)
        wait_until(lambda: output.read_text() or None, "nothing printed")
        return server

    yield start
    for server in started:
        server.stop()


def never() -> None:
    """Find nothing."""


def test_wait_fails_with_last_lines_of_killed_server(start: Callable[[str], Server]) -> None:
    server = start(RUNS)
    calls = 0

    def look() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            os.kill(server.pid, signal.SIGKILL)
            os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)

    with pytest.raises(ServerDiedError, match=r"^the server was killed by SIGKILL; its last lines:\nup$"):
        wait_until(look, "nothing")
    assert calls == 2


def test_failed_server_is_reported_with_exit_code(start: Callable[[str], Server]) -> None:
    server = start("import sys; print('first', flush=True); input(); print('no more'); sys.exit(3)")
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ServerDiedError, match=r"ended with exit code 1; its last lines:\nfirst\n(.*\n)*EOFError"):
        check_servers()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_requested_end_is_not_an_error(start: Callable[[str], Server], number: signal.Signals) -> None:
    server, other = start(RUNS), start(RUNS)
    server.send(number, server.pid)
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
    check_servers()
    other.stop()
    check_servers()


def test_wait_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PATIENCE", 0.0)
    with pytest.raises(WaitError, match=r"^no answer, the 3rd, after 0 s$"):
        wait_until(never, lambda: "no answer, the 3rd,")


SUITE = """
    import os, signal, sys, time
    from pathlib import Path

    import pytest
    from tests.stack.processes import Server
    from tests.stack.watch import wait_until

    @pytest.fixture(scope="session")
    def server(tmp_path_factory):
        folder = tmp_path_factory.mktemp("server")
        command = [sys.executable, "-c", {runs!r}]
        server = Server(command, name="the server", env={{}}, cwd=folder, output=folder / "output")
        wait_until(lambda: server.output.read_text() or None, "nothing printed")
        yield server
        server.stop()

    def test_it_runs(server):
        pass

    def test_it_is_used(server):
        {step}

    def test_would_wait_for_it(server):
        wait_until(lambda: None, "nothing")
"""
INTERRUPTED = """
    @pytest.fixture(scope="session")
    def later(server):
        yield
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(3600)

    def test_later(later):
        pass
"""
DIES = "os.kill(server.pid, signal.SIGKILL); os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)"


def test_terminated_run_stops_its_servers(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import pytest_configure")
    pytester.makepyfile(SUITE.format(runs=RUNS, step="Path('pid').write_text(str(server.pid)); time.sleep(3600)"))
    command = [sys.executable, "-m", "pytest", "-k", "used", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = Server(command, name="the run", env=environment, cwd=pytester.path, output=pytester.path / "output")
    noted = pytester.path / "pid"
    try:
        pid = int(wait_until(lambda: (noted.exists() and noted.read_text()) or None, "the server is not started"))
        run.send(signal.SIGTERM, run.pid)
        assert wait_until(run.returncode, "the run does not end") == 128 + signal.SIGTERM
        assert command_of(pid) == []
    finally:
        run.stop()


def test_run_that_is_interrupted_while_a_fixture_ends_stops_its_servers(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import pytest_configure, pytest_unconfigure")
    suite = SUITE.format(runs=RUNS, step="Path('pid').write_text(str(server.pid))")
    pytester.makepyfile(f"{suite}{INTERRUPTED}")
    result = pytester.runpytest_subprocess("-k", "used or later", "-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert command_of(int((pytester.path / "pid").read_text())) == []


@pytest.mark.parametrize("step", ["wait_until(lambda: None, 'nothing')", "assert 'it answers' is None"])
def test_run_ends_after_test_with_dead_server(pytester: pytest.Pytester, step: str) -> None:
    pytester.makeconftest("from tests.conftest import pytest_runtest_makereport")
    pytester.makepyfile(SUITE.format(runs=RUNS, step=f"{DIES}; {step}"))
    result = pytester.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*the server was killed by SIGKILL; its last lines:*",
            "*test_it_is_used needs servers that*",
        ]
    )


WAITS = """
    def test_waits(monkeypatch):
        monkeypatch.setattr("tests.stack.watch.PATIENCE", 0.0)
        wait_until(lambda: None, "nothing")
"""
HAS_ITS_OWN = """
    def test_has_its_own(tmp_path):
        server = Server([sys.executable, "-c", ""], name="the server", env={}, cwd=tmp_path, output=tmp_path / "output")
        try:
            wait_until(lambda: None, "nothing")
        finally:
            server.stop()
"""
GOES_ON = """
    import sys
    from tests.stack.processes import Server
    from tests.stack.watch import wait_until
    {fails}
    def test_goes_on():
        pass
"""


@pytest.mark.parametrize(("fails", "error"), [(WAITS, "nothing after 0 s"), (HAS_ITS_OWN, "ended with exit code 0")])
def test_run_goes_on_after_a_failure_that_leaves_no_dead_server(
    pytester: pytest.Pytester, fails: str, error: str
) -> None:
    pytester.makeconftest("from tests.conftest import pytest_runtest_makereport")
    pytester.makepyfile(GOES_ON.format(fails=fails))
    result = pytester.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"*{error}*"])
