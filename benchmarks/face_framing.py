"""How the training data frames its faces, seen by the detector that will frame a visitor's.

A model reads a face best when it is cut as the faces that it learned from were. FER2013's
pictures are crops already, so each is laid in the middle of a larger frame, enlarged, and given
to the detector; what is measured is the picture's square relative to the box that is found:

- `scale`: side of the picture / longer side of the box,
- `lift`: how far the picture's centre lies above the box's, in longer sides of the box,
- `shift`: how far it lies to the right, likewise,
- `roll`: the lean of the eyes, in degrees.

Use:
    python benchmarks/face_framing.py --data ../shared/data/fer2013.zip --sample 4000 --json
    python benchmarks/face_framing.py --smallest
    python benchmarks/face_framing.py --filling --split validation --sample 600
    python benchmarks/face_framing.py --sweep ../shared/data/press_photos.zip --models models

`--smallest` measures instead which part of a frame's side a face must have to be found, on the
public-domain photograph that comes with scikit-image. `--filling` counts the faces found in a data
set's pictures as they are, and in random squares of scikit-image's pictures that show no person,
with and without the look at a picture with borders about it. `--sweep` reads labelled photographs
with a trained model at several framings; a face that is missed counts as an error. The results are
in docs/framing.md.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from fer.manifest import Framing
from fer.registry import Registry
from fer.vision.classifier import Classifier
from fer.vision.faces import FaceBox, FaceDetector, crop_face
from fer.vision.images import ImageLimits, Pixels, decode

DEFAULT_DATA = Path("../shared/data/fer2013.zip")
SEED = 1
ENLARGED = 240

#: Pictures of scikit-image without a person, and how many squares of each are looked at.
FACELESS = (
    *("coffee", "rocket", "chelsea", "coins", "brick", "grass", "gravel", "hubble_deep_field"),
    *("immunohistochemistry", "moon", "page", "text", "clock", "cell", "retina", "colorwheel"),
    *("logo", "horse"),
)
SQUARES = 60


def sampled_faces(data: Path, split: str, count: int) -> Iterator[Pixels]:
    """Grey faces of a split, uint8 (side, side), `count` of them at random or all for 0."""
    with zipfile.ZipFile(data) as archive:
        names = sorted(
            name
            for name in archive.namelist()
            if name.startswith(f"{split}/") and name.lower().endswith((".jpg", ".jpeg", ".png"))
        )
        if not names:
            raise SystemExit(f"{data} holds no pictures under {split}/.")
        if 0 < count < len(names):
            names = list(np.random.default_rng(SEED).choice(names, count, replace=False))
        for name in track(names, "Detecting", console=None, disable=not sys.stderr.isatty()):
            yield np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("L"))


def framed(face: Pixels, margin: float, border: str) -> tuple[Pixels, int]:
    """The face enlarged to 240 px in the middle of a frame; the frame and the width of its border.

    Args:
        margin: border on each side, as a part of the face's side.
        border: "replicate" repeats the outermost pixels, "grey" fills with the face's mean.
    """
    large = cv2.resize(face, (ENLARGED, ENLARGED), interpolation=cv2.INTER_CUBIC)
    edge = round(ENLARGED * margin)
    kind = cv2.BORDER_REPLICATE if border == "replicate" else cv2.BORDER_CONSTANT
    grey = cv2.copyMakeBorder(large, edge, edge, edge, edge, kind, value=float(face.mean()))
    return np.repeat(grey[:, :, None], 3, axis=2), edge


def measure(box: FaceBox, edge: int) -> tuple[float, float, float, float]:
    """(scale, lift, shift, roll) of a box found in a frame."""
    centre_x, centre_y = box.centre
    middle = edge + ENLARGED / 2
    side = box.longer_side
    return ENLARGED / side, (centre_y - middle) / side, (middle - centre_x) / side, box.roll


def summary(values: NDArray[np.float64]) -> dict[str, float]:
    """Median, quartiles and interquartile range."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return {
        "median": round(float(median), 4),
        "q1": round(float(low), 4),
        "q3": round(float(high), 4),
        "iqr": round(float(high - low), 4),
    }


def framing(data: Path, split: str, count: int, margin: float, border: str) -> dict[str, object]:
    """Measure the framing of a data set."""
    rows, faces = [], 0
    with FaceDetector() as detector:
        for face in sampled_faces(data, split, count):
            faces += 1
            frame, edge = framed(face, margin, border)
            boxes = detector.detect(frame)
            if boxes:
                rows.append(measure(boxes[0], edge))
    if not rows:
        raise SystemExit("The detector found no face in any of the pictures.")
    table = np.array(rows)
    names = ("scale", "lift", "shift", "roll")
    return {
        "data": data.name,
        "split": split,
        "border": border,
        "margin": margin,
        "pictures": faces,
        "found": len(rows),
        **{name: summary(table[:, column]) for column, name in enumerate(names)},
    }


