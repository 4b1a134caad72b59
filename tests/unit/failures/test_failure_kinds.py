"""What caused the failure of a job, by what Ray 2.50 and 2.60 say about it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_rayagent.failures.failure_kinds import FailureKind, headline
from airflow_provider_rayagent.failures.job_message import kind_of_job

LAST_LINES = """\
  File "/venv/site-packages/ray/_private/worker.py", line 1055, in get_objects
    raise value
"""
RAISED_CAUSE = """\
  File "/venv/site-packages/ray/_private/worker.py", line 1053, in get_objects
    raise value.as_instanceof_cause()
"""
ACTOR_DIED = """\
ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.
\tclass_name: A
\tactor_id: 8b504aca7d6dfc1969a68e5008000000
\tpid: 9703
\tip: 127.0.0.1
"""
WORKER_CRASHED = (
    "ray.exceptions.WorkerCrashedError: The worker died unexpectedly while executing this task. Check "
    "python-core-worker-*.log files for more information.\n"
)
NODE_DIED = (
    "The actor died because its node has died. Node Id: bfc529514bb32c279f10ad55f9200b4f4ba0756ba53c1298cb03994c\n"
    "\tthe actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats\n"
)
KILLED = (
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "unexpectedly exits with a connection error code 2. End of file. "
)
KILLED_2_50 = KILLED + (
    "There are some potential root causes. (1) The process is killed by SIGKILL by OOM killer due to high memory "
    "usage. (2) ray stop --force is called. (3) The worker is crashed unexpectedly due to SIGSEGV or other "
    "unexpected errors.\n"
)
KILLED_2_60 = KILLED + (
    "Some common causes include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray stop "
    "--force was called, or (3) the worker crashed unexpectedly due to SIGSEGV or another unexpected error.\n"
)
EXITED = (
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "exits unexpectedly. Worker exits with an exit code 3.\n"
)
# Ray's text is longer than the lines that its message has: the exception itself is not among them.
LOW_ON_MEMORY = """\
7098\t0.10\tray::DashboardAgent
11102\t0.07\tray::JobSupervisor
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/en/latest/ray-observability/\
user-guides/debug-apps/debug-memory.html. Consider provisioning more memory on this node or reducing task parallelism \
by requesting more CPUs per task. Set max_retries to enable retry when the task crashes due to OOM.
"""
LOW_ON_MEMORY_2_50 = """\
16690\t0.08\t/venv/bin/python -u /venv/site-packages/ray/dashboard/a...
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/en/latest/ray-core/scheduling/\
ray-oom-prevention.html. Consider provisioning more memory on this node or reducing task parallelism by requesting \
more CPUs per task. Set max_retries to enable retry when the task crashes due to OOM.
"""
TASKS_NODE_2_50 = """\
ray.exceptions.NodeDiedError: Task failed due to the node (where this task was running)  was dead or unavailable.

The node IP: 127.0.0.1, node ID: 9629449f3f088caae3cbc44fe96462b82423d27251dd850d48abbe21

