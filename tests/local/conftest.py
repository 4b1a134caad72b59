"""Fixtures: one local agent with its own Ray for all tests in this folder."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.stack.agent import LocalAgent, local_agent
from tests.tail.figures import pytest_terminal_summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

__all__ = ["pytest_terminal_summary"]

LINES = [f"line {number} é 漢 \u2028 \x1b[1m|" for number in range(300)]
LONG_LINE = "x" * 50_000
PROGRAM = f"""python - <<'END'
print("\\n".join({LINES!r}))
print("x" * {len(LONG_LINE)})
print("  indented\\ttab\\n\\nlast")
END"""


@pytest.fixture(autouse=True)
def _term_as_before() -> Iterator[None]:
    """Restore the handler of TERM, which stops the fixtures; event loops reset it to the default."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def agent() -> Iterator[LocalAgent]:
    with local_agent() as running:
        yield running


@pytest.fixture(scope="session")
def finished_job(agent: LocalAgent) -> dict[str, Any]:
    """An ended job with a log of several thousand different characters."""
    return agent.wait(agent.submit(PROGRAM, submission_id="finished_job", metadata={"who": "test"}))


def error_detail(response: requests.Response, status_code: int) -> str:
    """Return what an answer of the agent with this status says is wrong."""
    assert response.status_code == status_code, response.text
    assert list(response.json()) == ["detail"]
    return str(response.json()["detail"])
