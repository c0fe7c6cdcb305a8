"""A backup's file: one zip whose `manifest.json` gives SHA-256 and size of every other member.

Nothing in it is believed before it was checked: names lead nowhere but to their own place, sizes
fit the disk, and every byte was hashed once before the first one is written anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fer.errors import BackupError
from fer.files import fsync_folder

MANIFEST = "manifest.json"
DELETIONS = "deletions.json"
SQLITE = "database/fer.db"
POSTGRES = "database/fer.dump"
PICTURES = "pictures/"
MODELS = "models/"
POINTERS = ("models/default", "models/champion")

#: Counts up when older programs can no longer restore what newer ones write.
FORMAT = 1

#: No name has empty, `.` or `..` parts, a backslash, or more than three parts.
_PART = r"[^/\\\x00-\x1f.][^/\\\x00-\x1f]{0,127}"
_NAME = re.compile(
    rf"{re.escape(SQLITE)}|{re.escape(POSTGRES)}|{re.escape(DELETIONS)}"
    rf"|pictures/{_PART}/[A-Za-z0-9][A-Za-z0-9_-]{{0,79}}\.[a-z0-9]{{1,8}}"
    rf"|models/[A-Za-z0-9][A-Za-z0-9._-]{{0,127}}/[A-Za-z0-9][A-Za-z0-9._-]{{0,127}}"
    r"|models/default|models/champion"
)

#: Largest manifest and list of deletions that are read, in bytes: some millions of entries.
_LISTS = 1 << 30

_CHUNK = 1 << 20

#: What `zipfile` raises about a member that is damaged, encrypted or packed by another method.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


class Member(BaseModel):
    """What the manifest says about one member."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class ArchiveManifest(BaseModel):
    """`manifest.json` of a backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    program: str
    made_at: datetime
    database: Literal["sqlite", "postgresql"]
    #: The schema that the tables lie in; PostgreSQL only.
    schema_name: str | None = None
    revision: str
    #: Samples whose picture was lost already when the backup was made.
    missing: list[str] = []
    files: dict[str, Member]


class ArchiveWriter:
    """Adds members to a zip and remembers their hashes."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.files: dict[str, Member] = {}

    def add(self, name: str, data: bytes) -> None:
        """Add `data`."""
        with self._open(name) as stream:
            stream.write(data)
        self.files[name] = Member(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))

    def add_file(self, name: str, path: Path) -> None:
        """Add a file's bytes, as they are while they are read."""
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as source, self._open(name) as stream:
            while chunk := source.read(_CHUNK):
                stream.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        self.files[name] = Member(sha256=digest.hexdigest(), bytes=size)

    def finish(self, manifest: ArchiveManifest) -> None:
        """Write the manifest, last: an archive without one was never finished."""
        with self._open(MANIFEST) as stream:
            stream.write(manifest.model_dump_json(indent=1).encode())

    def _open(self, name: str) -> IO[bytes]:
        if name != MANIFEST and not _NAME.fullmatch(name):
            raise BackupError(f"{name!r} cannot be put into a backup.", name=name)
        entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        entry.external_attr = (stat.S_IFREG | 0o600) << 16
        # JPEG, weights and PostgreSQL's dumps are compressed already.
        packed = name.endswith((".db", ".json"))
        entry.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        return self._archive.open(entry, "w", force_zip64=True)


@contextmanager
def new_archive(out: Path) -> Iterator[tuple[ArchiveWriter, Path]]:
    """A backup that appears at `out` whole or not at all, and a folder for what comes before.

    Both are readable by their owner alone.

    Raises:
        BackupError: the disk refused; `out` is as it was.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".tmp-backup-", dir=out.parent) as folder:
            part = Path(folder) / "backup.zip"
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w+b") as stream:
                with zipfile.ZipFile(stream, "w") as archive:
                    yield ArchiveWriter(archive), Path(folder)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(part, out)
            fsync_folder(out.parent)
    except OSError as error:
        raise BackupError(
            f"The backup {out} cannot be written: {error.strerror or error}."
        ) from error


class ArchiveReader:
    """A backup that is opened for reading; its manifest was read and every name was checked.

    Args:
        path: of the zip.

    Raises:
        BackupError: it is none, or one that a newer version of this program made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no whole zip file"
            raise BackupError(f"The backup {path} cannot be read: {why or error}.") from error
        try:
            self.manifest = self._read_manifest()
            self._check_names()
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def verify(self) -> None:
        """Hash every member.

        Raises:
            BackupError: one differs from what the manifest says.
        """
        for name in self.manifest.files:
            for _ in self.chunks(name):
                pass

    def read(self, name: str) -> bytes:
        """A member's bytes, checked; errors as for `verify`."""
        return b"".join(self.chunks(name))

    def extract(self, name: str, target: Path) -> None:
        """Write a member to a new file, readable by its owner alone; errors as for `verify`."""
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            for chunk in self.chunks(name):
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())

    def chunks(self, name: str) -> Iterator[bytes]:
        """A member in pieces; the last one comes only if the hash of all is right."""
        said = self.manifest.files.get(name)
        if said is None:
            raise self._damaged(name)
        digest, size = hashlib.sha256(), 0
        held = b""
        try:
            with self._archive.open(name) as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    if size > said.bytes:
                        break
                    if held:
                        yield held
                    held = chunk
        except _UNREADABLE as error:
            raise self._damaged(name) from error
        if (digest.hexdigest(), size) != (said.sha256, said.bytes):
            raise self._damaged(name)
        if held:
            yield held

    def needs(self) -> int:
        """Bytes that restoring takes on the disk, at most."""
        return sum(member.bytes for member in self.manifest.files.values())

    def check_room(self, folder: Path) -> None:
        """Whether the disk of `folder` has room for everything.

        Raises:
            BackupError: it has not.
        """
        free = shutil.disk_usage(folder).free
        if self.needs() > free:
            raise BackupError(
                f"The backup needs {self.needs() / 1e6:,.0f} MB; {folder} has room for "
                f"{free / 1e6:,.0f} MB."
            )

    def _read_manifest(self) -> ArchiveManifest:
        try:
            info = self._archive.getinfo(MANIFEST)
            if info.file_size > _LISTS:
                raise self._damaged(MANIFEST)
            document = json.loads(self._archive.read(MANIFEST))
        except KeyError as error:
            raise BackupError(f"{self.path} is no backup: it has no {MANIFEST}.") from error
        except (*_UNREADABLE, RecursionError) as error:
            raise self._damaged(MANIFEST) from error
        made = document.get("format") if isinstance(document, dict) else None
        if isinstance(made, int) and made > FORMAT:
            raise BackupError(
                f"The backup {self.path} was made by a newer version of this program "
                f"({document.get('program')}); upgrade first."
            )
        try:
            return ArchiveManifest.model_validate(document)
        except ValidationError as error:
            raise self._damaged(MANIFEST) from error

    def _check_names(self) -> None:
        named = self.manifest.files
        found = [info for info in self._archive.infolist() if info.filename != MANIFEST]
        for info in found:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if not _NAME.fullmatch(info.filename) or kind not in (0, stat.S_IFREG):
                raise BackupError(
                    f"The backup {self.path} has a member that leads elsewhere: {info.filename!r}."
                )
            if info.filename not in named or info.file_size != named[info.filename].bytes:
                raise self._damaged(info.filename)
        if len(found) != len(named):
            lost = sorted(set(named) - {info.filename for info in found})
            raise self._damaged(lost[0] if lost else MANIFEST)

    def _damaged(self, name: str) -> BackupError:
        return BackupError(
            f"The backup {self.path} is damaged: {name} is not what it was.", name=name
        )
