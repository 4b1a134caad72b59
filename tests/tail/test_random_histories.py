"""Random logs in random chunks, through random faults, over real sockets."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.scripted import (
    DEFAULT,
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
    at_random,
    by_lines,
    lines_without_newline,
    with_surrogates,
)
from tests.tail.columns import DRIVERS
from tests.tail.conftest import PLAYED_AT_ONCE
from tests.tail.drivers import PROTOCOLS
from tests.tail.figures import IN_CI, figure
from tests.tail.stage import Fault, play
from tests.unit.tail.history import UNIQUE, lines_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import Action, Step

HISTORIES = 400 if IN_CI else 80
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


class Draw:
    """A history, drawn from a seed."""

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
        return Fault(self._job, answers)

    def _job(self) -> Job:
        timeline: list[Action] = [SetStatus("RUNNING")]
        pieces = list(by_lines(self.text, self.dice.randint(1, 9)))
        for piece in pieces:
            timeline += [Grow(piece), Sleep(self.dice.random() / len(pieces))]
        timeline.append(SetStatus(self.dice.choice(("SUCCEEDED", "FAILED", "STOPPED"))))
        streams: list[Step] = [self._stream() for _ in range(self.dice.randint(0, 5))]
        return Job(status="PENDING", timeline=timeline, ws=[*streams, DEFAULT], sse=[*streams, DEFAULT])

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


def try_history(seed: int) -> str:
    """Return what went wrong, or an empty string."""
    draw = Draw(seed)
    outcome = play(draw.fault(), DRIVERS["sensor"], draw.protocol)
    said = [notice for notice in outcome.notices if "The agent reports" not in notice]
    if outcome.lines != lines_of(outcome.truth) or outcome.truth != draw.text:
        return f"seed {seed}, {draw.protocol}: {outcome.lines}, not {lines_of(draw.text)}, saying {said}"
    if said or outcome.streams > 1:
        return f"seed {seed}, {draw.protocol}: {outcome.streams} streams at once, saying {said}"
    return ""


def test_random_histories_over_real_sockets_yield_every_line_once_in_order() -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(PLAYED_AT_ONCE) as pool:
        wrong = [complaint for complaint in pool.map(try_history, range(HISTORIES)) if complaint]
    assert wrong == []
    figure(f"random histories over real sockets: {HISTORIES} in {time.monotonic() - began:.0f} s")
