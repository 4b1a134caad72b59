"""The RayJob of one task: find it, create it, delete it. Blocks."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentConnectionError, RayAgentError, RayAgentInputError
from airflow_provider_rayagent.exceptions import RayAgentJobNotStartedError
from airflow_provider_rayagent.kuberay.manifest import SPEC_HASH, TASK
from airflow_provider_rayagent.kuberay.rayjob_state import Phase
from airflow_provider_rayagent.services.validation import shown
from airflow_provider_rayagent.text.codes import Code, coded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.kuberay.kubernetes_api import KubernetesApi
    from airflow_provider_rayagent.kuberay.rayjob_state import RayJob

DELETION_SECONDS = 1.0
"""Seconds between two looks at a RayJob that is being deleted; its pods take some ten seconds."""


@dataclass(frozen=True)
class ClusterReference:
    """Which RayJob a task has; JSON primitives, none of them a secret.

    :param uid: of the RayJob. Its name alone could be that of a later one.
    """

    kubernetes_conn_id: str
    namespace: str
    name: str
    uid: str

    @property
    def kubectl(self) -> str:
        """A command that shows the RayJob."""
        return f"kubectl -n {self.namespace} describe rayjob {self.name}"


class TaskCluster:
    """The RayJob of one task, under a name that is the same for all tries: Kubernetes lets only one exist.

    :param body: the RayJob to create.
    :param log: the task's logger.
    :param is_concluded: whether the task has stored the outcome of the RayJob with a uid, so that a later try needs
        another one.
    :param patiently: calls a function again while Kubernetes cannot be reached.
    :param raise_if_killed: raises :class:`RayAgentError` if the task was killed.
    """

    def __init__(
        self,
        api: KubernetesApi,
        body: Mapping[str, Any],
        log: Any,
        *,
        start_timeout: float,
        is_concluded: Callable[[str], bool],
        patiently: Callable[[Callable[[], RayJob]], RayJob],
        raise_if_killed: Callable[[], object],
    ) -> None:
        self._api = api
        self._body = body
        self._log = log
        self._start_timeout = start_timeout
        self._is_concluded = is_concluded
        self._patiently = patiently
        self._raise_if_killed = raise_if_killed
        self.name: str = body["metadata"]["name"]
        self._annotations: Mapping[str, str] = body["metadata"]["annotations"]

    def reference(self, rayjob: RayJob) -> ClusterReference:
        """Return what another process needs to find the RayJob."""
        return ClusterReference(self._api.conn_id, self._api.namespace, self.name, rayjob.uid)

    def find_or_create(self) -> RayJob:
        """Return the RayJob for this try, which may have been created by an earlier one.

        :raises RayAgentError: if there can be none.
        """
        until = time.monotonic() + self._start_timeout
        deleted = waits_for = ""
        while True:
            self._raise_if_killed()
            rayjob = self._patiently(self._get_or_create)
            if rayjob.phase is not Phase.DELETING:
                why = self._why_replace(rayjob)
                if why is None:
                    return rayjob
                if deleted != rayjob.uid:
                    self._log.info("RayJob %s of this task %s; creating it anew.", self.name, why)
                    delete_cluster(self._api, self.reference(rayjob), self._log)
                    deleted = rayjob.uid
            elif waits_for != rayjob.uid:
                waits_for = rayjob.uid
                self._log.info("RayJob %s was deleted; waiting until its pods are gone.", self.name)
            if time.monotonic() >= until:
                raise RayAgentJobNotStartedError(
                    f"RayJob {self.name} was deleted, but still exists after the start_timeout of "
                    f"{self._start_timeout:g} seconds. See {self.reference(rayjob).kubectl}, and whether its pods end."
                )
            time.sleep(DELETION_SECONDS)

    def _get_or_create(self) -> RayJob:
        rayjob = self._api.get(self.name)
        if rayjob is None:
            rayjob = self._api.create(self._body)
            if rayjob is None:
                # Created a moment ago, by a worker that is believed dead; or an answer was lost, and this is ours.
                raise RayAgentConnectionError(f"RayJob {self.name} was just created or deleted.", code=Code.KUBERNETES)
            self._log.info("Created RayJob %s for this task: %s", self.name, self.reference(rayjob).kubectl)
        self._check_owner(rayjob)
        return rayjob

    def _check_owner(self, rayjob: RayJob) -> None:
        if rayjob.task != json.loads(self._annotations[TASK]):
            whose = shown(rayjob.task) if rayjob.task else "it has no annotation of this package"
            raise RayAgentInputError(
                f"RayJob {self.name} already exists and is not this task's: {whose}. Set "
                "a job_id that is unique per run, or delete the RayJob.",
                code=Code.JOB_ID_TAKEN,
            )

    def _why_replace(self, rayjob: RayJob) -> str | None:
        """Return why this try needs another RayJob, as a predicate; ``None`` if it does not."""
        if self._is_concluded(rayjob.uid):
            return "is that of an earlier try"
        if rayjob.phase is Phase.INVALID:
            return "was rejected by KubeRay"
        if rayjob.phase is Phase.ENDED and rayjob.job_status not in ("SUCCEEDED", "FAILED", "STOPPED"):
            return f"has ended ({rayjob.reason or 'for an unknown reason'})"
        # KubeRay has not seen a job in it.
        if not rayjob.job_status and rayjob.spec_hash != self._annotations[SPEC_HASH]:
            return "has another specification"
        return None


def delete_cluster(api: KubernetesApi, reference: ClusterReference, log: Any) -> None:
    """Delete a RayJob and its cluster. A failure is logged, not raised: KubeRay ends the cluster later."""
    try:
        is_deleted = api.delete(reference.name, reference.uid)
    except RayAgentError as error:
        text = "RayJob %s could not be deleted, so its cluster runs until KubeRay ends it: %s"
        log.warning(coded(Code.CLUSTER_NOT_DELETED, text), reference.name, error.detail)
        return
    if is_deleted:
        log.info("Deleted RayJob %s; its cluster ends now.", reference.name)
    else:
        log.info("RayJob %s of this task no longer exists.", reference.name)
