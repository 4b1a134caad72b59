"""The agent as a process: starts its socket, Ray and server, and stops them in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import json
import os
import resource
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.local.errors import LocalAgentError, RayHeadError, RayUnavailableError
from airflow_provider_rayagent.local.files import private_file
from airflow_provider_rayagent.local.head import RayHead, describe_unprotected_parts, requires_token
from airflow_provider_rayagent.local.jobqueue import JobQueue
from airflow_provider_rayagent.local.ray_api import RayDashboard
from airflow_provider_rayagent.local.ray_token import find_token

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import uvicorn
    from starlette.types import ASGIApp

    from airflow_provider_rayagent.local.asgi import Agent
    from airflow_provider_rayagent.local.plugin_folder import PluginFolder

MAX_CONNECTIONS = 2_000
"""Maximum number of open connections if the limit of open files permits."""
RESERVED_FILES = 500
"""Open files reserved for connections to Ray and for logs."""
SHUTDOWN_GRACE = 3
"""Seconds that open requests have to finish when the server stops."""


@dataclass(frozen=True)
class Options:
    """Options of the agent.

    :param token: token that every request must contain.
    :param is_token_generated: whether the token was generated, and therefore has to be printed.
    :param address: dashboard of an existing Ray; ``None``: start a head.
    :param ray_token_file: file with the existing Ray's token; ``None``: use the token that Ray's own tools use.
    :param port: port to listen on; 0: a free one.
    :param start_timeout: seconds to wait until a head is ready.
    :param plugins: plugins to run; ``None``: no plugins.
    :param max_running_jobs: maximum number of plugin jobs that are PENDING or RUNNING on Ray.
    """

    token: str
    is_token_generated: bool = False
    address: str | None = None
    ray_token_file: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    num_cpus: int = 4
    start_timeout: float = 90.0
    info_file: Path | None = None
    plugins: PluginFolder | None = None
    max_running_jobs: int = 3


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a loopback address.

    :raises LocalAgentError: if the address is not a loopback address, or is in use.
    """
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError as error:
        raise LocalAgentError(f"--host must be a loopback address, such as 127.0.0.1, not {host!r}.") from error
    if not address.is_loopback:
        raise LocalAgentError(f"The local agent only serves this machine: {host} is not a loopback address.")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        return socket.create_server((str(address), port), family=family)
    except (OSError, OverflowError) as error:
        raise LocalAgentError(f"Cannot listen on {address} port {port}: {error}") from error


