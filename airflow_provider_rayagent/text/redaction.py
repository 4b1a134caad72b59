"""Redact secrets. Pure."""

from __future__ import annotations

import json
import re
import threading
from bisect import bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, quote_plus

from airflow_provider_rayagent.text.sanitization import DROPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Span = tuple[int, int]
    Marked = tuple[tuple[str, tuple[str, ...]], ...]
    """Texts to search for, by a character without which a text has none of them; for some it is the empty text."""

MIN_LENGTH = 3
"""Characters; a shorter secret occurs in too many ordinary words to redact it."""
KEPT_ROTATIONS = 4
"""Calls of :meth:`Redactor.rotate` whose secrets stay redacted. A limit, since a triggerer may run for months."""
REDACTED = "***"
ROOM_FOR_SEQUENCES = 64
"""Characters of the terminal sequences inside of a secret that are expected where a line is cut."""
MANY_FORMS = 100
"""From so many forms on, a text is searched for the first characters of all of them at once."""

_SAME_IN_ALL_FORMS = re.compile(r"[A-Za-z0-9_.~-]*")
"""The unreserved characters of RFC 3986, section 2.3, which JSON does not escape either."""

_LEFT_BY_ENCODERS = ("", "/", "!'()*", "!#$&'()*+,/:;=?@[]")
"""Reserved characters that a URL may contain unquoted: none; those that ``quote()``, and JavaScript's
``encodeURIComponent()`` and ``encodeURI()`` leave, the last of which the library requests agrees with."""
_ESCAPE = re.compile(r"%[0-9A-F]{2}|\\u[0-9a-f]{4}")
"""As the forms have them."""

_BEFORE_WORD = (
    r"(?:(?<!\w)"
    # Escapes of URLs, JSON, ``repr()`` and terminals end with a letter or digit.
    r"|(?<=%[0-9A-Fa-f]{2})|(?<=\\[abfnrtv])|(?<=\\x[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4})|(?<=[0-9;\[]m))"
)

# Of the module, since a lock in an object would prevent copying and pickling it.
_changing = threading.Lock()


class _Secrets(NamedTuple):
    """All forms of the secrets. Immutable, so that a change in one thread is seen whole or not at all in others."""

    added: frozenset[str]
    rotated: tuple[frozenset[str], ...] = ()

    def with_more(self, more: _Secrets) -> _Secrets:
        return _Secrets(self.added | more.added, self.rotated + more.rotated)


class _Known(NamedTuple):
    """What a redactor searches for. Immutable as well."""

    secrets: _Secrets
    forms: tuple[str, ...]
    pattern: re.Pattern[str]
    overlap: int
    starts: Mapping[str, Sequence[str]]
    """If there are many forms: those with the same first :data:`MIN_LENGTH` characters, longest first."""
    shortest: Marked
    """The forms one of which is in each text with a secret; empty if there are many forms."""
    suspicious: Marked
    """The same and, since they may be a part of a secret, escapes in the other case."""
    escapes: tuple[tuple[str, str], ...]
    """The escapes of the forms with letters among their digits, in the other case and in that of the forms."""


