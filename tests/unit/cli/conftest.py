"""Run a command as Airflow's ``main`` does."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import pytest

from tests.unit.cli.findings import examine

if TYPE_CHECKING:
    from collections.abc import Callable

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


Ask: TypeAlias = "Callable[..., Done]"
Examined: TypeAlias = "Callable[..., dict[str, tuple[str, str]]]"


@pytest.fixture
def ask(connect: Connect, airflow: Airflow) -> Ask:
    """Run ``airflow rayagent`` with the arguments after an agent, which runs meanwhile, and a connection to it."""

    def ask(agent: ScriptedAgent, *arguments: str) -> Done:
        with agent:
            connect(agent, extra={"service": agent.service})
            return airflow(*arguments)

    return ask


@pytest.fixture
def examined(ask: Ask) -> Examined:
    """Return what ``doctor`` finds of a connection to an agent, which runs meanwhile."""
    return lambda agent, *arguments: examine(partial(ask, agent), *arguments)
