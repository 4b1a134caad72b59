"""The page about the commands has each command, option, exit code and check of the code."""

from __future__ import annotations

import re

from airflow_provider_rayagent.cli.definition import get_commands
from airflow_provider_rayagent.cli.doctor import CHECKS
from airflow_provider_rayagent.cli.exit_codes import ExitCode
from tests.docs.conftest import PAGES

TEXT = (PAGES / "cli.md").read_text(encoding="utf-8")


def first_cells(text: str) -> list[str]:
    """Return the code in the first cell of each row of the tables in a text."""
    return re.findall(r"^\| `([^`]+)`", text, flags=re.MULTILINE)


def test_every_command_and_option_is_listed() -> None:
    [group] = get_commands()
    cells = first_cells(TEXT)
    commands = {cell.split()[2] for cell in cells if cell.startswith("airflow rayagent ")}
    assert commands == {command.name for command in group.subcommands}
    for command in group.subcommands:
        for flag in (flag for arg in command.args for flag in arg.flags if flag.startswith("--")):
            [row] = re.findall(rf"^\| `[^|]*`{flag}[` ].*|^\| `{flag}[` ].*", TEXT, flags=re.MULTILINE)
            assert "| all |" in row or "| all but `explain` |" in row or f"`{command.name}`" in row


def test_every_exit_code_and_check_is_listed_in_order() -> None:
    codes = TEXT.partition("## Exit codes")[2].partition("\n## ")[0]
    assert [int(code) for code in first_cells(codes)] == [code.value for code in ExitCode]
    doctor = " ".join(TEXT.partition("## doctor")[2].split())
    places = [re.search(rf"(?:ok|-|WRONG) {check} |`{check}`", doctor) for check in CHECKS]
    assert all(places)
    assert [place.start() for place in places if place] == sorted(place.start() for place in places if place)
