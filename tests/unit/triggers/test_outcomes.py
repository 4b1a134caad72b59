"""The trigger's event: what it says of the end, whatever becomes of it on its way, and the moments of giving up."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.errors import service_errors
from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentResponseError
from airflow_provider_rayagent.exceptions import (
    RayAgentAbsentError,
    RayAgentConfigError,
    RayAgentInputError,
)
from airflow_provider_rayagent.run.outcome import Outcome
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.text.codes import Code
from tests.scripted import Hold, Job, Play, ScriptedAgent
from tests.stack.processes import NO_AGENT
from tests.unit.support import TOKEN
from tests.unit.triggers.driver import follow, make_trigger, running

if TYPE_CHECKING:
    from tests.unit.support import Connect, Serve, TaskLog

GET = "GET jobs/j1/"


def make_silent_job(**overrides: Any) -> Job:
    """Return a job that runs on, with a stream that stays open."""
    return Job(**{"text": "a\n", "status": "RUNNING", "ws": [Play(Hold())], **overrides})


@pytest.mark.parametrize(
    ("url", "job_id", "end", "kind"),
    [
        ("ftp://x", "j1", None, RayAgentConfigError),
        (NO_AGENT, "../x", None, RayAgentInputError),
        (NO_AGENT, "j1", End.AGENT_UNREACHABLE, RayAgentAbsentError),
    ],
)
def test_what_keeps_it_from_beginning_is_the_events_error(
    url: str, job_id: str, end: End | None, kind: type[Exception], connect: Connect, log: TaskLog
) -> None:
    connect(url)
    outcome = follow(make_trigger(job_id=job_id, agent_unreachable_timeout=0.3))
    assert (outcome.end, type(outcome.error)) == (end, kind)
    assert not [text for text in (str(outcome.error), *log.messages) if TOKEN in text]


def test_the_deadline_is_a_moment_so_that_a_new_trigger_does_not_begin_it_anew(serve: Serve) -> None:
    async def run(agent: ScriptedAgent) -> None:
        async with running(make_trigger(deadline=deadline)):
            await agent.reached(lambda: time.time() > deadline - 0.5)

    deadline = time.time() + 1.0
    asyncio.run(run(serve(make_silent_job())))
    assert follow(make_trigger(deadline=deadline)).end is End.TIMED_OUT


def test_a_trigger_that_is_cancelled_fires_nothing_and_leaves_no_connection(serve: Serve) -> None:
    async def run() -> None:
        async with running(make_trigger()) as task:
            await agent.reached(lambda: agent.open_streams["j1"])
        assert task.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await agent.reached(lambda: agent.open_connections == 0)

    job = make_silent_job()
    agent = serve(job)
    asyncio.run(run())
    assert job.stop_calls == 0


KINDS = [kind for kind in vars(service_errors).values() if isinstance(kind, type) and issubclass(kind, RayAgentError)]
MAX_EVENT_BYTES = 2_000


def carried(outcome: Outcome) -> Outcome:
    """Return the outcome that comes out of the event, which goes through JSON."""
    return Outcome.from_event(json.loads(json.dumps(outcome.to_event(), allow_nan=False)))


@pytest.mark.parametrize("end", [*End, None])
def test_the_end_and_the_status_come_through(end: End | None) -> None:
    for status in ("SUCCEEDED", "EVICTED", None):
        outcome = carried(Outcome(end, {"status": status, "message": "many words"} if status else None))
        assert outcome == Outcome(end, {"status": status} if status else None)


def test_what_links_are_made_of_comes_through_if_it_is_valid() -> None:
    details = {"status": "RUNNING", "start_time": 1_700_000_000_123, "end_time": 2.5, "driver_node_id": "ab" * 28}
    assert carried(Outcome(End.TIMED_OUT, {**details, "message": "many words"})).job == details
    odd = {"status": "RUNNING", "start_time": 10**400, "end_time": "soon", "driver_node_id": "a/b" * 10_000}
    assert carried(Outcome(End.TIMED_OUT, odd)).job == {"status": "RUNNING"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status_code", [None, 503])
def test_an_error_comes_through_as_the_same_class(kind: type[RayAgentError], status_code: int | None) -> None:
    sent = kind("no luck: é", status_code)
    error = carried(Outcome(End.AGENT_UNREACHABLE, None, sent)).error
    assert type(error) is kind
    assert (error.detail, error.status_code) == ("no luck: é", sent.status_code)
    assert str(error) == str(sent) == f"{kind.code}: no luck: é"


def test_an_error_keeps_its_one_code_on_every_way() -> None:
    sent = RayAgentError("no luck", code=Code.STOP_FAILED)
    error = carried(Outcome(None, None, sent)).error
    again = carried(Outcome(None, None, error)).error
    for copy in (error, again, pickle.loads(pickle.dumps(sent))):
        assert copy is not None
        assert (copy.code, str(copy)) == (Code.STOP_FAILED, "RA-701: no luck")


@pytest.mark.parametrize("rest", [[], ["RA-999"], [None], [7]], ids=["earlier release", "later release", "none", "odd"])
def test_an_error_without_a_known_code_has_that_of_its_class(rest: list[object]) -> None:
    event = {"end": None, "status": None, "error": ["RayAgentTLSError", "no luck", 503, *rest]}
    assert str(Outcome.from_event(event).error) == "RA-203: no luck"


@pytest.mark.parametrize("name", ["RayAgentNewerError", "annotations", "for_status", "Exception", "__name__"])
def test_an_error_of_a_class_that_is_not_known_here_keeps_its_words(name: str) -> None:
    error = Outcome.from_event({"end": None, "status": None, "error": [name, "no luck", 418]}).error
    assert error is not None
    assert (type(error), error.detail, error.status_code) == (RayAgentError, "no luck", 418)


@pytest.mark.parametrize("unit", ["x", "é漢\U0001f680", '"\\\n\x00'], ids=ascii)
def test_an_event_stays_small_however_long_the_error_is(unit: str) -> None:
    text = unit * 100_000
    event = Outcome(End.AGENT_UNREACHABLE, {"status": "RUNNING", "message": text}, RayAgentError(text, 500)).to_event()
    assert len(json.dumps(event)) < MAX_EVENT_BYTES
    error = Outcome.from_event(event).error
    assert error is not None
    assert RayAgentError(text).detail.startswith(error.detail)
    assert len(error.detail) >= 100


@pytest.mark.parametrize(
    "event",
    [
        *(None, "job ended", 7, [], {}, {"end": "job ended"}),
        {"end": "exploded", "status": None, "error": None},
        {"end": None, "status": None, "error": ["RayAgentError"]},
        {"end": None, "status": None, "error": 7},
        {"end": [], "status": None, "error": None},
    ],
)
def test_what_is_no_event_of_ours_is_refused_in_clear_words(event: Any) -> None:
    with pytest.raises(RayAgentResponseError, match="event is not one of RayAgentJobTrigger") as caught:
        Outcome.from_event(event)
    assert len(str(caught.value)) < 500


def test_the_first_form_of_an_event_is_understood_for_ever_and_what_a_later_release_adds_is_passed_over() -> None:
    event = {"end": "agent unreachable", "status": "RUNNING", "error": ["RayAgentServerError", "no luck", 503]}
    outcome = Outcome.from_event({**event, "more": [1, 2]})
    assert (outcome.end, outcome.job) == (End.AGENT_UNREACHABLE, {"status": "RUNNING"})
    assert type(outcome.error) is service_errors.RayAgentServerError
    assert outcome.to_event() == event
