"""Decode server-sent events in chunks that end anywhere, as the WHATWG HTML standard defines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.stream.sse import ServerSentEvent, SseDecoder

if TYPE_CHECKING:
    from collections.abc import Iterable

E = ServerSentEvent

CASES: list[tuple[str, bytes, list[ServerSentEvent]]] = [
    ("nothing", b"", []),
    ("one event", b"data: a\n\n", [E("a")]),
    ("CR line endings", b"data: a\r\rdata: b\r\r", [E("a"), E("b")]),
    ("CRLF line endings", b"data: a\r\n\r\ndata: b\r\n\r\n", [E("a"), E("b")]),
    ("mixed line endings", b"data: a\ndata: b\rdata: c\r\n\n", [E("a\nb\nc")]),
    ("a byte order mark", b"\xef\xbb\xbfdata: a\n\n", [E("a")]),
    ("a second byte order mark is text", b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [E("b")]),
    ("a later byte order mark is text", b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [E("a")]),
    ("comments", b": hello\n\n:\n\ndata: a\n: between\ndata: b\n\n", [E("a\nb")]),
    ("multi-line data", b"data: YHOO\ndata: +2\ndata: 10\n\n", [E("YHOO\n+2\n10")]),
    ("only one leading space is dropped", b"data:a\n\ndata: a\n\ndata:  a\n\n", [E("a"), E("a"), E(" a")]),
    ("a tab is not a space", b"data:\ta \n\n", [E("\ta ")]),
    ("a field without a colon", b"data\n\n", [E("")]),
    ("empty data", b"data:\n\n", [E("")]),
    ("two empty data fields", b"data\ndata\n\n", [E("\n")]),
    ("an event without data", b"event: x\n\ndata: a\n\n", [E("a")]),
    ("names", b"event: log\ndata: a\n\nevent:end\ndata: b\n\n", [E("a", "log"), E("b", "end")]),
    ("the last name is used", b"event: x\nevent: y\ndata: a\n\n", [E("a", "y")]),
    ("a name for one event only", b"event: x\ndata: a\n\ndata: b\n\n", [E("a", "x"), E("b")]),
    ("id and retry", b"id: 7\nretry: 10\ndata: a\n\nid\n\nretry: soon\n\n", [E("a")]),
    ("unknown fields", b"foo: bar\n data: no\nDATA: no\ndata : no\ndata: a\n\n", [E("a")]),
    ("colons in the value", b"data: a: b:c\n\n", [E("a: b:c")]),
    ("other line separators are text", "data: a\u2028b\x85c\x0bd\x0c\n\n".encode(), [E("a\u2028b\x85c\x0bd\x0c")]),
    ("NUL", b"data: a\x00b\n\n", [E("a\x00b")]),
    ("many blank lines", b"\n\n\r\r\n\n\ndata: a\n\n\n\n", [E("a")]),
    ("invalid UTF-8", b"data: a\xffb\n\n", [E("a\ufffdb")]),
    ("a character truncated by a line ending", b"data: \xf0\x9f\ndata: b\n\n", [E("\ufffd\nb")]),
    ("four-byte characters", "data: \U0001f680\n\n".encode(), [E("\U0001f680")]),
    ("an event without its blank line", b"data: a\n\ndata: b\n", [E("a")]),
    ("an event truncated within a line", b"data: a\n\ndata: b", [E("a")]),
    ("carriage return at the end", b"data: a\n\r", [E("a")]),
]


def decoded(chunks: Iterable[bytes]) -> list[ServerSentEvent]:
    decoder = SseDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    assert decoder.ended is None
    return events


@pytest.mark.parametrize(("stream", "events"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_chunk_boundaries_do_not_matter(stream: bytes, events: list[ServerSentEvent]) -> None:
    assert decoded([stream]) == events
    assert decoded(bytes([byte]) for byte in stream) == events
    for cut in range(len(stream) + 1):
        assert decoded([stream[:cut], b"", stream[cut:]]) == events, f"cut at {cut}"
        for second in range(cut, len(stream) + 1):
            assert decoded([stream[:cut], stream[cut:second], stream[second:]]) == events, f"cut at {cut}, {second}"


def test_an_event_is_dispatched_as_soon_as_its_blank_line_arrives() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: a\r") == []
    assert decoder.feed(b"\r") == [E("a")]
    assert decoder.feed(b"\ndata: b\r\n") == []
    assert decoder.feed(b"\r") == [E("b")]
    assert decoder.feed(b"\n") == []


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_random_bytes_do_not_raise_and_chunk_boundaries_do_not_matter(chunks: list[bytes]) -> None:
    assert decoded(chunks) == decoded([b"".join(chunks)])


PIECES = st.sampled_from(
    [b"data", b"event", b"id", b"retry", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"x", b"\xef\xbb\xbf", b"\xf0\x9f"]
)


@given(st.lists(PIECES, max_size=40), st.integers(1, 7))
def test_random_fields_are_decoded_as_the_standard_defines(pieces: list[bytes], size: int) -> None:
    stream = b"".join(pieces)
    cut = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert decoded(cut) == by_the_standard(stream)


@given(st.lists(PIECES | st.integers(1, 9).map(lambda size: b"x" * 30 * size), max_size=60), st.integers(1, 40))
def test_an_event_over_the_limit_ends_the_stream_at_any_chunk_boundaries(pieces: list[bytes], size: int) -> None:
    stream = b"".join(pieces)
    cut, whole = SseDecoder(300), SseDecoder(300)
    events = [event for at in range(0, len(stream), size) for event in cut.feed(stream[at : at + size])]
    assert (events, cut.ended) == (whole.feed(stream), whole.ended)
    expected = by_the_standard(stream)
    assert events == expected[: len(events)]
    assert all(len(event.data) <= 2 * 300 for event in events)
    assert cut.too_long or events == expected


@pytest.mark.parametrize("field", [b"data: ", b"data:", b": ", b"id: ", b"event: ", b""])
def test_an_unterminated_line_ends_the_stream_at_the_limit(field: bytes) -> None:
    decoder = SseDecoder(100_000)
    assert decoder.feed(b"data: good\n\n" + field) == [E("good")]
    fed = 0
    while decoder.ended is None:
        assert decoder.feed(b"x" * 1000) == []
        fed += 1000
        assert fed <= 101_000
    assert (decoder.too_long, decoder.feed(b"\n\ndata: more\n\n")) == (True, [])


def test_a_multi_line_event_before_a_line_that_is_too_long_is_returned() -> None:
    decoder = SseDecoder(100)
    assert decoder.feed(b"data: a\ndata: b\n\n" + b"x" * 101) == [E("a\nb")]
    assert decoder.too_long


@pytest.mark.parametrize("line", [b"data: x\n", b"data\n"])
def test_an_unterminated_event_of_many_lines_ends_the_stream_at_the_limit(line: bytes) -> None:
    decoder = SseDecoder(100_000)
    fed = 0
    while decoder.ended is None:
        assert decoder.feed(line * 10) == []
        fed += 10 * len(line)
        assert fed <= 101_000
    assert decoder.too_long


def by_the_standard(stream: bytes) -> list[ServerSentEvent]:
    """Decode a whole stream with the steps of the standard."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _unfinished = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    events = []
    data, name = "", ""
    for line in lines:
        field, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append(ServerSentEvent(data.removesuffix("\n"), name))
            data, name = "", ""
        elif colon and not field:
            continue
        elif field == "event":
            name = value
        elif field == "data":
            data += f"{value}\n"
    return events
