"""Run a command as Airflow's ``main`` does."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import pytest


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
