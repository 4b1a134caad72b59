"""The operator that runs a plugin: one job a task, found again whatever happened, followed to its end, both ways."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time import comms

from airflow_provider_rayagent.exceptions import (
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentJobMissingError,
    RayAgentJobNotStartedError,
    RayAgentJobStoppedError,
    RayAgentNotFoundError,
    RayAgentResourcesError,
    RayAgentRunFailedError,
)
from airflow_provider_rayagent.run import job_finder
from airflow_provider_rayagent.run.job_ids import MAX_BASE_ID
from tests.scripted import (
    Answer,
    Do,
    Grow,
    Html,
    Job,
    Play,
    Refuse,
    Reset,
    ScriptedAgent,
    SetStatus,
    Sleep,
    WaitFor,
)
from tests.stack.watch import PATIENCE
from tests.unit.clusters import NODES, USED
from tests.unit.operators.plugin_runs import RUN, make_operator
from tests.unit.operators.started_jobs import PRINTED, ROOT, starting, until_attached
from tests.unit.supervisor import supervise
from tests.unit.support import TaskInstance, make_context, named

if TYPE_CHECKING:
    from tests.scripted import Request, ScriptedAgent, Step
    from tests.unit.both_ways import Run
    from tests.unit.support import Serve, TaskLog


def test_the_action_runs_and_is_followed_and_its_result_returned(run: Run, agent: ScriptedAgent, log: TaskLog) -> None:
    context = make_context()
    details = run(context=context, action_params={"epochs": 3}, requirements=["torch"], language="en")
    (sent,) = agent.of(RUN)
    assert json.loads(sent.body) == {
        "action": "train",
        "params": {"epochs": 3},
        "requirements": ["torch"],
        "job_id": ROOT,
        "language": "en",
    }
    assert (details["submission_id"], details["status"], details["result"]) == (ROOT, "SUCCEEDED", {"loss": 0.5})
    assert context["ti"].xcoms["job_id"] == ROOT
    assert log.lines_of(PRINTED) == ["epoch 1"]
    assert f"Started job {ROOT}: train of train@1.0." in log.messages


def test_the_xcom_with_the_id_stays_where_the_details_are_xcoms_of_their_own(run: Run, agent: ScriptedAgent) -> None:
    context = make_context()
    details = run(context=context, multiple_outputs=True)
    # As airflow.sdk.execution_time.task_runner does after the task.
    for key, value in details.items():
        context["ti"].xcom_push(key, value)
    assert (context["ti"].xcoms["job_id"], context["ti"].xcoms["driver_job_id"]) == (ROOT, "01000000")


def test_the_id_and_the_link_are_known_before_the_agent_is_asked(run: Run, serve: Serve) -> None:
    context = make_context()
    seen: list[dict[str, Any]] = []
    agent = serve(extra={"job_url": "http://dash/#/jobs/{job_id}"})
    start: Any = starting(agent)

    def note(request: Request) -> Any:
        seen.append(dict(context["ti"].xcoms))
        return start(request)

    agent.answers[RUN] = [note]
    run(context=context)
    assert seen[0]["job_id"] == ROOT
    assert f"http://dash/#/jobs/{ROOT}" in seen[0].values()


def test_a_job_that_runs_already_is_followed_and_no_other_is_started(run: Run, serve: Serve, log: TaskLog) -> None:
    job = Job("", "RUNNING", ROOT)
    agent = serve(job)
    job.timeline = [until_attached(log), Grow(PRINTED), SetStatus("SUCCEEDED")]
    assert run()["result"] == {"loss": 0.5}
    assert agent.of("POST") == []
    assert log.lines_of(PRINTED) == ["epoch 1"]
    assert any("already exists" in message for message in log.messages)


def test_the_result_of_a_job_that_has_succeeded_is_taken(run: Run, serve: Serve, log: TaskLog) -> None:
    agent = serve(Job(PRINTED, "SUCCEEDED", ROOT))
    assert run()["result"] == {"loss": 0.5}
    assert agent.of("POST") == []
    assert any("has already succeeded" in message for message in log.messages)
    assert not any("waiting up to" in message for message in log.messages)


def test_a_job_that_prints_no_result_is_no_reason_for_a_warning(run: Run, serve: Serve, log: TaskLog) -> None:
    job = Job("x\n", "RUNNING", ROOT, timeline=[Sleep(0.6), SetStatus("SUCCEEDED")])
    serve(job)
    assert run()["result"] is None
    assert any(message.startswith(f"RA-308: Job {ROOT} printed no result") for message in log.messages)
    assert not any("result" in warning for warning in log.warnings)


@pytest.mark.parametrize(
    ("earlier", "options", "number"),
    [
        (["FAILED"], {}, 2),
        (["STOPPED"], {}, 2),
        (["FAILED", "STOPPED", "EVICTED"], {}, 4),
        (["SUCCEEDED"], {"if_succeeded": "run_again"}, 2),
        (["FAILED"], {"job_id": "mine"}, 2),
    ],
)
def test_after_jobs_that_do_not_count_a_new_one_is_started(
    earlier: list[str], options: dict[str, Any], number: int, run: Run, serve: Serve, log: TaskLog
) -> None:
    root = options.get("job_id", ROOT)
    names = [root, *(f"{root}-{at}" for at in range(2, 5))]
    jobs = [Job("old\n", status, name, details={"end_time": 5}) for status, name in zip(earlier, names, strict=False)]
    context = make_context()
    agent = serve(*jobs)
    agent.answers[RUN] = [starting(agent)]
    assert run(context=context, **options)["submission_id"] == f"{root}-{number}"
    assert len(agent.of(RUN)) == 1
    assert context["ti"].xcoms["job_id"] == f"{root}-{number}"
    assert log.lines_of("old\n") == []
    assert len([message for message in log.messages if "starting a new job" in message]) == len(earlier)


def test_a_job_that_is_just_being_stopped_does_not_count(
    run: Run, serve: Serve, log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_finder, "STOP_SECONDS", PATIENCE)
    job = Job("", "RUNNING", ROOT)
    agent = serve(job)
    job.timeline = [WaitFor(lambda: len(agent.of(f"GET jobs/{ROOT}/")) > 1), SetStatus("STOPPED")]
    agent.answers[RUN] = [starting(agent)]
    assert run()["submission_id"] == f"{ROOT}-2"
    assert log.messages[0].startswith(f"RA-609: Job {ROOT} of this task is RUNNING; waiting up to {PATIENCE:g} s")


def later(seconds: float, agent: ScriptedAgent, answer: Step) -> Step:
    """Return a step that answers, and starts the job after a while."""
    begin: Any = starting(agent)

    def start(request: Request) -> Any:
        threading.Timer(seconds, begin, [request]).start()
        return answer

    return start


@pytest.mark.parametrize("lost", [Play(Reset()), *map(Refuse, (408, 502, 503, 504, 520)), Html(200)], ids=named)
def test_a_job_that_may_still_start_is_waited_for(lost: Any, run: Run, agent: ScriptedAgent, log: TaskLog) -> None:
    agent.answers[RUN] = [later(0.5, agent, lost)]
    assert run()["result"] == {"loss": 0.5}
    assert len(agent.of(RUN)) == 1
    assert any("Not known yet whether" in warning for warning in log.warnings)


def test_a_request_that_was_lost_before_the_agent_had_it_fails_the_try_in_time(run: Run, agent: ScriptedAgent) -> None:
    agent.answers[RUN] = [Play(Reset())]
    with pytest.raises(RayAgentConnectionError):
        run(job_missing_timeout=0.5)
    assert len(agent.of(f"POST jobs/{ROOT}/stop/")) == 1, "it may wait in the agent's queue"
    agent.answers[RUN] = [starting(agent)]
    assert run()["submission_id"] == ROOT


def test_a_job_that_vanishes_is_not_stopped(run: Run, agent: ScriptedAgent, log: TaskLog) -> None:
    vanishing = [WaitFor(lambda: len(agent.of(f"GET jobs/{ROOT}/")) > 2), Do(agent.jobs.clear)]
    agent.answers[RUN] = [starting(agent, timeline=vanishing)]
    with pytest.raises(RayAgentJobMissingError, match=f"Job {ROOT} no longer exists"):
        run(job_missing_timeout=0.5, stop_job_on_kill=True)
    assert not agent.of(f"POST jobs/{ROOT}/stop/")
    assert not [message for message in log.messages if "stop" in message]


def test_a_job_that_the_agent_has_already_is_waited_for(run: Run, agent: ScriptedAgent) -> None:
    """An earlier try has put it into the agent's queue, where it is not known yet."""
    agent.answers[RUN] = [later(1.0, agent, Refuse(409, "there is such a job"))]
    assert run(job_missing_timeout=0.3)["result"] == {"loss": 0.5}
    assert len(agent.of(RUN)) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(503, {"message": "no GPU", "error_type": "gpu_unavailable"}), RayAgentResourcesError),
        (Refuse(404, "no such plugin"), RayAgentNotFoundError),
        (Refuse(422, "no such action"), RayAgentHTTPError),
        (Refuse(429), RayAgentHTTPError),
        (Refuse(500), RayAgentHTTPError),
        (Refuse(501), RayAgentHTTPError),
    ],
    ids=str,
)
def test_a_refusal_fails_the_try_at_once(answer: Step, error: type[Exception], run: Run, agent: ScriptedAgent) -> None:
    agent.answers[RUN] = [answer]
    with pytest.raises(error) as caught:
        run()
    assert len(agent.of(RUN)) == 1
    assert not isinstance(caught.value, AirflowFailException), "another try may succeed"


