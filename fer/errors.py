"""Every error that this project raises on purpose.

The tree::

    FerError
    ├── ConfigError              a setting that cannot be used
    ├── LabelError               a label, or a set of labels, that cannot be used
    ├── PictureError             a visitor's picture that is refused
    │   ├── NotAPictureError
    │   ├── TruncatedPictureError
    │   ├── PictureTooLargeError
    │   ├── PictureTooSmallError
    │   └── NoFaceError
    ├── ModelError               something about `models/`
    │   ├── UnknownModelError
    │   ├── ManifestError
    │   ├── DamagedModelError
    │   └── NoModelError
    ├── CollectionError          something about what is kept
    │   ├── StorageError         the disk or the database refused a write
    │   ├── DatabaseVersionError the database was made by a newer version
    │   ├── UnknownSampleError
    │   ├── UnknownReceiptError
    │   ├── DecisionConflictError
    │   ├── OperatorError
    │   └── BackupError          a backup cannot be made, or cannot be restored
    ├── DataError                a data set that cannot be read
    ├── TrainingError
    └── RetrainingError

A message is one English sentence fit for the person who caused the error. Where a page shows
it, the page looks `code` up in its own texts and fills in `details`.
"""

from __future__ import annotations

from typing import ClassVar


class FerError(Exception):
    """Base of the tree.

    Args:
        message: one sentence in English.
        details: values that a translated sentence needs, by name.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class ConfigError(FerError):
    """A setting has a value that cannot be used."""

    code = "config"


class LabelError(FerError):
    """A label, or a set of labels, that cannot be used."""

    code = "label"


class PictureError(FerError):
    """A picture is refused; the subclasses say why."""

    code = "picture"


class NotAPictureError(PictureError):
    """The bytes are no picture in a format that is read."""

    code = "not_a_picture"


class TruncatedPictureError(PictureError):
    """The file is a picture, but it ends too early or is damaged."""

    code = "truncated_picture"


class PictureTooLargeError(PictureError):
    """More bytes or more pixels than the settings allow."""

    code = "picture_too_large"


class PictureTooSmallError(PictureError):
    """The shortest side has fewer pixels than the settings ask for."""

    code = "picture_too_small"


class NoFaceError(PictureError):
    """No face was found in the picture."""

    code = "no_face"


class ModelError(FerError):
    """Something about the models folder."""

    code = "model"


class UnknownModelError(ModelError):
    """No version of that name."""

    code = "unknown_model"


class ManifestError(ModelError):
    """A manifest is missing, unreadable or says something impossible."""

    code = "manifest"


class DamagedModelError(ModelError):
    """A file of a version is missing or its SHA-256 differs from the manifest's."""

    code = "damaged_model"


class NoModelError(ModelError):
    """There is no version that can serve."""

    code = "no_model"


class CollectionError(FerError):
    """Something about what is kept."""

    code = "collection"


class StorageError(CollectionError):
    """The disk or the database refused a write."""

    code = "storage"


class DatabaseVersionError(CollectionError):
    """The database was made by a newer version of this program."""

    code = "database_version"


class UnknownSampleError(CollectionError):
    """No sample has that id."""

    code = "unknown_sample"


class UnknownReceiptError(CollectionError):
    """No kept sample belongs to that receipt, or it was deleted already."""

    code = "unknown_receipt"


class DecisionConflictError(CollectionError):
    """The sample changed since the operator saw it; `details` say how."""

    code = "decision_conflict"


class OperatorError(CollectionError):
    """An operator's name, password or role is not accepted."""

    code = "operator"


class BackupError(CollectionError):
    """A backup cannot be made, or cannot be restored."""

    code = "backup"


class DataError(FerError):
    """A data set cannot be read as one."""

    code = "data"


class TrainingError(FerError):
    """A training cannot start or go on."""

    code = "training"


class RetrainingError(FerError):
    """A retraining cannot start or go on; nothing was changed."""

    code = "retraining"
