"""The rows of the table over Ray's own dashboard: every fault that has a meaning for a log that is polled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.scripted import (
    DEFAULT,
    Action,
    Answer,
    Down,
    Drop,
    FullText,
    Grow,
    Html,
    Job,
    Open,
    Play,
    Raw,
    Redirect,
    Reset,
    SetStatus,
    Silence,
    Sleep,
    Wire,
)
from tests.scripted.ray_dialect import error, state_error
from tests.tail.faults import CODES, END, REPLAY, WHOLE
from tests.tail.jobs import EARLY, MIDDLE, STATUS, TEXT, UntilAsked, live
from tests.tail.messages import TEXTS
from tests.tail.stage import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import Step

GONE = error(500, "Agent for node id: abab doesn't exist.")
NO_FILE = error(500, "A file is not found at: /tmp/ray/session_1/logs/job-driver-j1.log")
BUSY = state_error(429, "Max number of in-progress requests=100 reached.")
REDIRECTS = [Redirect("/login"), Redirect("http://127.0.0.1:1/")]
NOT_JSON = [Answer(500, "500 Internal Server Error\n\nServer got itself in trouble"), Answer(200, "restarting")]
BYTES = TEXT.encode()
INVALID = BYTES[:EARLY] + b"\xff\xfe\xc3\n\xf0\x9f\x98\n" + BYTES[EARLY:]
HALF = BYTES.index("\U0001f600".encode()) + 2
"""Within a character."""
A_SECOND = Sleep(1.0)


def there(*full: Step, text: str = TEXT, until: Action = A_SECOND, end: str = "SUCCEEDED") -> Callable[[], Job]:
    """Return what makes a job whose log is there, but which runs on.

    :param full: what the first readings of the log meet; the later ones are served well.
    :param until: how long it runs.
    """
    timeline: list[Action] = [until, SetStatus(end)]
    return lambda: Job(text, "RUNNING", timeline=timeline, full=[*full, DEFAULT])


def in_a_chunk(stop: int) -> list[Action]:
    """Return what sends the log up to a character, and some bytes of the next chunk, which says that it is longer."""
    return [FullText(stop=stop), Wire(b"4000\r\n" + TEXT[stop : stop + 30].encode()[:-1])]


def of_bytes(*readings: bytes) -> Callable[[], Job]:
    """Return what makes a job whose log has these bytes, one after the other; the last stay."""
    return there(*(Play(Raw(each)) for each in readings[:-1]), *[Play(Raw(readings[-1]))] * 50,
                 text=readings[-1].decode("utf-8", "replace"), until=UntilAsked(WHOLE, len(readings)))  # fmt: skip


LOG = {
    "no fault": Fault(live()),
    "reset": Fault(there(Play(FullText(stop=EARLY), Reset()), Play(FullText(stop=MIDDLE), Reset()))),
    "reset before the first byte": Fault(there(Reset(), Reset())),
    "closed before the first byte": Fault(there(Drop(), Drop())),
    "cut within a chunk": Fault(there(Play(*in_a_chunk(EARLY), Reset()), Play(*in_a_chunk(MIDDLE), Drop()))),
    "cut before the last chunk": Fault(there(Play(FullText(stop=EARLY), Drop()), Play(FullText(), Drop()))),
    "cut within a chunk, again and again": Fault(there(*[Play(*in_a_chunk(MIDDLE), Drop())] * 3), slow=True),
    "shorter than its length": Fault(there(Play(Open(length=100_000), FullText(stop=EARLY), Drop()))),
    "delimited by close": Fault(live(full=[Play(Open(framing="close"), FullText())])),
    "delimited by close, and cut": Fault(there(*[Play(Open(framing="close"), FullText(stop=EARLY))] * 2)),
    "in chunks of five bytes": Fault(live(full=[Play(Open(cut=5), FullText())])),
    "half open": Fault(there(Play(FullText(stop=EARLY), Silence()), Silence()), hangs=True, slow=True),
    "stalled": Fault(there(Play(FullText(stop=EARLY), Sleep(1.2), Raw(TEXT[EARLY:]))), slow=True),
    "empty for a moment": Fault(there(DEFAULT, Play(Open()), DEFAULT, until=UntilAsked(WHOLE, 3))),
    "connections reset before the first request": Fault(live(), connects=[Reset(), Reset(), Reset(), DEFAULT]),
    **{
        f"the dashboard is down for a moment ({how})": Fault(
            live(full=[Play(FullText(stop=EARLY), Down(0.8, how)), DEFAULT]), slow=True
        )
        for how in ("reset", "drop", "restart")
    },
}  # fmt: skip

REFUSED = {
    **{
        f"the status answers {code} in between": Fault(
            live(), {STATUS: [DEFAULT, *[error(code)] * 2, DEFAULT, error(code), DEFAULT]}, slow=True
        )
        for code in CODES
    },
    **{
        f"the log answers {code} in between": Fault(live(), {WHOLE: [*[error(code)] * 2, DEFAULT]}, slow=True)
        for code in CODES
    },
    "the status answers with a page": Fault(live(), {STATUS: [DEFAULT, Html(200), Html(502), DEFAULT]}, slow=True),
    "the log answers with a page": Fault(live(), {WHOLE: [Html(200), Html(404), Html(502), DEFAULT]}, slow=True),
    "the status answers nonsense": Fault(
        live(), {STATUS: [DEFAULT, Answer(body=[]), Answer(body="{"), Answer(body={"x": 1}), DEFAULT]}, slow=True
    ),
    "the status redirects": Fault(live(), {STATUS: [DEFAULT, *REDIRECTS, DEFAULT]}, slow=True),
    "the log redirects": Fault(live(), {WHOLE: [*REDIRECTS, DEFAULT]}, slow=True),
    "the state API is busy": Fault(live(), {WHOLE: [BUSY, BUSY, DEFAULT]}, slow=True),
    "the jobs API restarts": Fault(live(), {STATUS: [DEFAULT, *NOT_JSON, Reset(), DEFAULT]}, slow=True),
    "the job is not known at first": Fault(live(), {STATUS: [*[error(404)] * 2, DEFAULT]}),
    "the log is not there at first": Fault(live(), {WHOLE: [NO_FILE, NO_FILE, DEFAULT]}, slow=True),
    "the log is not there at first, and the job has ended": Fault(
        lambda: Job(TEXT), {WHOLE: [NO_FILE, NO_FILE, DEFAULT]}, slow=True
    ),
    "the node is gone": Fault(there(end="FAILED"), {WHOLE: [GONE]}, lost=True, slow=True),
    "the node is gone half way": Fault(
        there(text="line 1\nline 2\nhalf", end="FAILED"),
        {WHOLE: [DEFAULT, GONE]},
        before=["line 1", "line 2"],
        lost=True,
        slow=True,
    ),
}

STATES = {
    "pending for a while": Fault(
        lambda: Job(
            status="PENDING",
            timeline=[Sleep(0.9), SetStatus("RUNNING"), Grow(TEXT[:MIDDLE]), Sleep(0.5), Grow(TEXT[MIDDLE:]),
                      SetStatus("SUCCEEDED")],
        )
    ),
    "never seen running": Fault(
        lambda: Job(TEXT, "PENDING", timeline=[Sleep(0.5), SetStatus("SUCCEEDED")]),
    ),
    "failed before its start": Fault(
        lambda: Job(
            status="PENDING", timeline=[Sleep(0.5), SetStatus("FAILED")], details={"driver_node_id": None}
        )
    ),
    **{name: END[name] for name in ("ended before", "failed", "stopped", "the last lines come after the status")},
}  # fmt: skip

BYTES_OF_LOGS = {
    "invalid UTF-8": Fault(of_bytes(INVALID)),
    "half a character at the end of a reading": Fault(of_bytes(BYTES[:HALF], BYTES[: HALF + 1], BYTES)),
    "half a character at the end of the log": Fault(of_bytes(BYTES[:HALF])),
    "bars drawn with carriage returns": Fault(
        live(text="".join(f"\r{percent}%|{'#' * percent}" for percent in range(101)) + "\nafter\r\n")
    ),
    **{name: row for name, row in TEXTS.items() if "surrogates" not in name},
    **{name: row for name, row in REPLAY.items() if name.startswith("rewritten")},
}

LONG = "".join(f"line {number} of a long log\n" for number in range(6_000))
"""So long that only its last lines are read when it grows."""


def long(*full: Step, text: str = LONG, grows: str = "a new line\n", times: int = 6) -> Callable[[], Job]:
    """Return what makes a job with a long log, which grows a few times.

    :param full: as in :func:`there`.
    """
    growth = [action for number in range(times) for action in (Sleep(0.3), Grow(f"{number} {grows}"))]
    timeline: list[Action] = [*growth, SetStatus("SUCCEEDED")]
    return lambda: Job(text, "RUNNING", timeline=timeline, full=[*full, DEFAULT])


LAST_LINES = {
    "long": Fault(long()),
    "long, and its last lines are cut": Fault(
        long(DEFAULT, Reset(), Play(FullText(stop=-20), Drop()), Play(Open(framing="close"), FullText(stop=-5)),
             DEFAULT, Play(Open()), DEFAULT)
    ),
    "long, and its last lines are refused": Fault(long(DEFAULT, NO_FILE, BUSY, Html(502), DEFAULT), slow=True),
    "long, of equal lines": Fault(long(text="the same line\n" * 12_000)),
    "long, of one line": Fault(long(text="x" * 300_000, grows="y" * 30_000)),
    "long, and it grows by many lines": Fault(long(grows="a\n" * 9_000)),
    "long, and it grows by its last lines again": Fault(long(text="".join(LONG[:60_000] for _ in "ab"),
                                                             grows=LONG[:60_000])),
}  # fmt: skip

RAY_FAULTS: dict[str, Fault] = {**LOG, **REFUSED, **STATES, **BYTES_OF_LOGS, **LAST_LINES}
