"""What a job printed as its result, and what an asset's event carries, in a worker and deferred."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException
from airflow.sdk.execution_time import comms

from airflow_provider_rayagent.exceptions import (
    RayAgentInputError,
    RayAgentJobFailedError,
    RayAgentJobTimeoutError,
    RayAgentLogsUnavailableError,
    RayAgentResultError,
)
from airflow_provider_rayagent.position import task_position
from airflow_provider_rayagent.run.printed_output import PrintedOutput
from airflow_provider_rayagent.tail import early_checks
from airflow_provider_rayagent.text.storable import MAX_DEPTH
from tests.scripted import Do, Grow, Job, Refuse, SetStatus, Sleep, WaitFor, WaitForStream
from tests.stack.watch import PATIENCE
from tests.unit.foreign import END, START, through_airflow
from tests.unit.sensors.factory import make_sensor, run_deferred, run_in_worker
from tests.unit.supervisor import needs_xcoms
from tests.unit.support import TOKEN, StateStore, TaskInstance, make_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.both_ways import Run
    from tests.unit.supervisor import Supervisor
    from tests.unit.support import Serve, TaskLog

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
        (PRINTED + "x\n" * 3_000, {"max_lines": 2}, RESULT),
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
    details = run(read_result=read_result, poke_interval=FAR, timeout=FAR)
    assert (asked[1] > asked[0]) is read_result
    assert details.get("result", "none") == (7 if read_result else "none")


@pytest.mark.usefixtures("_nothing_is_saved")
def test_a_result_whose_position_was_not_saved_is_read_from_the_log_again(run: Run, serve: Serve) -> None:
    serve(running(PRINTED))
    assert run(read_result=True, poke_interval=0.5)["result"] == RESULT


@needs_xcoms
def test_what_a_trigger_has_looked_for_in_the_whole_log_is_not_looked_for_again(
    serve: Serve, ti: TaskInstance, supervisor: Supervisor, log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("airflow_provider_rayagent.hooks.rayagent.RayAgentHook.tail_job_logs")
    serve(running("no result\n" * 9))
    assert run_deferred(ti, read_result=True, poke_interval=0.5)["result"] is None
    assert log.warnings == [f"RA-308: {NO_RESULT} The result is None."]


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
def test_the_result_of_a_log_that_was_rewritten_since_the_last_poke_does_not_count(text: str, serve: Serve) -> None:
    store = StateStore()
    poke = partial(run_in_worker, read_result=True, mode="reschedule")
    serve(Job(PRINTED, "RUNNING"))
    with pytest.raises(AirflowRescheduleException):
        poke(context=make_context(task_state_store=store))
    assert store[task_position.KEY]["position"]["result"]["found"]
    serve(Job(text))
    details = poke(context=make_context(task_state_store=store, task_reschedule_count=1))
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


NO_RESULT = f"Job j1 printed no result: that is the JSON between {START} and {END}."
INFINITE = "a number that is not finite"
LONG_INTEGER = "an integer of more than 64 bits"
TOO_DEEP = f"lists or objects nested more than {MAX_DEPTH} deep"


def ending(text: str) -> Job:
    """Return a job that has printed a text and succeeds in a moment."""
    return Job(text, "RUNNING", timeline=[Sleep(0.1), SetStatus("SUCCEEDED")])


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{START}1\n", f"the job printed no {END}."),
        (f"{START}x{END}\n", "it is not JSON"),
        (f'{START}"{"x" * 64_000}"{END}\n', "it has more than 64,000 characters."),
        *(
            (f"{START}{printed}{END}\n", f"it contains {why}.")
            for printed, why in [
                ('{"loss": NaN}', INFINITE),
                ("[-Infinity]", INFINITE),
                ("1e999", INFINITE),
                (str(2**64), LONG_INTEGER),
                (str(-(2**63) - 1), LONG_INTEGER),
                ("1" * 5_000, LONG_INTEGER),
                (nested(MAX_DEPTH + 1), TOO_DEEP),
                (nested(300), TOO_DEEP),
                (nested(30_000), TOO_DEEP),
                ('[{"__classname__": "a.B", "__version__": 1}]', "the key __classname__, which Airflow reserves"),
                ('{"a": {"__type": "os.system", "__var": "x"}}', "the key __type, which Airflow reserves"),
                ('{"__\\u0069d__": 1}', "the key __id__, which Airflow reserves"),
            ]
        ),
    ],
    ids=lambda text: text[:48],
)
def test_what_cannot_be_used_or_stored_is_said_and_does_not_decide_the_outcome(
    text: str, why: str, run: Run, serve: Serve, log: TaskLog
) -> None:
    serve(ending(text))
    details = run(read_result=True, poke_interval=0.5)
    assert (details["status"], details["result"]) == ("SUCCEEDED", None)
    (warning,) = log.warnings
    assert warning.startswith(f"RA-308: Cannot use the result of job j1: {why}")
    assert through_airflow(details) == details


def test_a_job_without_a_result_is_told_once(run: Run, serve: Serve, log: TaskLog) -> None:
    serve(ending("x\n"))
    assert run(read_result=True, poke_interval=0.5)["result"] is None
    assert log.warnings == [f"RA-308: {NO_RESULT} The result is None."]


@pytest.mark.parametrize(
    ("text", "why"), [("x\n", NO_RESULT), (f"{START}x{END}\n", "Cannot use the result of job j1: it is not JSON")]
)
def test_a_task_that_requires_a_result_fails_without_a_retry(text: str, why: str, run: Run, serve: Serve) -> None:
    context = make_context()
    serve(ending(text))
    with pytest.raises(RayAgentResultError) as failed:
        run(read_result="required", poke_interval=0.5, context=context)
    assert str(failed.value).startswith(f"RA-308: {why}")
    assert str(failed.value).endswith("The task requires a result.")
    assert isinstance(failed.value, AirflowFailException)
    assert failed.value.failure_kind == "program"
    assert context["ti"].xcoms["return_value"]["status"] == "SUCCEEDED"


def test_a_task_that_requires_a_result_gets_it(run: Run, serve: Serve) -> None:
    serve(running(PRINTED))
    assert run(read_result="required", poke_interval=0.5)["result"] == RESULT


def test_a_task_that_requires_a_result_looks_again_if_the_log_could_not_be_read(run: Run, serve: Serve) -> None:
    refused = [Refuse(500)]
    serve(running(PRINTED, ws=refused, sse=refused, full=refused))
    with pytest.raises(RayAgentLogsUnavailableError, match="whose log cannot be read"):
        run(read_result="required", poke_interval=0.5)


def test_how_a_result_is_read_is_checked() -> None:
    with pytest.raises(RayAgentInputError, match="Unknown read_result"):
        make_sensor(read_result="needed")


@pytest.mark.parametrize(
    "result",
    [
        2**64 - 1,
        -(2**63),
        1e308,
        json.loads(nested(MAX_DEPTH)),
        {"type": "os.system", "var": "x", "__main__": {"": None}},
        ["\u2028\x1b[31m\\u0000", "\U0001f680"],
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_what_airflow_can_store_is_the_result_as_it_was_printed(result: Any, run: Run, serve: Serve) -> None:
    serve(ending(f"{START}{json.dumps(result)}{END}\n"))
    details = run(read_result=True)
    assert details["result"] == result
    assert through_airflow(details) == details


@needs_xcoms
@pytest.mark.parametrize("is_readable", [True, False])
@pytest.mark.parametrize(
    ("before", "after", "saved"),
    [
        ("x\n", f"{START}2{END}\n", None),
        (f"{START}1{END}\n", f"{START}2{END}\n", 1),
        (f"{START}1{END}\n{START}\n", f"2{END}\n", 1),
    ],
    ids=["after the last save", "another one after it", "about the last save"],
)
def test_where_the_last_position_could_not_be_saved_the_whole_log_is_looked_through(
    before: str,
    after: str,
    saved: Any,
    is_readable: bool,
    serve: Serve,
    log: TaskLog,
    ti: TaskInstance,
    supervisor: Supervisor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send = supervisor.send

    def is_saved() -> bool:
        return supervisor.saved_lines == before.count("\n")

    def hiccup(message: Any) -> Any:
        # On a slow machine the position may move once more before the job's end is noticed.
        if isinstance(message, comms.SetXCom) and is_saved():
            supervisor.refused.add(comms.SetXCom)
        return send(message)

    monkeypatch.setattr(supervisor, "send", hiccup)
    if not is_readable:
        monkeypatch.setattr(PrintedOutput, "_in_whole_log", None)
    timeline = [Grow(before), WaitFor(is_saved), Grow(after), SetStatus("SUCCEEDED")]
    serve(Job("", "RUNNING", timeline=timeline))
    found = run_deferred(ti, read_result=True, poke_interval=0.5)["result"]
    assert found == (2 if is_readable else saved)
    assert comms.SetXCom in supervisor.refused
    assert any("Failed to save or read the position" in warning for warning in log.warnings)


@needs_xcoms
def test_what_a_trigger_of_the_release_before_saved_of_a_long_line_is_looked_up_in_the_log(
    serve: Serve, ti: TaskInstance, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept the marks of a long line, and could lose a marker that was cut."""
    send = supervisor.send
    old = {"inside": None, "found": '"aaa [line continues]\n[continued] bbb"'}

    def as_before(message: Any) -> Any:
        if isinstance(message, comms.SetXCom) and "result" in message.value:  # type: ignore[operator]
            value: Any = {**message.value, "result": old}  # type: ignore[dict-item]
            value.pop("from_first_line", None)
            message = message.model_copy(update={"value": value})
        return send(message)

    monkeypatch.setattr(supervisor, "send", as_before)
    timeline = [Sleep(0.3), Grow(f'{START}"aaabbb"{END}\n'), SetStatus("SUCCEEDED")]
    serve(Job("", "RUNNING", timeline=timeline))
    assert run_deferred(ti, read_result=True, poke_interval=0.5)["result"] == "aaabbb"
    assert ti.xcoms["rayagent_log_position"]["result"] == old