def test_missing_gpus_are_told_with_what_the_cluster_has_free(run: Run, serve: Serve) -> None:
    agent = serve(nodes=NODES, used=USED)
    agent.answers[RUN] = [Answer(503, {"message": "no GPU", "error_type": "gpu_unavailable"})]
    with pytest.raises(RayAgentResourcesError) as caught:
        run()
    agent.answers["GET resources/cluster/"] = [Refuse(404)]
    with pytest.raises(RayAgentResourcesError, match=r"no GPU$"):
        run()
    assert str(caught.value).endswith(
        "no GPU. Free in the cluster: 2 of 4 GPUs, 22.9 of 24 CPUs, 96 of 96 GiB of memory."
    )
    assert caught.value.status_code == 503


def test_an_agent_that_names_the_job_itself_is_believed(run: Run, serve: Serve, log: TaskLog) -> None:
    context = make_context()
    agent = serve(Job(PRINTED, "SUCCEEDED", "its-own"))
    agent.answers[RUN] = [Answer(200, {"job_id": "its-own"})]
    assert run(context=context)["result"] == {"loss": 0.5}
    assert context["ti"].xcoms["job_id"] == "its-own"
    assert any("its-own" in warning for warning in log.warnings)


@pytest.mark.parametrize("start_timeout", [60.0, None])
def test_a_job_in_the_agents_queue_may_be_unknown_for_longer_than_another(
    start_timeout: float | None, run: Run, agent: ScriptedAgent
) -> None:
    agent.answers[RUN] = [later(1.5, agent, Answer(200, {"job_id": ROOT}))]
    assert run(job_missing_timeout=0.3, start_timeout=start_timeout)["result"] == {"loss": 0.5}


