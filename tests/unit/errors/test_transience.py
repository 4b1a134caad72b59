"""The classification of errors: it covers every status and class, and all callers use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent import exceptions
from airflow_provider_rayagent.connection.config import ServiceConfig
from airflow_provider_rayagent.errors import transience
from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentHTTPError, for_status
from airflow_provider_rayagent.errors.transience import Classification, Delivery, Permanence
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail import commands, draining
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.transport import responses
from airflow_provider_rayagent.transport.request_retry import may_retry
from airflow_provider_rayagent.transport.service_client import ServiceClient
from airflow_provider_rayagent.transport.tail_driver import Follower
from airflow_provider_rayagent.waits.application_wait import ApplicationWait
from airflow_provider_rayagent.waits.waiting import WaitResult
from tests.scripted import DEFAULT, Job, Refuse, ScriptedAgent
from tests.unit.operators.test_stop_job import make_operator
from tests.unit.support import make_agent, make_context
from tests.unit.transports import GET, GET_JOB, POST, STOP_JOB

if TYPE_CHECKING:
    from tests.scripted import Step
    from tests.unit.support import Serve

CONFIG = ServiceConfig("http://agent/")

TEAPOT = 418

TRANSIENT = {408, 425, 429, 502, 503, 504}
PERMANENT_SERVER_ERRORS = {501, 505}
NO_ACCESS = {401, 403, 407}
# Transient, permanent, may have been received, outcome unknown.
CLASSES = {
    "RayAgentInputError": (False, True, False, False),
    "RayAgentConfigError": (False, True, False, False),
    "RayAgentUnsupportedError": (False, True, False, False),
    "RayAgentUnreachableError": (True, False, False, False),
    "RayAgentAbsentError": (True, False, False, False),
    "RayAgentTLSError": (False, True, True, True),
    "RayAgentConnectionError": (True, False, True, True),
    "RayAgentTimeoutError": (True, False, True, True),
    "RayAgentResponseError": (False, False, True, True),
    "RayAgentResourcesError": (False, False, True, False),
    # What is not the failure of a request.
    **dict.fromkeys(
        (
            "RayAgentError",
            "RayAgentStreamLimitError",
            "RayAgentLogsUnavailableError",
            "RayAgentJobFailedError",
            "RayAgentJobStoppedError",
            "RayAgentRunFailedError",
            "RayAgentJobNotStartedError",
            "RayAgentJobStalledError",
            "RayAgentJobMissingError",
            "RayAgentJobTimeoutError",
            "RayAgentResultError",
            "RayAgentServeApplicationFailedError",
            "RayAgentWaitTimeoutError",
        ),
        (False, False, True, True),
    ),
}
BY_STATUS = {
    "RayAgentHTTPError",
    "RayAgentNotFoundError",
    "RayAgentServerError",
}


def answered(status: int) -> RayAgentError:
    """Return the error for a response."""
    with pytest.raises(RayAgentError) as caught:
        responses.check_status(GET_JOB, status, {}, b"", CONFIG)
    return caught.value


def answers_of(error: BaseException) -> tuple[bool, bool, bool, bool]:
    """Return the classification of a request that failed with this error."""
    return (
        transience.is_transient(error),
        transience.is_permanent(error),
        transience.may_have_been_received(error),
        transience.is_outcome_unknown(error),
    )


@pytest.mark.parametrize("status", range(300, 600))
def test_every_status_is_classified(status: int) -> None:
    error = answered(status)
    transient = status in TRANSIENT
    permanent = status in PERMANENT_SERVER_ERRORS or (status < 500 and not transient)
    unknown = status == 408 or (status > 500 and not permanent)
    assert answers_of(error) == (transient, permanent, True, unknown)
    of_log = permanent and status >= 400 and status not in NO_ACCESS
    assert transience.is_log_unreadable(error) is (of_log or status == 500)


def test_every_error_class_is_classified() -> None:
    kinds = {name: getattr(exceptions, name) for name in exceptions.__all__}
    assert set(kinds) == set(CLASSES) | BY_STATUS
    found = {name: answers_of(kinds[name]("x")) for name in CLASSES}
    assert found == CLASSES
    assert not any(transience.is_log_unreadable(kinds[name]("x")) for name in CLASSES)


@pytest.mark.parametrize("name", sorted(BY_STATUS))
def test_the_class_of_an_error_does_not_change_the_row_of_its_status(name: str) -> None:
    kind = getattr(exceptions, name)
    assert answers_of(kind("x", 502)) == answers_of(for_status(502, "x"))
    assert answers_of(kind("x")) == CLASSES["RayAgentError"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError("x")], ids=ascii)
def test_an_exception_that_is_not_ours_is_neither_transient_nor_permanent(error: BaseException) -> None:
    assert answers_of(error) == CLASSES["RayAgentError"]


def test_missing_gpus_are_not_an_outage_despite_their_status() -> None:
    kind = exceptions.RayAgentResourcesError
    assert answers_of(kind("x", 503)) == CLASSES[kind.__name__]
    assert answers_of(for_status(503, "x")) != CLASSES[kind.__name__]


# Each that handles a failed request asks the table: what it does follows a row that is changed.

ROWS = {
    "as it is": None,
    "transient": Classification(Permanence.TRANSIENT, Delivery.UNKNOWN),
    "unknown": Classification(Permanence.UNKNOWN, Delivery.ANSWERED),
    "permanent": Classification(Permanence.PERMANENT, Delivery.ANSWERED),
}


@pytest.fixture(params=ROWS)
def row(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Classification:
    """The row of status 418, unchanged or replaced."""
    changed = ROWS[request.param]
    if changed is not None:
        monkeypatch.setitem(transience.STATUSES, TEAPOT, changed)
    return transience.classification_of_status(TEAPOT)


def test_a_get_is_retried_if_its_row_permits(row: Classification) -> None:
    with ScriptedAgent(Job(), answers={GET: [Refuse(TEAPOT), DEFAULT]}) as server, make_agent(server) as agent:
        if row.permanence is Permanence.TRANSIENT:
            assert agent.send(GET_JOB)["status"] == "SUCCEEDED"
        else:
            with pytest.raises(RayAgentHTTPError):
                agent.send(GET_JOB)


def test_no_response_to_a_post_is_one_after_which_it_is_sent_again() -> None:
    assert [status for status in range(300, 600) if may_retry(STOP_JOB, answered(status))] == []


@pytest.mark.parametrize("delivery", Delivery)
def test_a_post_is_retried_only_if_its_row_says_never_sent(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(transience.STATUSES, TEAPOT, Classification(Permanence.TRANSIENT, delivery))
    with (
        ScriptedAgent(Job(status="RUNNING"), answers={POST: [Refuse(TEAPOT), DEFAULT]}) as server,
        make_agent(server) as agent,
    ):
        if delivery is Delivery.NEVER_SENT:
            agent.send(STOP_JOB)
        else:
            with pytest.raises(RayAgentHTTPError):
                agent.send(STOP_JOB)


def make_follower() -> Follower:
    return Follower(ServiceClient(CONFIG), JobId("j1"), commands.TailSettings(), clock=lambda: 0.0)


def test_a_permanent_error_of_the_first_status_request_ends_the_tail(row: Classification) -> None:
    follower = make_follower()
    follower.on_status_failed(answered(TEAPOT))
    given_up = follower.tail.next(0.0) == commands.Finish(End.AGENT_UNREACHABLE)
    assert given_up is (row.permanence is Permanence.PERMANENT)


def test_no_error_ends_the_tail_immediately_after_a_first_response(row: Classification) -> None:
    follower = make_follower()
    follower.on_status({"status": "RUNNING"})
    follower.on_status_failed(answered(TEAPOT))
    assert follower.tail.next(0.0) != commands.Finish(End.AGENT_UNREACHABLE)


def test_a_permanent_error_of_the_first_application_request_ends_the_wait(row: Classification) -> None:
    wait = ApplicationWait("app")
    given_up = wait.failed(answered(TEAPOT), 0.0).result is WaitResult.AGENT_UNREACHABLE
    assert given_up is (row.permanence is Permanence.PERMANENT)


def test_an_operator_continues_to_wait_unless_the_error_is_permanent(row: Classification, serve: Serve) -> None:
    script: dict[str, list[Step]] = {GET: [DEFAULT, Refuse(TEAPOT), DEFAULT]}
    serve(Job(status="RUNNING", stop_delay=0.2), answers=script)
    if row.permanence is Permanence.PERMANENT:
        with pytest.raises(RayAgentHTTPError):
            make_operator().execute(make_context())
    else:
        assert make_operator().execute(make_context())["status"] == "STOPPED"


@pytest.mark.parametrize("permanence", Permanence)
@pytest.mark.parametrize("of_log", [True, False])
def test_the_end_of_a_log_is_requested_for_a_minute_unless_its_row_says_unreadable(
    permanence: Permanence, of_log: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(transience.STATUSES, TEAPOT, Classification(permanence, Delivery.ANSWERED, of_log))
    # The real limit, since the clock is virtual.
    monkeypatch.setattr(draining, "FAILING_SECONDS", 60.0)
    now, early = 0.0, list[str]()
    follower = Follower(ServiceClient(CONFIG), JobId("j1"), commands.TailSettings(), clock=lambda: now)
    follower.on_status({"status": "SUCCEEDED"})
    while not isinstance(command := follower.tail.next(now), commands.Finish):
        if isinstance(command, commands.Wait):
            now += max(command.seconds, 0.1)
            continue
        if now < 30.0:
            early.append(type(command).__name__)
        if isinstance(command, commands.OpenStream):
            follower.tail.stream_failed(now)
        else:
            assert isinstance(command, commands.OpenWholeLog)
            follower.on_whole_log_failed(answered(TEAPOT))
    # Only a log that is unreadable is given up early: for a stream, and for good if it is gone.
    assert ("OpenStream" in early) is of_log
    assert early[:3] == ["OpenWholeLog"] * 3
    assert (now < 30.0) is (of_log and permanence is Permanence.PERMANENT)
    assert now < 120.0
    assert not follower.log_is_whole
