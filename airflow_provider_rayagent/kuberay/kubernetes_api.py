"""What a task asks of Kubernetes, by the hook and the connection of Airflow's own provider."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_rayagent.connection.service_clock import seconds_of_date
from airflow_provider_rayagent.errors.service_errors import (
    CONFLICT,
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentNotFoundError,
    RayAgentResponseError,
    RayAgentTimeoutError,
    for_status,
)
from airflow_provider_rayagent.kuberay.manifest import GROUP, PLURAL, VERSION
from airflow_provider_rayagent.kuberay.rayjob_state import RayJob
from airflow_provider_rayagent.services.validation import shown, validate_text
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.text.sanitization import sanitize, shown_error
from airflow_provider_rayagent.text.sentences import sentence
from airflow_provider_rayagent.transport import daemon_threads
from airflow_provider_rayagent.transport.failures import causes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

ResultT = TypeVar("ResultT")

EXTRA = "airflow-provider-rayagent[kuberay]"
TIMEOUTS = (3.0, 10.0)
"""Seconds to connect, and between two packets of an answer."""
MAX_SECONDS = 30.0
"""For one call as a whole, with the connection's credentials, which a plugin of the kubeconfig may fetch."""
MAX_PODS = 50
LOG_LINES = 30
MAX_LOG_BYTES = 20_000
MAX_WORDS = 400
ROLE = "rayjobs (ray.io): create, get, delete; pods: get, list; pods/log: get; secrets: get, if Ray has a token"
"""What the account needs."""

_loading = threading.Lock()


