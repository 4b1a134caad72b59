"""WebSocket frames, cut anywhere; the frames come from the scripted agent's own encoder."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.logs.frames import CLOSE, PING, PONG, FrameDecoder, accept_key, frame
from tests.scripted import frames
from tests.scripted.frames import BINARY, CONTINUATION, TEXT

SIZES = (0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 200_000)


def fed(data: bytes, cuts: list[int]) -> tuple[list[bytes], list[bytes], str | None]:
    """Return the messages, the pings and the end that bytes cut at these places give."""
    decoder = FrameDecoder()
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    messages: list[bytes] = []
    for start, end in pairwise(borders):
        messages += decoder.feed(data[start:end])
    return messages, decoder.take_pings(), decoder.ended


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_messages_of_every_length_are_whole_however_they_are_cut(size: int, opcode: int) -> None:
    payload = bytes(number % 251 for number in range(size))
    data = frames.frame(opcode, payload) + frames.frame(opcode, b"next")
    for cuts in ([], [1], [2], [3], [5], [9], [11], [len(data) - 1], list(range(0, len(data), 997))):
        assert fed(data, cuts) == ([payload, b"next"], [], None)


@given(st.data())
def test_fragments_with_pings_between_them_are_one_message(data: st.DataObject) -> None:
    messages = data.draw(st.lists(st.lists(st.binary(max_size=200), min_size=1, max_size=4), max_size=6))
    wire, pings = b"", []
    for pieces in messages:
        for piece in frames.fragments(TEXT, pieces):
            if data.draw(st.booleans()):
                pings.append(data.draw(st.binary(max_size=125)))
                wire += frames.frame(PING, pings[-1]) + frames.frame(PONG, b"")
            wire += piece
    cuts = data.draw(st.lists(st.integers(0, max(len(wire), 1)), max_size=10))
    assert fed(wire, cuts) == ([b"".join(pieces) for pieces in messages], pings, None)


@pytest.mark.parametrize(
    "bad",
    [
        frames.frame(CLOSE, frames.close_payload(1000)),
        frames.frame(CLOSE, b""),
        frame(TEXT, b"masked", b"abcd"),
        frames.frame(TEXT, b"compressed", rsv=4),
        frames.frame(CONTINUATION, b"of nothing"),
        frames.frame(TEXT, b"a", fin=False) + frames.frame(TEXT, b"another before its end"),
        frames.frame(PING, b"in pieces", fin=False),
        frames.frame(PING, b"x" * 126),
        frames.frame(0x3, b"an opcode that is reserved"),
    ],
)
def test_what_came_before_the_end_is_kept_and_nothing_after_it_is_read(bad: bytes) -> None:
    good = frames.frame(TEXT, b"good")
    for cuts in ([], list(range(len(good + bad)))):
        messages, pings, ended = fed(good + bad + good, cuts)
        assert (messages, pings) == ([b"good"], [])
        assert ended


def test_a_frame_of_ours_is_read_back_by_a_server() -> None:
    assert list(frames.ClientFrames().feed(frame(PING, b"hello", b"\x01\x02\x03\x04"))) == [(PING, b"hello")]


def test_the_handshake_is_the_standards_own_example() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
