"""The files of a ``working_dir``, in the order of the package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError, working_dir_error
from airflow_provider_rayagent.text.sanitization import sanitize
from airflow_provider_rayagent.working_dir.ignore_files import IgnoreRules
from airflow_provider_rayagent.working_dir.source import is_inside, reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_rayagent.working_dir.ignore_files import Pattern

MAX_LINKED_FOLDERS = 1_000
"""Symbolic links to folders that are followed: two in each folder double what there is to read with each level."""


class Entry(NamedTuple):
    """A file or an empty folder to be packed.

    :param name: path in the package; that of a folder ends with a slash.
    :param path: path on the disk, after the symbolic links that :func:`walk` has followed.
    """

    name: str
    path: Path

    @property
    def is_folder(self) -> bool:
        """Whether this is an empty folder."""
        return self.name.endswith("/")


class _Found(NamedTuple):
    """What a folder contains.

    :param is_folder: whether it is a folder or a link to one; so for files.
    """

    name: str
    is_link: bool
    is_folder: bool
    is_file: bool


class _Level(NamedTuple):
    """A folder that is being walked.

    :param path: resolved.
    :param name: as in :class:`Entry`; ``""`` for the top folder.
    :param identity: device and inode.
    :param entries: those that are left, the next one at the end.
    """

    path: Path
    name: str
    identity: tuple[int, int]
    rules: IgnoreRules
    entries: list[_Found]


def walk(folder: Path, *, root: Path | None, excludes: tuple[Pattern, ...] = ()) -> Iterator[Entry]:
    """Yield the files and empty folders of a folder, sorted, without what is ignored (:class:`.IgnoreRules`).

    Symbolic links are followed. Sockets, named pipes and devices are skipped, as by Ray's client: they have no content,
    and programs leave them behind. Each folder is read when its turn comes.

    :param folder: a resolved path.
    :param root: symbolic links must lead to a place in this folder, a resolved path; ``None``: to anywhere.
    :param excludes: see :class:`.IgnoreRules`.
    :raises RayAgentInputError: if a folder cannot be read; for a symbolic link that leads out of ``root``, to nothing
        or in a circle; for more than :data:`MAX_LINKED_FOLDERS`; for a name that is not UTF-8 or that Ray does not
        unpack.
    """
    # A stack of its own, since folders may be nested deeper than Python's calls.
    levels = [_enter(folder, "", IgnoreRules.above(folder, root, excludes), (), root)]
    linked = 0
    while levels:
        level = levels[-1]
        if not level.entries:
            levels.pop()
            continue
        entry = level.entries.pop()
        name = level.name + entry.name
        # First of all, so that what cannot be packed can be ignored: a link that leads nowhere, a name that is not
        # UTF-8.
        if level.rules.ignores(name, is_folder=entry.is_folder):
            continue
        _validate_name(name)
        path = level.path / entry.name
        if entry.is_link:
            path = _follow(path, name, root)
            linked += entry.is_folder
            if linked > MAX_LINKED_FOLDERS:
                raise _refused(name, f"is one of more than {MAX_LINKED_FOLDERS:,} symbolic links to folders")
        if entry.is_folder:
            levels.append(_enter(path, f"{name}/", level.rules, levels, root))
            if not levels[-1].entries:
                yield Entry(f"{name}/", path)
        elif entry.is_file:
            yield Entry(name, path)


def open_resolved(path: Path, root: Path | None) -> int:
    """Open a file or folder that :func:`walk` has found for reading; return its descriptor.

    Not by its path alone: a link may have taken the place of the file or of a folder above it, and lead out of
    ``root``.

    :param path: a resolved path.
    :param root: as for :func:`walk`.
    :raises OSError: if it cannot be opened, or is a link by now.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if root is None:
        return os.open(path, flags)
    descriptor = os.open(root, flags)
    # O_NOFOLLOW concerns only the last part of a path (``open(2)``), so each part is opened on its own.
    for part in path.relative_to(root).parts:
        above = descriptor
        try:
            descriptor = os.open(part, flags, dir_fd=above)
        finally:
            os.close(above)
    return descriptor


def unreadable(name: str, error: OSError) -> RayAgentInputError:
    """Return the error for a file that cannot be read.

    :param name: its path in the package.
    """
    return _refused(name, f"cannot be read: {reason(error)}")


def _enter(path: Path, name: str, rules: IgnoreRules, levels: Sequence[_Level], root: Path | None) -> _Level:
    """Read a folder.

    :param rules: those for the folder itself.
    :param levels: the folders above it.
    """
    try:
        descriptor = open_resolved(path, root)
        try:
            status = os.fstat(descriptor)
            with os.scandir(descriptor) as found:
                # Sorted, since scandir() has any order, and the digest depends on it; while the descriptor is open,
                # since is_dir() of a link needs it.
                entries = sorted(map(_found, found), reverse=True)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unreadable(name or ".", error) from None
    identity = (status.st_dev, status.st_ino)
    # Only among the folders above: two links to one folder make no circle.
    if any(level.identity == identity for level in levels):
        raise _refused(name, "is a symbolic link to a folder that it is in")
    return _Level(path, name, identity, rules.read(path, name), entries)


def _found(entry: os.DirEntry[str]) -> _Found:
    try:
        return _Found(entry.name, entry.is_symlink(), entry.is_dir(), entry.is_file())
    except OSError:  # A symbolic link that cannot be followed; it may be ignored.
        return _Found(entry.name, is_link=True, is_folder=False, is_file=False)


def _follow(path: Path, name: str, root: Path | None) -> Path:
    """Return where a symbolic link leads."""
    target = Path(os.path.realpath(path))
    if not is_inside(target, root):
        raise _refused(name, f"is a symbolic link that leads out of {root}")
    try:
        # realpath() raises no error for a link that leads nowhere or in a circle.
        path.stat()
    except FileNotFoundError:
        raise _refused(name, "is a symbolic link to a file that does not exist") from None
    except OSError as error:
        raise unreadable(name, error) from None
    return target


def _validate_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise _refused(name, "has a name that is not UTF-8") from None
    # Ray 2.60 skips these with a warning in a log of the node (unzip_package in ray/_private/runtime_env/packaging.py).
    if "\\" in name or name[1:2] == ":":
        raise _refused(name, "has a name that Ray does not unpack, with a backslash or like a Windows drive")


def _refused(name: str, why: str) -> RayAgentInputError:
    shown = sanitize(name, length=200)
    return working_dir_error(f"{shown} of the working_dir {why}. Change or ignore it (.rayignore).")
