"""A picture → the expression on every face in it, with the model version that read them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fer.config import Settings
from fer.errors import DamagedModelError, ManifestError, NoFaceError, NoModelError
from fer.labels import LabelSet
from fer.registry import LITERT_FILE, MANIFEST, Registry
from fer.vision.annotate import annotate
from fer.vision.classifier import Classifier
from fer.vision.faces import FaceBox, FaceDetector, Quality, crop_face, face_quality
from fer.vision.images import ImageLimits, Pixels, decode

__all__ = ["Prediction", "Reading", "Recogniser", "Recognition", "annotate"]

#: Versions held beside the champion, for those who ask for one by name.
_HELD = 3


@dataclass(frozen=True)
class Prediction:
    """Probabilities of a model's labels for one face.

    Attributes:
        labels: in the order of the model's outputs.
        probabilities: one for each label, in 0…1, summing to 1.

    Raises:
        ValueError: lengths differ, or the numbers are no probabilities.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.probabilities) or len(self.labels) < 2:
            raise ValueError(
                f"{len(self.labels)} labels cannot have {len(self.probabilities)} probabilities"
            )
        if not all(0 <= p <= 1 for p in self.probabilities):
            raise ValueError(f"probabilities lie in 0…1, got {self.probabilities}")
        if abs(sum(self.probabilities) - 1) > 1e-3:
            raise ValueError(f"probabilities sum to 1, these to {sum(self.probabilities)}")

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.ranked()[0][0]

    @property
    def confidence(self) -> float:
        """Its probability."""
        return max(self.probabilities)

    @property
    def margin(self) -> float:
        """How far the best probability is ahead of the second best."""
        first, second = sorted(self.probabilities, reverse=True)[:2]
        return first - second

    def ranked(self) -> list[tuple[str, float]]:
        """Labels with their probabilities, most probable first; ties in the model's order."""
        pairs = zip(self.labels, self.probabilities, strict=True)
        return sorted(pairs, key=lambda pair: -pair[1])

    def certain(self, threshold: float) -> bool:
        """Whether the confidence reaches `threshold`; below it a page says "not sure"."""
        return self.confidence >= threshold

    def by_label(self) -> dict[str, float]:
        """Probability of each label, in the model's order."""
        return dict(zip(self.labels, self.probabilities, strict=True))


@dataclass(frozen=True)
class Reading:
    """One face: where it is, what its expression looks like, how well it could be read."""

    box: FaceBox
    prediction: Prediction
    quality: Quality

    def as_dict(self, threshold: float) -> dict[str, Any]:
        """The reading as it goes into JSON; `certain` says whether it reaches `threshold`."""
        box, prediction = self.box, self.prediction
        return {
            "box": [round(side, 2) for side in (box.left, box.top, box.width, box.height)],
            "roll": round(box.roll, 2),
            "label": prediction.label,
            "certain": prediction.certain(threshold),
            "confidence": prediction.confidence,
            "probabilities": prediction.by_label(),
            "quality": asdict(self.quality),
        }


@dataclass(frozen=True, eq=False)
class Recognition:
    """What was read in one picture.

    Attributes:
        image: the upright picture, uint8 (height, width, 3).
        readings: one for each face, largest first; never empty.
        model_version: the version that read them all.
    """

    image: Pixels
    readings: tuple[Reading, ...]
    model_version: str


