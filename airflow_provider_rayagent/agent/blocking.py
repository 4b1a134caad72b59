"""The blocking transport: ``requests`` for calls and bodies, one pooled session."""

from __future__ import annotations

import http.client
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import requests
import tenacity
from requests.auth import AuthBase
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, LocationParseError, ReadTimeoutError

from airflow_provider_rayagent.agent import answers, retry
from airflow_provider_rayagent.agent.config import MAX_IDLE_SECONDS
from airflow_provider_rayagent.agent.errors import RayAgentError
from airflow_provider_rayagent.agent.failures import LibraryErrors, as_agent_error

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from typing_extensions import Self
    from urllib3.response import HTTPResponse

    from airflow_provider_rayagent.agent.config import AgentConfig
    from airflow_provider_rayagent.agent.wire import Call

Answer = TypeVar("Answer")

POOL_SIZE = 4
REQUESTS_ERRORS = LibraryErrors(
    unusable=(
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidHeader,
        requests.exceptions.InvalidSchema,
        requests.exceptions.MissingSchema,
        http.client.InvalidURL,
        LocationParseError,
    ),
    connect_timeout=(requests.ConnectTimeout,),
    read_timeout=(requests.ReadTimeout, ReadTimeoutError),
)


class _Headers(AuthBase):
    """Our headers, set as an ``auth`` so that ``requests`` puts no entry of a ``.netrc`` in their place."""

    def __init__(self, config: AgentConfig) -> None:
        self._headers = config.headers

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers)
        return request


class _HTTPConnection(HTTPConnection):
    """A connection that still knows its socket after it has handed it to a response, and is not kept idle for long."""

    kept_socket: socket.socket | None = None
    _answered_at = float("inf")

    def connect(self) -> None:
        super().connect()
        self.kept_socket = self.sock

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        response = super().getresponse()
        self._answered_at = time.monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        """Whether the pool may use it again."""
        return time.monotonic() < self._answered_at + MAX_IDLE_SECONDS and super().is_connected


class _HTTPSConnection(_HTTPConnection, HTTPSConnection):
    """The same over TLS."""


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Adapter(requests.adapters.HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Name the error of a file that is not there, for which ``requests`` raises a plain ``OSError``."""
        try:
            super().cert_verify(*args, **kwargs)  # type: ignore[no-untyped-call]
        except OSError as error:
            raise FileNotFoundError(str(error)) from None

    def close(self) -> None:
        """Close every idle connection now; ``requests`` leaves it to whoever drops the last reference to a pool."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
        super().close()


def socket_of(response: requests.Response) -> socket.socket | None:
    """Return the socket that an unread response comes from, to change its timeout or to end a read of it."""
    return getattr(response.raw.connection, "kept_socket", None)


class BlockingAgent:
    """One agent, spoken to from blocking code. Use it as a context manager, or call :meth:`close`.

    :param sleep: called with the seconds to wait before another try.
    """

    def __init__(self, config: AgentConfig, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.config = config
        self._sleep = sleep
        self._session = requests.Session()
        adapter = _Adapter(pool_connections=1, pool_maxsize=POOL_SIZE)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._session.auth = _Headers(config)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every pooled connection."""
        self._session.close()

    def verify_with(self) -> str | None:
        """Return the path of the CA bundle that certificates are checked with, ``None`` if they are not checked."""
        settings = self._session.merge_environment_settings(
            self.config.base_url, {}, None, self.config.verify, self.config.client_cert
        )
        verify = settings["verify"]
        if verify is True:
            return DEFAULT_CA_BUNDLE_PATH
        return str(verify) if verify else None

    def send(self, call: Call, *, tries: int = retry.MAX_TRIES) -> Any:
        """Return the answer's value: a dict, a list of dicts or ``None``, as ``call.shape`` says.

        :param tries: how often it may be sent, within what :func:`retry.may_retry` allows.
        :raises RayAgentError: for every failure.
        """
        attempts = iter(range(1, tries + 1))
        return self.repeated(call, lambda: self._send_once(call, next(attempts)), tries=tries)

    def repeated(self, call: Call, send: Callable[[], Answer], *, tries: int = retry.MAX_TRIES) -> Answer:
        """Return what ``send`` returns, which sends ``call``, trying again where that is allowed."""
        return tenacity.Retrying(sleep=self._sleep, **retry.policy(call, tries))(send)

    def _send_once(self, call: Call, attempt: int) -> Any:
        with self.opened(call) as response:
            body = response.content
        if call.method == "DELETE" and response.status_code == 404 and attempt > 1:
            return None
        return answers.read_answer(call, response.status_code, response.headers, body, self.config.redact)

    @contextmanager
    def opened(self, call: Call, *, read_timeout: float | None = None) -> Iterator[requests.Response]:
        """Give the response to ``call``, its body unread; what breaks while it is read is raised as ours.

        :raises RayAgentError: for every failure of the connection, but not for an error status.
        """
        response = None
        try:
            response = self._open(call, read_timeout or self.config.read_timeout)
            yield response
        except RayAgentError:
            raise
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise as_agent_error(error, self.config, REQUESTS_ERRORS) from None
        finally:
            if response is not None:
                response.close()

    def _open(self, call: Call, read_timeout: float) -> requests.Response:
        url = self.config.url(call.path)
        for _ in range(answers.MAX_REDIRECTS):
            response = self._request(call, url, read_timeout)
            target = answers.safe_target(call, url, response.status_code, response.headers)
            if target is None:
                return response
            response.close()
            url = target
        return self._request(call, url, read_timeout)

    def _request(self, call: Call, url: str, read_timeout: float) -> requests.Response:
        config = self.config
        return self._session.request(
            call.method,
            url,
            json=call.body,
            timeout=(config.connect_timeout, read_timeout),
            verify=config.verify,
            cert=config.client_cert,
            stream=True,
            allow_redirects=False,
        )
