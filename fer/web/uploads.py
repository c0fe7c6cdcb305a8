"""The private folder in which Gradio puts an uploaded picture until it is read.

Each server process has a folder of its own under one base, and holds a lock in it. A folder
whose lock is free was left by a process that died; the next start removes it. While the server
runs, a janitor removes what was uploaded and never sent.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from fer.errors import ConfigError

_LOCK = ".lock"


class UploadFolder:
    """One process's folder for uploads, readable by its user only.

    Args:
        base: folder that holds the folders of all processes; by default one for this user in
            the system's folder for temporary files.
        max_age: seconds after which the janitor removes a file.

    Raises:
        ConfigError: `base` belongs to someone else, is open to others, or is no folder.
    """

    def __init__(self, base: Path | None = None, max_age: float = 600.0) -> None:
        self.base = base or Path(tempfile.gettempdir()) / f"fer-{os.getuid()}"
        self.max_age = max_age
        _make_private(self.base)
        self._remove_abandoned()
        self.path = Path(tempfile.mkdtemp(prefix="uploads-", dir=self.base))
        self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def take(self, path: str) -> bytes | None:
        """Read an uploaded file and remove it.

        Returns:
            Its bytes, or None where `path` names no regular file below this folder: it was read
            before, the janitor took it, or it was never uploaded.
        """
        try:
            resolved = Path(path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            return None
        if not resolved.is_relative_to(self.path.resolve()) or resolved.name == _LOCK:
            return None
        if not stat.S_ISREG(resolved.lstat().st_mode):
            return None
        try:
            data = resolved.read_bytes()
        except OSError:
            return None
        self._remove(resolved)
        return data

    def sweep(self, now: float | None = None) -> int:
        """Remove files older than `max_age` and folders that became empty; how many files."""
        deadline = (time.time() if now is None else now) - self.max_age
        removed = 0
        for path in self._everything():
            try:
                status = path.lstat()
                if stat.S_ISDIR(status.st_mode):
                    if status.st_mtime < deadline:
                        path.rmdir()
                elif path.name != _LOCK and status.st_mtime < deadline:
                    path.unlink()
                    removed += 1
            except OSError:
                continue  # read or refilled meanwhile
        return removed

    def size_bytes(self) -> int:
        """What all files here take up together."""
        total = 0
        for path in self._everything():
            try:
                status = path.lstat()
            except OSError:
                continue  # read meanwhile
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
        return total

    def _everything(self) -> Iterator[Path]:
        """Files and folders, what is in a folder before the folder itself."""
        # Not `rglob`, which fails when a folder goes away while it looks.
        for folder, folders, files in os.walk(self.path, topdown=False):
            for name in (*files, *folders):
                yield Path(folder) / name

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def __enter__(self) -> UploadFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        if path.parent != self.path.resolve():
            try:
                path.parent.rmdir()
            except OSError:
                return  # another upload of the same picture lies there

    def _remove_abandoned(self) -> None:
        for folder in self.base.glob("uploads-*"):
            try:
                lock = os.open(folder / _LOCK, os.O_RDWR)
            except OSError:
                # Between mkdtemp and its lock a folder is seconds old; leave such a one alone.
                if time.time() - folder.stat().st_mtime > 60:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            else:
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise ConfigError(
            f"{folder} is no folder of this user's; remove it, or set TMPDIR to another place."
        )
    if status.st_mode & 0o077:
        folder.chmod(0o700)
