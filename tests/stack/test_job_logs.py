"""What Ray writes is found wherever it stands in a log."""

from __future__ import annotations

import pytest

from tests.stack.job_logs import lines_of_program, without_lines_of_ray

JOB = {"submission_id": "j1", "entrypoint": "python -c 'print(1)\nprint(2)'"}
FIRST = "2026-01-31 12:00:00,123\tINFO job_manager.py:581 -- Runtime env is setting up.\n"
SECOND = f"Running entrypoint for job j1: {JOB['entrypoint']}\n"
PRINTED = "one\n\n  two\nthree"


@pytest.mark.parametrize("place", range(len(PRINTED) + 1))
def test_ray_may_write_anywhere(place: int) -> None:
    log = f"{FIRST}{PRINTED[:place]}{SECOND}{PRINTED[place:]}"

    assert without_lines_of_ray(log, JOB) == PRINTED
    assert lines_of_program(log.removesuffix("\n").split("\n"), JOB) == PRINTED.split("\n")


def test_what_other_programs_write_is_kept() -> None:
    log = f"{SECOND.replace('j1', 'j2')}Runtime env is setting up.\n"

    assert without_lines_of_ray(FIRST + log, JOB) == log


def test_a_log_can_have_no_line_of_the_program() -> None:
    assert lines_of_program([], JOB) == []
    assert lines_of_program((FIRST + SECOND).removesuffix("\n").split("\n"), JOB) == []
