"""Failures that are provoked on a real Ray of three nodes, and what the provider says caused them."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil  # type: ignore[import-untyped]
import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.failures.explanation import Explanation, explain
from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.run import failed_job
from airflow_provider_rayagent.run.failed_job import look_at_failure
from airflow_provider_rayagent.transport import blocking
from tests.failure_records import Recorder
from tests.stack.interpreters import interpreter
from tests.stack.ray import Cluster, cluster
from tests.stack.watch import PATIENCE, wait_until
from tests.tail.figures import figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.services.call import Call
    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray

DOOMED, SMALL = {"doomed": 1}, {"small": 1}
"""The resources of the node that dies, and of the one that is always low on memory."""
LOW_ON_MEMORY = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
IMPORTS = "import ctypes, os, pathlib, signal, sys, time, ray\n"
TASK = f"""{IMPORTS}
@ray.remote(max_retries=0, {{options}})
def task(arguments):
    {{body}}
ray.get(task.remote(sys.argv))
"""
ACTOR = f"""{IMPORTS}
@ray.remote({{options}})
class Actor:
    def act(self, arguments):
        {{body}}
ray.get(Actor.remote().act.remote(sys.argv))
"""
# Only the head has CPUs.
ON_HEAD = "num_cpus=1"
ON_DOOMED, ON_SMALL = (f'num_cpus=0, resources={{"{name}": 0.1}}' for name in (*DOOMED, *SMALL))
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
WAIT = "pathlib.Path(arguments[1]).touch(); time.sleep(3600)"
CONSTRUCTOR = f"""{IMPORTS}
@ray.remote({ON_HEAD})
class Actor:
    def __init__(self):
        raise ValueError('wrong')
    def act(self):
        pass
ray.get(Actor.remote().act.remote())
"""
SOME_OF_MANY = f"""{IMPORTS}
@ray.remote(max_retries=0, num_cpus=0.1)
def load_block(number):
    if number % 10 == 7:
        print("reads block", number, file=sys.stderr)
        raise ValueError(f"bad row {{number}}")
ready, _ = ray.wait(blocks := [load_block.remote(number) for number in range(30)], num_returns=30)
ray.get(blocks)
"""
RETRIED = f"""{IMPORTS}
@ray.remote({ON_HEAD}, max_retries=3)
def task(path):
    if not os.path.exists(path):
        pathlib.Path(path).touch()
        os._exit(5)
ray.get(task.remote(sys.argv[1] + ".once"))
raise RuntimeError("mine")
"""
HANDLED = f"""{IMPORTS}
@ray.remote(max_retries=0, {ON_HEAD})
def task():
    {KILL}
try:
    ray.get(task.remote())
except ray.exceptions.WorkerCrashedError:
    pass
raise RuntimeError("mine")
"""
KILLED_BY_PROGRAM = f"""{IMPORTS}
@ray.remote({ON_HEAD})
class Actor:
    def act(self):
        time.sleep(3600)
actor = Actor.remote()
call = actor.act.remote()
time.sleep(3)
ray.kill(actor)
ray.get(call)
"""
ENVIRONMENT_OF_TASK = f"""{IMPORTS}
@ray.remote({ON_HEAD}, runtime_env={{"working_dir": "https://127.0.0.1:1/nothing.zip"}})
def task():
    pass
ray.get(task.remote())
"""
CANCELED = f"""{IMPORTS}
@ray.remote({ON_HEAD})
def task():
    time.sleep(3600)
call = task.remote()
time.sleep(3)
ray.cancel(call, force=True)
ray.get(call)
"""
UNPLACEABLE = f"""{IMPORTS}
from ray.util.placement_group import placement_group
ray.get(placement_group([{{"GPU": 64}}]).ready(), timeout=5)
"""
LOST = "a_lost_object"
LOST_OBJECT = f"""{IMPORTS}
@ray.remote({ON_DOOMED})
class Owner:
    def make(self):
        return [ray.put(bytes(10_000_000))]
owner = Owner.remote()
reference = ray.get(owner.make.remote())[0]
ray.kill(owner)
time.sleep(1)
ray.get(reference)
"""
NESTED = f"""{IMPORTS}
@ray.remote(max_retries=0, num_cpus=0.1)
def inner():
    {KILL}
