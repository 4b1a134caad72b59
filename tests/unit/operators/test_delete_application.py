"""The operator that deletes a Serve application."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from airflow_provider_rayagent.exceptions import (
    RayAgentAuthenticationError,
    RayAgentError,
    RayAgentInputError,
    RayAgentNotFoundError,
    RayAgentResponseError,
    RayAgentServerError,
    RayAgentWaitTimeoutError,
)
from airflow_provider_rayagent.operators.rayagent import RayAgentDeleteServeApplicationOperator
from tests.scripted import DEFAULT, Answer, Application, Down, Html, Play, Refuse, Reset, ScriptedAgent, Step
from tests.stack.watch import PATIENCE
from tests.unit.both_ways import event_of, execute
from tests.unit.support import make_context, named, task_log

if TYPE_CHECKING:
    from tests.unit.support import Connect

GET = "GET serve_applications/app/"
DELETE = "DELETE serve_applications/app/"
LIST = "GET serve_applications/"
CHOICES = ["succeed", "skip", "fail"]


def make_operator(**overrides: Any) -> RayAgentDeleteServeApplicationOperator:
    arguments = {"task_id": "delete", "name": "app", "poll_interval": 0.05, "timeout": PATIENCE, **overrides}
    return RayAgentDeleteServeApplicationOperator(**arguments)


def run(**overrides: Any) -> Any:
    return make_operator(**overrides).execute(make_context())


@pytest.mark.parametrize("status", ["RUNNING", "DEPLOYING", "DEPLOY_FAILED", "UNHEALTHY", "DELETING"])
def test_one_application_is_deleted_and_the_others_stay(status: str, connect: Connect) -> None:
    apps = [Application("app", status, gone_after=0.2), Application("app2"), Application("other")]
    with ScriptedAgent(applications=apps) as agent, task_log() as log:
        connect(agent)
        assert run() == {"name": "app", "status": status, "deleted": True}
        assert [app.deleted is not None for app in apps] == [True, False, False]
        assert [request.route for request in agent.of("DELETE")] == [DELETE]
        agent.wait_until(lambda: agent.open_connections == 0)
    assert log.messages[-1] == "The Serve application 'app' is gone."


def test_without_waiting_the_request_is_enough(connect: Connect) -> None:
    with ScriptedAgent(applications=[Application("app", gone_after=None)]) as agent:
        connect(agent)
        assert run(wait_for_deletion=False) == {"name": "app", "status": "RUNNING", "deleted": True}


def test_a_re_run_is_harmless(connect: Connect) -> None:
    with ScriptedAgent(applications=[Application("app"), Application("other")]) as agent:
        connect(agent)
        assert [run()["deleted"], run()["deleted"]] == [True, False]
        assert agent.applications["other"].deleted is None


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("present", [False, True], ids=["at first", "at the deletion"])
def test_the_author_chooses_what_a_missing_application_means(choice: Any, present: bool, connect: Connect) -> None:
    apps = [Application("app")] if present else []
    answers: dict[str, list[Step]] = {DELETE: [Refuse(404)], LIST: [Answer(200, [])]}
    if present:
        answers[GET] = [DEFAULT, Refuse(404)]
    with ScriptedAgent(applications=apps, answers=answers) as agent:
        connect(agent)
        if choice == "succeed":
            assert run(if_missing=choice) == {"name": "app", "status": None, "deleted": False}
        else:
            error: type[Exception] = AirflowSkipException if choice == "skip" else RayAgentNotFoundError
            with pytest.raises(error, match="no Serve application 'app'"):
                run(if_missing=choice)


NOT_THE_AGENTS: list[list[Step]] = [[Html(404)], [Refuse(404)]]


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("away", NOT_THE_AGENTS, ids=named)
def test_a_404_while_the_application_is_still_listed_is_not_its_end(
    away: list[Step], deferrable: bool, connect: Connect
) -> None:
    with ScriptedAgent(applications=[Application("app", gone_after=None)], answers={GET: [DEFAULT, *away]}) as agent:
        connect(agent)
        with pytest.raises(RayAgentWaitTimeoutError):
            execute(lambda: make_operator(deferrable=deferrable, timeout=0.5), make_context())


@pytest.mark.parametrize("away", NOT_THE_AGENTS, ids=named)
def test_a_wrong_path_deletes_nothing_and_is_an_error(away: list[Step], connect: Connect) -> None:
    answers = {GET: away, DELETE: away, LIST: away}
    with ScriptedAgent(applications=[Application("app")], answers=answers) as agent:
        connect(agent)
        with pytest.raises(RayAgentError, match="404"):
            run()


def test_an_application_that_is_listed_and_not_deleted_is_an_error(connect: Connect) -> None:
    with ScriptedAgent(applications=[Application("app")], answers={DELETE: [Refuse(404)]}) as agent:
        connect(agent)
        with pytest.raises(RayAgentNotFoundError):
            run()


@pytest.mark.parametrize(
    "away", [[Down(0.3)], [Refuse(503)] * 5, [Html(502)] * 5, [Html(200)] * 2, [Play(Reset())] * 5], ids=named
)
def test_an_agent_that_is_away_for_a_moment_while_waiting_is_asked_again(away: list[Step], connect: Connect) -> None:
    with ScriptedAgent(
        applications=[Application("app", gone_after=0.4)], answers={GET: [DEFAULT, *away, DEFAULT]}
    ) as agent:
        connect(agent)
        assert run()["deleted"] is True


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_token_that_is_rejected_for_a_moment_while_waiting_does_not_fail_the_task(
    deferrable: bool, connect: Connect
) -> None:
    """So that an operator can renew it; the first answer after the deletion was a good one."""
    answers: dict[str, list[Step]] = {GET: [DEFAULT, DEFAULT, Refuse(401), DEFAULT]}
    with ScriptedAgent(applications=[Application("app", gone_after=1.0)], answers=answers) as agent:
        connect(agent)
        result = execute(lambda: make_operator(deferrable=deferrable), make_context())
        assert result == {"name": "app", "status": "RUNNING", "deleted": True}
        assert len(agent.of(GET)) > 3


def test_a_deletion_that_is_interrupted_is_sent_again(connect: Connect) -> None:
    with ScriptedAgent(applications=[Application("app")], answers={DELETE: [Play(Reset()), DEFAULT]}) as agent:
        connect(agent)
        assert run()["deleted"] is True
        assert len(agent.of(DELETE)) == 2


def test_a_deletion_that_the_agent_cannot_do_is_an_error(connect: Connect) -> None:
    with ScriptedAgent(applications=[Application("app")], answers={DELETE: [Refuse(500, "no Serve")]}) as agent:
        connect(agent)
        with pytest.raises(RayAgentServerError, match="no Serve"):
            run()


def test_an_application_that_stays_is_a_named_error_with_its_status(connect: Connect) -> None:
    with ScriptedAgent(applications=[Application("app", gone_after=None)]) as agent:
        connect(agent)
        with pytest.raises(RayAgentWaitTimeoutError, match=r"'app' still exists \(DELETING\) after 0.3 seconds"):
            run(timeout=0.3)


def test_a_kill_ends_the_waiting_at_once(connect: Connect) -> None:
    with ScriptedAgent(applications=[Application("app", gone_after=None)]) as agent:
        connect(agent)
        operator = make_operator(poll_interval=PATIENCE, timeout=2 * PATIENCE)
        killer = threading.Timer(0.3, operator.on_kill)
        killer.start()
        begun = time.monotonic()
        with pytest.raises(RayAgentWaitTimeoutError):
            operator.execute(make_context())
        assert time.monotonic() - begun < PATIENCE
        killer.join()


@pytest.mark.parametrize("name", ["my app", "漢é", "a?b", "a#b", "100%"])
def test_a_name_of_any_characters_works(name: str, connect: Connect) -> None:
    with ScriptedAgent(applications=[Application(name), Application("a"), Application("my")]) as agent:
        connect(agent)
        assert json.loads(json.dumps(run(name=name))) == {"name": name, "status": "RUNNING", "deleted": True}
        assert [app.deleted is not None for app in agent.applications.values()] == [True, False, False]


@pytest.mark.parametrize("name", ["", " ", "a/b", "..", "a\nb"])
def test_a_hostile_name_is_refused_before_anything_is_sent(name: str, connect: Connect) -> None:
    with ScriptedAgent() as agent:
        connect(agent)
        with pytest.raises(RayAgentInputError, match="application name"):
            run(name=name)
        assert agent.connections == 0


@pytest.mark.parametrize("overrides", [{"timeout": 0}, {"poll_interval": -1}, {"if_missing": "never"}])
def test_a_bad_argument_is_refused_when_the_dag_is_read(overrides: dict[str, Any]) -> None:
    with pytest.raises(RayAgentInputError, match=next(iter(overrides))):
        make_operator(**overrides)


def test_an_unknown_choice_is_refused_with_the_choices() -> None:
    with pytest.raises(RayAgentInputError) as caught:
        make_operator(if_missing="never")
    assert caught.value.detail == "Unknown if_missing 'never': use one of succeed, skip, fail."


def test_the_name_and_the_connection_are_templates(connect: Connect) -> None:
    with ScriptedAgent(applications=[Application("canary-7")]) as agent:
        connect(agent, "team_a")
        operator = make_operator(name="canary-{{ night }}", rayagent_conn_id="team_{{ team }}")
        operator.render_template_fields({"night": "7", "team": "a"})  # type: ignore[typeddict-unknown-key]
        assert operator.execute(make_context())["name"] == "canary-7"


def run_deferred(**overrides: Any) -> Any:
    return execute(lambda: make_operator(deferrable=True, **overrides), make_context())


@pytest.mark.parametrize("status", ["RUNNING", "DEPLOY_FAILED", "UNHEALTHY"])
def test_deferred_the_result_is_the_same(status: str, connect: Connect) -> None:
    with ScriptedAgent(applications=[Application("app", status, gone_after=0.2)]) as agent, task_log() as log:
        connect(agent)
        assert run_deferred() == {"name": "app", "status": status, "deleted": True}
        assert len(agent.of(DELETE)) == 1
        agent.wait_until(lambda: agent.open_connections == 0)
    assert log.messages[-1] == "The Serve application 'app' is gone."


@pytest.mark.parametrize(
    ("apps", "options", "result"),
    [
        ([], {}, {"name": "app", "status": None, "deleted": False}),
        (["app"], {"wait_for_deletion": False}, {"name": "app", "status": "RUNNING", "deleted": True}),
    ],
    ids=["missing", "not waited for"],
)
def test_without_anything_to_wait_for_there_is_no_deferral(
    apps: list[str], options: dict[str, Any], result: dict[str, Any], connect: Connect
) -> None:
    with ScriptedAgent(applications=[Application(name, gone_after=None) for name in apps]) as agent:
        connect(agent)
        assert run(deferrable=True, **options) == result


@pytest.mark.parametrize(
    "away", [[Down(0.3)], [Refuse(503)] * 2, [Html(502)], [Html(200)], [Play(Reset())] * 2], ids=named
)
def test_deferred_an_agent_that_is_away_for_a_moment_is_asked_again(away: list[Step], connect: Connect) -> None:
    with ScriptedAgent(
        applications=[Application("app", gone_after=0.4)], answers={GET: [DEFAULT, *away, DEFAULT]}
    ) as agent:
        connect(agent)
        assert run_deferred()["deleted"] is True


def test_deferred_an_application_that_stays_is_a_named_error_with_its_status(connect: Connect) -> None:
    with ScriptedAgent(applications=[Application("app", gone_after=None)]) as agent:
        connect(agent)
        with pytest.raises(
            RayAgentWaitTimeoutError, match=r"'app' still exists \(DELETING\) after 0.3 seconds"
        ) as caught:
            run_deferred(timeout=0.3)
    assert caught.value.status_code == 408


def test_deferred_a_time_out_tells_of_the_agent_that_was_away(connect: Connect) -> None:
    answers: dict[str, list[Step]] = {GET: [DEFAULT, Refuse(503, "maintenance")]}
    with ScriptedAgent(applications=[Application("app", gone_after=None)], answers=answers) as agent:
        connect(agent)
        with pytest.raises(RayAgentWaitTimeoutError, match="maintenance"):
            run_deferred(timeout=0.3)


def test_deferred_a_refused_token_ends_it_at_once(connect: Connect) -> None:
    with ScriptedAgent(applications=[Application("app")], answers={GET: [DEFAULT, Refuse(401)]}) as agent:
        connect(agent)
        with pytest.raises(RayAgentAuthenticationError):
            run_deferred(timeout=60)


def test_an_event_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(RayAgentResponseError, match="event is not one of"):
        make_operator().resume_execution("execute_complete", {"event": {}, "status": "RUNNING"}, make_context())


def test_the_trigger_waits_as_the_operator_would(connect: Connect) -> None:
    with ScriptedAgent(applications=[Application("app", gone_after=0.1)]) as agent:
        connect(agent, "team_a")
        begun = time.time()
        with pytest.raises(TaskDeferred) as caught:
            run(deferrable=True, rayagent_conn_id="team_a", poll_interval=0.7, timeout=100)
        given = caught.value.trigger.serialize()[1]
        assert (given["name"], given["rayagent_conn_id"], given["target"]) == ("app", "team_a", "gone")
        assert given["poll_interval"] == 0.7
        assert begun + 100 <= given["deadline"] <= time.time() + 100
        assert caught.value.kwargs == {"status": "RUNNING"}
        assert event_of(None, caught.value)["arrival"] == "reached"
