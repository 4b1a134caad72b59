"""What a job printed as its result, and what an asset's event carries, in a worker and deferred."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.bases.xcom import BaseXCom

from airflow_provider_rayagent.exceptions import RayAgentJobFailedError, RayAgentJobTimeoutError
from airflow_provider_rayagent.tail import early_checks
from airflow_provider_rayagent.tasks import log_position
from tests.scripted import Do, Grow, Job, Refuse, SetStatus, Sleep, WaitFor, WaitForStream
from tests.stack.watch import PATIENCE
from tests.unit.sensors.factory import run_in_worker
from tests.unit.support import GROWING_TIMEOUTS, TOKEN, StateStore, TaskInstance, make_context

if TYPE_CHECKING:
    from collections.abc import Callable

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


@pytest.fixture
def _nothing_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no XComs for asyncio code, as before Airflow 3.3."""
    monkeypatch.delattr(BaseXCom, "aset", raising=False)


@pytest.mark.parametrize(
    ("text", "options", "result"),
    [
        (PRINTED, {}, RESULT),
        (PRINTED, {"forward_logs": False}, RESULT),
        (PRINTED + "x\n" * 3_000, {"max_lines": 2, "tail_lines": 1}, RESULT),
        ("<<7>>\n", {"result_markers": ["<<", ">>"]}, 7),
        (f'{START}{{"key": "{TOKEN}"}}{END}\n', {}, {"key": "***"}),
    ],
    ids=["shown", "not shown", "before many lines", "other markers", "with a token"],
)
@pytest.mark.parametrize("make_job", [Job, running])
def test_the_result_is_in_the_xcom(
    make_job: Callable[[str], Job],
    text: str,
    options: dict[str, Any],
    result: object,
    run: Run,
    serve: Serve,
    log: TaskLog,
) -> None:
    context = make_context()
    serve(make_job(text))
    assert run(read_result=True, poke_interval=0.5, context=context, **options)["result"] == result
    if text == PRINTED:
        assert ("epoch 1" in log.messages) is ("bye" in log.messages) is options.get("forward_logs", True)
    assert log.warnings == []
    assert TOKEN not in str(context["ti"].xcoms)


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


def test_without_read_result_there_is_none(run: Run, serve: Serve) -> None:
    serve(running(PRINTED))
    assert "result" not in run(read_result=False)


@pytest.mark.usefixtures("_nothing_is_saved")
def test_a_result_whose_position_was_not_saved_is_read_from_the_log_again(run: Run, serve: Serve) -> None:
    serve(running(PRINTED))
    assert run(read_result=True, poke_interval=0.5)["result"] == RESULT


@pytest.mark.usefixtures("_nothing_is_saved")
@pytest.mark.parametrize(
    ("status", "error"), [("FAILED", RayAgentJobFailedError), ("RUNNING", RayAgentJobTimeoutError)]
)
def test_a_job_that_has_not_succeeded_has_no_result_and_its_log_is_not_read_again(
    status: str, error: type[Exception], run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("airflow_provider_rayagent.hooks.rayagent.RayAgentHook.tail_job_logs")
    context = make_context()
    serve(running(PRINTED, status))
    with pytest.raises(error):
        run(read_result=True, poke_interval=0.5, context=context, timeout=1 if status == "RUNNING" else PATIENCE)
    assert "result" not in context["ti"].xcoms.get("return_value", {})


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
