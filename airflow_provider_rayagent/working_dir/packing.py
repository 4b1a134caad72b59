"""Pack a ``working_dir`` for Ray's dashboard: a zip file that is named by its content."""

from __future__ import annotations

import hashlib
import heapq
import os
import stat
import tempfile
import zipfile
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter
from typing import IO, TYPE_CHECKING, NamedTuple

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError, working_dir_error
from airflow_provider_rayagent.text.sanitization import sanitize
from airflow_provider_rayagent.working_dir.folder_walk import Entry, open_resolved, unreadable, walk
from airflow_provider_rayagent.working_dir.ignore_files import parse_excludes
from airflow_provider_rayagent.working_dir.source import is_inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from airflow_provider_rayagent.working_dir.ignore_files import Pattern

MAX_BYTES = 104_857_600
"""Size of a package that Ray's dashboard accepts."""
MAX_FILES = 100_000
"""Files and empty folders that are packed, so that a wrong folder is noticed soon. A .zip file may have more."""
LARGEST = 5
"""Number of files that the message about the size lists."""

_CHUNK = 256 * 1024
_LIMIT = f"Ray's dashboard accepts at most {MAX_BYTES:,} bytes (100 MiB)"
_ELSEWHERE = "to where the cluster can download it, and give its URI, such as s3://bucket/project.zip"


class Package(NamedTuple):
    """A package.

    :param name: name of the package on the cluster; it depends only on the content.
    :param size: in bytes.
    :param files: number of files.
    :param file: a temporary file with the package; call ``seek(0)`` before each reading.
    """

    name: str
    size: int
    files: int
    file: IO[bytes]

    @property
    def uri(self) -> str:
        """The package's URI in a ``runtime_env``."""
        return f"gcs://{self.name}"


@contextmanager
def pack(path: Path, *, root: Path | None, excludes: object = None) -> Iterator[Package]:
    """Pack a folder, or take a .zip file as it is; the package is deleted at the end of the block.

    The name of a folder's package is a digest of the paths, executable bits and contents of its files: it does not
    depend on times, owners, or the release of zlib. That of a .zip file is a digest of its bytes. Both are computed
    from what is written to the package, so that they match it even if a file changes meanwhile.

    :param path: a resolved path, as :func:`.find_working_dir` returns it.
    :param root: folder that has the path in it, see :func:`.walk`; ``None``: anything may be packed.
    :param excludes: those of a runtime environment; see :func:`.parse_excludes`.
    :raises RayAgentInputError: if there is nothing to pack, if a file cannot be read or packed (:func:`.walk`), if the
        package exceeds :data:`MAX_BYTES` or :data:`MAX_FILES`, or if ``excludes`` is not valid or is for a .zip file.
    :raises OSError: if the package cannot be written to the folder for temporary files.
    """
    patterns = parse_excludes(excludes)
    root = root and root.resolve()
    # Operators have checked this (:func:`.find_working_dir`), but a caller of the hook gives any path.
    if not is_inside(path, root):
        raise working_dir_error(f"The working_dir {_shown(path)} is outside of {root}.")
    # It has no name, so that the system deletes it even if the process is killed.
    with tempfile.TemporaryFile() as file:
        pack_into = _pack_folder if path.is_dir() else _copy_zip
        digest, files = pack_into(path, root, patterns, file)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        # Ray's nodes keep what they have downloaded by its name: another content under the same name would not reach
        # them.
        yield Package(f"rayagent_{digest}.zip", size, files, file)


@contextmanager
def pack_files(files: Mapping[str, bytes]) -> Iterator[Package]:
    """Pack files that are in memory; the package is deleted at the end of the block.

    :param files: the content by path in the package. Its name is a digest of them.
    :raises OSError: if the package cannot be written to the folder for temporary files.
    """
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
                digest.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(content).digest())
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        yield Package(f"rayagent_{digest.hexdigest()}.zip", size, len(files), file)


class _Writer:
    """Writes the package of a folder."""

    def __init__(self, file: IO[bytes], archive: zipfile.ZipFile, root: Path | None) -> None:
        self._file = file
        self._root = root
        self._archive = archive
        self._digest = hashlib.sha256()
        self.entries = 0
        self.files = 0

    @property
    def digest(self) -> str:
        """The digest of all entries, in hexadecimal digits."""
        return self._digest.hexdigest()

    @property
    def is_too_large(self) -> bool:
        """Whether the entries exceed :data:`MAX_BYTES`, without the directory that follows them."""
        return self._file.tell() > MAX_BYTES

    def add(self, entry: Entry) -> None:
        """Write an entry, or a part of it if the package becomes too large."""
        info = zipfile.ZipInfo(entry.name)  # Its time is 1980-01-01.
        content = hashlib.sha256()
        if entry.is_folder:
            info.external_attr = (stat.S_IFDIR | 0o755) << 16
            self._archive.writestr(info, b"")
        else:
            info.compress_type = zipfile.ZIP_DEFLATED
            self._write_file(entry, info, content.update)
            self.files += 1
        self.entries += 1
        name = entry.name.encode()
        # All but the name have a fixed length.
        self._digest.update(content.digest() + info.external_attr.to_bytes(4, "big") + len(name).to_bytes(4, "big"))
        self._digest.update(name)

    def _write_file(self, entry: Entry, info: zipfile.ZipInfo, update: Callable[[bytes], object]) -> None:
        with _open(entry.path, entry.name, self._root) as source:
            status = os.fstat(source.fileno())
            # Ray 2.60 gives the unpacked file this mode (``unzip_package``). Its other bits depend on the umask of the
            # checkout, and would change the package's name.
            info.external_attr = (stat.S_IFREG | (0o755 if status.st_mode & stat.S_IXUSR else 0o644)) << 16
            info.file_size = status.st_size  # By this, zipfile chooses the format of the header.
            with self._archive.open(info, "w") as target:
                for chunk in _chunks(source, status.st_size, entry.name):
                    update(chunk)
                    target.write(chunk)
                    if self.is_too_large:
                        break