class Recogniser:
    """A detector, and a classifier for the champion and for any other version asked for.

    Safe to use from several threads. Nothing is loaded before it is needed, so that a server
    starts even where no model can serve, and says so when one is asked for.
    """

    def __init__(
        self, registry: Registry, settings: Settings, detector: FaceDetector | None = None
    ) -> None:
        self.registry = registry
        self.settings = settings
        self.detector = detector or FaceDetector()
        #: What an administrator should know about the model that serves, or None.
        self.warning: str | None = None
        self._limits = ImageLimits.from_settings(settings)
        # `_loading` is held while files are read, `_lock` only while fields change hands, so that
        # pictures are read by the old model as long as the new one is being loaded.
        self._loading = threading.Lock()
        self._lock = threading.Lock()
        self._champion: Classifier | None = None
        self._seen: _Seen | None = None
        self._held: OrderedDict[str, Classifier] = OrderedDict()

    def recognise(self, data: bytes, model: str | None = None) -> Recognition:
        """Decode a picture and read every face in it.

        Args:
            data: bytes of a picture file.
            model: a version of the registry; None for the champion.

        Raises:
            PictureError: the picture is refused; NoFaceError where no face was found.
            UnknownModelError: no version `model`.
            ManifestError, DamagedModelError: version `model` cannot serve.
            NoModelError: `model` is None and no version can serve.
        """
        return self.recognise_image(decode(data, self._limits), model)

    def recognise_image(self, image: Pixels, model: str | None = None) -> Recognition:
        """As `recognise`, for an upright picture, uint8 (height, width, 3)."""
        classifier = self.classifier(model)
        boxes = self.detector.detect(image)[: self.settings.max_faces]
        if not boxes:
            raise NoFaceError("No face was found in the picture.")
        return Recognition(image, read_faces(image, boxes, classifier), classifier.version)

    def classifier(self, model: str | None = None) -> Classifier:
        """The classifier of a version, or the champion's for None; errors as for `recognise`."""
        if model is None:
            with self._lock:
                champion = self._champion
            if champion is not None:
                return champion
            self.refresh()
            with self._lock:
                if self._champion is None:
                    raise NoModelError("There is no model that can serve.")
                return self._champion
        return self._other(model)

    def labels(self, model: str | None = None) -> LabelSet:
        """The labels of a version; errors as for `recognise`."""
        return self.classifier(model).labels

    def champion(self) -> str:
        """The version that serves.

        Raises:
            NoModelError: none can.
        """
        return self.classifier().version

    def refresh(self) -> bool:
        """Look at the registry's pointer, and let its champion serve if it changed.

        The new model is loaded and warmed up before it takes over; pictures that are being read
        finish with the old one. Where the champion is missing or damaged, the best other version
        serves and `warning` says so.

        Returns:
            Whether another version serves now.

        Raises:
            NoModelError: no version can serve. The one that served before goes on serving.
        """
        with self._loading:
            seen = self._look_at_registry()
            wanted, candidates = seen[0], [version for version, _ in seen[1]]
            with self._lock:
                current = self._champion
                if current is not None and seen == self._seen:
                    return False
            refusals = []
            if wanted is None and candidates:
                refusals.append("No model is named as the champion.")
            elif wanted is not None and wanted not in candidates:
                refusals.append(f"Model {wanted} is missing.")
            for version in candidates:
                try:
                    chosen = current if current and current.version == version else None
                    chosen = chosen or self._load(version)
                except (DamagedModelError, ManifestError) as error:
                    refusals.append(error.message)
                    continue
                with self._lock:
                    self._champion, self._seen = chosen, seen
                    self.warning = (
                        f"{' '.join(refusals)} {version} serves instead." if refusals else None
                    )
                return current is None or current.version != chosen.version
            raise NoModelError(
                " ".join(refusals)
                or "There is no model yet: train one with `fer train`, "
                "or fetch the shipped one again."
            )

    def close(self) -> None:
        """Free the detector."""
        self.detector.close()

    def _look_at_registry(self) -> _Seen:
        """The version pointed at, and each candidate with what tells that its files changed.

        The files count, so that a version that was mended is tried again.
        """
        try:
            wanted = self.registry.champion()
        except NoModelError:
            wanted = None
        return wanted, tuple(
            (version, tuple(_stamp(self.registry.folder / version / name) for name in _FILES))
            for version in self.registry.candidates()
        )

    def _load(self, version: str) -> Classifier:
        """Load a version, unless it is held already."""
        with self._lock:
            held = self._held.pop(version, None)
        return held or Classifier.load(self.registry, version, self.settings.threads)

    def _other(self, version: str) -> Classifier:
        """A version by name, from those held or loaded now."""
        found = self._find(version)
        if found is not None:
            return found
        with self._loading:
            # Another thread may have loaded it while this one waited.
            found = self._find(version)
            if found is not None:
                return found
            loaded = Classifier.load(self.registry, version, self.settings.threads)
            with self._lock:
                self._held[version] = loaded
                while len(self._held) > _HELD:
                    self._held.popitem(last=False)
            return loaded

    def _find(self, version: str) -> Classifier | None:
        with self._lock:
            if self._champion is not None and self._champion.version == version:
                return self._champion
            if version in self._held:
                self._held.move_to_end(version)
            return self._held.get(version)


#: The version pointed at, and the candidates with a stamp for each of their files.
_Seen = tuple[str | None, tuple[tuple[str, tuple[tuple[int, int] | None, ...]], ...]]

_FILES = (MANIFEST, LITERT_FILE)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Time of change and size of a file, or None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def read_faces(
    image: Pixels, boxes: Sequence[FaceBox], classifier: Classifier
) -> tuple[Reading, ...]:
    """Read the expression of each face that was found in a picture, in the order of `boxes`."""
    manifest = classifier.manifest
    crops = [crop_face(image, box, manifest.framing, manifest.crop_size) for box in boxes]
    if not crops:
        return ()
    rows = classifier.probabilities(np.stack(crops))
    return tuple(
        Reading(
            box,
            Prediction(classifier.labels.names, tuple(float(p) for p in row)),
            face_quality(image, box),
        )
        for box, row in zip(boxes, rows, strict=True)
    )
