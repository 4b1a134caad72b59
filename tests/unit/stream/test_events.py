"""Decode the messages of a log stream."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.stream.events import COMPLETE, OTHER, Event, _decode_any, decode_event

NEAR_EVENTS = (
    rb'{"type": "log", "message": "abc\n"}',
    '{"type": "log", "message": "\\ud83d\\ude00 é x"}'.encode(),
    b'{"message":"x","type":"log","n":[1,2.5,{"a":null}],"message":"y"}',
    rb'{"type":"log","message":"\ud83d"}',
    b'{"type":"log","message":12345678901234567890123}',
    b' \r\n{"type":"log","message":"q"} ',
)
STRANGE = (*(bytes([byte]) for byte in b'\0\n\x1f\x7f\xff"\\{},'), b"", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"1e999")


def log(text: str) -> Event:
    return Event("log", text)


def plain(text: str) -> Event:
    return Event("log", text, plain=True)


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        ({"type": "log", "message": "a\nb"}, log("a\nb")),
        ({"type": "log", "message": ""}, log("")),
        ({"type": "message", "message": "a"}, log("a")),
        ({"message": "a"}, log("a")),
        ({"type": None, "message": "a"}, log("a")),
        ({"type": "log", "message": "a", "timestamp": 1}, log("a")),
        ({"type": "log", "message": 7}, log("7")),
        ({"type": "log", "message": ["é"]}, log('["é"]')),
        ({"type": "log"}, OTHER),
        ({"type": "log", "message": None}, OTHER),
        ({"type": "complete"}, COMPLETE),
        ({"type": "complete", "message": "bye"}, COMPLETE),
        ({"type": "error", "message": "Failed"}, Event("error", "Failed")),
        ({"type": "error"}, Event("error", "no reason given")),
        ({"type": "ping"}, OTHER),
        ({"type": "connected", "message": "hello"}, OTHER),
        ({"type": "LOG", "message": "a"}, OTHER),
        ({"type": 5, "message": "a"}, OTHER),
        ({"type": ["log"], "message": "a"}, OTHER),
    ],
)
def test_the_type_determines_the_kind_of_event(payload: dict[str, Any], event: Event) -> None:
    assert decode_event(json.dumps(payload)) == event
    assert decode_event(f" \r\n\t{json.dumps(payload, indent=2)}\n".encode()) == event


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just text",
        "[1, 2]",
        "7",
        "null",
        '"a string"',
        "{}",
        '{"loss": 0.5}',
        "{not JSON}",
        '{"type": "log", "message": "cut o',
        '{"type": "log", "message": "a"} and more',
        '  {"loss": 0.5}  ',
        "\ufefftext",
        "\x00\x1b[1m",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"type": "log", "message": ' + "9" * 5_000 + "}" if sys.version_info >= (3, 11) else "{",
    ],
)
def test_text_that_is_not_an_event_is_log_text(text: str) -> None:
    assert decode_event(text) == plain(text)
    assert decode_event(text.encode()) == plain(text)


def test_a_log_line_that_looks_like_an_event_remains_a_line() -> None:
    line = json.dumps({"type": "complete"})
    assert decode_event(json.dumps({"type": "log", "message": line})) == log(line)


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("", plain("x")),
        ("log", plain("x")),
        ("message", plain("x")),
        ("complete", COMPLETE),
        ("error", Event("error", "x")),
        ("ping", OTHER),
    ],
)
def test_the_name_of_a_server_sent_event_is_used_if_the_data_has_no_type(name: str, event: Event) -> None:
    assert decode_event("x", name) == event


def test_the_type_takes_precedence_over_the_name_of_a_server_sent_event() -> None:
    assert decode_event('{"type": "log", "message": "a"}', "complete") == log("a")
    assert decode_event('{"message": "a"}', "error") == Event("error", "a")


def test_lone_surrogates_and_invalid_bytes_are_text() -> None:
    assert decode_event('{"type": "log", "message": "\\ud83d"}') == log("\ud83d")
    assert decode_event(b'{"type": "log", "message": "\xff"}') == log("\ufffd")
    assert decode_event(b"\xff\xfe") == plain("\ufffd\ufffd")


@pytest.mark.parametrize("depth", [100, 500, *range(900, 1100, 7), 5_000, 50_000])
def test_a_deeply_nested_message_does_not_raise(depth: int) -> None:
    value = "[" * depth + "]" * depth
    event = decode_event(f'{{"type": "log", "message": {value}}}')
    assert event.kind == "log"
    assert value in event.message


@given(st.binary(max_size=200) | st.text(max_size=200), st.sampled_from(["", "log", "complete", "x"]))
def test_any_data_decodes_to_an_event(data: bytes | str, name: str) -> None:
    assert decode_event(data, name).kind in ("log", "complete", "error", "other")


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@given(st.fixed_dictionaries({}, optional={"type": JSON | st.sampled_from(["log", "error"]), "message": JSON}))
def test_any_json_object_decodes_to_an_event(payload: dict[str, Any]) -> None:
    event = decode_event(json.dumps(payload))
    assert event.kind in ("log", "complete", "error", "other")
    assert event.plain is not bool(payload) or event.kind != "log"


@given(st.text(st.characters(), max_size=100))
def test_every_message_round_trips_through_json(text: str) -> None:
    payload = {"type": "log", "message": text}
    assert decode_event(json.dumps(payload)) == log(text)
    kept = json.dumps(payload, ensure_ascii=False)
    assert decode_event(kept) == log(text)


@given(st.data())
def test_the_fast_parser_agrees_with_the_standard_library(data: st.DataObject) -> None:
    """Mutate an event: invalid UTF-8, control characters, lone surrogates, malformed JSON."""
    payload = bytearray(data.draw(st.sampled_from(NEAR_EVENTS)))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(payload)))
        payload[at : at + data.draw(st.integers(0, 1))] = data.draw(st.sampled_from(STRANGE))
    assert decode_event(bytes(payload)) == _decode_any(bytes(payload), "")
