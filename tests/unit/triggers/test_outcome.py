"""How a following ended, as an event carries it: small, JSON, and the same on the other side."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from airflow_provider_rayagent.errors import service_errors
from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentResponseError
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.triggers.outcome import Outcome

KINDS = [kind for kind in vars(service_errors).values() if isinstance(kind, type) and issubclass(kind, RayAgentError)]
MAX_EVENT_BYTES = 2_000


def carried(outcome: Outcome) -> Outcome:
    """Return the outcome that comes out of the event, which goes through JSON."""
    return Outcome.from_event(json.loads(json.dumps(outcome.to_event(), allow_nan=False)))


@pytest.mark.parametrize("end", [*End, None])
@pytest.mark.parametrize("status", ["SUCCEEDED", "EVICTED", None])
def test_the_end_and_the_status_come_through(end: End | None, status: str | None) -> None:
    outcome = carried(Outcome(end, {"status": status, "message": "many words"} if status else None))
    assert outcome == Outcome(end, {"status": status} if status else None)


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


def test_an_error_of_a_class_that_is_not_known_here_keeps_its_words() -> None:
    class RayAgentNewerError(RayAgentError):
        """One that another release has."""

    error = carried(Outcome(None, None, RayAgentNewerError("no luck", 418))).error
    assert type(error) is RayAgentError
    assert (error.detail, error.status_code) == ("no luck", 418)


@pytest.mark.parametrize("name", ["annotations", "for_status", "Exception", "__name__"])
def test_a_name_that_is_no_error_of_ours_makes_none(name: str) -> None:
    event = {"end": None, "status": None, "error": [name, "no luck", None]}
    assert type(Outcome.from_event(event).error) is RayAgentError


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
        None,
        "job ended",
        7,
        [],
        {},
        {"end": "job ended"},
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


def test_what_a_later_release_adds_to_an_event_is_passed_over() -> None:
    event = {"end": "job ended", "status": "FAILED", "error": None, "more": [1, 2]}
    assert Outcome.from_event(event) == Outcome(End.JOB_ENDED, {"status": "FAILED"})


def test_the_first_form_of_an_event_is_understood_for_ever() -> None:
    event = {"end": "agent unreachable", "status": "RUNNING", "error": ["RayAgentServerError", "no luck", 503]}
    outcome = Outcome.from_event(event)
    assert (outcome.end, outcome.job) == (End.AGENT_UNREACHABLE, {"status": "RUNNING"})
    assert type(outcome.error) is service_errors.RayAgentServerError
    assert outcome.to_event() == event
