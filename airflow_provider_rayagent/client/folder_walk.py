"""The files of a ``working_dir``, in the order of the package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_rayagent.client.errors import RayAgentInputError, working_dir_error
from airflow_provider_rayagent.client.ignore_files import IgnoreRules
from airflow_provider_rayagent.client.working_dir import is_inside, reason
from airflow_provider_rayagent.text.sanitization import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_rayagent.client.ignore_files import Pattern


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


class _Level(NamedTuple):
    """A folder that is being walked.

    :param name: as in :class:`Entry`; ``""`` for the top folder.
    :param identity: device and inode.
    :param entries: those that are left, the next one at the end.
    """

    name: str
    identity: tuple[int, int]
    rules: IgnoreRules
    entries: list[os.DirEntry[str]]


def walk(folder: Path, *, root: Path | None, excludes: tuple[Pattern, ...] = ()) -> Iterator[Entry]:
    """Yield the files and empty folders of a folder, sorted, without what is ignored (:class:`.IgnoreRules`).

    Symbolic links are followed. Sockets, named pipes and devices are skipped, as by Ray's client: they have no content,
    and programs leave them behind. Each folder is read when its turn comes.

    :param folder: a resolved path.
    :param root: symbolic links must lead to a place in this folder; ``None``: to anywhere.
    :param excludes: see :class:`.IgnoreRules`.
    :raises RayAgentInputError: if a folder cannot be read; for a symbolic link that leads out of ``root``, to nothing
        or in a circle; for a name that is not UTF-8 or that Ray does not unpack.
    """
    levels = [_enter(folder, "", IgnoreRules(excludes=excludes), ())]
    while levels:
        level = levels[-1]
        if not level.entries:
            levels.pop()
            continue
        entry = level.entries.pop()
        name = level.name + entry.name
        is_folder = _is_folder(entry)
        if level.rules.ignores(name, is_folder=is_folder):
            continue
        _validate_name(name)
        path = _follow(entry, name, root) if entry.is_symlink() else Path(entry.path)
        if is_folder:
            levels.append(_enter(path, f"{name}/", level.rules, levels))
            if not levels[-1].entries:
                yield Entry(f"{name}/", path)
        elif entry.is_file():
            yield Entry(name, path)


def unreadable(name: str, error: OSError) -> RayAgentInputError:
    """Return the error for a file that cannot be read.

    :param name: its path in the package.
    """
    return _refused(name, f"cannot be read: {reason(error)}")


def _enter(path: Path, name: str, rules: IgnoreRules, levels: Sequence[_Level]) -> _Level:
    """Read a folder.

    :param rules: those for the folder itself.
    :param levels: the folders above it.
    """
    try:
        status = path.stat()
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name, reverse=True)
    except OSError as error:
        raise unreadable(name or ".", error) from None
    identity = (status.st_dev, status.st_ino)
    if any(level.identity == identity for level in levels):
        raise _refused(name, "is a symbolic link to a folder that it is in")
    return _Level(name, identity, rules.read(path, name), entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A symbolic link that cannot be followed; it may be ignored.
        return False


def _follow(entry: os.DirEntry[str], name: str, root: Path | None) -> Path:
    target = Path(os.path.realpath(entry.path))
    if not is_inside(target, root):
        raise _refused(name, f"is a symbolic link that leads out of {root}")
    try:
        entry.stat()
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
