"""The sensor for free resources of a cluster; its public name is in ``sensors.rayagent``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.exceptions import RayAgentWaitTimeoutError
from airflow_provider_rayagent.sensors.waiting_sensor import WaitingSensor
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.text.storable import storable
from airflow_provider_rayagent.waits.waiting import WaitResult

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_provider_rayagent.triggers.waiting_trigger import WaitTrigger
    from airflow_provider_rayagent.waits.capacity_wait import CapacityOutcome, CapacityWait


# The type is a string, so that a DAG file with another sensor does not import the rules of this wait.
class RayAgentCapacitySensor(WaitingSensor["CapacityOutcome"]):
    """Wait until a Ray cluster has CPUs, GPUs or memory free, all of them at once. Nothing is reserved.

    The task fails with :class:`RayAgentResourcesError` if its live nodes do not have that much at all, free or in use.

    XCom (``return_value``): ``free``, the amounts that were free by the names of the arguments that are set;
    ``node_id`` and ``node_ip`` of the node that has them, ``None`` without ``on_one_node``.

    .. code-block:: python

        from airflow_provider_rayagent.sensors.rayagent import RayAgentCapacitySensor

        wait = RayAgentCapacitySensor(task_id="wait", num_gpus=8, accelerator_type="A100", mode="reschedule")

    :param num_gpus: GPUs; 0: not considered.
    :param num_cpus: CPUs; 0: not considered.
    :param memory_bytes: bytes of memory; 0: not considered.
    :param accelerator_type: count only nodes with this accelerator, as Ray names it, such as ``A100``. (templated)
    :param on_one_node: whether one node must have all of it free, as the entrypoint of a job requires. By default the
        sum over the nodes counts, as for a training with many workers.
    :param wait_for_scale_up: wait even for more than the live nodes have; the cluster may add some.
    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param cluster: the value for the placeholder ``{cluster}`` in the URL of the connection. (templated)
    :param poke_interval: seconds between two requests; with ``mode="reschedule"`` at least 10.
    :param agent_unreachable_timeout: seconds for which the requests may fail.
    :param deferrable: wait in the triggerer, without a worker slot; default: ``[operators] default_deferrable``.
        ``mode`` then has no effect.

    ``timeout``, ``soft_fail``, ``mode`` and the other arguments are those of Airflow's ``BaseSensorOperator``.
    """

    template_fields: Sequence[str] = ("accelerator_type", "rayagent_conn_id", "cluster")
    ui_color = "#d9edf7"

    def __init__(
        self,
        *,
        num_gpus: float = 0.0,
        num_cpus: float = 0.0,
        memory_bytes: int = 0,
        accelerator_type: str | None = None,
        on_one_node: bool = False,
        wait_for_scale_up: bool = False,
        poke_interval: timedelta | float = 15.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.num_gpus = num_gpus
        self.num_cpus = num_cpus
        self.memory_bytes = memory_bytes
        self.accelerator_type = accelerator_type
        self.on_one_node = on_one_node
        self.wait_for_scale_up = wait_for_scale_up
        # The type of accelerator may be a template, so execute() checks it.
        self._check_arguments(None)

    def execute(self, context: Context) -> Any:
        """Wait until enough is free, here or deferred."""
        self._check_arguments(self.accelerator_type)
        return super().execute(context)

    def _check_arguments(self, accelerator_type: str | None) -> None:
        from airflow_provider_rayagent.waits.capacity_wait import Requirement

        Requirement(self.num_gpus, self.num_cpus, self.memory_bytes, accelerator_type, self.on_one_node)

    def _make_wait(self, poll_interval: float) -> CapacityWait:
        from airflow_provider_rayagent.waits.capacity_wait import CapacityWait

        return CapacityWait(
            num_gpus=self.num_gpus,
            num_cpus=self.num_cpus,
            memory_bytes=self.memory_bytes,
            accelerator_type=self.accelerator_type,
            on_one_node=self.on_one_node,
            wait_for_scale_up=self.wait_for_scale_up,
            agent_unreachable_timeout=self.agent_unreachable_timeout,
            poll_interval=poll_interval,
        )

    def _trigger_type(self) -> type[WaitTrigger]:
        from airflow_provider_rayagent.triggers.capacity import RayAgentCapacityTrigger

        return RayAgentCapacityTrigger

    def _conclude(self, outcome: CapacityOutcome) -> dict[str, Any]:
        if outcome.result is WaitResult.REACHED and outcome.summary:
            result: dict[str, Any] = storable({name: outcome.summary[name] for name in ("free", "node_id", "node_ip")})
            return result
        if outcome.result is WaitResult.TIMED_OUT:
            last = f"Last error: {outcome.error.detail}" if outcome.error else outcome.status
            raise RayAgentWaitTimeoutError(
                f"The cluster did not have enough free within the timeout of {self._time_limit():g} seconds. {last}",
                code=Code.CAPACITY_TIMED_OUT,
            )
        raise outcome.error or RayAgentError("Could not read what the cluster has free.")
