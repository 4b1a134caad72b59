"""Two task instances with the same ``job_id``: neither takes the job of the other, and none stops it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentConnectionError, RayAgentError
from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.run import job_finder
from tests.scripted import Answer, Job, Play, Refuse, Reset, ray_dialect
from tests.unit.operators.submissions import ORIGIN, SUBMIT, make_operator, rendered
from tests.unit.supervisor import supervise
from tests.unit.support import make_context, task_log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.scripted import Request, ScriptedAgent
    from tests.unit.both_ways import Run

OTHER = {"metadata": {**ORIGIN, "airflow_map_index": "3"}}
STOP = "POST jobs/mine/stop/"
TAKEN = "Job mine already exists and was not submitted by this task"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Execute the operator in a worker; Airflow says that the task has failed. The argument is called before."""

    def executed(context: Any, prepare: Callable[[Any], None] = lambda operator: None, **options: Any) -> Any:
        supervise(context["ti"], monkeypatch).state = "failed"
        operator = rendered(make_operator(job_id="mine", **options))
        prepare(operator)
        return operator.execute(context)

    return executed


def another_was_faster(ray: ScriptedAgent, answer: Any) -> Callable[[Request], Any]:
    """Return a step that starts the job of another task instance before it answers."""

    def start(request: Request) -> Any:
        ray.jobs["mine"] = Job("", "RUNNING", "mine", details=OTHER)
        return answer

    return start


@pytest.mark.parametrize(
    "answer",
    [ray_dialect.taken("mine"), Play(Reset()), Refuse(502)],
    ids=["already exists", "reset", "502"],
)
def test_a_job_that_another_instance_starts_meanwhile_is_not_taken(answer: Any, run: Run, ray: ScriptedAgent) -> None:
    ray.answers[SUBMIT] = [another_was_faster(ray, answer), ray_dialect.taken("mine")]
    context = make_context()
    with pytest.raises(RayAgentInputError, match=TAKEN):
        run(context)
    assert context["ti"].xcoms["job_id"] is None
    assert ray.of(STOP) == []


def test_a_kill_does_not_stop_the_job_that_another_instance_starts_meanwhile(run: Run, ray: ScriptedAgent) -> None:
    operators: list[Any] = []

    def killed(request: Request) -> Any:
        answer = another_was_faster(ray, ray_dialect.taken("mine"))(request)
        operators[0].on_kill()
        return answer

    ray.answers[SUBMIT] = [killed]
    with task_log() as log, pytest.raises(RayAgentInputError, match=TAKEN):
        run(make_context(), operators.append)
    assert ray.of(STOP) == []
    assert [message for message in log.messages if TAKEN in message and message.startswith("RA-701")]


def test_a_kill_while_the_own_job_is_submitted_stops_it(run: Run, ray: ScriptedAgent) -> None:
    operators: list[Any] = []

    def killed(request: Request) -> Any:
        ray.jobs["mine"] = Job("", "RUNNING", "mine", details={"metadata": ORIGIN})
        operators[0].on_kill()
        ray.jobs["mine"].status = "STOPPED"
        return Answer(200, {"job_id": "mine", "submission_id": "mine"})

    ray.answers[SUBMIT] = [killed]
    with pytest.raises(RayAgentError):
        run(make_context(), operators.append)
    assert len(ray.of(STOP)) == 2


def test_the_running_job_of_another_instance_is_never_this_tasks(
    run: Run, ray: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.jobs["mine"] = Job("", "RUNNING", "mine", details=OTHER)
    monkeypatch.setattr(job_finder, "STOP_SECONDS", 3600.0)
    context = make_context()
    with pytest.raises(RayAgentInputError, match=TAKEN):
        run(context)
    assert context["ti"].xcoms == {}
    assert ray.of("POST") == []


@pytest.mark.parametrize("request_before", ["upload", "GET api/version", "GET nodes/"])
def test_after_a_failure_before_the_submission_no_job_is_looked_for(
    request_before: str,
    run: Run,
    ray: ScriptedAgent,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    options: dict[str, Any] = {"entrypoint_num_cpus": 1}
    if request_before == "upload":

        def broken(self: RayAgentHook, *args: Any, **kwargs: Any) -> str:
            raise RayAgentConnectionError("The upload broke off.")

        monkeypatch.setattr(RayAgentHook, "upload_working_dir", broken)
        options["working_dir"] = tmp_path
    else:
        ray.answers[request_before] = [Play(Reset())] * 10
    with task_log() as log, pytest.raises(RayAgentConnectionError):
        run(
            make_context(dag=SimpleNamespace(fileloc=str(tmp_path / "dag.py"))),
            job_missing_timeout=3600.0,
            agent_unreachable_timeout=0.1,
            **options,
        )
    assert not [message for message in log.messages if message.startswith(("RA-606", "RA-701"))]
    assert ray.of("POST") == []
