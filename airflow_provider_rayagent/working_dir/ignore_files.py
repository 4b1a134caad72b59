"""The files that are left out of a ``working_dir``: by ``.gitignore``, ``.rayignore`` and ``excludes``, and caches.

Not by means of pathspec, which matches only paths of files: asked for a folder, it does not decide as git does for
``*`` and ``!*/``, or between the patterns of nested folders.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError, working_dir_error
from airflow_provider_rayagent.services.validation import shown
from airflow_provider_rayagent.text.sanitization import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

GITIGNORE = ".gitignore"
IGNORE_FILES = (GITIGNORE, ".rayignore")
"""Read in each folder, in this order: the patterns of ``.rayignore`` take precedence."""
ALWAYS_IGNORED = frozenset(
    (
        ".git",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".tox",
        ".venv",
        "__pycache__",
        "venv",
    )
)
"""Names that no pattern can include again: repositories, environments, bytecode and caches of tools. Ray's own client
leaves out ``.git``, ``.venv``, ``venv`` and ``__pycache__`` (``RAY_RUNTIME_ENV_DEFAULT_EXCLUDES``)."""

# A ``]`` that comes first in a set is one of its characters (``glob(7)``).
_GLOB = re.compile(
    r"\\(?P<escaped>.)|(?P<stars>\*+)|(?P<any>\?)|\[(?P<negation>[!^]?)(?P<set>\]?(?:\\.|[^]\\])*)\]|(?P<other>.)",
    re.DOTALL,
)
_SET = re.compile(r"\\?(?P<char>.)", re.DOTALL)


class Pattern(NamedTuple):
    """A line of an ignore file, or one of ``excludes``.

    :param regex: matches the whole path of an entry, relative to the folder of the file or the ``working_dir``.
    :param includes: whether it includes what other patterns ignore (``!``).
    :param only_folders: whether it is for folders only (a slash at the end).
    """

    regex: re.Pattern[str]
    includes: bool
    only_folders: bool


class IgnoreRules(NamedTuple):
    """The patterns for the entries of a folder: those of the folder itself and of those above it.

    As in git, the patterns of the deepest folder take precedence, and in a folder the last one that matches. A folder
    that is ignored must not be read, so that nothing in it can be included again.

    :param levels: the path of each folder that has patterns, relative to the top of the repository and with a slash at
        the end, and its patterns in order of precedence; the deepest folder first.
    :param excludes: further patterns, relative to the top folder and in order of precedence. As in Ray, they cannot
        include what the others ignore, nor the others what these exclude.
    """

    levels: tuple[tuple[str, tuple[Pattern, ...]], ...] = ()
    excludes: tuple[Pattern, ...] = ()
    base: str = ""
    """The path of the top folder in the repository, with a slash at the end."""

    @classmethod
    def above(cls, folder: Path, root: Path | None, excludes: tuple[Pattern, ...] = ()) -> IgnoreRules:
        """Return the rules for a top folder: the ``.gitignore`` files above it, up to the top of its repository.

        :param folder: a resolved path.
        :param root: where to end if it is in no repository, such as a copy of one, a resolved path; ``None``: at the
            folder.
        :param excludes: see :class:`IgnoreRules`.
        :raises RayAgentInputError: if an ignore file cannot be read, or has a pattern that is not valid.
        """
        folders = (folder, *folder.parents)
        # In a worktree and in a submodule, ``.git`` is a file.
        top = next((each for each in folders if os.path.lexists(each / ".git")), root)
        if top not in folders:
            top = folder
        above = folders[1 : folders.index(top) + 1]
        levels = []
        for each in above:
            patterns = _read(each / GITIGNORE, str(each / GITIGNORE))
            if patterns:
                levels.append((_prefix(each, top), tuple(reversed(patterns))))
        return cls(tuple(levels), excludes, _prefix(folder, top))

    def read(self, folder: Path, path: str) -> IgnoreRules:
        """Return the rules for the entries of a folder, given those for the folder itself.

        :param path: of the folder in the package, with a slash at the end; ``""`` for the top folder.
        :raises RayAgentInputError: if an ignore file cannot be read, or has a pattern that is not valid.
        """
        patterns = [
            pattern for name in IGNORE_FILES for pattern in _read(folder / name, f"{path}{name} of the working_dir")
        ]
        level = (self.base + path, tuple(reversed(patterns)))
        return self._replace(levels=(level, *self.levels)) if patterns else self

    def ignores(self, path: str, *, is_folder: bool) -> bool:
        """Return whether an entry is left out.

        :param path: of the entry in the package.
        """
        if path.rpartition("/")[2] in ALWAYS_IGNORED or _decision(self.excludes, path, is_folder=is_folder):
            return True
        path = self.base + path
        decisions = (_decision(patterns, path[len(prefix) :], is_folder=is_folder) for prefix, patterns in self.levels)
        return next((decision for decision in decisions if decision is not None), False)


def parse_excludes(value: object) -> tuple[Pattern, ...]:
    """Return the patterns of ``excludes`` in order of precedence; none for ``None``.

    :raises RayAgentInputError: if it is not a list of valid patterns.
    """
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or not all(isinstance(line, str) for line in value):
        raise RayAgentInputError(
            f"excludes must be a list of patterns, such as ['*.csv', 'data/'], not {shown(value)}."
        )
    return tuple(reversed(_parse_all(value, "excludes")))


def parse(line: str) -> Pattern | None:
    """Return the pattern of a line, or ``None`` for a comment and a line that matches nothing.

    :raises ValueError: if it is not valid, or uses a character class such as ``[[:alpha:]]``, which is not supported.
    """
    includes = line.startswith("!")
    # Spaces at the end count only after a backslash (``gitignore(5)``).
    text = re.sub(r"(?<!\\) +$", "", line[includes:])
    only_folders = text.endswith("/")
    text = text.removesuffix("/")
    if not text or line.startswith("#"):
        return None
    # Git reads more than two stars between slashes as two (``wildmatch.c``).
    segments = [re.sub(r"^\*{3,}$", "**", segment) for segment in text.removeprefix("/").split("/")]
    # Such a pattern matches in every folder below (``gitignore(5)``).
    if "/" not in text:
        segments.insert(0, "**")
    *folders, last = segments
    regex = "".join("(?:.+/)?" if each == "**" else _GLOB.sub(_to_regex, each) + "/" for each in folders)
    # At the end, two stars match all that is inside, but not the folder itself (``gitignore(5)``).
    regex += ".+" if last == "**" else _GLOB.sub(_to_regex, last)
    try:
        return Pattern(re.compile(regex, re.DOTALL), includes, only_folders)
    except re.error as error:
        raise ValueError(f"{line}: {error.msg}") from None


def _decision(patterns: Iterable[Pattern], path: str, *, is_folder: bool) -> bool | None:
    """Return whether the first pattern that matches ignores a path; ``None`` if none matches."""
    for pattern in patterns:
        if (is_folder or not pattern.only_folders) and pattern.regex.fullmatch(path):
            return not pattern.includes
    return None


def _to_regex(found: re.Match[str]) -> str:
    """Return the regular expression for a part of a segment of a path, which never matches a slash."""
    if found["stars"]:
        return "[^/]*"
    if found["any"]:
        return "[^/]"
    if found["set"] is None:
        return re.escape(found["escaped"] or found["other"])
    if "[:" in found["set"]:
        raise ValueError(f"{found.string}: character classes are not supported")
    # A hyphen that is not escaped is that of a range.
    chars = _SET.sub(lambda char: "-" if char[0] == "-" else re.escape(char["char"]), found["set"])
    # Not even a set such as ``[^a]`` matches a slash in git.
    return f"(?!/)[{'^' * bool(found['negation'])}{chars}]"


def _prefix(folder: Path, top: Path) -> str:
    return "" if folder == top else f"{folder.relative_to(top).as_posix()}/"


def _read(file: Path, name: str) -> list[Pattern]:
    """Return the patterns of a file; none if there is no such file.

    :param name: its name in messages.
    """
    shown_name = sanitize(name, length=300)
    try:
        if not file.is_file():
            return []
        content = file.read_bytes()
    except OSError as error:
        raise working_dir_error(f"{shown_name} cannot be read: {error.strerror}.") from None
    # Not splitlines(), which splits at more characters than git does.
    lines = content.decode("utf-8-sig", "surrogateescape").split("\n")
    # Git ignores a byte order mark and the carriage return of a line break as well.
    return _parse_all((line.removesuffix("\r") for line in lines), shown_name)


def _parse_all(lines: Iterable[str], where: str) -> list[Pattern]:
    try:
        return [pattern for line in lines if (pattern := parse(line))]
    except ValueError as error:
        message = sanitize(str(error), length=200)
        raise working_dir_error(f"A pattern in {where} is not valid: {message}.") from None
