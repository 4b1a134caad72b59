"""Messages in large numbers: they mean what a simple reference says, and none costs more for what others stated."""

from __future__ import annotations

import json
import random
import time
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.render.messages import MAX_MESSAGE, MAX_NAMES, MAX_TOTAL, MessageFinder
from airflow_provider_rayagent.render.records import JobRecords
from airflow_provider_rayagent.tail.items import LogLines
from airflow_provider_rayagent.text.redaction import Redactor
from tests.unit.render.test_messages import message

if TYPE_CHECKING:
    from collections.abc import Sequence


class Reference:
    """What messages state, computed from everything that was stated each time."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Any]] = {"xcoms": {}, "extras": {}, "links": {}}

    def accept(self, kind: str, data: dict[str, Any]) -> str:
        """Take over a message that is valid by itself; return why it has no effect."""
        tables = deepcopy(self.tables)
        match kind:
            case "xcom":
                changed = tables["xcoms"]
                changed |= data
            case "asset":
                changed = tables["extras"]
                name = data.get("asset", "")
                changed[name] = changed.get(name, {}) | data["extra"]
            case _:
                changed = tables["links"]
                changed[data["name"]] = data["url"]
        if len(changed) > MAX_NAMES:
            return f"there are {MAX_NAMES} of its kind already"
        if sum(len(json.dumps(table)) for table in tables.values() if table) > MAX_TOTAL:
            return f"all messages together state more than {MAX_TOTAL:,} characters"
        self.tables = tables
        return ""


def random_value(draw: random.Random, longest: int) -> Any:
    text = draw.choice(["x", "é", '"', "日\n"]) * draw.randrange(1 + longest // 8)
    return draw.choice([None, True, 7, 0.5, text, [text, 1], {"a": text}, {}, [], ""])


def random_message(draw: random.Random, names: int, longest: int) -> tuple[str, dict[str, Any]]:
    def values() -> dict[str, Any]:
        count = draw.randrange(4)
        return {f"k{draw.randrange(names)}": random_value(draw, longest // (count or 1)) for _ in range(count)}

    match draw.randrange(5):
        case 0 | 1:
            return "xcom", values()
        case 2 | 3:
            asset = {"asset": f"a{draw.randrange(names)}"} if draw.randrange(3) else {}
            return "asset", {"extra": values(), **asset}
        case _:
            return "link", {"name": f"l{draw.randrange(names)}", "url": f"http://a/{'b' * draw.randrange(1_900)}"}


@pytest.mark.parametrize(
    ("names", "longest"), [(160, 20), (160, 600), (20, 4_000), (20, MAX_MESSAGE - 500), (5, MAX_MESSAGE - 500)]
)
def test_any_messages_state_what_a_simple_reference_says(names: int, longest: int) -> None:
    draw = random.Random(f"{names} {longest}")
    finder, reference = MessageFinder(), Reference()
    problems = set()
    for number in range(400):
        kind, data = random_message(draw, names, longest)
        problem = reference.accept(kind, data)
        problems.add(problem)
        assert finder.feed(message(kind, data)) == ("" if problem else kind, problem)
        if number % 20 == 0:
            # The order is that of buttons and of pushes.
            state = finder.state()
            assert json.dumps({table: state[table] for table in reference.tables}) == json.dumps(reference.tables)
            assert all(
                finder.extra_of(name) == state["extras"].get("", {}) | state["extras"].get(name, {})
                for name in [*state["extras"], "other"]
            )
        if not draw.randrange(30):
            # A successor in another process, or in the same one, where the saved state must stay as it is.
            saved = finder.state()
            text = json.dumps(saved)
            finder = MessageFinder(json.loads(text) if draw.randrange(2) else saved)
            finder.feed(message("asset", {"extra": {"": 1}}))
            reference.accept("asset", {"extra": {"": 1}})
            assert json.dumps(saved) == text
    # Both limits are reached with many names, otherwise that of the size.
    assert len(problems) == (3 if names > MAX_NAMES else 2)


SHORT = [message("asset", {"extra": {"rows": number}}) for number in range(20_000)]
LARGE = {
    "many values": [{f"{part}{number}": number for number in range(1_000)} for part in "ab"],
    "long values": [{part: "x" * (MAX_TOTAL // 2 - 200)} for part in "ab"],
}


def seconds_of(records: JobRecords, lines: Sequence[str]) -> float:
    started = time.thread_time()
    records.render([LogLines(list(lines))], 0.0)
    return time.thread_time() - started


@pytest.mark.parametrize("extras", LARGE.values(), ids=LARGE)
def test_a_short_message_costs_the_same_after_large_ones(extras: list[dict[str, Any]]) -> None:
    secrets = Redactor(["s3cret", 'p"ss wörd'])
    alone, after = (JobRecords("j1", messages=True, redact=secrets, credentials=secrets) for _ in range(2))
    for extra in extras:
        after.render([LogLines([message("asset", {"extra": extra})])], 0.0)
    # Alternately, since the speed of a busy machine changes.
    parts = [SHORT[start : start + 2_000] for start in range(0, len(SHORT), 2_000)]
    without, with_large = zip(*((seconds_of(alone, part), seconds_of(after, part)) for part in parts), strict=True)
    assert after.printed.messages.extra_of() == {**extras[0], **extras[1], "rows": len(SHORT) - 1}
    assert min(with_large) < 3 * min(without) + 0.001
