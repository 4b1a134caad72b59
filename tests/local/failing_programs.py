"""Programs that fail on a real Ray, each for another reason, and what the provider says of it."""

from __future__ import annotations

from typing import NamedTuple

from airflow_provider_rayagent.failures.failure_kinds import FailureKind

DOOMED, SMALL = {"doomed": 1}, {"small": 1}
"""The resources of the node that dies, whose disk counts as full, and of the one that is always low on memory."""
FULL_DISK = {"RAY_local_fs_capacity_threshold": "0.0001"}
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
    try:
        ray.get(inner.remote())
    finally:
        time.sleep(5)
ray.get(outer.remote())
"""
"""The worker of the outer task sends what it knows of the inner one once a second, and dies with the program."""
STORE_IN_FULL_DISK = "kept = [ray.put(bytes(30_000_000)) for _ in range(10)]"
"""More than the object store of a node has."""
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
}
ON_NODES: dict[str, Case] = {
    LOST: Case(LOST_OBJECT, (None,)),
    "a_node_of_a_task": Case(
        TASK.format(options=ON_DOOMED, body=WAIT), LOST_NODE, r"1 node was lost|its node was lost"
    ),
    "a_node_of_an_actor": Case(
        ACTOR.format(options=ON_DOOMED, body=WAIT), LOST_NODE, r"1 actor Actor (?:died|did not answer)"
    ),
    "an_object_store_is_full": Case(
        TASK.format(options=ON_DOOMED, body=STORE_IN_FULL_DISK),
        (FailureKind.STORAGE_FULL,),
        r"1 task task failed: ray\.exceptions\.OutOfDiskError",
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
