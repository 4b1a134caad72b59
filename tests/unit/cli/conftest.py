"""Run a command as Airflow's ``main`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest

from tests.unit.cli.findings import examine

if TYPE_CHECKING:
    from tests.scripted import ScriptedAgent
    from tests.unit.support import Connect


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Airflow(Protocol):
    """Run ``airflow rayagent`` with these arguments."""

    def __call__(self, *arguments: str) -> Done: ...


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Airflow:
    from airflow.cli.cli_parser import get_parser

    # The command sets it for its process.
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")

    def run(*arguments: str) -> Done:
        code = 0
        try:
            args = get_parser().parse_args(["rayagent", *arguments])
            args.func(args)
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Done(code, *capsys.readouterr())

    return run


class Ask(Protocol):
    """Run ``airflow rayagent`` with these arguments and a connection to an agent, which runs meanwhile."""

    def __call__(self, agent: ScriptedAgent, *arguments: str) -> Done: ...


@pytest.fixture
def ask(connect: Connect, airflow: Airflow) -> Ask:
    def ask(agent: ScriptedAgent, *arguments: str) -> Done:
        with agent:
            connect(agent, extra={"service": agent.service})
            return airflow(*arguments)

    return ask


class Examined(Protocol):
    """Return what ``doctor`` finds of a connection to an agent, which runs meanwhile."""

    def __call__(self, agent: ScriptedAgent, *arguments: str) -> dict[str, tuple[str, str]]: ...


@pytest.fixture
def examined(connect: Connect, airflow: Airflow) -> Examined:
    def examined(agent: ScriptedAgent, *arguments: str) -> dict[str, tuple[str, str]]:
        with agent:
            connect(agent)
            return examine(airflow, *arguments)

    return examined
