"""Histories to try a client against by hand: ``python -m tests.scripted --list``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.scripted.actions import (
    DEFAULT,
    Close,
    Down,
    Drop,
    Follow,
    Grow,
    Hold,
    Play,
    Reset,
    SetStatus,
    Silence,
    Sleep,
    Step,
)
from tests.scripted.answers import Html, Refuse
from tests.scripted.chunks import every, with_surrogates
from tests.scripted.exchange import Action, Open
from tests.scripted.job import Job
from tests.scripted.messages import Complete, Compressed, ErrorEvent, Event, Log, Partial, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LINES = [f"step {n}: loss {1 / (n + 1):.4f} \U0001f680\n" for n in range(60)]
"""The log of every scenario."""

TEXT = "".join(LINES)


@dataclass(frozen=True)
class Scenario:
    """A history.

    :param told: what it is, in one line.
    :param job: makes its job anew.
    :param answers: scripts of other routes.
    """

    told: str
    job: Callable[[], Job]
    answers: dict[str, Sequence[Step]] = field(default_factory=dict)


def running(seconds: float = 6.0, steps: int = 20) -> list[Action]:
    """Return a timeline that writes the log over ``seconds`` and then succeeds."""
    size = -(-len(LINES) // steps)
    actions: list[Action] = [SetStatus("RUNNING")]
    for at in range(0, len(LINES), size):
        actions += [Sleep(seconds / steps), Grow("".join(LINES[at : at + size]))]
    return [*actions, SetStatus("SUCCEEDED")]


def live(*both: Play | Action) -> Callable[[], Job]:
    """Return what makes a job that runs for some seconds, with this script for WebSocket and SSE."""
    steps = [*both, DEFAULT]
    return lambda: Job(status="PENDING", timeline=running(), ws=steps, sse=steps)


def _early_terminal() -> Job:
    timeline: list[Action] = [Grow(TEXT[:500]), Sleep(1), SetStatus("SUCCEEDED"), Sleep(4), Grow(TEXT[500:])]
    play = Play(Follow(lag=5), Complete())
    return Job(status="RUNNING", timeline=timeline, ws=[play], sse=[play])


def _silent_for_ever() -> Job:
    play = Play(Follow(), Hold())
    return Job(status="PENDING", timeline=running(), ws=[play], sse=[play])


def _both_refused() -> Job:
    return Job(status="PENDING", timeline=running(), ws=[Html(404)], sse=[Html(502)])


def _failed() -> Job:
    return Job(TEXT, "FAILED", message=f"Job entrypoint command failed with exit code 1, last lines:\n{LINES[-1]}")


SCENARIOS: dict[str, Scenario] = {
    "well": Scenario("a job that runs for 6 s; no fault", live()),
    "done": Scenario("a job that is over; no fault", lambda: Job(TEXT)),
    "failed": Scenario("a job that failed", _failed),
    "reset": Scenario("resets in mid-log, once in mid-frame", live(
        Play(Follow(stop=200), Reset()), Play(Follow(stop=700), Partial(Log("torn"), 9), Reset()),
    )),
    "clean-closes": Scenario("every way to close while the job runs", live(
        *(Play(Follow(stop=150 * n), Close(code)) for n, code in enumerate((1000, 1001, 1009, 1011, 1012), 1)),
        Play(Follow(stop=1000), Drop()),
    )),
    "early-complete": Scenario("`complete` before the last lines, while the job runs", live(
        Play(Follow(stop=400), Complete()), Play(Follow(stop=800), Complete(), Drop()),
    )),
    "half-open": Scenario("silent for ever, to pings too, in mid-log", live(Play(Follow(stop=300), Silence()))),
    "never-ends": Scenario("the stream stays open, healthy and quiet, after the job ended", _silent_for_ever),
    "late-lines": Scenario("the status turns terminal 4 s before the last lines", _early_terminal),
    "restart": Scenario("the agent is restarted twice, 2 s each", live(
        Play(Follow(stop=300), Down(2.0, "restart")), Play(Follow(stop=600), Down(2.0, "reset")),
    )),
    "both-refused": Scenario("WebSocket and SSE refused by a proxy; only the full text is there", _both_refused),
    "errors": Scenario("503, 429, 502 as HTML and resets on the status, 500 on the full text", live(), {
        "GET jobs/j1/": [Refuse(503), Refuse(429, headers={"Retry-After": "1"}), Html(502), Play(Reset())] * 3,
        "GET jobs/j1/logs/": [Refuse(500)],
    }),
    "permanent-503": Scenario("503 on everything, for ever", live(), {"*": [Refuse(503)]}),
    "odd-messages": Scenario("messages that are no events, cut surrogate pairs, fragments, compression", live(Play(
        Open(cut=5),
        Event({"type": "connected"}),
        Event([1, 2]),
        Event({"type": "log"}),
        Text("not JSON"),
        Compressed(Log("")),
        ErrorEvent(),
        Follow(with_surrogates(every(7))),
        Complete(),
    ))),
    "sse-forms": Scenario("SSE with BOM, CR line ends, ids, event names, data over several lines", live(Play(
        Open(newline="\r", bom=True, multiline=True, event="log", ids=True, space=False, cut=3), Follow(), Complete(),
    ))),
    "from-now": Scenario("a reconnected stream begins at now instead of the first byte", live(
        Play(Follow(stop=300), Reset()), Play(Sleep(1), Follow(start="now"), Complete()),
    )),
}  # fmt: skip
