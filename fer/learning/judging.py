"""What the gate is asked: both models' answers, and the file that would serve."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from fer.learning import gate
from fer.learning.evaluation import expected_calibration_error, fit_temperature, softmax
from fer.learning.finetuning import Tuned, Tuner
from fer.learning.gate import Line
from fer.learning.job import Options
from fer.learning.material import Material
from fer.learning.replay import AT_ONCE, Replay, activations
from fer.manifest import Manifest
from fer.registry import Registry
from fer.vision.classifier import Classifier

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """Logits (n, k) of champion and challenger on what the gate asks about."""

    collected: tuple[Floats, Floats]
    audit: tuple[Floats, Floats]
    base: tuple[Floats, Floats]


def ask(tuner: Tuner, material: Material, crossed: Floats, tuned: Tuned) -> Answers:
    """What both say on the reviewed faces, the audit slice and the base hold-out."""
    audit = activations(tuner.frozen, material.audit_crops)
    base = tuner.replay.holdout_activations
    return Answers(
        collected=(tuner.logits(material.faces.activations[:, 0]), crossed),
        audit=(tuner.logits(audit), tuner.logits(audit, tuned.weights)),
        base=(tuner.logits(base), tuner.logits(base, tuned.weights)),
    )


def statistical_lines(
    manifest: Manifest,
    replay: Replay,
    material: Material,
    answers: Answers,
    options: Options,
    tolerance: float,
) -> list[Line]:
    """The gate's lines about right and wrong answers."""
    faces, unseen = material.faces, material.unseen
    accepted = replay.holdout_accepted
    rows = np.arange(len(accepted))
    collected = [a.argmax(axis=1) == faces.labels for a in answers.collected]
    audit = [a.argmax(axis=1) == material.audit_labels for a in answers.audit]
    base = [accepted[rows, a.argmax(axis=1)] for a in answers.base]
    base_labels = replay.holdout_targets.argmax(axis=1).astype(np.int64)
    return [
        gate.collected_line(
            faces.labels[unseen],
            collected[0][unseen],
            collected[1][unseen],
            faces.groups[unseen],
            classes=len(manifest.labels),
            alpha=options.alpha,
        ),
        gate.audit_line(audit[0], audit[1], material.audit_groups, alpha=options.alpha),
        gate.base_line(base[0], base[1], tolerance=tolerance),
        gate.contradiction_line(
            manifest.label_set,
            softmax(answers.base[0], manifest.temperature),
            accepted,
            softmax(answers.collected[0], manifest.temperature),
            faces.labels,
        ),
        gate.recall_line(
            manifest.label_set,
            np.concatenate([base_labels, material.audit_labels]),
            np.concatenate([base[0], audit[0]]),
            np.concatenate([base[1], audit[1]]),
        ),
    ]


def calibrate(
    replay: Replay, material: Material, answers: Answers
) -> tuple[float, dict[str, float]]:
    """Temperature on faces that the answers were not trained on, and the error it leaves."""
    one_hot = np.eye(replay.holdout_accepted.shape[1], dtype=bool)[material.faces.labels]
    accepted = np.concatenate([replay.holdout_accepted, one_hot])
    logits = np.concatenate([answers.base[1], answers.collected[1]])
    temperature = fit_temperature(logits, accepted)
    probabilities = softmax(logits, temperature)
    right = accepted[np.arange(len(logits)), logits.argmax(axis=1)]
    error = expected_calibration_error(probabilities.max(axis=1), right)
    return temperature, {"temperature": temperature, "ece": error}


def serving_lines(
    registry: Registry,
    champion: Manifest,
    draft: Manifest,
    litert: Path,
    tuner: Tuner,
    material: Material,
) -> list[Line]:
    """The gate's lines about the file that will serve."""
    crops = crops_to_compare(material)
    challenger = Classifier(draft, litert, threads=1)
    answers = [
        keras.ops.convert_to_numpy(tuner.model.predict_on_batch(crops[start : start + AT_ONCE]))
        for start in range(0, len(crops), AT_ONCE)
    ]
    expected = softmax(np.concatenate(answers), draft.temperature)
    serving = Classifier.load(registry, champion.version, threads=1)
    seconds: tuple[list[float], list[float]] = ([], [])
    for call in range(gate.LATENCY_CALLS):
        crop = crops[call % len(crops)][None]
        for classifier, taken in zip((serving, challenger), seconds, strict=True):
            before = time.perf_counter()
            classifier.probabilities(crop)
            taken.append(time.perf_counter() - before)
    return [
        gate.agreement_line(expected, challenger.probabilities(crops)),
        gate.latency_line(*seconds),
    ]


def crops_to_compare(material: Material) -> npt.NDArray[np.uint8]:
    """Every reviewed crop; where those are few, darker and brighter copies of them too."""
    crops = np.concatenate([material.crops, material.audit_crops])
    copies = [crops]
    while sum(len(copy) for copy in copies) < gate.AGREEMENT_CROPS:
        share = 1 - 0.5 ** len(copies)
        copies.append((crops * (1 - share) + 255 * (len(copies) % 2) * share).astype(np.uint8))
    return np.concatenate(copies)
