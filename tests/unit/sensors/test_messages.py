"""What the messages of a job become: XComs, an asset event's extra, links and progress, in a worker and deferred."""

from __future__ import annotations

import json
from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.execution_time import comms

from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.links.printed_links import PrintedLink
from airflow_provider_rayagent.run import message_xcoms
from airflow_provider_rayagent.text.xcom_keys import key_problem
from tests.scripted import Grow, Job, SetStatus, WaitFor
from tests.unit.sensors.factory import ending_as, make_sensor, run_deferred
from tests.unit.supervisor import needs_xcoms
from tests.unit.support import TOKEN, StateStore, TaskInstance, make_context

if TYPE_CHECKING:
    from tests.unit.both_ways import Run
    from tests.unit.supervisor import Supervisor
    from tests.unit.support import Serve, TaskLog

BOARD = PrintedLink("Board").xcom_key


def message(kind: str, data: Any) -> str:
    return f"__RAYAGENT_MESSAGE__ {json.dumps({'kind': kind, 'data': data})}\n"


PRINTED = [
    "begin\n",
    message("xcom", {"loss": 1}),
    message("link", {"name": "Board", "url": "http://board/1"}),
    message("progress", {"done": 1, "total": 2}),
    message("xcom", {"loss": 0.5, "secret": TOKEN}),
    message("asset", {"extra": {"rows": 7, "job_id": "forged"}}),
    message("link", {"name": "Other", "url": "http://other"}),
    message("progress", {"done": 2, "total": 2}),
    message("xcom", {"return_value": "forged"}),
    f"the user entered {message('xcom', {'forged': 1})}",
    "end\n",
]
TEXT = "".join(PRINTED)
XCOMS = {"loss": 0.5, "secret": "***", BOARD: "http://board/1"}
ON: dict[str, Any] = {"read_messages": True, "printed_links": ["Board"], "poke_interval": 0.5}


def pushed(ti: TaskInstance) -> dict[str, Any]:
    """Return the XComs of the messages."""
    return {key: value for key, value in ti.xcoms.items() if key not in ("return_value", "rayagent_log_position")}


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, TEXT),
        ({"forward_logs": False}, TEXT),
        ({"max_lines": 2}, TEXT + "x\n" * 3_000),
        ({"max_line_length": 20}, TEXT),
    ],
    ids=["shown", "not shown", "before many lines", "in pieces"],
)
def test_messages_set_xcoms_and_links_however_the_job_ends(
    options: dict[str, Any], text: str, status: str, run: Run, serve: Serve
) -> None:
    context = make_context()
    serve(Job(text, status))
    with ending_as(status):
        run(context=context, **ON, **options)
    assert pushed(context["ti"]) == XCOMS


def test_no_key_reaches_another_route_of_airflow(run: Run, serve: Serve, log: TaskLog) -> None:
    context = make_context()
    key = "../../../../dag-runs/payroll/forged"
    serve(Job(message("xcom", {key: {"conf": {}}}) + message("xcom", {"loss": 1})))
    run(context=context, **ON)
    assert pushed(context["ti"]) == {"loss": 1}
    [warning] = log.warnings
    assert warning.startswith("RA-310: A message of the job has no effect: the key of an XCom must be")
    assert key in warning


@pytest.mark.parametrize("show_markers", [False, True])
def test_the_log_has_each_line_but_those_of_messages(
    run: Run, serve: Serve, log: TaskLog, *, show_markers: bool
) -> None:
    serve(Job(TEXT))
    run(**ON, show_markers=show_markers)
    text = "\n".join(log.messages)
    for line in (line.strip().replace(TOKEN, "***") for line in PRINTED):
        is_hidden = line.startswith("__RAYAGENT") and "return_value" not in line and not show_markers
        assert text.count(line) == (0 if is_hidden else 1), line
    if show_markers:
        return
    assert [line for line in text.split("\n") if line.startswith("Progress")] == [
        "Progress: 50% (1 of 2)",
        "Progress: 100% (2 of 2)",
    ]
    [warning] = log.warnings
    assert warning.startswith("RA-310: A message of the job has no effect: Airflow or this provider uses")


def test_messages_are_lines_like_any_other_where_they_are_not_read(run: Run, serve: Serve, log: TaskLog) -> None:
    context = make_context()
    serve(Job(TEXT))
    run(context=context, poke_interval=0.5)
    assert pushed(context["ti"]) == {}
    assert log.lines_of(TEXT.replace(TOKEN, "***")) == TEXT.replace(TOKEN, "***").splitlines()


def test_an_asset_event_has_what_the_messages_add(run: Run, serve: Serve) -> None:
    events: Any = defaultdict(lambda: SimpleNamespace(extra={}))
    asset, other = Asset("model", uri="s3://models/1"), Asset("other")
    serve(Job(message("asset", {"asset": "s3://models/1", "extra": {"size": 3}}) + TEXT))
    run(context=make_context(outlet_events=events), outlets=[asset, other], **ON)
    found = {each.name: {**events[each].extra, "duration": None} for each in (asset, other)}
    common = {"rows": 7, "job_id": "j1", "duration": None}
    assert found == {"model": {"size": 3, **common}, "other": common}


