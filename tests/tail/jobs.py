"""The jobs of the table: what they write, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tests.scripted import DEFAULT, Action, Grow, Hold, Job, Log, Play, SetStatus, Sleep
from tests.scripted.actions import reached
from tests.scripted.chunks import by_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.scripted import ScriptedAgent, Step
    from tests.scripted.exchange import Exchange

STATUS = "GET jobs/j1/"
LINES = [
    "2025-01-01 00:00:00,000\tINFO job_manager.py -- Runtime env is set up.\n",
    "\n",
    "    indented, and trailing   \n",
    "same\n",
    "same\n",
    "same\n",
    "\ttab\u2028one line\u2029still\x85one\x0cline\x0b\x1c\n",
    "progress 10%\rprogress 100%\n",
    "\x1b[31mred\x1b[0m \x00 \U0001f680\U0001f600\u00e9\n",
    '{"type": "complete"}\n',
    "\n",
    "\n",
    '__RAYAGENT_MESSAGE__ {"kind": "xcom", "data": {"loss": 1, "best": "\\u00e9"}}\n',
    *(f"step {number}: loss {1 / (number + 1):.4f} \U0001f680\n" for number in range(20)),
    '__RAYAGENT_MESSAGE__ {"kind": "progress", "data": {"done": 19, "total": 20}}\n',
    'somebody entered __RAYAGENT_MESSAGE__ {"kind": "xcom", "data": {"forged": 1}}\n',
    '__RAYAGENT_MESSAGE__ {"kind": "xcom", "data": {"loss": 0.5}}\n',
    '__RAYAGENT_MESSAGE__ {"kind": "link", "data": {"name": "Board", "url": "http://board.example/1"}}\n',
    '__RAYAGENT_MESSAGE__ {"kind": "progress", "data": {"done": 20, "total": 20}}\n',
    "no newline at the end",
]
TEXT = "".join(LINES)
EARLY, MIDDLE = len("".join(LINES[:4])) + 3, len("".join(LINES[:9])) - 5
"""Positions within a line; the latter before a character outside the Basic Multilingual Plane."""


@dataclass(frozen=True)
class UntilRead(Action):
    """Wait until a stream has sent text and the status was requested twice since: the client has read the text."""

    async def run(self, x: Exchange) -> None:
        agent = cast("ScriptedAgent", x.agent)
        await reached(lambda: any(request.messages for request in agent.requests))
        asked = len(agent.of(STATUS))
        await reached(lambda: len(agent.of(STATUS)) >= asked + 2)


@dataclass(frozen=True)
class UntilAsked(Action):
    """Wait until a route was requested so many times."""

    route: str
    times: int

    async def run(self, x: Exchange) -> None:
        agent = cast("ScriptedAgent", x.agent)
        await reached(lambda: len(agent.of(self.route)) >= self.times)


def live(*both: Step, text: str = TEXT, seconds: float = 0.9, **parts: object) -> Callable[[], Job]:
    """Return a factory for a job that writes ``text`` gradually and then succeeds.

    :param both: what the first streams of either protocol meet; the later ones are served well.
    """
    lines = list(by_lines(text))
    steps: list[Action] = [SetStatus("RUNNING")]
    size = max(len(lines) // 6, 1)
    for at in range(0, len(lines), size):
        steps += [Grow("".join(lines[at : at + size])), Sleep(seconds / 6)]
    streams = [*both, DEFAULT]
    return lambda: Job(
        status="PENDING",
        timeline=[*steps, SetStatus("SUCCEEDED")],
        **{"ws": streams, "sse": streams, **parts},  # type: ignore[arg-type]
    )


def ever(*both: Step, text: str = TEXT, seconds: float = 0.9, **parts: object) -> Callable[[], Job]:
    """Return the same, with the last of ``both`` for every later stream too."""
    return live(text=text, seconds=seconds, **{"ws": both, "sse": both, **parts})


def written(*actions: Action, text: str = TEXT, seconds: float = 1.0) -> Callable[[], Job]:
    """Return a factory for a job that keeps running after its log is written; its first stream plays ``actions``."""
    play = Play(*actions, Hold())
    timeline: Sequence[Action] = [Sleep(seconds), SetStatus("SUCCEEDED")]
    return lambda: Job(text, "RUNNING", timeline=timeline, ws=[play, DEFAULT], sse=[play, DEFAULT])


def logs(pieces: Sequence[str]) -> list[Action]:
    """Return one event per piece."""
    return [Log(piece) for piece in pieces]
