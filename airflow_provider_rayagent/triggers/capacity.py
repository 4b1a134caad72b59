"""Trigger that waits until a cluster has enough free."""

from __future__ import annotations

from airflow_provider_rayagent.triggers.waiting_trigger import WaitTrigger
from airflow_provider_rayagent.waits.capacity_wait import CapacityWait

__all__ = ["RayAgentCapacityTrigger"]


class RayAgentCapacityTrigger(WaitTrigger):
    """Wait until the cluster has enough free, and fire one event.

    All arguments are JSON primitives, and none is a secret.

    .. code-block:: python

        from airflow.sdk import BaseOperator

        from airflow_provider_rayagent.triggers.capacity import RayAgentCapacityTrigger


        class WaitOperator(BaseOperator):
            def execute(self, context):
                trigger = RayAgentCapacityTrigger(num_gpus=8)
                self.defer(trigger=trigger, method_name="conclude")

            def conclude(self, context, event):
                if event["arrival"] != "reached":
                    raise RuntimeError(f"The GPUs are not free: {event}")

    :param num_gpus: GPUs; 0: not considered.
    :param num_cpus: CPUs; 0: not considered.
    :param memory_bytes: bytes of memory; 0: not considered.
    :param accelerator_type: type of the accelerator of the nodes that count; ``None``: all nodes.
    :param on_one_node: whether one node must have all of it.
    :param wait_for_scale_up: wait even for more than the nodes have in total.
    :param rayagent_conn_id: the Airflow connection of the agent.
    :param cluster: the cluster in the URL of the connection; ``None``: it has none.
    :param poll_interval: seconds between two requests.
    :param agent_unreachable_timeout: seconds for which the requests may fail.
    :param deadline: time (seconds since the epoch) at which to give up, after a last request; ``None``: never.
    """

    wait_type = CapacityWait
