"""Secrets are taken out of texts whole, also where a text is cut."""

from __future__ import annotations

import copy
import pickle
import re
import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from airflow_provider_rayagent.tail.lines import LineAssembler, Piece, RedrawingAssembler, map_text, strip_marks
from airflow_provider_rayagent.text import redaction
from airflow_provider_rayagent.text.redaction import KEPT_ROTATIONS, NO_SECRETS, ROOM_FOR_SEQUENCES, Redactor
from airflow_provider_rayagent.text.sanitization import sanitize

SECRETS = ("abab", "abc", "b/")
TEXTS = some.text("abc/%2F\\x\r\n", max_size=60)


def assembled(assembler: LineAssembler, pieces: list[str]) -> list[str]:
    lines = [line for piece in pieces for line in assembler.feed(piece)[0]]
    return lines + assembler.flush()[0]


def joined(lines: list[str]) -> str:
    """Return the text of which these are the lines, without line breaks at its end."""
    text = ""
    for line in lines:
        part, ends = strip_marks(line)
        text += f"{part}\n" if ends else part
    return text.rstrip("\n")


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ('to"k/é', "***"),
        ('{"a": "to\\"k/é"}', '{"a": "***"}'),
        ('"to\\"k/\\u00e9"', '"***"'),
        ("?token=to%22k%2F%C3%A9&x", "?token=***&x"),
        ("to", "to"),
    ],
)
def test_a_secret_is_taken_out_in_each_of_its_forms(text: str, redacted: str) -> None:
    assert Redactor(['to"k/é', "to"])(text) == redacted


@pytest.mark.parametrize(
    "form",
    [
        "to%2Fk%2B%C3%A9%25%3D%3D",
        "to/k%2B%C3%A9%25%3D%3D",
        "to/k+%C3%A9%25==",
        "to%2fk%2b%c3%a9%25%3d%3d",
        "to%2fk%2B%C3%a9%25%3D%3d",
        "to/k%2b%c3%A9%25%3d%3d",
        "to/k+\\u00e9%==",
        "to\\/k+\\u00e9%==",
        "to\\/k+\\u00E9%==",
        "to\\/k+é%==",
    ],
)
def test_a_secret_is_taken_out_as_each_encoder_writes_it(form: str) -> None:
    secret = "to/k+é%=="
    others = [f"z/{number:04}" for number in range(redaction.MANY_FORMS)]
    for redact in (Redactor([secret]), Redactor([secret, *others]), Redactor(base=Redactor([secret]))):
        assert redact(f"a%2fb {form}\\u00E9%2f") == "a%2fb ***\\u00E9%2f"
        assert redact.redact_words(f"a%2fb {form}") == "a%2fb ***"
        assert redact.redact_partial(f"50% {form[:-1]}") == "50% ***"
        assert redact.cut_at(f"xx{form}yy", 0, 6) == 2


def test_the_escape_before_a_secret_hides_none_of_it() -> None:
    assert Redactor(["fabc12", "x/y"])("%2fabc12 %2Fabc12") == "%2*** %2Fabc12"


@pytest.mark.parametrize("sequence", ["\x1b[0m", "\x1b[K", "\x1b[1;31m\x1b[0m", "\x1b]8;;https://example.com\x1b\\"])
@pytest.mark.parametrize("others", [0, redaction.MANY_FORMS])
def test_a_secret_with_what_is_not_shown_inside_of_it_is_taken_out_whole(sequence: str, others: int) -> None:
    redact = Redactor(["s3cret", "to/ken", "Bearer s3cret", *(f"z{number:04}" for number in range(others))])
    line = f"\x1b[36m(pid=1)\x1b[0m a {sequence}s3{sequence}cr{sequence}et{sequence} b to%2{sequence}fken"
    assert redact(line) == f"\x1b[36m(pid=1)\x1b[0m a {sequence}***{sequence} b ***"
    assert sanitize(line, redact) == "(pid=1) a *** b ***"
    assert redact.redact_words(f"a s3{sequence}cret") == "a ***"
    assert redact.redact_words(f"a\x1b[0ms3cret\x1b[0mb as3{sequence}cret") == f"a\x1b[0m***\x1b[0mb as3{sequence}cret"
    assert redact(f"Bearer{sequence} s3cret") == "***"
    assert redact.redact_partial(f"50%{sequence} s3{sequence}cr{sequence}") == f"50%{sequence} ***"
    assert redact.cut_at(f"\x1b[0mxxs3{sequence}cretyy", 0, 10) == 6


