"""Ways to cut a text into messages. Joined, the pieces always give the text back (surrogate pairs aside)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

Chunker = Callable[[str], Iterable[str]]

RAY_LINES = 10
RAY_CHARS = 20_000


def by_lines(text: str, n: int = 1) -> Iterator[str]:
    """Yield ``n`` lines a piece, newlines kept; only ``\\n`` ends a line."""
    start = count = 0
    at = text.find("\n")
    while at >= 0:
        count += 1
        if count == n:
            yield text[start : at + 1]
            start, count = at + 1, 0
        at = text.find("\n", at + 1)
    if start < len(text):
        yield text[start:]


def lines_without_newline(text: str) -> list[str]:
    """Return the lines without their newlines, as an agent that sends one line a message does."""
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def like_ray(text: str) -> Iterator[str]:
    """Yield chunks as Ray's tail does: up to 10 lines or about 20,000 characters, newlines kept."""
    chunk: list[str] = []
    size = 0
    for line in by_lines(text):
        if chunk and (len(chunk) == RAY_LINES or size + len(line) > RAY_CHARS):
            yield "".join(chunk)
            chunk, size = [], 0
        chunk.append(line)
        size += len(line)
    if chunk:
        yield "".join(chunk)


def every(n: int) -> Chunker:
    """Return a chunker that cuts after every ``n`` characters."""
    return lambda text: (text[at : at + n] for at in range(0, len(text), n))


def at_cuts(text: str, cuts: Iterable[int]) -> list[str]:
    """Return the text cut at these character positions; equal positions give empty pieces."""
    borders = [0, *sorted(min(max(cut, 0), len(text)) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(borders)]


def at_random(seed: int, longest: int = 40) -> Chunker:
    """Return a chunker that cuts at random places; the same seed gives the same cuts."""

    def cut(text: str) -> Iterator[str]:
        draw = random.Random(seed)
        at = 0
        while at < len(text):
            size = draw.randint(0, longest)
            yield text[at : at + size]
            at += size

    return cut


def as_surrogates(text: str) -> str:
    """Return the text with every character over U+FFFF as two surrogates, so that cuts can part them.

    In JSON each half is sent as its escape (``\\ud83d`` in one message, ``\\ude00`` in the next).
    """
    if text.isascii():
        return text
    units = text.encode("utf-16-le", "surrogatepass")
    return "".join(chr(units[at] | units[at + 1] << 8) for at in range(0, len(units), 2))


def with_surrogates(chunker: Chunker) -> Chunker:
    """Return a chunker that may cut between the halves of a surrogate pair; see :func:`as_surrogates`."""
    return lambda text: chunker(as_surrogates(text))


def byte_cuts(data: bytes | str, sizes: int | Sequence[int]) -> list[bytes]:
    """Return bytes cut into pieces of these sizes, in a character or not; the last size repeats.

    A size of 0 gives an empty piece; it may not be the last one.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    steps = [sizes] if isinstance(sizes, int) else list(sizes)
    if not steps or steps[-1] < 1:
        raise ValueError(f"The last size must be at least 1, not {steps[-1:]}.")
    pieces: list[bytes] = []
    at = 0
    while at < len(raw):
        size = steps[min(len(pieces), len(steps) - 1)]
        pieces.append(raw[at : at + size])
        at += size
    return pieces
