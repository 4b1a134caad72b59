"""Random logs in random chunks, through random faults, over real sockets."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.level import FIRST_SEED, by_level, seeded, seeds
from tests.scripted import (
    DEFAULT,
    Action,
    Close,
    Complete,
    Down,
    Drop,
    ErrorEvent,
    Event,
    Follow,
    Grow,
    Hold,
    Html,
    Job,
    Log,
    Open,
    Partial,
    Play,
    Refuse,
    Reset,
    SetStatus,
    Silence,
    Sleep,
    Text,
    Wire,
    at_random,
    by_lines,
    lines_without_newline,
    with_surrogates,
)
from tests.scripted.ray_dialect import error, state_error
from tests.tail.columns import RAY_DRIVERS
from tests.tail.conftest import PLAYED_AT_ONCE
from tests.tail.drivers import PROTOCOLS, RAY
from tests.tail.figures import figure
from tests.tail.stage import Fault, play
from tests.unit.tail.history import UNIQUE, lines_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import Step
    from tests.scripted.exchange import Exchange

HISTORIES = by_level(80, 400)
KNOWN_SEEDS: tuple[int, ...] = (9929679973,)
"""Seeds of either kind that once failed."""
WORDS = (
    "a",
    "word",
    "\n",
    "\n\n",
    " ",
    "\t",
    "\r",
    "\u2028",
    "\x85",
    "\U0001f680",
    "\u00e9",
    '{"type": "log"}',
    "\x1b[1m",
)


@dataclass(frozen=True)
class FirstBytes(Action):
    """The first part of the log so far, which may end within a character."""

    part: float

    async def run(self, x: Exchange) -> None:
        data = x.job.truth().encode()
        await x.ready()
        await x.send(data[: int(len(data) * self.part)])


class Draw:
    """A history, drawn from a seed."""

    driver = "sensor"

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.protocol = self.dice.choice(list(PROTOCOLS))
        self.text = UNIQUE + "".join(self.dice.choices(WORDS, k=self.dice.randint(0, 120)))
        self.by_line = self.dice.random() < 0.3
        self.chunker: Callable[[str], object] = self._chunker()

    def fault(self) -> Fault:
        answers = {
            route: [step for _ in range(self.dice.randint(1, 3)) for step in (DEFAULT, self._refusal())] + [DEFAULT]
            for route in ("GET jobs/j1/", "GET jobs/j1/logs/")
            if self.dice.random() < 0.3
        }
        return Fault(self._job, answers, hangs=self.protocol == RAY)

    def _job(self) -> Job:
        timeline: list[Action] = [SetStatus("RUNNING")]
        pieces = list(by_lines(self.text, self.dice.randint(1, 9)))
        for piece in pieces:
            timeline += [Grow(piece), Sleep(self.dice.random() / len(pieces))]
        timeline.append(SetStatus(self.dice.choice(("SUCCEEDED", "FAILED", "STOPPED"))))
        steps = [*(self._stream() for _ in range(self.dice.randint(0, 5))), DEFAULT]
        return self._job_with(timeline, steps)

    def _job_with(self, timeline: list[Action], steps: list[Step]) -> Job:
        return Job(status="PENDING", timeline=timeline, ws=steps, sse=steps)

    def _chunker(self) -> Callable[[str], object]:
        if self.by_line:
            return lines_without_newline
        pieces = at_random(self.dice.getrandbits(16), self.dice.choice((2, 9, 60)))
        return self.dice.choice((pieces, with_surrogates(pieces), by_lines))

    def _refusal(self) -> Step:
        return self.dice.choice((Refuse(503), Refuse(429), Refuse(500), Html(502), Reset()))

    def _stream(self) -> Step:
        if self.dice.random() < 0.2:
            return self._refusal()
        stop = self.dice.randint(0, len(self.text))
        if self.by_line:
            stop = self.text.rfind("\n", 0, stop) + 1
        follow = Follow(self.chunker, stop=stop)  # type: ignore[arg-type]
        odd: list[Action] = [] if self.dice.random() < 0.7 else [self._odd()]
        cut = self.dice.choice((None, None, 3))
        return Play(Open(cut=cut), follow, *odd, *self._end())

    def _odd(self) -> Action:
        return self.dice.choice(
            (ErrorEvent(), Event({"type": "ping"}), Event([1]), Text("junk"), Event({"type": "log"}))
        )

    def _end(self) -> list[Action]:
        return self.dice.choice(
            [
                [Reset()],
                [Drop()],
                [Close(1012)],
                [Complete()],
                [Complete(), Hold(0.5), Drop()],
                [Partial(Log("torn"), 9), Reset()],
                [Silence()],
                [Hold()],
                [Down(0.3, "restart")],
            ]
        )


class RayDraw(Draw):
    """A history over Ray's dashboard, whose log is polled."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.protocol = RAY
        self.driver = self.dice.choice(("sensor", "trigger"))

    def _job_with(self, timeline: list[Action], steps: list[Step]) -> Job:
        # One short answer at most that seems to be whole: of two that are equally short, the log is what they say.
        short: list[Step] = [Play(FirstBytes(self.dice.random()))] if self.dice.random() < 0.5 else []
        return Job(status="PENDING", timeline=timeline, full=[*short, *steps])

    def _refusal(self) -> Step:
        answers: list[Step] = [error(503), state_error(429, "busy"), error(502), Html(404), Html(502), Reset()]
        return self.dice.choice(answers)

    def _stream(self) -> Step:
        if self.dice.random() < 0.3:
            return self._refusal()
        cut = Open(cut=self.dice.choice((None, None, 3)))
        return Play(cut, FirstBytes(self.dice.random()), *self._end())

    def _end(self) -> list[Action]:
        return self.dice.choice(
            [[Reset()], [Drop()], [Wire(b"4000\r\n"), Drop()], [Silence()], [Down(0.3, "reset")], [Down(0.3, "drop")]]
        )


def try_history(draw: Draw, seed: int) -> str:
    """Return what went wrong, or an empty string."""
    outcome = play(draw.fault(), RAY_DRIVERS[draw.driver], draw.protocol)
    said = [notice for notice in outcome.notices if "The agent reports" not in notice]
    if outcome.lines != lines_of(outcome.truth) or outcome.truth != draw.text:
        return f"{seeded(seed)}, {draw.protocol}: {outcome.lines}, not {lines_of(draw.text)}, saying {said}"
    if said or outcome.streams > 1:
        return f"{seeded(seed)}, {draw.protocol}: {outcome.streams} streams at once, saying {said}"
    return ""


@pytest.mark.parametrize("kind", [Draw, RayDraw])
def test_random_histories_over_real_sockets_yield_every_line_once_in_order(kind: type[Draw]) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(PLAYED_AT_ONCE) as pool:
        tried = pool.map(lambda seed: try_history(kind(seed), seed), seeds(HISTORIES, KNOWN_SEEDS))
        wrong = [complaint for complaint in tried if complaint]
    assert wrong == []
    where = "Ray's dashboard" if kind is RayDraw else "an agent"
    figure(
        f"random histories over {where}, real sockets: {HISTORIES} from seed {FIRST_SEED} on in "
        f"{time.monotonic() - began:.0f} s"
    )
