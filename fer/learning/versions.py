"""Writing a model version: a folder that is there whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import keras

from fer.files import fsync_folder, sha256_of, write_atomically
from fer.learning.conversion import convert
from fer.manifest import Manifest
from fer.registry import KERAS_FILE, LITERT_FILE, MANIFEST, UNFINISHED, Registry


class VersionFolder:
    """A version in the making, beside the finished ones and invisible to them.

    Use it as a context: files are added to `path`, `commit` makes the version; leaving the context
    without a commit removes everything.
    """

    def __init__(self, registry: Registry, version: str) -> None:
        self.registry = registry
        self.version = version
        self.path = registry.folder / f"{UNFINISHED}{version}"

    def __enter__(self) -> Self:
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def add_model(self, model: keras.Model) -> Path:
        """Write `model.keras` (without optimizer state) and `model.tflite`; the latter's path."""
        model.save(self.path / KERAS_FILE)
        (self.path / LITERT_FILE).write_bytes(convert(model))
        return self.path / LITERT_FILE

    def add_json(self, name: str, value: Any) -> None:
        """Write a JSON file."""
        (self.path / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")

    def commit(self, **fields: Any) -> Manifest:
        """Write the manifest over all files added, sync everything, and make it a version.

        Args:
            fields: of `Manifest`, but for `version` and `files`.
        """
        files = {entry.name: sha256_of(entry) for entry in sorted(self.path.iterdir())}
        manifest = Manifest(version=self.version, files=files, **fields)
        text = manifest.model_dump_json(indent=1) + "\n"
        (self.path / MANIFEST).write_text(text, encoding="utf-8")
        for entry in self.path.iterdir():
            with entry.open("rb") as stream:
                os.fsync(stream.fileno())
        fsync_folder(self.path)
        os.replace(self.path, self.registry.folder / self.version)
        fsync_folder(self.registry.folder)
        return manifest


def rewrite_files(
    registry: Registry, manifest: Manifest, contents: Mapping[str, bytes], **fields: Any
) -> Manifest:
    """Write files of a finished version again, and the manifest that names them.

    The manifest comes last: a crash before it leaves files that are refused, as their hashes
    differ, until this runs again.

    Args:
        contents: bytes by file name.
        fields: of the manifest that change, but for `files`, unless some are to go from it.

    Returns:
        The new manifest.
    """
    folder = registry.path(manifest.version)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    hashes = {name: sha256_of(folder / name) for name in contents}
    files = fields.pop("files", manifest.files) | hashes
    renewed = manifest.model_copy(update={**fields, "files": files})
    write_atomically(folder / MANIFEST, (renewed.model_dump_json(indent=1) + "\n").encode())
    for name in (*contents, MANIFEST):
        # A temporary file is for its owner alone; these are for whoever may read the model.
        shutil.copymode(folder / KERAS_FILE, folder / name)
    return renewed


def remove_unfinished(registry: Registry) -> list[str]:
    """Remove what killed runs left beside the versions; returns the names."""
    if not registry.folder.is_dir():
        return []
    left = [entry for entry in registry.folder.iterdir() if entry.name.startswith(UNFINISHED)]
    for entry in left:
        shutil.rmtree(entry, ignore_errors=True)
    return [entry.name for entry in left]