def smallest() -> dict[str, object]:
    """Part of a square frame's side that a face's box needs, for the detector without tiling."""
    from skimage import data

    photograph = np.asarray(data.astronaut())
    found: dict[str, int] = {}
    # No larger than a tile, so that tiling does not help.
    placings, frame_side = 8, 512
    random = np.random.default_rng(SEED)
    with FaceDetector() as detector:
        width = detector.detect(photograph)[0].longer_side
        for parts in (4, 6, 8, 10, 12, 14, 16, 18, 20, 24):
            factor = frame_side / parts / width
            small = cv2.resize(
                photograph[:300, 60:420], None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA
            )
            hits = 0
            for _ in range(placings):
                frame = np.full((frame_side, frame_side, 3), 128, np.uint8)
                top = random.integers(0, frame_side - small.shape[0] + 1)
                left = random.integers(0, frame_side - small.shape[1] + 1)
                frame[top : top + small.shape[0], left : left + small.shape[1]] = small
                hits += bool(detector.detect(frame))
            found[f"1/{parts}"] = hits
    return {"frame": frame_side, "placings": placings, "found": found}


class _WithoutBorders(FaceDetector):
    """The detector as it would be without the look at a picture with borders about it."""

    def _look_with_borders(self, image: Pixels) -> list[FaceBox]:
        return []


def faceless_squares() -> Iterator[Pixels]:
    """Random squares, 60 px and larger, of pictures without a person; uint8 (s, s, 3)."""
    from skimage import data

    random = np.random.default_rng(SEED)
    for name in FACELESS:
        picture = np.asarray(getattr(data, name)())
        picture = picture.astype(np.uint8) * (255 if picture.dtype == bool else 1)
        if picture.ndim == 2:
            picture = np.repeat(picture[:, :, None], 3, axis=2)
        height, width = picture.shape[:2]
        for _ in range(SQUARES):
            side = int(random.integers(60, min(height, width) + 1))
            top = int(random.integers(0, height - side + 1))
            left = int(random.integers(0, width - side + 1))
            yield np.ascontiguousarray(picture[top : top + side, left : left + side, :3])


def filling(data: Path, split: str, count: int) -> dict[str, object]:
    """How often a face is found in pictures that one fills, and in pictures without any."""
    found: dict[str, list[int]] = {}
    with FaceDetector() as detector, _WithoutBorders() as without:
        whole = (np.repeat(f[:, :, None], 3, axis=2) for f in sampled_faces(data, split, count))
        for kind, pictures in (("faces", whole), ("faceless", faceless_squares())):
            rows = [(bool(without.detect(p)), bool(detector.detect(p))) for p in pictures]
            found[kind] = [len(rows), *np.sum(rows, axis=0).tolist()]
    return {
        kind: {"pictures": n, "found without borders": before, "found": now}
        for kind, (n, before, now) in found.items()
    }


def sweep(data: Path, models: Path, model: str | None, count: int) -> dict[str, object]:
    """Balanced accuracy of a model on `<label>/<name>.jpg` photographs, by scale and lift."""
    registry = Registry(models)
    classifier = Classifier.load(registry, model or registry.champion(), threads=1)
    side = classifier.manifest.crop_size
    framings = [
        Framing(scale=scale, lift=lift)
        for scale in (0.9, 1.0, 1.1, 1.2, 1.3)
        for lift in (0.0, 0.05, 0.1, 0.15)
    ]
    truths: list[int] = []
    guesses: list[NDArray[np.int64]] = []
    with zipfile.ZipFile(data) as archive, FaceDetector() as detector:
        names = sorted(
            name
            for name in archive.namelist()
            if not name.endswith("/") and name.split("/")[-2] in classifier.labels
        )
        if 0 < count < len(names):
            names = list(np.random.default_rng(SEED).choice(names, count, replace=False))
        for name in track(names, "Reading", disable=not sys.stderr.isatty()):
            image = decode(archive.read(name), ImageLimits())
            truths.append(classifier.labels.index(name.split("/")[-2]))
            boxes = detector.detect(image)
            if not boxes:
                guesses.append(np.full(len(framings), -1))
                continue
            crops = np.stack([crop_face(image, boxes[0], way, side) for way in framings])
            guesses.append(classifier.probabilities(crops).argmax(axis=1))
    truth, table = np.array(truths), np.stack(guesses)
    accuracies = {
        f"scale {way.scale:g} lift {way.lift:g}": round(
            float(np.mean([np.mean(table[truth == own, at] == own) for own in np.unique(truth)])),
            4,
        )
        for at, way in enumerate(framings)
    }
    return {
        "data": data.name,
        "model": classifier.version,
        "pictures": len(truth),
        "missed": int((table[:, 0] == -1).sum()),
        "balanced_accuracy": accuracies,
        "best": max(accuracies, key=lambda way: accuracies[way]),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="ImageFolder zip")
    parser.add_argument("--split", default="train", help="split folder in the zip")
    parser.add_argument("--sample", type=int, default=4000, help="pictures to look at, 0 for all")
    parser.add_argument("--margin", type=float, default=0.5, help="border, in sides of the face")
    parser.add_argument("--border", choices=("replicate", "grey"), default="replicate")
    parser.add_argument("--smallest", action="store_true", help="measure the smallest face found")
    parser.add_argument("--filling", action="store_true", help="count faces that fill a picture")
    parser.add_argument("--sweep", type=Path, help="zip of labelled photographs")
    parser.add_argument("--models", type=Path, default=Path("models"), help="models folder")
    parser.add_argument("--model", help="version to sweep with instead of the champion")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    if options.smallest:
        result = smallest()
    elif options.filling:
        result = filling(options.data, options.split, options.sample)
    elif options.sweep:
        result = sweep(options.sweep, options.models, options.model, options.sample)
    else:
        result = framing(
            options.data, options.split, options.sample, options.margin, options.border
        )
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:10} {value}")


if __name__ == "__main__":
    main()
