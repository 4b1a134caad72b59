"""Results that Airflow cannot store, that are very long, or that a trigger could not hand over: worker and deferred."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.execution_time import comms

from airflow_provider_rayagent.tasks.job_result import PrintedResult
from airflow_provider_rayagent.text.storable import MAX_DEPTH
from tests.scripted import Grow, Job, SetStatus, Sleep, WaitFor
from tests.unit.foreign import END, START, through_airflow
from tests.unit.sensors.factory import run_deferred
from tests.unit.supervisor import needs_xcoms

if TYPE_CHECKING:
    from tests.unit.both_ways import Run
    from tests.unit.supervisor import Supervisor
    from tests.unit.support import Serve, TaskInstance, TaskLog

INFINITE = "a number that is not finite"
LONG_INTEGER = "an integer of more than 64 bits"
TOO_DEEP = f"lists or objects nested more than {MAX_DEPTH} deep"


def ending(text: str) -> Job:
    """Return a job that has printed a text and succeeds in a moment."""
    return Job(text, "RUNNING", timeline=[Sleep(0.1), SetStatus("SUCCEEDED")])


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("printed", "why"),
    [
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
    ],
    ids=lambda text: text[:24],
)
def test_what_airflow_cannot_store_is_said_and_the_task_is_green(
    printed: str, why: str, run: Run, serve: Serve, log: TaskLog
) -> None:
    serve(ending(f"{START}{printed}{END}\n"))
    details = run(read_result=True, poke_interval=0.5)
    assert (details["status"], details["result"]) == ("SUCCEEDED", None)
    assert log.warnings == [f"RA-308: Cannot use the result of job j1: it contains {why}."]
    assert through_airflow(details) == details


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


@pytest.mark.parametrize("length", [15_000, 16_001, 40_000, 63_000])
def test_a_result_in_one_line_is_found_wherever_the_line_is_cut(
    length: int, run: Run, serve: Serve, log: TaskLog
) -> None:
    result = ["é" * (length // 2), *range(length // 20)]
    before = f"{'x' * 15_990} {START}"
    text = f"epoch 1\n{before}{json.dumps(result, ensure_ascii=False)}{END} and more\nbye\n"
    half = len(text) // 2
    timeline = [Sleep(0.2), Grow(text[:half]), Sleep(0.2), Grow(text[half:]), SetStatus("SUCCEEDED")]
    serve(Job("", "RUNNING", timeline=timeline))
    assert run(read_result=True, poke_interval=0.5)["result"] == result
    assert log.warnings == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x\n", "the job printed no result."),
        (f"{START}1\n", f"the job printed no {END}."),
        (f"{START}x{END}\n", "it is not JSON"),
        (f'{START}"{"x" * 64_000}"{END}\n', "it has more than 64,000 characters."),
    ],
    ids=["none", "no end", "no JSON", "too long"],
)
def test_what_cannot_be_used_is_said_and_does_not_decide_the_outcome(
    text: str, why: str, run: Run, serve: Serve, log: TaskLog
) -> None:
    serve(ending(text))
    details = run(read_result=True, poke_interval=0.5)
    assert (details["status"], details["result"]) == ("SUCCEEDED", None)
    (warning,) = log.warnings
    assert warning.startswith(f"RA-308: Cannot use the result of job j1: {why}")


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
        monkeypatch.setattr(PrintedResult, "_search_whole_log", lambda self: None)
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
            message = message.model_copy(update={"value": {**message.value, "result": old}})  # type: ignore[dict-item]
        return send(message)

    monkeypatch.setattr(supervisor, "send", as_before)
    timeline = [Sleep(0.3), Grow(f'{START}"aaabbb"{END}\n'), SetStatus("SUCCEEDED")]
    serve(Job("", "RUNNING", timeline=timeline))
    assert run_deferred(ti, read_result=True, poke_interval=0.5)["result"] == "aaabbb"
    assert ti.xcoms["rayagent_log_position"]["result"] == old
