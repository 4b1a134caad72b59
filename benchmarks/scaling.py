"""CPU time per line of the hook's tail, for logs of different lengths."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.feeder import feeder
from benchmarks.measure import Line, Target, run_alternately
from benchmarks.one_tail import SETTLED
from benchmarks.tails import client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LENGTHS = (100_000, 1_000_000, 10_000_000)
SHORT_LENGTHS = (100_000, 1_000_000)
FIRST = 10_000
LINES_A_MESSAGE = 10


def measure(*, short: bool) -> Iterator[Line]:
    """Measure the CPU time per line."""
    lengths = (FIRST, *(SHORT_LENGTHS if short else LENGTHS))
    with feeder([job_id(length) for length in lengths]) as url, client("ours", url) as tail:
        runs = run_alternately(3 if short else 5, *(partial(cost, tail, length) for length in lengths))
    first, *others = runs
    for length, costs in zip(lengths[1:], others, strict=True):
        yield Line(
            "scaling",
            f"hook, WebSocket: CPU time per line, log of {length:,} lines",
            "µs",
            costs,
            first,
            f"log of {FIRST:,} lines",
            Target(maximum=1.2),
        )


def job_id(length: int) -> str:
    """Return the id of a job with this number of lines."""
    return f"running-{length}-{LINES_A_MESSAGE}"


def cost(tail: Callable[[str, str], dict[str, float]], length: int) -> float:
    """Return the microseconds of CPU time per line, after the first lines."""
    result = tail("websocket", job_id(length))
    return result["later"] / (length - SETTLED) * 1e6
