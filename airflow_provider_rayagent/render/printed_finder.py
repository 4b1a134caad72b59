"""What a job prints for Airflow: a result and messages. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from airflow_provider_rayagent.render.messages import Message, MessageFinder
from airflow_provider_rayagent.render.result import ResultFinder
from airflow_provider_rayagent.text.redaction import NO_SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_rayagent.render.result import Markers
    from airflow_provider_rayagent.text.redaction import Redactor


class PrintedState(TypedDict, total=False):
    """The state of a :class:`PrintedFinder` as JSON primitives, a part of a position in the log."""

    result: Any
    messages: Any
    from_first_line: bool


class PrintedFinder:
    """Find in a job's lines what it prints for Airflow; the last result and the last value of each message count.

    :param markers: pairs of a start and an end marker of the result; none: do not look for a result.
    :param messages: whether to look for messages.
    :param redact: redacts secrets in what is shown, and in what is saved of a result or message that is not complete.
    :param credentials: the secrets of the connection, which are redacted in results and messages.
    :param on_result: called when the lines contain a complete result.
    :param state: from :meth:`state` of an earlier finder, to continue where it stopped.
    """

    def __init__(
        self,
        markers: Sequence[Markers],
        *,
        messages: bool,
        redact: Redactor = NO_SECRETS,
        credentials: Redactor = NO_SECRETS,
        on_result: Callable[[], object] = lambda: None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        saved = state or {}
        self._on_result = on_result
        self.result = ResultFinder(markers, saved.get("result"), redact, credentials) if markers else None
        """``None`` without markers."""
        self.messages = MessageFinder(saved.get("messages"), redact, credentials)
        """Empty if messages are not looked for."""
        self._reads_messages = messages
        self.from_first_line = not saved or (saved.get("from_first_line") is True and self.is_known(saved))
        """Whether it has got every line of the log, so that another search would find the same."""

    def feed(self, line: str) -> Message | None:
        """Search the next line, or the next piece of a long one; return the message that it completes.

        A line that is a usable result and nothing else is one, too.
        """
        if self.result is not None and self.result.feed(line):
            self._on_result()
            if self.result.is_whole_line(line):
                return Message("result")
        return self.messages.feed(line) if self._reads_messages else None

    def state(self) -> PrintedState:
        """Return the state from which another finder can continue; it has the keys of what is looked for."""
        state: PrintedState = {}
        if self.result is not None:
            state["result"] = self.result.state()
        if self._reads_messages:
            state["messages"] = self.messages.state()
        return {**state, "from_first_line": True} if state and self.from_first_line else state

    def is_known(self, saved: Mapping[str, Any]) -> bool:
        """Whether a saved state has all that is looked for: an earlier release may have saved less."""
        looked_for = [("result", self.result is not None), ("messages", self._reads_messages)]
        return all(saved.get(name) is not None for name, is_looked_for in looked_for if is_looked_for)
