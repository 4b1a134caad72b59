"""What runs of a job, in sentences."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_rayagent.activity.running_parts import (
    Attempt,
    Process,
    attempts_of,
    place_of,
    program_of,
    running_groups,
    starts_of,
)
from airflow_provider_rayagent.services.ray_responses import NodeUsage, node_usage
from airflow_provider_rayagent.text.redaction import Redactor

NOON = 1_796_212_800_000.0
"""2026-12-02 12:00 UTC."""
NODES = {"aa" * 28: NodeUsage("10.0.0.7", {7: 0.4, 8: 97.6}), "bb" * 28: NodeUsage("10.0.0.8", {7: 3.0})}


def row(name: object = "train", start: object = NOON, *, node: object = "aa" * 28, pid: object = 7, **more: Any) -> Any:
    return {"name": name, "start_time_ms": start, "node_id": node, "worker_pid": pid, "type": "NORMAL_TASK", **more}


def described(*rows: Any) -> list[str]:
    return [group.describe(NODES, str) for group in running_groups(rows)]


def test_the_function_that_has_run_for_the_longest_time_comes_first() -> None:
    rows = [row("new", NOON + 3_000), row("both", NOON + 2_000), row("both", NOON), row("old", NOON + 1_000)]
    assert described(*rows) == [
        "2 tasks both, the first since 2026-12-02 12:00:00 UTC, on node 10.0.0.7; CPU of its process: 0%",
        "1 task old, since 2026-12-02 12:00:01 UTC, on node 10.0.0.7; CPU of its process: 0%",
        "1 task new, since 2026-12-02 12:00:03 UTC, on node 10.0.0.7; CPU of its process: 0%",
    ]


def test_several_nodes_and_processes_are_told() -> None:
    rows = [row(pid=8), row(start=NOON + 1), row(node="bb" * 28), row(node="cc" * 28)]
    assert described(*rows) == [
        "4 tasks train, the first since 2026-12-02 12:00:00 UTC, on 3 nodes, the first on node 10.0.0.7; "
        "CPU of 3 of 4 processes: 0% to 98%"
    ]


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("ACTOR_TASK", "method"), ("ACTOR_CREATION_TASK", "constructor"), ("NORMAL_TASK", "task"), (None, "task")],
)
def test_methods_and_constructors_are_told_from_tasks(kind: str | None, shown: str) -> None:
    assert described(row("A.run", type=kind))[0].startswith(f"1 {shown} A.run, since ")
    assert described(row("A.run", type=kind), row("A.run", type=kind))[0].startswith(f"2 {shown}s A.run, the first ")


@pytest.mark.parametrize("odd", [None, "", -1, float("nan"), float("inf"), True, [], {}, 10**400, "x"])
def test_values_of_other_types_are_left_out(odd: Any) -> None:
    assert described(row(None, odd, node=None, pid=odd)) == ["1 task"]
    assert starts_of([row(start=odd)]) == []
    assert attempts_of([{"task_id": "t", "attempt_number": odd}]) == {Attempt("t", 0)}
    assert program_of({"driver_info": odd, "driver_node_id": None}) == Process("", None)
    assert program_of({"driver_info": {"pid": odd}}) == Process("", None)
    assert node_usage({"data": {"detail": {"ip": odd or 3, "workers": odd}}}).cpu == {}
    assert node_usage(odd) == NodeUsage()


def test_a_time_that_no_calendar_has_is_shown() -> None:
    assert described(row(start=9e15))[0].startswith("1 task train, since 9999-12-31 23:59:59 UTC")


def test_names_are_masked_and_cannot_forge_lines() -> None:
    (group,) = running_groups([row("load\nhunter2-secret" + "x" * 1_000, node="hunter2\nsecret")])
    text = group.describe({}, Redactor(["hunter2-secret"]))
    assert "hunter2-secret" not in text
    assert "\n" not in text
    assert len(text) < 500


def test_nodes_of_one_machine_are_told_apart() -> None:
    nodes = {"aa" * 28: NodeUsage("127.0.0.1"), "bb" * 28: NodeUsage("127.0.0.1")}
    assert place_of("aa" * 28, nodes, str) == "node 127.0.0.1 [aaaaaaaa]"
    assert place_of("aa" * 28, {"aa" * 28: NodeUsage("127.0.0.1")}, str) == "node 127.0.0.1"
    assert place_of("cc" * 28, nodes, str) == "node cccccccc"


def test_the_program_has_its_process_as_text_or_number() -> None:
    assert program_of({"driver_info": {"pid": "812"}, "driver_node_id": "n"}) == Process("n", 812)
    assert program_of({"driver_info": {"pid": 812}}) == Process("", 812)


def test_the_processes_of_a_node_are_those_with_a_figure() -> None:
    workers = [{"pid": 7, "cpuPercent": 12.5}, {"pid": 8}, {"cpuPercent": 1.0}, None, {"pid": "9", "cpuPercent": 1}]
    body = {"data": {"detail": {"ip": "10.0.0.7", "workers": workers}}}
    assert node_usage(body) == NodeUsage("10.0.0.7", {7: 12.5})
