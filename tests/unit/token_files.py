"""A token file as Kubernetes mounts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class MountedToken:
    """The file ``token`` of a volume: a link through ``..data``, which is replaced by a rename at each change.

    (``pkg/volume/util/atomic_writer.go`` of Kubernetes)

    :param folder: the volume's mount path, empty.
    :param token: the first token.
    """

    def __init__(self, folder: Path, token: str) -> None:
        self._folder = folder
        self._changes = 0
        self.path = folder / "token"
        self.path.symlink_to("..data/token")
        self.replace(token)

    def replace(self, token: str) -> None:
        """Put another token there."""
        self._changes += 1
        data = self._folder / f"..{self._changes}"
        data.mkdir()
        (data / "token").write_text(f"{token}\n")
        link = self._folder / "..data_tmp"
        link.symlink_to(data.name)
        link.replace(self._folder / "..data")

    def remove(self) -> None:
        """Remove it, as a volume that is unmounted does."""
        (self._folder / "..data").unlink()