@pytest.mark.parametrize("status", ["PENDING", None])
def test_a_job_that_does_not_start_in_time_is_stopped(status: str | None, run: Run, agent: ScriptedAgent) -> None:
    start = starting(agent, first="PENDING", timeline=())
    agent.answers[RUN] = [start if status else Answer(200, {})]
    with pytest.raises(RayAgentJobNotStartedError, match=f"start_timeout of 1 seconds; it is {status or 'unknown to'}"):
        run(start_timeout=1.0)
    assert len(agent.of(f"POST jobs/{ROOT}/stop/")) == 1


@pytest.mark.parametrize(
    ("status", "error"), [("FAILED", RayAgentRunFailedError), ("STOPPED", RayAgentJobStoppedError)]
)
def test_a_failed_job_is_tried_again_by_airflow_and_a_stopped_one_is_not(
    status: str, error: type[Exception], run: Run, agent: ScriptedAgent
) -> None:
    agent.answers[RUN] = [starting(agent, status=status, message="it broke")]
    with pytest.raises(error, match="it broke") as caught:
        run()
    assert isinstance(caught.value, AirflowFailException) is (status == "STOPPED")


def test_without_waiting_the_id_is_returned(run: Run, agent: ScriptedAgent) -> None:
    context = make_context()
    assert run(context=context, wait=False) == ROOT
    assert agent.of("WS") == []
    assert context["ti"].xcoms["job_id"] == ROOT


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"if_succeeded": "never"}, "if_succeeded"),
        ({"start_timeout": 0}, "start_timeout"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"job_id": "a b"}, "job id"),
        ({"job_id": "x" * (MAX_BASE_ID + 1)}, "the maximum is 90"),
        ({"action_params": [1]}, "params"),
    ],
)
def test_a_bad_argument_is_refused_before_anything_is_started(
    options: dict[str, Any], word: str, run: Run, agent: ScriptedAgent
) -> None:
    with pytest.raises(RayAgentInputError, match=word):
        run(**options)
    assert agent.of("POST") == []


