"""The definitions agree with the code that they do not import."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.cli import subcommands
from airflow_provider_rayagent.cli.definition import DEFAULT_CONN_ID, STATUSES, get_commands
from airflow_provider_rayagent.cli.exit_codes import ExitCode
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.services.jobs import JobStatus
from airflow_provider_rayagent.text.codes import Code

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Airflow

NAMES = ("jobs", "logs", "stop", "orphans", "clean", "nodes", "gpus", "apps", "doctor", "explain")
TABLES = ("jobs", "orphans", "nodes", "gpus", "apps")


def test_the_group_has_a_function_for_each_command() -> None:
    [group] = get_commands()
    assert group.name == "rayagent"
    assert tuple(each.name for each in group.subcommands) == NAMES
    assert all(callable(getattr(subcommands, name)) for name in NAMES)


def test_defaults_and_choices_are_those_of_the_code() -> None:
    assert RayAgentHook.default_conn_name == DEFAULT_CONN_ID
    assert set(STATUSES) == {status.value for status in JobStatus}


@pytest.mark.parametrize("name", NAMES)
def test_every_command_takes_a_connection_and_explains_its_exit_codes(name: str, airflow: Airflow) -> None:
    done = airflow(name, "--help")
    assert done.code == 0
    assert ("--conn-id" in done.out) == ("--cluster" in done.out) == (name != "explain")
    codes = done.out.partition("\nExit codes:\n")[2]
    assert re.findall(r"^  (\d+)  +\w", codes, re.MULTILINE) == [str(code.value) for code in ExitCode]
    assert ("--output" in done.out) == (name in TABLES)


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_command_has_an_example_that_the_parser_accepts(name: str, airflow: Airflow) -> None:
    from airflow.cli.cli_parser import get_parser

    [example] = re.findall(r"^Example: airflow (rayagent .+)$", airflow(name, "--help").out, re.MULTILINE)
    args = get_parser().parse_args(example.split())
    assert args.subcommand == name
    assert callable(args.func)


@pytest.mark.parametrize("arguments", [("logs",), ("jobs", "--limit", "0"), ("jobs", "--status", "LOST"), ("no",)])
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], airflow: Airflow) -> None:
    assert airflow(*arguments).code == 2


@pytest.mark.parametrize("code", ["RA-206", "ra-206", "206", "RA206"])
def test_a_code_is_explained(code: str, airflow: Airflow) -> None:
    done = airflow("explain", code)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("RA-206\n\nService or a proxy restarts (502 to 504)")


@pytest.mark.parametrize("code", list(Code))
def test_the_section_of_each_code_is_plain_text_without_the_next_one(code: Code, airflow: Airflow) -> None:
    done = airflow("explain", code.value)
    heading, _, text = done.out.partition("\n\n")
    assert heading == code.value
    assert text.strip()
    assert not re.search(r"\]\(|\{class\}|^#|^\(.*\)=$|[*`]", text, flags=re.MULTILINE)


@pytest.mark.parametrize("code", ["RA-999", "", "help", "RA-206\n### RA-207", "\ud800"])
def test_an_unknown_code_is_an_error(code: str, airflow: Airflow) -> None:
    done = airflow("explain", code)
    assert done.code == 2
    assert done.err.startswith("RA-601: There is no code ")
