"""models/: the versions, the champion pointer, promotion and rollback.

A version is a folder `models/<version>/` with a `manifest.json` and the files that it names.
Two small text files point at the version that serves: `default`, which ships with the project,
and `champion`, which promotions on this machine write and which wins over it. The champion file
holds the history of promotions, newest last, so that a rollback is one step along it.
"""

from __future__ import annotations

import itertools
import shutil
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from fer.errors import DamagedModelError, ManifestError, ModelError, NoModelError, UnknownModelError
from fer.files import fsync_folder, sha256_of, write_atomically
from fer.manifest import Manifest, check_version_name, read_manifest

MANIFEST = "manifest.json"
KERAS_FILE = "model.keras"
LITERT_FILE = "model.tflite"
INT8_FILE = "model_int8.tflite"
REPLAY_FILE = "replay.npz"
CARD_FILE = "card.md"

#: Begins the name of a version folder that is not whole yet, and so is no version.
UNFINISHED = ".new-"


def new_version_name(name: str, now: datetime | None = None) -> str:
    """`<UTC time>-<name>` for a version made now."""
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    return check_version_name(f"{stamp}-{name}")


class Registry:
    """The model versions below one folder.

    Cheap to make and without state of its own: every call looks at the disk, so that processes
    (server, retraining job, command line) see each other's changes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def versions(self) -> list[str]:
        """Names of all version folders, oldest first."""
        if not self.folder.is_dir():
            return []
        found = []
        for entry in self.folder.iterdir():
            if not (entry / MANIFEST).is_file():
                continue
            try:
                found.append(check_version_name(entry.name))
            except ValueError:
                continue
        return sorted(found)

    def path(self, version: str) -> Path:
        """Folder of a version.

        Raises:
            UnknownModelError: no such version, or a name that is none.
        """
        try:
            check_version_name(version)
        except ValueError as error:
            raise UnknownModelError(f"There is no model {version!r}.", model=version) from error
        folder = self.folder / version
        if not (folder / MANIFEST).is_file():
            raise UnknownModelError(f"There is no model {version!r}.", model=version)
        return folder

    def manifest(self, version: str) -> Manifest:
        """Manifest of a version.

        Raises:
            UnknownModelError: no such version.
            ManifestError: its manifest cannot be used.
        """
        manifest = read_manifest(self.path(version) / MANIFEST)
        if manifest.version != version:
            raise ManifestError(f"models/{version} says that it is {manifest.version}.")
        return manifest

    def verified_file(self, version: str, name: str) -> Path:
        """Path of one file of a version, its SHA-256 compared with the manifest's.

        Raises:
            DamagedModelError: the manifest does not name it, it is missing or it differs.
        """
        expected = self.manifest(version).files.get(name)
        path = self.path(version) / name
        if expected is None:
            raise DamagedModelError(f"Model {version} has no file {name}.", model=version)
        if not path.is_file():
            raise DamagedModelError(f"Model {version} lacks its file {name}.", model=version)
        if sha256_of(path) != expected:
            raise DamagedModelError(
                f"Model {version}: {name} differs from what its manifest promises.", model=version
            )
        return path

    def verify(self, version: str) -> None:
        """Check every file of a version against its manifest; DamagedModelError if one fails."""
        for name in self.manifest(version).files:
            self.verified_file(version, name)

    # The pointers

    def default(self) -> str | None:
        """The shipped version, or None."""
        lines = self._lines("default")
        return lines[-1] if lines else None

    def history(self) -> list[str]:
        """Versions promoted on this machine, oldest first; empty while the default serves."""
        return self._lines("champion")

    def champion(self) -> str:
        """The version that should serve.

        Raises:
            NoModelError: neither pointer names one.
        """
        for candidates in (self.history(), self._lines("default")):
            if candidates:
                return candidates[-1]
        raise NoModelError(
            "There is no model yet: train one with `fer train`, or fetch the shipped one again."
        )

    def candidates(self) -> list[str]:
        """Versions to serve, best first: the champion, earlier champions, the default, the rest."""
        ordered = [*reversed(self.history()), *self._lines("default"), *reversed(self.versions())]
        present = set(self.versions())
        return [version for version in dict.fromkeys(ordered) if version in present]

    def promote(self, version: str, *, change_labels: bool = False) -> None:
        """Make `version` the champion, atomically.

        Raises:
            UnknownModelError, ManifestError, DamagedModelError: it cannot serve.
            ModelError: its labels differ from the champion's and `change_labels` is False.
        """
        self.verify(version)
        with self.locked():
            history = self.history()
            current = history[-1] if history else self.default()
            if current == version:
                return
            if current is not None and current in self.versions() and not change_labels:
                old, new = self.manifest(current).label_set, self.manifest(version).label_set
                if not old.same_as(new):
                    raise ModelError(
                        f"{version} has other labels ({', '.join(new)}) than the champion "
                        f"({', '.join(old)}); say --change-labels if that is meant."
                    )
            if not history and current is not None:
                history = [current]
            self._write_history([*history, version])

    def rollback(self) -> str:
        """Make the version before the champion the champion again, and return its name.

        Raises:
            ModelError: there is none before it.
        """
        with self.locked():
            earlier = self.history()[:-1]
            while earlier and earlier[-1] not in self.versions():
                earlier.pop()
            if not earlier:
                raise ModelError("There is no earlier champion to go back to.")
            self.verify(earlier[-1])
            self._write_history(earlier)
            return earlier[-1]

    def remove(self, version: str) -> None:
        """Delete a version that does not serve.

        Raises:
            UnknownModelError: no such version.
            ModelError: it is the champion or the default.
        """
        folder = self.path(version)
        with self.locked():
            history = self.history()
            if version in (history[-1] if history else None, self.default()):
                raise ModelError(f"{version} is in service; promote another one first.")
            # The manifest goes first: without it the folder is no version any more, whatever
            # happens to the rest of the deletion.
            (folder / MANIFEST).unlink()
            shutil.rmtree(folder)
            if version in history:
                left = [entry for entry in history if entry != version]
                # Without it, one champion may follow upon itself: that is no step to go back.
                self._write_history([entry for entry, _ in itertools.groupby(left)])

    def _lines(self, pointer: str) -> list[str]:
        try:
            text = (self.folder / pointer).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return []
        names = []
        for line in text.split():
            try:
                names.append(check_version_name(line))
            except ValueError:
                continue
        return names

    def _write_history(self, history: list[str]) -> None:
        write_atomically(self.folder / "champion", ("\n".join(history) + "\n").encode())
        fsync_folder(self.folder)

    def locked(self) -> FileLock:
        """Held by whoever moves a pointer or removes a version."""
        return FileLock(self.folder / ".lock", timeout=30)
