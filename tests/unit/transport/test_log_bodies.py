"""Decode the body of the whole log, plain text or JSON, in chunks that end anywhere."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentConnectionError,
    RayAgentNotFoundError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.stream.bodies import LogBodyDecoder
from tests.scripted import DEFAULT, Answer, FullText, Html, Job, Open, Play, Refuse, Reset, ScriptedAgent, Step
from tests.unit.support import named
from tests.unit.transports import Transport, config_of

JSON = "application/json"
PLAIN = "text/plain; charset=utf-8"
ROUTE = "GET jobs/j1/logs/"
TEXT = 'a\n\tb \\ "quoted" \\" \\\\ \\n / \x1b[1mé漢\U0001f680\r\x00\u2028 end\n\n'
TEXTS = ["", "x", "\\", '"', "\\\\", '\\"', "\n", "123", "null", '"', '{"logs": "x"}', TEXT]


def decoded(body: bytes, content_type: str, borders: list[int] | None = None) -> str:
    """Return the decoded text of a body that is split at these bytes."""
    decoder = LogBodyDecoder(content_type)
    cuts = [0, *(borders or []), len(body)]
    return "".join(decoder.feed(body[start:end]) for start, end in pairwise(cuts)) + decoder.end()


def bodies_of(text: str) -> list[tuple[bytes, str]]:
    return [
        (text.encode(), PLAIN),
        (json.dumps(text).encode(), JSON),
        (json.dumps(text, ensure_ascii=False).encode(), JSON),
        (json.dumps({"logs": text}).encode(), JSON),
        (json.dumps({"logs": text}, indent=2, ensure_ascii=False).encode(), f"{JSON}; charset=utf-8"),
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_chunk_boundaries_do_not_matter(text: str) -> None:
    for body, content_type in bodies_of(text):
        assert decoded(body, content_type) == text
        assert decoded(body, content_type, list(range(1, len(body)))) == text
        for at in range(len(body) + 1):
            assert decoded(body, content_type, [at]) == text
            assert decoded(body, content_type, [at, min(at + 3, len(body))]) == text


def test_a_surrogate_pair_of_escapes_is_one_character_at_any_chunk_boundary() -> None:
    body = b'"\\ud83d\\ude80 \\\\ud83d"'
    for at in range(len(body) + 1):
        pieces = decoded(body, JSON, [at])
        assert pieces.encode("utf-16-le", "surrogatepass").decode("utf-16-le") == "\U0001f680 \\ud83d"


@pytest.mark.parametrize(
    "text", ["123", "null", "true", "[1]", "{}", '{"logs": 7}', '{"loss": 1}\n{"loss": 2}\n', "[x"]
)
def test_a_log_that_looks_like_json_is_text_unless_it_is_said_to_be_json(text: str) -> None:
    assert decoded(text.encode(), PLAIN) == text
    for borders in ([], list(range(1, len(text)))):
        with pytest.raises(ValueError, match="neither a JSON string nor an object with logs"):
            decoded(text.encode(), JSON, borders)


def test_plain_text_in_quotes_keeps_them() -> None:
    assert decoded(b'"a\\nb"', PLAIN) == '"a\\nb"'
    assert decoded(b'"a\\nb"', "") == '"a\\nb"'


def test_only_invalid_utf_8_is_replaced() -> None:
    assert decoded(b"a\xffb\xe6\xbc", PLAIN) == "a\ufffdb\ufffd"


@pytest.mark.parametrize("body", [b'"abc', b'{"logs": "abc', b'"abc\\', b'"abc\\u00', b'"abc\\"'])
def test_an_unterminated_json_string_is_an_error(body: bytes) -> None:
    for at in range(len(body) + 1):
        with pytest.raises(ValueError, match="not terminated"):
            decoded(body, JSON, [at])


@pytest.mark.parametrize("body", [b'"ab\\q"', b'"\\uZZZZ"'])
def test_an_invalid_escape_in_a_json_string_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="escape"):
        decoded(body, JSON)


def test_a_large_log_is_decoded_in_linear_time() -> None:
    text = 'a "quoted" \\ line\n' * 100_000
    body = json.dumps(text).encode()
    assert decoded(body, JSON, list(range(1, len(body), 4096))) == text


@pytest.mark.parametrize("piece", ['"', "\\", '\\"', "x"])
def test_a_chunk_is_decoded_in_linear_time(piece: str) -> None:
    def seconds(size: int) -> float:
        body = json.dumps(piece * size).encode()
        taken = []
        for _ in range(3):
            began = time.process_time()
            assert decoded(body, JSON) == piece * size
            taken.append(time.process_time() - began)
        return min(taken)

    assert seconds(400_000) < 10 * max(seconds(100_000), 0.005)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_whole_log_is_read_in_every_format(as_json: bool, transport: Transport) -> None:
    with ScriptedAgent(Job(TEXT, text_as_json=as_json)) as server:
        assert transport.held_log(config_of(server)) == TEXT


@pytest.mark.parametrize("text", ["", "123", "null", '{"logs": "x"}'])
@pytest.mark.parametrize("as_json", [False, True])
def test_the_content_type_determines_the_format(text: str, as_json: bool, transport: Transport) -> None:
    with ScriptedAgent(Job(text, text_as_json=as_json)) as server:
        assert transport.held_log(config_of(server)) == text


def test_the_format_of_ray_is_supported(transport: Transport) -> None:
    with ScriptedAgent(Job(), answers={ROUTE: [Answer(200, {"logs": TEXT})]}) as server:
        assert transport.held_log(config_of(server)) == TEXT


def test_the_log_does_not_depend_on_the_transfer_of_the_body(transport: Transport) -> None:
    opens: list[Step] = [
        Play(Open(framing="close"), FullText()),
        Play(Open(length=len(TEXT.encode())), FullText()),
        Play(Open(cut=1), FullText()),
    ]
    for step in opens:
        with ScriptedAgent(Job(TEXT, full=[step])) as server:
            assert transport.held_log(config_of(server)) == TEXT


@pytest.mark.parametrize(
    "fault",
    [Play(Reset()), Refuse(503), Play(Open(length=10_000), FullText()), Play(FullText(stop=9), Reset())],
    ids=named,
)
def test_an_incomplete_whole_log_is_requested_again(fault: Step, transport: Transport) -> None:
    with ScriptedAgent(Job(TEXT, full=[fault, DEFAULT])) as server:
        assert transport.held_log(config_of(server)) == TEXT
        assert len(server.of(ROUTE)) == 2


def test_an_incomplete_json_log_is_an_error(transport: Transport) -> None:
    with (
        ScriptedAgent(Job(full=[Answer(200, b'"abc', content_type=JSON)])) as server,
        pytest.raises(RayAgentConnectionError, match="Reading the log failed"),
    ):
        transport.held_log(config_of(server))


def test_a_page_or_an_error_is_not_a_log(transport: Transport) -> None:
    with ScriptedAgent(Job(full=[Html(200), Refuse(404)])) as server:
        with pytest.raises(RayAgentResponseError, match="HTML page") as caught:
            transport.held_log(config_of(server))
        assert caught.value.status_code == 200
        assert caught.value.detail == (
            "GET /jobs/j1/logs/ answered 200: expected a log, got an HTML page; is this the URL of the agent?"
        )
        with pytest.raises(RayAgentNotFoundError):
            transport.held_log(config_of(server))
        assert len(server.requests) == 2
        server.wait_until(lambda: server.open_connections == 0)