class Redactor:
    """Replace every secret with ``***``, including its JSON-escaped and URL-quoted forms.

    Secrets are also found with terminal sequences inside of them that :func:`.sanitize` drops, and that the log view
    does not show.

    Redact before you truncate: the two halves of a split secret are not recognized. Secrets can be added at any time
    from any thread, and are redacted from then on for everyone who holds this object.

    :param secrets: the secrets; those shorter than :data:`MIN_LENGTH` characters are ignored.
    :param base: a redactor whose secrets, present and future, are redacted too.
    """

    def __init__(self, secrets: Iterable[str] = (), base: Redactor | None = None) -> None:
        self._own = _Secrets(_all_forms(secrets))
        self._base = base
        self._combined: tuple[_Known | None, _Secrets, _Known] | None = None
        """What the base knew, the secrets of this one, and both together."""

    @property
    def _known(self) -> _Known:
        base = self._base._known if self._base else None
        own, combined = self._own, self._combined
        # Without the lock: two threads may compute the same value, which does no harm.
        if combined is None or combined[0] is not base or combined[1] is not own:
            self._combined = combined = (base, own, _known(base.secrets.with_more(own) if base else own))
        return combined[2]

    @property
    def forms(self) -> tuple[str, ...]:
        """All forms of the secrets, longest first."""
        return self._known.forms

    @property
    def overlap(self) -> int:
        """Characters to read past a cut to know whether it splits a secret."""
        return self._known.overlap

    def add(self, secrets: Iterable[str]) -> tuple[str, ...]:
        """Redact more secrets from now on.

        :return: the forms that were not redacted before, longest first.
        """
        more = _all_forms(secrets)
        # For writers only, of which one would undo the change of another; readers get one immutable object.
        with _changing:
            before = self._known
            if not more <= before.secrets.added:
                self._own = self._own.with_more(_Secrets(more))
            return _new_forms(before, self._known)

    def rotate(self, secrets: Iterable[str]) -> tuple[str, ...]:
        """Redact the secrets that replace those of the previous call, and those of a few previous calls.

        :return: the forms that were not redacted before, longest first.
        """
        more = _all_forms(secrets)
        with _changing:
            before, own = self._known, self._own
            # A token that comes back must not take the place of a second one.
            others = [each for each in own.rotated if each != more]
            self._own = _Secrets(own.added, (*others, more)[-KEPT_ROTATIONS:])
            return _new_forms(before, self._known)

    def __call__(self, text: str) -> str:
        """Return ``text`` with the secrets redacted."""
        known = self._known
        shown = _shown(text) if "\x1b" in text and known.forms else text
        # Few texts contain a secret.
        return _redact(text, shown, known, _found) if known.starts or _has_any(shown, known.suspicious) else text

    def redact_words(self, text: str) -> str:
        """Return a value, rather than a text to show, with the secrets redacted that are whole words of it."""
        known = self._known
        # First as it is, since a word may end where the color changes.
        text = _redact(text, text, known, _found_words)
        return _redact(text, _shown(text), known, _found_words) if "\x1b" in text else text

    def redact_partial(self, text: str) -> str:
        """Redact a text that is still being written: also the start of a secret at its end."""
        known = self._known
        text = _redact(text, _shown(text), known, _found)
        shown = _shown(text)
        first = min(_partial(each, known) for each in (shown, _in_usual_case(shown, known)))
        return text[: _origins(text)(first)] + REDACTED if first < len(shown) else text

    def cut_at(self, text: str, start: int, end: int) -> int:
        """Return the index at which to end a piece of ``text`` without splitting a secret.

        This is ``end`` unless it lies inside a secret: then it is the secret's start, or its end if the secret starts
        at ``start``.

        :param start: start index of the piece.
        :param end: desired end index; ``text`` must contain the :attr:`overlap` characters after it, if there are any.
        """
        known = self._known
        if known.forms:
            piece = text[start : end + known.overlap]
            for first, last in _spans(piece, _shown(piece), known, _found):
                if first < end - start < last:
                    return start + (first or last)
        return end


def _redact(text: str, shown: str, known: _Known, find: Callable[[str, _Known], Iterator[Span]]) -> str:
    spans = _spans(text, shown, known, find)
    if not spans:
        return text
    parts: list[str] = []
    end = 0
    for first, last in spans:
        # Otherwise it overlaps the one before, of which it may show the rest.
        if first >= end:
            parts += text[end:first], REDACTED
        end = max(end, last)
    return "".join((*parts, text[end:]))


def _spans(text: str, shown: str, known: _Known, find: Callable[[str, _Known], Iterator[Span]]) -> Sequence[Span]:
    """Return where the secrets are in a text, from left to right; they may overlap.

    :param shown: the text in which they are searched for: itself, or what :func:`_shown` returns for it.
    """
    if not known.forms:
        return ()
    spans = [*find(shown, known)] if known.starts or _has_any(shown, known.shortest) else []
    if known.escapes and ("%" in shown or "\\u" in shown):
        usual = _in_usual_case(shown, known)
        if usual != shown and (known.starts or _has_any(usual, known.shortest)):
            spans = sorted((*spans, *find(usual, known)))
    if not spans or shown is text:
        return spans
    origin = _origins(text)
    # Not origin(last), which is behind the sequences that follow the secret.
    return [(origin(first), origin(last - 1) + 1) for first, last in spans]


def _has_any(text: str, marked: Marked) -> bool:
    # Substring search is faster than a pattern.
    for mark, parts in marked:
        if mark in text:
            for part in parts:
                if part in text:
                    return True
    return False


def _marked(parts: Iterable[str]) -> Marked:
    found: dict[str, list[str]] = {}
    for part in parts:
        found.setdefault(next((mark for mark in "%\\" if mark in part), ""), []).append(part)
    return tuple((mark, tuple(each)) for mark, each in found.items())


def _shown(text: str) -> str:
    """Return a text as it is read: a secret with colors inside of it is one."""
    return DROPPED.sub("", text) if "\x1b" in text else text


def _origins(text: str) -> Callable[[int], int]:
    """Return the function that turns an index in the :func:`_shown` text into one in the text itself."""
    places: list[int] = []
    dropped = [0]
    for sequence in DROPPED.finditer(text):
        places.append(sequence.start() - dropped[-1])
        dropped.append(dropped[-1] + len(sequence[0]))
    return lambda index: index + dropped[bisect_right(places, index)]


