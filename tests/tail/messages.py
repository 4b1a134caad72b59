"""The rows of the table for messages of a stream and for contents of a log."""

from __future__ import annotations

from tests.scripted import (
    Binary,
    Complete,
    Compressed,
    ErrorEvent,
    Event,
    Follow,
    Fragmented,
    Frame,
    Log,
    Open,
    Ping,
    Play,
    Sse,
    Text,
    at_random,
    byte_cuts,
    every,
    lines_without_newline,
    with_surrogates,
)
from tests.scripted.chunks import at_cuts, by_lines
from tests.tail.jobs import EARLY, LINES, MIDDLE, TEXT, ever, live, logs, written
from tests.tail.stage import Fault

PLAIN = TEXT.replace("\r", "")
"""Server-sent events without JSON cannot carry carriage returns."""
PIECES = at_cuts(TEXT, [EARLY, MIDDLE, MIDDLE, MIDDLE + 40])

MESSAGES = {
    "a line a message without its newline": Fault(ever(Play(Follow(lines_without_newline), Complete()))),
    "a line a message with its newline": Fault(ever(Play(Follow(by_lines), Complete()))),
    "lines joined without the last newline": Fault(
        written(*logs(["".join(LINES[at : at + 3]).removesuffix("\n") for at in range(0, len(LINES), 3)]))
    ),
    "a character a message": Fault(ever(Play(Follow(every(1)), Complete()))),
    "cut anywhere, empty pieces too": Fault(ever(Play(Follow(at_random(7, 12)), Complete()))),
    "cut within surrogate pairs": Fault(ever(Play(Follow(with_surrogates(every(1))), Complete()))),
    "as UTF-8 instead of escapes": Fault(ever(Play(Follow(every(7), ascii=False), Complete()))),
    "empty messages": Fault(written(Log(""), *logs(PIECES), Log(""), Log(""))),
    "everything in one message": Fault(written(Log(TEXT))),
    "binary frames": Fault(written(*(Binary(Log(piece)) for piece in PIECES))),
    "fragmented within characters": Fault(written(*(Fragmented(Log(piece, ascii=False), 1) for piece in PIECES))),
    "fragmented with empty fragments": Fault(written(Fragmented([*byte_cuts(b'{"message": "', [5, 0, 9]), b'no end"}']),
                                                     text="no end")),
    "compressed": Fault(written(*(Compressed(Log(piece)) for piece in PIECES))),
    "compressed though it was not agreed on": Fault(written(Compressed(Log(TEXT), force=True))),
    "frames that are not allowed": Fault(written(Log(PIECES[0]), Frame(0x3, b"x"), Log(PIECES[1]))),
    "pings in between": Fault(written(Ping(), Log(PIECES[0]), Ping(b""), *logs(PIECES[1:]))),
    "in pieces of five bytes": Fault(ever(Play(Open(cut=5), Follow(), Complete()))),
    "events that are no log": Fault(
        written(
            Event({"type": "connected", "message": "hello"}),
            Log(PIECES[0]),
            Event({"type": "log"}),
            Event({"type": "log", "message": None}),
            Event({"type": "ping"}),
            *logs(PIECES[1:]),
        )
    ),
    "JSON that is no event": Fault(written(Log(PIECES[0]), Event([1, 2]), Event(7), Event({}), *logs(PIECES[1:]))),
    "text that is not JSON": Fault(written(Log(PIECES[0]), Text("not JSON"), *logs(PIECES[1:]))),
    "text that is not JSON at the beginning": Fault(written(Text("Waiting ..."), *logs(PIECES))),
    "bytes that are not UTF-8": Fault(written(Log(PIECES[0]), Text(b"\xff\xfe"), *logs(PIECES[1:]))),
    "lines as plain text": Fault(written(*(Text(line) for line in lines_without_newline(PLAIN)), text=PLAIN)),
    "plain text with its newlines": Fault(written(Text(PLAIN), text=PLAIN)),
    "an error in mid-stream": Fault(written(Log(PIECES[0]), ErrorEvent(), *logs(PIECES[1:]))),
    "an error at the beginning and no log": Fault(ever(Play(ErrorEvent(), Complete()))),
    "SSE with other line ends": Fault(
        ever(Play(Open(newline="\r", bom=True, space=False, cut=3), Follow(), Complete()))
    ),
    "SSE with every field": Fault(
        ever(Play(Open(newline="\r\n", multiline=True, event="log", ids=True), Follow(), Complete()))
    ),
    "SSE that says it is Latin-1": Fault(
        ever(Play(Open(content_type="text/event-stream; charset=latin-1"), Follow(every(9), ascii=False), Complete()))
    ),
    "SSE without an end of its last event": Fault(
        live(ws=[], sse=[Play(Open(), Sse(data='{"type": "log", "message": "x"}', end=False))])
    ),
}  # fmt: skip

TEXTS = {
    f"a log with {name}": Fault(live(text=text, text_as_json=as_json), slow=len(text) > 100_000)
    for name, text, as_json in (
        ("nothing in it", "", False),
        ("one character", "a", False),
        ("one newline", "\n", False),
        ("newlines only", "\n" * 40, False),
        ("spaces only", "   \n\t\n \n", False),
        ("identical lines", "same\n" * 300, False),
        ("line ends that are none", "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\rh\r\n" * 9, False),
        ("lone surrogates", "a\ud83d\n\ude00b\n\ud83d" * 3, True),
        ("NUL and escapes", "\x00\x1b[2K\x7f\n" * 9, True),
        ("what looks like JSON", '{"type": "log"}\n"x"\n[1]\nnull\n', True),
        ("fold markers", "::group::x\n::endgroup::\n", False),
        ("a line of 5 MB", f"before\n{'x' * 5_000_000}\nafter\n", False),
        ("a line of 5 MB without an end", "y" * 5_000_000, False),
        ("20,000 lines", "".join(f"line {number}\n" for number in range(20_000)), False),
    )
}
