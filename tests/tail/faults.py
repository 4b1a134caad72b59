"""The rows of the table: every fault that the guarantee of the log tail covers."""

from __future__ import annotations

from tests.scripted import (
    DEFAULT,
    Answer,
    Close,
    Complete,
    Down,
    Drop,
    Follow,
    FullText,
    Grow,
    Hold,
    Html,
    Job,
    Log,
    Open,
    Partial,
    Play,
    Redirect,
    Refuse,
    Repeat,
    Reset,
    Rewrite,
    SetStatus,
    Silence,
    Sleep,
    StopReading,
    Wire,
    at_random,
    every,
    frames,
    lines_without_newline,
)
from tests.tail.drivers import SILENCE_SECONDS
from tests.tail.jobs import EARLY, LINES, MIDDLE, STATUS, TEXT, UntilRead, ever, live
from tests.tail.messages import MESSAGES, TEXTS
from tests.tail.stage import Fault

WHOLE = "GET jobs/j1/logs/"
CODES = (401, 403, 404, 429, 500, 502, 503, 504)
PINGS = frames.frame(frames.PING, b"p" * 125) * 500
HUGE_FRAME = bytes((0x81, 127)) + (2**62).to_bytes(8, "big")
ENDLESS_503 = "HTTP/1.1 503 Words\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSES = (1000, 1001, 1006, 1009, 1011, 1012, 3000, None)

CONNECTION = {
    "no fault": Fault(live()),
    "reset": Fault(live(Play(Follow(stop=EARLY), Reset()), Play(Follow(stop=MIDDLE), Reset()))),
    "reset within a message": Fault(live(Play(Follow(stop=EARLY), Partial(Log("torn"), 9), Reset()))),
    "reset before the first byte": Fault(live(Reset(), Reset())),
    "closed without a close frame": Fault(live(Play(Follow(stop=EARLY), Drop()), Play(Follow(stop=MIDDLE), Drop()))),
    **{
        f"closed with {code}": Fault(
            live(Play(Follow(stop=EARLY), Close(code)), Play(Follow(stop=MIDDLE), Close(code)))
        )
        for code in CLOSES
    },
    "closed at once, for ever": Fault(ever(Close(1000))),
    "a body that ends early without an error": Fault(live(Play(Open(framing="close"), Follow(stop=EARLY)))),
    "a body that ends early with an error": Fault(live(Play(Open(length=100_000), Follow(stop=EARLY), Drop()))),
    "half open in the middle": Fault(live(Play(Follow(stop=EARLY), Silence()))),
    "half open within a message": Fault(live(Play(Follow(stop=EARLY), Partial(Log("torn"), 9), Silence())), slow=True),
    "half open for ever": Fault(ever(Play(Open(), Silence())), hangs=True),
    "pings without a pause, and their answers unread": Fault(
        live(ws=[Play(StopReading(), *[Wire(PINGS)] * 80, Follow(), Complete())], sse=[DEFAULT])
    ),
    "a frame of 2**62 bytes": Fault(ever(Play(Follow(stop=EARLY), Wire(HUGE_FRAME), Hold()))),
    "healthy and quiet for a while": Fault(
        live(Play(Follow(stop=MIDDLE), Hold(2 * SILENCE_SECONDS), Follow(), Complete()))
    ),
    "pending for a while": Fault(live(text="")),
    "connections reset before the first request": Fault(live(), connects=[Reset(), Reset(), Reset(), DEFAULT]),
    "restarted": Fault(live(Play(Follow(stop=EARLY), Down(0.8, "restart"))), slow=True),
    "restarted with resets": Fault(live(Play(Follow(stop=EARLY), Down(0.8, "reset"))), slow=True),
    "restarted with every connection dropped": Fault(live(Play(Follow(stop=EARLY), Down(0.8, "drop"))), slow=True),
}

