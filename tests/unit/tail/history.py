"""A random history of a job's log and of the faults that affect it, drawn with ``random`` or Hypothesis."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hypothesis import strategies as st

if TYPE_CHECKING:
    import random

    from airflow_provider_rayagent.tail.commands import StreamSource

UNIQUE = "\u00a7"
"""The first character of a log, in case only that distinguishes the start of a stream; no alphabet contains it."""

ALPHABETS = (
    "ab\n",
    "a\n\n",
    "a",
    "\n",
    " \t\n",
    "\u2028\x85\x0c\x0b\x1c\r\n a",
    "\U0001f600\u00e9\n",
    "\U0001f600\U0001f680a",
    '{"type": "complete"}\n',
    "\ud800\udc00a\n",
    "\x00\x1b[1m\n",
)


@dataclass(frozen=True)
class History:
    """What happens. Shares are probabilities; times are seconds of a virtual clock that starts at 0.

    :param seed: of the dice that the shares are thrown with.
    :param text: the log when the job has ended.
    :param chunks: how a stream's messages make up the text.
    :param longest: characters of a piece, for ``cut``.
    :param halves: whether cuts part surrogate pairs.
    :param plain: the stream's log messages are plain text, not events.
    :param refused: share of streams that can't be opened.
    :param ends: share of reads that find the stream ended.
    :param too_long: share of reads that find a message which is too long to be held.
    :param completes: share of reads that bring a ``complete`` that is not true; none about the job's end if the last
        characters come late, since it is believed then.
    :param mute: share of streams that never say anything.
    :param stalls: share of reads from which on the stream says nothing.
    :param noise: share of reads that bring events that are no log.
    :param junk: share of reads that bring text that is not of the log and looks unlike the log messages.
    :param from_now: share of streams that begin where the log is.
    :param alive: a silent stream answers pings.
    :param lag: how far a stream is behind the log.
    :param stays_open: a stream does not end after the job's end.
    :param says_complete: a stream that ends after the job's end says ``complete`` first.
    :param status_fails: share of questions for the status that fail.
    :param text_fails: share of requests for the whole log that are refused, until ``recovers``.
    :param text_cut: share of reads of the whole log that break it off, until ``recovers``.
    :param text_ends: share of reads of the whole log that find it ended though more of it was to come, until that has
        happened once. The answers do not declare their end.
    :param text_delay: seconds from a request for the whole log, when its text is taken, to the head of the answer.
    :param text_gone: the whole log is refused for good.
    :param rewritten: the text that takes the log's place in the middle of the job; empty: none does.
    :param recovers: seconds after the job's end at which the whole log can be had for certain.
    :param duration: of the job.
    :param growth: when the log is written.
    :param late: how long after the job's end the last characters come.
    :param end_is_inexact: seconds by which the job's end may be later than the answer says; infinite: it says nothing.
    :param progress_interval: see :class:`TailSettings`.
    :param slow: seconds that the task log takes for a batch of lines, at the most.
    :param restarts: share of steps after which another tail takes over from the cursor.
    """

    seed: int = 0
    text: str = ""
    chunks: Literal["ray", "cut", "lines"] = "ray"
    longest: int = 12
    halves: bool = False
    plain: bool = False
    sources: tuple[StreamSource, ...] = ("websocket", "http")
    refused: float = 0.0
    ends: float = 0.0
    too_long: float = 0.0
    completes: float = 0.0
    mute: float = 0.0
    stalls: float = 0.0
    noise: float = 0.0
    junk: float = 0.0
    from_now: float = 0.0
    alive: bool = True
    lag: float = 0.0
    stays_open: bool = False
    says_complete: bool = True
    status_fails: float = 0.0
    text_fails: float = 0.0
    text_cut: float = 0.0
    text_ends: float = 0.0
    text_piece: int = 200
    text_delay: float = 0.0
    text_gone: bool = False
    rewritten: str = ""
    recovers: float = 0.0
    duration: float = 3.0
    growth: Literal["steady", "early", "late"] = "steady"
    late: float = 0.0
    end_is_inexact: float = 0.0
    poll_interval: float = 5.0
    silence_timeout: float = 30.0
    max_line_length: int = 1_000_000
    progress_interval: float | None = None
    slow: float = 0.0
    restarts: float = 0.0

    @property
    def is_decidable(self) -> bool:
        """Whether it is always decidable what is part of the log, from the whole log or from the stream alone."""
        return self.text_fails < 1 or not (self.from_now or self.junk or self.chunks != "lines")

    @property
    def text_can_be_had(self) -> bool:
        """Whether requests for the status and the whole log never fail and are never slow."""
        faults = (self.status_fails, self.text_fails, self.text_cut, self.text_delay, self.text_gone, self.slow)
        return not any(faults)

    def truth(self, text: str) -> list[str]:
        """The lines of ``text`` that should be forwarded."""
        lines = lines_of if self.progress_interval is None else drawn_lines_of
        return lines(text, self.max_line_length)


_WS: tuple[StreamSource, ...] = ("websocket",)
_SSE: tuple[StreamSource, ...] = ("http",)

OPTIONS: dict[str, tuple[Any, ...]] = {
    "chunks": ("ray", "cut", "cut", "lines", "lines"),
    "longest": (12, 1, 3, 80),
    "halves": (False, True),
    "plain": (False, False, True),
    "sources": (("websocket", "http"), _WS, _SSE, ()),
    "refused": (0.0, 0.0, 0.3, 1.0),
    "ends": (0.0, 0.02, 0.2),
    "too_long": (0.0, 0.0, 0.0, 0.1),
    "completes": (0.0, 0.0, 0.05, 0.3),
    "mute": (0.0, 0.0, 0.0, 0.3, 1.0),
    "stalls": (0.0, 0.0, 0.05),
    "noise": (0.0, 0.2),
    "junk": (0.0, 0.0, 0.0, 0.05),
    "from_now": (0.0, 0.0, 0.0, 0.3, 1.0),
    "alive": (True, False),
    "lag": (0.0, 0.0, 4.0),
    "stays_open": (False, True),
    "says_complete": (True, False),
    "status_fails": (0.0, 0.0, 0.3),
    "text_fails": (0.0, 0.0, 0.3, 1.0),
    "text_cut": (0.0, 0.0, 0.1),
    "text_ends": (0.0, 0.0, 0.0, 0.1),
    # Reading character by character takes three times as many steps.
    "text_piece": (200, 200, 7, 7, 1),
    "text_delay": (0.0, 0.0, 0.0, 1.5),
    "recovers": (0.0, 0.0, 20.0, 50.0),
    "duration": (3.0, 0.0, 20.0, 200.0),
    "growth": ("steady", "early", "late"),
    "late": (0.0, 0.0, 0.7),
    "end_is_inexact": (0.0, 1.0, float("inf")),
    "poll_interval": (5.0, 0.3, 1.0, 30.0),
    "silence_timeout": (30.0, 2.0),
    "max_line_length": (1_000_000, 1_000_000, 1_000_000, 5, 1),
    "slow": (0.0, 0.0, 0.0, 0.5),
    "restarts": (0.0, 0.0, 0.03),
}
"""The values to draw from, harmless ones first."""


def draw_history(dice: random.Random) -> History:
    """Return a random history."""
    alphabet = dice.choice(ALPHABETS)
    longest = dice.choice((5, 40, 40, 120))
    text = "".join(dice.choices(alphabet, k=dice.randint(0, longest)))
    drawn = {name: options[int(dice.random() * len(options))] for name, options in OPTIONS.items()}
    return _sensible(seed=dice.getrandbits(32), text=text, **drawn)


def histories() -> st.SearchStrategy[History]:
    """Return a Hypothesis strategy for histories."""
    texts = st.sampled_from(ALPHABETS).flatmap(lambda alphabet: st.text(alphabet, max_size=80))
    drawn = {name: st.sampled_from(list(dict.fromkeys(options))) for name, options in OPTIONS.items()}
    return st.builds(_sensible, seed=st.integers(0, 2**32 - 1), text=texts, **drawn)


def _sensible(*, text: str, **drawn: Any) -> History:
    text = joined(text)
    # Hundreds of polls of the whole log show nothing that a hundred do not, and they took four fifths of the time.
    drawn["duration"] = min(drawn["duration"], max(100 * drawn["poll_interval"], 60.0))
    if drawn["from_now"] or drawn["junk"]:
        text = UNIQUE + text
    if drawn["late"] or "\ud800" <= text[-1:] <= "\udbff":
        # A read that ends early may be as long as the one before: the last characters came later, or half a surrogate
        # pair is not counted.
        drawn["text_ends"] = 0.0
    if drawn["junk"]:
        drawn.update(plain=False, growth="early")
    return History(text=text, **drawn)


def joined(text: str) -> str:
    """Return ``text`` with surrogate pairs joined, since no log contains split ones."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def halved(text: str) -> str:
    """Return ``text`` with every character above U+FFFF as a surrogate pair."""
    units = text.encode("utf-16-le", "surrogatepass")
    return "".join(chr(units[at] | units[at + 1] << 8) for at in range(0, len(units), 2))


def lines_of(text: str, max_length: int = 1_000_000) -> list[str]:
    """Return the lines that should be forwarded, by the simplest implementation of the guarantee."""
    lines = text.split("\n")
    if not lines[-1]:
        del lines[-1]
    pieces: list[str] = []
    for line in lines:
        cut = [line[at : at + max_length] for at in range(0, len(line), max_length)] or [""]
        for number, piece in enumerate(cut):
            before = "[continued] " if number else ""
            after = " [line continues]" if number < len(cut) - 1 else ""
            pieces.append(f"{before}{piece}{after}")
    return pieces


def drawn_lines_of(text: str, max_length: int = 1_000_000) -> list[str]:
    """Return the same if ``\\r`` redraws a line: its last state, and earlier ones if they are too long."""
    lines = text.split("\n")
    if not lines[-1]:
        del lines[-1]
    drawn: list[str] = []
    for line in lines:
        *superseded, last = re.split("\r(?=[^\r])", line)
        for state in superseded:
            # Its \r counts too.
            drawn += lines_of(f"{state}\r\n", max_length) if len(state) >= max_length else []
        drawn += lines_of(f"{last}\n", max_length)
    return drawn