def _in_usual_case(text: str, known: _Known) -> str:
    """Return a text with escapes such as ``%2f`` in the case in which the forms have them."""
    for other, usual in known.escapes:
        text = text.replace(other, usual)
    return text


def _partial(text: str, known: _Known) -> int:
    """Return the index of the first start of a secret that continues to the end of a text; its length if none does."""
    first = len(text)
    for form in known.forms:
        index = text.find(form[:MIN_LENGTH], max(len(text) - len(form) + 1, 0), first + MIN_LENGTH - 1)
        while index >= 0 and not form.startswith(text[index:]):
            index = text.find(form[:MIN_LENGTH], index + 1, first + MIN_LENGTH - 1)
        first = index if index >= 0 else first
    return first


@lru_cache
def _words(forms: tuple[str, ...]) -> re.Pattern[str]:
    # The edge of a secret that is no letter or digit, as in ``abc==``, is never inside of a word.
    return re.compile(f"(?:{_BEFORE_WORD}|(?=\\W))(?:{'|'.join(map(re.escape, forms))})(?:(?!\\w)|(?<=\\W))")


def _found_words(text: str, known: _Known) -> Iterator[Span]:
    # Again, since the pattern of many forms takes long to compile.
    if any(form in text for form in known.forms):
        yield from (found.span() for found in _words(known.forms).finditer(text))


def _found(text: str, known: _Known) -> Iterator[Span]:
    """Yield where the forms are in a text, from left to right; of those at one place the longest.

    The time does not depend on the number of forms, as that of a pattern does, which tries one after the other.
    """
    if not known.starts:
        yield from (found.span() for found in known.pattern.finditer(text))
        return
    starts, free = known.starts, 0
    for index in [each for each in range(len(text)) if text[each : each + MIN_LENGTH] in starts]:
        if index >= free:
            forms = starts[text[index : index + MIN_LENGTH]]
            length = next((len(form) for form in forms if text.startswith(form, index)), 0)
            if length:
                free = index + length
                yield index, free


def _known(secrets: _Secrets) -> _Known:
    # The longest first: the pattern takes the first that matches, and the rest of a longer secret would be shown.
    forms = tuple(sorted(secrets.added.union(*secrets.rotated), key=lambda form: (-len(form), form)))
    starts: dict[str, list[str]] = {}
    shortest: list[str] = []
    if len(forms) >= MANY_FORMS:
        for form in forms:
            starts.setdefault(form[:MIN_LENGTH], []).append(form)
    else:
        for form in reversed(forms):
            if not any(each in form for each in shortest):
                shortest.append(form)
    # With many forms it is not used, and takes long to compile.
    pattern = re.compile("" if starts else "|".join(map(re.escape, forms)))
    escapes = _escapes(forms)
    return _Known(
        secrets,
        forms,
        pattern,
        len(forms[0]) - 1 + ROOM_FOR_SEQUENCES if forms else 0,
        starts,
        _marked(shortest),
        _marked((*shortest, *(other for other, _ in escapes))),
        escapes,
    )


def _escapes(forms: Iterable[str]) -> tuple[tuple[str, str], ...]:
    usual = {escape for form in forms if "%" in form or "\\u" in form for escape in _ESCAPE.findall(form)}
    others = ((escape[:2] + escape[2:].swapcase() if escape[0] == "\\" else escape.lower(), escape) for escape in usual)
    return tuple(sorted((other, escape) for other, escape in others if other != escape))


def _new_forms(before: _Known, after: _Known) -> tuple[str, ...]:
    old = set(before.forms)
    return tuple(form for form in after.forms if form not in old)


def _all_forms(secrets: Iterable[str]) -> frozenset[str]:
    return frozenset(form for secret in secrets for form in _forms(secret) if len(form) >= MIN_LENGTH)


def _forms(secret: str) -> Iterator[str]:
    secret = _shown(secret)
    yield secret
    if _SAME_IN_ALL_FORMS.fullmatch(secret):
        return
    # JSON with escapes and without, with a slash as it is and as ``\\/``.
    for escaped in (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        yield escaped
        yield escaped.replace("/", "\\/")
    # The path of a URL, and a query or form, in which a space is ``+``.
    for left in _LEFT_BY_ENCODERS:
        yield quote(secret, safe=left)
        yield quote_plus(secret, safe=left)


class _NoSecrets(Redactor):
    """Its objects are shared by all who have no secrets, so that a secret of one would be redacted for all."""

    def add(self, secrets: Iterable[str]) -> tuple[str, ...]:  # noqa: ARG002 - defined by the base class
        """Refuse it."""
        raise TypeError("NO_SECRETS cannot be changed; create a Redactor.")

    rotate = add


NO_SECRETS: Redactor = _NoSecrets()
