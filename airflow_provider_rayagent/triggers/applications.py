"""Trigger that waits for a Serve application."""

from __future__ import annotations

from airflow_provider_rayagent.triggers.waiting_trigger import WaitTrigger
from airflow_provider_rayagent.waits.application_wait import ApplicationWait

__all__ = ["RayAgentServeApplicationTrigger"]


class RayAgentServeApplicationTrigger(WaitTrigger):
    """Wait until a Serve application is RUNNING or gone, and fire one event.

    All arguments are JSON primitives, and none is a secret.

    .. code-block:: python

        from airflow.sdk import BaseOperator

        from airflow_provider_rayagent.triggers.applications import RayAgentServeApplicationTrigger


        class WaitOperator(BaseOperator):
            def execute(self, context):
                trigger = RayAgentServeApplicationTrigger(name="chat")
                self.defer(trigger=trigger, method_name="conclude")

            def conclude(self, context, event):
                if event["arrival"] != "reached":
                    raise RuntimeError(f"The application is not RUNNING: {event}")

    :param name: name of the application.
    :param rayagent_conn_id: the Airflow connection of the agent.
    :param cluster: the cluster in the URL of the connection; ``None``: it has none.
    :param target: ``running`` or ``gone``.
    :param poll_interval: seconds between two status checks.
    :param grace_period: seconds for which the application may be DEPLOY_FAILED or UNHEALTHY.
    :param agent_unreachable_timeout: seconds for which its status may be unavailable.
    :param deployed_after: time (seconds since the epoch) of which an earlier deployment does not count; ``None``: every
        deployment counts.
    :param deadline: time (seconds since the epoch) at which to give up, after a last status check; ``None``: never.
    """

    wait_type = ApplicationWait