This can happen if the instance where the node was running failed, the node was preempted, or raylet crashed
"""
TASKS_NODE_2_60 = (
    "ray.exceptions.NodeDiedError: Task failed because the node it was running on is dead or unavailable. Node IP: "
    "127.0.0.1, node ID: 9629. This can happen if the node was preempted, had a hardware failure, or its raylet "
    "crashed unexpectedly.\n"
)
UNAVAILABLE = (
    "ray.exceptions.ActorUnavailableError: The actor 5e99b46d42873d438691ad4107000000 is unavailable: The actor is "
    "temporarily unavailable: RpcError: RPC error: Socket closed rpc_code: 14. The task may or may not have been "
    "executed on the actor.\n"
)
RAYLET_LOG = """\
\x1b[33m(raylet)\x1b[0m Raylet is terminated. Termination is unexpected. Last 20 lines of the Raylet logs:
    [2026-11-26 15:11:33,954 I 7075 7075] (raylet) worker_pool.cc:564: Started worker process with pid 11731
    [2026-11-26 15:11:34,105 I 7075 7075] (raylet) runtime_env_agent_client.cc:395: Create runtime env for job 01000000

\x1b[33m(raylet)\x1b[0m The node with node id: bfc5 has been marked dead because the detector has missed too many
"""
TASK_FAILED = f"""\
{RAISED_CAUSE}ray.exceptions.RayTaskError(ValueError): \x1b[36mray::f()\x1b[39m (pid=7469, ip=127.0.0.1)
  File "/jobs/task_exception.py", line 3, in f
    def f(): raise ValueError('boom')
             ^^^^^^^^^^^^^^^^^^^^^^^^
ValueError: boom
"""
NESTED = f"""\
{RAISED_CAUSE}ray.exceptions.RayTaskError(WorkerCrashedError): \x1b[36mray::g()\x1b[39m (pid=9966, ip=127.0.0.1)
  File "/jobs/nested.py", line 5, in g
    def g(): return ray.get(f.remote())
                    ^^^^^^^^^^^^^^^^^^^
{WORKER_CRASHED}"""
HANDLED = f"""\
{LAST_LINES}{WORKER_CRASHED}
The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/jobs/handled.py", line 6, in <module>
    except ray.exceptions.WorkerCrashedError as e: raise RuntimeError('mine') from e
                                                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
RuntimeError: mine
"""
CREATION = f"""\
{LAST_LINES}ray.exceptions.ActorDiedError: The actor died because of an error raised in its creation task, \
\x1b[36mray::A.__init__()\x1b[39m (pid=9754, ip=127.0.0.1, repr=<actor_init.A object at 0x7f8657dac350>)
  File "/jobs/actor_init.py", line 4, in __init__
    def __init__(self): raise ValueError('boom')
ValueError: boom
"""
WRAPPED = """
The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/jobs/train.py", line 9, in <module>
    trainer.fit()
  File "/venv/site-packages/ray/train/base_trainer.py", line 640, in fit
    raise TrainingFailedError(
ray.train.base_trainer.TrainingFailedError: The Ray Train run failed. Please inspect the previous error messages.
To continue this run, you can use: `trainer = TorchTrainer.restore("/results/x")`.
To start a new run that will retry on training failures, set `train.RunConfig(failure_config=...)`.
"""
DISK_FULL = """\
ray.exceptions.OutOfDiskError: Local disk is full
The object cannot be created because the local object store is full and the local disk's utilization is over capacity \
(95% by default).Tip: Use `df` on this node to check disk usage and `ray memory` to check object store memory usage.
"""
STORE_FULL = """\
ray.exceptions.ObjectStoreFullError: Failed to put object 00ffffffffffffffffffffffffffffffffffffff0100000001000000
The local object store is full of objects that are still in scope and cannot be evicted. Tip: Use the `ray memory` \
command to list active objects in the cluster.
"""
CORES_LINE = "[2026-11-26 15:11:33,954 E 7075 7075] core_worker.cc:2: The connection to the raylet was closed.\n"
TASKS_ENVIRONMENT = """\
  File "/venv/site-packages/requests/adapters.py", line 729, in send
    raise ConnectionError(e, request=request)
requests.exceptions.ConnectionError: HTTPSConnectionPool(host='127.0.0.1', port=1): Max retries exceeded
"""
PROGRAM, WORKER, NODE, MEMORY = (
    FailureKind.PROGRAM,
    FailureKind.WORKER_LOST,
    FailureKind.NODE_DIED,
    FailureKind.OUT_OF_MEMORY,
)
UNHANDLED: dict[str, tuple[str, FailureKind | None]] = {
    "its own": (
        "Traceback (most recent call last):\n  File 'x', line 1\n    1 / 0\nZeroDivisionError: zero\n",
        PROGRAM,
    ),
    "no exception": ("step 1\nexits\n", PROGRAM),
    "nothing": ("", PROGRAM),
    "of a task": (TASK_FAILED, PROGRAM),
    "of an actor's constructor": (CREATION, PROGRAM),
    "an actor that exited": (LAST_LINES + ACTOR_DIED + EXITED, PROGRAM),
    "another after Ray's": (HANDLED, PROGRAM),
    "of the GPU's memory": (LAST_LINES + "torch.OutOfMemoryError: CUDA out of memory.\n", PROGRAM),
    "a killed worker": (LAST_LINES + WORKER_CRASHED, WORKER),
    "a killed worker of a task of a task": (NESTED, WORKER),
    "a killed actor, Ray 2.50": (LAST_LINES + ACTOR_DIED + KILLED_2_50, WORKER),
    "a killed actor, Ray 2.60": (LAST_LINES + ACTOR_DIED + KILLED_2_60, WORKER),
    "an actor's node": (LAST_LINES + ACTOR_DIED + NODE_DIED, NODE),
    "an actor's node, without frames": (ACTOR_DIED + NODE_DIED + "The actor never ran - it was cancelled.\n", NODE),
    "a task's node, Ray 2.50": (LAST_LINES + TASKS_NODE_2_50, NODE),
    "a task's node, Ray 2.60": (LAST_LINES + TASKS_NODE_2_60, NODE),
    "an actor that is unreachable": (LAST_LINES + UNAVAILABLE, WORKER),
    "a raylet's lines after it": (LAST_LINES + WORKER_CRASHED + RAYLET_LOG, WORKER),
    "low on memory, Ray 2.50": (LOW_ON_MEMORY_2_50, MEMORY),
    "low on memory, Ray 2.60": (LOW_ON_MEMORY, MEMORY),
    "low on memory, first line": (
        LAST_LINES + "ray.exceptions.OutOfMemoryError: Task was killed due to the node\n",
        MEMORY,
    ),
    "a task's runtime environment": (LAST_LINES + "ray.exceptions.RuntimeEnvSetupError: x\n", FailureKind.RUNTIME_ENV),
    "a full disk": (LAST_LINES + DISK_FULL, FailureKind.STORAGE_FULL),
    "a full object store": (LAST_LINES + STORE_FULL, FailureKind.STORAGE_FULL),
    "only a raylet's lines": (RAYLET_LOG.split("\n", 1)[1], None),
    "a line of Ray's core after it": (LAST_LINES + WORKER_CRASHED + CORES_LINE, WORKER),
    # The program has handled it.
    "the program's lines after a task's node": (LAST_LINES + TASKS_NODE_2_50 + "Falling back to the CPU.\n", None),
    "the program's log after a killed worker": (
        LAST_LINES + WORKER_CRASHED + "2026-11-26 15:11:34,105\tERROR train.py:7 -- Gave up.\n",
        None,
    ),
    "the program's lines after an actor's node": (LAST_LINES + ACTOR_DIED + NODE_DIED + "No data left.\n", None),
    "the program's line about an actor": (
        LAST_LINES + ACTOR_DIED + NODE_DIED + "The actor loop failed: no data left.\n",
        None,
    ),
    "the program's lines after the killer's": (LOW_ON_MEMORY + "Gave up.\n", PROGRAM),
    "a test of the killer's text": (f"expected {LOW_ON_MEMORY.splitlines()[-1]}\n", PROGRAM),
    "a failed training, a task's node": (LAST_LINES + TASKS_NODE_2_60 + WRAPPED, NODE),
    "a failed training, an actor's node": (LAST_LINES + ACTOR_DIED + NODE_DIED + WRAPPED, NODE),
    "a failed training, the program": (TASK_FAILED + WRAPPED, PROGRAM),
    "a failed training, its cause is not available": (WRAPPED.split("\n\n", 1)[1], None),
    "a failed training, its cause is incomplete": ("\tthe actor's node was terminated\n" + WRAPPED, None),
    "a failed trial": (LAST_LINES + "ray.tune.error.TuneError: ('Trials did not complete', [f_1])\n", None),
    # Ray does not say who caused it.
    "a lost object": (LAST_LINES + "ray.exceptions.ObjectLostError: Failed to retrieve object\n", None),
    # Only the end of the inner error is in the message: it cannot be told from an error of the program.
    "a task's runtime environment, long": (TASKS_ENVIRONMENT, PROGRAM),
}
REPORTED: list[tuple[str, str, FailureKind | None]] = [
    ("RUNTIME_ENV_SETUP_FAILURE", "runtime_env setup failed: x", FailureKind.RUNTIME_ENV),
    (
        "JOB_SUPERVISOR_ACTOR_START_TIMEOUT",
        "Job supervisor actor failed to start within 900",
        FailureKind.START_TIMEOUT,
    ),
    ("JOB_SUPERVISOR_ACTOR_START_FAILURE", "failed to get job supervisor.", FailureKind.JOB_LOST),
    ("JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE", "could not be scheduled", FailureKind.RESOURCES),
    ("JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE", "Unexpected error occurred: x", FailureKind.JOB_LOST),
    (
        "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE",
        "Unexpected error occurred: 1 worker(s) were killed due to the node running low on memory. Memory on",
        MEMORY,
    ),
    ("JOB_SUPERVISOR_ACTOR_DIED", f"Job supervisor actor died: The actor died\n{NODE_DIED}", NODE),
    ("JOB_SUPERVISOR_ACTOR_DIED", f"Job supervisor actor died: The actor died\n{KILLED_2_50}", WORKER),
    ("JOB_SUPERVISOR_ACTOR_DIED", f"Job supervisor actor died: The actor died\n{KILLED_2_60}", WORKER),
    ("JOB_SUPERVISOR_ACTOR_DIED", f"Job supervisor actor died: The actor died\n{EXITED}", WORKER),
    ("JOB_ENTRYPOINT_COMMAND_START_ERROR", "Traceback (most recent call last):", FailureKind.JOB_LOST),
    ("OF_A_LATER_RAY", "x", None),
]


def command_failed(last_lines: str, code: int = 1) -> dict[str, Any]:
    message = (
        f"Job entrypoint command failed with exit code {code}, last available logs (truncated to 20,000 chars):\n"
        f"{last_lines}"
        if last_lines
        else f"Job entrypoint command failed with exit code {code}. No logs available."
    )
    return {
        "status": "FAILED",
        "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR",
        "driver_exit_code": code,
        "message": message,
    }


@pytest.mark.parametrize("name", UNHANDLED)
def test_the_exception_that_ended_the_program_tells_the_cause(name: str) -> None:
    last_lines, kind = UNHANDLED[name]
    assert kind_of_job(command_failed(last_lines)) is kind


def test_without_a_line_of_the_program_the_failure_is_the_programs() -> None:
    assert kind_of_job(command_failed("(f pid=1) a line of a worker\n" * 10)) is FailureKind.PROGRAM


@pytest.mark.parametrize("code", [2, 3, 127, 137, -9, 143])
def test_any_other_exit_code_is_the_programs(code: int) -> None:
    assert kind_of_job(command_failed(LAST_LINES + WORKER_CRASHED, code)) is FailureKind.PROGRAM


@pytest.mark.parametrize(("error_type", "message", "kind"), REPORTED)
def test_what_ray_reports_about_the_job_tells_the_cause(
    error_type: str, message: str, kind: FailureKind | None
) -> None:
    assert kind_of_job({"status": "FAILED", "error_type": error_type, "message": message}) is kind


@pytest.mark.parametrize("job", [{"status": "FAILED"}, {"status": "STOPPED"}, {"status": "EVICTED"}, {}])
def test_without_an_error_type_the_cause_is_unknown(job: dict[str, Any]) -> None:
    assert kind_of_job(job) is None


def test_every_kind_has_a_headline_of_its_own() -> None:
    lines = {headline(kind) for kind in FailureKind}
    assert len(lines) == len(FailureKind)
    assert [line for line in lines if not line.startswith("Platform failure: ")] == ["The program failed."]
    assert headline(FailureKind.PROGRAM, 3) == "The program failed: exit code 3."


def test_a_kind_is_shown_as_its_name() -> None:
    assert f"{FailureKind.NODE_DIED}" == str(FailureKind.NODE_DIED) == "node_died"
