"""Decode the body of the whole log, plain or as a JSON string, in chunks that end anywhere."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.stream.bodies import LogBodyDecoder
from tests.unit.tail.history import joined

JSON = "application/json; charset=utf-8"
PLAIN = "text/plain; charset=utf-8"


def decoded(body: bytes, content_type: str, *cuts: int) -> str:
    decoder = LogBodyDecoder(content_type)
    borders = [0, *cuts, len(body)]
    pieces = [body[start:end] for start, end in itertools.pairwise(borders)]
    return joined("".join([*map(decoder.feed, pieces), decoder.end()]))


TEXTS = [
    "",
    "a\n",
    'say "hi"\\\n\t\x00\x1f\n',
    "\\\\",
    '\\"',
    "\U0001f680\u00e9\u2028\n",
    "123",
    "null",
    "\ud83d alone",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_chunk_boundaries_do_not_matter_in_a_json_string(text: str, escaped: bool, wrapped: bool) -> None:
    value = {"logs": text} if wrapped else text
    body = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    expected = text if escaped or "\ud83d" not in text else text.replace("\ud83d", "\ufffd" * 3)
    for cut in range(len(body) + 1):
        assert decoded(body, JSON, cut) == expected, f"cut at {cut}"
    assert decoded(body, JSON, *range(1, len(body))) == expected


@pytest.mark.parametrize("text", ["123", "null", "[1, 2]", '{"loss": 1}', "plain", "{", '{"logs', "x" * 500])
def test_other_json_is_no_log_and_is_not_quoted(text: str) -> None:
    for cut in range(min(len(text), 20) + 1):
        with pytest.raises(ValueError, match="neither a JSON string nor an object with logs") as caught:
            decoded(text.encode(), JSON, cut)
        assert text not in str(caught.value)


@pytest.mark.parametrize("text", ["", " \n", " " * 500])
def test_an_empty_body_is_an_empty_log(text: str) -> None:
    for cut in range(min(len(text), 20) + 1):
        assert decoded(text.encode(), JSON, cut) == ""


def test_plain_text_is_never_parsed_as_json() -> None:
    for text in ('"quoted"', '{"logs": "x"}', "\\u0041"):
        for cut in range(len(text) + 1):
            assert decoded(text.encode(), PLAIN, cut) == text
    assert decoded(b"\xff\xf0\x9f", "", 1) == "\ufffd\ufffd"


@pytest.mark.parametrize(
    "body", [b'"cut', b'"', b'"a\\', b'"a\\u12', b'{"logs": "a', b'"bad \\x escape"', b'"\\u12G4"']
)
def test_an_unterminated_or_invalid_json_string_is_an_error(body: bytes) -> None:
    for cut in range(len(body) + 1):
        with pytest.raises(ValueError, match=r"."):
            decoded(body, JSON, cut)


@given(st.text(st.characters(), max_size=80), st.booleans(), st.lists(st.integers(0, 300), max_size=4))
def test_random_text_round_trips(text: str, as_json: bool, cuts: list[int]) -> None:
    # Only JSON can have a lone surrogate, as an escape.
    text = text if as_json else text.encode("utf-8", "replace").decode()
    body = json.dumps(text).encode() if as_json else text.encode()
    assert decoded(body, JSON if as_json else PLAIN, *sorted(min(cut, len(body)) for cut in cuts)) == text


@given(
    st.lists(st.binary(max_size=20) | st.sampled_from([b'"', b"\\", b"\\u", b'{"logs":', b" ", b"00e9"]), max_size=8),
    st.sampled_from([JSON, PLAIN, ""]),
)
def test_random_bytes_yield_text_or_the_documented_error(chunks: list[bytes], content_type: str) -> None:
    decoder = LogBodyDecoder(content_type)
    try:
        out = "".join([*map(decoder.feed, chunks), decoder.end()])
    except ValueError:
        assert "json" in content_type
    else:
        assert isinstance(out, str)
