"""Whatever value it is given, Airflow can store what comes out, and what could be stored is not changed."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
from airflow.sdk._shared.serialization import FORBIDDEN_XCOM_KEYS
from hypothesis import given
from hypothesis import strategies as some

from airflow_provider_rayagent.text.storable import MAX_DEPTH, RESERVED_KEYS, storable
from tests.unit.foreign import texts_in, through_airflow

NUMBERS = some.integers(-(2**70), 2**70) | some.floats()
KEYS = some.text(max_size=4) | some.sampled_from(sorted(RESERVED_KEYS))
VALUES = some.recursive(
    some.none() | some.booleans() | NUMBERS | some.text(some.characters(), max_size=8),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


def test_every_key_that_airflow_reserves_is_known() -> None:
    assert RESERVED_KEYS == FORBIDDEN_XCOM_KEYS


@given(VALUES)
def test_airflow_gives_back_what_was_made_storable(value: Any) -> None:
    refused: list[str] = []
    stored = storable(value, on_replace=refused.append)
    assert through_airflow({"x": stored}) == {"x": stored}
    assert storable(stored) == stored
    if not refused and "\ufffd" not in "".join(texts_in(stored)):
        assert stored == value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a\x00b\ud83d", "a\ufffdb\ufffd"),
        (float("nan"), "nan"),
        (2**64, "0x10000000000000000"),
        ({"__type": 1, "x": (True, None)}, {"\ufffd_type": 1, "x": [True, None]}),
        ({7: b"x"}, {"7": "b'x'"}),
    ],
)
def test_what_cannot_be_kept_is_replaced(value: Any, stored: Any) -> None:
    assert storable(value) == stored


class Compared(int):
    """An integer that a range would compare with each of its numbers, as it does with an IntEnum."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError(f"compared with {other}")

    __hash__ = int.__hash__


class Color(str, Enum):
    RED = "red"


class Seconds(float):
    pass


@pytest.mark.parametrize(("value", "stored"), [(Compared(7), 7), (Color.RED, "red"), (Seconds(1.5), 1.5)], ids=repr)
def test_of_a_subclass_the_plain_value_is_stored(value: Any, stored: Any) -> None:
    found = storable(value)
    assert (type(found), found) == (type(stored), stored)


def test_what_is_nested_too_deeply_is_left_out() -> None:
    value: Any = 1
    for _ in range(5_000):
        value = [value]
    stored = storable(value)
    for _ in range(MAX_DEPTH):
        (stored,) = stored
    assert stored == "… [nested too deeply]"


def test_secrets_are_taken_out_of_texts_and_keys() -> None:
    def redact(text: str) -> str:
        return text.replace("s3cret", "***")

    assert storable({"a s3cret": ["s3cret", 1]}, redact) == {"a ***": ["***", 1]}
    assert storable({"a s3cret": ["s3cret"]}, redact, redact_keys=False) == {"a s3cret": ["***"]}