def test_a_secret_that_has_a_sequence_is_taken_out_with_and_without_it() -> None:
    redact = Redactor(["s3\x1b[0mcret"])
    assert redact("a s3\x1b[0mcret b s3cret c s3\x1b[Kcret") == "a *** b *** c ***"


@pytest.mark.parametrize(
    "flood", ["\x1b", "\x1b[", "\x1b[0m", "\x1b[0;", "\x1b]8;", "%2f", "%", "\\u00E9", "\\", "to%2", "tok"]
)
def test_the_time_for_a_line_grows_with_its_length(flood: str) -> None:
    redact = Redactor(["tok/en", "toktoktoken" * 100, "é€/" * 9])
    seconds = {}
    for length in (20_000, 200_000):
        line = flood * (length // len(flood))
        began = time.process_time()
        for _ in range(5):
            redact(line)
            redact.redact_partial(line)
            redact.cut_at(line, 0, length // 2)
        seconds[length] = time.process_time() - began
    # If each place were compared with all that follows it, it would be a hundred times as much.
    assert seconds[200_000] < 40 * seconds[20_000] + 0.1


@given(some.text("abc _.", max_size=20))
def test_in_a_value_whole_words_alone_are_redacted(text: str) -> None:
    found = re.sub(r"(?<!\w)(?:abab|abc)(?!\w)", "***", text)
    assert Redactor(["abab", "abc"]).redact_words(text) == found
    assert Redactor(["abab"], base=Redactor(["abc"])).redact_words(text) == found
    many = [f"z{number:04}" for number in range(redaction.MANY_FORMS)]
    assert Redactor(["abab", "abc", *many]).redact_words(text) == found


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("", ""),
        ("a+b/c=d", "***d"),
        ("xa+b/c=", "xa+b/c="),
        ("token=a%2Bb%2Fc%3D&x", "token=***&x"),
        ("äa+b/c=", "äa+b/c="),
        ("x%20a+b/c=", "x%20***"),
        ("\x1b[0ma+b/c=\x1b[0m", "\x1b[0m***\x1b[0m"),
        ("\\na+b/c= and \\u00e9a+b/c=", "\\n*** and \\u00e9***"),
        ("Bearer a+b/c=", "Bearer ***"),
    ],
)
def test_a_secret_may_begin_and_end_with_other_characters(text: str, redacted: str) -> None:
    assert Redactor(["a+b/c="]).redact_words(text) == redacted


def test_a_longer_secret_that_is_no_word_hides_no_shorter_one() -> None:
    redact = Redactor(["Bearer abcdef", "abcdef", "abcdef-g"])
    assert redact.redact_words("nBearer abcdef") == "nBearer ***"
    assert redact.redact_words("abcdef-gh") == "***-gh"


@given(TEXTS, some.integers(1, 9), some.lists(some.integers(0, 60), max_size=5))
@pytest.mark.parametrize("kind", [LineAssembler, RedrawingAssembler])
def test_where_a_line_is_cut_depends_on_its_text_alone(
    kind: type[LineAssembler], text: str, max_length: int, cuts: list[int]
) -> None:
    redact = Redactor(SECRETS)
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    assert assembled(kind(max_length, redact=redact), pieces) == assembled(kind(max_length, redact=redact), [text])


@given(TEXTS, some.integers(1, 9))
def test_the_pieces_of_a_line_without_secrets_are_the_line_without_secrets(text: str, max_length: int) -> None:
    redact = Redactor(SECRETS)
    lines = assembled(LineAssembler(max_length, redact=redact), [text])
    assert joined(lines) == text.rstrip("\n")
    assert joined([map_text(line, redact) for line in lines]) == "\n".join(map(redact, text.split("\n"))).rstrip("\n")
    assert all(len(strip_marks(line)[0]) <= max_length + redact.overlap for line in lines)


def test_a_piece_ends_before_the_secret_in_which_it_would_end_or_after_it_if_it_begins_with_it() -> None:
    redact = Redactor(["s3cret"])
    lines = LineAssembler(5, redact=redact)
    assert lines.feed("xxxs3cretyyyyyyyy\n")[0] == [
        Piece("xxx", continued=False, continues=True),
        Piece("s3cret", continued=True, continues=True),
        Piece("yyyyy", continued=True, continues=True),
        Piece("yyy", continued=True, continues=False),
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("50% s3cret", "50% ***"), ("50% s3cr", "50% ***"), ("50% s3", "50% s3"), ("s3crets3c", "******")],
)
def test_the_beginning_of_a_secret_is_taken_out_of_a_line_that_is_still_written(text: str, shown: str) -> None:
    assert Redactor(["s3cret"]).redact_partial(text) == shown