REFUSED = {
    **{
        f"the status answers {code} in between": Fault(
            live(), {STATUS: [DEFAULT, *[Refuse(code)] * 2, DEFAULT, Refuse(code), DEFAULT]}, slow=True
        )
        for code in CODES
    },
    **{
        f"the whole log answers {code} in between": Fault(live(), {WHOLE: [*[Refuse(code)] * 2, DEFAULT]}, slow=True)
        for code in CODES
    },
    **{f"streams answer {code} in between": Fault(live(*[Refuse(code)] * 2)) for code in CODES},
    **{f"streams answer {code} for ever": Fault(ever(Refuse(code))) for code in (403, 404, 426, 429, 503)},
    "streams answer 503 with a body that never ends": Fault(
        ever(Play(Wire(ENDLESS_503), Repeat(b"1\r\n.\r\n"))), slow=True
    ),
    "the status is not there at first": Fault(live(), {STATUS: [*[Refuse(404)] * 2, DEFAULT]}),
    "the status answers with a page": Fault(live(), {STATUS: [DEFAULT, Html(200), Html(502), DEFAULT]}, slow=True),
    "the status answers nonsense": Fault(
        live(), {STATUS: [DEFAULT, Answer(body=[]), Answer(body="{"), Answer(body={"x": 1}), DEFAULT]}, slow=True
    ),
    "the whole log answers with a page": Fault(live(), {WHOLE: [Html(200), Html(502), DEFAULT]}, slow=True),
    "the whole log breaks off": Fault(
        live(full=[Play(Open(length=100_000), FullText(stop=EARLY), Reset()), Play(FullText(stop=9), Drop()), DEFAULT]),
        slow=True,
    ),
    "the whole log is never there": Fault(ever(Play(Follow(), Complete())), {WHOLE: [Refuse(500)]}, slow=True),
    "upgrade answered with the whole log": Fault(live(ws=[Answer(body=TEXT)], sse=[DEFAULT])),
    "upgrade answered with a page": Fault(ever(Html(200))),
    "upgrade answered with a proxy's error": Fault(ever(Html(502))),
    "upgrade redirected": Fault(ever(Redirect("/login"))),
    "upgrade redirected elsewhere": Fault(ever(Redirect("http://127.0.0.1:1/"))),
    "upgrade with a wrong key": Fault(live(sse=[DEFAULT], ws=[Play(Open(accept="x"), Follow())])),
    "upgrade never answered": Fault(ever(Silence()), hangs=True, slow=True),
    "only WebSocket refused": Fault(live(ws=[Refuse(403)], sse=[DEFAULT])),
    "only SSE refused": Fault(live(sse=[Refuse(404)], ws=[DEFAULT])),
    "neither a stream nor the whole log": Fault(ever(Refuse(404)), {WHOLE: [Refuse(400)]}, lost=True, slow=True),
}

REPLAY = {
    "replayed with other borders": Fault(
        live(*(Play(Follow(at_random(seed, 9), stop=EARLY * (seed + 1)), Reset()) for seed in range(4)))
    ),
    "replayed with other borders, a line a message": Fault(
        live(*(Play(Follow(lines_without_newline, stop=len("".join(LINES[:n]))), Reset()) for n in (3, 8, 15)))
    ),
    "from now instead of from the start": Fault(
        live(Play(Follow(stop=EARLY), Reset()), Play(Sleep(0.3), Follow(start="now")))
    ),
    "always from now": Fault(ever(Play(Follow(start="now"), Complete()))),
    "rewritten": Fault(
        lambda: Job(
            status="RUNNING",
            timeline=[
                Grow("old 1\nold 2\n"),
                UntilRead(),
                Rewrite("new 1\n"),
                Sleep(0.4),
                Grow("new 2\nnew 3\n"),
                Sleep(0.4),
                SetStatus("SUCCEEDED"),
            ],
        ),
        before=["old 1", "old 2"],
    ),
    "rewritten to something shorter": Fault(
        lambda: Job(
            status="RUNNING",
            timeline=[Grow("an old line\n"), UntilRead(), Rewrite("new\n"), Sleep(0.5), SetStatus("SUCCEEDED")],
        ),
        before=["an old line"],
    ),
}

END = {
    "ended before": Fault(lambda: Job(TEXT)),
    "failed": Fault(lambda: Job(TEXT, "FAILED")),
    "stopped": Fault(lambda: Job(TEXT, "STOPPED")),
    "the stream lags the status": Fault(ever(Play(Follow(every(40), stop=EARLY), Hold(4), Follow(), Complete()))),
    "the last lines come after the status": Fault(
        lambda: Job(
            TEXT[:MIDDLE], "RUNNING", timeline=[Sleep(0.4), SetStatus("SUCCEEDED"), Sleep(0.3), Grow(TEXT[MIDDLE:])]
        )
    ),
    "the stream stays open after the end": Fault(ever(Play(Follow(), Hold()))),
    "the stream never says complete": Fault(ever(Play(Follow(), Close(1000)))),
    "complete before the job is done": Fault(
        live(Play(Follow(stop=EARLY), Complete()), Play(Follow(stop=MIDDLE), Complete(), Drop()))
    ),
    "complete at once, for ever": Fault(ever(Play(Complete()))),
}

FAULTS: dict[str, Fault] = {**CONNECTION, **REFUSED, **MESSAGES, **TEXTS, **REPLAY, **END}