@ray.remote(max_retries=0, num_cpus=0.1)
def outer():
    ray.get(inner.remote())
ray.get(outer.remote())
"""
SEGFAULT = "print('loads the model', file=sys.stderr); ctypes.string_at(0)"


class Case(NamedTuple):
    """A program, and what is said about its failure.

    :param kinds: any of which is right: Ray learns of some things in any order.
    :param told: a regular expression that a line of what Ray has recorded matches; empty: nothing is recorded.
    :param lines: a text in the last lines of a process.
    """

    program: str
    kinds: tuple[FailureKind | None, ...]
    told: str = ""
    lines: str = ""


PROGRAM, WORKER, NODE, MEMORY = (
    (FailureKind.PROGRAM,),
    (FailureKind.WORKER_LOST,),
    (FailureKind.NODE_DIED,),
    (FailureKind.OUT_OF_MEMORY,),
)
# Ray learns in any order that a node died, and that the connection to a worker on it is broken.
LOST_NODE = (FailureKind.NODE_DIED, FailureKind.WORKER_LOST)
ON_HEAD_ONLY: dict[str, Case] = {
    "exits": Case("import sys; sys.exit(3)", PROGRAM),
    "raises": Case(f"{IMPORTS}ray.init()\nraise ValueError('wrong')", PROGRAM),
    "a_task_raises": Case(
        TASK.format(options=ON_HEAD, body="print('starts', file=sys.stderr); raise ValueError('wrong')"),
        PROGRAM,
        r"1 task task failed: ValueError: wrong \(.* UTC, node 127\.0\.0\.1.*, pid \d+\)",
        "starts",
    ),
    "some_tasks_raise": Case(
        SOME_OF_MANY, PROGRAM, r"3 tasks load_block failed, the first one: ValueError: bad row \d+ \(", "reads block"
    ),
    "a_method_raises": Case(
        ACTOR.format(options=ON_HEAD, body="raise ValueError('wrong')"),
        PROGRAM,
        r"1 task Actor\.act failed: ValueError",
    ),
    "a_constructor_raises": Case(
        CONSTRUCTOR, PROGRAM, r"1 actor Actor died: its constructor failed: ValueError: wrong; 1 of its calls failed"
    ),
    "an_actor_exits": Case(
        ACTOR.format(options=ON_HEAD, body="sys.exit(3)"),
        PROGRAM,
        r"1 actor Actor died: its process ended with exit code",
    ),
    "a_task_ends_its_process": Case(
        TASK.format(options=ON_HEAD, body="os._exit(3)"),
        WORKER,
        r"1 task task failed: its process died, and Ray does not know why",
    ),
    "a_task_is_killed": Case(
        TASK.format(options=ON_HEAD, body=KILL),
        WORKER,
        r"1 task task failed: its process died, and Ray does not know why",
    ),
    "a_task_crashes": Case(
        TASK.format(options=ON_HEAD, body=SEGFAULT),
        WORKER,
        r"1 task task failed: its process crashed with SIGSEGV",
        "loads the model",
    ),
    "an_actor_is_killed": Case(
        ACTOR.format(options=ON_HEAD, body=KILL),
        WORKER,
        r"1 actor Actor died: its process died.*; 1 of its calls failed",
    ),
    "a_nested_task_is_killed": Case(NESTED, WORKER, r"1 task inner failed: its process died"),
    "the_program_kills_an_actor": Case(
        KILLED_BY_PROGRAM, PROGRAM, r"1 actor Actor died: the program killed it with ray\.kill"
    ),
    "a_task_is_canceled": Case(CANCELED, PROGRAM, r"1 task task failed: it was canceled"),
    "an_environment_of_a_task": Case(
        ENVIRONMENT_OF_TASK,
        (FailureKind.RUNTIME_ENV,),
        r"1 task task failed: its runtime environment could not be set up",
    ),
    "a_retry_succeeds": Case(RETRIED, PROGRAM),
    "the_program_handles_it": Case(
        HANDLED, PROGRAM, r"1 task task failed: its process died, and Ray does not know why"
    ),
    "a_placement_group": Case(UNPLACEABLE, (None,)),
    LOST: Case(LOST_OBJECT, (None,)),
}
ON_NODES: dict[str, Case] = {
    "a_node_of_a_task": Case(
        TASK.format(options=ON_DOOMED, body=WAIT), LOST_NODE, r"1 node was lost|its node was lost"
    ),
    "a_node_of_an_actor": Case(
        ACTOR.format(options=ON_DOOMED, body=WAIT), LOST_NODE, r"1 actor Actor (?:died|did not answer)"
    ),
    "a_task_in_little_memory": Case(
        TASK.format(options=ON_SMALL, body=WAIT),
        MEMORY,
        r"1 task task failed: its node was low on memory, and Ray killed the process \([\d.]+ of [\d.]+ GB in use\)",
    ),
    "an_actor_in_little_memory": Case(
        ACTOR.format(options=ON_SMALL, body=WAIT),
        MEMORY,
        r"1 actor Actor died: its node was low on memory.* GB in use\); 1 of its calls failed",
    ),
}
COMMAND = "a_node_of_the_command"
CASES = {**ON_HEAD_ONLY, **ON_NODES, COMMAND: Case("", LOST_NODE, r"1 node was lost")}
WAITING = [name for name in (*ON_NODES, COMMAND) if "a_node" in name]
AGENTS = {
    "exits": "did not connect to Ray",
    "a_task_raises": "1 task task failed: ValueError: wrong",
    "an_actor_exits": "1 actor Actor died: its process ended with exit code 3; 1 of its calls failed",
    "a_task_is_killed": "1 task task failed: its process died, and Ray does not know why",
    "an_actor_is_killed": "1 actor Actor died: its process died, and Ray does not know why; 1 of its calls failed",
}
"""Those that are also run by the local agent, which tells of tasks and nodes only, and what it tells."""


class Told(NamedTuple):
    job: dict[str, Any]
    explanation: Explanation


class RecordingClient(blocking.BlockingServiceClient):
    """Keeps the answers for unit tests."""

    recorder = Recorder()

    async def _send_once(self, call: Call, attempt: int) -> Any:
        try:
            answer = await super()._send_once(replace(call, read_timeout=PATIENCE), attempt)
        except RayAgentError as error:
            self.recorder.note(call, error)
            raise
        self.recorder.note(call, answer)
        return answer


@pytest.fixture(scope="module")
def told_by_agent(agent: LocalAgent, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """What is said about jobs of the local agent after their end."""
    folder = tmp_path_factory.mktemp("failures")
    programs = {name: ON_HEAD_ONLY[name].program for name in AGENTS}
    jobs = {name: agent.submit(command) for name, command in commands(folder, programs).items()}
    environment = {"working_dir": "https://127.0.0.1:1/nothing.zip"}
    jobs[ENVIRONMENT] = agent.submit("true", runtime_env=environment)
    config = read_config(host=agent.url, token=agent.token, extra={})
    return {name: told(config, agent.wait(job_id), AGENTS.get(name, "")) for name, job_id in jobs.items()}


@pytest.fixture(scope="module", params=["newest", "oldest"])
def told_by_ray(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[dict[str, Told]]:
    """What is said about jobs of a plain Ray after their end."""
    folder = tmp_path_factory.mktemp("failures")
    oldest = request.param == "oldest"
    python = interpreter("RAYAGENT_OLDEST_RAY_PYTHON", "ray") if oldest else sys.executable
    with ExitStack() as stack:
        ray = stack.enter_context(cluster(python=python))
        while oldest and not ray.survives_its_start():
            stack.close()
            ray = stack.enter_context(cluster(python=python))
        # One after the other: nodes that start at once choose the same names for their sockets.
        doomed = ray.add_node(DOOMED)
        ray.add_node(SMALL, LOW_ON_MEMORY)
        config = read_config(host=ray.dashboard_url, extra={"service": "ray"})
        record = request.config.getoption("--update-records")
        found = {}

        def look(name: str, job_id: str) -> None:
            RecordingClient.recorder.answers.clear()
            wait_for_end(ray, [job_id])
            job = ray.job(job_id)
            found[name] = told(config, job, CASES[name].told)
            if record:
                RecordingClient.recorder.store(f"{name}-{request.param}", job)

        programs = {name: case.program for name, case in CASES.items() if case.program}
        if oldest:
            # Ray 2.50 still finds the object.
            del programs[LOST]
        submitted = commands(folder, programs)
        waiting = {name: ray.submit(command) for name, command in submitted.items() if name in WAITING}
        command = f"touch {shlex.quote(str(folder / COMMAND))} && sleep 3600"
        waiting[COMMAND] = ray.submit(command, entrypoint_resources={"doomed": 0.1})
        wait_until(lambda: all((folder / name).exists() for name in WAITING) or None, "not all jobs wait")
        # One after the other, as a task does: the look is right after the end.
        for name, command in submitted.items():
            if name not in WAITING:
                look(name, ray.submit(command))
        kill_node(doomed)
        for name, job_id in waiting.items():
            look(name, job_id)
        yield found


def told(config: ServiceConfig, job: dict[str, Any], words: str = "") -> Told:
    """Return what is said about a job, as soon as it has these words: a regular expression.

    On a busy machine, Ray's records come later than a task waits for them, and its answers too.
    """
    explanations: list[Explanation] = []

    def look() -> Told | None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blocking, "BlockingServiceClient", RecordingClient)
            patch.setattr(failed_job, "LOOK_SECONDS", PATIENCE)
            explanation = explain(job, "j1", look_at_failure(config, job), log_is_shown=True)
        explanations.append(explanation)
        return Told(job, explanation) if re.search(words, explanation.text) else None

    return wait_until(look, lambda: f"{words!r} is not said in:\n{explanations[-1].text}")


def kill_node(raylet: psutil.Process) -> None:
    """Kill a raylet and its workers; those that execute something would survive it."""
    for process in [raylet, *raylet.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def wait_for_end(ray: Cluster, job_ids: list[str]) -> None:
    wait_until(
        lambda: all(ray.job(job_id)["status"] in ("FAILED", "SUCCEEDED") for job_id in job_ids) or None,
        lambda: f"not all jobs end: {[ray.job(job_id) for job_id in job_ids]}",
    )


def commands(folder: Path, programs: Mapping[str, str]) -> dict[str, str]:
    """Return the commands of programs; those that are to die create a file with their name when they run."""
    found = {}
    for name, program in programs.items():
        script = folder / f"{name}.py"
        script.write_text(program, encoding="utf-8")
        found[name] = shlex.join(["python", str(script), str(folder / name)])
    return found


# A package that pip does not find has the same error type, but Ray clones its environment three times first.
ENVIRONMENT = "the working_dir cannot be downloaded"


@pytest.mark.parametrize("name", [*AGENTS, ENVIRONMENT])
def test_the_cause_of_a_failure_is_told_by_an_agent(name: str, told_by_agent: dict[str, Told]) -> None:
    kinds = CASES[name].kinds if name in CASES else (FailureKind.RUNTIME_ENV,)
    assert_told(name, told_by_agent[name], kinds)
    told_of = AGENTS.get(name)
    assert told_of is None or re.search(told_of, told_by_agent[name].explanation.text)


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_the_cause_of_a_failure_is_told_by_ray(name: str, told_by_ray: dict[str, Told]) -> None:
    if name not in told_by_ray:
        pytest.skip("does not fail with the oldest Ray")
    case, (_, explanation) = CASES[name], told_by_ray[name]
    assert_told(name, told_by_ray[name], case.kinds)
    lines = explanation.text.split("\n")
    if case.told:
        assert any(re.match(f"  {case.told}", line) for line in lines), explanation.text
    else:
        assert "What Ray recorded:" not in lines, explanation.text
        assert any(line.startswith("Ray recorded no ") for line in lines), explanation.text
    assert case.lines in explanation.text


def assert_told(name: str, found: Told, kinds: tuple[FailureKind | None, ...]) -> None:
    job, explanation = found
    figure(f"{name}: {job['error_type']}, exit code {job['driver_exit_code']}\n{explanation.text}")
    assert job["status"] == "FAILED"
    assert explanation.kind in kinds, job["message"]
    if explanation.kind is not None:
        begin = "The program failed" if FailureKind.PROGRAM in kinds else "Platform failure: "
        assert explanation.text.startswith(begin)
