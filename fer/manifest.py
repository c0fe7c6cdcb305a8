"""What a model version says of itself: the contents of `manifest.json`."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fer.errors import LabelError, ManifestError
from fer.labels import LabelSet

#: Raised when a manifest gains a field that older code must not ignore.
MANIFEST_FORMAT = 1

#: `<UTC time>-<name>`, e.g. `20250101T030000Z-mobilenetv2-ferplus`.
VERSION_NAME = re.compile(r"\d{8}T\d{6}Z-[a-z0-9][a-z0-9._-]{0,62}")

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


class Framing(BaseModel):
    """How a detector's box becomes the crop that a model was trained on.

    The crop is a square whose side is `scale` times the longer side of the box, its centre
    raised by `lift` times that longer side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: float = Field(1.0, gt=0.2, lt=4.0)
    lift: float = Field(0.1, gt=-1.0, lt=1.0)


class DataSource(BaseModel):
    """One data set that a model learned from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    terms: str = ""
    sha256: str | None = None
    split: str | None = None
    pictures: int | None = None


class Manifest(BaseModel):
    """One model version.

    `crop_size` is the side, in pixels, of the 8-bit RGB crops that the model takes; what it does
    to them (grey, scaling, resizing to `image_size`) are layers of its graph. The graph ends in
    logits; calibrated probabilities are `softmax(logits / temperature)`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format: int = MANIFEST_FORMAT
    version: str
    name: str
    title: str = ""
    parent: str | None = None
    created_at: datetime
    architecture: str
    labels: tuple[str, ...]
    crop_size: int = Field(ge=8, le=1024)
    image_size: int = Field(ge=8, le=1024)
    temperature: float = Field(1.0, gt=0.01, lt=100)
    framing: Framing = Framing()
    freeze_point: str | None = None
    parameters: int | None = None
    data: tuple[DataSource, ...] = ()
    settings: dict[str, Any] = {}
    seed: int | None = None
    code_version: str = ""
    metrics: dict[str, Any] = {}
    samples_used: tuple[str, ...] = ()
    not_for: str = ""
    files: dict[str, str] = Field(description="SHA-256 of each file of the version, by name.")

    @field_validator("version")
    @classmethod
    def _version(cls, value: str) -> str:
        return check_version_name(value)

    @field_validator("labels")
    @classmethod
    def _labels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return LabelSet(value).names
        except LabelError as error:
            raise ValueError(error.message) from error

    @field_validator("files")
    @classmethod
    def _files(cls, value: dict[str, str]) -> dict[str, str]:
        for name, digest in value.items():
            if not _FILE_NAME.fullmatch(name) or name == "manifest.json":
                raise ValueError(f"{name!r} cannot be a file of a version")
            if not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise ValueError(f"the SHA-256 of {name} is not 64 hexadecimal digits")
        return value

    @property
    def label_set(self) -> LabelSet:
        """The labels as a `LabelSet`."""
        return LabelSet(self.labels)


def check_version_name(value: str) -> str:
    """Return `value` if it can name a version; ValueError otherwise (no path gets through)."""
    if not VERSION_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no version name such as 20250101T030000Z-mobilenetv2")
    return value


def read_manifest(path: Path) -> Manifest:
    """Read and validate a `manifest.json`.

    Raises:
        ManifestError: missing, unreadable, from a newer version of this program, or impossible.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}.") from error
    try:
        # The format is looked at first: a newer manifest may well have fields unknown here.
        format = _Format.model_validate_json(text).format
        if format > MANIFEST_FORMAT:
            raise ManifestError(
                f"{path} was written by a newer version of this program "
                f"(format {format}, this one reads up to {MANIFEST_FORMAT})."
            )
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ManifestError(f"{path} is not a valid manifest: {where}: {first['msg']}.") from error


class _Format(BaseModel):
    """The one field that every manifest, of whatever age, is read for first."""

    format: int = MANIFEST_FORMAT
