"""The operator that deletes a Serve application, in a worker and deferred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_rayagent.exceptions import (
    RayAgentError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentNotFoundError,
    RayAgentServerError,
)
from airflow_provider_rayagent.operators.rayagent import RayAgentDeleteServeApplicationOperator
from airflow_provider_rayagent.text.codes import Code
from tests.scripted import DEFAULT, Answer, Application, Down, Html, Play, Refuse, Reset, Step
from tests.stack.watch import PATIENCE
from tests.unit.both_ways import both_ways
from tests.unit.support import named

if TYPE_CHECKING:
    from tests.scripted import Request
    from tests.unit.both_ways import Run
    from tests.unit.support import Serve, TaskLog

GET = "GET serve_applications/app/"
DELETE = "DELETE serve_applications/app/"
LIST = "GET serve_applications/"
DELETED = {"name": "app", "status": "RUNNING", "deleted": True}


def make_operator(**overrides: Any) -> RayAgentDeleteServeApplicationOperator:
    arguments = {"task_id": "delete", "name": "app", "poll_interval": 0.05, "timeout": PATIENCE, **overrides}
    return RayAgentDeleteServeApplicationOperator(**arguments)


run = both_ways(make_operator)


@pytest.mark.parametrize("status", ["RUNNING", "DEPLOYING", "DEPLOY_FAILED", "UNHEALTHY", "DELETING"])
def test_one_application_is_deleted_and_the_others_stay(status: str, run: Run, serve: Serve, log: TaskLog) -> None:
    apps = [Application("app", status, gone_after=0.2), Application("app2"), Application("other")]
    agent = serve(applications=apps)
    assert run() == {**DELETED, "status": status}
    assert [app.deleted is not None for app in apps] == [True, False, False]
    assert [request.route for request in agent.of("DELETE")] == [DELETE]
    agent.wait_until(lambda: agent.open_connections == 0)
    assert log.messages[-1] == "The Serve application 'app' is gone."
    assert run() == {"name": "app", "status": None, "deleted": False}


def test_without_waiting_the_request_is_enough(run: Run, serve: Serve) -> None:
    serve(applications=[Application("app", gone_after=None)])
    assert run(wait_for_deletion=False) == DELETED


@pytest.mark.parametrize("choice", ["succeed", "skip", "fail"])
@pytest.mark.parametrize("present", [False, True], ids=["at first", "at the deletion"])
def test_the_author_chooses_what_a_missing_application_means(
    present: bool, choice: str, run: Run, serve: Serve, log: TaskLog
) -> None:
    apps = [Application("app")] if present else []
    looks: dict[str, list[Step]] = {GET: [DEFAULT, Refuse(404)]} if present else {}
    serve(applications=apps, answers={DELETE: [Refuse(404)], LIST: [Answer(200, [])], **looks})
    if choice == "succeed":
        assert run(if_missing=choice) == {"name": "app", "status": None, "deleted": False}
    else:
        error: type[Exception] = AirflowSkipException if choice == "skip" else RayAgentNotFoundError
        with pytest.raises(error, match="no Serve application 'app'"):
            run(if_missing=choice)
    assert not [message for message in log.messages if message.startswith("Deferring")]


NOT_THE_AGENTS: list[list[Step]] = [[Html(404)], [Refuse(404)]]


@pytest.mark.parametrize("away", NOT_THE_AGENTS, ids=named)
def test_a_404_while_the_application_is_still_listed_is_not_its_end(away: list[Step], run: Run, serve: Serve) -> None:
    serve(applications=[Application("app", gone_after=None)], answers={GET: [DEFAULT, *away]})
    with pytest.raises(RayAgentError) as caught:
        run(timeout=0.5)
    assert caught.value.code is Code.STILL_THERE


@pytest.mark.parametrize("away", NOT_THE_AGENTS, ids=named)
def test_a_wrong_path_deletes_nothing_and_is_an_error(away: list[Step], run: Run, serve: Serve) -> None:
    serve(applications=[Application("app")], answers={GET: away, DELETE: away, LIST: away})
    with pytest.raises(RayAgentError, match="404"):
        run()


@pytest.mark.parametrize(
    ("answer", "error"), [(Refuse(404), RayAgentNotFoundError), (Refuse(500, "no Serve"), RayAgentServerError)]
)
def test_an_application_that_is_listed_and_not_deleted_is_an_error(
    answer: Step, error: type[Exception], run: Run, serve: Serve
) -> None:
    serve(applications=[Application("app")], answers={DELETE: [answer]})
    with pytest.raises(error, match="no Serve" if error is RayAgentServerError else "404"):
        run()


@pytest.mark.parametrize(
    "away", [[Down(0.3)], [Refuse(503)] * 5, [Html(502)] * 5, [Html(200)] * 2, [Play(Reset())] * 5], ids=named
)
def test_an_agent_that_is_away_for_a_moment_while_waiting_is_asked_again(
    away: list[Step], run: Run, serve: Serve
) -> None:
    serve(applications=[Application("app", gone_after=0.4)], answers={GET: [DEFAULT, *away, DEFAULT]})
    assert run()["deleted"] is True


def test_a_token_that_is_rejected_for_a_moment_while_waiting_does_not_fail_the_task(run: Run, serve: Serve) -> None:
    """So that an operator can renew it; the first answer after the deletion was a good one."""
    application = Application("app", gone_after=None)

    def be_gone(_: Request) -> Any:
        application.gone_after = 0.0
        return DEFAULT

    agent = serve(applications=[application], answers={GET: [DEFAULT, DEFAULT, Refuse(401), be_gone]})
    assert run() == DELETED
    assert len(agent.of(GET)) > 3


def test_a_token_that_is_rejected_at_the_first_look_while_waiting_ends_it(run: Run, serve: Serve) -> None:
    serve(applications=[Application("app")], answers={GET: [DEFAULT, Refuse(401)]})
    with pytest.raises(RayAgentHTTPError, match="answered 401"):
        run(timeout=60)


def test_a_deletion_that_is_interrupted_is_sent_again(run: Run, serve: Serve) -> None:
    agent = serve(applications=[Application("app")], answers={DELETE: [Play(Reset()), DEFAULT]})
    assert run()["deleted"] is True
    assert len(agent.of(DELETE)) == 2


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        ([DEFAULT], r"'app' still exists \(DELETING\) after 0\.3 seconds"),
        ([DEFAULT, Refuse(503, "maintenance")], "Last error: .*maintenance"),
    ],
)
def test_an_application_that_stays_is_a_named_error_with_its_status_and_the_agents_last_error(
    looks: list[Step], words: str, run: Run, serve: Serve
) -> None:
    serve(applications=[Application("app", gone_after=None)], answers={GET: looks})
    with pytest.raises(RayAgentError, match=words) as caught:
        run(timeout=0.3)
    assert caught.value.status_code == 408


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"timeout": 0}, "timeout"),
        ({"poll_interval": -1}, "poll_interval"),
        ({"if_missing": "never"}, "Unknown if_missing 'never': use one of succeed, skip, fail"),
    ],
)
def test_a_bad_argument_is_refused_when_the_dag_is_read(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(RayAgentInputError, match=words):
        make_operator(**overrides)
