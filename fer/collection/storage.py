"""Where pictures lie: one small interface, so that an object store can follow."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from fer.errors import LabelError, StorageError
from fer.files import fsync_folder, write_atomically
from fer.labels import check_label

#: Names of what `write_atomically` leaves when it is killed.
TEMPORARY_PREFIX = ".tmp-"

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}\.[a-z0-9]{1,8}")
_WRITE_LOCK = ".write.lock"


class ImageStorage(Protocol):
    """Bytes under relative paths `<label>/<name>`."""

    def write(self, path: str, data: bytes) -> None:
        """Store `data`, wholly or not at all, so that it survives a power cut."""

    def read(self, path: str) -> bytes:
        """The bytes at `path`; FileNotFoundError when there are none."""

    def delete(self, path: str) -> bool:
        """Remove `path` for good; whether there was anything to remove."""

    def list(self) -> Iterator[str]:
        """Every stored path, in no order, leftovers of interrupted writes included."""

    def delete_leftover(self, path: str) -> bool:
        """Remove a path that `list` gave, whatever its name."""

    def writing(self) -> AbstractContextManager[None]:
        """Held by those who write a picture and then its row."""

    def alone(self) -> AbstractContextManager[None]:
        """Held to be sure that nobody is between writing a picture and its row."""


def storage_error(error: OSError, doing: str) -> StorageError:
    """A `StorageError` that says what a disk's refusal means; `details["reason"]` names it."""
    reasons = {
        errno.ENOSPC: ("disk_full", "the disk is full"),
        errno.EDQUOT: ("disk_full", "the disk quota is used up"),
        errno.EROFS: ("read_only", "the folder is read-only"),
        errno.EACCES: ("read_only", "the folder may not be written to"),
        errno.EPERM: ("read_only", "the folder may not be written to"),
        errno.ENOENT: ("removed", "the folder is gone"),
    }
    reason, sentence = reasons.get(
        error.errno or 0, ("disk", f"the disk says: {error.strerror or error}")
    )
    return StorageError(f"The picture could not be {doing}: {sentence}.", reason=reason)


class FolderStorage:
    """Pictures as files `<root>/<label>/<name>`, each written by way of a temporary file.

    Args:
        root: folder, made if missing. It is not made again later: where a disk was unmounted,
            a new folder in its place would take pictures that nobody finds again. For the same
            reason nothing is written while `root` lies on another disk than at first.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, "kept") from error
        self._device = self.root.stat().st_dev

    def write(self, path: str, data: bytes) -> None:
        """Store `data` at `path`.

        Raises:
            StorageError: the disk refused, or `path` leads elsewhere; nothing is half-written.
        """
        target = self._resolve(path)
        try:
            self._check_disk()
            if not target.parent.is_dir():
                target.parent.mkdir(mode=0o700, exist_ok=True)
                fsync_folder(self.root)
            write_atomically(target, data)
        except OSError as error:
            raise storage_error(error, "kept") from error

    def read(self, path: str) -> bytes:
        """The bytes at `path`.

        Raises:
            FileNotFoundError: there are none.
            StorageError: the disk refused, or `path` leads elsewhere.
        """
        target = self._resolve(path)
        try:
            descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as stream:
                return stream.read()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise storage_error(error, "read") from error

    def delete(self, path: str) -> bool:
        """Remove `path`; whether there was anything to remove.

        Raises:
            StorageError: the disk refused, or `path` leads elsewhere.
        """
        return self._unlink(self._resolve(path))

    def list(self) -> Iterator[str]:
        """Paths of all files in the label folders, leftovers of interrupted writes included.

        Raises:
            StorageError: the root cannot be read.
        """
        try:
            folders = [entry for entry in os.scandir(self.root) if self._is_label_folder(entry)]
            for folder in folders:
                for entry in os.scandir(folder.path):
                    if not entry.is_dir(follow_symlinks=False):
                        yield f"{folder.name}/{entry.name}"
        except OSError as error:
            raise storage_error(error, "listed") from error

    def delete_leftover(self, path: str) -> bool:
        """Remove a path that `list` gave.

        Raises:
            StorageError: as for `delete`.
        """
        folder, _, name = path.partition("/")
        if not name or "/" in name or name in {".", ".."} or not self._is_label(folder):
            raise StorageError(f"{path!r} is no path of a picture.", reason="path")
        return self._unlink(self.root / folder / name)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Shared lock of those who write a picture and then its row; a dead process drops it."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Exclusive lock: while it is held, nobody is between a picture and its row."""
        with self._locked(fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        # Not `fer.db`'s lock: it must work where the database is elsewhere.
        try:
            self._check_disk()
            descriptor = os.open(self.root / _WRITE_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise storage_error(error, "kept") from error
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    def _check_disk(self) -> None:
        """Refuse the empty folder that is seen where a disk was unmounted."""
        if self.root.stat().st_dev != self._device:
            raise FileNotFoundError(errno.ENOENT, "The disk is not mounted")

    def _unlink(self, target: Path) -> bool:
        try:
            target.unlink()
            fsync_folder(target.parent)
        except FileNotFoundError:
            if not self.root.is_dir():
                raise storage_error(
                    FileNotFoundError(errno.ENOENT, "No such folder"), "deleted"
                ) from None
            return False
        except OSError as error:
            raise storage_error(error, "deleted") from error
        return True

    def _resolve(self, path: str) -> Path:
        folder, _, name = path.partition("/")
        if not self._is_label(folder) or not _FILE_NAME.fullmatch(name):
            raise StorageError(f"{path!r} is no path of a picture.", reason="path")
        parent = self.root / folder
        if parent.is_symlink():
            raise StorageError(f"{folder!r} leads out of the data folder.", reason="path")
        return parent / name

    def _is_label_folder(self, entry: os.DirEntry[str]) -> bool:
        return entry.is_dir(follow_symlinks=False) and self._is_label(entry.name)

    @staticmethod
    def _is_label(name: str) -> bool:
        try:
            check_label(name)
        except LabelError:
            return False
        return True