@pytest.mark.parametrize(("state", "stops"), [("failed", True), ("success", True), ("running", False)])
def test_a_task_that_is_ended_while_the_job_starts_stops_it_once_it_is_there(
    state: str, stops: bool, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context()
    supervise(context["ti"], monkeypatch).state = state
    operator = make_operator()
    start = starting(agent, Play(Sleep(0.3), Do(lambda: None)), timeline=())
    agent.answers[RUN] = [start]
    agent.on_request = lambda request: operator.on_kill() if request.route == RUN and not request.ended else None
    with pytest.raises(RayAgentError, match=f"RA-704: The task was killed while it followed job {ROOT}"):
        operator.execute(context)
    assert bool(agent.jobs[ROOT].stop_calls) is stops


@pytest.mark.parametrize("owns", [True, False])
def test_a_kill_while_a_job_that_runs_is_looked_at_stops_it_and_starts_no_other(
    owns: bool, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_finder, "STOP_SECONDS", PATIENCE)
    ti = TaskInstance(2)
    supervise(ti, monkeypatch).state = "failed"
    job = Job("", "RUNNING", ROOT, stop_delay=0.1)
    agent = serve(job)
    operator = make_operator(stop_job_on_kill=owns)
    killer = threading.Thread(target=operator.on_kill)
    job.timeline = [WaitFor(lambda: len(agent.of(f"GET jobs/{ROOT}/")) > 1), Do(killer.start)]
    with pytest.raises(RayAgentError, match="task was killed"):
        operator.execute(make_context(ti))
    killer.join()
    agent.wait_until(lambda: job.stop_calls == owns)
    assert agent.of(RUN) == []


def test_a_kill_during_the_first_look_at_a_job_that_runs_stops_it(
    agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance(2)
    supervise(ti, monkeypatch).state = "failed"
    job = agent.jobs[ROOT] = Job("", "RUNNING", ROOT, stop_delay=0.1)
    operator = make_operator()
    agent.on_request = lambda _: operator.on_kill() if len(agent.requests) == 1 else None
    with pytest.raises(RayAgentError, match="task was killed"):
        operator.execute(make_context(ti))
    agent.wait_until(lambda: job.stop_calls == 1)
    assert agent.of(RUN) == []


def test_a_kill_while_the_id_of_the_job_is_pushed_starts_no_job(
    agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledInstance(TaskInstance):
        def xcom_push(self, key: str, value: Any) -> None:
            super().xcom_push(key, value)
            operator.on_kill()

    ti = KilledInstance()
    supervise(ti, monkeypatch).state = "failed"
    operator = make_operator()
    with pytest.raises(RayAgentError, match="task was killed"):
        operator.execute(make_context(ti))
    assert agent.of(RUN) == []


def test_a_killed_task_whose_state_is_unknown_says_that_its_job_was_not_stopped(
    agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch, log: TaskLog
) -> None:
    ti = TaskInstance()
    supervise(ti, monkeypatch).refused.add(comms.GetTaskStates)
    operator = make_operator()
    agent.answers[RUN] = [starting(agent, Play(Do(operator.on_kill)), timeline=())]
    with pytest.raises(RayAgentError):
        operator.execute(make_context(ti))
    assert [message for message in log.messages if "the state of the task is unknown" in message]
    assert agent.jobs[ROOT].stop_calls == 0
