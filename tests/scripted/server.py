"""The server: a listening socket, an event loop in a thread of its own, and what it counted."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from tests.scripted import ray_dialect
from tests.scripted.actions import DEFAULT, Default, Play, Step, reached
from tests.scripted.exchange import Action, Ending, Exchange, HttpExchange, SseExchange, head
from tests.scripted.link import GoneError, Link, Request, Tally, read_request
from tests.scripted.listener import Listener
from tests.scripted.routes import usual
from tests.scripted.websocket import WsExchange
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from tests.scripted.job import Application, Job

NODES: list[dict[str, Any]] = [
    {"node_id": "ab" * 28, "node_ip": "127.0.0.1", "is_head_node": True, "state": "ALIVE"},
]
TASKS: list[dict[str, Any]] = [
    {"task_id": "cd" * 24, "name": "f", "state": "FINISHED", "job_id": "01000000", "type": "NORMAL_TASK"},
]


class ScriptedAgent:
    """An agent that does what a script says; see :mod:`tests.scripted`.

    All attributes may be read from any thread, and the scripts changed, while it runs: ``requests`` (heads,
    bodies, answers, bytes), ``open_streams`` and ``max_open_streams`` by job, ``connections``,
    ``open_connections``, ``bytes_sent``, ``bytes_received``, ``errors`` (of scripts; the first is raised when the
    agent ends). ``on_request`` is called at a request's head and its end.

    :param jobs: the jobs it knows.
    :param answers: steps by route (``"GET jobs/j1/"``, ``"WS jobs/j1/logs/"``, ``"*"`` for every other); the
        n-th request meets the n-th, the last repeats.
    :param connects: steps that meet the n-th connection before its first request; ``DEFAULT`` lets it in.
    :param used: what is in use of each node's ``resources_total``, by node and resource.
    :param token: demand it in ``Authorization``; ``None``: let everyone in.
    :param service: whose requests it takes: an agent's, or those of Ray's dashboard (:mod:`ray_dialect`).
    :param base_path: path of the base URL.
    :param port: port to listen on, 0 for a free one.
    :param send_buffer: bytes of the kernel's send buffers; small ones make a slow reader felt early.
    """

    def __init__(
        self,
        *jobs: Job,
        answers: Mapping[str, Sequence[Step]] | None = None,
        connects: Sequence[Step] = (),
        applications: Sequence[Application] = (),
        nodes: Sequence[dict[str, Any]] = NODES,
        tasks: Sequence[dict[str, Any]] = TASKS,
        used: Mapping[str, Mapping[str, float]] | None = None,
        token: str | None = None,
        service: Literal["agent", "ray"] = "agent",
        base_path: str = "/",
        port: int = 0,
        send_buffer: int | None = None,
    ) -> None:
        self.jobs = {job.job_id: job for job in jobs}
        self.answers: dict[str, Sequence[Step]] = dict(answers or {})
        self.connects = connects
        self.applications = {app.name: app for app in applications}
        self.nodes: list[dict[str, Any]] = list(nodes)
        self.tasks: list[dict[str, Any]] = list(tasks)
        self.actors: list[dict[str, Any]] = []
        self.workers: list[dict[str, Any]] = []
        self.used: Mapping[str, Mapping[str, float]] = used or {}
        self.packages: dict[str, bytes] = {}
        self.token = token
        self.service = service
        self.base_path = f"/{base_path.strip('/')}/".replace("//", "/")
        self.requests: list[Request] = []
        self.open_streams: Counter[str] = Counter()
        self.max_open_streams: Counter[str] = Counter()
        self.errors: list[BaseException] = []
        self.on_request: Callable[[Request], object] = _ignore
        self._port = port
        self._send_buffer = send_buffer
        self._tally = Tally()
        self._turns: dict[str, tuple[Sequence[Step], int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._exchanges: dict[Link, Exchange] = {}
        self._arriving: set[asyncio.Task[None]] = set()
        self._listener: Listener | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted-agent", daemon=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and self.errors:
            raise self.errors[0]

    def start(self) -> Self:
        """Listen; :meth:`close` ends it."""
        self._listener = Listener(self._port, self._arrive)
        self._port = self._listener.port
        self._thread.start()
        self._call(self._listen())
        return self

    def close(self) -> None:
        """Reset every connection, end every play and the thread."""
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            self._call(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
        if self._listener is not None:
            self._listener.close()

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """Base URL, with its last slash."""
        return f"http://127.0.0.1:{self._port}{self.base_path}"

    @property
    def connections(self) -> int:
        """Connections made so far."""
        return self._tally.connections

    @property
    def open_connections(self) -> int:
        """Connections open now."""
        return len(self._tally.open)

    @property
    def is_held_up(self) -> bool:
        """Whether a play waits for a client that reads more slowly than it writes."""
        return any(link.is_held_up for link in tuple(self._tally.open))

    @property
    def bytes_sent(self) -> int:
        """Bytes sent so far, up to 64 KB a connection of them still in the server's buffer."""
        return self._tally.sent

    @property
    def bytes_received(self) -> int:
        return self._tally.received

    def of(self, route: str) -> list[Request]:
        """Return the requests so far of one route (``"GET jobs/j1/"``), or of one method (``"WS"``)."""
        return [request for request in tuple(self.requests) if route in (request.route, request.method)]

    def wait_until(self, done: Callable[[], object], timeout: float = PATIENCE) -> None:
        """Wait, in a thread, until ``done()`` is true.

        :raises TimeoutError: if that takes longer than ``timeout`` seconds.
        """
        until = time.monotonic() + timeout
        while not done():
            if time.monotonic() > until:
                raise TimeoutError(f"Not so after {timeout:g} s; requests: {[r.route for r in self.requests]}")
            time.sleep(0.003)

    async def reached(self, done: Callable[[], object], within: float = PATIENCE) -> None:
        """Do as :meth:`wait_until`, in a coroutine of any event loop."""
        await asyncio.wait_for(reached(done), within)

    def down(self, seconds: float | None = None, others: Ending = "reset") -> None:
        """Refuse connections from now on, for ``seconds`` or until :meth:`up`.

        :param others: what happens to the connections that are open.
        """
        self._call(self.go_down(seconds, others))

    def up(self) -> None:
        """Accept connections again."""
        self._call(self._listen())

    def stop(self, job: Job) -> bool:
        """Let a job that is not over become STOPPED after its ``stop_delay``; its timeline ends.

        :return: whether it was not over.
        """
        job.stop_calls += 1
        if job.is_over:
            return False
        self._spawn(self._stop(job))
        return True

    def stream_opened(self, job_id: str) -> None:
        self.open_streams[job_id] += 1

    def stream_closed(self, job_id: str) -> None:
        self.open_streams[job_id] -= 1

    async def go_down(self, seconds: float | None, others: Ending, but: Link | None = None) -> None:
        """Do as :meth:`down`, in the server's own loop.

        :param but: the connection of the play that asks, which ends last.
        """
        self._refuse()
        if seconds is not None:
            self._spawn(self._later(seconds))
        links = [link for link in self._tally.open if link is not but]
        await asyncio.gather(*(self._part(link, others, cancel=True) for link in links))
        if but is not None:
            await self._part(but, others, cancel=False)

    async def _part(self, link: Link, how: Ending, *, cancel: bool) -> None:
        link.ended_here = True
        if cancel and link.task is not None:
            link.task.cancel()
        exchange = self._exchanges.get(link)
        if how == "reset":
            await link.reset()
        elif how == "restart" and exchange is not None and exchange.begun:
            with contextlib.suppress(GoneError):
                await exchange.close(1012)
        else:
            await link.close()

    async def _later(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._listen()

    async def _listen(self) -> None:
        if self._listener is not None:
            self._listener.listen(self._loop)

    def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.refuse(self._loop)

    def _arrive(self, client: socket.socket) -> None:
        task = self._loop.create_task(self._let_in(client))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _let_in(self, client: socket.socket) -> None:
        await self._loop.connect_accepted_socket(self._link, client)

    def _link(self) -> Link:
        return Link(self._tally, lambda link: self._spawn(self._serve(link)), self._send_buffer)

    async def _stop(self, job: Job) -> None:
        if job.playing is not None:
            job.playing.cancel()
        await asyncio.sleep(job.stop_delay)
        job.set_status("STOPPED")

    async def _serve(self, link: Link) -> None:
        if self._listener is None or not self._listener.accepts:
            link.abort()
        try:
            step = self._turn("connection", self.connects)
            if not isinstance(step, Default):
                link.request = None
                await self._perform(step, HttpExchange(self, None, link))
            while not link.ended_here:
                link.request = None
                request = await self._next_request(link)
                await self._answer(link, request)
        except GoneError:
            pass
        finally:
            self._exchanges.pop(link, None)

    async def _next_request(self, link: Link) -> Request:
        try:
            request = await read_request(link, self.base_path)
        except ValueError:
            link.write(head(400, {"Connection": "close", "Content-Length": "0"}))
            await link.close()
            raise GoneError from None
        if self.service == "ray":
            ray_dialect.translate(request)
        link.request = request
        self.requests.append(request)
        self.on_request(request)
        return request

    async def _answer(self, link: Link, request: Request) -> None:
        job = self._job_of(request)
        refused = ray_dialect.refuse(self, request) if self.service == "ray" else None
        step: Step = refused or self._turn(request.route, self._script(request, job))
        if callable(step):
            step = step(request)
        if isinstance(step, Default):
            step = ray_dialect.usual(self, request) if self.service == "ray" else usual(self, request)
        exchange = self._exchange(link, request, job)
        self._exchanges[link] = exchange
        if exchange.stream and job is not None:
            self.max_open_streams[job.job_id] = max(self.max_open_streams[job.job_id], self._streams_of(job))
        link.on_end = exchange.release
        try:
            await self._perform(step, exchange)
        finally:
            exchange.release()
            request.ended = time.monotonic()
            self.on_request(request)

    def _streams_of(self, job: Job) -> int:
        """Return how many streams of a job clients ask for or read at this moment."""
        return sum(
            exchange.stream
            and exchange.is_about(job)
            and link.request is not None
            and link.request.ended is None
            and link.is_established
            for link, exchange in self._exchanges.items()
        )

    def _script(self, request: Request, job: Job | None) -> Sequence[Step]:
        script = self.answers.get(request.route)
        if script is None and job is not None and request.parts[2:] in (["logs"], ["logs", "stream"]):
            full = job.ws if request.method == "WS" else job.full
            script = (job.sse if request.parts[3:] else full) or None
        return script if script is not None else self.answers.get("*", ())

    def _turn(self, route: str, script: Sequence[Step]) -> Step:
        if not script:
            return DEFAULT
        known, turn = self._turns.get(route, (script, 0))
        if known is not script:
            turn = 0
        self._turns[route] = script, turn + 1
        return script[min(turn, len(script) - 1)]

    def _exchange(self, link: Link, request: Request, job: Job | None) -> Exchange:
        if request.method == "WS":
            return WsExchange(self, job, link)
        if request.path.endswith("/logs/stream/"):
            return SseExchange(self, job, link)
        return HttpExchange(self, job, link)

    async def _perform(self, step: Step, exchange: Exchange) -> None:
        actions = step.actions if isinstance(step, Play) else (step,) if isinstance(step, Action) else ()
        exchange.prepare(actions)
        for action in actions:
            await action.run(exchange)
        if exchange.link.request is not None and not exchange.link.ended_here:
            await exchange.finish()

    def _job_of(self, request: Request) -> Job | None:
        parts = request.parts
        job = self.jobs.get(parts[1]) if parts[0] == "jobs" and len(parts) > 1 else None
        if job is not None and job.timeline and job.playing is None:
            job.playing = self._spawn(self._run_timeline(job))
        return job

    async def _run_timeline(self, job: Job) -> None:
        stage = Exchange(self, job)
        for action in job.timeline:
            await action.run(stage)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append(error)

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _end(self) -> None:
        self._refuse()
        own = {asyncio.current_task()}
        while asyncio.all_tasks() - own or self._tally.open:
            for task in tuple(self._tasks):
                task.cancel()
            for link in tuple(self._tally.open):
                link.abort()
            await asyncio.sleep(0.001)


def _ignore(request: Request) -> None:
    """Take no notice."""
