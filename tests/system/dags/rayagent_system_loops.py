"""Loops whose iterations run plugins; without a DAG before Airflow 3.4, which has no loops."""

from __future__ import annotations

from typing import Any

from airflow import sdk
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task_group

from airflow_provider_rayagent.operators.rayagent import RayAgentRunPluginOperator

ARGUMENTS: dict[str, Any] = {"task_id": "run_plugin", "lookup": "train@1.0", "action": "train", "poll_interval": 1}
PLACES = {"in_worker": False, "deferred": True}


def train(epochs: str, seconds: float = 0.1) -> dict[str, object]:
    """Return the parameters of the plugin."""
    return {"epochs": epochs, "seconds": seconds}


def loop(body: Any, name: str, **options: Any) -> None:
    """Add a loop with two iterations at most."""
    repeated: Any = task_group(group_id=name)(body)
    repeated.loop(max_iterations=2, **options)


def add_loops() -> None:
    """Add loops that end by themselves, with other parameters in each iteration."""

    def good_enough(*, loop: Any) -> bool:
        return bool(loop.result["result"]["loss"] < 0.3)

    for name, deferrable in PLACES.items():

        def one(deferrable: bool = deferrable) -> None:
            RayAgentRunPluginOperator(**ARGUMENTS, action_params=train("{{ loop.index + 1 }}"), deferrable=deferrable)

        loop(one, name, until=good_enough)

    def mapped() -> None:
        parameters = [train(f"{{{{ loop.index + {least} }}}}") for least in (1, 3)]
        RayAgentRunPluginOperator.partial(**ARGUMENTS).expand(action_params=parameters)

    loop(mapped, "mapped")


def add_overlapping_loop(name: str) -> None:
    """Add a loop whose second iteration begins while the job of the first one runs."""

    def overlapping() -> None:
        ready = EmptyOperator(task_id="ready")
        parameters = train("10000", seconds=1)
        job = RayAgentRunPluginOperator(**ARGUMENTS, action_params=parameters, deferrable=PLACES[name], retries=0)
        [ready, job] >> EmptyOperator(task_id="end", trigger_rule="one_success")

    loop(overlapping, name)


if hasattr(sdk, "LoopDecision"):
    with DAG(dag_id="system_loop", schedule=None):
        add_loops()
    # One DAG for each, as the local agent lets three plugin jobs run at once and queues the others.
    for place in PLACES:
        with DAG(dag_id=f"system_loop_overlap_{place}", schedule=None):
            add_overlapping_loop(place)
