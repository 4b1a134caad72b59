"""The blocking transport: ``requests`` for calls and bodies, one pooled session."""

from __future__ import annotations

import http.client
import time
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import requests
import tenacity
from urllib3.exceptions import HTTPError, LocationParseError, ReadTimeoutError

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.services.call import Call
from airflow_provider_rayagent.services.service import REJECTED
from airflow_provider_rayagent.transport import limits, request_retry, responses
from airflow_provider_rayagent.transport.blocking_connections import Adapter, Session, reader_of
from airflow_provider_rayagent.transport.environment import Environment, read_environment
from airflow_provider_rayagent.transport.failures import LibraryErrors, as_agent_error
from airflow_provider_rayagent.transport.log_responses import READ_BYTES
from airflow_provider_rayagent.transport.steps import run_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from typing_extensions import Self

    from airflow_provider_rayagent.connection.config import AgentConfig
    from airflow_provider_rayagent.services.call import Operation, Pause

ResultT = TypeVar("ResultT")

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
BROKEN = (requests.RequestException, HTTPError, OSError)
"""Exceptions raised while a body is read."""


class BlockingAgent:
    """A client of one agent for blocking code. Use it as a context manager, or call :meth:`close`.

    :param sleep: called with the seconds to wait before a retry.
    """

    def __init__(self, config: AgentConfig, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.config = config
        self._sleep = sleep
        self._session = Session()
        # Otherwise a ``.netrc`` overrides the token, and ``requests`` reads other environment variables.
        self._session.trust_env = False
        self._session.headers.update(config.headers)
        adapter = Adapter(pool_connections=1, pool_maxsize=POOL_SIZE)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every pooled connection."""
        self._session.close()

    @cached_property
    def _environment(self) -> Environment:
        return read_environment(self.config)

    def send(self, operation: Operation, *, tries: int = request_retry.MAX_TRIES) -> Any:
        """Return the result of an operation; that of a single call is the value of its response.

        :param tries: maximum number of attempts for each call, if :func:`.request_retry.may_retry` permits them.
        :raises RayAgentError: for every failure.
        """
        if isinstance(operation, Call):
            return self._send(operation, tries)
        return run_steps(operation, lambda step: self._step(step, tries), (RayAgentError,))

    def _step(self, step: Call | Pause, tries: int) -> Any:
        return self._send(step, tries) if isinstance(step, Call) else self._sleep(step.seconds)

    def _send(self, call: Call, tries: int) -> Any:
        attempts = iter(range(1, tries + 1))
        return self.repeated(call, lambda: self._send_once(call, next(attempts)), tries=tries)

    def repeated(self, call: Call, send: Callable[[], ResultT], *, tries: int = request_retry.MAX_TRIES) -> ResultT:
        """Return the result of ``send``, which sends ``call``; retry it if permitted."""
        return tenacity.Retrying(sleep=self._sleep, **request_retry.policy(call, tries))(send)

    def _send_once(self, call: Call, attempt: int) -> Any:
        with self.opened(call, read_timeout=call.read_timeout) as response:
            body = read_body(call, response)
        if request_retry.has_succeeded(call, response.status_code, attempt):
            return None
        return responses.read_response(call, response.status_code, response.headers, body, self.config)

    @contextmanager
    def opened(
        self, call: Call, *, read_timeout: float | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[requests.Response]:
        """Yield the response to ``call`` with its body unread, and convert exceptions raised while it is read.

        :param headers: additional headers of the request.
        :raises RayAgentError: for every failure of the connection, but not for an error status.
        """
        response = None
        try:
            response = self._open(call, read_timeout or self.config.read_timeout, headers)
            yield response
        except RayAgentError:
            raise
        except (*BROKEN, ValueError) as error:
            raise self.error(error) from None
        finally:
            if response is not None:
                response.close()

    def error(self, error: BaseException) -> RayAgentError:
        """Return our error for an exception of the libraries."""
        return as_agent_error(error, self.config, REQUESTS_ERRORS, self._environment.proxy(self.config.base_url))

    def _open(self, call: Call, read_timeout: float, headers: Mapping[str, str] | None) -> requests.Response:
        url = self.config.url(call.path)
        for redirects in range(responses.MAX_REDIRECTS + 1):
            response = self._authorized(call, url, read_timeout, headers or {})
            target = responses.safe_target(call, url, response.status_code, response.headers)
            if target is None or redirects == responses.MAX_REDIRECTS:
                break
            response.close()
            url = target
        return response

    def _authorized(self, call: Call, url: str, read_timeout: float, headers: Mapping[str, str]) -> requests.Response:
        """Send a request; send it once more if it was rejected and the token file has another token by now."""
        token = self._token_header()
        response = self._request(call, url, read_timeout, {**headers, **token})
        if response.status_code in REJECTED and (renewed := self._token_header(rejected=token)) != token:
            response.close()
            response = self._request(call, url, read_timeout, {**headers, **renewed})
        return response

    def _token_header(self, rejected: Mapping[str, str] | None = None) -> Mapping[str, str]:
        token_file = self.config.token_file
        if token_file is None:
            return {}
        if token_file.is_due(rejected):
            token_file.read()
        return token_file.headers

    def _request(self, call: Call, url: str, read_timeout: float, headers: Mapping[str, str]) -> requests.Response:
        proxy = self._environment.proxy(url)
        return self._session.request(
            call.method,
            url,
            json=call.body,
            # Its length is known, so requests sends it as it is, without chunked encoding.
            data=call.content,
            headers=headers,
            timeout=(self.config.connect_timeout, read_timeout),
            verify=self._environment.verify,
            cert=self._environment.client_cert,
            proxies={"all": proxy} if proxy else None,
            stream=True,
            allow_redirects=False,
        )


def read_body(call: Call, response: requests.Response) -> bytes:
    """Return the body of a response; for an error status, only the part that arrives soon.

    :raises RayAgentResponseError: if a response is too large.
    """
    body = limits.Body(call, response.status_code)
    reader_of(response).wait_for(body.limit)
    try:
        while (chunk := response.raw.read1(READ_BYTES, decode_content=True)) and body.add(chunk):
            pass
    except BROKEN:
        if not body.is_error:
            raise
    return body.content
