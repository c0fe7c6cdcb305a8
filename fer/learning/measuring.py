"""What a version's card says of it: figures, latency, and whether the int8 file may go along."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from fer.errors import DamagedModelError, TrainingError
from fer.learning import reports
from fer.learning.assessment import Assessment, judged
from fer.learning.conversion import convert_int8
from fer.learning.datasets import Crops, FaceArrays, Votes
from fer.learning.evaluation import fit_temperature, softmax
from fer.learning.slices import facts_of
from fer.manifest import Manifest
from fer.registry import INT8_FILE
from fer.vision.classifier import Classifier

#: Accuracy that the int8 file may lose; one that loses as much or more is not shipped.
INT8_LOSS = 0.005

#: Bytes of the float file below which a smaller one is not worth its making.
INT8_FROM = 2_000_000

#: Faces that are answered one by one to measure the latency.
_TIMED = 60


def assess_faces(
    classifier: Classifier, faces: FaceArrays, votes: Votes | None, temperature: float | None = None
) -> Assessment:
    """The figures of a classifier on decoded faces.

    Args:
        temperature: to use; that of the classifier's manifest where it is None.
    """
    own = classifier.manifest.temperature
    given = classifier.probabilities(faces.crops)
    if temperature is not None:
        given = softmax(logits_of(given, own), temperature).astype(np.float32)
    return judged(classifier.labels, faces, given, facts_of(faces.crops), votes)


def logits_of(
    probabilities: npt.NDArray[np.float32], temperature: float = 1.0
) -> npt.NDArray[np.float64]:
    """Logits (n, k), up to a constant in each row, that gave these probabilities."""
    return np.asarray(np.log(np.maximum(probabilities.astype(np.float64), 1e-12)) * temperature)


def latency(classifier: Classifier, file: Path) -> dict[str, Any]:
    """Time for one face at a time on one thread, here and now, and the size of the file.

    Returns:
        `milliseconds` (median), `milliseconds_p95`, `threads`, `machine`, `bytes`.
    """
    side = classifier.manifest.crop_size
    crop = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    times = []
    for _ in range(_TIMED):
        start = time.perf_counter()
        classifier.probabilities(crop)
        times.append(1000 * (time.perf_counter() - start))
    return {
        "milliseconds": statistics.median(times),
        "milliseconds_p95": float(np.percentile(times, 95)),
        "threads": 1,
        "machine": _machine(),
        "bytes": file.stat().st_size,
    }


def _machine() -> str:
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except (OSError, UnicodeDecodeError):
        pass  # not Linux
    return f"{name}, {os.cpu_count()} cores"


def add_int8(
    folder: Path,
    manifest: Manifest,
    model: keras.Model,
    training: Crops,
    validation: FaceArrays,
    votes: Votes | None,
    whole: dict[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Make the int8 file, measure it, and leave it in the folder where it is good enough.

    Args:
        folder: of the version; gets `model_int8.tflite`, or has none afterwards.
        manifest: of the version, with its temperature.
        training: crops to calibrate by.
        whole: figures of the float file on the same faces, with its `latency`.

    Returns:
        `shipped`, and `reason` where the file could not be made, else its accuracies, `ece`,
        `loss` (the larger of what either accuracy lost; negative where it gained), `bytes`,
        `milliseconds`.
    """
    if whole["latency"]["bytes"] < INT8_FROM:
        return {"shipped": False, "reason": "The float file is small enough."}
    path = folder / INT8_FILE
    try:
        path.write_bytes(convert_int8(model, training))
        classifier = Classifier(manifest, path, threads=1)
    except (TrainingError, DamagedModelError) as error:
        path.unlink(missing_ok=True)
        say(f"No int8 file: {error.message}")
        return {"shipped": False, "reason": error.message.splitlines()[0][:200]}
    figures = assess_faces(classifier, validation, votes).figures
    compared = [name for name in ("ferplus_accuracy", "accuracy") if name in whole]
    loss = max(whole[name] - figures[name] for name in compared)
    measured = latency(classifier, path)
    found = {name: figures[name] for name in (*compared, "balanced_accuracy", "ece")}
    found |= {name: measured[name] for name in ("bytes", "milliseconds")}
    shipped = loss < INT8_LOSS
    if not shipped:
        path.unlink()
    say(f"int8: {100 * loss:.2f} points lost, {'shipped' if shipped else 'not shipped'}.")
    return {"shipped": shipped, "loss": loss, "calibration": min(300, len(training))} | found


def fitted_temperature(
    classifier: Classifier, faces: FaceArrays, accepted: npt.NDArray[np.bool_]
) -> float:
    """The temperature that suits these faces, where the classifier's manifest has 1."""
    return fit_temperature(logits_of(classifier.probabilities(faces.crops)), accepted)


def write_plots(folder: Path, found: Assessment, history: list[dict[str, Any]]) -> None:
    """`confusion.png`, `per_class.png`, `reliability.png` and, with a history, `curves.png`."""
    figures = found.figures
    if history:
        reports.plot_history(history, folder / "curves.png")
    reports.plot_confusion(figures["confusion"], figures["labels"], folder / "confusion.png")
    reports.plot_per_class(figures["per_class"], folder / "per_class.png")
    reports.plot_reliability(
        found.probabilities.max(axis=1), found.correct, folder / "reliability.png"
    )