class KubernetesApi:
    """RayJobs and what belongs to them in one namespace. Each method is one request, which is not repeated, and blocks.

    :param conn_id: the Airflow connection of Kubernetes.
    :param namespace: ``None``: that of the connection, or else ``default``.
    :param is_in_loop: whether :meth:`ask` is called in an event loop.
    """

    def __init__(self, conn_id: str, namespace: str | None = None, *, is_in_loop: bool = False) -> None:
        self.conn_id = conn_id
        self._namespace = namespace
        self._is_in_loop = is_in_loop

    async def ask(self, method: Callable[..., ResultT], *args: Any) -> ResultT:
        """Call a method of this object; in an event loop, without blocking it."""
        if not self._is_in_loop:
            return method(*args)
        # A thread for each call: an executor would wait for a Kubernetes that hangs, and the triggers for that.
        return await asyncio.wrap_future(daemon_threads.start(lambda: method(*args)))

    @cached_property
    def namespace(self) -> str:
        """The namespace of all requests."""
        return self._namespace or self._request("read the connection", self._hook.get_namespace) or "default"

    def get(self, name: str) -> RayJob | None:
        """Return a RayJob, ``None`` if there is none of this name.

        :raises RayAgentError: if Kubernetes does not say.
        """
        try:
            return self._rayjob("get", name=name)
        except RayAgentNotFoundError as error:
            # Otherwise it is the kind, RayJob, that does not exist.
            if f'"{name}"' in error.detail:
                return None
            raise self._no_kuberay() from None

    def create(self, body: Mapping[str, Any]) -> RayJob | None:
        """Create a RayJob; return ``None`` if there is one of this name.

        :raises RayAgentError: if it was not created, or that is not known.
        """
        try:
            return self._rayjob("create", body=body)
        except RayAgentNotFoundError as error:
            if "namespaces" in error.detail:
                raise
            raise self._no_kuberay() from None
        except RayAgentError as error:
            if error.status_code == CONFLICT:
                return None
            raise

    def delete(self, name: str, uid: str) -> bool:
        """Delete a RayJob with all that belongs to it; return ``False`` if there is none with this uid.

        :raises RayAgentError: if Kubernetes does not say.
        """
        body = {
            # Otherwise, the RayJob is gone a second later, and its pods are there for some 10 seconds more. This also
            # deletes them if KubeRay's operator does not run.
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": uid},
        }
        try:
            self._request(
                "delete rayjobs",
                lambda: self._objects.delete_namespaced_custom_object(
                    GROUP, VERSION, self.namespace, PLURAL, name, body=body, _request_timeout=TIMEOUTS
                ),
            )
        except RayAgentNotFoundError:
            return False
        except RayAgentError as error:
            if error.status_code == CONFLICT:
                return False
            raise
        return True

    def pods(self, cluster_name: str) -> list[Mapping[str, Any]]:
        """Return the pods of a RayCluster.

        :raises RayAgentError: if Kubernetes does not say.
        """
        answer = self._request(
            "list pods",
            lambda: (
                self._core.list_namespaced_pod(
                    self.namespace,
                    label_selector=f"ray.io/cluster={cluster_name}",
                    limit=MAX_PODS,
                    # As JSON: the client's own objects refuse fields of newer versions of Kubernetes.
                    _preload_content=False,
                    _request_timeout=TIMEOUTS,
                ).data
            ),
        )
        try:
            items = json.loads(answer)["items"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RayAgentResponseError("Kubernetes has not answered with a list of pods.") from None
        return [each for each in items if isinstance(each, Mapping)] if isinstance(items, list) else []

    def token(self, secret: str) -> str:
        """Return Ray's token, which KubeRay has made.

        :param secret: name of the Secret.
        :raises RayAgentError: if it cannot be read.
        """
        found = self._request(
            "get secrets",
            lambda: self._core.read_namespaced_secret(secret, self.namespace, _request_timeout=TIMEOUTS).data,
        )
        try:
            return base64.b64decode((found or {})["auth_token"], validate=True).decode("ascii").strip()
        except (KeyError, ValueError, TypeError):
            raise RayAgentResponseError(f"The Secret {shown(secret)} has no auth_token for Ray.") from None

    def last_lines(self, pod: str, *, is_previous: bool = False) -> str:
        """Return the last lines of the log of a pod's first container.

        :param is_previous: whether of the container before its last restart.
        :raises RayAgentError: if they cannot be read.
        """
        log: bytes = self._request(
            "get pods/log",
            lambda: (
                self._core.read_namespaced_pod_log(
                    pod,
                    self.namespace,
                    previous=is_previous,
                    tail_lines=LOG_LINES,
                    limit_bytes=MAX_LOG_BYTES,
                    _preload_content=False,
                    _request_timeout=TIMEOUTS,
                ).data
            ),
        )
        return log.decode(errors="replace")

    @cached_property
    def _hook(self) -> KubernetesHook:
        try:
            from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
        except ImportError as error:
            raise RayAgentConfigError(
                f"A RayCluster needs Airflow's provider for Kubernetes: install {EXTRA} in the workers and the "
                f"triggerers ({shown_error(error)})."
            ) from None
        return KubernetesHook(self.conn_id)

    @cached_property
    def _client(self) -> Any:
        # The client of Kubernetes reads some configurations into an object of the process (``load_incluster_config``
        # sets the default ``Configuration``), from where the hook copies them.
        with _loading:
            client = self._hook.api_client
        # Without this, urllib3 repeats a request after as many seconds as the answer says (``Retry.sleep``), and the
        # hook has no argument for it.
        client.rest_client.pool_manager.connection_pool_kw["retries"] = False
        return client

    @property
    def _objects(self) -> Any:
        from kubernetes.client import CustomObjectsApi

        return CustomObjectsApi(self._client)

    @property
    def _core(self) -> Any:
        from kubernetes.client import CoreV1Api

        return CoreV1Api(self._client)

    def _rayjob(self, verb: str, **arguments: Any) -> RayJob:
        def send() -> tuple[Any, int, Mapping[str, str]]:
            method = getattr(self._objects, f"{verb}_namespaced_custom_object_with_http_info")
            found: tuple[Any, int, Mapping[str, str]] = method(
                GROUP, VERSION, self.namespace, PLURAL, _request_timeout=TIMEOUTS, **arguments
            )
            return found

        value, _, headers = self._request(f"{verb} rayjobs", send)
        return RayJob.from_json(value, seconds_of_date(headers.get("Date")) or time.time())

    def _request(self, what: str, send: Callable[[], ResultT]) -> ResultT:
        """Return the answer to a request.

        :param what: verb and resource, as a Role has them.
        :raises RayAgentError: in place of the exceptions of the client.
        """
        # Outside of the limit: the first import takes seconds.
        self._hook  # noqa: B018
        answer = daemon_threads.start(send)
        if not daemon_threads.is_done_within(MAX_SECONDS, answer):
            raise RayAgentTimeoutError(
                f"Kubernetes has not answered within {MAX_SECONDS:g} seconds ({what}).", code=Code.KUBERNETES
            )
        error = answer.exception()
        if error is None:
            return answer.result()
        raise self._as_our_error(error, what) from None

    def _as_our_error(self, error: BaseException, what: str) -> BaseException:
        if isinstance(error, RayAgentError) or not isinstance(error, Exception):
            return error
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        if isinstance(error, ApiException) and error.status:
            words = sanitize(_message(error), length=MAX_WORDS)
            detail = f"Kubernetes answered {error.status} ({what}): {sentence(words)}"
            if error.status == 403:
                detail += f" The account of the connection {shown(self.conn_id)} needs a Role with: {ROLE}."
            found = for_status(error.status, detail)
            found.code = Code.KUBERNETES
            return found
        if isinstance(error, (ApiException, HTTPError, OSError)):
            # The others repeat the innermost one, with the names of their classes.
            *_, cause = causes_of(error)
            words = shown_error(cause) or type(cause).__name__
            return RayAgentConnectionError(
                f"Kubernetes cannot be reached ({what}): {sentence(words)}", code=Code.KUBERNETES
            )
        # The client and the hook have many classes for a wrong configuration.
        words = shown_error(error) or type(error).__name__
        return RayAgentConfigError(
            f"The connection {shown(self.conn_id)} of Kubernetes cannot be used: {sentence(words)}"
        )

    def _no_kuberay(self) -> RayAgentConfigError:
        return RayAgentConfigError(
            f"Kubernetes has no RayJobs ({GROUP}/{VERSION}): KubeRay's operator is not installed on the cluster of the "
            f"connection {shown(self.conn_id)}."
        )


def _message(error: Any) -> str:
    """Return what the API server says; without a message in its form, the reason of HTTP."""
    try:
        body = json.loads(error.body)
        return str(validate_text(" ".join(body["message"].split()), "message"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return str(error.reason)
