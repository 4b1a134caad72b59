"""The result that a job prints between two markers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from airflow_provider_rayagent.render.result import MAX_RESULT, InvalidResultError, ResultFinder
from airflow_provider_rayagent.tail.lines import LineAssembler
from airflow_provider_rayagent.text.redaction import Redactor

MARKERS = (("<START>", "<END>"), ("<<", ">>"))


def fed(*lines: str) -> ResultFinder:
    finder = ResultFinder(MARKERS)
    for line in lines:
        finder.feed(line)
    return finder


@pytest.mark.parametrize(
    "lines",
    [
        ['<START>{"a": [1, 2]}<END>'],
        ["<START>", '{"a":', "[1, 2]", "}", "<END>"],
        ["before", 'INFO <START>{"a": [1, 2]}', "<END> after"],
        ["<START>1<END>", "between", '<START>{"a": [1, 2]}<END>', "after"],
        ['<START>1<END><START>{"a": [1, 2]}<END>'],
        ['<START>{"a": [1, 2]}<END>', "<START>a second one that never ends"],
        ["<END>", '<START>{"a": [1, 2]}<END>', "<END>"],
        # Between other markers.
        ["<START>1<END>", '<<{"a": [1, 2]}>>'],
        ['<<1>><START>{"a": [1, 2]}<END>', ">>", "<<2"],
        ["<START>1<END>" * 5_000 + '<START>{"a": [1, 2]}<END>'],
    ],
)
def test_the_last_complete_result_is_taken_wherever_its_markers_stand(lines: list[str]) -> None:
    assert fed(*lines).value() == {"a": [1, 2]}


def test_a_result_can_have_the_markers_of_another_pair_in_it() -> None:
    assert fed('<START>["<<1>>"]<END>').value() == ["<<1>>"]
    assert fed('<<["<START>1<END>"', "]>>").value() == ["<START>1<END>"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "printed no result"),
        (["<<1", "<END>"], "printed no >>"),
        (["START 1 END"], "printed no result"),
        (["<START>1"], "printed no <END>"),
        (["<START><END>"], "not JSON"),
        (["<START>{'a': 1}<END>"], "not JSON"),
        (["<START>" + "[" * 30_000 + "]" * 30_000 + "<END>"], "nested more than 100 deep"),
        (["<START>" + "1" * (MAX_RESULT + 1) + "<END>"], "more than 64,000 characters"),
        (["<START>", *["1" * 1000] * 100, "<END>"], "more than 64,000 characters"),
    ],
)
def test_what_cannot_be_used_says_why(lines: list[str], words: str) -> None:
    with pytest.raises(InvalidResultError, match=words):
        fed(*lines).value()


def test_a_start_that_never_ends_takes_no_more_memory_than_a_result() -> None:
    finder = fed("<START>", *["x" * 1_000] * 1_000)
    assert len(json.dumps(finder.state())) < MAX_RESULT + 2_000


@given(some.text("<>START/END 12\n", max_size=60), some.integers(1, 9), some.data())
def test_pieces_of_a_long_line_are_put_together_again_by_whoever_goes_on(text: str, size: int, data: Any) -> None:
    text = text.replace("T", "<START>").replace("D", "<END>")
    whole = ResultFinder(MARKERS)
    for line in text.split("\n"):
        whole.feed(line)
    assembler = LineAssembler(size)
    finder = ResultFinder(MARKERS)
    for piece in [*assembler.feed(f"{text}\n")[0], *assembler.flush()[0]]:
        if data.draw(some.booleans()):
            finder = ResultFinder(MARKERS, json.loads(json.dumps(finder.state())))
        finder.feed(piece)
    assert finder.state() == whole.state()


SECRETS = Redactor(["train", "12345", "loss", 'p"w', "ab/cdEF"])


def test_a_secret_is_masked_as_a_whole_word_of_a_text_alone() -> None:
    finder = ResultFinder(MARKERS, None, SECRETS, SECRETS)
    finder.feed(
        '<START>{"loss" : 12345, "a": ["training", "a train", "train", "p\\"w=12345", "x\\ntrain", "%20train%0A", '
        '"\\u001b[31mtrain\\u001b[0m", "\\\\ntrain", "ab\\/cdEF", ":train:", 1e15], "12345": 0.12345}<END>'
    )
    texts = [
        "training",
        "a ***",
        "***",
        "***=***",
        "x\n***",
        "%20***%0A",
        "\x1b[31m***\x1b[0m",
        "\\n***",
        "***",
        ":***:",
    ]
    value = {"loss": 12345, "a": [*texts, 1e15], "12345": 0.12345}
    assert finder.value() == value
    saved = finder.state()["found"]
    assert json.loads(saved) == value
    assert "1e15" in saved
    assert not re.search(r"\btrain\b|ab\\?/cdEF|ntrain", saved)
    assert ResultFinder(MARKERS, finder.state(), SECRETS, SECRETS).value() == value


def test_a_result_with_a_secret_is_saved_however_long_it_may_be() -> None:
    finder = ResultFinder(MARKERS, None, SECRETS, SECRETS)
    long = json.dumps(["train", *["日"] * 10_000], ensure_ascii=False, separators=(",", ":"))
    finder.feed(f"<START>{long}{' ' * (MAX_RESULT - len(long))}<END>")
    assert ResultFinder(MARKERS, finder.state()).value() == ["***", *["日"] * 10_000]


@pytest.mark.parametrize(
    "lines",
    [
        ["<START>[12345,", "1]<END>"],
        ["<START>12345 is no JSON<END>"],
        ['<START>["x\\n12345"', "]<END>"],
        ["<START>[123", "45]<END>"],
        ["<START>[x12345x", "]<END>"],
    ],
)
def test_no_state_has_a_secret_and_none_is_a_changed_result(lines: list[str]) -> None:
    finder = ResultFinder(MARKERS, None, SECRETS, SECRETS)
    finder.feed(lines[0])
    state = json.loads(json.dumps(finder.state()))
    assert "12345" not in str(state)
    successor = ResultFinder(MARKERS, state, SECRETS, SECRETS)
    for line in lines[1:]:
        successor.feed(line)
    # A start that nothing follows does not make it a result.
    successor.feed("<START>")
    for each in (successor, ResultFinder(MARKERS, successor.state(), SECRETS, SECRETS)):
        with pytest.raises(InvalidResultError):
            each.value()
        each.feed("<END><START>2<END>")
        assert each.value() == 2


def test_what_the_release_before_saved_is_understood() -> None:
    finder = ResultFinder(MARKERS, {"inside": "[1,\n", "found": None})
    finder.feed("2]<END>")
    assert finder.value() == [1, 2]
    assert ResultFinder(MARKERS, {"inside": None, "found": "7"}).value() == 7
