"""What a job printed as its result, and what an asset's event carries, in a worker and deferred."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Asset, AssetAlias

from airflow_provider_rayagent.exceptions import RayAgentJobFailedError, RayAgentJobTimeoutError
from airflow_provider_rayagent.tail import early_checks
from airflow_provider_rayagent.tasks import log_position
from tests.scripted import Do, Grow, Job, Refuse, SetStatus, Sleep, WaitFor, WaitForStream
from tests.stack.watch import PATIENCE
from tests.unit.sensors.factory import run_in_worker
from tests.unit.support import GROWING_TIMEOUTS, TOKEN, StateStore, TaskInstance, make_context

if TYPE_CHECKING:
    from tests.unit.both_ways import Run
    from tests.unit.support import Serve, TaskLog

START, END = "__SYNAPSE_RESULT_START__", "__SYNAPSE_RESULT_END__"
PRINTED = f'epoch 1\n{START}\n{{"loss": 0.5, "é": [1, null]}}\n{END}\nbye\n'
FAR = 10 * PATIENCE
"""Seconds that never pass."""
RESULT = {"loss": 0.5, "é": [1, None]}


def running(text: str, status: str = "SUCCEEDED", **overrides: Any) -> Job:
    at = len(text) // 2
    timeline = [Sleep(0.3), Grow(text[:at]), Sleep(0.1), Grow(text[at:]), Sleep(0.1), SetStatus(status)]
    return Job("", **{"status": "RUNNING", "timeline": timeline, **overrides})


@pytest.mark.parametrize("forward_logs", [True, False])
@pytest.mark.parametrize("ended", [True, False])
def test_the_result_is_in_the_xcom(ended: bool, forward_logs: bool, run: Run, serve: Serve, log: TaskLog) -> None:
    job = Job(PRINTED) if ended else running(PRINTED)
    serve(job)
    assert run(read_result=True, poke_interval=0.5, forward_logs=forward_logs)["result"] == RESULT
    assert ("epoch 1" in log.messages) is forward_logs
    assert ("bye" in log.messages) is forward_logs
    assert log.warnings == []


def test_a_result_that_stands_before_many_lines_is_found(run: Run, serve: Serve) -> None:
    serve(running(PRINTED + "x\n" * 3_000))
    assert run(read_result=True, poke_interval=0.5, max_lines=2, tail_lines=1)["result"] == RESULT


@pytest.mark.parametrize("read_result", [True, False])
def test_the_status_is_requested_after_the_end_marker_though_the_job_writes_on(
    read_result: bool, run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    writes = [action for _ in range(8) for action in (Sleep(0.1), Grow("x\n"))]

    def count() -> None:
        asked.append(len(agent.of("GET jobs/j1/")))

    def requested() -> bool:
        return len(agent.of("GET jobs/j1/")) > asked[0]

    seen = [WaitFor(requested)] if read_result else []
    timeline = [
        WaitForStream(),
        *writes,
        Do(count),
        Grow(f"{START}7{END}\n"),
        *writes,
        *seen,
        Do(count),
        SetStatus("SUCCEEDED"),
    ]
    # On a slow machine, a job that writes seems to be silent.
    monkeypatch.setattr(early_checks, "QUIET_SECONDS", FAR)
    agent = serve(Job("x\n", "RUNNING", timeline=timeline))
    run(read_result=read_result, poke_interval=FAR, timeout=FAR)
    assert (asked[1] > asked[0]) is read_result


def test_the_markers_can_be_chosen(run: Run, serve: Serve) -> None:
    serve(running("<<7>>\n"))
    assert run(read_result=True, poke_interval=0.5, result_markers=["<<", ">>"])["result"] == 7


def test_without_read_result_there_is_none(run: Run, serve: Serve) -> None:
    serve(running(PRINTED))
    assert "result" not in run(read_result=False)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x\n", "printed no result"),
        (f"{START}1\n", f"printed no {END}"),
        (f"{START}x{END}\n", "not JSON"),
    ],
)
def test_what_cannot_be_used_is_said_and_does_not_decide_the_outcome(
    text: str, why: str, run: Run, serve: Serve, log: TaskLog
) -> None:
    serve(running(text))
    details = run(read_result=True, poke_interval=0.5)
    assert (details["status"], details["result"]) == ("SUCCEEDED", None)
    assert [warning for warning in log.warnings if why in warning and "j1" in warning]


def test_a_failed_job_has_no_result(run: Run, serve: Serve) -> None:
    context = make_context()
    serve(running(PRINTED, "FAILED"))
    with pytest.raises(RayAgentJobFailedError):
        run(read_result=True, poke_interval=0.5, context=context)
    assert "result" not in context["ti"].xcoms["return_value"]


def test_a_token_in_the_result_is_taken_out(run: Run, serve: Serve) -> None:
    context = make_context()
    serve(running(f'{START}{{"key": "{TOKEN}"}}{END}\n'))
    assert TOKEN not in str(run(read_result=True, poke_interval=0.5, context=context))
    assert TOKEN not in str(context["ti"].xcoms)


def test_a_result_whose_position_was_not_saved_is_read_from_the_log_again(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_rayagent.triggers.position.PositionStore._write", forget)
    serve(running(PRINTED))
    assert run(read_result=True, poke_interval=0.5)["result"] == RESULT


def test_the_result_of_a_job_that_goes_on_is_not_looked_for(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_rayagent.triggers.position.PositionStore._write", forget)
    serve(Job(PRINTED, "RUNNING"))
    with pytest.raises(RayAgentJobTimeoutError):
        run(read_result=True, poke_interval=0.5, timeout=1)


def test_the_log_of_a_failed_job_is_not_read_again_for_a_result(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_rayagent.triggers.position.PositionStore._write", forget)
    monkeypatch.delattr("airflow_provider_rayagent.hooks.rayagent.RayAgentHook.tail_job_logs")
    serve(running(PRINTED, "FAILED"))
    with pytest.raises(RayAgentJobFailedError):
        run(read_result=True, poke_interval=0.5)


async def forget(*_: Any, **__: Any) -> None:
    """Save nothing."""


def test_a_log_that_cannot_be_read_gives_no_result_and_no_failure(run: Run, serve: Serve, log: TaskLog) -> None:
    refused = [Refuse(500)]
    serve(running(PRINTED, ws=refused, sse=refused, full=refused))
    assert run(read_result=True, poke_interval=0.5)["result"] is None
    assert log.warnings


@pytest.mark.parametrize("text", ["another log\n" * 9, f"another log\n{START}2{END}\n" + "x\n" * 9])
def test_the_result_of_a_log_that_was_rewritten_since_the_last_try_does_not_count(
    text: str, run: Run, serve: Serve
) -> None:
    store = StateStore()
    serve(running(PRINTED, "RUNNING"))
    for timeout in GROWING_TIMEOUTS:
        with pytest.raises(RayAgentJobTimeoutError):
            run_in_worker(
                context=make_context(task_state_store=store),
                read_result=True,
                resume_log=True,
                timeout=timeout,
            )
        if store[log_position.KEY]["cursor"]["result"]["found"]:
            break
    assert store[log_position.KEY]["cursor"]["result"]["found"]
    serve(Job(text, "RUNNING", timeline=[Sleep(0.3), SetStatus("SUCCEEDED")]))
    context = make_context(TaskInstance(2), task_state_store=store)
    details = run(read_result=True, resume_log=True, poke_interval=0.5, context=context)
    assert details["result"] == (2 if START in text else None)


class Events(defaultdict[Any, Any]):
    def __init__(self) -> None:
        super().__init__(lambda: SimpleNamespace(extra={"by": "another"}))


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_the_event_of_an_asset_carries_the_job_and_its_duration(status: str, run: Run, serve: Serve) -> None:
    asset, alias, events = Asset("model"), AssetAlias("models"), Events()
    context = make_context(outlet_events=events)
    job = running("x\n", status, details={"start_time": 1_000, "end_time": 3_500})
    serve(job)
    if status == "SUCCEEDED":
        run(read_result=True, poke_interval=0.5, context=context, outlets=[asset, alias])
        assert events == {asset: SimpleNamespace(extra={"by": "another", "job_id": "j1", "duration": 2.5})}
    else:
        with pytest.raises(RayAgentJobFailedError):
            run(read_result=True, poke_interval=0.5, context=context, outlets=[asset, alias])
        assert events == {}
