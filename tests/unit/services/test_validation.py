"""Validate ids, names, timeouts and protocols before a request is sent."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.services.validation import (
    MAX_DURATION,
    quote_application_name,
    shown,
    validate_amount,
    validate_bytes,
    validate_count,
    validate_duration,
    validate_id,
    validate_protocol,
    validate_timeout,
)
from tests.unit.support import HOSTILE_IDS

if TYPE_CHECKING:
    from collections.abc import Callable

NAN = float("nan")
NOT_COUNTS: list[Any] = [-1, 1.5, NAN, "3", True, None, [], 2**63, 10**5_000]
NOT_SECONDS: list[Any] = [
    *(0, -1, "abc", "5", True, None, NAN, float("inf"), [], 1j, 10**400, 10**5_000),
    *(timedelta(), timedelta(seconds=-1), timedelta.max),
]


@pytest.mark.parametrize("value", ["j", "raysubmit_1-A", "0" * 100])
def test_a_valid_id_is_accepted(value: str) -> None:
    assert validate_id(value, "job") == value


@pytest.mark.parametrize("value", HOSTILE_IDS, ids=ascii)
@pytest.mark.parametrize("kind", ["job", "node", "task"])
def test_an_invalid_id_is_rejected(value: object, kind: str) -> None:
    with pytest.raises(RayAgentInputError, match=f"The {kind} id") as caught:
        validate_id(value, kind)
    assert caught.value.status_code == 400
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("app", "app"),
        ("my app", "my%20app"),
        ("a?b#c%d&e+f", "a%3Fb%23c%25d%26e%2Bf"),
        ("漢é", "%E6%BC%A2%C3%A9"),
        ("...", "..."),
        ("a\\b", "a%5Cb"),
    ],
)
def test_an_application_name_is_quoted(name: str, quoted: str) -> None:
    assert quote_application_name(name) == quoted


@pytest.mark.parametrize("value", NOT_SECONDS, ids=shown)
def test_an_invalid_duration_is_rejected(value: object) -> None:
    with pytest.raises(RayAgentInputError, match="patience must be a number of seconds greater than 0") as caught:
        validate_duration(value, "patience")
    assert len(str(caught.value)) < 200
    with pytest.raises(RayAgentInputError, match="timeout"):
        validate_timeout(value)


REFUSED: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
    "application name": (
        quote_application_name,
        ["", " ", ".", "..", "a/b", "/", "a\n", "a\x00b", "\x7f", "\ud800", None, 7, b"a"],
    ),
    "pieces": (lambda value: validate_count(value, "pieces"), [0, *NOT_COUNTS]),
    "at least 0, not": (lambda value: validate_count(value, "pieces", or_zero=True), NOT_COUNTS),
    "number of bytes": (lambda value: validate_bytes(value, "size"), NOT_COUNTS),
    "amount must": (lambda value: validate_amount(value, "amount"), [-1, NAN, -NAN, "1", True, None, [], 10**400]),
    "protocol": (validate_protocol, ["grpc", "", "AUTO", None, 1, ["auto"]]),
    "from 0 to": (lambda value: validate_duration(value, "patience", or_zero=True), [-1]),
    # A lower maximum than that of a duration.
    "300": (validate_timeout, [301]),
}


@pytest.mark.parametrize(
    ("words", "value"), [(words, value) for words in REFUSED for value in REFUSED[words][1]], ids=shown
)
def test_an_invalid_value_is_rejected_with_what_it_should_be(words: str, value: object) -> None:
    with pytest.raises(RayAgentInputError, match=words):
        REFUSED[words][0](value)


@pytest.mark.parametrize(
    ("value", "seconds"), [(timedelta(minutes=5), 300.0), (timedelta(milliseconds=1), 0.001), (7, 7.0)]
)
def test_a_duration_is_a_number_of_seconds_or_a_timedelta(value: Any, seconds: float) -> None:
    assert validate_duration(value, "patience") == seconds
    assert validate_timeout(value) == seconds


@pytest.mark.parametrize("value", [0, 0.0, timedelta()])
def test_a_duration_of_zero_is_accepted_if_permitted(value: Any) -> None:
    assert validate_duration(value, "patience", or_zero=True) == 0.0


def test_the_longest_duration_works_with_threading_and_datetime() -> None:
    longest = validate_duration(MAX_DURATION, "patience")
    assert 86_400.0 < longest < threading.TIMEOUT_MAX
    assert datetime.now(timezone.utc) + timedelta(seconds=longest)
