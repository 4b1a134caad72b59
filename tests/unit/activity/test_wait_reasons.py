"""Why jobs, tasks, actors and placement groups wait, by records as Ray makes them, and by odd ones."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.activity.cluster_view import ClusterView
from airflow_provider_rayagent.activity.demands import Demand, demand_of_job, waiting_demands
from airflow_provider_rayagent.activity.holders import holdings, shown_holders
from airflow_provider_rayagent.activity.wait_reasons import reason_of_demand, reason_of_group
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.services.ray_responses import ClusterStatus, cluster_status
from airflow_provider_rayagent.text.amounts import shown_resources
from tests.unit.services.test_foreign_shapes import MISSING, changes
from tests.wait_records import FOLDER, reason_with

if TYPE_CHECKING:
    from collections.abc import Sequence

NODES: list[dict[str, Any]] = [
    {
        "node_id": name,
        "node_ip": f"10.0.0.{number}",
        "state": "ALIVE",
        "resources_total": {"CPU": 8.0, "my_Res_x": 2.0, "memory": 2.0**33},
        "labels": {"zone": zone},
    }
    for number, (name, zone) in enumerate([("a", "east"), ("b", "west")], 1)
]
USAGE = {name: {"CPU": [7.0, 8.0], "myResX": [2.0, 2.0], "memory": [0.0, 2.0**33]} for name in "ab"}
BUNDLES = [{"bundle_id": {"bundle_index": index}, "unit_resources": {"CPU": 1.0}} for index in range(3)]


def view(groups: Sequence[dict[str, Any]] = (), **status: Any) -> ClusterView:
    return ClusterView(NODES, ClusterStatus(**{"usage": USAGE, **status}), groups)


def told(resources: dict[str, float], cluster: ClusterView | None = None, count: int = 1, **columns: Any) -> str:
    """Return what is told of tasks with these columns."""
    row = {"name": "f", "state": "PENDING_NODE_ASSIGNMENT", "required_resources": resources, **columns}
    ((demand, found),) = waiting_demands([row] * count).items()
    assert found == count
    reason = reason_of_demand(demand, str(count), cluster or view(), (), str)
    return reason.text if reason else ""


@pytest.mark.parametrize(
    ("resources", "text"),
    [
        ({"CPU": 2}, "1 task f requires 2 CPUs; free: 2 of 16 CPUs, at most 1 on one node"),
        ({"CPU": 1}, ""),
        ({"CPU": 0.5}, ""),
        ({"CPU": 9}, "1 task f requires 9 CPUs; no node has more than 8 CPUs"),
        (
            {"CPU": 2, "my_Res_x": 1},
            "1 task f requires 2 CPUs and 1 my_Res_x; free: 2 of 16 CPUs, at most 1 on one node and 0 of 4 my_Res_x",
        ),
        ({"my_Res_x": 1}, "1 task f requires 1 my_Res_x; free: 0 of 4 my_Res_x"),
        ({"GPU": 1, "CPU": 1}, "1 task f requires 1 CPU and 1 GPU; no node has any GPU"),
        ({"memory": 2**30 * 16}, "1 task f requires 16 GiB of memory; no node has more than 8 GiB of memory"),
        (
            {"accelerator_type:A100": 0.001},
            "1 task f requires accelerator type A100; no node has accelerator type A100",
        ),
        ({"node:10.0.0.9": 0.01}, "1 task f requires node 10.0.0.9; no node has node 10.0.0.9"),
        ({}, ""),
    ],
)
def test_what_is_in_the_way_of_resources_is_told(resources: dict[str, float], text: str) -> None:
    assert told(resources) == text


@pytest.mark.parametrize(
    ("wanted", "exists"),
    [
        *[(wanted, True) for wanted in ("east", "in(east, north)", "!north", "!in(north)", "!east")],
        *[(wanted, False) for wanted in ("north", "in(north, south)", "!in(east,west)")],
    ],
)
def test_selectors_of_labels_are_understood(wanted: str, exists: bool) -> None:
    text = told({"CPU": 1}, label_selector={"zone": wanted})
    expected = f"1 task f requires 1 CPU on a node with the label zone={wanted}; no node has it"
    assert text == ("" if exists else expected)
    # Other nodes may do as well.
    assert told({"CPU": 1}, label_selector={"zone": wanted}, fallback_strategy={"options": [{}]}) == ""


def test_a_label_narrows_what_is_free() -> None:
    text = told({"CPU": 2}, label_selector={"zone": "east"}, count=2)
    assert text == "2 tasks f require 2 CPUs on a node with the label zone=east each; free: 1 of 8 CPUs"


def test_the_second_autoscaler_does_not_tell_what_is_free() -> None:
    cluster = ClusterView(NODES, cluster_status({"data": {"clusterStatus": None}}))
    assert told({"CPU": 2}, cluster) == "1 task f requires 2 CPUs; Ray does not tell what is free"
    assert told({"CPU": 9}, cluster) == "1 task f requires 9 CPUs; no node has more than 8 CPUs"


@pytest.mark.parametrize(("report", "nodes"), [({"pendingNodes": [["10.0.0.3", "gpu", "setting-up"]]}, "1 node"), (
    {"pendingNodes": [], "pendingLaunches": {"gpu": 2}}, "2 nodes"
)])  # fmt: skip
def test_nodes_that_the_autoscaler_adds_are_told(report: dict[str, Any], nodes: str) -> None:
    status = cluster_status(
        {"data": {"clusterStatus": {"loadMetricsReport": {"usageByNode": USAGE}, "autoscalerReport": report}}}
    )
    text = told({"CPU": 9}, ClusterView(NODES, status))
    assert text.endswith(f"; no node has more than 8 CPUs; the cluster autoscaler is starting {nodes}")


def test_no_reason_is_told_before_a_node_is_listed() -> None:
    assert told({"CPU": 9}, ClusterView([], ClusterStatus())) == ""


@pytest.mark.parametrize(
    ("strategies", "shown"),
    [
        (["STRICT_SPREAD"], " on different nodes (STRICT_SPREAD); only 2 nodes can hold one of them"),
        (["STRICT_PACK"], " on one node (STRICT_PACK); free: 2 of 16 CPUs, at most 1 on one node"),
        (["PACK"], "; free: 2 of 16 CPUs, at most 1 on one node"),
        # There are two groups with these bundles: it may be either.
        (["PACK", "STRICT_SPREAD"], "; free: 2 of 16 CPUs, at most 1 on one node"),
        ([], "; free: 2 of 16 CPUs, at most 1 on one node"),
    ],
)
def test_the_strategy_of_a_placement_group_is_told_if_it_is_known(strategies: list[str], shown: str) -> None:
    demand = [[{"bundles": [[{"CPU": 1.0}, 3]], "strategy": each}, 1] for each in strategies]
    demand.append([{"bundles": [[{"CPU": 2.0}, 3]], "strategy": "SPREAD"}, 1])
    group = {"name": "g", "state": "PENDING", "bundles": BUNDLES}
    reason = reason_of_group(group, view([group] * len(strategies), group_demand=demand), str)
    assert reason is not None
    assert reason.text == f"its placement group g requires 3 x {{1 CPU}}{shown}"


def test_nodes_that_are_full_now_are_told_of_bundles_on_different_nodes() -> None:
    bundles = [{"unit_resources": {"my_Res_x": 1.0}}] * 2
    demand = [[{"bundles": [[{"my_Res_x": 1.0}, 2]], "strategy": "STRICT_SPREAD"}, 1]]
    group = {"bundles": bundles, "state": "PENDING"}
    reason = reason_of_group(group, view([group], group_demand=demand), str)
    assert reason is not None
    assert reason.text.endswith("(STRICT_SPREAD); only 0 nodes can hold one of them now")
    assert not reason.is_lasting


ACTORS = [
    {"class_name": "JobSupervisor", "name": "_ray_internal_job_actor_j1", "required_resources": {"CPU": 3.0}},
    {"class_name": "Trainer", "name": "", "job_id": "02", "required_resources": {"CPU": 2.0}},
    {"class_name": "Worker", "job_id": "03", "required_resources": {"CPU": 1.0}, "placement_group_id": "g"},
]
TASKS = [
    {"type": "NORMAL_TASK", "job_id": "05", "required_resources": {"CPU": 1.0}},
    {"type": "ACTOR_TASK", "job_id": "02", "required_resources": {"CPU": 1.0}},
]
GROUPS = [{"state": "CREATED", "creator_job_id": "03", "bundles": BUNDLES}, {"state": "PENDING", "bundles": BUNDLES}]
JOBS = [{"submission_id": "j2", "job_id": "02"}, {"submission_id": "j3", "job_id": "03"}, {"job_id": "05"}]


@pytest.mark.parametrize(
    ("used", "text"),
    [(9, ", held by j1 (3 CPUs), this job itself (3 CPUs), j2 (2 CPUs) and 1 more"), (9.5, "")],
)
def test_who_holds_the_rest_is_told_if_all_is_listed(used: float, text: str) -> None:
    held = holdings(JOBS, actors=ACTORS, tasks=TASKS, groups=GROUPS)
    assert shown_holders(held, "CPU", used, "j3") == text
    assert shown_holders(held, "GPU", 0.0, "j3") == ""


@pytest.mark.parametrize(
    ("resource", "amount", "shown", "argument"),
    [
        ("CPU", 3.0, "3 CPUs", "entrypoint_num_cpus"),
        ("GPU", 1.0, "1 GPU", "entrypoint_num_gpus"),
        ("memory", 2.0**31, "2 GiB of memory", "entrypoint_memory"),
        ("slot", 1.0, "1 slot", "entrypoint_resources"),
    ],
)
def test_what_the_command_of_the_job_reserves_is_told_apart(
    resource: str, amount: float, shown: str, argument: str
) -> None:
    actors = [{**ACTORS[0], "required_resources": {resource: amount}}]
    jobs = [{"submission_id": "j1", "job_id": "01"}]
    tasks = [{"type": "NORMAL_TASK", "job_id": "01", "required_resources": {resource: amount}}]
    held = holdings(jobs, actors=actors, tasks=tasks, groups=())
    own = f", held by this job's own command ({shown}, reserved by {argument}), this job itself ({shown})"
    assert shown_holders(held, resource, 2 * amount, "j1") == own
    of_another = shown_holders(held, resource, 2 * amount, "j2")
    assert re.fullmatch(r", held by j1 \([^,()]+\)", of_another)


def test_an_environment_that_needs_no_setup_is_not_looked_for() -> None:
    row = {"required_resources": {"CPU": 1.0}, "serialized_runtime_env": json.dumps({"env_vars": {"A": "b"}})}
    environment = {"runtime_env": {"env_vars": {"A": "b"}}, "success": None, "node_id": "a"}
    reason = reason_of_demand(demand_of_job(row), "1", view(), [environment], str)
    assert reason is not None
    assert reason.text == "it requires 1 CPU, which a node has free; Ray has not started it"
    assert reason.is_momentary


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({"zone": "moon"}, "it requires a node with the label zone=moon; no node has it"),
        # Where Ray starts a job that requires nothing.
        ({"ray.io/node-id": "a"}, "Ray has not started it"),
    ],
)
def test_a_job_that_requires_only_a_label_waits_for_that(selector: dict[str, str], text: str) -> None:
    row = {"required_resources": {}, "label_selector": selector}
    reason = reason_of_demand(demand_of_job(row), "1", view(), (), str)
    assert reason is not None
    assert reason.text == text


def test_no_resources_are_shown_as_nothing() -> None:
    assert shown_resources({}) == "nothing"
    assert Demand("task", needed='{"CPU": -1, "GPU": "x", "a": true}').resources == {}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*-newest.json")))
def test_odd_records_are_no_error(name: str) -> None:
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    answers = stored["answers"]
    for key, answer in answers.items():
        # The last row of each answer: all of them take a minute.
        rows = answer[-1:] if isinstance(answer, list) and key != "api/cluster_status" else answer
        for changed in changes(rows):
            # Anything but a list of rows is refused before.
            is_list = isinstance(changed, list) and all(isinstance(row, dict) for row in changed)
            if key == "api/cluster_status" or changed is MISSING or not is_list:
                continue
            try:
                odd = defaultdict(list, {**answers, key: [*answer[:-1], *changed]})
                reason = reason_with(stored["job_id"], stored["job"], odd)
            except RayAgentError:
                continue
            assert reason is None or isinstance(reason.text, str)


STATUS = {
    "loadMetricsReport": {
        "usageByNode": USAGE,
        "pgDemand": [[{"bundles": [[{"CPU": 1.0}, 3]], "strategy": "PACK"}, 1]],
    },
    "autoscalerReport": {"pendingNodes": [["a"]], "pendingLaunches": {"gpu": 1}},
}


@pytest.mark.parametrize("status", [*changes(STATUS)])
def test_an_odd_status_of_the_cluster_is_no_error(status: Any) -> None:
    try:
        cluster = ClusterView(NODES, cluster_status({"data": {"clusterStatus": status}}))
    except RayAgentError:
        return
    told({"CPU": 9}, cluster)
    reason_of_group({"bundles": BUNDLES, "state": "PENDING"}, cluster, str)
