"""Redact secrets. Pure."""

from __future__ import annotations

import json
import re
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MIN_LENGTH = 3
"""Characters; a shorter secret occurs in too many ordinary words to redact it."""
KEPT_ROTATIONS = 4
"""Calls of :meth:`Redactor.rotate` whose secrets stay redacted. A limit, since a triggerer may run for months."""
REDACTED = "***"
MANY_FORMS = 100
"""From so many forms on, a text is searched for the first characters of all of them at once."""

_SAME_IN_ALL_FORMS = re.compile(r"[A-Za-z0-9_.~-]*")
"""The unreserved characters of RFC 3986, section 2.3, which JSON does not escape either."""

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


class Redactor:
    """Replace every secret with ``***``, including its JSON-escaped and URL-quoted forms.

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
        return _redact(text, self._known)

    def redact_words(self, text: str) -> str:
        """Return a value, rather than a text to show, with the secrets redacted that are whole words of it."""
        forms = self.forms
        # As in _redact(): few values have a secret.
        return _words(forms).sub(REDACTED, text) if any(form in text for form in forms) else text

    def redact_partial(self, text: str) -> str:
        """Redact a text that is still being written: also the start of a secret at its end."""
        known = self._known
        text = _redact(text, known)
        for form in known.forms:
            for length in range(min(len(form) - 1, len(text)), MIN_LENGTH - 1, -1):
                if text.endswith(form[:length]):
                    return text[:-length] + REDACTED
        return text

    def cut_at(self, text: str, start: int, end: int) -> int:
        """Return the index at which to end a piece of ``text`` without splitting a secret.

        This is ``end`` unless it lies inside a secret: then it is the secret's start, or its end if the secret starts
        at ``start``.

        :param start: start index of the piece.
        :param end: desired end index; ``text`` must contain the :attr:`overlap` characters after it, if there are any.
        """
        known = self._known
        if known.forms:
            for first, last in _found(text, known, start, min(end + known.overlap, len(text))):
                if first < end < last:
                    return first if first > start else last
        return end


def _redact(text: str, known: _Known) -> str:
    if known.starts:
        parts: list[str] = []
        end = 0
        for first, last in _found(text, known, 0, len(text)):
            parts += text[end:first], REDACTED
            end = last
        return "".join((*parts, text[end:])) if parts else text
    # Substring search is faster than the pattern, and few texts contain a secret.
    for form in known.forms:
        if form in text:
            return known.pattern.sub(REDACTED, text)
    return text


@lru_cache
def _words(forms: tuple[str, ...]) -> re.Pattern[str]:
    # The edge of a secret that is no letter or digit, as in ``abc==``, is never inside of a word.
    return re.compile(f"(?:{_BEFORE_WORD}|(?=\\W))(?:{'|'.join(map(re.escape, forms))})(?:(?!\\w)|(?<=\\W))")


def _found(text: str, known: _Known, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the forms are in a part of a text, from left to right; of those at one place the longest.

    The time does not depend on the number of forms, as that of a pattern does, which tries one after the other.
    """
    if not known.starts:
        yield from (found.span() for found in known.pattern.finditer(text, start, end))
        return
    starts, free = known.starts, start
    for index in [each for each in range(start, end) if text[each : each + MIN_LENGTH] in starts]:
        if index >= free:
            forms = starts[text[index : index + MIN_LENGTH]]
            length = next((len(form) for form in forms if text.startswith(form, index, end)), 0)
            if length:
                free = index + length
                yield index, free


def _known(secrets: _Secrets) -> _Known:
    # The longest first: the pattern takes the first that matches, and the rest of a longer secret would be shown.
    forms = tuple(sorted(secrets.added.union(*secrets.rotated), key=lambda form: (-len(form), form)))
    starts: dict[str, list[str]] = {}
    if len(forms) >= MANY_FORMS:
        for form in forms:
            starts.setdefault(form[:MIN_LENGTH], []).append(form)
    # With many forms it is not used, and takes long to compile.
    pattern = re.compile("" if starts else "|".join(map(re.escape, forms)))
    return _Known(secrets, forms, pattern, max(map(len, forms), default=1) - 1, starts)


def _new_forms(before: _Known, after: _Known) -> tuple[str, ...]:
    old = set(before.forms)
    return tuple(form for form in after.forms if form not in old)


def _all_forms(secrets: Iterable[str]) -> frozenset[str]:
    return frozenset(form for secret in secrets for form in _forms(secret) if len(form) >= MIN_LENGTH)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    if _SAME_IN_ALL_FORMS.fullmatch(secret):
        return
    # JSON with escapes and without, the path of a URL, and a query or form, in which a space is ``+``.
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield quote(secret, safe="")
    yield quote_plus(secret)


class _NoSecrets(Redactor):
    """Its objects are shared by all who have no secrets, so that a secret of one would be redacted for all."""

    def add(self, secrets: Iterable[str]) -> tuple[str, ...]:  # noqa: ARG002 - defined by the base class
        """Refuse it."""
        raise TypeError("NO_SECRETS cannot be changed; create a Redactor.")

    rotate = add


NO_SECRETS: Redactor = _NoSecrets()