def test_a_secret_that_is_added_is_redacted_from_then_on_by_every_method() -> None:
    redact = Redactor(["s3cret"])
    assert redact('s3cret to"ken') == '*** to"ken'
    assert redact.add(['to"ken', "s3cret", "to"]) == ("to%22ken", 'to\\"ken', 'to"ken')
    assert redact.forms == ("to%22ken", 'to\\"ken', "s3cret", 'to"ken')
    assert redact.overlap == 7 + ROOM_FOR_SEQUENCES
    assert redact('s3cret to"ken to%22ken') == "*** *** ***"
    assert redact.redact_partial('50% to"k') == "50% ***"
    assert redact.cut_at('xxto"kenyy', 0, 5) == 2
    assert redact.add(["s3cret"]) == ()


def test_the_last_rotated_secrets_stay_redacted_and_added_ones_always() -> None:
    redact = Redactor(["fixed"])
    redact.add(["added"])
    tokens = [f"token-{number}-end" for number in range(KEPT_ROTATIONS + 1)]
    assert [redact.rotate([token]) for token in tokens] == [(token,) for token in tokens]
    assert redact.rotate(tokens[-1:]) == ()
    assert redact(" ".join(["fixed", "added", *tokens])) == " ".join(
        ["***", "***", tokens[0], *["***"] * KEPT_ROTATIONS]
    )


def test_secrets_that_several_threads_add_are_all_redacted() -> None:
    redact = Redactor()
    secrets = [[f"secret-{thread}-{number}-end" for number in range(20)] for thread in range(4)]
    threads = [threading.Thread(target=lambda each=each: [redact.add([one]) for one in each]) for each in secrets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(redact.forms) == {one for each in secrets for one in each}


def test_a_secret_that_is_added_while_a_line_is_held_is_not_split() -> None:
    redact = Redactor()
    lines = LineAssembler(5, redact=redact)
    assert lines.feed("xxxs3")[0] == []
    redact.add(["s3cret"])
    assert lines.feed("cret\n")[0] == [
        Piece("xxx", continued=False, continues=True),
        Piece("s3cret", continued=True, continues=False),
    ]


def test_a_redactor_can_be_copied_and_the_copy_changes_alone() -> None:
    redact = Redactor(["s3cret"])
    for other in (copy.deepcopy(redact), pickle.loads(pickle.dumps(redact))):
        other.add(["added"])
        assert (redact("s3cret added"), other("s3cret added")) == ("*** added", "*** ***")


def test_the_shared_redactor_without_secrets_cannot_be_changed() -> None:
    for change in (NO_SECRETS.add, NO_SECRETS.rotate):
        with pytest.raises(TypeError, match="create a Redactor"):
            change(["s3cret"])
    for none in (NO_SECRETS, Redactor()):
        assert none("s3cret") == none.redact_partial("s3cret") == "s3cret"
        assert (none.cut_at("s3cret", 0, 2), none.overlap) == (2, 0)


@given(TEXTS, some.lists(some.text("abc/%\\", min_size=1, max_size=6), max_size=9), some.integers(0, 60))
def test_many_secrets_are_found_as_few_are(text: str, secrets: list[str], cut: int) -> None:
    few = Redactor(secrets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redaction, "MANY_FORMS", 1)
        many = Redactor(secrets)
        many.add(["later-secret"])
    few.add(["later-secret"])
    for each in (text, f"{text}later-secret"):
        assert many(each) == few(each)
        assert many.redact_partial(each) == few.redact_partial(each)
        assert many.cut_at(each, 0, cut) == few.cut_at(each, 0, cut)


def test_the_time_for_a_line_does_not_depend_on_the_number_of_secrets() -> None:
    line = "a line of a log without a secret, as long as most lines are " * 2
    seconds = {}
    for number in (300, 30_000):
        redact = Redactor(f"{each:05}-of-the-variables" for each in range(number))
        # The first line also pays for the preparation of all secrets.
        assert redact(line) == line
        began = time.process_time()
        for _ in range(300):
            assert redact(line) == line
        seconds[number] = time.process_time() - began
    # With one comparison for each secret, it would be a hundred times as much.
    assert seconds[30_000] < 20 * seconds[300]


def test_the_time_for_a_secret_does_not_depend_on_the_number_of_secrets() -> None:
    seconds = {}
    for number in (1_000, 20_000):
        secrets = [f"variable-{each:05}" for each in range(number)]
        began = time.process_time()
        Redactor(secrets, Redactor(["of-the-connection"]))("a line")
        seconds[number] = time.process_time() - began
    # With one copy of the secrets for each secret, it would be four hundred times as much.
    assert seconds[20_000] < 100 * seconds[1_000]