def _pack_folder(folder: Path, root: Path | None, excludes: tuple[Pattern, ...], file: IO[bytes]) -> tuple[str, int]:
    """Write the package of a folder. Return the digest and the number of files."""
    with zipfile.ZipFile(file, "w") as archive:
        writer = _Writer(file, archive, root)
        for entry in walk(folder, root=root, excludes=excludes):
            if writer.entries == MAX_FILES:
                raise working_dir_error(
                    f"The working_dir {_shown(folder)} has more than {MAX_FILES:,} files. Exclude files that the job "
                    "does not need (.rayignore), or give a .zip file, which may have more."
                )
            writer.add(entry)
            if writer.is_too_large:
                break
    # Again, now that zipfile has written the directory to the end.
    if file.seek(0, os.SEEK_END) > MAX_BYTES:
        raise _folder_too_large(folder, root, excludes)
    if not writer.entries:
        raise working_dir_error(f"The working_dir {_shown(folder)} has no files, or only ignored ones.")
    return writer.digest, writer.files


def _copy_zip(path: Path, root: Path | None, excludes: tuple[Pattern, ...], file: IO[bytes]) -> tuple[str, int]:
    """Copy a .zip file. Return the digest and the number of files."""
    if excludes:
        # Ray ignores them, and a file that must not be on the cluster would be.
        raise working_dir_error(
            f"The working_dir {_shown(path)} is a .zip file, of which excludes can leave out nothing: give the folder, "
            "or a .zip file without these files."
        )
    # Copied, since the file could change between the digest and the upload, or between two attempts of it.
    digest = hashlib.sha256()
    with _open(path, path.name, root) as source:
        size = os.fstat(source.fileno()).st_size
        if size > MAX_BYTES:
            raise working_dir_error(
                f"The working_dir {_shown(path)} has {size:,} bytes; {_LIMIT}. Upload it {_ELSEWHERE}."
            )
        for chunk in _chunks(source, size, path.name):
            digest.update(chunk)
            file.write(chunk)
    try:
        with zipfile.ZipFile(file) as archive:
            files = sum(not info.is_dir() for info in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError) as error:  # The second: for a newer version of the format.
        raise working_dir_error(f"The working_dir {_shown(path)} is not a valid .zip file: {error}.") from None
    if not files:
        raise working_dir_error(f"The working_dir {_shown(path)} has no files.")
    return digest.hexdigest(), files


def _folder_too_large(folder: Path, root: Path | None, excludes: tuple[Pattern, ...]) -> RayAgentInputError:
    try:
        # A second walk, since the first one ended where the package became too large.
        entries = islice(walk(folder, root=root, excludes=excludes), MAX_FILES)
        sizes = [(entry.name, entry.path.stat().st_size) for entry in entries if not entry.is_folder]
    except OSError as error:
        raise unreadable(".", error) from None
    largest = heapq.nlargest(LARGEST, sizes, key=itemgetter(1))
    listed = "\n".join(f"  {size:>15,} bytes  {_shown(name)}" for name, size in largest)
    return working_dir_error(
        f"The package of the working_dir {_shown(folder)} is too large: {_LIMIT}. The "
        f"{'first ' if len(sizes) == MAX_FILES else ''}{len(sizes):,} files have {sum(size for _, size in sizes):,} "
        f"bytes before compression; the largest are:\n{listed}\n"
        f"Exclude files that the job does not need (.rayignore), or upload a .zip file {_ELSEWHERE}."
    )


def _open(path: Path, name: str, root: Path | None) -> IO[bytes]:
    try:
        return os.fdopen(open_resolved(path, root), "rb")
    except OSError as error:
        raise unreadable(name, error) from None


def _chunks(source: IO[bytes], size: int, name: str) -> Iterator[bytes]:
    """Yield a file's content, but not more than its size when it was opened; it may grow without end."""
    while size and (chunk := _read(source, size, name)):
        size -= len(chunk)
        yield chunk


def _read(source: IO[bytes], most: int, name: str) -> bytes:
    try:
        return source.read(min(most, _CHUNK))
    except OSError as error:
        raise unreadable(name, error) from None


def _shown(path: Path | str) -> str:
    return sanitize(str(path), length=200)
