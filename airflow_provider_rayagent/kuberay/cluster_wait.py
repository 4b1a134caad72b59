"""Wait until the cluster of a RayJob is ready: the effect of each phase, and when to give up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError, RayAgentError
from airflow_provider_rayagent.kuberay.rayjob_state import Phase
from airflow_provider_rayagent.kuberay.waiting_reasons import WaitingReason, waiting_reason
from airflow_provider_rayagent.services.validation import shown
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.text.sanitization import sanitize
from airflow_provider_rayagent.text.sentences import sentence
from airflow_provider_rayagent.waits.waiting import Wait, WaitOutcome, WaitResult

if TYPE_CHECKING:
    from airflow_provider_rayagent.kuberay.kubernetes_api import KubernetesApi
    from airflow_provider_rayagent.kuberay.rayjob_state import RayJob

READY = "ready"
MAX_MESSAGE = 500
POLL_SECONDS = 5.0

Found = tuple["RayJob | None", WaitingReason | None]


@dataclass(frozen=True)
class ClusterOutcome(WaitOutcome):
    """The outcome; ``summary`` has the ``phase`` of the RayJob and the ``reasons`` why it was not ready."""

    key = "cluster"
    trigger = "a RayAgentClusterTrigger"

    @property
    def status(self) -> str:
        """Why the cluster is not ready, or that it is; empty if there is nothing to say."""
        if self.result is WaitResult.REACHED:
            return READY
        reasons = (self.summary or {}).get("reasons")
        return str(reasons[-1]) if reasons else ""


@dataclass
class ClusterWait(Wait[ClusterOutcome]):
    """Wait until the cluster of a RayJob is ready, or its job has ended.

    :param name: of the RayJob.
    :param uid: of the RayJob, so that no other one counts.
    :param agent_unreachable_timeout: seconds for which requests to Kubernetes may fail.
    :param poll_interval: seconds between two requests.
    """

    name: str
    uid: str
    agent_unreachable_timeout: float = 300.0
    poll_interval: float = POLL_SECONDS
    outcome_type = ClusterOutcome
    _told: dict[str, str] = field(default_factory=dict, init=False)
    """The reasons so far, by key."""

    def describe(self, status: str) -> str:
        """Return a message about a new status."""
        if status == READY:
            return "The cluster is ready."
        return f"Waiting for the cluster of RayJob {self.name}{f': {status}' if status else ''}."

    async def _read(self, client: KubernetesApi) -> Found:
        rayjob = await client.ask(client.get, self.name)
        if rayjob is None or rayjob.uid != self.uid or rayjob.phase not in (Phase.STARTING, Phase.SUSPENDED):
            return rayjob, None
        try:
            pods = await client.ask(client.pods, rayjob.cluster_name) if rayjob.cluster_name else []
        except RayAgentError as error:
            # The cluster starts whether or not the pods can be read.
            return rayjob, waiting_reason(rayjob, ()) or WaitingReason(error.detail.rstrip("."), "pods")
        return rayjob, waiting_reason(rayjob, pods)

    def failed(self, error: RayAgentError, now: float) -> ClusterOutcome:
        """Process a failed request. Return the outcome so far."""
        self._told.setdefault("api", error.detail.rstrip("."))
        outcome = super().failed(error, now)
        summary = {"phase": None, **(outcome.summary or {}), "reasons": list(self._told.values())}
        return self._keep(replace(outcome, summary=summary))

    def _judge(self, found: Found, now: float) -> ClusterOutcome:  # noqa: ARG002
        rayjob, reason = found
        if reason is not None and reason.key not in self._told:
            self._told[reason.key] = sanitize(reason.text, length=MAX_MESSAGE)
        error = unusable(rayjob, self.name, self.uid)
        if error is None and reason is not None and reason.is_final:
            error = RayAgentConfigError(f"RayJob {self.name}: {sentence(reason.text)}", code=Code.CLUSTER_FAILED)
        result = None
        if error is not None:
            result = WaitResult.FAILED
        elif rayjob is not None and rayjob.phase in (Phase.READY, Phase.ENDED):
            result = WaitResult.REACHED
        phase = None if rayjob is None else rayjob.phase.value
        return ClusterOutcome(result, {"phase": phase, "reasons": list(self._told.values())}, error)


def unusable(rayjob: RayJob | None, name: str, uid: str) -> RayAgentError | None:
    """Return why the cluster of a RayJob will never be ready; ``None`` if it may be.

    :param rayjob: what was found under the name.
    :param uid: of the RayJob that the task has.
    """
    if rayjob is None:
        return _lost(f"RayJob {name} of this task no longer exists: somebody has deleted it, and with it its cluster.")
    if rayjob.uid != uid:
        return _lost(f"RayJob {name} of this task was deleted, and another one of this name exists.")
    if rayjob.phase is Phase.DELETING:
        return _lost(f"RayJob {name} of this task was deleted, and with it its cluster.")
    said = sanitize(rayjob.message, length=MAX_MESSAGE)
    if rayjob.phase is Phase.INVALID:
        return RayAgentConfigError(
            f"KubeRay rejects RayJob {name} (ValidationFailed): {sentence(said or 'it does not say why')}",
            code=Code.CLUSTER_FAILED,
        )
    if rayjob.phase is Phase.ENDED and not rayjob.job_status:
        return _lost(
            f"KubeRay has ended the cluster of RayJob {name} before the job was submitted: "
            f"{shown(rayjob.reason or 'unknown')}. {said}".rstrip()
        )
    return None


def _lost(text: str) -> RayAgentError:
    return RayAgentError(text, code=Code.CLUSTER_FAILED)
