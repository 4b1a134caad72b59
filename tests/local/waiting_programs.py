"""Jobs that wait on a real Ray, each for another reason, and what the provider says of it."""

from __future__ import annotations

from typing import Any, NamedTuple

NODES = ({"a": 1, "slot": 2, "once": 1}, {"b": 1, "slot": 2})
"""The resources of the nodes beside the head, which has 4 CPUs."""
HELD_CPUS = 3
"""CPUs that a job holds while all others wait."""
SLOW_PIP = "the URL of a package index that never responds"
IMPORTS = """
import pathlib, sys, time, ray
from ray.util.placement_group import placement_group
ray.init(log_to_driver=False)
"""
TASKS = """
@ray.remote({options})
def load_block(number): time.sleep(0.1)
ray.get([load_block.remote(number) for number in range({count})])
"""
GROUP = """
group = placement_group({bundles}, strategy="{strategy}", name="{name}")
group.wait(3600)
"""


class Case(NamedTuple):
    """A job that waits.

    :param told: a regular expression for what is said; empty: nothing is.
    :param program: empty: a command that sleeps, in a job that has not started. A program of which nothing is said
        creates the file that its argument names once it has begun.
    :param submission: fields of Ray's submit call.
    """

    told: str
    program: str = ""
    submission: dict[str, Any] = {}  # noqa: RUF012


def environment(name: str) -> dict[str, Any]:
    """Return a runtime environment that is never set up; of another name, it is another one."""
    # Nodes of one machine share the folder of an environment.
    return {"pip": {"packages": [f"rayagent-{name}"], "pip_install_options": ["--index-url", SLOW_PIP]}}


CASES: dict[str, Case] = {
    "a_full_cluster": Case(
        r"it requires 3 CPUs; free: 1 of 4 CPUs, held by holder \(3 CPUs\)$", submission={"entrypoint_num_cpus": 3}
    ),
    "a_resource_that_no_node_has": Case(
        "it requires 1 unicorn; no node has any unicorn$", submission={"entrypoint_resources": {"unicorn": 1}}
    ),
    "more_than_any_node_has": Case(
        "it requires 300 CPUs; no node has more than 4 CPUs$", submission={"entrypoint_num_cpus": 300}
    ),
    "no_node_has_both": Case(
        "it requires 1 CPU and 1 slot; no node has all of that$",
        submission={"entrypoint_num_cpus": 1, "entrypoint_resources": {"slot": 1}},
    ),
    "the_environment_of_a_job": Case(
        "its runtime environment is being set up on node 127.0.0.1$",
        submission={"runtime_env": environment("job"), "entrypoint_resources": {"b": 0.1}},
    ),
    "tasks_on_a_full_cluster": Case(
        r"5 tasks load_block require 3 CPUs each; free: 1 of 4 CPUs, held by holder \(3 CPUs\)$",
        TASKS.format(options="num_cpus=3", count=5),
    ),
    "a_resource_that_the_command_reserves": Case(
        r"1 task load_block requires 1 once; free: 0 of 1 once, held by this job's own command "
        r"\(1 once, reserved by entrypoint_resources\)$",
        TASKS.format(options="num_cpus=0, resources={'once': 1}", count=1),
        submission={"entrypoint_resources": {"once": 1}},
    ),
    "an_actor_without_its_gpu": Case(
        r"1 actor Trainer requires 1 CPU and 1 GPU; no node has any GPU$",
        """
@ray.remote(num_gpus=1)
class Trainer:
    def train(self): pass
ray.get(Trainer.remote().train.remote())
""",
    ),
    "a_label_that_no_node_has": Case(
        "1 task load_block requires a node with the label zone=us-west; no node has it$",
        TASKS.format(options="num_cpus=0, label_selector={'zone': 'us-west'}", count=1),
    ),
    "the_environment_of_a_task": Case(
        "the runtime environment of 1 task load_block is being set up on node 127.0.0.1$",
        TASKS.format(options=f"num_cpus=0, resources={{'b': 0.1}}, runtime_env={environment('task')}", count=1),
    ),
    "bundles_on_too_few_nodes": Case(
        r"its placement group shards requires 3 x \{1 slot\} on different nodes \(STRICT_SPREAD\); "
        "only 2 nodes can hold one of them$",
        GROUP.format(bundles=[{"slot": 1}] * 3, strategy="STRICT_SPREAD", name="shards"),
    ),
    "bundles_for_one_node": Case(
        r"its placement group pair requires 4 x \{1 slot\} on one node \(STRICT_PACK\); "
        "no node has more than 2 slot$",
        GROUP.format(bundles=[{"slot": 1}] * 4, strategy="STRICT_PACK", name="pair"),
    ),
    "bundles_on_a_full_cluster": Case(
        r"its placement group workers requires 2 x \{2 CPUs\}; free: 1 of 4 CPUs, held by holder \(3 CPUs\)$",
        GROUP.format(bundles=[{"CPU": 2}] * 2, strategy="PACK", name="workers"),
    ),
    # Nothing is said of these: they are healthy.
    "a_task_that_waits_for_another": Case(
        "",
        """
@ray.remote(num_cpus=0)
def first(started):
    pathlib.Path(started).touch()
    time.sleep(3600)
@ray.remote(num_cpus=0)
def second(value): pass
ray.get(second.remote(first.remote(sys.argv[1])))
""",
    ),
    "more_tasks_than_slots": Case(
        "",
        """
@ray.remote(num_cpus=0, resources={"a": 0.9})
def shard(number, started):
    pathlib.Path(started).touch()
    time.sleep(3600)
ray.get([shard.remote(number, sys.argv[1]) for number in range(10)])
""",
    ),
    "a_program_that_calculates_itself": Case("", "pathlib.Path(sys.argv[1]).touch(); time.sleep(3600)"),
}