def test_no_error_of_a_backend_for_xcoms_decides_the_outcome(
    run: Run, serve: Serve, log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = TaskInstance.xcom_push

    def refuse(self: TaskInstance, key: str, value: Any) -> None:
        if key == "loss":
            raise OSError("no disk")
        push(self, key, value)

    monkeypatch.setattr(TaskInstance, "xcom_push", refuse)
    serve(Job(TEXT))
    assert run(**ON)["status"] == "SUCCEEDED"
    assert "RA-310: Failed to push what job j1 has printed for XCom: no disk" in log.warnings


def test_what_could_not_be_pushed_while_the_job_ran_is_pushed_at_its_end(
    serve: Serve, ti: TaskInstance, log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = TaskInstance.xcom_push
    refused: list[Any] = []

    def refuse_once(self: TaskInstance, key: str, value: Any) -> None:
        if key == "loss" and not refused:
            refused.append(value)
            raise OSError("no disk")
        push(self, key, value)

    monkeypatch.setattr(TaskInstance, "xcom_push", refuse_once)
    timeline = [
        Grow(message("xcom", {"loss": 1})),
        WaitFor(lambda: bool(refused)),
        Grow(message("xcom", {"other": 1})),
        WaitFor(lambda: "other" in ti.xcoms),
        SetStatus("SUCCEEDED"),
    ]
    serve(Job("", "RUNNING", timeline=timeline))
    make_sensor(**ON).execute(make_context(ti))
    assert pushed(ti) == {"loss": 1, "other": 1}
    assert len(log.warnings) == 1


@needs_xcoms
def test_a_trigger_pushes_while_the_job_runs_a_few_at_a_time(
    serve: Serve, ti: TaskInstance, supervisor: Supervisor
) -> None:
    names = [f"a{number}" for number in range(2 * message_xcoms.MAX_PUSHES + 1)]
    text = "".join(message("xcom", {name: 1}) for name in names)
    timeline = [Grow(text), WaitFor(lambda: set(names) <= ti.xcoms.keys()), SetStatus("SUCCEEDED")]
    serve(Job("", "RUNNING", timeline=timeline))
    assert run_deferred(ti, **ON)["status"] == "SUCCEEDED"


def test_a_worker_pushes_while_the_job_runs(serve: Serve, ti: TaskInstance) -> None:
    timeline = [
        Grow(message("xcom", {"a": 1})),
        WaitFor(lambda: ti.xcoms.get("a") == 1),
        Grow(message("xcom", {"a": True})),
        WaitFor(lambda: ti.xcoms.get("a") is True),
        SetStatus("SUCCEEDED"),
    ]
    serve(Job("", "RUNNING", timeline=timeline))
    make_sensor(**ON).execute(make_context(ti))


@needs_xcoms
def test_what_a_trigger_could_not_push_or_save_the_last_worker_pushes(
    serve: Serve, ti: TaskInstance, supervisor: Supervisor
) -> None:
    supervisor.refused.add(comms.SetXCom)
    timeline = [Grow(TEXT), SetStatus("SUCCEEDED")]
    serve(Job("", "RUNNING", timeline=timeline))
    assert run_deferred(ti, **ON)["status"] == "SUCCEEDED"
    assert pushed(ti) == XCOMS


def test_before_airflow_3_3_the_last_worker_reads_them_in_the_log(
    serve: Serve, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(BaseXCom, "aset", raising=False)
    serve(Job("", "RUNNING", timeline=[Grow(TEXT), SetStatus("SUCCEEDED")]))
    assert run_deferred(ti, **ON)["status"] == "SUCCEEDED"
    assert pushed(ti) == XCOMS


def test_a_link_that_only_the_last_worker_has_read_stays_a_button(serve: Serve, ti: TaskInstance) -> None:
    serve(Job(TEXT))
    sensor = make_sensor(**ON)
    event = {"end": "job ended", "status": "SUCCEEDED", "error": None}
    sensor.resume_execution("execute_complete", {"event": event}, make_context(ti))
    # Airflow pushes this in place of the XCom when the worker ends.
    assert sensor.url_of_printed_link("Board") == XCOMS[PrintedLink("Board").xcom_key]


def test_pokes_and_tries_that_go_on_in_the_log_know_the_messages_before(serve: Serve, ti: TaskInstance) -> None:
    store = StateStore()
    job = Job(message("xcom", {"a": 1}), "RUNNING")
    serve(job)
    options = {"mode": "reschedule", "poke_interval": 10, "read_messages": True}
    assert not make_sensor(**options).poke(make_context(ti, task_state_store=store))
    assert ti.xcoms == {"a": 1}
    ti.xcoms.clear()
    job.grow(message("xcom", {"b": 2}))
    job.set_status("SUCCEEDED")
    assert make_sensor(**options).poke(make_context(ti, task_state_store=store, task_reschedule_count=1))
    assert pushed(ti) == {"a": 1, "b": 2}


def test_links_are_buttons_of_the_task() -> None:
    printed = ["Board", "Logs of W&B", "../a", "ä" * 250]
    sensor = make_sensor(printed_links=printed)
    names = [link.name for link in sensor.operator_extra_links]
    assert names[-4:] == printed
    keys = {link.xcom_key for link in sensor.operator_extra_links}
    assert len(keys) == len(names)
    assert [key_problem(key) for key in keys] == [""] * len(names)
    assert "Board" not in [link.name for link in make_sensor().operator_extra_links]


@pytest.mark.parametrize(
    ("links", "problem"),
    [
        ("Board", "a list of names"),
        ([""], "a list of names"),
        ([7], "a list of names"),
        (["a\n"], "a list of names"),
        (["Ray job"], "another button"),
    ],
)
def test_names_of_links_are_checked(links: Any, problem: str) -> None:
    with pytest.raises(RayAgentInputError, match=problem):
        make_sensor(printed_links=links)


def test_a_link_is_known_at_the_end_of_a_task_as_far_as_its_job_has_printed_it(serve: Serve) -> None:
    serve(Job(TEXT))
    sensor = make_sensor(**ON)
    key: Any = None
    assert PrintedLink("Board").get_link(sensor, ti_key=key) == ""
    sensor.execute(make_context())
    assert PrintedLink("Board").get_link(sensor, ti_key=key) == "http://board/1"
    assert PrintedLink("None").get_link(sensor, ti_key=key) == ""
