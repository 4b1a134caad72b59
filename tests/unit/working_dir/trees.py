"""Folders for the tests of ``working_dir``."""

from __future__ import annotations

import zipfile
from typing import IO, TYPE_CHECKING

from airflow_provider_rayagent.working_dir.folder_walk import walk
from airflow_provider_rayagent.working_dir.ignore_files import parse_excludes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def plant(folder: Path, tree: Mapping[str, str | bytes]) -> Path:
    """Write files into a new folder, and return it.

    :param tree: contents by path. A path with a slash at its end is an empty folder; a content that starts with ``->``
        is the target of a symbolic link.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif content.startswith("->"):
            path.symlink_to(content[2:])
        else:
            path.write_text(content)
    return folder


def names_in(folder: Path, *, root: Path | None = None, excludes: object = None) -> list[str]:
    """Return the names of what is packed of a folder."""
    return [entry.name for entry in walk(folder, root=root or folder, excludes=parse_excludes(excludes))]


def contents_of(package: IO[bytes]) -> dict[str, bytes]:
    """Return what a zip file contains, by name."""
    with zipfile.ZipFile(package) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
