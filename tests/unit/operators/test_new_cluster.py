"""A try that gets another cluster than the one before, and clusters that come and go."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import (
    RayAgentJobMissingError,
    RayAgentJobNotStartedError,
    RayAgentRunFailedError,
    RayAgentUnreachableError,
)
from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.run import job_finder, job_start
from airflow_provider_rayagent.run.job_finder import JOB_KEY
from airflow_provider_rayagent.run.job_identity import JobIdentity, Place
from airflow_provider_rayagent.run.job_ids import numbered
from tests.scripted import Job, Play, Refuse, ScriptedAgent, Silence, Sleep
from tests.scripted.ray_dialect import version
from tests.stack.watch import wait_until
from tests.unit.both_ways import both_ways
from tests.unit.operators import test_stop_job
from tests.unit.operators.started_jobs import ROOT, starting
from tests.unit.operators.submissions import ORIGIN, SUBMIT, make_operator
from tests.unit.support import StateStore, TaskInstance, TaskLog, make_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.both_ways import Run
    from tests.unit.support import Connect, Serve

STOP = f"POST jobs/{ROOT}/stop/"
VERSION = "GET api/version"
ADMITTED = {"service": "ray", "clusters": "127.0.0.1:1-65535, localhost:1-65535"}

run = both_ways(make_operator)
stop = both_ways(test_stop_job.make_operator)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_start, "ABSENT_SECONDS", 0.05)


@pytest.fixture
def heads(serve: Serve, connect: Connect) -> list[ScriptedAgent]:
    """Two clusters of one connection, each with a session of its own."""
    found = [serve(service="ray", password="") for _ in range(2)]
    for number, head in enumerate(found):
        head.answers |= {VERSION: [version(session=f"session_{number}")], SUBMIT: [starting(head, timeline=())]}
    connect("http://{cluster}", extra=ADMITTED, password="")
    return found


def is_said(log: TaskLog, text: str) -> bool:
    return any(text in message for message in log.messages)


def name_of(head: ScriptedAgent, host: str = "127.0.0.1") -> str:
    return f"{host}:{head.port}"


class Tries:
    """The tries of one task, each of which ends when it has its job, as if its worker died then."""

    def __init__(self) -> None:
        self.store = StateStore()
        self._number = 0

    def next(self, cluster: str | None, **options: Any) -> Any:
        self._number += 1
        context = make_context(TaskInstance(self._number), task_state_store=self.store)
        return make_operator(**{"wait": False, "cluster": cluster, **options}).execute(context)


@pytest.fixture
def tries() -> Tries:
    return Tries()


def env_vars_of(head: ScriptedAgent) -> tuple[str, str | None]:
    """Return the resume key and the previous job of the last submission."""
    env_vars = json.loads(head.of(SUBMIT)[-1].body)["runtime_env"]["env_vars"]
    return env_vars["RAYAGENT_RESUME_KEY"], env_vars.get("RAYAGENT_PREVIOUS_JOB_ID")


def test_the_job_on_the_old_cluster_is_stopped_before_one_on_the_new_starts(
    heads: list[ScriptedAgent], tries: Tries, log: TaskLog
) -> None:
    old, new = heads
    stopped_by_then: list[bool] = []
    start: Any = starting(new, timeline=())

    def note_and_start(request: Any) -> Any:
        stopped_by_then.append(bool(old.of(STOP)))
        return start(request)

    new.answers[SUBMIT] = [note_and_start]
    assert tries.next(name_of(old)) == ROOT
    assert tries.next(name_of(new)) == ROOT
    assert stopped_by_then == [True]
    assert env_vars_of(new) == (ROOT, ROOT)
    assert is_said(log, f"has the cluster '{name_of(new)}' instead of '{name_of(old)}'; stopping job {ROOT}")
    # And the next try finds the new one.
    assert tries.next(name_of(new)) == ROOT
    assert len(new.of(SUBMIT)) == len(old.of(SUBMIT)) == len(old.of(STOP)) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_job_is_found_on_the_same_cluster_whatever_its_name(
    host: str, heads: list[ScriptedAgent], tries: Tries
) -> None:
    head, _ = heads
    tries.next(name_of(head))
    assert tries.next(name_of(head, host)) == ROOT
    assert len(head.of(SUBMIT)) == 1
    assert not head.of(STOP)


def test_a_cluster_of_the_same_name_that_was_started_anew_has_no_job_to_stop(
    heads: list[ScriptedAgent], tries: Tries
) -> None:
    head, _ = heads
    tries.next(name_of(head))
    head.jobs.clear()
    head.answers[VERSION] = [version(session="session_later")]
    assert tries.next(name_of(head)) == ROOT
    assert not head.of(STOP)
    assert env_vars_of(head) == (ROOT, ROOT)


def make_gone(head: ScriptedAgent, _connect: Connect) -> None:
    head.close()


def make_silent(head: ScriptedAgent, _connect: Connect) -> None:
    head.answers["*"] = [Play(Silence())]


def make_refusing(head: ScriptedAgent, _connect: Connect) -> None:
    head.answers[STOP] = [Refuse(500)]


def revoke(head: ScriptedAgent, connect: Connect) -> None:
    entries = f"127.0.0.1:1-{head.port - 1}, 127.0.0.1:{head.port + 1}-65535"
    connect("http://{cluster}", extra={**ADMITTED, "clusters": entries}, password="")


def give_job_to_another_task(head: ScriptedAgent, _connect: Connect) -> None:
    head.jobs[ROOT] = Job("", "RUNNING", ROOT, details={"metadata": {**ORIGIN, "airflow_task_id": "other"}})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (make_gone, "Nothing listens at"),
        (make_silent, "has not answered within 0.5 seconds. The job may still run there."),
        (make_refusing, "500"),
        (revoke, "is refused: it matches no entry"),
        (give_job_to_another_task, "was not submitted by this task instance"),
    ],
)
def test_a_job_that_cannot_be_stopped_is_named_and_delays_nothing(
    change: Callable[[ScriptedAgent, Connect], None],
    why: str,
    heads: list[ScriptedAgent],
    tries: Tries,
    log: TaskLog,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job_finder, "STOP_ELSEWHERE_SECONDS", 0.5 if change is make_silent else 20.0)
    old, new = heads
    tries.next(name_of(old))
    change(old, connect)
    assert tries.next(name_of(new)) == ROOT
    assert len(new.of(SUBMIT)) == 1
    (said,) = [text for text in log.messages if f"Failed to stop job {ROOT}" in text]
    assert why in said
    if change in (revoke, give_job_to_another_task):
        assert not old.of(STOP)


@pytest.mark.parametrize(("status", "key"), [("FAILED", (ROOT, ROOT)), ("SUCCEEDED", (f"{ROOT}-2", None))])
def test_a_job_whose_end_was_seen_is_not_stopped(
    status: str, key: tuple[str, str | None], heads: list[ScriptedAgent], tries: Tries, log: TaskLog
) -> None:
    old, new = heads
    old.answers[SUBMIT] = [starting(old, status=status)]
    if status == "FAILED":
        with pytest.raises(RayAgentRunFailedError):
            tries.next(name_of(old), wait=True)
    else:
        tries.next(name_of(old), wait=True)
    old.close()
    tries.next(name_of(new))
    assert env_vars_of(new) == key
    assert not is_said(log, "Failed to stop")


def test_a_stop_is_that_of_one_cluster(heads: list[ScriptedAgent], tries: Tries, serve: Serve) -> None:
    old, new = heads
    tries.store["rayagent_stopped_job"] = JobIdentity(ROOT, Place(name_of(old), "session_0")).to_json()
    new.jobs[ROOT] = Job("", "RUNNING", ROOT, details={"metadata": ORIGIN})
    old.jobs[ROOT] = Job("", "RUNNING", ROOT, details={"metadata": ORIGIN})
    assert tries.next(name_of(new)) == ROOT
    tries.store.pop(JOB_KEY)
    assert tries.next(name_of(old)) == numbered(ROOT, 2)


def test_a_stop_is_not_that_of_the_next_job_with_the_same_id(ray: ScriptedAgent, tries: Tries) -> None:
    ray.answers[SUBMIT] = [starting(ray, timeline=())]
    tries.store["rayagent_stopped_job"] = JobIdentity(ROOT, Place()).to_json()
    # Ray has been started anew, and knows no job.
    assert [tries.next(None) for _ in range(2)] == [ROOT, ROOT]
    assert len(ray.of(SUBMIT)) == 1


@pytest.mark.parametrize("stored", ["text", 7, [], {}, {"job_id": 7}, {"job_id": ROOT, "cluster": ["x"]}])
def test_what_something_else_has_stored_is_no_job(stored: Any, heads: list[ScriptedAgent], tries: Tries) -> None:
    tries.store |= {JOB_KEY: stored, "rayagent_stopped_job": stored}
    assert tries.next(name_of(heads[0])) == ROOT


def test_what_something_else_has_stored_gets_no_token_to_another_host(
    heads: list[ScriptedAgent], tries: Tries, log: TaskLog, connect: Connect
) -> None:
    other, head = heads
    connect("http://{cluster}", extra={**ADMITTED, "clusters": name_of(head)}, password="")
    tries.store[JOB_KEY] = JobIdentity(ROOT, Place(name_of(other), "session_0")).to_json()
    assert tries.next(name_of(head)) == ROOT
    assert not other.requests
    assert is_said(log, "is refused")


@pytest.mark.parametrize("session", [None, 7, "x" * 1000])
def test_without_a_session_the_name_of_the_cluster_counts(
    session: Any, heads: list[ScriptedAgent], tries: Tries
) -> None:
    for head in heads:
        head.answers[VERSION] = [version(session=session)]
    old, new = heads
    tries.next(name_of(old))
    tries.next(name_of(old))
    assert not old.of(STOP)
    tries.next(name_of(new))
    assert len(old.of(STOP)) == len(new.of(SUBMIT)) == 1


def test_a_cluster_that_is_not_there_yet_is_waited_for(
    heads: list[ScriptedAgent], tries: Tries, log: TaskLog, serve: Serve
) -> None:
    absent = ScriptedAgent(service="ray").start()
    absent.close()
    late = ScriptedAgent(service="ray", port=absent.port)
    late.answers[SUBMIT] = [starting(late)]

    def start() -> None:
        wait_until(lambda: is_said(log, "is not there yet") or None, "it is not waited for")
        late.start()

    starter = threading.Thread(target=start)
    starter.start()
    try:
        assert tries.next(name_of(absent), wait=True)["status"] == "SUCCEEDED"
    finally:
        starter.join()
        late.close()
    (said,) = [text for text in log.messages if "is not there yet" in text]
    assert "waiting up to 3600 seconds" in said


def test_a_cluster_that_does_not_come_fails_the_task(heads: list[ScriptedAgent], tries: Tries) -> None:
    heads[0].close()
    with pytest.raises(RayAgentJobNotStartedError, match=r"has not come within the start_timeout of 0\.3 seconds"):
        tries.next(name_of(heads[0]), start_timeout=0.3)


def close_later(head: ScriptedAgent, seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, head.close)
    timer.start()
    return timer


def test_a_job_is_lost_with_its_cluster(heads: list[ScriptedAgent], run: Run, log: TaskLog) -> None:
    head, _ = heads
    store = StateStore()
    closing = close_later(head, 1.0)
    context = make_context(task_state_store=store)
    with pytest.raises(RayAgentJobMissingError) as caught:
        run(context=context, cluster=name_of(head), job_missing_timeout=1.0, agent_unreachable_timeout=60.0)
    closing.join()
    assert f"Cluster '{name_of(head)}' is gone, and job {ROOT} with it: Nothing listens at" in str(caught.value)
    assert caught.value.failure_kind == FailureKind.JOB_LOST
    # The next try has nothing to stop.
    assert JobIdentity.from_json(store[JOB_KEY]) == JobIdentity(ROOT, Place(name_of(head), "session_0"), status="LOST")


def test_without_a_choice_of_clusters_the_service_is_unreachable(ray: ScriptedAgent, run: Run) -> None:
    ray.answers[SUBMIT] = [starting(ray, timeline=())]
    closing = close_later(ray, 1.0)
    with pytest.raises(RayAgentUnreachableError):
        run(job_missing_timeout=0.1, agent_unreachable_timeout=1.0)
    closing.join()


def test_without_a_choice_of_clusters_no_place_is_asked_for_or_stored(ray: ScriptedAgent, run: Run) -> None:
    class Watched(StateStore):
        def get(self, key: str, *default: Any) -> Any:
            assert key != JOB_KEY
            return super().get(key, *default)

    store = Watched()
    assert run(context=make_context(task_state_store=store))["status"] == "SUCCEEDED"
    assert JOB_KEY not in store
    # One, for the submission itself.
    assert len(ray.of(VERSION)) == 1


def test_a_stop_succeeds_when_the_cluster_goes(heads: list[ScriptedAgent], stop: Run, log: TaskLog) -> None:
    head, _ = heads
    head.jobs["j1"] = Job("", "RUNNING", "j1", timeline=[Sleep(0.1)], stop_delay=600.0)

    def close() -> None:
        head.wait_until(lambda: head.of("POST jobs/j1/stop/"))
        # The operator is to have seen that the job still runs.
        time.sleep(0.5)
        head.close()

    closing = threading.Thread(target=close)
    closing.start()
    result = stop(cluster=name_of(head))
    closing.join()
    assert result["status"] is None
    assert is_said(log, "is gone, and job j1 with it")
