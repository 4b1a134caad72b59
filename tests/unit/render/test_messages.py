"""Messages that a job prints: what they state, what has no effect, and that it is the same after take-overs."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from airflow_provider_rayagent.decorators import rayagent_task
from airflow_provider_rayagent.decorators.rayagent_task import print_result, rayagent_message
from airflow_provider_rayagent.render.messages import (
    MARKER,
    MAX_MESSAGE,
    MAX_NAMES,
    MAX_TOTAL,
    JobProgress,
    MessageFinder,
)
from airflow_provider_rayagent.render.record_builder import REPORTED_PROGRESS_SECONDS, DisplaySettings
from airflow_provider_rayagent.render.records import MAX_PROBLEMS, JobRecords
from airflow_provider_rayagent.render.result import RESULT_MARKERS, ResultFinder
from airflow_provider_rayagent.tail.cursor import Cursor
from airflow_provider_rayagent.tail.items import Item, LogLines, LogRewritten
from airflow_provider_rayagent.tail.lines import Piece
from airflow_provider_rayagent.text.redaction import Redactor
from tests.unit.render.take_overs import printed_in

if TYPE_CHECKING:
    from airflow_provider_rayagent.render.messages import Message

BAR = " 50%|#####     | 1/2 [00:01<00:01,  1.00it/s]"


def message(kind: object, data: object) -> str:
    return MARKER + json.dumps({"kind": kind, "data": data})


def found_in(*lines: str, **options: Any) -> tuple[MessageFinder, list[Message]]:
    finder = MessageFinder(**options)
    return finder, [found for found in map(finder.feed, lines) if found is not None]


def test_the_last_value_of_a_name_counts() -> None:
    finder, found = found_in(
        message("xcom", {"loss": 1, "best": None}),
        "epoch 1",
        message("asset", {"extra": {"rows": 1, "a": 1}}),
        message("asset", {"extra": {"rows": 2}, "asset": "s3://b/c"}),
        message("link", {"name": "Board", "url": "http://a"}),
        message("link", {"name": "Board", "url": "https://b.example/x?y#z"}),
        message("progress", {"done": 1}),
        message("progress", {"done": 2, "total": 8, "text": "epoch 2"}),
        message("xcom", {"loss": [0.5]}),
    )
    assert [each.kind for each in found] == ["xcom", *["asset"] * 2, *["link"] * 2, *["progress"] * 2, "xcom"]
    assert finder.xcoms == {"loss": [0.5], "best": None}
    assert finder.extra_of("c", "s3://b/c") == {"rows": 2, "a": 1}
    assert finder.extra_of("other", "other") == {"rows": 1, "a": 1}
    assert finder.links == {"Board": "https://b.example/x?y#z"}
    assert finder.progress == JobProgress(2, 8, "epoch 2")


@pytest.mark.parametrize(
    "before",
    ["", "(train pid=123) ", "(train pid=12, ip=10.0.0.1) ", "\x1b[36m(train pid=123)\x1b[0m ", BAR, f"{BAR} "],
    ids=["nothing", "a process", "a process of another node", "a colored process", "a bar", "a bar and a space"],
)
def test_a_message_may_follow_what_ray_and_tqdm_write_before_it(before: str) -> None:
    assert found_in(before + message("xcom", {"a": 1}))[0].xcoms == {"a": 1}


def test_a_message_may_be_repeated_across_the_cluster() -> None:
    line = f"(f pid=1) {message('xcom', {'a': 1})} [repeated 2x across cluster] (see ...)"
    assert found_in(line)[0].xcoms == {"a": 1}


@pytest.mark.parametrize(
    "line",
    [
        f"INFO the user entered {message('xcom', {'a': 1})}",
        f" {message('xcom', {'a': 1})}",
        f"'{message('xcom', {'a': 1})}'",
        f"(not a process) {message('xcom', {'a': 1})}",
        MARKER.rstrip() + "{}",
        "__RAYAGENT_MESSAGE__",
        f"    print('{MARKER}...')",
    ],
)
def test_text_within_a_line_is_no_message(line: str) -> None:
    finder, found = found_in(line)
    assert (found, finder.xcoms) == ([], {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ("7", "it must be"),
        ("[]", "it must be"),
        ('{"kind": "xcom"}', "it must be"),
        ('{"kind": "xcom", "data": [1]}', "it must be"),
        ('{"kind": "mail", "data": {}}', "its kind must be"),
        ('{"kind": ["xcom"], "data": {}}', "its kind must be"),
        ('{"data": {}}', "its kind must be"),
        ('{"kind": "xcom", "data": {"a": NaN}}', "not finite"),
        ('{"kind": "xcom", "data": {"a": 1' + "0" * 30 + "}}", "more than 64 bits"),
        ('{"kind": "xcom", "data": {"a": {"__classname__": "os.system"}}}', "which Airflow reserves"),
        ('{"kind": "xcom", "data": {"a": ' + "[" * 200 + "]" * 200 + "}}", "nested more than"),
        ('{"kind": "xcom", "data": {"return_value": 1}}', "uses the XCom return_value itself"),
        ('{"kind": "xcom", "data": {"ok": 1, "job_id": 1}}', "uses the XCom job_id itself"),
        ('{"kind": "xcom", "data": {"rayagent_log_position": 1}}', "itself"),
        ('{"kind": "xcom", "data": {"_link_RayAgentJobLink": 1}}', "itself"),
        ('{"kind": "xcom", "data": {"skipmixin_key": 1}}', "itself"),
        ('{"kind": "xcom", "data": {"": 1}}', "the key of an XCom must be"),
        ('{"kind": "xcom", "data": {"ok": 1, "../../../../dag-runs/payroll/x": {}}}', "the key of an XCom must be"),
        ('{"kind": "xcom", "data": {"a\\nb": 1}}', "the key of an XCom must be"),
        ('{"kind": "xcom", "data": {"' + "a" * 251 + '": 1}}', "the key of an XCom must be"),
        ('{"kind": "asset", "data": {"rows": 1}}', "the data of an asset"),
        ('{"kind": "asset", "data": {"extra": [1]}}', "the data of an asset"),
        ('{"kind": "asset", "data": {"extra": {}, "asset": 7}}', "The asset"),
        ('{"kind": "progress", "data": {}}', "done must be"),
        ('{"kind": "progress", "data": {"done": "1"}}', "done must be"),
        ('{"kind": "progress", "data": {"done": true}}', "done must be"),
        ('{"kind": "progress", "data": {"done": -1}}', "done must be"),
        ('{"kind": "progress", "data": {"done": 1, "total": 0}}', "done must be"),
        ('{"kind": "progress", "data": {"done": 1, "text": 1}}', "text must be"),
        ('{"kind": "link", "data": {"url": "http://a"}}', "The name of a link"),
        ('{"kind": "link", "data": {"name": "a"}}', "url must be"),
        ('{"kind": "link", "data": {"name": "a", "url": "javascript:alert(1)"}}', "url must be"),
        ('{"kind": "link", "data": {"name": "a", "url": "http://user:secret@host"}}', "url must be"),
        ('{"kind": "link", "data": {"name": "a", "url": "http://[a"}}', "url must be"),
        ('{"kind": "link", "data": {"name": "a", "url": "http://a/\\u202eb"}}', "url must be"),
        ('{"kind": "link", "data": {"name": "a", "url": "http://a/' + "b" * 2_000 + '"}}', "url must be"),
    ],
)  # fmt: skip
def test_an_invalid_message_has_no_effect(text: str, problem: str) -> None:
    finder, [found] = found_in(MARKER + text)
    assert found.kind == ""
    assert problem in found.problem
    assert finder.state() == MessageFinder().state()


def test_number_and_size_are_bounded() -> None:
    finder, found = found_in(*(message("xcom", {f"a{number}": number}) for number in range(MAX_NAMES + 1)))
    assert len(finder.xcoms) == MAX_NAMES
    assert "already" in found[-1].problem
    assert [each.problem for each in found[:-1]] == [""] * MAX_NAMES
    assert finder.feed(message("xcom", {"a0": "new"})) == ("xcom", "")
    _, [long_one] = found_in(message("xcom", {"a": "x" * MAX_MESSAGE}))
    assert long_one.problem == "it has more than 16,000 characters"
    half = "x" * (MAX_TOTAL // 3)
    finder, found = found_in(*(message("xcom", {f"a{number}": half}) for number in range(4)))
    assert [each.kind for each in found] == ["xcom", "xcom", "", ""]
    assert "all messages together" in found[-1].problem
    assert sorted(finder.xcoms) == ["a0", "a1"]


def test_secrets_are_masked_also_where_json_escapes_them() -> None:
    secrets = Redactor(['p"ss wörd', "asset", "link", "http", "Board"])
    finder, _ = found_in(
        message("asset", {"asset": "Board", "extra": {'p"ss wörd': ['p"ss wörd!', 'xp"ss wörd']}}),
        message("link", {"name": "Board", "url": "http://a/Board"}),
        message("progress", {"done": 1, "text": "x" * 190 + 'xp"ss wörd'}),
        credentials=secrets,
        redact=secrets,
    )
    # As a whole word of a value, and in no key, of which two could become one.
    assert finder.extra_of("Board") == {'p"ss wörd': ["***!", 'xp"ss wörd']}
    assert finder.links == {"Board": "***://a/***"}
    # What is shown is masked anywhere, before it is cut.
    assert finder.progress == JobProgress(1, None, "x" * 191 + "***")


def test_no_saved_piece_of_a_line_has_a_secret_and_none_is_a_changed_message() -> None:
    redact = Redactor(["s3cret", "loss"])
    line = message("xcom", {"loss": 1, "a": "\ns3cret"}).rstrip("\n")
    for cut in range(len(line)):
        finder = MessageFinder(None, redact, redact)
        finder.feed(Piece(line[:cut], continued=False, continues=True))
        state = json.loads(json.dumps(finder.state()))
        assert not re.search("s3cr|loss", str(state))
        successor = MessageFinder(state, redact, redact)
        found = successor.feed(Piece(line[cut:], continued=True, continues=False))
        assert found is not None
        assert successor.xcoms == ({"loss": 1, "a": "\n***"} if found.kind else {})
        assert found.kind or "a secret was redacted in the first part" in found.problem


@pytest.mark.parametrize(
    ("data", "text", "fraction"),
    [
        ({"done": 0, "total": 3}, "0% (0 of 3)", 0),
        ({"done": 450, "total": 1_000, "text": "epoch 3"}, "45% (450 of 1,000): epoch 3", 0.45),
        ({"done": 2.5e6}, "2,500,000", None),
        ({"done": 999, "total": 1_000}, "99% (999 of 1,000)", 0.999),
        ({"done": 9, "total": 3}, "100% (9 of 3)", 1),
        ({"done": 0.5, "total": 1.5, "text": "half"}, "33% (0.5 of 1.5): half", 1 / 3),
    ],
)
def test_progress_is_readable(data: dict[str, Any], text: str, fraction: float | None) -> None:
    progress = found_in(message("progress", data))[0].progress
    assert progress is not None
    assert (str(progress), progress.fraction) == (text, fraction)


def texts(records: JobRecords, *items: Item, at: float) -> list[str]:
    return [record.text for record in records.render(items, at)]


def test_the_log_has_one_line_of_progress_a_minute_and_the_last_one() -> None:
    records = JobRecords("j1", messages=True)
    lines = {at: message("progress", {"done": at, "total": 200}) for at in range(101)}
    shown = {at: texts(records, LogLines([line, f"step {at}"]), at=at) for at, line in lines.items()}
    assert {at: found for at, found in shown.items() if found != [f"step {at}"]} == {
        0: ["Progress: 0% (0 of 200)", "step 0"],
        int(REPORTED_PROGRESS_SECONDS): ["Progress: 30% (60 of 200)", "step 60"],
    }
    assert texts(records, at=119.9) == []
    assert texts(records, at=120.0) == ["Progress: 50% (100 of 200)"]
    texts(records, LogLines([message("progress", {"done": 200, "total": 200})]), at=121)
    assert [record.text for record in records.finish()] == ["Progress: 100% (200 of 200)"]


def test_all_progress_is_shown_if_all_states_of_bars_are() -> None:
    records = JobRecords("j1", DisplaySettings(progress_interval=None), messages=True)
    lines = [message("progress", {"done": done}) for done in (1, 2)]
    assert texts(records, LogLines(lines), at=0) == ["Progress: 1", "Progress: 2"]


def test_the_first_invalid_messages_are_reported() -> None:
    records = JobRecords("j1", messages=True)
    lines = [f"{MARKER}{number}" for number in range(2 * MAX_PROBLEMS)]
    found = texts(records, LogLines(lines), at=0)
    reported = 'RA-310: A message of the job has no effect: it must be {"kind": …, "data": {…}}.'
    assert [line for line in found if line != reported] == lines
    assert found.count(reported) == MAX_PROBLEMS


def test_what_a_log_stated_is_forgotten_if_the_log_is_replaced() -> None:
    records = JobRecords("j1", messages=True)
    records.render([LogLines([message("xcom", {"a": 1})]), LogRewritten("new"), LogLines(["x"])], 0.0)
    assert records.printed.messages.xcoms == {}
    assert records.position(Cursor())["messages"] == MessageFinder().state()


LINES = [
    "x",
    BAR,
    message("xcom", {"a": 1}),
    message("xcom", {"a": 2, "b": "é" * 9}),
    message("progress", {"done": 1, "total": 2}),
    message("asset", {"extra": {"rows": 1}}),
    message("link", {"name": "Board", "url": "http://a"}),
    f"INFO {message('xcom', {'c': 1})}",
    f"{MARKER}{{",
]


@given(some.lists(some.sampled_from(LINES)), some.integers(1, 60) | some.just(16_000), some.data())
def test_what_is_stated_is_the_same_when_others_take_over_also_within_a_line(
    lines: list[str], size: int, data: Any
) -> None:
    text = "".join(f"{line}\n" for line in lines)
    whole, _ = found_in(*lines)
    assert printed_in(text, size, data, messages=True).messages.state() == whole.state()


class Scalar:
    """A number as NumPy and PyTorch have it."""

    def item(self) -> float:
        return 0.25


def test_the_function_prints_a_message_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    rayagent_message("xcom", {"text": "a\nb\u2028é", "loss": Scalar(), "path": Path("/a")})
    rayagent_message("progress", {"done": 1, "total": 2})
    lines = capsys.readouterr().out.split("\n")
    assert lines.pop() == ""
    finder, found = found_in(*lines)
    assert [each.kind for each in found] == ["xcom", "progress"]
    assert finder.xcoms == {"text": "a\nb\u2028é", "loss": 0.25, "path": "/a"}


@pytest.mark.parametrize("value", [{"loss": 0.5}, ["__RAYAGENT_RESULT_END__", "__RAYAGENT_RESULT_START__", "\n"], None])
def test_a_printed_result_is_found(value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    print_result(7)
    print_result(value)
    finder = ResultFinder(RESULT_MARKERS)
    for line in capsys.readouterr().out.splitlines():
        finder.feed(line)
    assert finder.value() == value


def test_a_number_of_another_library_is_printed_and_what_is_no_number_does_not_end_the_job(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Tensor:
        def __init__(self, *numbers: float) -> None:
            self.numbers = numbers

        def item(self) -> float:
            if len(self.numbers) > 1:
                raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")
            return self.numbers[0]

    print_result({"loss": Tensor(0.5)})
    print_result({"loss": Tensor(0.5, 1.5)})
    printed = capsys.readouterr()
    assert printed.out == '__RAYAGENT_RESULT_START__{"loss": 0.5}__RAYAGENT_RESULT_END__\n'
    assert printed.err == "Not told to Airflow: a Tensor with 2 elements cannot be converted to Scalar\n"


def test_the_function_never_ends_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    data: dict[str, Any] = {}
    data["self"] = data
    rayagent_message("xcom", data)
    keys: Any = {(1, 2): 3}
    rayagent_message("xcom", keys)
    assert capsys.readouterr().err.count("Not told to Airflow: ") == 2
    rayagent_message("xcom", {"loss": math.nan})
    finder, [found] = found_in(capsys.readouterr().out.removesuffix("\n"))
    assert "not finite" in found.problem
    assert finder.xcoms == {}


def test_the_copied_file_needs_the_standard_library_only(tmp_path: Path) -> None:
    source = Path(rayagent_task.__file__).with_name("message.py")
    (tmp_path / "message.py").write_bytes(source.read_bytes())
    program = "from message import rayagent_message; rayagent_message('xcom', {'a': 1})"
    done = subprocess.run([sys.executable, "-S", "-c", program], cwd=tmp_path, capture_output=True, check=True)
    assert found_in(done.stdout.decode().removesuffix("\n"))[0].xcoms == {"a": 1}
