"""Decode WebSocket frames in chunks that end anywhere. The scripted agent's encoder produces the frames."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.stream.events import MAX_MESSAGE_BYTES, TOO_LONG
from airflow_provider_rayagent.stream.frames import CLOSE, PING, PONG, FrameDecoder, accept_key, control_frame
from tests.scripted import frames
from tests.scripted.frames import BINARY, CONTINUATION, TEXT

SIZES = (0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 200_000)


def fed(
    data: bytes, cuts: list[int], max_bytes: int = MAX_MESSAGE_BYTES
) -> tuple[list[bytes], bytes | None, str | None]:
    """Return the messages, the last ping and the reason for the end after feeding ``data``, split at ``cuts``."""
    decoder = FrameDecoder(max_bytes)
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    messages: list[bytes] = []
    for start, end in pairwise(borders):
        messages += decoder.feed(data[start:end])
    assert decoder.too_long is (decoder.ended == TOO_LONG)
    return messages, decoder.take_ping(), decoder.ended


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_chunk_boundaries_do_not_matter_for_messages_of_any_length(size: int, opcode: int) -> None:
    payload = bytes(number % 251 for number in range(size))
    data = frames.frame(opcode, payload) + frames.frame(opcode, b"next")
    for cuts in ([], [1], [2], [3], [5], [9], [11], [len(data) - 1], list(range(0, len(data), 997))):
        assert fed(data, cuts) == ([payload, b"next"], None, None)


@given(st.data())
def test_fragments_interleaved_with_pings_are_one_message(data: st.DataObject) -> None:
    messages = data.draw(st.lists(st.lists(st.binary(max_size=200), min_size=1, max_size=4), max_size=6))
    wire, ping = b"", None
    for pieces in messages:
        for piece in frames.fragments(TEXT, pieces):
            if data.draw(st.booleans()):
                ping = data.draw(st.binary(max_size=125))
                wire += frames.frame(PING, ping) + frames.frame(PONG, b"")
            wire += piece
    cuts = data.draw(st.lists(st.integers(0, max(len(wire), 1)), max_size=10))
    assert fed(wire, cuts) == ([b"".join(pieces) for pieces in messages], ping, None)


@given(st.data())
def test_a_message_over_the_limit_ends_the_stream_at_any_chunk_boundaries(data: st.DataObject) -> None:
    bound = data.draw(st.sampled_from([0, 1, 100, 125, 126, 200, 70_000]))
    near = st.integers(max(bound - 2, 0), bound + 2)
    sizes = data.draw(st.lists(st.lists(near | st.integers(0, 9), min_size=1, max_size=4), max_size=5))
    wire = b""
    for pieces in sizes:
        for piece in frames.fragments(TEXT, [b"x" * size for size in pieces]):
            wire += data.draw(st.sampled_from([b"", frames.frame(PING, b"p" * 125)])) + piece
    fits = list(itertools.takewhile(lambda size: size <= bound, map(sum, sizes)))
    cuts = data.draw(st.lists(st.integers(0, max(len(wire), 1)), max_size=10))
    messages, _, ended = fed(wire, cuts, bound)
    assert list(map(len, messages)) == fits
    assert (ended == TOO_LONG) is (len(fits) < len(sizes))


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES + 1, 2**32, 2**62, 2**63, 2**64 - 1])
def test_a_frame_that_is_too_long_ends_the_stream_before_its_payload_arrives(size: int) -> None:
    head = bytes((0x81, 127)) + size.to_bytes(8, "big")
    for cuts in ([], [1], [2], [5], [9]):
        assert fed(frames.frame(TEXT, b"good") + head, cuts) == ([b"good"], None, TOO_LONG)


def test_fragments_are_held_up_to_the_message_limit_and_empty_ones_not_at_all() -> None:
    decoder = FrameDecoder()
    decoder.feed(frames.frame(TEXT, b"", fin=False))
    empty = frames.frame(CONTINUATION, b"", fin=False) * 30_000
    tracemalloc.start()
    for _ in range(3):
        assert decoder.feed(empty) == []
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (held < len(empty), decoder.ended) == (True, None)


def test_a_fragment_costs_the_same_however_long_its_message_is() -> None:
    """Appended to ``bytes``, each fragment would cost a copy of the message: 250 times as much here."""

    def seconds(first: int) -> float:
        decoder = FrameDecoder()
        decoder.feed(frames.frame(TEXT, b"x" * first, fin=False))
        began = time.perf_counter()
        decoder.feed(frames.frame(CONTINUATION, b"y", fin=False) * 2_000)
        return time.perf_counter() - began

    assert min(seconds(8_000_000) for _ in range(3)) < 25 * min(seconds(8) for _ in range(3))


def test_data_after_the_end_is_not_held() -> None:
    decoder = FrameDecoder(10)
    decoder.feed(frames.frame(TEXT, b"x" * 11))
    assert [decoder.feed(frames.frame(TEXT, b"more")) for _ in range(3)] == [[], [], []]
    assert decoder._parts == []


def test_only_the_last_of_several_pings_is_answered() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"".join(frames.frame(PING, b"%d" % number) for number in range(1000)))
    assert (decoder.take_ping(), decoder.take_ping()) == (b"999", None)


@pytest.mark.parametrize(
    "bad",
    [
        frames.frame(CLOSE, frames.close_payload(1000)),
        frames.frame(CLOSE, b""),
        bytes((0x81, 0x86)) + b"mask" + b"masked",
        bytes((0x81, 0xFF)) + (2**62).to_bytes(8, "big"),
        frames.frame(TEXT, b"compressed", rsv=4),
        frames.frame(CONTINUATION, b"of nothing"),
        frames.frame(TEXT, b"a", fin=False) + frames.frame(TEXT, b"another before its end"),
        frames.frame(PING, b"in pieces", fin=False),
        frames.frame(PING, b"x" * 126),
        bytes((0x89, 127)) + (2**62).to_bytes(8, "big"),
        frames.frame(0x3, b"an opcode that is reserved"),
    ],
)
def test_messages_before_the_end_are_returned_and_none_after_it(bad: bytes) -> None:
    good = frames.frame(TEXT, b"good")
    for cuts in ([], list(range(len(good + bad)))):
        messages, ping, ended = fed(good + bad + good, cuts)
        assert (messages, ping) == ([b"good"], None)
        assert ended not in (None, TOO_LONG)


def test_a_server_decodes_a_client_frame() -> None:
    wire = [control_frame(PING, b"hello") for _ in range(8)]
    assert list(frames.ClientFrames().feed(b"".join(wire))) == [(PING, b"hello")] * 8
    # Each with a mask of its own, which must be unpredictable (section 5.3).
    assert len({each[2:6] for each in wire}) > 1


def test_the_handshake_matches_the_example_in_the_rfc() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
