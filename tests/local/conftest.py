"""One local agent over one Ray for all tests of this folder."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.stack.agent import LocalAgent, local_agent

if TYPE_CHECKING:
    from collections.abc import Iterator

LINES = [f"line {number} é 漢 \u2028 \x1b[1m|" for number in range(300)]
LONG_LINE = "x" * 50_000
PROGRAM = f"""python - <<'END'
print("\\n".join({LINES!r}))
print("x" * {len(LONG_LINE)})
print("  indented\\ttab\\n\\nlast")
END"""


@pytest.fixture(autouse=True)
def _term_as_before() -> Iterator[None]:
    """Let TERM go on ending the fixtures: an event loop with a handler of its own leaves the default behind."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def agent() -> Iterator[LocalAgent]:
    with local_agent() as running:
        yield running


@pytest.fixture(scope="session")
def finished_job(agent: LocalAgent) -> dict[str, Any]:
    """A job that has logged several thousand characters of all kinds and ended."""
    return agent.wait(agent.submit(PROGRAM, submission_id="finished_job", metadata={"who": "test"}))