def raise_file_limit() -> int:
    """Raise the soft limit of open files as far as needed; return the number of connections that it allows."""
    needed = MAX_CONNECTIONS + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return MAX_CONNECTIONS
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    # With a low hard limit, a quarter: a server without connections would be of no use.
    return max(soft - RESERVED_FILES, soft // 4)


async def run(options: Options) -> int:
    """Run the agent until it receives a signal or its Ray head exits; return the exit code.

    :raises LocalAgentError: if it cannot start.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup starts a program with HUP ignored.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, stop.set)
    if options.info_file:
        # That of an agent that was killed must not be mistaken for the one of this agent.
        with contextlib.suppress(OSError):
            options.info_file.unlink()
    async with contextlib.AsyncExitStack() as stack:
        # Before Ray, which starts slowly: a port in use is reported at once, and early connections wait in the backlog.
        listener = stack.enter_context(listen(options.host, options.port))
        head = None if options.address else RayHead(options.num_cpus)
        ray = _dashboard(options, head)
        stack.push_async_callback(ray.close)
        if head:
            # Before the start, so that a failed one is cleaned up too. The stack runs in reverse order.
            stack.push_async_callback(head.stop)
            print_line("Starting a Ray head ...")
            await head.start(options.start_timeout)
            if not await _run_unless_stopped(stop, head.wait_ready(ray, options.start_timeout)):
                return 0
        queue = JobQueue(ray, options.max_running_jobs)
        stack.push_async_callback(queue.close)
        from airflow_provider_rayagent.local.asgi import Agent

        return await _serve(options, listener, Agent(ray, queue, asyncio.Event()), head, stop)


def _dashboard(options: Options, head: RayHead | None) -> RayDashboard:
    if head:
        return RayDashboard(head.dashboard_url, lambda: head.token)
    return RayDashboard(options.address or "", functools.partial(find_token, options.ray_token_file, os.environ))


async def _serve(
    options: Options, listener: socket.socket, agent: Agent, head: RayHead | None, stop: asyncio.Event
) -> int:
    from airflow_provider_rayagent.local.asgi import create_app

    lines = await _describe_ray(agent.ray, head)
    server = make_server(create_app(agent, options.token, options.plugins), raise_file_limit())
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    url = url_of(listener)
    ray_token_file = head.token_file if head else options.ray_token_file
    info = {
        "url": url,
        "token": options.token,
        "ray_address": agent.ray.url,
        "ray_token_file": ray_token_file and str(ray_token_file),
        "gcs_address": head.gcs_address if head else None,
        "pid": os.getpid(),
    }
    with contextlib.ExitStack() as files:
        for line in lines:
            print_line(line)
        if options.plugins:
            names = ", ".join(plugin.lookup for plugin in options.plugins.read())
            limit = options.max_running_jobs
            print_line(f"Plugins in {options.plugins.path}: {names or 'none yet'} (at most {limit} jobs at a time)")
        if options.is_token_generated:
            print_line(f"Token: {options.token}")
        print_line(f"The local agent is listening on {url} (API: {url}/openapi.json). Press Ctrl-C to stop it.")
        if options.info_file:
            # Last: whoever waits for the file may send requests as soon as it is there.
            files.enter_context(private_file(options.info_file, json.dumps(info)))
        ended = asyncio.ensure_future(head.wait_ended() if head else asyncio.Event().wait())
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({ended, stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
        head_ended = ended.done()
        # Open streams then end with a close code; otherwise the server waits for them until SHUTDOWN_GRACE is over.
        agent.stopping.set()
        server.should_exit = True
        await serving
        ended.cancel()
        stopped.cancel()
    if head and head_ended:
        raise RayHeadError(f"The Ray head has exited, so the local agent stops too. {head.format_last_lines()}")
    return 0


def make_server(app: ASGIApp, max_connections: int) -> uvicorn.Server:
    """Return a server that leaves signal handling to its caller.

    :param max_connections: maximum number of open connections; it responds with 503 to requests on further ones.
    """
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        # Uvicorn would replace the handlers of `run` while it serves, and raise the signal again at its end.
        def capture_signals(self) -> Generator[None, None, None]:
            yield

    config = uvicorn.Config(
        app,
        lifespan="off",
        limit_concurrency=max_connections,
        # There is no proxy, so X-Forwarded headers cannot be trusted.
        proxy_headers=False,
        log_config=None,
        access_log=False,
        ws_per_message_deflate=False,
        # Clients send no messages.
        ws_max_size=1 << 16,
        timeout_graceful_shutdown=SHUTDOWN_GRACE,
    )
    return Server(config)


def url_of(listener: socket.socket) -> str:
    """Return the base URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def print_line(line: str) -> None:
    """Print a line to the user who started the agent, if standard output is still open."""
    with contextlib.suppress(OSError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


async def _describe_ray(ray: RayDashboard, head: RayHead | None) -> list[str]:
    """Return lines about Ray for the user who started the agent.

    :raises RayResponseError: if Ray rejects the agent.
    """
    try:
        version = await ray.health()
    except RayUnavailableError as error:
        return [f"Ray: not available yet. {error} Until then, the agent responds to every request with 503."]
    line = f"Ray: {version} at {ray.url}"
    if head is None:
        return [line]
    if requires_token(version):
        line += f"; its token is in {head.token_file}"
    unprotected = describe_unprotected_parts(version)
    return [line, unprotected] if unprotected else [line]


async def _run_unless_stopped(stop: asyncio.Event, work: Any) -> bool:
    """Await ``work``, or cancel it once ``stop`` is set; return whether it finished."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False
    task.result()
    return True
